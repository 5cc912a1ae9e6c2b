"""A file's bytes turned into upright RGB pixels and the facts in its header.

`read_picture` is the way in. Content decides what a file is, never its name; the name only decides whether a
file that is no picture is passed over in silence. This is the one place that catches `Exception` from
decoders: they raise whatever their C code or their author thought of.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import functools
import glob
import hashlib
import io
import math
import os
import re
import stat
import struct
import threading
import warnings
from collections.abc import Callable, Container, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np  # noqa: TID253 - this module is itself imported late
from PIL import Image, ImageChops, ImageCms, UnidentifiedImageError  # noqa: TID253

from imgsearch.core.paths import extension, has_picture_extension, is_raw, mtime_ns, printable
from imgsearch.core.photos import jxl
from imgsearch.core.photos.exif import Tags, read_tags, tags_in
from imgsearch.core.photos.facts import Header, SidecarContent, facts_of, header_of, is_turned_by_decoder, read_sidecars
from imgsearch.core.types import Facts, NotAPicture, Sidecar, SkipPhoto

if TYPE_CHECKING:
    from numpy.typing import NDArray

MAX_PIXELS = 2 * 89_478_485
"""Pillow's own limit (it refuses at twice its warning), held for decoders that Pillow does not watch too."""

STRIP_ROWS = 256

SNIFFED_BYTES = 4_096
MAX_REASON_CHARACTERS = 200
MAX_PROFILE_BYTES = 8 * 1024 * 1024
# A preview this small says less than the model could see: the RAW itself is developed instead.
MIN_PREVIEW_SIDE = 384
# A RAW with at least this short side is developed at half size, four times as fast and still large enough.
HALF_SIZE_FROM = 1_024


@dataclass(frozen=True, slots=True)
class Picture:
    """A photo as it was read."""

    content_hash: bytes
    """SHA-256 over all bytes of the file."""
    size: int
    mtime_ns: int
    facts: Facts
    image: Image.Image | None
    """RGB, upright; None where the hash was known and the pixels were not needed."""


Room = Callable[[int], contextlib.AbstractContextManager[None]]
"""Held while so many pixels are decoded; may wait until there is room for them, or raise SkipPhoto."""


def _any_room(_pixels: int) -> contextlib.AbstractContextManager[None]:
    return contextlib.nullcontext()


def read_picture(
    path: str,
    *,
    sidecars: Sequence[Sidecar] = (),
    known: Container[bytes] = frozenset(),
    draft_side: int = 0,
    named: bool = False,
    room: Room = _any_room,
) -> Picture:
    """The picture in a file, read from one descriptor.

    `draft_side` allows a faster, coarser decode whose short side is still at least that many pixels (or all
    there are); 0 is exact. `room` is asked once the header has told how many pixels there are. Raises
    `NotAPicture` for something else that nobody called a picture, and `SkipPhoto` with a reason for all that cannot
    be read or decoded.
    """
    _hush_decoders()
    claimed = named or has_picture_extension(path)
    with _opened(path, claimed=claimed) as file:
        before = os.fstat(file.fileno())
        try:
            reader = _reader_for(file, path, claimed=claimed)
            file.seek(0)
            digest = hashlib.file_digest(file, "sha256").digest()  # type: ignore[arg-type]
            beside = read_sidecars(path, sidecars)
            task = _Task(file, path, beside, draft_side, facts_only=digest in known, room=room)
            facts, image = reader(task)
        except (NotAPicture, SkipPhoto):
            _refuse_if_changed(file, before)
            raise
        except (Exception, MemoryError) as error:
            _refuse_if_changed(file, before)
            raise _skip(error) from None
        _refuse_if_changed(file, before)
        return Picture(digest, before.st_size, mtime_ns(before), facts, image)


# The file


@dataclass(frozen=True, slots=True)
class _Task:
    file: BinaryIO
    path: str
    sidecars: list[SidecarContent]
    draft_side: int
    facts_only: bool
    room: Room


_Reader = Callable[[_Task], tuple[Facts, Image.Image | None]]


