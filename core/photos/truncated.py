"""JPEG, PNG and WebP files that lack their end, completed so that the decoder gives the lines it still can.

Decoders refuse such files or fill the missing lines, without saying how many. Here the missing bytes are replaced by
filler before decoding, so no option of Pillow changes for other photos. Where the lines cannot be counted in the bytes
themselves, the file is completed twice, with different filler: the lines up to the first difference come from the file.
"""

from __future__ import annotations

import contextlib
import hashlib
import re
import struct
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import BinaryIO

FORMATS = frozenset(("JPEG", "MPO", "PNG", "WEBP"))
"""The formats, as Pillow names them, of which a part can be decoded."""
MIN_SHARE = 0.25
"""A photo with a smaller share of its lines counts as a failure."""
MAX_BYTES = 1 << 29
"""A larger file is not completed, because that needs a copy of it in memory."""
MAX_PIXELS = 1 << 28
"""A PNG with more is not completed; `decode` has a smaller limit for all formats."""
# An interrupted copy may leave the space that it reserved for the rest filled with zeros.
MIN_ZEROS = 16
FILLER_BYTES = 1 << 16
# Fillers that are compared. A short rest of the pixels may come out the same with two of them.
ATTEMPTS = 3


@dataclass(frozen=True, slots=True)
class Completed:
    """A truncated file with filler in place of its missing end."""

    data: bytes
    others: Iterator[bytes] = field(default_factory=lambda: iter(()))
    """The same with another filler, of which not every one can be decoded. None at all: `lines` and `is_whole` are
    known."""
    lines: int | None = None
    """How many lines have pixels of their own; None if only the comparison shows it."""
    is_whole: bool = True
    """Nothing but the end mark is missing, unless the comparison shows that pixels are missing too."""
    step: int = 1
    """Only every pixel at a multiple of this in both directions is known: an interlaced PNG without its last passes."""

    def count_lines(self, height: int, checksums: Callable[[bytes], list[int]]) -> tuple[int, bool]:
        """How many lines of pixels the file has, and whether any pixel is missing.

        `checksums` decodes a file exactly, so that a fast decode gives the same answer, to one number for each line.
        """
        ours: list[int] = []
        first: int | None = None
        is_compared = self.lines is not None
        for other in self.others:
            with contextlib.suppress(OSError, SyntaxError, ValueError):
                theirs = checksums(other)
                ours = ours or checksums(self.data)
                is_compared = True
                pairs = enumerate(zip(ours, theirs, strict=True))
                first = next((line for line, (one, two) in pairs if one != two), None)
                if first is not None:
                    break
        if not is_compared:
            return 0, True
        is_damaged = first is not None or not self.is_whole
        if self.lines is not None:
            return min(self.lines, height), is_damaged
        return height if first is None else first, is_damaged


def completed(file: BinaryIO, format_name: str) -> Completed | None:
    """The file with its end filled in. None if it has its end, or breaks off before its pixels."""
    if file.seek(0, 2) > MAX_BYTES:
        return None
    file.seek(0)
    return _COMPLETED[format_name](file.read())


def may_lack_end(file: BinaryIO) -> bool:
    """Whether the end mark of a JPEG or PNG is not where it usually is. Reads a few bytes."""
    file.seek(-min(12, file.seek(0, 2)), 2)
    return not file.read().endswith((b"\xff\xd9", b"\0\0\0\0IEND\xaeB\x60\x82"))


def ends_in_zeros(file: BinaryIO) -> bool:
    """Whether the end may be missing although the file has its full length. Reads a few bytes."""
    file.seek(-min(MIN_ZEROS, file.seek(0, 2)), 2)
    return not any(file.read())


def _without_zeros(data: bytes) -> bytes:
    """Without the zeros at the end if there are more than compressed pixels end with."""
    found = data.rstrip(b"\0")
    return found if len(data) - len(found) >= MIN_ZEROS else data


def _noise(count: int, number: int = 0) -> bytes:
    """The same bytes for the same number, without 255, which starts a JPEG marker."""
    return hashlib.shake_128(bytes((number,))).digest(count).replace(b"\xff", b"\x7f")


# JPEG

_EOI = b"\xff\xd9"
_SOI = 0xD8
_SOS = 0xDA
_SOF = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
# A marker inside or after compressed pixels. Zero is an escaped 255, and D0 to D7 restart the decoder.
_NEXT_MARKER = re.compile(rb"\xff[\x01-\xcf\xd8-\xfe]")
_RESTART = re.compile(rb"\xff[\xd0-\xd7]")
COEFFICIENTS = 64


