"""Decodes a file into upright RGB pixels and the facts in its header: `read_picture`.

The one place that catches `Exception` from decoders: they raise all kinds of errors on damaged files.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import hashlib
import io
import os
import stat
import threading
import warnings
import zlib
from collections.abc import Callable, Container, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, BinaryIO

import numpy as np  # noqa: TID253 - this module is itself imported late
from PIL import Image, UnidentifiedImageError  # noqa: TID253

from imgsearch.core.paths import extension, has_picture_extension, has_video_extension, is_raw, mtime_ns
from imgsearch.core.types import Facts, NotAPicture, Sidecar, SkipPhoto

from . import jxl, libtiff, truncated, video
from .colour import to_rgb
from .exif import Tags, read_tags, tags_in
from .facts import facts_of
from .header import Header, SidecarContent, header_of, is_upright_in_decoder, read_sidecars
from .reasons import MAX_PIXELS, reason_of, too_large, unreadable
from .sniff import JXL, RAW, TIFF_SIGNATURES, Format, sniff

# Below this short side a preview shows less than the model can see, and the RAW data is developed instead.
MIN_PREVIEW_SIDE = 384
# From this short side on a RAW is developed at half size: four times as fast, and still large enough.
HALF_SIZE_FROM = 1_024


@dataclass(frozen=True, slots=True)
class Picture:
    """A photo as read from its file."""

    content_hash: bytes
    """SHA-256 over all bytes of the file."""
    size: int
    mtime_ns: int
    facts: Facts
    image: Image.Image | None
    """RGB, upright. None if the hash was known and the pixels were not needed."""
    moments: tuple[video.Moment, ...] = ()
    """Of a video: first that of `image`, then the others in order of time."""


Room = Callable[[int], contextlib.AbstractContextManager[None]]
"""A context for decoding N pixels. It may wait for memory, or raise SkipPhoto."""


def _any_room(_pixels: int) -> contextlib.AbstractContextManager[None]:
    return contextlib.nullcontext()


def read_picture(
    path: str,
    *,
    sidecars: Sequence[Sidecar] = (),
    known: Container[bytes] = frozenset(),
    draft_side: int = 0,
    named: bool = False,
    is_video: bool = False,
    at: float | None = None,
    moments: bool = False,
    room: Room = _any_room,
) -> Picture:
    """The picture in a file, read from one descriptor.

    `draft_side` allows a faster, coarser decode whose short side has at least that many pixels (or all of them); 0 is
    exact. `is_video` allows a video, `at` is the moment of it to read, by default the middle, and `moments` asks for
    all that stand for it. `room` is entered with the number of pixels in the header. Raises `NotAPicture` for another
    kind of file that has neither the name of a picture nor `named`, and `SkipPhoto` with a reason if it cannot be
    decoded.
    """
    _silence_decoders()
    is_video = (is_video or named) and has_video_extension(path)
    claimed = named or is_video or has_picture_extension(path)
    with _opened(path, claimed=claimed) as file:
        before = os.fstat(file.fileno())
        try:
            kind = sniff(file, path, claimed=claimed, video=is_video)
            file.seek(0)
            digest = hashlib.file_digest(file, "sha256").digest()  # type: ignore[arg-type]
            beside = read_sidecars(path, sidecars)
            task = _Task(file, path, beside, draft_side, facts_only=digest in known, room=room)
            frames: tuple[video.Moment, ...] = ()
            if kind.is_video:
                facts, frames = _read_video(task, kind, at=at, moments=moments)
                image = frames[0].image if frames else None
            else:
                facts, image = _decode(task, kind)
        except (NotAPicture, SkipPhoto):
            _refuse_if_changed(file, before)
            raise
        except (Exception, MemoryError) as error:
            _refuse_if_changed(file, before)
            raise reason_of(error) from None
        _refuse_if_changed(file, before)
        return Picture(digest, before.st_size, mtime_ns(before), facts, image, frames)


# The file


@dataclass(frozen=True, slots=True)
class _Task:
    file: BinaryIO
    path: str
    sidecars: list[SidecarContent]
    draft_side: int
    facts_only: bool
    room: Room


def _decode(task: _Task, kind: Format) -> tuple[Facts, Image.Image | None]:
    if kind == RAW:
        return _read_raw(task)
    if kind == JXL:
        return _read_jxl(task)
    return _read_with_pillow(task, kind)


@contextmanager
def _opened(path: str, *, claimed: bool) -> Iterator[BinaryIO]:
    """The file, if it is a regular one. Opening never blocks, not even on a named pipe."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
    except (OSError, ValueError) as error:
        if getattr(error, "errno", None) in (errno.ENXIO, errno.EOPNOTSUPP, errno.ENODEV):
            raise SkipPhoto("read", "not a regular file") from None
        if not claimed:
            raise NotAPicture(path) from None
        raise unreadable(error) from None
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise SkipPhoto("read", "not a regular file")
        with _Bounded(descriptor) as file:
            yield file
    finally:
        os.close(descriptor)


