"""TIFF tags (TIFF 6.0, BigTIFF): reading them from files and EXIF, serialising them, adding them to a written file."""

from __future__ import annotations

import io
import struct
from collections.abc import Container, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

Numbers = tuple[float, ...]
Tags = Mapping[int, "Value | Tags"]
"""The values of tags by number; the value of a nested directory is its tags."""
EXIF, GPS, INTEROPERABILITY = 34665, 34853, 40965
"""Tags whose values are directories of EXIF 2.32."""
_FORMS = {
    1: "B", 2: "B", 3: "H", 4: "I", 5: "II", 6: "b", 7: "B", 8: "h", 9: "i", 10: "ii", 11: "f", 12: "d", 13: "I",
    16: "Q", 17: "q", 18: "Q",
}  # fmt: skip
"""The ``struct`` format of each type's numbers; a rational has two."""
_BYTE, _ASCII, _SHORT, _LONG, _UNDEFINED, _DOUBLE, _LONG8 = 1, 2, 3, 4, 7, 12, 16
_RATIONALS = ("II", "ii")
_DIRECTORIES = 1000
"""The largest number of directories that are read, because a damaged file may have a circle of them."""
_ENTRIES = 65_536
"""The largest number of entries of a directory: the number of possible tags."""
MOST_BYTES = 1 << 24
"""The largest value that is read, in bytes."""


@dataclass(frozen=True)
class Value:
    """A value of a tag: its ``kind``, the number of a TIFF type, and its ``content`` in little-endian order."""

    kind: int
    content: bytes

    @classmethod
    def ascii(cls, text: str) -> Value:
        return cls(_ASCII, text.encode() + b"\0")

    @classmethod
    def blob(cls, content: bytes, kind: int = _UNDEFINED) -> Value:
        return cls(kind, content)

    @classmethod
    def short(cls, *numbers: int) -> Value:
        return cls(_SHORT, struct.pack(f"<{len(numbers)}H", *numbers))

    @classmethod
    def long(cls, *numbers: int) -> Value:
        return cls(_LONG, struct.pack(f"<{len(numbers)}I", *numbers))

    @classmethod
    def double(cls, *numbers: float) -> Value:
        return cls(_DOUBLE, struct.pack(f"<{len(numbers)}d", *numbers))

    @property
    def count(self) -> int:
        return len(self.content) // struct.calcsize(f"<{_FORMS[self.kind]}")

    @property
    def text(self) -> str:
        """The text of a value of bytes, up to its first zero byte."""
        return self.content.split(b"\0")[0].decode(errors="replace")

    @property
    def numbers(self) -> Numbers:
        form = _FORMS[self.kind]
        found: Numbers = struct.unpack(f"<{self.count * form}", self.content)
        if form not in _RATIONALS:
            return found
        return tuple(over / under if under else 0.0 for over, under in zip(found[::2], found[1::2], strict=True))

    def ordered(self, order: str) -> bytes:
        """The content in the byte order of a file (``<`` or ``>``)."""
        return self.content if order == "<" else _swapped(self.content, self.kind)


def _swapped(content: bytes, kind: int) -> bytes:
    side = struct.calcsize(f"<{_FORMS[kind][0]}")
    return b"".join(content[start : start + side][::-1] for start in range(0, len(content), side))


class Directories:
    """The directories of an open TIFF, of either byte order, with offsets of 32 or 64 bits.

    Raises ``LookupError``, ``ValueError`` or ``struct.error`` if the file is no TIFF or damaged.
    """

    def __init__(self, file: io.BufferedIOBase) -> None:
        self.file, header = file, file.read(16)
        self.order = {b"II": "<", b"MM": ">"}[header[:2]]
        self.big = self._unpack("H", header[2:4]) == (43,)
        self.offset, self.counter = ("Q", "Q") if self.big else ("I", "H")
        (self.first,) = self._unpack("Q", header[8:16]) if self.big else self._unpack("I", header[4:8])

    def chain(self, wanted: Container[int]) -> Iterator[dict[int, Value]]:
        """The wanted tags of each directory in the file's list."""
        offset = self.first
        for _ in range(_DIRECTORIES):
            if not offset:
                return
            tags, offset = self.at(offset, wanted)
            yield tags

    def at(self, offset: int, wanted: Container[int] | None = None) -> tuple[dict[int, Value], int]:
        """The wanted tags of a directory, or all of them, and the offset of the next directory, 0 for none."""
        entries, following = self.entries(offset)
        found = {tag: self._value(entry) for tag, entry in entries.items() if wanted is None or tag in wanted}
        return {tag: value for tag, value in found.items() if value is not None}, following

    def entries(self, offset: int) -> tuple[dict[int, bytes], int]:
        """The raw entries of a directory, by tag."""
        self.file.seek(offset)
        (count,) = self._read(self.counter)
        if count > _ENTRIES:
            raise ValueError(f"a directory of {count:,} tags")
        content = self.file.read(count * self.entry_bytes)
        if len(content) < count * self.entry_bytes:
            raise ValueError("a directory is cut off")
        (following,) = self._read(self.offset)
        entries = (content[at : at + self.entry_bytes] for at in range(0, len(content), self.entry_bytes))
        return {self._unpack("H", entry[:2])[0]: entry for entry in entries}, following

    @property
    def entry_bytes(self) -> int:
        return 20 if self.big else 12

    def _value(self, entry: bytes) -> Value | None:
        """The value of an entry, if its type is known and it is not too long."""
        _, kind, count = self._unpack(f"HH{self.offset}", entry[: -(8 if self.big else 4)])
        content = entry[-(8 if self.big else 4) :]
        if kind not in _FORMS:
            return None
        size = count * struct.calcsize(f"<{_FORMS[kind]}")
        if size > MOST_BYTES:
            return None
        if size > len(content):
            self.file.seek(self._unpack(self.offset, content)[0])
            content = self.file.read(size)
        if len(content) < size:
            raise ValueError("a value is cut off")
        value = Value(int(kind), content[:size])
        return value if self.order == "<" else Value(value.kind, _swapped(value.content, value.kind))

    def _read(self, form: str) -> tuple[int, ...]:
        return self._unpack(form, self.file.read(struct.calcsize(f"{self.order}{form}")))

    def _unpack(self, form: str, content: bytes) -> tuple[int, ...]:
        return struct.unpack(f"{self.order}{form}", content)


