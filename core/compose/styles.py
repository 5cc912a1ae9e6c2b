"""Photos changed into other styles, by Pillow and numpy: what `restyle` is trained on.

A change takes a square, uint8 (SIDE, SIDE, 3), and a random generator, and returns another square. The same generator
gives the same bytes. The phrases of each style are in styles.txt.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np  # noqa: TID253
from PIL import Image, ImageChops, ImageDraw, ImageFilter  # noqa: TID253

if TYPE_CHECKING:
    from numpy.random import Generator
    from numpy.typing import NDArray

    Square = NDArray[np.uint8]
    Change = Callable[[Square, Generator], Square]

VERSION = 1
"""Raise it with every change to what the functions here return."""
SIDE = 224
PLAIN = "photo"
"""The style of the photos themselves."""
GREY = np.array((0.299, 0.587, 0.114), np.float32)
# Foregrounds are found in a small copy: 56 pixels are enough for an outline, and colours are counted in 8 steps.
SMALL, STEPS = 56, 8


class Style(NamedTuple):
    name: str
    change: Change | None
    share: float
    """How often photos are changed into it, relative to the others."""
    names_style_only: bool = True
    """Its phrases say nothing about the content. "At night" and "in red" can mean the subject, so that they do not
    teach the gate what a style is."""

    @property
    def phrases(self) -> tuple[str, ...]:
        return _phrases()[self.name]


def change(style: Style, square: Square, generator: Generator) -> Square:
    """The square in that style."""
    assert style.change is not None
    return np.ascontiguousarray(style.change(square, generator))


@functools.cache
def _phrases() -> dict[str, tuple[str, ...]]:
    with open(os.path.join(os.path.dirname(__file__), "styles.txt"), encoding="utf-8") as file:
        pairs = [line.strip().partition(": ")[::2] for line in file if line.strip()]
    return {name: tuple(phrase for style, phrase in pairs if style == name) for name in dict.fromkeys(dict(pairs))}


# ---- Pictures and arrays ---------------------------------------------------------------------------------------------


def _grey(square: Square) -> NDArray[np.float32]:
    return np.asarray(square @ GREY, np.float32)


def _rgb(grey: NDArray[np.floating]) -> Square:
    return np.repeat(_bytes(grey)[..., None], 3, axis=2)


def _bytes(values: NDArray[Any]) -> Square:
    return np.asarray(np.clip(values, 0, 255), np.uint8)


def _filtered(values: NDArray[np.floating] | Square, *filters: ImageFilter.Filter) -> NDArray[np.float32]:
    picture = Image.fromarray(_bytes(values))
    for each in filters:
        picture = picture.filter(each)
    return np.asarray(picture, np.float32)


def _blurred(values: NDArray[np.floating] | Square, radius: float) -> NDArray[np.float32]:
    return _filtered(values, ImageFilter.GaussianBlur(radius))


def _levels(values: NDArray[np.floating], low: float, high: float) -> NDArray[np.float32]:
    return np.asarray(np.clip((values - low) * 255 / max(high - low, 1), 0, 255), np.float32)


def _noise(generator: Generator, radius: float, shape: tuple[int, ...] = (SIDE, SIDE)) -> NDArray[np.float32]:
    """Normal noise of about unit deviation, in grains of that radius."""
    grains = _blurred(128 + 40 * generator.standard_normal(shape), radius) - 128
    return np.asarray(grains / max(float(grains.std()), 1e-6), np.float32)


def _resized(square: Square, side: int, filter: Image.Resampling = Image.Resampling.BOX) -> Square:
    return np.asarray(Image.fromarray(square).resize((side, side), filter))


# ---- What is in front ------------------------------------------------------------------------------------------------


def foreground(square: Square) -> NDArray[np.float32] | None:
    """The thing in the middle, float32 (SIDE, SIDE, 1) from 0 to 1; None if it cannot be told apart.

    Colours that are frequent around the middle and rare at the edges are in front, as in the first step of GrabCut.
    """
    small = _resized(square, SMALL)
    colour = (small // (256 // STEPS)).astype(np.intp) @ np.array((STEPS * STEPS, STEPS, 1))
    at = (np.arange(SMALL) + 0.5) / SMALL - 0.5
    near_middle = 1 - 5 * (at[:, None] ** 2 + (at[None, :] * 1.15) ** 2)
    edge = np.maximum(np.abs(at)[:, None], np.abs(at)[None, :]) > 0.45
    front = (near_middle > 0.4) & ~edge
    for _ in range(3):
        counts = [_smooth(np.bincount(colour[mask], minlength=STEPS**3)) for mask in (front, ~front)]
        ratio = np.log(counts[0] / counts[0].sum()) - np.log(counts[1] / counts[1].sum())
        likely = _blurred(128 + 40 * np.clip(ratio[colour] + near_middle, -3, 3), 1.2)
        front = (likely > 128) & ~edge
    front = _connected(front, (near_middle > 0.8) & front)
    if not 0.06 < front.mean() < 0.75:
        return None
    mask = Image.fromarray(_bytes(255.0 * front)).resize((SIDE, SIDE), Image.Resampling.BICUBIC)
    return np.asarray(mask.filter(ImageFilter.GaussianBlur(2)), np.float32)[..., None] / np.float32(255)


def _smooth(counts: NDArray[np.intp]) -> NDArray[np.float64]:
    cube = counts.reshape((STEPS,) * 3).astype(np.float64)
    for axis in range(3):
        padded = np.pad(cube, [(1, 1) if axis == each else (0, 0) for each in range(3)], mode="edge")
        parts = [np.take(padded, range(start, start + STEPS), axis) for start in range(3)]
        cube = 0.25 * parts[0] + 0.5 * parts[1] + 0.25 * parts[2]
    return np.asarray(cube.ravel() + 0.2)


def _connected(mask: NDArray[np.bool_], seeds: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The part of the mask that is connected with the seeds."""
    found = seeds
    for _ in range(2 * SMALL):
        grown = np.pad(found, 1)
        grown = grown[1:-1, 1:-1] | grown[:-2, 1:-1] | grown[2:, 1:-1] | grown[1:-1, :-2] | grown[1:-1, 2:]
        grown &= mask
        if (grown == found).all():
            break
        found = grown
    return found


