"""Small real picture files, drawn for tests."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

RED, GREEN, BLUE, YELLOW = (230, 40, 40), (40, 170, 60), (40, 60, 220), (240, 220, 60)

# How a picture must lie in the file so that a reader who obeys the orientation sees it upright.
LAID_DOWN = {
    1: None,
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}


def corners(width: int = 96, height: int = 64) -> Image.Image:
    """A picture with another colour in each corner: no turn or mirroring of it looks like another."""
    image = Image.new("RGB", (width, height))
    half = (width // 2, height // 2)
    for colour, place in ((RED, (0, 0)), (GREEN, (half[0], 0)), (BLUE, (0, half[1])), (YELLOW, half)):
        image.paste(
            colour,
            (*place, width, height)
            if colour == YELLOW
            else (place[0], place[1], place[0] + half[0], place[1] + half[1]),
        )
    return image


def page(path: Path, *lines: str, size: int = 32) -> Path:
    """A picture of printed lines, as a JPEG."""
    font = ImageFont.load_default(size)
    image = Image.new("RGB", (560, 560), "white")
    draw = ImageDraw.Draw(image)
    for number, line in enumerate(lines):
        draw.text((40, 40 + number * size * 2), line, "black", font)
    image.save(path, quality=90)
    return path


def noise(width: int, height: int, seed: int = 0) -> Image.Image:
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def laid_down(image: Image.Image, orientation: int) -> Image.Image:
    """The picture as a camera with this orientation would store it."""
    turn = LAID_DOWN[orientation]
    return image if turn is None else image.transpose(turn)


def exif_block(
    main: dict[int, Any] | None = None, exif: dict[int, Any] | None = None, gps: dict[int, Any] | None = None
) -> bytes:
    block = Image.Exif()
    for tag, value in (main or {}).items():
        block[tag] = value
    for directory, tags in ((0x8769, exif), (0x8825, gps)):
        if tags:
            block.get_ifd(directory).update(tags)
    return block.tobytes()


def save(path: Path, image: Image.Image | None = None, **options: Any) -> str:
    """Write the picture (or `corners`) and return the path as text."""
    (image or corners()).save(path, **options)
    return str(path)


def xmp(properties: str = "", attributes: str = "") -> bytes:
    """An XMP packet around some properties."""
    return f"""<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>
<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
<rdf:Description rdf:about="" xmlns:dc="http://purl.org/dc/elements/1.1/" xmlns:xmp="http://ns.adobe.com/xap/1.0/"
 xmlns:photoshop="http://ns.adobe.com/photoshop/1.0/" xmlns:exif="http://ns.adobe.com/exif/1.0/"
 xmlns:tiff="http://ns.adobe.com/tiff/1.0/" {attributes}>{properties}</rdf:Description></rdf:RDF></x:xmpmeta>
<?xpacket end="w"?>""".encode()


def xmp_list(name: str, *values: str) -> str:
    items = "".join(f'<rdf:li xml:lang="x-default">{value}</rdf:li>' for value in values)
    return f"<{name}><rdf:Bag>{items}</rdf:Bag></{name}>"


def jpeg_with_iptc(path: Path, *records: tuple[int, bytes], image: Image.Image | None = None) -> str:
    """A JPEG with IPTC records of the application block: (dataset, value)."""
    data = b"".join(b"\x1c\x02" + bytes([number]) + struct.pack(">H", len(value)) + value for number, value in records)
    resource = b"8BIM\x04\x04\x00\x00" + struct.pack(">I", len(data)) + data + b"\x00" * (len(data) % 2)
    block = b"Photoshop 3.0\x00" + resource
    buffer = io.BytesIO()
    (image or corners()).save(buffer, "JPEG")
    jpeg = buffer.getvalue()
    path.write_bytes(jpeg[:2] + b"\xff\xed" + struct.pack(">H", len(block) + 2) + block + jpeg[2:])
    return str(path)


def png_header(path: Path, width: int, height: int) -> str:
    """A PNG that claims this size and holds next to nothing."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(b"\x00" * 64)) + chunk(b"IEND", b"")
    )
    return str(path)


def display_p3() -> bytes:
    """An ICC profile with the primaries of Display P3 and sRGB's curve, made from the sRGB one."""
    from PIL import ImageCms

    profile = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    primaries = {
        b"rXYZ": (0.51512, 0.24120, -0.00105),
        b"gXYZ": (0.29198, 0.69225, 0.04189),
        b"bXYZ": (0.15710, 0.06657, 0.78407),
    }
    for row in range(struct.unpack_from(">I", profile, 128)[0]):
        tag, place, _ = struct.unpack_from(">4sII", profile, 132 + 12 * row)
        if tag in primaries:
            struct.pack_into(">3i", profile, place + 8, *(round(value * 65536) for value in primaries[tag]))
    return bytes(profile)