def read_tags(file: io.BufferedIOBase) -> dict[int, Value | Tags]:
    """All tags of the first directory of a TIFF or of EXIF, and of the directories of EXIF within it.

    Raises as ``Directories`` does; a damaged nested directory is left out.
    """
    directories = Directories(file)
    return _with_inner(directories, directories.at(directories.first)[0], depth=2)


def _with_inner(directories: Directories, tags: Mapping[int, Value], depth: int) -> dict[int, Value | Tags]:
    found: dict[int, Value | Tags] = {}
    for tag, value in tags.items():
        if tag not in (EXIF, GPS, INTEROPERABILITY):
            found[tag] = value
        elif depth:
            try:
                inner = directories.at(int(value.numbers[0]))[0]
                found[tag] = _with_inner(directories, inner, depth - 1)
            except (OSError, ValueError, LookupError, OverflowError, struct.error):
                continue
    return found


def exif_of(tags: Tags) -> bytes:
    """Tags as an EXIF block: a small TIFF without a picture."""
    content, first = _packed(tags, 8, _Form("<", big=False))
    return b"II*\0" + struct.pack("<I", first) + content


def exif_tags(content: bytes) -> dict[int, Value | Tags]:
    """The tags of an EXIF block, with or without its header; none if it is damaged."""
    try:
        return read_tags(io.BytesIO(content.removeprefix(b"Exif\0\0")))
    except (OSError, ValueError, LookupError, OverflowError, struct.error):
        return {}


def add_tags(path: Path, tags: Tags) -> None:
    """Add tags to the first directory of a TIFF, replacing those with the same numbers.

    A new directory is appended and replaces the first one, so nothing else in the file moves. Raises ``OSError``, and
    ``ValueError`` if the file would become too long for its offsets.
    """
    with path.open("r+b") as file:
        directories = Directories(file)
        entries, following = directories.entries(directories.first)
        kept = {tag: entry for tag, entry in entries.items() if tag not in tags}
        # Directories and values begin at even offsets (TIFF 6.0, section 2).
        end = file.seek(0, io.SEEK_END)
        base = end + end % 2
        form = _Form(directories.order, directories.big)
        content, first = _packed(tags, base, form, kept, following)
        if not directories.big and base + len(content) >= 2**32:
            raise ValueError("with its metadata the file would be larger than a TIFF can be")
        file.write(bytes(base - end) + content)
        file.seek(8 if directories.big else 4)
        file.write(struct.pack(f"{directories.order}{form.offset}", first))


@dataclass(frozen=True)
class _Form:
    """The layout of a file's directories: its byte order, and whether it is a BigTIFF."""

    order: str
    big: bool

    @property
    def offset(self) -> str:
        return "Q" if self.big else "I"

    @property
    def room(self) -> int:
        """The largest value that is stored in the entry itself, in bytes."""
        return struct.calcsize(f"<{self.offset}")

    def pointer(self, place: int) -> Value:
        return Value(_LONG8 if self.big else _LONG, struct.pack(f"<{self.offset}", place))

    def entry(self, tag: int, value: Value, content: bytes) -> bytes:
        return struct.pack(f"{self.order}HH{self.offset}", tag, value.kind, value.count) + content


def _packed(
    tags: Tags, base: int, form: _Form, kept: Mapping[int, bytes] | None = None, following: int = 0
) -> tuple[bytes, int]:
    """The values and their directory, for the offset ``base`` of a file, and the directory's offset within them.

    ``kept``: raw entries of the existing directory, by tag.
    """
    content, entries = bytearray(), dict(kept or {})
    for tag, value in tags.items():
        if isinstance(value, Mapping):
            inner, place = _packed(value, base + len(content), form)
            content += inner
            value = form.pointer(place)
        ordered = value.ordered(form.order)
        if len(ordered) > form.room:
            place = base + len(content)
            content += ordered + bytes(len(ordered) % 2)
            ordered = form.pointer(place).ordered(form.order)
        entries[tag] = form.entry(tag, value, ordered.ljust(form.room, b"\0"))
    place = base + len(content)
    content += struct.pack(f"{form.order}{'Q' if form.big else 'H'}", len(entries))
    content += b"".join(entries[tag] for tag in sorted(entries))
    content += struct.pack(f"{form.order}{form.offset}", following)
    return bytes(content), place