def _on_white(square: Square, generator: Generator) -> Square:
    mask = foreground(square)
    return square if mask is None else _bytes(square * mask + 255 * (1 - mask))


# ---- Drawings --------------------------------------------------------------------------------------------------------


def _pencil(square: Square, generator: Generator) -> Square:
    grey = _grey(square)
    light = np.maximum(_blurred(grey, generator.uniform(3, 9)), 1)
    return _rgb(_levels(256 * grey / light, generator.uniform(60, 150), 250))


def _lines(square: Square, generator: Generator) -> Square:
    grey, radius = _blurred(_grey(square), 1), generator.uniform(0.8, 1.8)
    depth = _blurred(grey, radius) - generator.uniform(0.96, 0.985) * _blurred(grey, 1.6 * radius)
    ink = np.where(depth > 0, 255, 255 * (1 + np.tanh(generator.uniform(0.3, 0.9) * depth)))
    return _rgb(_filtered(ink, ImageFilter.MedianFilter(3)))


def _contours(square: Square, generator: Generator) -> Square:
    """Thin lines along the strongest edges, as Canny's detector draws them."""
    grey = _filtered(_grey(square), ImageFilter.MedianFilter(5), ImageFilter.GaussianBlur(1.2))
    down, right = np.gradient(grey)
    strength = np.hypot(down, right)
    across = np.abs(right) > np.abs(down)
    beside = np.where(
        across,
        np.maximum(np.roll(strength, 1, 1), np.roll(strength, -1, 1)),
        np.maximum(np.roll(strength, 1, 0), np.roll(strength, -1, 0)),
    )
    edge = (strength >= beside) & (strength > generator.uniform(6, 12))
    return _rgb(255 - _filtered(255.0 * edge, ImageFilter.MaxFilter(3), ImageFilter.GaussianBlur(0.8)))


def _sketch(square: Square, generator: Generator) -> Square:
    if generator.random() < 0.6:
        square = _on_white(square, generator)
    draw = (_pencil, _lines, _contours)[generator.integers(3)]
    return draw(square, generator)


def _charcoal(square: Square, generator: Generator) -> Square:
    grey = Image.fromarray(_bytes(_grey(square)))
    wide, narrow = grey.filter(ImageFilter.MaxFilter(3)), grey.filter(ImageFilter.MinFilter(3))
    strokes = 255 - _levels(np.asarray(ImageChops.subtract(wide, narrow), np.float32), 5, 90)
    shade = _levels(_blurred(_grey(square), 3), 20, 180)
    return _rgb(0.55 * strokes + 0.45 * shade + 18 * generator.standard_normal((SIDE, SIDE)))


# ---- Flat colours ----------------------------------------------------------------------------------------------------


