"""Pixels to the square that a model takes, bit for bit equal to open_clip's own transform.

That transform is torchvision's on a PIL picture. It is repeated here with Pillow and numpy, because the decoding
processes must not load torch. A test compares both.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np  # noqa: TID253 - this module is itself imported late
from PIL import Image, ImageOps  # noqa: TID253

from imgsearch.core.types import Recipe, Region

if TYPE_CHECKING:
    from numpy.typing import NDArray

OVERSAMPLING = 2
"""A fast decode keeps at least this many pixels per pixel of the model, along each side."""
MIN_DRAFT_SIDE = 512
"""The smallest side of a fast decode. For a model of 224 pixels the next smaller size would save little and change the
vectors two to three times as much (bench/decode.py)."""

MAX_RESIZED_PIXELS = 1 << 26
"""Above this, only the middle of a thin strip of a picture is enlarged. The result differs only by rounding, and needs
kilobytes instead of gigabytes."""


def square(image: Image.Image, recipe: Recipe) -> NDArray[np.uint8]:
    """uint8 (height, width, 3): the RGB picture resized, cropped and padded according to the recipe."""
    height, width = recipe.size
    if recipe.resize_mode == "squash":
        return np.array(image.resize((width, height), _resampling(recipe)))
    resized = _resized_size(image.size, recipe)
    if resized[0] * resized[1] > MAX_RESIZED_PIXELS:
        return np.array(_enlarged_middle(image, resized, recipe))
    fill = recipe.fill_color if recipe.resize_mode == "longest" else 0
    return np.array(_crop_or_pad(image.resize(resized, _resampling(recipe)), width, height, fill))


def square_of(image: Image.Image, region: Region, recipe: Recipe) -> NDArray[np.uint8]:
    """`square` of a part of the RGB picture."""
    left, top = (
        min(round(at * length), length - 1) for at, length in ((region.x, image.width), (region.y, image.height))
    )
    right = max(left + 1, round((region.x + region.width) * image.width))
    bottom = max(top + 1, round((region.y + region.height) * image.height))
    return square(image.crop((left, top, min(right, image.width), min(bottom, image.height))), recipe)


def draft_side(recipe: Recipe) -> int:
    """The short side, in pixels, that a fast decode must keep: enough for every way of resizing."""
    return max(OVERSAMPLING * max(recipe.size), MIN_DRAFT_SIDE)


def normalise(squares: NDArray[np.uint8], recipe: Recipe) -> NDArray[np.float32]:
    """uint8 (n, height, width, 3) -> float32 (n, 3, height, width), normalised."""
    mean, std = (np.asarray(each, dtype=np.float32)[:, None, None] for each in (recipe.mean, recipe.std))
    planes = np.ascontiguousarray(squares.transpose(0, 3, 1, 2)).astype(np.float32)
    planes /= np.float32(255)
    planes -= mean
    planes /= std
    return planes


def _resampling(recipe: Recipe) -> Image.Resampling:
    if recipe.resize_mode == "shortest" and recipe.size[0] != recipe.size[1]:
        return Image.Resampling.BICUBIC  # open_clip's only mode for models that are not square
    return Image.Resampling.BILINEAR if recipe.interpolation == "bilinear" else Image.Resampling.BICUBIC


def _resized_size(size: tuple[int, int], recipe: Recipe) -> tuple[int, int]:
    """(width, height) before the crop, at least one pixel each."""
    width, height = size
    target_height, target_width = recipe.size
    if recipe.resize_mode == "shortest" and target_height == target_width:
        # torchvision: the short side exactly, the long one cut down to a whole number.
        side = target_height
        long = int(side * max(size) / min(size))
        return (side, long) if width <= height else (long, side)
    ratios = (height / target_height, width / target_width)
    ratio = max(ratios) if recipe.resize_mode == "longest" else min(ratios)
    return max(1, round(width / ratio)), max(1, round(height / ratio))


def _enlarged_middle(image: Image.Image, resized: tuple[int, int], recipe: Recipe) -> Image.Image:
    """The centre crop of the enlarged picture, without the rest: Pillow can compute a part of a resize."""
    height, width = recipe.size
    left, top = round((resized[0] - width) / 2.0), round((resized[1] - height) / 2.0)
    across, down = image.width / resized[0], image.height / resized[1]
    box = (left * across, top * down, (left + width) * across, (top + height) * down)
    return image.resize((width, height), _resampling(recipe), box=box)


def _crop_or_pad(image: Image.Image, width: int, height: int, fill: int) -> Image.Image:
    """The centre. An odd border is larger right and below; the corner of a crop is rounded half to even."""
    short_of = (max(0, width - image.width), max(0, height - image.height))
    if any(short_of):
        left, top = short_of[0] // 2, short_of[1] // 2
        border = (left, top, short_of[0] - left, short_of[1] - top)
        image = ImageOps.expand(image, border, fill=(fill, fill, fill))
    left = round((image.width - width) / 2.0)
    top = round((image.height - height) / 2.0)
    return image.crop((left, top, left + width, top + height))