def _completed_jpeg(data: bytes) -> Completed | None:
    kept = _without_zeros(data)
    if len(kept) < len(data) and kept.endswith(b"\xff"):
        kept += b"\0"
    scans = _Scans()
    for marker, start, end in _segments(kept):
        if marker == _EOI[1]:
            return None
        if end > len(kept):
            kept = kept[: start - 4]
            break
        scans.add(marker, kept[start:end], end)
    if not scans.count:
        return None
    kept = kept.rstrip(b"\xff")  # half a marker, or the filler of an interrupted copy
    return Completed(
        kept + _EOI,
        (kept + _jpeg_filler(kept, scans.pixels_at, number) + _EOI for number in range(ATTEMPTS)),
        lines=scans.height if scans.count > 1 else None,
        is_whole=scans.is_complete,
    )


def _jpeg_filler(data: bytes, pixels_at: int, number: int) -> bytes:
    """Noise, with the restart markers that would come next: without them a decoder ignores what follows."""
    markers = _RESTART.findall(data, pixels_at)
    last = markers[-1][1] & 7 if markers else -1
    noise = _noise(FILLER_BYTES, number)
    return noise + b"".join(bytes((0xFF, 0xD0 | (last + n) & 7)) + noise for n in range(1, 9))


def _segments(data: bytes) -> Iterator[tuple[int, int, int]]:
    """Each marker segment: its marker, and the range of its bytes after the length, which may lie beyond the end of the
    file. Stops after the end mark."""
    at = 2
    while found := _NEXT_MARKER.search(data, at):
        marker, start = data[found.start() + 1], found.start() + 4
        at = found.end()
        if marker == _EOI[1]:
            yield marker, at, at
            return
        if marker == _SOI or marker == 0x01:  # these have no length
            continue
        at = max(start, start - 2 + int.from_bytes(data[start - 2 : start], "big"))
        yield marker, start, at


class _Scans:
    """The scans of a JPEG, and what they have told of each component. A progressive one refines its pixels in each."""

    def __init__(self) -> None:
        self.height = 0
        self.count = 0
        self.pixels_at = 0
        """Where the pixels of the last scan start."""
        self._is_progressive = False
        self._missing: dict[int, set[int]] = {}
        """The coefficients of each component that are not known to their last bit."""

    def add(self, marker: int, segment: bytes, end: int) -> None:
        if marker in _SOF and len(segment) >= 6 and not self._missing:
            self.height = int.from_bytes(segment[1:3], "big")
            self._is_progressive = marker in (0xC2, 0xC6, 0xCA, 0xCE)
            self._missing = {number: set(range(COEFFICIENTS)) for number in segment[6 : 6 + 3 * segment[5] : 3]}
        elif marker == _SOS and self._missing and segment:
            self.count += 1
            self.pixels_at = end
            numbers = segment[1 : 1 + 2 * segment[0] : 2]
            first, last, bits = segment[-3:] if self._is_progressive else (0, COEFFICIENTS - 1, 0)
            if bits & 15 == 0:
                for number in numbers:
                    self._missing.get(number, set()).difference_update(range(first, last + 1))

    @property
    def is_complete(self) -> bool:
        return not any(self._missing.values())


# PNG

_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
_BIT_DEPTHS = (1, 2, 4, 8, 16)
# The seven passes of an interlaced PNG: first column and line, and the step of both.
_PASSES = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
# After N passes, the pixels at multiples of this are known.
_STEPS = (8, 8, 8, 4, 4, 2, 2, 1)


