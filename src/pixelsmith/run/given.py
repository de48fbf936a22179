"""The given picture (``from_image``) of a request: its pixels, transparency, mask and metadata."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from pixelsmith.config.checks import colour_of
from pixelsmith.config.request import Request
from pixelsmith.errors import RequestError
from pixelsmith.geometry import NO_WRAP, Size, Wrap
from pixelsmith.pixels.mask import Feathered, Kept
from pixelsmith.pixels.metadata import Metadata, read_metadata
from pixelsmith.pixels.reading import is_transparent, picture_size, read_picture, read_start
from pixelsmith.pixels.resample import Kernel, Resized
from pixelsmith.pixels.transparency import WithAlpha
from pixelsmith.sampling.readable import Readable


@dataclass(frozen=True)
class Given:
    """A picture (3, H, W) uint8 to start from; ``alpha`` (1, H, W) and ``mask`` (3, h, w) if it has them."""

    picture: Readable
    alpha: Readable | None
    mask: Readable | None
    kernel: Kernel
    feather: int
    wrap: Wrap = NO_WRAP

    @classmethod
    def of(cls, request: Request) -> Given | None:
        """The given picture of a request, if there is one; reads it completely. Raises ``PictureError``."""
        if request.from_image is None:
            return None
        background = None if request.background is None else colour_of("background", request.background)
        picture, alpha = read_start(Path(request.from_image), background)
        mask = None if request.mask is None else read_picture(Path(request.mask))
        return cls(picture, alpha, mask, request.method.kernel, request.mask_feather, request.wrapped_axes)

    def kept(self, refined: Readable, sizes: Sequence[Size]) -> Readable:
        """A refined picture, in which the black parts of the mask keep the given picture.

        ``sizes``: of the stages up to this one.
        """
        if self.mask is None:
            return refined
        return Kept(
            refined, self._at(self.picture, sizes), Feathered(self._at(self.mask, sizes), self.feather, self.wrap)
        )

    def transparent(self, colours: Readable, sizes: Sequence[Size]) -> Readable:
        """The result with the transparency of the given picture; ``sizes``: of all stages and of the result."""
        return colours if self.alpha is None else WithAlpha(colours, self._at(self.alpha, sizes))

    def _at(self, own: Readable, sizes: Sequence[Size]) -> Readable:
        """The given picture, its alpha or its mask, resized and cropped through these sizes to the last one."""
        return Resized(own, own.size, sizes[-1], self.kernel, via=tuple(sizes[:-1]), wrap=self.wrap)


def check_masks(request: Request) -> None:
    """Raise ``RequestError`` for a painted picture of another shape than what it is laid over.

    These are the mask, which has the shape of the given picture or of the result, and the masks of regions and the
    Slider map, which have that of the result, unless it wraps: then they are stretched.
    """
    _check_mask(request)
    if request.wrapped_axes != NO_WRAP:
        return
    painted = [("slider map", request.method.painted_map)]
    painted += [(f"mask of the region {region.prompt!r}", region.mask) for region in request.regions]
    for what, path in painted:
        if path is not None and not (size := picture_size(Path(path))).resembles(request.size):
            raise RequestError(f"{what}: expected the aspect ratio of the result ({request.size}), got {size}")


def _check_mask(request: Request) -> None:
    if request.mask is None or request.from_image is None:
        return
    size, start = picture_size(Path(request.mask)), picture_size(Path(request.from_image))
    if not (size.resembles(start) or size.resembles(request.size)):
        raise RequestError(
            f"mask: expected the aspect ratio of {request.from_image} ({start}) or of the result ({request.size}), "
            f"got {size}"
        )


def cut_off(request: Request) -> str | None:
    """A warning if the given picture has another shape than the result, which then shows its middle, or ``None``."""
    if request.from_image is None:
        return None
    start = picture_size(Path(request.from_image))
    if start.resembles(request.size):
        return None
    shown = request.size.area / (start.area * request.size.factor_over(start) ** 2)
    megapixels = request.size.area / 1e6
    area = round(megapixels, 0 if megapixels >= 10 else 2)
    return (
        f"{request.from_image} has {start} pixels, the result {request.size}: {1 - shown:.0%} of the picture is cut "
        f"off at its edges; an area as the size, such as {area:g}MP, keeps its shape"
    )


def about(request: Request, stages: Sequence[Size] = ()) -> Metadata:
    """The metadata of the result: those of the given picture, unless the request strips them.

    ``stages``: the sizes of the stages. Raises ``PictureError``.
    """
    if request.from_image is None or request.strip:
        return Metadata(dpi=request.dpi)
    path = Path(request.from_image)
    found = read_metadata(path).of((picture_size(path), *stages, request.size), request.wrapped_axes)
    return replace(found, dpi=request.dpi or found.dpi)


def keeps_alpha(request: Request) -> bool:
    """Whether the result has an alpha channel: the given picture has one, and there is no background colour.

    Raises ``PictureError``.
    """
    given = request.from_image
    return given is not None and request.background is None and is_transparent(Path(given))
