"""Tests `index` with thousands of damaged and hostile pictures of every common format.

python bench/fuzz.py [--count 2000] [--formats jpeg,png,...] [--seed 0] [--keep] [--together] [--seeds DIR]

Small variants of the sample album are damaged, at random and in the structures of their format, and indexed by the
real command. It must not crash, hang or write anything odd. Every file must end up as a photo, rejected or skipped,
exactly once; every photo must have the vector of its own pixels; a second run must have nothing to do. A decoder may
crash or be stopped, because it has its own process; the table counts these. The first column of a file's name is its
number: number, format and seed determine its content, however many others are generated.

A broken promise does not stop the run, but makes the exit code 1 and keeps the files. --keep also keeps files whose
decoder crashed, was stopped or wanted too much memory.
"""

from __future__ import annotations

import argparse
import base64
import contextlib
import hashlib
import io
import itertools
import json
import os
import random
import re
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import threading
import time
import uuid
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pillow_heif
from PIL import Image, ImageCms
from PIL.PngImagePlugin import PngInfo

from imgsearch.core.indexing.changes import RETRIED_STAGES
from imgsearch.core.models import loading, registry
from imgsearch.core.photos import preprocess
from imgsearch.core.photos.decode_pool import DecodePool
from imgsearch.core.store.records import join
from imgsearch.core.store.store import Store
from imgsearch.core.types import NotAPicture, Photo, SkipPhoto

ALBUM = Path(__file__).parents[1] / "tests" / "album"
PROGRAM = (sys.executable, "-m", "imgsearch")
MARK = "IMGSEARCH_BENCH_RUN"
"""In the environment of a run and so of everything it starts: how what outlives it is found."""

SOURCES = ("lemon", "carrots", "oatly-oat-milk", "watermelon")
SIDES = (96, 129, 160, 200)
FOLDERS = 4
MAX_SEED_BYTES = 400_000
"""Of a file that --seeds adds: thousands of larger ones would test the disk."""

TIME_LIMIT_SECONDS = 10
# A whole run is a hang after this long: far more than a file takes, far less than one that waits for ever.
SECONDS_A_RUN, SECONDS_A_FILE = 300, 1.0
# How long a process that lost its parent may take to end, on a busy machine.
STRAY_SECONDS = 30.0
# 200 characters of a decoder's own words, and ours before them.
MAX_REASON_CHARACTERS = 240
FARTHEST = 1e-3
"""Largest difference in one dimension between a stored vector and the same pixels embedded in another batch."""
COMPARED_TOGETHER = 64
SLOWEST_SHOWN, COMPLAINTS_SHOWN = 5, 20

RESULTS = ("photo", "skipped", "passed")


# Pictures to begin with


@dataclass(frozen=True)
class Seed:
    flavour: str
    data: bytes


