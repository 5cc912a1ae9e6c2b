"""The raw metadata of a photo: EXIF tags, XMP packet, IPTC records, PNG texts, and the bytes of its sidecars."""

from __future__ import annotations

import os
import re
import stat
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, BinaryIO

from imgsearch.core.paths import extension
from imgsearch.core.types import Sidecar

from .exif import Directory, Tags, read_tags, tags_in

if TYPE_CHECKING:
    from PIL import Image

# XMP grows with edit history and embedded thumbnails; a larger packet is not read at all.
MAX_XMP_BYTES = 4 * 1024 * 1024
MAX_TEXT_SIDECAR_BYTES = 64 * 1024
MAX_TAKEOUT_BYTES = 256 * 1024  # a usual one has a kilobyte
_SIDECAR_LIMITS = {".xmp": MAX_XMP_BYTES, ".txt": MAX_TEXT_SIDECAR_BYTES, ".json": MAX_TAKEOUT_BYTES + 1}
MAX_FRAGMENT_CHARACTERS = 20_000
MAX_IPTC_VALUES = 256

MALFORMED = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    EOFError,
    LookupError,
    MemoryError,
    OSError,
    RuntimeError,
    SyntaxError,
    TypeError,
    ValueError,
    struct.error,
)
"""What a parser may raise on malformed metadata."""

Iptc = Mapping[tuple[int, int], object]
"""(record, dataset) -> bytes, or a list of them."""
PNG_TEXTS = ("Title", "Description", "Caption", "Comment")


@dataclass(frozen=True, slots=True)
class Header:
    """The raw material of `Facts`. Sizes are in pixels, upright."""

    format: str
    width: int
    height: int
    orientation: int
    tags: Tags
    xmp: bytes | None = None
    iptc: Iptc = field(default_factory=dict)
    named_texts: Mapping[str, str] = field(default_factory=dict)
    """PNG text chunks: `Title`, `Description`, `Caption` or `Comment` -> text."""


@dataclass(frozen=True, slots=True)
class SidecarContent:
    """A sidecar, as read."""

    name: str
    data: bytes
    photo: str = ""
    """The name of the photo that it is beside."""


def header_of(image: Image.Image, file: BinaryIO) -> Header:
    """The header of a picture opened from `file` and not loaded yet. Decodes no pixels."""
    info = image.info
    own = image.format or "?"
    tags = read_tags(file) if own == "TIFF" else tags_in(_exif_block(info))
    xmp = _xmp_block(info) or (tags.main.data(0x02BC, MAX_XMP_BYTES) if own == "TIFF" else None)
    if own == "HEIF":  # the decoder turns the pixels upright and keeps the orientation in the header
        stored = info.get("original_orientation")
        orientation = stored if isinstance(stored, int) and 1 <= stored <= 8 else 1
    else:
        orientation = _orientation(tags, xmp)
    width, height = image.size
    if orientation >= 5 and not is_upright_in_decoder(image):
        width, height = height, width
    texts = {key: info[key] for key in PNG_TEXTS if isinstance(info.get(key), str)} if own == "PNG" else {}
    return Header(own, width, height, orientation, tags, xmp, _iptc_of(image), texts)


def is_upright_in_decoder(image: Image.Image) -> bool:
    """Whether Pillow gives the picture's size and pixels upright already."""
    return image.format in ("TIFF", "HEIF")


def read_sidecars(path: str, sidecars: Sequence[Sidecar]) -> list[SidecarContent]:
    """The bytes of the photo's sidecars, without those that cannot be read."""
    folder, photo = os.path.split(path)
    contents = []
    for sidecar in sidecars:
        name = os.path.basename(sidecar.relpath)
        data = _read_regular(os.path.join(folder, name), _SIDECAR_LIMITS[extension(name)])
        if data is not None:
            contents.append(SidecarContent(name, data, photo))
    return contents


def _read_regular(path: str, limit: int) -> bytes | None:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
    except (OSError, ValueError):
        return None
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            return None
        with os.fdopen(descriptor, "rb", closefd=False) as file:
            return file.read(limit)
    except OSError:
        return None
    finally:
        os.close(descriptor)


def _exif_block(info: Mapping[Any, Any]) -> bytes:
    block = info.get("exif")
    if isinstance(block, bytes):
        return block
    profile = info.get("Raw profile type exif")  # written by ImageMagick: three header lines, then hex
    if isinstance(profile, str):
        try:
            return bytes.fromhex("".join(profile.split("\n")[3:]))
        except ValueError:
            pass
    return b""


def _xmp_block(info: Mapping[Any, Any]) -> bytes | None:
    for key in ("xmp", "XML:com.adobe.xmp"):
        block = info.get(key)
        if isinstance(block, str):
            return block.encode("utf-8", errors="replace")
        if isinstance(block, bytes) and block:
            return block
    return None


def _iptc_of(image: Image.Image) -> Iptc:
    if image.format not in ("JPEG", "MPO", "TIFF"):
        return {}
    from PIL import ImageFile, IptcImagePlugin

    try:
        found = IptcImagePlugin.getiptcinfo(image) if isinstance(image, ImageFile.ImageFile) else None
    except MALFORMED:
        return {}
    return found or {}


_XMP_ORIENTATION = re.compile(rb"tiff:Orientation(?:=[\"']|>)\s*([1-8])")


def _orientation(tags: Tags, xmp: bytes | None) -> int:
    """From EXIF; from XMP only if EXIF has none."""
    if 0x0112 not in tags.main and xmp and (found := _XMP_ORIENTATION.search(xmp[:MAX_XMP_BYTES])):
        return int(found[1])
    return tags.orientation


def text_of(directory: Directory, tag: int) -> str:
    """A tag's text. Bytes that are not UTF-8 are read as Windows-1252."""
    raw = directory.data(tag, MAX_FRAGMENT_CHARACTERS) or b""
    return decoded(raw.split(b"\x00")[0] or raw.replace(b"\x00", b""))


def decoded(raw: bytes) -> str:
    for encoding in ("utf-8", "cp1252"):
        try:
            return raw.decode(encoding)
        except UnicodeDecodeError:
            continue
    return raw.decode("latin-1")


def iptc_texts(iptc: Iptc, key: tuple[int, int]) -> list[str]:
    found = iptc.get(key)
    values = found if isinstance(found, list) else [found]
    return [decoded(value[:MAX_FRAGMENT_CHARACTERS]) for value in values[:MAX_IPTC_VALUES] if isinstance(value, bytes)]


def iptc_text(iptc: Iptc, key: tuple[int, int]) -> str:
    return next(iter(iptc_texts(iptc, key)), "").strip("\x00 ")