def _flat(square: Square, colours: int) -> tuple[Square, NDArray[np.float32]]:
    """The number of the colour of each pixel, in smooth areas, and the colours."""
    picture = Image.fromarray(_resized(square, SIDE // 2))
    picture = picture.filter(ImageFilter.MedianFilter(5)).filter(ImageFilter.GaussianBlur(1))
    reduced = picture.quantize(colours, method=Image.Quantize.MEDIANCUT, kmeans=3, dither=Image.Dither.NONE)
    palette = np.array(reduced.getpalette(), np.float32).reshape(-1, 3)
    areas = Image.fromarray(np.asarray(reduced)).filter(ImageFilter.ModeFilter(7))
    areas = areas.resize((SIDE, SIDE), Image.Resampling.NEAREST).filter(ImageFilter.ModeFilter(5))
    return np.asarray(areas), palette


def _brighter(palette: NDArray[np.float32], saturation: float, gamma: float) -> Square:
    hsv = np.asarray(Image.fromarray(_bytes(palette)[None]).convert("HSV"), np.float32)[0].copy()
    hsv[:, 1] = np.where(hsv[:, 1] > 25, hsv[:, 1] * saturation + 20, hsv[:, 1])
    hsv[:, 2] = 255 * (hsv[:, 2] / 255) ** gamma
    return np.asarray(Image.fromarray(_bytes(hsv)[None], "HSV").convert("RGB")).reshape(-1, 3)


def _cartoon(square: Square, generator: Generator) -> Square:
    """A few bright flat colours, outlines only between areas, and mostly a plain ground. With the outlines of texture
    it would teach sketches instead."""
    mask = foreground(square) if generator.random() < 0.8 else None
    areas, palette = _flat(square, int(generator.integers(5, 9)))
    colours = _brighter(palette, generator.uniform(1.5, 2.5), generator.uniform(0.5, 0.8))
    drawn = colours[areas]
    ground = np.full(3, 255) if generator.random() < 0.8 else generator.integers(120, 256, 3)
    if mask is not None:
        is_front = mask[..., 0] > 0.5
        drawn = np.where(is_front[..., None], drawn, ground)
        areas = np.where(is_front, areas, 255)
    if generator.random() < 0.75:
        edges = np.zeros(areas.shape, bool)
        edges[:, 1:] |= areas[:, 1:] != areas[:, :-1]
        edges[1:] |= areas[1:] != areas[:-1]
        if generator.random() < 0.5:
            edges[:, :-1] |= edges[:, 1:]
        drawn = np.where(edges[..., None], generator.integers(0, 50, 3), drawn)
    return _bytes(_filtered(drawn, ImageFilter.SMOOTH()))


def _poster(square: Square, generator: Generator) -> Square:
    areas, palette = _flat(square, 4)
    return np.asarray(_brighter(palette, generator.uniform(1.2, 2), 0.9)[areas])


# ---- Paintings -------------------------------------------------------------------------------------------------------


def _oil(square: Square, generator: Generator) -> Square:
    """The mean colour of the most frequent brightness around each pixel."""
    small = _resized(square, SIDE // 2)
    shade = _grey(small).astype(np.intp) // 26
    best = np.zeros((*shade.shape, 1), np.float32)
    painted = np.zeros(small.shape, np.float32)
    for level in range(10):
        mask = (shade == level).astype(np.float32)[..., None]
        sums = _sums_around(np.concatenate([small * mask, mask], axis=2), radius=2)
        painted = np.where(sums[..., 3:] > best, sums[..., :3] / np.maximum(sums[..., 3:], 1), painted)
        best = np.maximum(best, sums[..., 3:])
    large = _resized(_bytes(painted), SIDE, Image.Resampling.BICUBIC)
    return _bytes(large + _noise(generator, 0.8)[..., None] * generator.uniform(2, 6))


def _sums_around(values: NDArray[np.float32], radius: int) -> NDArray[np.float32]:
    for axis in (0, 1):
        length = values.shape[axis]
        padded = np.pad(values, [(radius, radius) if axis == each else (0, 0) for each in range(3)])
        parts = [np.take(padded, range(start, start + length), axis) for start in range(2 * radius + 1)]
        values = np.sum(parts, axis=0, dtype=np.float32)
    return values


def _watercolour(square: Square, generator: Generator) -> Square:
    size = (5, 7, 9)[generator.integers(3)]
    washed = _filtered(square, ImageFilter.ModeFilter(size), ImageFilter.MedianFilter(5), ImageFilter.GaussianBlur(1))
    paper = _noise(generator, 1.5)[..., None] * 4
    return _bytes(washed * 0.8 + 50 + paper)


def _strokes(square: Square, generator: Generator) -> Square:
    """Short strokes of a brush, mostly along the edges."""
    base, grey = _blurred(square, 4), _blurred(_grey(square), 2)
    down, right = np.gradient(grey)
    angles = np.arctan2(down, right) + np.pi / 2
    picture = Image.fromarray(_bytes(base))
    draw = ImageDraw.Draw(picture)
    colours = 0.4 * base + 0.6 * square
    for x, y in generator.integers(0, SIDE, (1400, 2)).tolist():
        colour = _bytes(colours[y, x] + generator.normal(0, 12, 3))
        angle, length = angles[y, x] + generator.normal(0, 0.3), generator.uniform(4, 11)
        dx, dy = length * np.cos(angle), length * np.sin(angle)
        ends = (x - dx, y - dy, x + dx, y + dy)
        draw.line(ends, tuple(colour.tolist()), int(generator.integers(2, 5)))
    return np.asarray(picture.filter(ImageFilter.SMOOTH))


def _painting(square: Square, generator: Generator) -> Square:
    paint = (_oil, _watercolour, _strokes)[generator.choice(3, p=(0.4, 0.2, 0.4))]
    return paint(square, generator)


# ---- Photos ----------------------------------------------------------------------------------------------------------


def _black_and_white(square: Square, generator: Generator) -> Square:
    return _rgb(_levels(_grey(square), generator.uniform(0, 30), generator.uniform(225, 255)))


def _sepia(square: Square, generator: Generator) -> Square:
    return _bytes(_grey(square)[..., None] * np.array((1.07, 0.86, 0.62)) + 10)


def _faded(square: Square, generator: Generator) -> Square:
    soft = _blurred(square, 0.8) * 0.55 + np.array((95, 80, 55))
    return _bytes(soft + generator.normal(0, 9, square.shape))


def _blurry(square: Square, generator: Generator) -> Square:
    return _bytes(_blurred(square, generator.uniform(3, 8)))


def _night(square: Square, generator: Generator) -> Square:
    return _bytes(square.astype(np.float32) ** 1.3 * generator.uniform(0.05, 0.1) * np.array((0.8, 0.9, 1.3)))


def _pixelated(square: Square, generator: Generator) -> Square:
    return _resized(_resized(square, int(generator.integers(14, 32))), SIDE, Image.Resampling.NEAREST)


def _silhouette(square: Square, generator: Generator) -> Square:
    mask = foreground(square)
    if mask is None:
        grey = _blurred(_grey(square), 2)
        mask = (grey < np.median(grey)).astype(np.float32)[..., None]
    return _bytes(255 * (1 - mask) * generator.uniform((0.7, 0.6, 0.5), 1))


def _negative(square: Square, generator: Generator) -> Square:
    return 255 - square


def _mosaic(square: Square, generator: Generator) -> Square:
    size = int(generator.integers(7, 12))
    tiles = np.repeat(np.repeat(_resized(square, SIDE // size + 1), size, axis=0), size, axis=1)[:SIDE, :SIDE].copy()
    tiles[::size] = tiles[:, ::size] = 60
    return tiles


def _relief(square: Square, generator: Generator) -> Square:
    kernel = ImageFilter.Kernel((3, 3), (-2, -1, 0, -1, 0, 1, 0, 1, 2), scale=1, offset=128)
    return _rgb(_filtered(_grey(square), kernel))


def _fog(square: Square, generator: Generator) -> Square:
    thickness = generator.uniform(0.55, 0.75)
    return _bytes(_blurred(square, 1.2) * (1 - thickness) + 215 * thickness)


def _vivid(square: Square, generator: Generator) -> Square:
    hsv = np.asarray(Image.fromarray(square).convert("HSV"), np.float32).copy()
    hsv[..., 1] = hsv[..., 1] * 2.2 + 20
    return np.asarray(Image.fromarray(_bytes(hsv), "HSV").convert("RGB"))


def _tinted(red: float, green: float, blue: float) -> Change:
    return lambda square, generator: _bytes(_grey(square)[..., None] * np.array((red, green, blue)) * 1.2)


STYLES: Sequence[Style] = (
    Style(PLAIN, None, 0),
    Style("sketch", _sketch, 3),
    Style("cartoon", _cartoon, 3),
    Style("painting", _painting, 3),
    Style("charcoal", _charcoal, 0.7),
    Style("black and white", _black_and_white, 1),
    Style("sepia", _sepia, 0.7),
    Style("faded", _faded, 0.6),
    Style("blurry", _blurry, 0.7),
    Style("night", _night, 1, names_style_only=False),
    Style("pixelated", _pixelated, 0.7),
    Style("silhouette", _silhouette, 0.8),
    Style("negative", _negative, 0.5),
    Style("mosaic", _mosaic, 0.5),
    Style("relief", _relief, 0.5),
    Style("poster", _poster, 0.7),
    Style("white ground", _on_white, 1, names_style_only=False),
    Style("red", _tinted(1, 0.35, 0.3), 0.35, names_style_only=False),
    Style("blue", _tinted(0.35, 0.55, 1), 0.35, names_style_only=False),
    Style("green", _tinted(0.4, 0.95, 0.4), 0.35, names_style_only=False),
    Style("fog", _fog, 0.5),
    Style("vivid", _vivid, 0.5),
)