def pictures() -> Iterator[Image.Image]:
    for name, side in zip(SOURCES, SIDES, strict=True):
        with Image.open(ALBUM / f"{name}.jpg") as image:
            yield image.convert("RGB").resize((side, side * 3 // 4))


def written(image: Image.Image, name: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, name, **options)
    return buffer.getvalue()


def faded(image: Image.Image) -> Image.Image:
    """The picture, more and more transparent to the right."""
    image = image.convert("RGBA")
    image.putalpha(Image.linear_gradient("L").rotate(90).resize(image.size))
    return image


def deep(image: Image.Image) -> Image.Image:
    """Grey of 16 bits."""
    return Image.fromarray(np.asarray(image.convert("L")).astype(np.uint16) * 257)


def exif() -> bytes:
    block = Image.Exif()
    block[0x010E] = "breakfast on the terrace"
    block[0x010F], block[0x0110], block[0x0112], block[0x0132] = "Canon", "EOS R5", 6, "2024:07:01 18:03:11"
    block.get_ifd(0x8769).update({0x829A: 0.004, 0x829D: 2.8, 0x8827: 400, 0x9003: "2024:07:01 18:03:11", 0x920A: 50.0})
    block.get_ifd(0x8769)[0x9286] = b"UNICODE\x00" + "a remark".encode("utf-16-le")
    block.get_ifd(0x8825).update({1: "N", 2: (48.0, 12.0, 30.5), 3: "E", 4: (16.0, 22.0, 1.25), 6: 171.0})
    return block.tobytes()


def xmp() -> bytes:
    return (
        b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
        b'<rdf:Description xmlns:dc="http://purl.org/dc/elements/1.1/" xmlns:xmp="http://ns.adobe.com/xap/1.0/"'
        b' xmp:Rating="4"><dc:description><rdf:Alt><rdf:li>the market in the rain</rdf:li></rdf:Alt></dc:description>'
        b"<dc:subject><rdf:Bag><rdf:li>fruit</rdf:li></rdf:Bag></dc:subject></rdf:Description></rdf:RDF></x:xmpmeta>"
    )


def icc() -> bytes:
    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def jpeg_seeds(image: Image.Image) -> Iterator[Seed]:
    yield Seed("baseline", written(image, "JPEG", quality=80))
    yield Seed("progressive", written(image, "JPEG", progressive=True, optimize=True))
    yield Seed("grey", written(image.convert("L"), "JPEG"))
    yield Seed("cmyk", written(image.convert("CMYK"), "JPEG"))
    yield Seed("full-colour", written(image, "JPEG", subsampling=0, keep_rgb=True))
    yield Seed("restarts", written(image, "JPEG", restart_marker_blocks=4))
    yield Seed("several", written(image, "MPO", save_all=True, append_images=[image.rotate(90)]))
    told = written(image, "JPEG", exif=exif(), xmp=xmp(), icc_profile=icc(), comment="what the neighbours brought")
    records = b"".join(b"\x1c\x02" + struct.pack(">BH", kind, 5) + b"fruit" for kind in (25, 120))
    block = b"Photoshop 3.0\x008BIM\x04\x04\x00\x00" + struct.pack(">I", len(records)) + records
    yield Seed("told", told[:2] + b"\xff\xed" + struct.pack(">H", len(block) + 2) + block + told[2:])


def png_seeds(image: Image.Image) -> Iterator[Seed]:
    small = image.quantize(16)
    for mode in ("1", "L", "LA", "RGB"):
        yield Seed(mode.lower(), written(image.convert(mode), "PNG"))
    yield Seed("rgba", written(faded(image), "PNG"))
    yield Seed("grey16", written(deep(image), "PNG"))
    yield Seed("palette", written(small, "PNG", bits=4))
    yield Seed("palette-clear", written(small, "PNG", transparency=bytes(range(0, 256, 16))))
    yield Seed("rgb-clear", written(image, "PNG", transparency=image.getpixel((0, 0))))
    yield Seed("animated", written(image, "PNG", save_all=True, append_images=[image.rotate(90), small.convert("RGB")]))
    told = PngInfo()
    told.add_text("Description", "left over")
    told.add_text("Comment", "left over " * 9, zip=True)
    told.add_itxt("XML:com.adobe.xmp", xmp().decode(), zip=True)
    yield Seed("told", written(image, "PNG", pnginfo=told, exif=exif(), icc_profile=icc(), dpi=(72, 72)))
    pixels = np.asarray(image)
    yield Seed("interlaced", png(pixels, is_interlaced=True))
    yield Seed("rgb16", png(pixels.astype(">u2") * 257))
    yield Seed("rgb16-interlaced", png(pixels.astype(">u2") * 257, is_interlaced=True))


# Of each pass of Adam7: first row, first column, rows apart, columns apart.
ADAM7 = ((0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1))


def png(pixels: np.ndarray, *, is_interlaced: bool = False) -> bytes:
    """An RGB PNG of 8 or 16 bits, as Pillow writes none."""
    height, width = pixels.shape[:2]
    passes = ADAM7 if is_interlaced else ((0, 0, 1, 1),)
    rows = (row for top, left, down, right in passes for row in pixels[top::down, left::right])
    header = struct.pack(">IIBBBBB", width, height, 8 * pixels.itemsize, 2, 0, 0, is_interlaced)
    packed = zlib.compress(b"".join(b"\x00" + row.tobytes() for row in rows))
    half = len(packed) // 2 if is_interlaced and pixels.itemsize == 2 else len(packed)
    chunks = ((b"IHDR", header), (b"IDAT", packed[:half]), (b"IDAT", packed[half:]), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(png_chunk(kind, data) for kind, data in chunks)


def png_chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def webp_seeds(image: Image.Image) -> Iterator[Seed]:
    yield Seed("lossy", written(image, "WEBP", quality=60))
    yield Seed("lossless", written(image, "WEBP", lossless=True))
    yield Seed("alpha", written(faded(image), "WEBP", quality=60))
    yield Seed("alpha-lossless", written(faded(image), "WEBP", lossless=True))
    yield Seed("palette", written(image.quantize(16).convert("RGB"), "WEBP", lossless=True))
    yield Seed("animated", written(image, "WEBP", save_all=True, append_images=[image.rotate(90), faded(image)]))
    yield Seed("told", written(image, "WEBP", exif=exif(), xmp=xmp(), icc_profile=icc()))


def gif_seeds(image: Image.Image) -> Iterator[Seed]:
    palette = image.quantize(64)
    yield Seed("still", written(palette, "GIF"))
    yield Seed("plain", written(palette, "GIF", interlace=0, comment=b"left over"))
    yield Seed("grey", written(image.convert("L"), "GIF"))
    yield Seed("two-colours", written(image.convert("1"), "GIF"))
    yield Seed("clear", written(palette, "GIF", transparency=3))
    frames = [image.rotate(90).quantize(16), faded(image).quantize(32), image.convert("L")]
    yield Seed("animated", written(palette, "GIF", save_all=True, append_images=frames, duration=100, loop=0))
    yield Seed("disposed", written(palette, "GIF", save_all=True, append_images=frames, disposal=2, transparency=1))


def tiff_seeds(image: Image.Image) -> Iterator[Seed]:
    for compression in ("raw", "tiff_lzw", "tiff_adobe_deflate", "packbits", "jpeg", "zstd", "lzma"):
        with contextlib.suppress(OSError):  # not every libtiff has them all
            yield Seed(compression, written(image, "TIFF", compression=compression))
    for compression in ("group3", "group4", "tiff_ccitt"):
        yield Seed(compression, written(image.convert("1"), "TIFF", compression=compression))
    for mode in ("1", "L", "LA", "P", "CMYK", "YCbCr", "I", "F"):
        yield Seed(mode.lower(), written(image.convert(mode), "TIFF", compression="tiff_lzw"))
    yield Seed("rgba", written(faded(image), "TIFF", compression="packbits"))
    yield Seed("grey16", written(deep(image), "TIFF", compression="tiff_adobe_deflate"))
    yield Seed("ycc-jpeg", written(image.convert("YCbCr"), "TIFF", compression="jpeg"))
    yield Seed("pages", written(image, "TIFF", save_all=True, append_images=[image.rotate(90), image.convert("L")]))
    yield Seed("big", written(image, "TIFF", big_tiff=True))
    tags = Image.Exif()
    tags.load(exif())
    yield Seed("told", written(image, "TIFF", exif=tags, icc_profile=icc()))
    for order in "<>":
        for kind in ("strips", "tiles", "planes"):
            yield Seed(f"{kind}-{'little' if order == '<' else 'big'}", tiff(np.asarray(image), order, kind))
    yield Seed("rgb16-big", tiff(np.asarray(image).astype(np.uint16) * 257, ">", "strips"))
    yield Seed("tiles-deflate", tiff(np.asarray(image), "<", "tiles", pack=zlib.compress))


def tiff(pixels: np.ndarray, order: str, kind: str, pack: Callable[[bytes], bytes] = bytes) -> bytes:
    """An RGB TIFF in either byte order, cut into strips, tiles or planes, as Pillow writes none."""
    height, width = pixels.shape[:2]
    pieces = [pack(piece.astype(piece.dtype.newbyteorder(order)).tobytes()) for piece in _cut(pixels, kind)]
    bits = 8 * pixels.itemsize
    places = list(np.cumsum([8, *map(len, pieces)])[:-1].tolist())
    tags: dict[int, tuple[str, list[int]]] = {
        256: ("H", [width]),
        257: ("H", [height]),
        258: ("H", [bits] * 3),
        259: ("H", [1 if pack is bytes else 8]),
        262: ("H", [2]),
        277: ("H", [3]),
        284: ("H", [2 if kind == "planes" else 1]),
    }
    if kind == "tiles":
        tags |= {322: ("H", [64]), 323: ("H", [64]), 324: ("I", places), 325: ("I", list(map(len, pieces)))}
    else:
        tags |= {273: ("I", places), 278: ("H", [16 if kind == "strips" else height])}
        tags |= {279: ("I", list(map(len, pieces)))}
    body = b"".join(pieces)
    directory = struct.pack(f"{order}H", len(tags))
    for tag, (form, values) in sorted(tags.items()):
        value = struct.pack(f"{order}{len(values)}{form}", *values)
        if len(value) > 4:
            body, value = body + value, struct.pack(f"{order}I", 8 + len(body))
        directory += struct.pack(f"{order}HHI4s", tag, 3 if form == "H" else 4, len(values), value)
    start = b"II*\x00" if order == "<" else b"MM\x00*"
    return start + struct.pack(f"{order}I", 8 + len(body)) + body + directory + bytes(4)


def _cut(pixels: np.ndarray, kind: str) -> Iterator[np.ndarray]:
    height, width = pixels.shape[:2]
    if kind == "planes":
        yield from (pixels[:, :, band] for band in range(3))
    elif kind == "strips":
        yield from (pixels[top : top + 16] for top in range(0, height, 16))
    else:
        whole = np.pad(pixels, ((0, -height % 64), (0, -width % 64), (0, 0)))
        yield from (whole[y : y + 64, x : x + 64] for y in range(0, height, 64) for x in range(0, width, 64))


def heic_seeds(image: Image.Image) -> Iterator[Seed]:
    yield Seed("plain", written(image, "HEIF", quality=50))
    yield Seed("grey", written(image.convert("L"), "HEIF", quality=50))
    yield Seed("alpha", written(faded(image), "HEIF", quality=50))
    yield Seed("full-colour", written(image, "HEIF", quality=80, chroma="444"))
    yield Seed("lossless", written(image.resize((96, 72)), "HEIF", quality=-1))
    yield Seed("several", written(image, "HEIF", save_all=True, append_images=[image.rotate(90), image.convert("L")]))
    yield Seed("told", written(image, "HEIF", quality=50, exif=exif(), xmp=xmp(), icc_profile=icc()))
    wide = (np.asarray(image).astype(np.uint16) * 257).tobytes()
    buffer = io.BytesIO()
    pillow_heif.from_bytes(mode="RGB;16", size=image.size, data=wide).save(buffer, quality=50)
    yield Seed("deep", buffer.getvalue())


def avif_seeds(image: Image.Image) -> Iterator[Seed]:
    fast = {"quality": 50, "speed": 9}
    yield Seed("plain", written(image, "AVIF", **fast))
    yield Seed("grey", written(image, "AVIF", subsampling="4:0:0", **fast))
    yield Seed("full-colour", written(image, "AVIF", subsampling="4:4:4", **fast))
    yield Seed("lossless", written(image.resize((96, 72)), "AVIF", quality=100, speed=9))
    yield Seed("alpha", written(faded(image), "AVIF", **fast))
    yield Seed("animated", written(image, "AVIF", save_all=True, append_images=[image.rotate(90)], **fast))
    yield Seed("told", written(image, "AVIF", exif=exif(), xmp=xmp(), icc_profile=icc(), **fast))


# What a file is built of


@dataclass(frozen=True)
class Field:
    """A number in a file."""

    place: int
    size: int
    order: str = "big"


@dataclass(frozen=True)
class Part:
    """A chunk, segment, box, block or directory entry."""

    start: int
    body: int
    end: int
    kind: Field
    length: Field


def get(data: bytearray, at: Field) -> int:
    """The number there; what lies beyond the end counts as zero."""
    return int.from_bytes(data[at.place : at.place + at.size].ljust(at.size, b"\x00"), at.order)  # type: ignore[arg-type]


def put(data: bytearray, at: Field, value: int) -> None:
    """Write what fits of the number, unless it would lie beyond the end."""
    if 0 <= at.place <= len(data) - at.size:
        number = value % (1 << (8 * at.size))
        data[at.place : at.place + at.size] = number.to_bytes(at.size, at.order)  # type: ignore[arg-type]


def jpeg_parts(data: bytearray) -> Iterator[Part]:
    for match in re.finditer(rb"\xff[\xc0-\xcf\xda-\xfe]", data):
        at = match.start()
        length = Field(at + 2, 2)
        yield Part(at, at + 4, at + 2 + get(data, length), Field(at + 1, 1), length)


def png_parts(data: bytearray) -> Iterator[Part]:
    at = 8
    while at + 12 <= len(data):
        length = Field(at, 4)
        end = at + 12 + get(data, length)
        yield Part(at, at + 8, end, Field(at + 4, 4), length)
        at = end


def png_mended(data: bytearray) -> None:
    """With checksums that hold, so that the damage is not noticed at once."""
    for part in list(png_parts(data)):
        put(data, Field(part.end - 4, 4), zlib.crc32(data[part.start + 4 : part.end - 4]))


def riff_parts(data: bytearray) -> Iterator[Part]:
    yield Part(0, 8, len(data), Field(8, 4), Field(4, 4, "little"))
    yield from _riff_parts(data, 12, len(data))


def _riff_parts(data: bytearray, at: int, end: int) -> Iterator[Part]:
    while at + 8 <= end:
        length = Field(at + 4, 4, "little")
        after = at + 8 + get(data, length) + get(data, length) % 2
        yield Part(at, at + 8, after, Field(at, 4), length)
        if data[at : at + 4] == b"ANMF":
            yield from _riff_parts(data, at + 24, min(after, end))
        at = after


def gif_parts(data: bytearray) -> Iterator[Part]:
    at = 13 + _gif_palette(data, 10)
    yield Part(6, 6, 13, Field(10, 1), Field(6, 2, "little"))
    while at < len(data) and data[at] in b"\x21\x2c":
        blocks = at + 2 if data[at] == 0x21 else at + 11 + _gif_palette(data, at + 9)
        end = blocks
        while size := get(data, Field(end, 1)):
            end += 1 + size
        yield Part(at, at + 1, end + 1, Field(at, 1), Field(blocks, 1))
        at = end + 1


def _gif_palette(data: bytearray, at: int) -> int:
    flags = get(data, Field(at, 1))
    return 3 << ((flags & 7) + 1) if flags & 0x80 else 0


def tiff_parts(data: bytearray, base: int = 0) -> Iterator[Part]:
    """The entries of all directories."""
    order = "big" if data[base : base + 2] == b"MM" else "little"
    for at in tiff_directories(data, base):
        is_big, count = _tiff_form(data, base, at)
        for number in range(min(count, 64)):
            entry = at + (8 + 20 * number if is_big else 2 + 12 * number)
            body, end = (entry + 12, entry + 20) if is_big else (entry + 8, entry + 12)
            yield Part(entry, body, end, Field(entry, 2, order), Field(entry + 4, body - entry - 4, order))


def tiff_directories(data: bytearray, base: int) -> list[int]:
    """Where they begin: those that follow each other and those of EXIF, GPS and sub-pictures."""
    order = "big" if data[base : base + 2] == b"MM" else "little"
    is_big, _ = _tiff_form(data, base, base)
    size = 8 if is_big else 4
    found: list[int] = []
    waiting = [get(data, Field(base + size, size, order))]
    while waiting and len(found) < 16:
        at = base + waiting.pop()
        if at in found or not base < at < len(data) - 2:
            continue
        found.append(at)
        _, count = _tiff_form(data, base, at)
        for number in range(min(count, 64)):
            entry = at + (8 + 20 * number if is_big else 2 + 12 * number)
            if get(data, Field(entry, 2, order)) in (0x8769, 0x8825, 0x014A):
                waiting.append(get(data, Field(entry + (12 if is_big else 8), size, order)))
        waiting.append(get(data, _tiff_next(data, base, at)))
    return found


def _tiff_form(data: bytearray, base: int, at: int) -> tuple[bool, int]:
    """Whether it is a BigTIFF, and how many entries the directory has."""
    order = "big" if data[base : base + 2] == b"MM" else "little"
    is_big = get(data, Field(base + 2, 2, order)) == 43
    return is_big, get(data, Field(at, 8 if is_big else 2, order))


def _tiff_next(data: bytearray, base: int, at: int) -> Field:
    order = "big" if data[base : base + 2] == b"MM" else "little"
    is_big, count = _tiff_form(data, base, at)
    return Field(at + 8 + 20 * count, 8, order) if is_big else Field(at + 2 + 12 * count, 4, order)


# Boxes that hold boxes, and how many bytes come before those.
BOXES_WITHIN = {b"meta": 4, b"iprp": 0, b"ipco": 0, b"iinf": 6, b"iref": 4, b"moov": 0, b"trak": 0, b"mdia": 0}
BOXES_WITHIN |= {b"minf": 0, b"stbl": 0, b"stsd": 8, b"dinf": 0, b"grpl": 0}


def box_parts(data: bytearray, at: int = 0, end: int | None = None) -> Iterator[Part]:
    end = len(data) if end is None else min(end, len(data))
    while at + 8 <= end:
        length = Field(at, 4)
        after = at + max(8, get(data, length) or end - at)
        yield Part(at, at + 8, after, Field(at + 4, 4), length)
        kind = bytes(data[at + 4 : at + 8])
        if kind in BOXES_WITHIN:
            yield from box_parts(data, at + 8 + BOXES_WITHIN[kind], after)
        at = after


# Damage: each takes a file's bytes, a generator, and another file of the format, and changes the bytes in place


Damage = Callable[[bytearray, random.Random, bytes], None]

EXTREMES = (0, 1, 2, 3, 0x7F, 0x80, 0xFF, 0x100, 1_000, 0x7FFF, 0x8000, 20_000, 65_500, 0xFFFF, 0x1_0000, 0xFF_FFFF)
EXTREMES += (0x7FFF_FFFF, 0x8000_0000, 0xFFFF_FFF0, 0xFFFF_FFFF)


def _place(data: bytearray, generator: random.Random) -> int:
    """Often in the header, where most decisions are made."""
    return generator.randrange(max(1, min(len(data), 512 if generator.random() < 0.3 else len(data))))


def _block(data: bytearray, generator: random.Random) -> slice:
    start = _place(data, generator)
    return slice(start, start + int(2 ** generator.uniform(0, 12)))


def bits(data: bytearray, generator: random.Random, other: bytes) -> None:
    for _ in range(generator.choice((1, 1, 2, 4, 8))):
        data[_place(data, generator)] ^= 1 << generator.randrange(8)


def many_bits(data: bytearray, generator: random.Random, other: bytes) -> None:
    for _ in range(max(1, int(len(data) * generator.choice((0.001, 0.01, 0.05))))):
        data[generator.randrange(len(data))] ^= 1 << generator.randrange(8)


def header_bits(data: bytearray, generator: random.Random, other: bytes) -> None:
    for _ in range(generator.choice((1, 2, 3))):
        data[generator.randrange(min(len(data), 64))] ^= 1 << generator.randrange(8)


def wiped(data: bytearray, generator: random.Random, other: bytes) -> None:
    start = _place(data, generator)
    count = min(generator.choice((1, 1, 2, 4, 16, 64, 512)), len(data) - start)
    data[start : start + count] = bytes([generator.choice((0, 0x7F, 0xFF))]) * count


def numbers(data: bytearray, generator: random.Random, other: bytes) -> None:
    for _ in range(generator.choice((1, 1, 2))):
        at = Field(_place(data, generator), generator.choice((2, 4)), generator.choice(("big", "little")))
        put(data, at, generator.choice(EXTREMES))


def cut(data: bytearray, generator: random.Random, other: bytes) -> None:
    share = generator.choice((generator.random(), generator.uniform(0.9, 1), generator.random() ** 4))
    del data[int(len(data) * share) :]


def deleted(data: bytearray, generator: random.Random, other: bytes) -> None:
    del data[_block(data, generator)]


def doubled(data: bytearray, generator: random.Random, other: bytes) -> None:
    block = _block(data, generator)
    data[block.start : block.start] = data[block] * generator.choice((1, 1, 2, 8))


def swapped(data: bytearray, generator: random.Random, other: bytes) -> None:
    one, two = _block(data, generator), _place(data, generator)
    size = len(data[one])
    there = slice(two, two + size)
    data[one], data[there] = data[there], data[one]


def spliced(data: bytearray, generator: random.Random, other: bytes) -> None:
    at = _place(data, generator)
    if generator.random() < 0.5:
        data[at:] = other[at:]
    else:
        start = generator.randrange(len(other))
        piece = other[start : start + generator.choice((8, 64, 512, 4096))]
        data[at : at + len(piece)] = piece


def lengthened(data: bytearray, generator: random.Random, other: bytes) -> None:
    garbage = generator.choice((generator.randbytes(generator.randrange(1, 4096)), other, b"\x00" * 512))
    at = len(data) if generator.random() < 0.7 else _place(data, generator)
    data[at:at] = garbage


def exif_numbers(data: bytearray, generator: random.Random, other: bytes) -> None:
    """Offsets, counts, types and tags of the TIFF directories that the file holds or is."""
    bases = [match.start() for match in re.finditer(rb"II[*+]\x00|MM\x00[*+]", data)]
    if not bases:
        return
    base = generator.choice(bases)
    parts, directories = list(tiff_parts(data, base)), tiff_directories(data, base)
    if not parts:
        return
    for _ in range(generator.choice((1, 1, 2, 4))):
        part = generator.choice(parts)
        order = part.kind.order
        value = Field(part.body, part.end - part.body, order)
        match generator.randrange(7):
            case 0:
                put(data, part.length, generator.choice(EXTREMES))
            case 1:
                put(data, value, generator.choice((*EXTREMES, len(data) - base, part.start - base)))
            case 2:
                put(data, Field(part.start + 2, 2, order), generator.randrange(20))
            case 3:
                put(data, part.kind, get(data, generator.choice(parts).kind))
            case 4:
                put(data, _tiff_next(data, base, generator.choice(directories)), generator.choice(directories) - base)
            case 5:
                put(data, value, generator.choice(directories) - base)
            case 6:
                put(data, Field(generator.choice(directories), 2, order), generator.choice(EXTREMES))


def jpeg_tables(data: bytearray, generator: random.Random, other: bytes) -> None:
    """Sizes and sampling in the frame header, Huffman and quantisation tables."""
    parts = [part for part in jpeg_parts(data) if get(data, part.kind) in (*range(0xC0, 0xD0), 0xDA, 0xDB, 0xDD)]
    for _ in range(generator.choice((1, 2))):
        if parts:
            part = generator.choice(parts)
            at = Field(part.body + generator.randrange(20), generator.choice((1, 1, 2)))
            put(data, at, generator.choice((*EXTREMES, generator.randrange(256))))


def png_header(data: bytearray, generator: random.Random, other: bytes) -> None:
    """Width, height, depth, colours, interlacing: under a checksum that holds."""
    sensible = (0, 1, 2, 3, 4, 6, 8, 16)
    match generator.randrange(4):
        case 0:
            put(data, Field(generator.choice((16, 20)), 4), generator.choice((*EXTREMES, 97, 100, 128, 3_000)))
        case 1:
            put(data, Field(24, 2), 256 * generator.choice(sensible) + generator.choice(sensible))
        case 2:
            put(data, Field(28, 1), generator.choice((0, 1, 2, 255)))
        case 3:
            put(data, Field(generator.randrange(16, 29), 1), generator.choice(EXTREMES))
    png_mended(data)


def png_pixels(data: bytearray, generator: random.Random, other: bytes) -> None:
    """Damage below the compression: in filters, rows and profiles."""
    parts = [part for part in png_parts(data) if data[part.kind.place : part.body] in (b"IDAT", b"iCCP", b"zTXt")]
    if not parts:
        return
    part = generator.choice(parts)
    lead = data.find(b"\x00", part.body) + 2 if data[part.kind.place : part.body] != b"IDAT" else part.body
    with contextlib.suppress(zlib.error, IndexError):
        plain = bytearray(zlib.decompressobj().decompress(data[lead : part.end - 4]))
        if plain:
            generator.choice((bits, bits, many_bits, wiped, cut, deleted, doubled, numbers))(plain, generator, other)
        kind = bytes(data[part.kind.place : part.body])
        data[part.start : part.end] = png_chunk(kind, bytes(data[part.body : lead]) + zlib.compress(plain))


def gif_screen(data: bytearray, generator: random.Random, other: bytes) -> None:
    """Sizes and places of the screen and of frames, palettes' sizes, the width of a code."""
    parts = list(gif_parts(data))
    part = generator.choice(parts)
    if part.start == 6:
        put(data, Field(6 + generator.randrange(7), generator.choice((1, 2)), "little"), generator.choice(EXTREMES))
    else:
        put(data, Field(part.start + generator.randrange(12), 2, "little"), generator.choice(EXTREMES))
        if generator.random() < 0.3:
            put(data, Field(part.length.place - 1, 1), generator.randrange(16))


def parts_of(walk: Callable[[bytearray], Iterator[Part]]) -> Damage:
    """Damage to the parts that a format is built of: lost, doubled, in another order, of a wrong length or kind."""

    def parts(data: bytearray, generator: random.Random, other: bytes) -> None:
        found = [part for part in walk(data) if part.start < len(data)]
        if not found:
            return
        one, two = generator.choice(found), generator.choice(found)
        match generator.randrange(9):
            case 0:
                put(data, one.length, generator.choice(EXTREMES))
            case 1:
                put(data, one.length, get(data, one.length) + generator.choice((-8, -4, -2, -1, 1, 2, 4, 8, 256)))
            case 2:
                put(data, one.kind, get(data, two.kind))
            case 3:
                put(data, one.kind, generator.getrandbits(8 * one.kind.size))
            case 4:
                del data[one.start : one.end]
            case 5:
                data[two.start : two.start] = data[one.start : one.end]
            case 6:
                first, second = sorted((one, two), key=lambda part: part.start)
                if first.end <= second.start:
                    middle = data[second.start : second.end] + data[first.end : second.start]
                    data[first.start : second.end] = middle + data[first.start : first.end]
            case _:
                for _ in range(generator.choice((1, 1, 2, 3))):
                    at = one.body + generator.randrange(max(1, min(one.end - one.body, 40)))
                    at_field = Field(at, generator.choice((1, 2, 4)), one.length.order)
                    put(data, at_field, generator.choice((*EXTREMES, generator.randrange(256))))

    return parts


def png_parts_mended(data: bytearray, generator: random.Random, other: bytes) -> None:
    parts_of(png_parts)(data, generator, other)
    if generator.random() < 0.9:
        png_mended(data)


def riff_parts_mended(data: bytearray, generator: random.Random, other: bytes) -> None:
    parts_of(riff_parts)(data, generator, other)
    if generator.random() < 0.6:
        put(data, Field(4, 4, "little"), len(data) - 8)


def boxes_hidden(data: bytearray, generator: random.Random, other: bytes) -> None:
    """A box gone or another one's, without moving any byte that an offset points to."""
    found = list(box_parts(data))
    if not found:
        return
    one, two = generator.choice(found), generator.choice(found)
    if generator.random() < 0.5:
        put(data, one.kind, int.from_bytes(b"free", "big"))
    elif one.end - one.start == two.end - two.start:
        data[one.start : one.end], data[two.start : two.end] = data[two.start : two.end], data[one.start : one.end]
    else:
        size = min(one.end - one.body, two.end - two.body)
        data[one.body : one.body + size] = data[two.body : two.body + size]


# Mostly lightly, so that many can still be decoded: what comes out of those is checked, too.
ANYWHERE: tuple[Damage, ...] = (bits, bits, bits, bits, wiped, wiped, numbers, numbers, swapped, swapped, lengthened)
ANYWHERE += (lengthened, spliced, many_bits, header_bits, cut, deleted, doubled)


@dataclass(frozen=True)
class Format:
    name: str
    """As people call it."""
    endings: tuple[str, ...]
    seeds: Callable[[Image.Image], Iterator[Seed]]
    damages: tuple[Damage, ...]
    """Those that know what it is built of."""


FORMATS = (
    Format("JPEG", (".jpg", ".jpeg"), jpeg_seeds, (parts_of(jpeg_parts), jpeg_tables, jpeg_tables, exif_numbers)),
    Format("PNG", (".png",), png_seeds, (png_parts_mended, png_header, *[png_pixels] * 4, exif_numbers)),
    Format("WebP", (".webp",), webp_seeds, (riff_parts_mended, riff_parts_mended, riff_parts_mended, exif_numbers)),
    Format("GIF", (".gif",), gif_seeds, (parts_of(gif_parts), gif_screen)),
    Format("TIFF", (".tif", ".tiff"), tiff_seeds, (parts_of(tiff_parts), exif_numbers, exif_numbers)),
    Format("HEIC", (".heic", ".heif"), heic_seeds, (parts_of(box_parts), parts_of(box_parts), boxes_hidden)),
    Format("AVIF", (".avif",), avif_seeds, (parts_of(box_parts), parts_of(box_parts), boxes_hidden)),
)
STRANGE_ENDINGS = (".jpg", ".png", ".webp", ".tif", ".heic", ".bmp", ".dng", ".dat", "")


def seeds_of(wanted: Format, folder: Path | None) -> list[Seed]:
    found = [seed for image in pictures() for seed in wanted.seeds(image)]
    given = [path for path in sorted(folder.rglob("*")) if path.suffix.lower() in wanted.endings] if folder else []
    return found + [Seed("given", path.read_bytes()) for path in given if 64 < path.stat().st_size <= MAX_SEED_BYTES]


def damaged(wanted: Format, seeds: Sequence[Seed], number: int, seed: int) -> tuple[str, bytes]:
    """Name and bytes of the so-manieth file of a format."""
    generator = random.Random(f"{seed} {wanted.name} {number}")
    chosen, other = generator.choice(seeds), generator.choice(seeds).data
    data = bytearray(chosen.data)
    names: list[str] = []
    many = generator.choice((1, 1, 1, 1, 1, 1, 2, 2, 3, 5))
    while data == chosen.data or (len(names) < many and len(data) > 64):
        damage = generator.choice(ANYWHERE if generator.random() < 0.5 else wanted.damages)
        damage(data, generator, other)
        names.append(damage.__name__.removesuffix("_mended"))
    ending = generator.choice(wanted.endings if generator.random() < 0.97 else STRANGE_ENDINGS)
    return f"{number:05}-{chosen.flavour}-{'+'.join(names)}"[:200] + ending, bytes(data)


def plant(photos: Path, wanted: Format, count: int, seed: int, given: Path | None) -> None:
    """Write `count` damaged files to photos/FORMAT, in a few folders."""
    seeds = seeds_of(wanted, given)
    for number in range(count):
        folder = photos / wanted.name / str(number % FOLDERS)
        folder.mkdir(parents=True, exist_ok=True)
        name, data = damaged(wanted, seeds, number, seed)
        (folder / name).write_bytes(data)


# One run of the command


@dataclass
class Run:
    """What an `index` did, seen from outside."""

    code: int | None = None
    """None: it was still running when the time was up."""
    events: list[tuple[float, dict[str, Any]]] = field(default_factory=list)
    """Each with the second it came."""
    stderr: str = ""
    seconds: float = 0.0
    peak_bytes: int = 0
    """Of the main process, where the system tells."""
    strays: list[int] = field(default_factory=list)
    odd: list[bytes] = field(default_factory=list)
    """Lines of its output that are no JSON."""

    def of(self, kind: str) -> list[dict[str, Any]]:
        return [record for _, record in self.events if record["event"] == kind]

    def results(self) -> list[tuple[float, dict[str, Any]]]:
        return [(at, record) for at, record in self.events if record["event"] in RESULTS]

    @property
    def summary(self) -> dict[str, Any]:
        last: dict[str, Any] = self.events[-1][1] if self.events else {}
        return last if last.get("event") == "done" else {}

    def last(self) -> str:
        """The file whose result came last, near to the one that ended a run that did not end well."""
        results = self.results()
        return path_of(results[-1][1]) if results else "no file"

    def silence(self) -> tuple[float, str]:
        """The longest time without a result, and the file that ended it."""
        gaps = [(later - at, path_of(record)) for (at, _), (later, record) in itertools.pairwise(self.results())]
        return max(gaps, default=(0.0, ""))


def path_of(record: dict[str, Any]) -> str:
    if "path_b64" in record:
        return os.fsdecode(base64.b64decode(record["path_b64"]))
    path: str = record["path"]
    return path


def indexed(photos: Path, work: Path, limit: float) -> Run:
    """Run `imgsearch index` to its end, or until it must be taken for hanging."""
    run, mark = Run(), uuid.uuid4().hex
    options = ["--model", "builtin", "--json", "--time-limit", str(TIME_LIMIT_SECONDS), "--index", str(work / "index")]
    started = time.monotonic()
    with open(work / "stderr", "w+b") as stderr:
        process = subprocess.Popen(
            [*PROGRAM, "index", str(photos), *options],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=stderr,
            start_new_session=True,
            env=environment(work) | {MARK: mark},
        )
        reader = threading.Thread(target=_read, args=(process, run, started), daemon=True)
        reader.start()
        try:
            while process.poll() is None and time.monotonic() - started < limit:
                run.peak_bytes = max(run.peak_bytes, _peak(process.pid))
                time.sleep(0.05)
            run.code = process.poll()
            run.seconds = time.monotonic() - started
            run.strays = strays(mark) if run.code is not None else []
        finally:
            for number in {process.pid, *processes(mark)} if run.code is None or run.strays else ():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(number, signal.SIGKILL)
            process.wait()
        reader.join(10)
        stderr.seek(0)
        run.stderr = stderr.read().decode("utf-8", "replace")
    return run


def environment(work: Path) -> dict[str, str]:
    """Nothing of the person who runs this is read or written, and nothing is fetched."""
    kept = {name: value for name, value in os.environ.items() if name != "IMGSEARCH_INDEX"}
    homes = {"HF_HOME": "hub", "XDG_CACHE_HOME": "cache", "XDG_DATA_HOME": "data"}
    return kept | {"HF_HUB_OFFLINE": "1"} | {name: str(work / folder) for name, folder in homes.items()}


def _read(process: subprocess.Popen[bytes], run: Run, started: float) -> None:
    assert process.stdout is not None
    for line in process.stdout:
        try:
            record = json.loads(line)
            run.events.append((time.monotonic() - started, {**record, "event": record["event"]}))
        except (ValueError, TypeError, KeyError):
            run.odd.append(line)


def _peak(process: int) -> int:
    """The most memory it ever had, in bytes (Linux only)."""
    with contextlib.suppress(OSError, ValueError), open(f"/proc/{process}/status", encoding="ascii") as file:
        return next((int(line.split()[1]) * 1024 for line in file if line.startswith("VmHWM:")), 0)
    return 0


def processes(mark: str) -> list[int]:
    """Ids of what is alive of a run (Linux only)."""
    found = []
    for name in os.listdir("/proc") if os.path.isdir("/proc/self") else ():
        with contextlib.suppress(OSError):
            if name.isdigit() and mark.encode() in Path(f"/proc/{name}/environ").read_bytes():
                found.append(int(name))
    return found


def strays(mark: str) -> list[int]:
    """What outlives a run by more than a moment."""
    until = time.monotonic() + STRAY_SECONDS
    while (alive := processes(mark)) and time.monotonic() < until:
        time.sleep(0.05)
    return alive


# What must hold


class Trial:
    """A folder of damaged pictures, indexed twice and looked at; `complaints` are the promises that were broken."""

    def __init__(self, work: Path) -> None:
        self.work = work
        self.photos = work / "photos"
        self.complaints: list[str] = []
        self.first, self.second = Run(), Run()
        self.took: list[tuple[float, str, str]] = []
        """(seconds, relpath, what came of it) of a single read, by a process of its own."""
        self.compared = 0

    def require(self, holds: object, message: str) -> None:
        if not holds:
            self.complaints.append(message)

    def run(self) -> None:
        files = {str(path) for path in self.photos.rglob("*") if path.is_file()}
        limit = SECONDS_A_RUN + SECONDS_A_FILE * len(files)
        self.first = indexed(self.photos, self.work, limit)
        self.check_run(self.first, "first run", (0, 3))
        if self.first.code not in (0, 3):
            return
        self.check_first(files)
        self.check_reasons()
        self.check_catalogue(files)
        self.check_vectors(files)
        self.second = indexed(self.photos, self.work, limit)
        self.check_run(self.second, "second run", (3,) if self.second.of("skipped") else (0,))
        self.check_second(files)

    def check_run(self, run: Run, name: str, codes: Sequence[int]) -> None:
        self.require(run.code is not None, f"{name}: a hang: still running after {run.seconds:.0f} s")
        self.require(run.code in (None, *codes), f"{name}: exit {run.code} after {run.last()}: {run.stderr[-1500:]}")
        self.require(not run.odd, f"{name}: its output holds {run.odd[:1]}")
        self.require(not run.strays, f"{name}: processes outlive it by more than {STRAY_SECONDS:g} s: {run.strays}")
        unclean = [line for line in run.stderr.splitlines() if not line.startswith("imgsearch: ")]
        self.require(not unclean, f"{name}: on stderr: {unclean[:3]}")

    def check_first(self, files: set[str]) -> None:
        """Every file came out once, and the summary adds up."""
        counts = Counter(path_of(record) for kind in RESULTS for record in self.first.of(kind))
        for path in sorted(files ^ counts.keys()):
            self.complaints.append(f"{'never came out' if path in files else 'came from nowhere'}: {path!r}")
        for path in [path for path, count in counts.items() if count > 1]:
            self.complaints.append(f"came out {counts[path]} times: {path!r}")
        told, run = self.first.summary, self.first
        self.require(told.get("found") == len(files), f"found {told.get('found')} files of {len(files)}")
        sums = {"photo": ("new", "reused", "changed"), "skipped": ("skipped",), "passed": ("passed_over",)}
        for kind, keys in sums.items():
            number = sum(told.get(key, 0) for key in keys)
            self.require(number == len(run.of(kind)), f"the summary counts {number} as {kind}, not {len(run.of(kind))}")
        left = {key: told.get(key) for key in ("changed", "unchanged", "known_failures", "gone", "excluded")}
        self.require(not any(left.values()), f"a first run, and yet {left}")
        self.require((run.code == 3) == bool(run.of("skipped")), f"exit {run.code}, {len(run.of('skipped'))} skipped")

    def check_reasons(self) -> None:
        """A reason is one clean line for a person."""
        for record in self.first.of("skipped"):
            reason, stage = record.get("reason", ""), record.get("stage")
            is_clean = 0 < len(reason) <= MAX_REASON_CHARACTERS and reason.isprintable() and reason == reason.strip()
            is_plain = not re.search(r"0x[0-9a-f]{6,}|object at|Traceback", reason, re.IGNORECASE)
            is_known = stage in ("read", "memory", "decode")
            self.require(is_clean and is_plain and is_known, f"{stage}: {reason!r}: {path_of(record)!r}")

    def check_catalogue(self, files: set[str]) -> None:
        """The index holds each file as a photo or a failure, as it was reported."""
        with Store.open(str(self.work / "index")) as store:
            rows = store.catalog.rows
            photos = {join(*row) for row in rows("select folder, name from photos where state = 'present'")}
            failures = {join(*row) for row in rows("select folder, name from failures")}
        for name, told, found in (
            ("photos", self.first.of("photo"), photos),
            ("failures", self.first.of("skipped") + self.first.of("passed"), failures),
        ):
            differing = sorted({os.path.relpath(path_of(record), self.photos) for record in told} ^ found)
            self.require(not differing, f"reported and kept {name} differ, such as {differing[:3]}")

    def check_second(self, files: set[str]) -> None:
        """Nothing is tried again but what may go away by itself, and told again only if for another reason."""
        may = {path_of(record) for record in self.first.of("skipped") if record["stage"] in RETRIED_STAGES}
        again = {path_of(record) for kind in RESULTS for record in self.second.of(kind)}
        self.require(not again - may, f"second run: reads again {sorted(again - may)[:3]}")
        planned = sum(record["count"] for record in self.second.of("planned"))
        self.require(planned == len(may), f"second run: reads {planned} files, not {len(may)}")
        told = self.second.summary
        kinds = ("unchanged", "known_failures", "passed_over", "new", "reused", "skipped")
        known = sum(told.get(key, 0) for key in kinds)
        self.require(known == told.get("found") == len(files), f"second run: {told} of {len(files)} files")

    # vectors

    def check_vectors(self, files: set[str]) -> None:
        """Read every file once more, one by one: it must come out the same, a photo with the vector of its pixels."""
        model = loading.load(registry.parse("builtin"), device="cpu")
        stored, rows = self.stored()
        squares: list[tuple[str, Any]] = []
        with DecodePool(1, seconds=TIME_LIMIT_SECONDS) as workers:
            _read_alone(workers, ALBUM, f"{SOURCES[0]}.jpg", model)  # so that no file's time is that of a start
            for relpath, came_first in self.outcomes(files).items():
                started = time.monotonic()
                came, square = _read_alone(workers, self.photos, relpath, model)
                self.took.append((time.monotonic() - started, relpath, came))
                self.require(came == came_first, f"{came_first!r} at first, then {came!r}: {relpath!r}")
                if square is not None:
                    squares.append((relpath, square))
                if len(squares) >= COMPARED_TOGETHER:
                    self.compare(squares, stored, rows, model)
                    squares.clear()
        self.compare(squares, stored, rows, model)

    def outcomes(self, files: set[str]) -> dict[str, str]:
        """What came of every file, but of those that may come out otherwise another time."""
        found = {path_of(record): record.get("reason", record["event"]) for _, record in self.first.results()}
        fickle = {path_of(record) for record in self.first.of("skipped") if is_fickle(record)}
        return {os.path.relpath(path, self.photos): found[path] for path in sorted(files & found.keys() - fickle)}

    def stored(self) -> tuple[dict[str, bytes], dict[bytes, np.ndarray]]:
        """Content hash by relpath, and vector by content hash."""
        with Store.open(str(self.work / "index")) as store:
            hashes = {
                join(*row[:2]): row[2] for row in store.catalog.rows("select folder, name, content_hash from photos")
            }
            if not hashes:
                return {}, {}
            matrix = np.array(store.view().rows)
            named = store.catalog.rows("select slot, key from vectors where modality = 'image'")
        return hashes, {key: matrix[slot] for slot, key in named}

    def compare(
        self, squares: list[tuple[str, Any]], stored: dict[str, bytes], rows: dict[bytes, np.ndarray], model: Any
    ) -> None:
        if not squares:
            return
        vectors = model.embed_images(np.stack([square for _, square in squares]))
        for (relpath, _), vector in zip(squares, vectors, strict=True):
            digest = hashlib.sha256((self.photos / relpath).read_bytes()).digest()
            if stored.get(relpath) != digest:
                self.complaints.append(f"the hash of other bytes: {relpath!r}")
            elif digest not in rows:
                self.complaints.append(f"no vector: {relpath!r}")
            elif (apart := float(np.abs(rows[digest] - vector).max())) > FARTHEST:
                self.complaints.append(f"a vector {apart:.2g} from its own: {relpath!r}")
            else:
                self.compared += 1


def _read_alone(workers: DecodePool, root: Path, relpath: str, model: Any) -> tuple[str, Any]:
    """What comes of a file, as a run reports it, and its square."""
    photo = Photo(str(root), relpath, os.path.getsize(root / relpath), 0, 0)
    try:
        read = workers.read(photo, model.recipe, draft_side=preprocess.draft_side(model.recipe))
    except NotAPicture:
        return "passed", None
    except SkipPhoto as skipped:
        return skipped.reason, None
    return "photo", read.square


# The table


@dataclass
class Row:
    name: str
    files: int = 0
    indexed: int = 0
    refused: int = 0
    passed: int = 0
    crashed: int = 0
    gave_up: int = 0
    memory: int = 0
    seconds: float | None = None
    peak_bytes: int = 0

    HEAD = "format   files  indexed  refused  passed  crashed  gave up  memory  seconds  main process"

    def __str__(self) -> str:
        seconds = "" if self.seconds is None else f"{self.seconds:.1f}"
        peak = f"{self.peak_bytes / 2**20:.0f} MB" if self.peak_bytes else ""
        return (
            f"{self.name:7} {self.files:6} {self.indexed:8} {self.refused:8} {self.passed:7} {self.crashed:8} "
            f"{self.gave_up:8} {self.memory:7} {seconds:>8} {peak:>13}"
        )


def row_of(name: str, run: Run, photos: Path) -> Row:
    """What came of the files of one format. What crashed or was given up is counted there only."""
    row = Row(name)
    for kind in RESULTS:
        for record in run.of(kind):
            if Path(path_of(record)).relative_to(photos).parts[0] == name:
                row.files += 1
                setattr(row, outcome(record), getattr(row, outcome(record)) + 1)
    return row


def outcome(record: dict[str, Any]) -> str:
    if record["event"] != "skipped":
        return "indexed" if record["event"] == "photo" else "passed"
    if "crashed" in record["reason"]:
        return "crashed"
    if "given up" in record["reason"]:
        return "gave_up"
    return "memory" if record["stage"] == "memory" else "refused"


def is_fickle(record: dict[str, Any]) -> bool:
    """Whether it may come out otherwise another time: for want of time or memory, or by a stray pointer."""
    return outcome(record) in ("crashed", "gave_up", "memory") or record["stage"] in RETRIED_STAGES


def report(trial: Trial, names: Sequence[str]) -> None:
    rows = [row_of(name, trial.first, trial.photos) for name in names]
    last = rows[-1]
    if len(rows) > 1:
        last = Row("all", *(sum(getattr(row, key) for row in rows) for key in COUNTS))
        rows.append(last)
    last.seconds, last.peak_bytes = trial.first.seconds, trial.first.peak_bytes
    for row in rows:
        print(row, flush=True)


COUNTS = ("files", "indexed", "refused", "passed", "crashed", "gave_up", "memory")


def details(trial: Trial) -> None:
    """What the table only counts, by name."""
    name = "+".join(sorted(path.name for path in trial.photos.iterdir()))
    seconds, path = trial.first.silence()
    again = len(trial.second.of("photo")) + len(trial.second.of("skipped"))
    print(
        f"\n{name}: {trial.compared} vectors compared; longest silence {seconds:.1f} s, before {Path(path).name}; "
        f"second run {trial.second.seconds:.1f} s, {again} results"
    )
    for record in trial.first.of("skipped"):
        if is_fickle(record):
            print(f"  {record['reason']} ({record['stage']}): {os.path.relpath(path_of(record), trial.photos)}")
    for taken, relpath, came in sorted(trial.took, reverse=True)[:SLOWEST_SHOWN]:
        print(f"  {taken:.2f} s alone, {came}: {relpath}")


def keep(trial: Trial, there: Path) -> None:
    for record in trial.first.of("skipped"):
        if is_fickle(record):
            there.mkdir(exist_ok=True)
            shutil.copy(path_of(record), there)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=2_000, help="files of each format")
    parser.add_argument("--formats", default=",".join(each.name for each in FORMATS), help="comma-separated formats")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--together", action="store_true", help="all formats in one folder and one run")
    parser.add_argument("--seeds", type=Path, metavar="DIR", help="also damage the pictures of this folder")
    parser.add_argument("--keep", action="store_true", help="keep files whose decoder crashed or was stopped")
    arguments = parser.parse_args()
    names = arguments.formats.lower().split(",")
    chosen = [each for each in FORMATS if each.name.lower() in names]
    if len(chosen) != len(names) or arguments.count < 1:
        parser.error(f"formats are {', '.join(each.name for each in FORMATS)}; a count is 1 or more")
    pillow_heif.register_heif_opener()
    work = Path(tempfile.mkdtemp(prefix="imgsearch-fuzz-"))
    complaints = trials(work, arguments, [chosen] if arguments.together else [[each] for each in chosen])
    if (work / "kept").exists():
        print(f"\nkept: {work / 'kept'}")
    elif not complaints:
        work.rmdir()
    if complaints:
        print(f"\n{len(complaints)} broken promises, seed {arguments.seed}; the files are in {work}", file=sys.stderr)
        for complaint in complaints[:COMPLAINTS_SHOWN]:
            print(f"  {complaint.strip()}", file=sys.stderr)
        raise SystemExit(1)


def trials(work: Path, arguments: argparse.Namespace, groups: Sequence[Sequence[Format]]) -> list[str]:
    """All that was broken. The folder of a trial in which nothing was is removed."""
    print(
        f"seed {arguments.seed}, {arguments.count} files a format, given up after {TIME_LIMIT_SECONDS} s\n\n{Row.HEAD}"
    )
    complaints, done = [], []
    for group in groups:
        folder = work / (group[0].name if len(group) == 1 else "all")
        trial = Trial(folder)
        for each in group:
            plant(trial.photos, each, arguments.count, arguments.seed, arguments.seeds)
        trial.run()
        report(trial, [each.name for each in group])
        complaints += [f"{folder.name}: {complaint}" for complaint in trial.complaints]
        done.append(trial)
    for trial in done:
        details(trial)
        if arguments.keep:
            keep(trial, work / "kept")
        if not trial.complaints:
            shutil.rmtree(trial.work)
    return complaints


if __name__ == "__main__":
    main()
