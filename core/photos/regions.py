"""The squares of a panorama, a long screenshot or a scanned strip, of which a centre crop shows only a small part.

The frames of a video are regions too: the whole picture, at a moment."""

from __future__ import annotations

import math

from imgsearch.core.types import Facts, Recipe, Region

PANORAMA_ASPECT = 1.8
"""A picture gets several squares if its long side is more than this number of short sides (docs/benchmarks.md)."""
MIN_OVERLAP = 1 / 3
"""The least share of a square that its neighbour shows too, so that a subject is whole in one of them."""
MAX_SQUARES = 25
"""Per picture, an odd number. From 17:1 on the overlap is smaller, and from 25:1 on there are gaps."""

MAX_MOMENTS = 64
"""Frames per video."""
MAX_PARTS = max(MAX_SQUARES, MAX_MOMENTS)
"""The most vectors that one photo has."""

WHOLE = Region(0.0, 0.0, 1.0, 1.0)
_DIGITS = 6


def is_panorama(width: int, height: int) -> bool:
    """Whether a picture is one of those that get several squares. `photo_table` asks the same in SQL."""
    return max(width, height) > PANORAMA_ASPECT * min(width, height)


def regions_for(facts: Facts, recipe: Recipe) -> tuple[Region, ...]:
    """What each square of a panorama shows to a model with this recipe; empty for another photo or a video.

    The whole picture is one region if the model sees all of it, and if the file is truncated: which part of the
    picture its lines are is not known exactly.
    """
    if facts.duration_seconds is not None or not is_panorama(facts.width, facts.height):
        return ()
    if recipe.resize_mode != "shortest" or facts.is_damaged:
        return (WHOLE,)
    return regions_of(facts.width, facts.height)


def regions_of(width: int, height: int) -> tuple[Region, ...]:
    """The squares of a picture of this size, evenly spread along its long side: the centre first, then the others in
    order. Empty for a picture that its centre represents well."""
    if not is_panorama(width, height):
        return ()
    aspect = max(width, height) / min(width, height)
    pairs = math.ceil((aspect - 1) / (1 - MIN_OVERLAP) / 2)
    count = min(2 * pairs + 1, MAX_SQUARES)
    starts = [(1 - 1 / aspect) * number / (count - 1) for number in range(count)]
    centre = starts.pop(count // 2)
    side = round(1 / aspect, _DIGITS)
    along = [round(start, _DIGITS) for start in (centre, *starts)]
    if width > height:
        return tuple(Region(start, 0.0, side, 1.0) for start in along)
    return tuple(Region(0.0, start, 1.0, side) for start in along)