@contextmanager
def _opened(path: str, *, claimed: bool) -> Iterator[BinaryIO]:
    """The file, if it is a regular one. Opening never waits, not even for the other end of a named pipe."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
    except (OSError, ValueError) as error:
        if getattr(error, "errno", None) in (errno.ENXIO, errno.EOPNOTSUPP, errno.ENODEV):
            raise SkipPhoto("read", "not a regular file") from None
        if not claimed:
            raise NotAPicture(path) from None
        raise _unreadable(error) from None
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise SkipPhoto("read", "not a regular file")
        with _Bounded(descriptor) as file:
            yield file
    finally:
        os.close(descriptor)


class _Bounded(io.BufferedReader):
    """A file of which nobody reads more than there is: room is made for what is asked, and headers ask for anything."""

    def __init__(self, descriptor: int) -> None:
        super().__init__(io.FileIO(descriptor, "rb", closefd=False))
        self._size = os.fstat(descriptor).st_size

    def read(self, size: int | None = -1, /) -> bytes:
        return super().read(size if size is None else min(size, self._size))


def _refuse_if_changed(file: BinaryIO, before: os.stat_result) -> None:
    after = os.fstat(file.fileno())
    if (after.st_size, after.st_mtime_ns) != (before.st_size, before.st_mtime_ns):
        raise SkipPhoto("read", "changed while it was read") from None


# What a file is

# Bytes at an offset -> Pillow's name of the format. Only what no other kind of file is likely to begin with.
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
# A few bytes that other files begin with too: believed only of a file that calls itself a picture.
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
_TIFF_STARTS = (b"II*\x00", b"MM\x00*", b"II+\x00", b"MM\x00+")
_RAW_STARTS = (
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
_BMP_HEADER_SIZES = (12, 16, 40, 52, 56, 64, 108, 124)

# Known things that are no raster picture: told apart so that the reason helps.
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


def _reader_for(file: BinaryIO, path: str, *, claimed: bool) -> _Reader:
    """The reader for what the first bytes say; raises where they say that it is no picture we can read."""
    head = file.read(SNIFFED_BYTES)
    if found := _strong_reader(head, file, path):
        return found
    if not claimed:
        raise NotAPicture(path)
    if not head:
        raise SkipPhoto("decode", "empty file")
    for magic, reason in _OTHER_KINDS:
        if head.startswith(magic):
            raise SkipPhoto("decode", reason)
    if _is_svg(head, path):
        raise SkipPhoto("decode", "vector drawing (SVG) is not supported")
    if found := _weak_reader(head, path):
        return found
    raise SkipPhoto("decode", _what_else(head))


def _strong_reader(head: bytes, file: BinaryIO, path: str) -> _Reader | None:
    for offset, magic, name in _MAGIC:
        if head.startswith(magic, offset):
            return _pillow_reader(name)
    if head.startswith(_TIFF_STARTS):
        return _read_raw if _is_raw_tiff(read_tags(file), path) else _pillow_reader("TIFF")
    if head.startswith(_RAW_STARTS):
        return _read_raw
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return _pillow_reader("WEBP")
    if head[:2] == b"BM" and int.from_bytes(head[14:18], "little") in _BMP_HEADER_SIZES:
        return _pillow_reader("BMP")
    if head.startswith(jxl.CONTAINER):
        return _read_jxl
    return _boxed_reader(head)


def _boxed_reader(head: bytes) -> _Reader | None:
    """HEIC, AVIF and CR3 share their container with videos; the brands it names tell them apart."""
    if head[4:8] != b"ftyp":
        return None
    end = min(max(int.from_bytes(head[:4], "big"), 16), 256)
    major = head[8:12]
    brands = {major, *(head[place : place + 4] for place in range(16, end, 4))}
    if major == b"crx ":
        return _read_raw
    if major in _AVIF_BRANDS or (major in (b"mif1", b"msf1", b"miaf") and brands & _AVIF_BRANDS):
        return _pillow_reader("AVIF")
    if major in _HEIF_BRANDS or (major in (b"mif1", b"msf1", b"miaf") and not brands & _AVIF_BRANDS):
        return _pillow_reader("HEIF")
    return None


def _weak_reader(head: bytes, path: str) -> _Reader | None:
    if head.startswith(jxl.CODESTREAM):
        return _read_jxl
    for magic, name in _WEAK_MAGIC:
        if head.startswith(magic):
            return _pillow_reader(name)
    if re.match(rb"P([1-6]|[fF])\s", head):
        return _pillow_reader("PPM")
    if name_only := _BY_NAME_ONLY.get(extension(path)):
        return _pillow_reader(name_only, sure=False)
    if is_raw(path) and not _is_text(head):
        return _read_raw
    return None


def _is_raw_tiff(tags: Tags, path: str) -> bool:
    """Most RAW files are TIFFs by their first bytes; a plain TIFF must not be one of them."""
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


# Reading with Pillow


def _pillow_reader(name: str, *, sure: bool = True) -> _Reader:
    def read(task: _Task) -> tuple[Facts, Image.Image | None]:
        try:
            image = _open_with_pillow(task.file, name)
        except SkipPhoto:
            raise
        except Exception:
            if not sure:  # only its name made us try
                raise SkipPhoto("decode", "not a picture, or a damaged one") from None
            raise
        with image:
            header = header_of(image, task.file)
            facts = facts_of(header, task.sidecars)
            if task.facts_only:
                return facts, None
            pixels = _pixels(image, header.orientation, task)
            late = header_of(image, task.file) if name == "PNG" and "exif" in image.info and not header.tags else None
            if late is not None:  # PNG allows its EXIF after the pixels
                return facts_of(late, task.sidecars), _turned(pixels, late.orientation)
            return facts, pixels

    return read


def _open_with_pillow(file: BinaryIO, name: str) -> Image.Image:
    """The picture, opened as this format and no other, and small enough to decode."""
    if name == "HEIF":
        _register_heif()
    try:
        image: Image.Image = Image.open(file, formats=[name])
    except UnidentifiedImageError:
        # Pillow keeps the plugin's reason to itself; ask the plugin.
        file.seek(0)
        image = Image.OPEN[name][0](file, "")
    _refuse_bomb(*image.size)
    return image


def _pixels(image: Image.Image, orientation: int, task: _Task) -> Image.Image:
    """The first picture of the file, as upright RGB."""
    turned_already = is_turned_by_decoder(image)
    with task.room(_draft(image, task.draft_side)):
        _load(image)
        if task.draft_side:
            image = _reduced(image, task.draft_side)
        pixels = to_rgb(image)
        return pixels if turned_already else _turned(pixels, orientation)


def _draft(image: Image.Image, side: int) -> int:
    """How many pixels come out of the decoder, as far as memory goes, once it was told how few are enough."""
    whole = image.width * image.height
    if not (side and image.format in ("JPEG", "MPO")):
        return whole
    image.draft("RGB", (side, side))
    # A progressive JPEG keeps the coefficients of all its pixels meanwhile, whatever the scale: up to 8 bytes each.
    return max(image.width * image.height, whole // 3)


def _load(image: Image.Image) -> None:
    try:
        image.load()
    except OSError as error:
        # The pixels of a PNG may be whole where a chunk of remarks after them is cut off.
        is_whole = image.format == "PNG" and not getattr(image, "tile", None)
        if not (is_whole and str(error) == "Truncated File Read"):
            raise


def _reduced(image: Image.Image, side: int) -> Image.Image:
    """Averaged down by a whole number, so that colours are converted for fewer pixels."""
    factor = min(image.size) // side
    if factor < 2 or image.mode not in ("RGB", "L", "CMYK") or "transparency" in image.info:
        return image
    reduced = image.reduce(factor)
    reduced.info = image.info
    return reduced


_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def _turned(image: Image.Image, orientation: int) -> Image.Image:
    turn = _TURNS.get(orientation)
    return image if turn is None else image.transpose(turn)


def _refuse_bomb(width: int, height: int) -> None:
    if width * height > MAX_PIXELS:
        raise SkipPhoto("decode", _too_large(width * height))


def _too_large(pixels: int) -> str:
    return f"{math.ceil(pixels / 1e6):,} megapixels, over the limit of {MAX_PIXELS // 1_000_000}"


_preparing = threading.Lock()


_decoder_threads = 0
"""How many threads a decoder may use; 0 is as many as it likes."""


def use_one_thread() -> None:
    """For a process that is one of several: each decoder keeps to one thread, with one thread's memory."""
    global _decoder_threads
    from PIL import AvifImagePlugin

    _decoder_threads = AvifImagePlugin.DEFAULT_MAX_THREADS = 1


