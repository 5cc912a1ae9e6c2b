"""Pictures that decode as slowly as those of a camera: smooth shapes, texture and noise, as JPEG with EXIF."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from PIL import Image

CAMERA = (4000, 3000)
"""12 megapixels, about 4 MB."""
SMALL = (500, 375)
QUALITY = 93
KINDS = 12
"""Number of different pictures; further ones repeat with another comment, which decoders ignore."""
# Spread of the brightness, in steps of 255, of fields with that many cells across.
OCTAVES = ((4, 45), (16, 25), (64, 14), (256, 9), (1024, 7))
NOISE = 3.5


def planted(folder: Path, count: int, size: tuple[int, int]) -> Path:
    """A folder with that many different JPEGs. An existing one is reused."""
    done = folder / ".planted"
    if not done.exists():
        folder.mkdir(parents=True, exist_ok=True)
        kinds = [jpeg(size, seed) for seed in range(min(count, KINDS))]
        for number in range(count):
            (folder / f"IMG_{number:05}.jpg").write_bytes(with_comment(kinds[number % KINDS], f"{number:08}"))
        done.touch()
    return folder


def jpeg(size: tuple[int, int], seed: int) -> bytes:
    data = io.BytesIO()
    header = Image.Exif()
    header[0x0132] = f"2024:07:01 12:00:{seed % 60:02}"
    Image.fromarray(drawn(size, seed)).save(data, "JPEG", quality=QUALITY, exif=header)
    return data.getvalue()


def drawn(size: tuple[int, int], seed: int) -> np.ndarray:
    """uint8, (height, width, 3)."""
    generator = np.random.default_rng(seed)
    width, height = size
    picture = np.full((height, width, 3), 110, np.float32)
    for cells, spread in OCTAVES:
        rows = max(2, cells * height // width)
        field = generator.normal(128, spread, (rows, cells, 3)).clip(0, 255).astype(np.uint8)
        picture += np.asarray(Image.fromarray(field).resize(size, Image.Resampling.BICUBIC), np.float32) - 128
    picture += NOISE * generator.standard_normal((height, width, 1), np.float32)
    return picture.clip(0, 255).astype(np.uint8)


def with_comment(data: bytes, comment: str) -> bytes:
    text = comment.encode("ascii")
    return data[:2] + b"\xff\xfe" + (len(text) + 2).to_bytes(2, "big") + text + data[2:]
