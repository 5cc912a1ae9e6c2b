"""EXIF and TIFF tags, read within limits: any number in a header may be wrong.

`read_tags` reads a TIFF or RAW file, `tags_in` a block of EXIF bytes. Nothing here raises on bad data: what cannot be
read counts as missing.
"""

from __future__ import annotations

import io
import math
import struct
from dataclasses import dataclass
from typing import BinaryIO

# Pillow reads all tags of a directory at once, so that 65,535 tags that point at the same megabyte cost 64 GB. Here a
# directory is a table of offsets, and only the requested tags are read.
MAX_ENTRIES = 2_048
MAX_VALUE_BYTES = 64 * 1024
MAX_NUMBERS = 64
MAX_SUB_DIRECTORIES = 8

ORIENTATION = 0x0112
EXIF_DIRECTORY = 0x8769
GPS_DIRECTORY = 0x8825
SUB_DIRECTORIES = 0x014A
PHOTOMETRIC = 0x0106
DNG_VERSION = 0xC612

_SENSOR_PHOTOMETRICS = {32803, 34892}
"""Colour filter array and linear RAW (TIFF/EP and DNG): sensor data, not a picture."""

# Type number -> size of one value in bytes, struct letter (None: raw bytes, "/": a pair of longs).
_TYPES: dict[int, tuple[int, str | None]] = {
    1: (1, "B"), 2: (1, None), 3: (2, "H"), 4: (4, "L"), 5: (8, "/L"), 6: (1, "b"), 7: (1, None), 8: (2, "h"),
    9: (4, "l"), 10: (8, "/l"), 11: (4, "f"), 12: (8, "d"), 13: (4, "L"), 16: (8, "Q"), 17: (8, "q"),
    18: (8, "Q"),
}  # fmt: skip

# TIFF, BigTIFF, and the two ways Olympus and the one way Panasonic write their own number into a TIFF header.
_MAGICS = {42, 43, 0x4F52, 0x5352, 0x55}


@dataclass(frozen=True, slots=True)
class _Entry:
    type: int
    count: int
    place: bytes
    """The four (BigTIFF: eight) bytes with the value or its offset."""


class Directory:
    """One directory (IFD) of tags."""

    def __init__(self, file: BinaryIO, order: str, *, big: bool, entries: dict[int, _Entry]) -> None:
        self._file = file
        self._order = order
        self._big = big
        self._entries = entries

    def __contains__(self, tag: int) -> bool:
        return tag in self._entries

    def __bool__(self) -> bool:
        return bool(self._entries)

    @property
    def is_little_endian(self) -> bool:
        return self._order == "<"

    def data(self, tag: int, limit: int = MAX_VALUE_BYTES) -> bytes | None:
        """The value's bytes as stored in the file, at most `limit`."""
        entry = self._entries.get(tag)
        if entry is None:
            return None
        size = min(entry.count * _TYPES[entry.type][0], limit)
        if entry.count * _TYPES[entry.type][0] <= len(entry.place):
            return entry.place[:size]
        offset = int(struct.unpack(self._order + ("Q" if self._big else "L"), entry.place)[0])
        return _read_at(self._file, offset, size)

    def numbers(self, tag: int) -> tuple[float, ...]:
        """The value's numbers, empty if there are none. A fraction with denominator zero is NaN."""
        entry = self._entries.get(tag)
        if entry is None:
            return ()
        size, letter = _TYPES[entry.type]
        if letter is None:
            return ()
        count = min(entry.count, MAX_NUMBERS)
        raw = self.data(tag, count * size) or b""
        count = len(raw) // size
        if letter.startswith("/"):
            flat = struct.unpack(f"{self._order}{2 * count}{letter[1]}", raw[: count * size])
            return tuple(
                top / bottom if bottom else math.nan for top, bottom in zip(flat[::2], flat[1::2], strict=True)
            )
        return struct.unpack(f"{self._order}{count}{letter}", raw[: count * size])

    def number(self, tag: int) -> float | None:
        """The value's first number, if it is finite."""
        numbers = self.numbers(tag)
        return numbers[0] if numbers and math.isfinite(numbers[0]) else None

    def directory(self, tag: int) -> Directory:
        """The directory at the value's offset, empty if there is none."""
        offset = self.number(tag)
        return self._at(int(offset)) if offset else self._at(0)

    def sub_directories(self) -> list[Directory]:
        offsets = self.numbers(SUB_DIRECTORIES)[:MAX_SUB_DIRECTORIES]
        return [self._at(int(offset)) for offset in offsets if math.isfinite(offset)]

    def _at(self, offset: int) -> Directory:
        return _directory(self._file, offset, self._order, big=self._big)


@dataclass(frozen=True, slots=True)
class Tags:
    """The three directories of a photo's header."""

    main: Directory
    exif: Directory
    gps: Directory

    def __bool__(self) -> bool:
        return bool(self.main) or bool(self.exif)

    @property
    def orientation(self) -> int:
        """1 to 8; 1 if it is missing or invalid."""
        value = self.main.number(ORIENTATION)
        return int(value) if value is not None and 1 <= value <= 8 else 1

    @property
    def is_dng(self) -> bool:
        return DNG_VERSION in self.main

    @property
    def holds_sensor_data(self) -> bool:
        """Whether a picture in the file is sensor data, which only a RAW decoder can develop."""
        return any(ifd.number(PHOTOMETRIC) in _SENSOR_PHOTOMETRICS for ifd in (self.main, *self.main.sub_directories()))


def read_tags(file: BinaryIO) -> Tags:
    """The tags of a file that is a TIFF structure."""
    header = _read_at(file, 0, 16) or b""
    order = {b"II": "<", b"MM": ">"}.get(header[:2], "")
    main = _directory(file, 0, order or "<", big=False)
    if order and len(header) >= 8:
        magic = struct.unpack(order + "H", header[2:4])[0]
        if magic == 43 and len(header) == 16:
            main = _directory(file, struct.unpack(order + "Q", header[8:])[0], order, big=True)
        elif magic in _MAGICS:
            main = _directory(file, struct.unpack(order + "L", header[4:8])[0], order, big=False)
    return Tags(main, main.directory(EXIF_DIRECTORY), main.directory(GPS_DIRECTORY))


def tags_in(block: bytes) -> Tags:
    """The tags of an EXIF block, with or without its `Exif` prefix."""
    while block.startswith(b"Exif\x00\x00"):
        block = block[6:]
    return read_tags(io.BytesIO(block))


def _directory(file: BinaryIO, offset: int, order: str, *, big: bool) -> Directory:
    width, counter, place = (20, "Q", 8) if big else (12, "H", 4)
    entries: dict[int, _Entry] = {}
    head = _read_at(file, offset, struct.calcsize(order + counter)) if offset else None
    if head is not None:
        count = min(struct.unpack(order + counter, head)[0], MAX_ENTRIES)
        table = _read_at(file, offset + len(head), count * width) or b""
        for row in range(0, len(table) - width + 1, width):
            tag, kind, values = struct.unpack_from(f"{order}HH{'Q' if big else 'L'}", table, row)
            if kind in _TYPES:
                entries.setdefault(tag, _Entry(kind, values, table[row + width - place : row + width]))
    return Directory(file, order, big=big, entries=entries)


def _read_at(file: BinaryIO, offset: int, size: int) -> bytes | None:
    """Up to `size` bytes from `offset`; None if nothing can be read."""
    try:
        file.seek(offset)
        return file.read(size) or None
    except (OSError, OverflowError, ValueError):
        return None