@functools.cache
def _register_heif_once() -> None:
    try:
        import pillow_heif  # type: ignore[import-untyped,unused-ignore]
    except ImportError:
        raise SkipPhoto("decode", "HEIC photos need: pip install pillow-heif") from None
    if _decoder_threads:
        pillow_heif.options.DECODE_THREADS = _decoder_threads
    pillow_heif.register_heif_opener(thumbnails=False, depth_images=False, aux_images=False)


def _register_heif() -> None:
    with _preparing:
        _register_heif_once()


def _hush_decoders() -> None:
    """Keep the decoders' remarks about files (corrupt EXIF, many pixels ...) off stderr, for good.

    `warnings.catch_warnings` swaps a list that all threads share, and photos are decoded in threads.
    """
    with _preparing:
        _hush_libtiff()
        if not any(each[0] == "ignore" and each[3] is not None and _is_ours(each[3]) for each in warnings.filters):
            warnings.filterwarnings("ignore", module=_DECODER_MODULES)


_DECODER_MODULES = r"(PIL|pillow_heif|pillow_jxl|rawpy)(\.|$)"


@functools.cache
def _hush_libtiff() -> None:
    """libtiff writes its complaints about damaged files to stderr itself; its errors still count."""
    beside = os.path.dirname(os.path.abspath(Image.__file__))
    for pattern in ("../pillow.libs/libtiff*.so*", ".dylibs/libtiff*.dylib"):
        for library in glob.glob(os.path.join(beside, pattern)):
            with suppress(OSError, AttributeError):
                loaded = ctypes.CDLL(library)
                loaded.TIFFSetErrorHandler(None)
                loaded.TIFFSetWarningHandler(None)