class _Bounded(io.BufferedReader):
    """A file that is never asked for more bytes than it has: a damaged header may ask for gigabytes at once."""

    def __init__(self, descriptor: int) -> None:
        super().__init__(io.FileIO(descriptor, "rb", closefd=False))
        self._size = os.fstat(descriptor).st_size

    def read(self, size: int | None = -1, /) -> bytes:
        return super().read(size if size is None else min(size, self._size))


def _refuse_if_changed(file: BinaryIO, before: os.stat_result) -> None:
    after = os.fstat(file.fileno())
    if (after.st_size, after.st_mtime_ns) != (before.st_size, before.st_mtime_ns):
        raise SkipPhoto("read", "changed while it was read") from None


# Reading with Pillow


def _read_with_pillow(task: _Task, kind: Format) -> tuple[Facts, Image.Image | None]:
    if kind.name in truncated.FORMATS and truncated.ends_in_zeros(task.file):
        if found := _read_truncated(task, kind):
            return found
        task.file.seek(0)
    try:
        facts, image = _read_whole(task, kind)
    except (SkipPhoto, MemoryError):
        raise
    except Exception:
        if kind.name in truncated.FORMATS:
            with contextlib.suppress(_TooFewLines):
                if found := _read_truncated(task, kind):
                    return found
        raise
    if task.facts_only and kind.name in ("JPEG", "PNG") and truncated.may_lack_end(task.file):
        found = _read_truncated(task, kind)
        return (replace(facts, is_damaged=found[0].is_damaged) if found else facts), None
    return facts, image


def _read_whole(task: _Task, kind: Format) -> tuple[Facts, Image.Image | None]:
    try:
        image = _open_with_pillow(task.file, kind.name)
    except SkipPhoto:
        raise
    except Exception:
        if not kind.is_certain:
            raise SkipPhoto("decode", "not a picture, or a damaged one") from None
        raise
    with image:
        header = header_of(image, task.file)
        facts = facts_of(header, task.sidecars)
        if task.facts_only:
            return facts, None
        pixels = _pixels(image, header.orientation, task)
        if kind.name == "PNG" and "exif" in image.info and not header.tags:  # PNG allows its EXIF after the pixels
            header = header_of(image, task.file)
            return facts_of(header, task.sidecars), _upright(pixels, header.orientation)
        return facts, pixels


class _TooFewLines(SkipPhoto):
    """Less of a photo is left than counts as one."""

    def __init__(self) -> None:
        super().__init__("decode", f"truncated: less than {truncated.MIN_SHARE:.0%} of its lines can be decoded")


def _read_truncated(task: _Task, kind: Format) -> tuple[Facts, Image.Image | None] | None:
    """The lines that a truncated file still has. None if it has its end, or none can be decoded."""
    try:
        made = truncated.completed(task.file, kind.name)
        if made is None:
            return None
        with _open_with_pillow(io.BytesIO(made.data), kind.name) as image:
            header = header_of(image, task.file)
            with task.room(image.width * image.height):
                lines, is_damaged = made.count_lines(image.height, lambda data: _checksums(data, kind.name))
            if lines < truncated.MIN_SHARE * image.height:
                raise _TooFewLines
            facts = replace(facts_of(header, task.sidecars), is_damaged=is_damaged)
            if task.facts_only:
                return facts, None
            return facts, _pixels(image, header.orientation, task, lines, made.step)
    except (SkipPhoto, MemoryError):
        raise
    except Exception:
        return None  # the reason is that of the first attempt


STRIP_LINES = 64


def _checksums(data: bytes, name: str) -> list[int]:
    """One number for each line of the picture, as stored."""
    with _open_with_pillow(io.BytesIO(data), name) as image:
        _load(image)
        found = []
        for top in range(0, image.height, STRIP_LINES):
            lines = min(STRIP_LINES, image.height - top)
            strip = image.crop((0, top, image.width, top + lines)).tobytes()
            length = len(strip) // lines
            found += [zlib.crc32(strip[line * length : (line + 1) * length]) for line in range(lines)]
        return found


def _open_with_pillow(file: BinaryIO, name: str) -> Image.Image:
    """The picture, opened as this format only. Raises SkipPhoto if it has too many pixels."""
    if name == "HEIF":
        _register_heif()
    try:
        image: Image.Image = Image.open(file, formats=[name])
    except UnidentifiedImageError:
        # Pillow hides the plugin's reason; ask the plugin itself.
        file.seek(0)
        image = Image.OPEN[name][0](file, "")
    _refuse_bomb(*image.size)
    return image


