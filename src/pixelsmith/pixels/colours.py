"""Conversion of a picture file's colours to sRGB: profiles, bit depths, extra channels, transparency."""

from __future__ import annotations

from collections.abc import Sequence

import pyvips

from pixelsmith.pixels.tiff import TiffPage, YCbCr

_COLOURS = {"b-w": 1, "grey16": 1, "srgb": 3, "rgb": 3, "rgb16": 3, "labs": 3, "cmyk": 4}
"""The number of colour channels for each interpretation of libvips."""
_PROFILE = "icc-profile-data"
WHITE = (255, 255, 255)


def srgb(image: pyvips.Image, page: TiffPage | None = None, background: Sequence[float] = WHITE) -> pyvips.Image:
    """An image as loaded by libvips, converted to 8-bit sRGB and composited over a background colour.

    ``page``: its page of a TIFF. Without an embedded profile, colours are taken as sRGB, and CMYK as that of common
    offset printing. Raises ``ValueError`` for unsupported types of pixels and channels, and ``pyvips.Error`` if the
    conversion fails.
    """
    colours, alpha = srgb_and_alpha(image, page)
    if alpha is None:
        return colours
    return colours.bandjoin(alpha).copy(interpretation="srgb").flatten(background=list(background))


def srgb_and_alpha(image: pyvips.Image, page: TiffPage | None = None) -> tuple[pyvips.Image, pyvips.Image | None]:
    """The colours of an image and its alpha, if it has one: 0 transparent to 255 opaque. Raises as ``srgb`` does."""
    if image.format == "float" and image.interpretation == "scrgb":
        if not image.get_typeof(_PROFILE):
            raise ValueError("its pixels are floats without a colour profile, which are linear or not")
        image = (image * 65535).rint().cast("ushort").copy(interpretation="rgb16")
    if image.interpretation not in _COLOURS or image.bands < _COLOURS[image.interpretation]:
        raise ValueError(f"its {image.bands} channels are {image.interpretation}; expected grey, RGB, CMYK or Lab")
    if image.format not in ("uchar", "ushort") and image.interpretation != "labs":
        raise ValueError(f"its pixels are of type {image.format}; expected 8 or 16 bits a channel")
    count = _COLOURS[image.interpretation]
    alpha = _alpha_band(image, count, page)
    colours = image.extract_band(0, n=count).copy(interpretation=image.interpretation)
    if page is not None and page.ycbcr is not None and image.bands == count == 3:
        colours = _rgb_of_ycbcr(_eight_bits(colours), page.ycbcr).copy(interpretation="srgb")
    return _converted(colours), None if alpha is None else _eight_bits(image.extract_band(alpha))


def _converted(colours: pyvips.Image) -> pyvips.Image:
    embedded = bool(colours.get_typeof(_PROFILE))
    if embedded or colours.interpretation == "cmyk":
        # Relative colorimetric with black point compensation, the default of most viewers.
        return colours.icc_transform(
            "srgb",
            embedded=embedded,
            input_profile="cmyk" if colours.interpretation == "cmyk" else "srgb",
            intent="relative",
            black_point_compensation=True,
            depth=8,
        )
    if colours.format == "ushort":
        colours = _eight_bits(colours).copy(interpretation="srgb" if colours.bands > 1 else "b-w")
    return colours.colourspace("srgb")


def _alpha_band(image: pyvips.Image, colours: int, page: TiffPage | None) -> int | None:
    """The index of the alpha channel, if there is one; an extra channel may also be infrared or an ink."""
    if image.bands <= colours:
        return None
    if page is None:
        return colours
    found = (colours + i for i, meaning in enumerate(page.extra) if meaning in (1, 2))
    return next((band for band in found if band < image.bands), None)


def _eight_bits(image: pyvips.Image) -> pyvips.Image:
    return (image / 257).rint().cast("uchar") if image.format == "ushort" else image


def _rgb_of_ycbcr(image: pyvips.Image, stored: YCbCr) -> pyvips.Image:
    """8 bits of YCbCr as RGB (TIFF 6.0, section 21)."""
    black, white = stored.black_white[::2], stored.black_white[1::2]
    scales = [range_ / ((high - low) or 1) for low, high, range_ in zip(black, white, (255, 127, 127), strict=True)]
    offsets = [-low * scale for low, scale in zip(black, scales, strict=True)]
    red, green, blue = stored.luma
    to_red, to_blue = 2 - 2 * red, 2 - 2 * blue
    matrix = [
        [1, 0, to_red],
        [1, -blue * to_blue / (green or 1), -red * to_red / (green or 1)],
        [1, to_blue, 0],
    ]
    return image.linear(scales, offsets).recomb(pyvips.Image.new_from_array(matrix)).rint().cast("uchar")