def _is_ours(module: Any) -> bool:
    return bool(getattr(module, "pattern", module) == _DECODER_MODULES)


# Colours


def to_rgb(image: Image.Image) -> Image.Image:
    """A loaded picture as sRGB of 8 bits, on white where it is transparent; its ICC profile is honoured."""
    profile = image.info.get("icc_profile")
    alpha: Image.Image | None = None
    if image.mode in ("RGBa", "La"):
        image = image.convert(image.mode[:-1] + "A")
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        image = _eight_bit(image)
    elif image.mode in ("RGBA", "LA", "PA") or (image.mode in ("1", "L", "P", "RGB") and "transparency" in image.info):
        rgba = image if image.mode == "RGBA" else image.convert("RGBA")
        alpha = rgba.getchannel("A")
        image = image.getchannel("L") if image.mode == "LA" else rgba.convert("RGB")
    elif image.mode not in ("RGB", "L", "CMYK", "LAB"):
        image = image.convert("RGB")
    rgb = _srgb(image, profile)
    if alpha is not None and alpha.getextrema() != (255, 255):
        flat = Image.new("RGB", rgb.size, "white")
        flat.paste(rgb, mask=alpha)
        return flat
    return rgb


def _eight_bit(image: Image.Image) -> Image.Image:
    """Grey of 16 bits, 32 bits or floats, scaled to 8 bits by the range that the format gives it."""
    values = np.asarray(image)
    strips = [slice(top, top + STRIP_ROWS) for top in range(0, len(values), STRIP_ROWS)]
    ends = [(float(strip.min()), float(strip.max())) for strip in (_finite(values[rows]) for rows in strips)]
    low, high = _grey_range(image, min(end[0] for end in ends), max(end[1] for end in ends))
    grey = np.zeros(values.shape, np.uint8)
    for rows in strips:  # a few megabytes of floats at a time, not several copies of a huge picture
        scaled = (_finite(values[rows]) - low) * (255.0 / (high - low) if high > low else 0.0)
        if _tiff_tag(image, 0x0106) == 0:  # white is zero, which Pillow minds in 8-bit pictures only
            scaled = 255.0 - scaled
        grey[rows] = np.clip(scaled + 0.5, 0, 255)
    return Image.fromarray(grey)


