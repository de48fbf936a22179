"""Contact sheets of many small pictures."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont
from PIL.PngImagePlugin import PngInfo

from pixelsmith.errors import OutputError, PictureError
from pixelsmith.geometry import Size
from pixelsmith.pixels.output import Output
from pixelsmith.pixels.zoomable import open_file

SIDE = 256
"""The largest side of a picture in pixels."""
MOST = 2_000
"""The largest number of pictures in a sheet."""
_SAYS = "Pixelsmith contact sheet"
"""The text in the file by which a sheet is recognised, so that only sheets are replaced."""
_GAP, _LINE = 12, 18
_PAPER, _INK = (245, 245, 245), (40, 40, 40)


def write_sheet(path: Path, pictures: Sequence[tuple[Path, str]], overwrite: bool = False) -> None:
    """Write a sheet of picture files with a line of text below each, as PNG or JPEG, replacing an earlier sheet.

    Raises ``PictureError`` as ``check_sheet`` does or if a picture cannot be read, and ``OutputError`` if it cannot be
    written.
    """
    check_sheet(path, len(pictures), overwrite)
    columns = math.ceil(math.sqrt(len(pictures)))
    rows = math.ceil(len(pictures) / columns)
    across, down = SIDE + _GAP, SIDE + _GAP + _LINE
    sheet = Image.new("RGB", (columns * across + _GAP, rows * down + _GAP), _PAPER)
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(_LINE - 5)
    for number, (picture, text) in enumerate(pictures):
        left, top = _GAP + number % columns * across, _GAP + number // columns * down
        small = _small(picture)
        sheet.paste(small, (left + (SIDE - small.width) // 2, top + (SIDE - small.height) // 2))
        draw.text((left, top + SIDE + 1), _fitting(text, font), _INK, font)
    says = PngInfo()
    says.add_text("Software", _SAYS)
    with Output(path, overwrite=True) as output:
        try:
            sheet.save(output.partial, quality=90, comment=_SAYS, pnginfo=says)
            output.put_in_place()
        except OSError as error:
            raise OutputError(f"{path}: it could not be written ({error})") from error


def check_sheet(path: Path, count: int, overwrite: bool = False) -> None:
    """Raise ``PictureError`` if a sheet of ``count`` pictures cannot be written to this path.

    An existing file that is no sheet is kept, unless ``overwrite`` is set.
    """
    if path.suffix.lower() not in (".png", ".jpg", ".jpeg"):
        raise PictureError(f"{path}: expected a name that ends in .png, .jpg, .jpeg")
    if count > MOST:
        raise PictureError(f"{path}: a sheet has at most {MOST:,} pictures, not {count:,}")
    if not path.parent.is_dir():
        raise PictureError(f"{path}: expected a file in a folder that exists")
    if path.exists() and not overwrite and not _is_sheet(path):
        raise PictureError(
            f"{path}: there is a file already, which is no contact sheet; choose another name, or overwrite it "
            "(--overwrite)"
        )


def _is_sheet(path: Path) -> bool:
    try:
        with Image.open(path) as image:
            said = image.info.get("comment", image.info.get("Software"))
    except (OSError, ValueError, SyntaxError):
        return False
    return said in (_SAYS, _SAYS.encode())


def _small(path: Path) -> Image.Image:
    source = open_file(path)
    size = source.size
    small = size.scaled(min(1.0, SIDE / max(size.width, size.height)))
    return source.look((0, 0, size.width, size.height), Size(small.width, small.height))


def _fitting(text: str, font: ImageFont.ImageFont | ImageFont.FreeTypeFont) -> str:
    """A text, truncated to the width of a picture."""
    if font.getlength(text) <= SIDE:
        return text
    while text and font.getlength(f"{text}…") > SIDE:
        text = text[:-1]
    return f"{text}…"