def _pixels(image: Image.Image, orientation: int, task: _Task, lines: int | None = None, step: int = 1) -> Image.Image:
    """The first picture of the file, as upright RGB: only its first lines, and every pixel at a multiple of `step`."""
    is_upright = is_upright_in_decoder(image)
    height = image.height
    lines = height if lines is None else lines
    side = task.draft_side * height // lines
    with task.room(_draft(image, side)):
        _load(image)
        if lines < height:
            image = image.crop((0, 0, image.width, max(1, lines * image.height // height)))
        if task.draft_side and step == 1:
            image = _reduced(image, task.draft_side)
        pixels = to_rgb(image)
        if step > 1:
            pixels = Image.fromarray(np.asarray(pixels)[::step, ::step])
        return pixels if is_upright else _upright(pixels, orientation)


def _draft(image: Image.Image, side: int) -> int:
    """Ask for a smaller decode. Returns the number of pixels by which the decoder's memory is measured."""
    whole = image.width * image.height
    if not (side and image.format in ("JPEG", "MPO")):
        return whole
    image.draft("RGB", (side, side))
    # Whatever the scale, a progressive JPEG keeps the coefficients of all pixels, up to 8 bytes each.
    return max(image.width * image.height, whole // 3)


def _load(image: Image.Image) -> None:
    try:
        image.load()
    except OSError as error:
        # The pixels of a PNG are complete if only a text chunk after them is cut off.
        is_complete = image.format == "PNG" and not getattr(image, "tile", None)
        if not (is_complete and str(error) == "Truncated File Read"):
            raise


def _reduced(image: Image.Image, side: int) -> Image.Image:
    """Averaged down by a whole number, so that fewer pixels are converted to sRGB."""
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


def _upright(image: Image.Image, orientation: int) -> Image.Image:
    turn = _TURNS.get(orientation)
    return image if turn is None else image.transpose(turn)


def _refuse_bomb(width: int, height: int) -> None:
    if width * height > MAX_PIXELS:
        raise SkipPhoto("decode", too_large(width * height))


_preparing = threading.Lock()


_decoder_threads = 0
"""How many threads a decoder may use; 0 leaves it to the decoder."""


def use_one_thread() -> None:
    """Limit each decoder to one thread, for a process that is one of several."""
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


def _silence_decoders() -> None:
    """Ignore the decoders' warnings about files (corrupt EXIF, many pixels ...).

    For the whole process: `warnings.catch_warnings` swaps a list that all threads share.
    """
    with _preparing:
        libtiff.silence()
        if not any(each[0] == "ignore" and each[3] is not None and _is_ours(each[3]) for each in warnings.filters):
            warnings.filterwarnings("ignore", module=_DECODER_MODULES)


_DECODER_MODULES = r"(PIL|pillow_heif|pillow_jxl|rawpy)(\.|$)"


def _is_ours(module: Any) -> bool:
    return bool(getattr(module, "pattern", module) == _DECODER_MODULES)


# RAW


def _read_raw(task: _Task) -> tuple[Facts, Image.Image | None]:
    """The largest preview that the camera put into the file; without a good one, the developed RAW data."""
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
            if _is_tiff(task.file):  # a TIFF with a RAW's extension, or a camera unknown to LibRaw
                return _read_with_pillow(task, Format("TIFF"))
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
    """RGB, as stored in the file."""


def _is_tiff(file: BinaryIO) -> bool:
    file.seek(0)
    return file.read(4) in TIFF_SIGNATURES


def _preview(raw: Any, rawpy: Any, task: _Task) -> _Preview | None:
    try:
        thumb = raw.extract_thumb()
        if thumb.format == rawpy.ThumbFormat.BITMAP:
            return _Preview(tags_in(b""), Image.fromarray(thumb.data).convert("RGB"))
        with _open_with_pillow(io.BytesIO(thumb.data), "JPEG") as image:
            block = image.info.get("exif", b"")
            return _Preview(tags_in(block), _pixels(image, 1, task))
    except Exception:
        return None  # the RAW data may still be fine


def _best_of_raw(raw: Any, task: _Task, preview: _Preview | None, sizes: Any) -> Image.Image:
    """The first of preview, TIFF picture and developed RAW that is large enough, else the largest of them."""
    found: list[Image.Image] = []
    trouble: Exception | None = None
    for attempt in (_upright_preview, _tiff_picture, _developed):
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


def _upright_preview(_raw: Any, _task: _Task, preview: _Preview | None, sizes: Any) -> Image.Image | None:
    """A preview is stored upright or as the sensor saw it, and seldom says which; its shape shows it."""
    if preview is None:
        return None
    orientation = _ORIENTATION_OF_FLIP.get(sizes.flip, 1)
    own = preview.tags.orientation
    if own != 1:
        return _upright(preview.image, own)
    if orientation in (6, 8):
        is_as_sensor_saw = (preview.image.width > preview.image.height) == (sizes.width > sizes.height)
        return _upright(preview.image, orientation) if is_as_sensor_saw else preview.image
    return preview.image if 0x0112 in preview.tags.main else _upright(preview.image, orientation)


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
    """The plugin decodes all pixels on opening, so size and facts are read from the header first."""
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
        # The decoder turns pixels upright, except those of an embedded JPEG.
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


# Videos


def _read_video(task: _Task, kind: Format, **which: Any) -> tuple[Facts, tuple[video.Moment, ...]]:
    def room(width: int, height: int) -> contextlib.AbstractContextManager[None]:
        _refuse_bomb(width, height)
        return task.room(width * height * video.FRAMES_IN_MEMORY)

    return video.read_video(
        task.file, kind.name, task.sidecars, side=task.draft_side, facts_only=task.facts_only, room=room, **which
    )