def _finite(values: NDArray[Any]) -> NDArray[np.float64]:
    wide = values.astype(np.float64)
    return np.where(np.isfinite(wide), wide, 0)


def _grey_range(image: Image.Image, lowest: float, highest: float) -> tuple[float, float]:
    if image.mode.startswith("I;16"):
        if highest <= 4_095:  # as good as black: rather 8, 10 or 12 bits in a container of 16
            return 0, 255 if highest <= 255 else 1_023 if highest <= 1_023 else 4_095
        return 0, 65_535
    if image.mode == "F" and lowest >= 0 and highest <= 1:
        return 0, 1
    if image.mode == "I" and image.format != "TIFF" and lowest >= 0 and highest <= 65_535:
        return 0, 65_535
    return lowest, highest


def _tiff_tag(image: Image.Image, tag: int) -> int | None:
    value = getattr(image, "tag_v2", {}).get(tag)
    value = value[0] if isinstance(value, tuple) and value else value
    return value if isinstance(value, int) and value >= 0 else None


def _srgb(image: Image.Image, profile: object) -> Image.Image:
    if isinstance(profile, bytes) and 128 < len(profile) <= MAX_PROFILE_BYTES:
        transform = _to_srgb_transform(profile, image.mode)
        if transform is not None:
            with suppress(ValueError, OSError, ImageCms.PyCMSError):
                return transform.apply(image)
    return image if image.mode == "RGB" else image.convert("RGB")


@functools.lru_cache(maxsize=32)
def _to_srgb_transform(profile: bytes, mode: str) -> ImageCms.ImageCmsTransform | None:
    """From the profile to sRGB; None where it is broken, is for other colours, or would change nothing."""
    try:
        transform = ImageCms.ImageCmsTransform(
            ImageCms.ImageCmsProfile(io.BytesIO(profile)),
            ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")),
            mode,
            "RGB",
            ImageCms.Intent.PERCEPTUAL,
            flags=ImageCms.Flags.NOCACHE,  # one transform serves all threads
        )
        if mode not in ("RGB", "L"):
            return transform
        probe = _probe(mode)
        change = ImageChops.difference(transform.apply(probe), probe.convert("RGB"))
        return transform if max(high for _, high in change.getextrema()) > 2 else None  # type: ignore[misc]
    except (ImportError, OSError, ValueError, TypeError, ImageCms.PyCMSError):
        return None


def _probe(mode: str) -> Image.Image:
    """Colours by which a profile shows whether it differs from sRGB."""
    levels = np.linspace(0, 255, 9).astype(np.uint8)
    if mode == "L":
        return Image.fromarray(levels[None, :])
    return Image.fromarray(np.stack(np.meshgrid(levels, levels, levels), axis=-1).reshape(27, 27, 3))


# RAW


def _read_raw(task: _Task) -> tuple[Facts, Image.Image | None]:
    """The largest preview the camera left in the file; without a good one, the RAW itself developed."""
    try:
        import rawpy
    except ImportError:
        raise SkipPhoto("decode", "RAW photos need: pip install 'imgsearch-cli[raw]'") from None

    with rawpy.RawPy() as raw:
        task.file.seek(0)
        try:
            raw.open_buffer(task.file)
            sizes = raw.sizes
        except rawpy.LibRawError:
            if _is_tiff(task.file):  # a plain TIFF under a RAW's name, or a camera that LibRaw does not know
                return _pillow_reader("TIFF")(task)
            raise
        turned = sizes.flip in (5, 6)
        width, height = (sizes.height, sizes.width) if turned else (sizes.width, sizes.height)
        own = extension(task.path)[1:].upper() if is_raw(task.path) else "RAW"
        tags = read_tags(task.file)
        preview = None if tags and task.facts_only else _preview(raw, rawpy, task)
        if preview is not None and not tags:
            tags = preview.tags
        orientation = tags.orientation if tags else _ORIENTATION_OF_FLIP.get(sizes.flip, 1)
        xmp = tags.main.data(0x02BC)
        facts = facts_of(Header(own, width, height, orientation, tags, xmp), task.sidecars)
        if task.facts_only:
            return facts, None
        return facts, _best_of_raw(raw, task, preview, sizes)