def _completed_png(data: bytes) -> Completed | None:
    kept = _without_zeros(data)
    head, compressed, is_cut = _png_parts(kept)
    if not is_cut or not compressed or len(head) < 33:
        return None
    width, height, depth, colours, _, _, interlaced = struct.unpack(">IIBBBBB", head[16:29])
    if colours not in _CHANNELS or depth not in _BIT_DEPTHS or interlaced > 1:
        return None
    if not 0 < width * height <= MAX_PIXELS:
        return None
    passes = _PASSES if interlaced else ((0, 0, 1, 1),)
    sizes = [(-(-(width - left) // across), -(-(height - top) // down)) for left, top, across, down in passes]
    # Each line starts with the number of its filter. A pass without pixels has no lines.
    strides = [1 + -(-columns * depth * _CHANNELS[colours] // 8) for columns, _ in sizes]
    lengths = [stride * lines if columns > 0 else 0 for (columns, lines), stride in zip(sizes, strides, strict=True)]
    known = _inflated(compressed, sum(lengths))
    filled = known + bytes(sum(lengths) - len(known))
    is_whole = len(known) == sum(lengths)
    if not is_whole and not interlaced:
        lines = len(known) // strides[0]
        filled = known[: lines * strides[0]] + bytes(lengths[0] - lines * strides[0])
    else:
        lines = height if len(known) >= lengths[0] else 8 * (len(known) // strides[0])
    finished = sum(len(known) >= sum(lengths[: number + 1]) for number in range(len(lengths)))
    end = _chunk(b"IDAT", zlib.compress(filled, 1)) + _chunk(b"IEND", b"")
    step = _STEPS[finished] if interlaced else 1
    return Completed(head + end, lines=lines, is_whole=is_whole, step=step)


def _png_parts(data: bytes) -> tuple[bytes, bytes, bool]:
    """The chunks before the pixels, the compressed pixels, and whether the file ends before its last chunk."""
    head, at = data[:8], 8
    compressed: list[bytes] = []
    while at + 8 <= len(data):
        length, kind = struct.unpack(">I4s", data[at : at + 8])
        if kind == b"IEND":
            return head, b"".join(compressed), False
        end = at + 12 + length
        if kind == b"IDAT":
            compressed.append(data[at + 8 : end - 4])
        elif end <= len(data) and not compressed:
            head += data[at:end]
        at = end
    return head, b"".join(compressed), True


def _inflated(compressed: bytes, most: int) -> bytes:
    """What can be decompressed, up to a number of bytes."""
    inflater = zlib.decompressobj()
    found = bytearray()
    for start in range(0, len(compressed), FILLER_BYTES):
        try:
            found += inflater.decompress(compressed[start : start + FILLER_BYTES], max(1, most - len(found)))
        except zlib.error:
            break
        if len(found) >= most:
            break
    return bytes(found[:most])


def _chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


# WebP

# What 256 pixels may take when zeros are decoded. The decoder fails if it needs more.
_BYTES_PER_BLOCK = 64
LOSSLESS_ATTEMPTS = 8
_EXIF_AND_XMP = 0b1100
_ANIMATION = 0b10


def _completed_webp(data: bytes) -> Completed | None:
    """With the chunk of the pixels, which the file breaks off in, made long enough for any filler."""
    kept = _without_zeros(data)
    if len(kept) >= 8 + int.from_bytes(kept[4:8], "little"):
        return None
    head = bytearray(kept[:12])
    at = 12
    while at + 8 <= len(kept):
        kind, length = struct.unpack("<4sI", kept[at : at + 8])
        end = at + 8 + length + length % 2
        if kind in (b"VP8 ", b"VP8L"):
            return _with_pixels(head, kind, kept[at + 8 : at + 8 + length])
        if kind == b"VP8X" and length >= 10:
            flags = kept[at + 8]
            if flags & _ANIMATION:
                return None
            head += kept[at : at + 8] + bytes((flags & ~_EXIF_AND_XMP,)) + kept[at + 9 : end]  # those are at the end
        else:
            head += kept[at:end]
        at = end
    return None


def _with_pixels(head: bytearray, kind: bytes, pixels: bytes) -> Completed | None:
    if len(pixels) < 10:
        return None
    is_started = True
    if kind == b"VP8 ":
        # What comes first says how all pixels are coded.
        is_started = len(pixels) >= 10 + (int.from_bytes(pixels[:3], "little") >> 5)
        width, height = (side & 0x3FFF for side in struct.unpack("<HH", pixels[6:10]))
    else:
        bits = int.from_bytes(pixels[1:5], "little")
        width, height = 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    room = FILLER_BYTES + -(-width // 16) * -(-height // 16) * _BYTES_PER_BLOCK

    def made(filler: bytes) -> bytes:
        content = pixels + filler.ljust(room, b"\0")
        body = bytes(head[8:]) + kind + struct.pack("<I", len(content)) + content + bytes(len(content) % 2)
        return b"RIFF" + struct.pack("<I", len(body)) + body

    if not is_started:
        return Completed(made(b""), lines=0, is_whole=False)
    # A lossless picture with more noise is usually refused, because noise refers to pixels that do not exist.
    lengths = [FILLER_BYTES] * ATTEMPTS if kind == b"VP8 " else [2] * LOSSLESS_ATTEMPTS
    return Completed(made(b""), (made(_noise(length, number)) for number, length in enumerate(lengths)))


_COMPLETED: dict[str, Callable[[bytes], Completed | None]] = {
    "JPEG": _completed_jpeg,
    "MPO": _completed_jpeg,
    "PNG": _completed_png,
    "WEBP": _completed_webp,
}
