"""Which format a file has, by its first bytes. Its name only decides whether a file that is no picture is an error."""

from __future__ import annotations

import re
from contextlib import suppress
from dataclasses import dataclass
from typing import BinaryIO

from imgsearch.core.paths import extension, is_raw
from imgsearch.core.types import NotAPicture, SkipPhoto

from . import jxl
from .exif import Tags, read_tags

SNIFFED_BYTES = 4_096


@dataclass(frozen=True, slots=True)
class Format:
    """A picture format: Pillow's name for it, `RAW` or `JXL`. Or a video format: `MP4`, `MOV`, `3GP`, `MKV`, `WEBM` or
    `AVI`."""

    name: str
    is_certain: bool = True
    """False: only the file's extension says so."""
    is_video: bool = False


RAW = Format("RAW")
JXL = Format("JXL")

# Bytes at an offset -> Pillow's name of the format. Only signatures that no other kind of file is likely to start with.
_MAGIC: tuple[tuple[int, bytes, str], ...] = (
    (0, b"\xff\xd8\xff", "JPEG"),
    (0, b"\x89PNG\r\n\x1a\n", "PNG"),
    (0, b"GIF87a", "GIF"),
    (0, b"GIF89a", "GIF"),
    (0, b"\x00\x00\x00\x0cjP  \x0d\x0a\x87\x0a", "JPEG2000"),
    (0, b"\xff\x4f\xff\x51", "JPEG2000"),
    (0, b"8BPS", "PSD"),
    (0, b"DDS ", "DDS"),
    (0, b"qoif", "QOI"),
    (0, b"BLP1", "BLP"),
    (0, b"BLP2", "BLP"),
    (0, b"icns", "ICNS"),
    (0, b"\x59\xa6\x6a\x95", "SUN"),
    (0, b"/* XPM */", "XPM"),
)
# Short signatures that other files start with too: only used for a file with a picture's name.
_WEAK_MAGIC: tuple[tuple[bytes, str], ...] = (
    (b"\x00\x00\x01\x00", "ICO"),
    (b"\x01\xda", "SGI"),
    (b"\xb1\x68\xde\x3a", "DCX"),
    (b"DanM", "MSP"),
    (b"LinS", "MSP"),
)
_BY_NAME_ONLY = {
    ".cur": "CUR",
    ".dib": "DIB",
    ".flc": "FLI",
    ".fli": "FLI",
    ".icb": "TGA",
    ".im": "IM",
    ".pcd": "PCD",
    ".pcx": "PCX",
    ".pxr": "PIXAR",
    ".tga": "TGA",
    ".vda": "TGA",
    ".vst": "TGA",
    ".xbm": "XBM",
}
TIFF_SIGNATURES = (b"II*\x00", b"MM\x00*", b"II+\x00", b"MM\x00+")
_RAW_SIGNATURES = (
    b"FUJIFILMCCD-RAW",
    b"FOVb",
    b"II\x1a\x00\x00\x00HEAPCCDR",
    b"\x00MRM",
    b"IIRO",
    b"IIRS",
    b"MMOR",
    b"IIU\x00",
)
_HEIF_BRANDS = frozenset(b"heic heix heim heis hevc hevx hevm hevs".split())
_AVIF_BRANDS = frozenset(b"avif avis".split())
_QUICKTIME_ATOMS = frozenset((b"moov", b"mdat", b"wide", b"free", b"skip", b"pnot"))
_BMP_HEADER_SIZES = (12, 16, 40, 52, 56, 64, 108, 124)

# Known files that are not raster pictures, for a helpful reason.
_OTHER_KINDS: tuple[tuple[bytes, str], ...] = (
    (b"%!PS", "vector drawing (EPS) is not supported"),
    (b"\xc5\xd0\xd3\xc6", "vector drawing (EPS) is not supported"),
    (b"gimp xcf", "GIMP drawing (XCF) is not supported"),
    (b"#?RADIANCE", "Radiance HDR pictures are not supported"),
    (b"#?RGBE", "Radiance HDR pictures are not supported"),
    (b"v/1\x01", "OpenEXR pictures are not supported"),
    (b"%PDF", "not a picture: a PDF document"),
    (b"PK\x03\x04", "not a picture: a zip archive"),
    (b"SIMPLE  =", "not a picture: FITS data"),
    (b"\x89HDF\r\n\x1a\n", "not a picture: HDF5 data"),
    (b"\x1aE\xdf\xa3", "not a picture: a video"),
    (b"\x00\x00\x01\xba", "not a picture: a video"),
    (b"\x00\x00\x01\xb3", "not a picture: a video"),
)