_ORIENTATION_OF_FLIP = {0: 1, 3: 3, 5: 8, 6: 6}


@dataclass(frozen=True, slots=True)
class _Preview:
    tags: Tags
    image: Image.Image
    """RGB, as it lies in the file."""


def _is_tiff(file: BinaryIO) -> bool:
    file.seek(0)
    return file.read(4) in _TIFF_STARTS


def _preview(raw: Any, rawpy: Any, task: _Task) -> _Preview | None:
    try:
        thumb = raw.extract_thumb()
        if thumb.format == rawpy.ThumbFormat.BITMAP:
            return _Preview(tags_in(b""), Image.fromarray(thumb.data).convert("RGB"))
        with _open_with_pillow(io.BytesIO(thumb.data), "JPEG") as image:
            block = image.info.get("exif", b"")
            return _Preview(tags_in(block), _pixels(image, 1, task))
    except Exception:
        return None  # whatever is wrong with the preview, the RAW may still be fine


def _best_of_raw(raw: Any, task: _Task, preview: _Preview | None, sizes: Any) -> Image.Image:
    """The first of preview, the TIFF's own picture and the developed RAW that is large, else the largest."""
    found: list[Image.Image] = []
    trouble: Exception | None = None
    for attempt in (_turned_preview, _tiff_picture, _developed):
        try:
            image = attempt(raw, task, preview, sizes)
        except Exception as error:
            trouble = error
            continue
        if image is not None:
            found.append(image)
            if min(image.size) >= MIN_PREVIEW_SIDE:
                return image
    if not found:
        raise trouble or SkipPhoto("decode", "no preview, and the RAW data cannot be developed")
    return max(found, key=lambda image: image.width * image.height)


def _turned_preview(_raw: Any, _task: _Task, preview: _Preview | None, sizes: Any) -> Image.Image | None:
    """Previews lie in the file as the sensor saw them or upright, and seldom say which: their shape does."""
    if preview is None:
        return None
    orientation = _ORIENTATION_OF_FLIP.get(sizes.flip, 1)
    own = preview.tags.orientation
    if own != 1:
        return _turned(preview.image, own)
    if orientation in (6, 8):
        lies_as_sensor_saw = (preview.image.width > preview.image.height) == (sizes.width > sizes.height)
        return _turned(preview.image, orientation) if lies_as_sensor_saw else preview.image
    return preview.image if 0x0112 in preview.tags.main else _turned(preview.image, orientation)


def _tiff_picture(_raw: Any, task: _Task, _preview: _Preview | None, _sizes: Any) -> Image.Image | None:
    if not _is_tiff(task.file):
        return None
    with _open_with_pillow(task.file, "TIFF") as image:
        if image.mode not in ("RGB", "L", "YCbCr", "RGBA", "P"):
            return None  # sensor data, not a picture
        return _pixels(image, 1, task)


def _developed(raw: Any, task: _Task, _preview: _Preview | None, sizes: Any) -> Image.Image:
    _refuse_bomb(sizes.width, sizes.height)
    half = min(sizes.width, sizes.height) >= HALF_SIZE_FROM
    with task.room(sizes.width * sizes.height):
        return Image.fromarray(raw.postprocess(half_size=half, use_camera_wb=True))


# JPEG XL


