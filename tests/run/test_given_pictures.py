"""Metadata, transparency and masks of start pictures, from the command line to the new file."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pixelsmith import (
    Compute,
    Event,
    Method,
    PictureError,
    Request,
    RequestError,
    RunError,
    Size,
    Warned,
    generate,
    plan,
    resume,
)
from pixelsmith.pixels.reading import read_picture
from pixelsmith.pixels.resample import Resized
from pixelsmith.run.given import cut_off
from tests.pixels.odd import noisy
from tests.pixels.photos import write_map, write_photo
from tests.stopping import stop_at


def request_of(model: Path, start: Path, size: str = "256x192", **changes: Any) -> Request:
    made = Request(
        "a map",
        Size.parse(size),
        model=str(model),
        method=Method(steps=1),
        compute=Compute("cpu", "float32"),
        from_image=str(start),
    )
    return replace(made, **changes)


def test_an_enlarged_geotiff_has_the_same_corners(tiny_model: Path, tmp_path: Path) -> None:
    request = request_of(tiny_model, write_map(tmp_path / "map.tif"), cascade=(Size(171, 128), Size(256, 192)))
    generate(request, tmp_path / "big.tif")
    with Image.open(tmp_path / "big.tif") as image:
        across, down, _ = image.tag_v2[33550]  # type: ignore[attr-defined]
        i, j, _, east, north, _ = image.tag_v2[33922]  # type: ignore[attr-defined]
        width, height = image.size
    left, top = east - i * across, north + j * down
    # Each stage covers its size; one of 171 pixels has cut a little at a side.
    assert (left, top) == pytest.approx((500000, 5300000), abs=3)
    assert (left + width * across, top - height * down) == pytest.approx((500000 + 1280, 5300000 - 960), abs=3)


@pytest.mark.parametrize("suffix", ["png", "dzi"])
def test_formats_without_georeferencing_give_a_warning(tiny_model: Path, tmp_path: Path, suffix: str) -> None:
    request, heard = request_of(tiny_model, write_map(tmp_path / "map.tif")), list[Event]()
    generate(request, tmp_path / f"big.{suffix}", heard.append)
    (remark,) = (event.message for event in heard if isinstance(event, Warned))
    assert remark == f"the geotransform is left out: .{suffix} files cannot hold it; .tif and .tiff files can"
    heard.clear()
    generate(replace(request, strip=True), tmp_path / f"bare.{suffix}", heard.append)
    assert not [event for event in heard if isinstance(event, Warned)]


def test_a_given_picture_of_another_shape_gives_a_warning_that_says_how_much_is_cut_off(
    tiny_model: Path, tmp_path: Path
) -> None:
    wide = request_of(tiny_model, write_photo(tmp_path / "photo.jpg"), "192x256")
    assert cut_off(wide) is None
    heard = list[Event]()
    generate(replace(wide, size=Size(256, 256)), tmp_path / "big.png", heard.append)
    (remark,) = (event.message for event in heard if isinstance(event, Warned))
    assert "the result 256x256: 25% of the picture is cut off at its edges" in remark
    assert "such as 0.07MP, keeps its shape" in remark


@pytest.mark.parametrize(("changes", "dpi"), [({}, 240), ({"dpi": 100.0}, 100), ({"strip": True}, 300)])
def test_exif_and_resolution_of_a_photo_are_kept_by_default(
    tiny_model: Path, tmp_path: Path, changes: dict[str, Any], dpi: int
) -> None:
    request = request_of(tiny_model, write_photo(tmp_path / "photo.jpg"), "192x256", **changes)
    generate(request, tmp_path / "big.jpg")
    with Image.open(tmp_path / "big.jpg") as image:
        assert image.info["dpi"] == (dpi, dpi)
        assert image.getexif().get(271) == (None if request.strip else "Canon")
        assert ("xmp" in image.info) != request.strip
        assert image.getexif().get(274, 1) == 1


def test_exif_that_does_not_fit_into_a_jpeg_is_refused_before_any_work(tiny_model: Path, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[315] = "x" * 62_000
    Image.new("RGB", (64, 64), "teal").save(tmp_path / "photo.png", exif=exif)
    with pytest.raises(PictureError, match=r"big.jpg: the picture's EXIF is too long for it; .*--strip"):
        generate(request_of(tiny_model, tmp_path / "photo.png", "128"), tmp_path / "big.jpg")


def test_a_resumed_run_keeps_the_metadata(tiny_model: Path, tmp_path: Path) -> None:
    request = request_of(tiny_model, write_photo(tmp_path / "photo.jpg"), "192x256", dpi=150.0)
    generate(request, tmp_path / "whole.tif")

    with pytest.raises(KeyboardInterrupt):
        generate(request, tmp_path / "big.tif", stop_at(phase="decode"), run_dir=tmp_path / "run")
    resume(tmp_path / "run")
    assert (tmp_path / "big.tif").read_bytes() == (tmp_path / "whole.tif").read_bytes()


def clear_start(path: Path) -> Path:
    """Left half transparent, over green; right half teal."""
    pixels = np.zeros((96, 128, 4), np.uint8)
    pixels[:, :64], pixels[:, 64:] = (0, 255, 0, 0), (0, 128, 128, 255)
    Image.fromarray(pixels).save(path)
    return path


@pytest.mark.parametrize("upsampling", ["lanczos", "latent"])
def test_transparency_is_kept_or_composited_over_a_colour(tiny_model: Path, tmp_path: Path, upsampling: str) -> None:
    request = request_of(tiny_model, clear_start(tmp_path / "start.png"), "200x150", cascade=(Size(150, 113),))
    request = request.with_method(upsampling=upsampling)
    result = generate(request, tmp_path / "big.png", run_dir=tmp_path / "run")
    assert result.pixels.shape == (150, 200, 4)
    assert result.pixels[:, :95, 3].max() == 0
    assert result.pixels[:, 105:, 3].min() == 255
    assert np.array_equal(replace(result, picture=None).pixels, result.pixels)
    assert result.pixels[:, :95].mean() < 255
    flat = generate(replace(request, background="#102030")).pixels
    assert flat.shape == (150, 200, 3)


def test_transparency_in_a_format_without_it_is_refused_before_the_model_is_read(
    tiny_model: Path, tmp_path: Path
) -> None:
    request = request_of(tiny_model, clear_start(tmp_path / "start.png"))
    with pytest.raises(PictureError, match=r"is transparent, which \.jpg files cannot be"):
        generate(request, tmp_path / "big.jpg")
    generate(replace(request, background="white"), tmp_path / "big.jpg")
    with pytest.raises(
        RequestError, match="background: expected an opaque colour such as white or #fff8e0, got 'whitish'"
    ):
        replace(request, background="whitish")
    with pytest.raises(RequestError, match="background"):
        replace(request, background="#ff00ff80")


def mask_of(path: Path, size: tuple[int, int] = (32, 24)) -> Path:
    """A mask that is white on the left."""
    grey = np.zeros((size[1], size[0]), np.uint8)
    grey[:, : size[0] // 2] = 255
    Image.fromarray(grey).save(path)
    return path


@pytest.mark.parametrize("size", [(32, 24), (512, 384)])
def test_black_parts_of_a_mask_equal_the_enlarged_original(
    tiny_model: Path, tmp_path: Path, size: tuple[int, int]
) -> None:
    start = tmp_path / "start.png"
    Image.fromarray(noisy(64, 48)).save(start)
    plain = request_of(tiny_model, start)
    masked = replace(plain, mask=str(mask_of(tmp_path / "mask.png", size)))
    everywhere, made = generate(plain).pixels, generate(masked).pixels
    enlarged = read_picture(start)
    original = Resized(enlarged, enlarged.size, Size(256, 192), "lanczos").read(Size(256, 192).window).permute(1, 2, 0)
    # Bicubic enlarging of the mask reaches two of its pixels, and half the feather, to each side.
    reach = 2 * 256 // size[0] + 9
    assert np.array_equal(made[:, : 128 - reach], everywhere[:, : 128 - reach])
    assert np.array_equal(made[:, 128 + reach :], np.asarray(original)[:, 128 + reach :])
    assert not np.array_equal(everywhere[:, 128 + reach :], np.asarray(original)[:, 128 + reach :])


def test_a_black_mask_keeps_the_original_through_several_stages_and_on_disk(tiny_model: Path, tmp_path: Path) -> None:
    """The result is the start picture, enlarged step by step like the guide of each stage."""
    start = tmp_path / "start.png"
    Image.fromarray(noisy(64, 48)).save(start)
    Image.new("L", (8, 6)).save(tmp_path / "black.png")
    cascade = (Size(101, 75), Size(256, 192))
    request = request_of(tiny_model, start, mask=str(tmp_path / "black.png"), cascade=cascade)
    generate(request, tmp_path / "whole.png")
    given = read_picture(start)
    expected = Resized(given, given.size, Size(256, 192), "lanczos", via=(Size(101, 75),)).read(Size(256, 192).window)
    with Image.open(tmp_path / "whole.png") as image:
        apart = np.asarray(image).astype(int) - expected.permute(1, 2, 0).numpy()
    # The file is written in bands, and the arithmetic of each rounds by itself.
    assert np.abs(apart).max() <= 1
    assert (apart != 0).mean() < 0.001

    with pytest.raises(KeyboardInterrupt):
        generate(request, tmp_path / "big.png", stop_at(phase="denoise", stage=2), run_dir=tmp_path / "run")
    resume(tmp_path / "run")
    assert (tmp_path / "big.png").read_bytes() == (tmp_path / "whole.png").read_bytes()


def test_resuming_with_another_mask_is_refused(tiny_model: Path, tmp_path: Path) -> None:
    start, mask = write_photo(tmp_path / "photo.jpg"), mask_of(tmp_path / "mask.png", (24, 32))
    request = request_of(tiny_model, start, "192x256", mask=str(mask))

    with pytest.raises(KeyboardInterrupt):
        generate(request, tmp_path / "big.png", stop_at(), run_dir=tmp_path / "run")
    mask_of(mask, (12, 16))
    with pytest.raises(RunError, match="pictures was"):
        resume(tmp_path / "run")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"from_image": None, "mask": "mask.png"}, "mask: it says what stays of a picture to start from"),
        ({"mask": " "}, "mask: it is empty"),
        ({"mask": "https://x/mask.png"}, "mask: expected the path of a file"),
        ({"mask_feather": -1}, "mask feather: expected a whole number of at least 0, got -1"),
        ({"mask_feather": 10_001}, "mask feather: expected at most 10,000 pixels"),
    ],
)
def test_invalid_masks_are_refused(tiny_model: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(RequestError, match=message):
        request_of(tiny_model, Path("start.png"), **changes)


def test_a_mask_of_another_shape_is_told_before_any_work(tiny_model: Path, tmp_path: Path) -> None:
    start, mask = write_photo(tmp_path / "photo.jpg"), mask_of(tmp_path / "mask.png", (40, 10))
    request = request_of(tiny_model, start, "192x256", mask=str(mask))
    with pytest.raises(RequestError, match=r"mask: expected the aspect ratio of .*photo\.jpg \(.*\) or of the result"):
        plan(request)


def test_a_missing_mask_is_reported_before_any_work(tiny_model: Path, tmp_path: Path) -> None:
    request = request_of(tiny_model, write_photo(tmp_path / "photo.jpg"), mask=str(tmp_path / "nowhere.png"))
    with pytest.raises(PictureError, match=r"nowhere\.png: there is no such file"):
        plan(request)