def sniff(file: BinaryIO, path: str, *, claimed: bool, video: bool = False) -> Format:
    """The format of a file, by its first bytes.

    `claimed`: the user or the file's name says that it is a picture. `video`: it may also be a video. Raises
    NotAPicture for an unclaimed file that is something else, and SkipPhoto with a reason for a claimed one.
    """
    head = file.read(SNIFFED_BYTES)
    if found := _by_signature(head, file, path):
        return found
    if video and (name := _video(head)):
        return Format(name, is_video=True)
    if not claimed:
        raise NotAPicture(path)
    if not head:
        raise SkipPhoto("decode", "empty file")
    for magic, reason in _OTHER_KINDS:
        if head.startswith(magic):
            raise SkipPhoto("decode", reason)
    if _is_svg(head, path):
        raise SkipPhoto("decode", "vector drawing (SVG) is not supported")
    if found := _by_weak_signature(head, path):
        return found
    raise SkipPhoto("decode", "not a video, or of a format that is not supported" if video else _what_else(head))


def _by_signature(head: bytes, file: BinaryIO, path: str) -> Format | None:
    for offset, magic, name in _MAGIC:
        if head.startswith(magic, offset):
            return Format(name)
    if head.startswith(TIFF_SIGNATURES):
        return RAW if _is_raw_tiff(read_tags(file), path) else Format("TIFF")
    if head.startswith(_RAW_SIGNATURES):
        return RAW
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return Format("WEBP")
    if head[:2] == b"BM" and int.from_bytes(head[14:18], "little") in _BMP_HEADER_SIZES:
        return Format("BMP")
    if head.startswith(jxl.CONTAINER):
        return JXL
    return _by_brand(head)


def _by_brand(head: bytes) -> Format | None:
    """HEIC, AVIF and CR3 use the same container as videos, with different brands."""
    if head[4:8] != b"ftyp":
        return None
    end = min(max(int.from_bytes(head[:4], "big"), 16), 256)
    major = head[8:12]
    brands = {major, *(head[place : place + 4] for place in range(16, end, 4))}
    if major == b"crx ":
        return RAW
    if major in _AVIF_BRANDS or (major in (b"mif1", b"msf1", b"miaf") and brands & _AVIF_BRANDS):
        return Format("AVIF")
    if major in _HEIF_BRANDS or (major in (b"mif1", b"msf1", b"miaf") and not brands & _AVIF_BRANDS):
        return Format("HEIF")
    return None


def _video(head: bytes) -> str | None:
    if head[4:8] == b"ftyp":
        return "MOV" if head[8:12] == b"qt  " else "3GP" if head[8:10] == b"3g" else "MP4"
    if head[4:8] in _QUICKTIME_ATOMS:
        return "MOV"
    if head.startswith(b"\x1aE\xdf\xa3"):
        return "WEBM" if b"webm" in head[:64] else "MKV"
    return "AVI" if head[:4] == b"RIFF" and head[8:12] == b"AVI " else None


def _by_weak_signature(head: bytes, path: str) -> Format | None:
    if head.startswith(jxl.CODESTREAM):
        return JXL
    for magic, name in _WEAK_MAGIC:
        if head.startswith(magic):
            return Format(name)
    if re.match(rb"P([1-6]|[fF])\s", head):
        return Format("PPM")
    if name_only := _BY_NAME_ONLY.get(extension(path)):
        return Format(name_only, is_certain=False)
    if is_raw(path) and not _is_text(head):
        return RAW
    return None


def _is_raw_tiff(tags: Tags, path: str) -> bool:
    """Most RAW files start like a TIFF; a plain TIFF must not be taken for one of them."""
    if is_raw(path) or tags.holds_sensor_data:
        return True
    return tags.is_dng and extension(path) not in (".tif", ".tiff")


def _is_svg(head: bytes, path: str) -> bool:
    if head.startswith(b"\x1f\x8b"):
        return extension(path) in (".svgz", ".svg")
    return head.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"<") and re.search(rb"<(\w+:)?svg\b", head) is not None


def _is_text(head: bytes) -> bool:
    if b"\x00" in head:
        return False
    with suppress(UnicodeDecodeError):
        head[: SNIFFED_BYTES - 8].decode("utf-8")
        return True
    return False


def _what_else(head: bytes) -> str:
    if head[4:8] == b"ftyp":
        return "not a picture: a video"
    if re.match(rb"\s*<(!doctype html|html|head|script)", head, re.IGNORECASE):
        return "not a picture: a web page"
    return "not a picture: a text file" if _is_text(head) else "not a picture, or of a format that is not supported"