def _read_jxl(task: _Task) -> tuple[Facts, Image.Image | None]:
    """The plugin decodes all pixels on opening, so size and facts are read from the header before."""
    header = jxl.read_header(task.file)
    _refuse_bomb(header.width, header.height)
    turned = header.orientation >= 5
    width, height = (header.height, header.width) if turned else (header.width, header.height)
    tags = tags_in(header.exif)
    if task.facts_only:
        return facts_of(Header("JXL", width, height, header.orientation, tags, header.xmp), task.sidecars), None
    _register_jxl()
    with task.room(header.width * header.height), _open_with_pillow(task.file, "JXL") as image:
        if not tags:  # its Exif box was compressed
            tags = tags_in(image.info.get("exif") or b"")
        # Decoded pixels come upright; those of a JPEG inside come as the JPEG has them.
        orientation = header.orientation if getattr(image, "jpeg", False) else 1
        pixels = _pixels(image, orientation, task)
    return facts_of(Header("JXL", width, height, header.orientation, tags, header.xmp), task.sidecars), pixels


def _register_jxl() -> None:
    with _preparing:
        try:
            from pillow_jxl import JpegXLImagePlugin
        except ImportError:
            raise SkipPhoto("decode", "JPEG XL needs: pip install 'imgsearch-cli[jxl]'") from None
        if _decoder_threads:
            JpegXLImagePlugin.DECODE_THREADS = 0


# Reasons


_OUT_OF_MEMORY = re.compile(r"out of memory|not enough memory|cannot allocate memory|bad_alloc", re.IGNORECASE)


def _skip(error: BaseException) -> SkipPhoto:
    is_out_of_memory = isinstance(error, MemoryError) or getattr(error, "errno", None) == errno.ENOMEM
    if is_out_of_memory or _OUT_OF_MEMORY.search(str(error)):
        return SkipPhoto("memory", "not enough memory to decode it")
    # A header that points nowhere makes a seek fail, which is no fault of the disk.
    if isinstance(error, OSError) and error.errno not in (None, errno.EINVAL, errno.EOVERFLOW):
        return _unreadable(error)
    return SkipPhoto("decode", _reason(error))


def _unreadable(error: Exception) -> SkipPhoto:
    number = getattr(error, "errno", None)
    if number in (errno.EACCES, errno.EPERM):
        return SkipPhoto("read", "permission denied")
    if number in (errno.ENOENT, errno.ENOTDIR):
        return SkipPhoto("read", "vanished before it was read")
    if number == errno.ELOOP:
        return SkipPhoto("read", "a link that leads in circles")
    said = os.strerror(number).lower() if number else _one_line(str(error))
    return SkipPhoto("read", f"cannot be read: {said}")


def _reason(error: BaseException) -> str:
    """Why it failed, in one line for a person."""
    if isinstance(error, Image.DecompressionBombError):
        pixels = re.search(r"\((\d+) pixels\)", str(error))
        return _too_large(int(pixels[1])) if pixels else "too many pixels"
    said = _one_line(str(error))
    if not said or isinstance(error, _STUMBLES):
        return f"damaged or not supported ({type(error).__name__})"
    if isinstance(error, EOFError) or re.search(
        r"truncat|unexpected end|not enough image data|end of file", said, re.I
    ):
        return said if said.lower().startswith("truncated:") else f"truncated: {said}"
    return f"damaged or not supported: {said}"


# What says more of the decoder's code than of the file.
_STUMBLES = (
    ArithmeticError, AssertionError, AttributeError, LookupError, NameError, TypeError, UnicodeError, struct.error,
)  # fmt: skip
_BYTES = re.compile(r"\bb(['\"])((?:\\.|[^\\])*?)\1")
_ADDRESS = re.compile(r"<[^<>]* object at 0x[0-9a-f]+>|0x[0-9a-f]{6,}", re.IGNORECASE)


def _one_line(text: str) -> str:
    plain = _BYTES.sub(lambda match: "" if "\\" in match[2] else match[2], _ADDRESS.sub("", text)).strip()
    return printable(" ".join(plain.split()))[:MAX_REASON_CHARACTERS].rstrip(" :")
