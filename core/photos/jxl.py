"""The header of a JPEG XL file: size, orientation, EXIF and XMP, without decoding."""

from __future__ import annotations

from dataclasses import dataclass
from typing import BinaryIO

CODESTREAM = b"\xff\x0a"
CONTAINER = b"\x00\x00\x00\x0cJXL \x0d\x0a\x87\x0a"

MAX_BOXES = 256
MAX_BOX_BYTES = 4 * 1024 * 1024
_HEADER_BYTES = 64

# Selector of two bits -> bits of a dimension. JPEG XL part 1, size header.
_DIMENSION_BITS = (9, 13, 18, 30)
_RATIOS = {1: (1, 1), 2: (12, 10), 3: (4, 3), 4: (3, 2), 5: (16, 9), 6: (5, 4), 7: (2, 1)}


@dataclass(frozen=True, slots=True)
class JxlHeader:
    """Width and height before the orientation is applied."""

    width: int
    height: int
    orientation: int
    exif: bytes = b""
    xmp: bytes | None = None


def read_header(file: BinaryIO) -> JxlHeader:
    """Raises ValueError if there is no JPEG XL header."""
    file.seek(0)
    head = file.read(_HEADER_BYTES)
    if head.startswith(CODESTREAM):
        return _image_header(head)
    if not head.startswith(CONTAINER):
        raise ValueError("no JPEG XL header")
    return _container_header(file)


def _container_header(file: BinaryIO) -> JxlHeader:
    codestream, exif, xmp = b"", b"", None
    place = 0
    for _ in range(MAX_BOXES):
        file.seek(place)
        head = file.read(16)
        if len(head) < 8:
            break
        size, kind, skip = int.from_bytes(head[:4], "big"), head[4:8], 8
        if size == 1:
            size, skip = int.from_bytes(head[8:16], "big"), 16
        file.seek(place + skip)
        length = MAX_BOX_BYTES if size == 0 else min(size - skip, MAX_BOX_BYTES)
        if length < 0:
            raise ValueError("a box of the JPEG XL file is smaller than its own header")
        if kind in (b"jxlc", b"jxlp") and not codestream:
            codestream = file.read(min(length, _HEADER_BYTES))[4 if kind == b"jxlp" else 0 :]
        elif kind == b"Exif" and not exif:
            block = file.read(length)
            exif = block[4 + int.from_bytes(block[:4], "big") :]
        elif kind == b"xml " and xmp is None:
            xmp = file.read(length)
        if size == 0:
            break
        place += size
    if not codestream.startswith(CODESTREAM):
        raise ValueError("no picture in the JPEG XL file")
    found = _image_header(codestream)
    return JxlHeader(found.width, found.height, found.orientation, exif, xmp)


class _Bits:
    """The bits of the codestream, lowest first."""

    def __init__(self, data: bytes) -> None:
        self._value = int.from_bytes(data, "little")
        self._left = 8 * len(data)

    def take(self, count: int) -> int:
        if count > self._left:
            raise ValueError("truncated: the JPEG XL header ends early")
        taken = self._value & ((1 << count) - 1)
        self._value >>= count
        self._left -= count
        return taken


def _image_header(codestream: bytes) -> JxlHeader:
    bits = _Bits(codestream[2:])
    small = bits.take(1)
    height = _dimension(bits, small=bool(small))
    ratio = bits.take(3)
    if ratio:
        top, bottom = _RATIOS[ratio]
        width = height * top // bottom
    else:
        width = _dimension(bits, small=bool(small))
    is_default = bits.take(1)
    orientation = 1
    if not is_default and bits.take(1):
        orientation = 1 + bits.take(3)
    return JxlHeader(width, height, orientation)


def _dimension(bits: _Bits, *, small: bool) -> int:
    return 8 * (bits.take(5) + 1) if small else 1 + bits.take(_DIMENSION_BITS[bits.take(2)])
