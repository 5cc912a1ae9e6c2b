"""Hits, grouped and sorted as the options say."""

from __future__ import annotations

import datetime
import math
import os
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np  # noqa: TID253

from imgsearch.core.light_dataclass import dataclass, replace

from .filters import EARTH_RADIUS_KM
from .relevance import near_copies

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from imgsearch.core.store.records import Place
    from imgsearch.core.types import Modality, Vectors

    from .matched_lines import MatchedLine
    from .options import SearchOptions
    from .scoring import Scores

    Mask = NDArray[np.bool_]

# Hits whose similarities set the scale of --diverse.
SCALE_DEPTH = 1_000
# The longest gap between photos of a burst. They share a camera, or a folder if the camera is unknown.
BURST_SECONDS = 3.0
PLACE_KILOMETRES = 1.0


@dataclass(frozen=True, slots=True)
class Hit:
    """A photo found by a query, with the score it was ranked by."""

    query: str
    rank: int
    score: float
    method: str
    """`text`, `image`, `sum`, `any`, `all`, or the composition method: the scale of `score`."""
    modality: Modality
    """Whether the picture or a text of the photo matched."""
    place: Place
    model: str
    cosine: float = math.nan
    """To the query, without penalties."""
    z: float | None = None
    """The score's z-score among those of the collection."""
    percentile: float | None = None
    """Percent of the collection that scores lower."""
    probability: float | None = None
    """The model's own, if it gives one (SigLIP)."""
    line: MatchedLine | None = None
    """The line of a text that it was found by."""
    members: tuple[Hit, ...] = ()
    """With --group: the rest of its group, best first."""

    @property
    def path(self) -> str:
        return self.place.path


def arrange(hits: Sequence[Hit], options: SearchOptions, rows: Vectors) -> list[Hit]:
    """The hits to show: grouped, diversified, cut to the limit, ranked, sorted.

    `hits` are sorted by score; `rows` are the unit vectors by slot. Ranks are by relevance (and --diverse), whatever
    --sort is.
    """
    chosen = list(hits)
    if options.group:
        chosen = _grouped(chosen, options.group, rows)
    if options.diverse:
        chosen = _diversified(chosen, options.diverse, options.limit, rows)
    if options.group or options.diverse:
        chosen = [replace(hit, rank=rank) for rank, hit in enumerate(chosen[: options.limit], start=1)]
    if options.sort == "score":
        return chosen[::-1] if options.reverse else chosen
    keyed = [(_sort_key(hit, options.sort), os.fsencode(hit.path), hit) for hit in chosen]
    known = [(key, path, hit) for key, path, hit in keyed if key is not None]
    known.sort(key=lambda each: (each[0], each[1]), reverse=options.reverse)
    return [hit for _, _, hit in known] + [hit for key, _, hit in keyed if key is None]


def taken(place: Place) -> datetime.datetime | None:
    """The camera's local time; None if the catalogue has no valid one."""
    try:
        return datetime.datetime.fromisoformat(str(place.facts["taken_at"])).replace(tzinfo=None)
    except ValueError:
        return None


def _sort_key(hit: Hit, by: str) -> Any:
    """Comparable with the keys of the same sort; None if unknown."""
    if by == "date":
        return taken(hit.place)
    return os.fsencode(hit.path) if by == "path" else hit.place.size


# ---- Groups


def _grouped(hits: Sequence[Hit], by: str, rows: Vectors) -> list[Hit]:
    """The best hit of each group, with the rest as members, in the order of the best."""
    groups = _bursts(hits) if by == "burst" else _by_best(hits, _RELATIONS[by](hits, rows))
    return [replace(group[0], members=tuple(group[1:])) for group in groups]


def _by_best(hits: Sequence[Hit], belong: Callable[[int], Mask]) -> list[list[Hit]]:
    """Each hit joins the first group whose best hit it belongs with, so that every member is close to the best."""
    is_left = np.ones(len(hits), bool)
    groups: list[list[Hit]] = []
    for best, hit in enumerate(hits):
        if is_left[best]:
            is_left[best] = False
            members = np.flatnonzero(is_left & belong(best)).tolist()
            is_left[members] = False
            groups.append([hit, *(hits[member] for member in members)])
    return groups


def _same_picture(hits: Sequence[Hit], rows: Vectors) -> Callable[[int], Mask]:
    vectors = rows[[hit.place.main_slot for hit in hits]]
    is_picture = np.array([hit.modality == "image" for hit in hits], bool)
    contents = np.array([int.from_bytes(hit.place.content_hash[:8]) for hit in hits], np.uint64)

    def belong(best: int) -> Mask:
        is_near = is_picture & near_copies(vectors, vectors[best]) & is_picture[best]
        return np.asarray((contents == contents[best]) | is_near)

    return belong


def _same_day(hits: Sequence[Hit], _: Vectors) -> Callable[[int], Mask]:
    moments = [taken(hit.place) for hit in hits]
    days = np.array([0 if moment is None else moment.toordinal() for moment in moments])
    return lambda best: (days == days[best]) & (days > 0)


def _same_place(hits: Sequence[Hit], _: Vectors) -> Callable[[int], Mask]:
    """By the haversine formula. A photo without coordinates belongs with none."""
    places = [_coordinates(hit.place) or (math.nan, math.nan) for hit in hits]
    latitudes, longitudes = np.radians(np.reshape(places, (-1, 2))).T

    def belong(best: int) -> Mask:
        a = np.sin((latitudes - latitudes[best]) / 2) ** 2
        b = np.cos(latitudes) * np.cos(latitudes[best]) * np.sin((longitudes - longitudes[best]) / 2) ** 2
        kilometres = 2 * EARTH_RADIUS_KM * np.arcsin(np.sqrt(np.clip(a + b, 0, 1)))
        return np.asarray(kilometres <= PLACE_KILOMETRES)

    return belong


def _same_town(hits: Sequence[Hit], _: Vectors) -> Callable[[int], Mask]:
    """By name. A photo without one belongs with none."""
    numbers: dict[tuple[object, ...], int] = {}
    names = [tuple(hit.place.facts[name] for name in _TOWN) for hit in hits]
    towns = np.array([numbers.setdefault(name, len(numbers) + 1) if name[0] else 0 for name in names])
    return lambda best: (towns == towns[best]) & (towns > 0)


_TOWN = ("place", "place_region", "country")
_RELATIONS = {"duplicates": _same_picture, "day": _same_day, "place": _same_place, "town": _same_town}


def _coordinates(place: Place) -> tuple[float, float] | None:
    values = place.facts["latitude"], place.facts["longitude"]
    if not all(isinstance(value, int | float) and math.isfinite(value) for value in values):
        return None
    return float(values[0]), float(values[1])


def _bursts(hits: Sequence[Hit]) -> list[list[Hit]]:
    """Runs of one camera's photos, each within BURST_SECONDS of the one before."""
    groups = sorted(sorted(run) for run in _runs(hits))
    return [[hits[at] for at in group] for group in groups]


def _runs(hits: Sequence[Hit]) -> Iterator[list[int]]:
    """Indices of hits."""
    moments = [taken(hit.place) for hit in hits]
    timed = [(str(_camera(hits[at].place)), moment, at) for at, moment in enumerate(moments) if moment is not None]
    timed.sort()
    run: list[int] = []
    last: tuple[str, datetime.datetime] | None = None
    for camera, moment, at in timed:
        if last is not None and (camera != last[0] or (moment - last[1]).total_seconds() > BURST_SECONDS):
            yield run
            run = []
        run.append(at)
        last = camera, moment
    if run:
        yield run
    yield from ([at] for at, moment in enumerate(moments) if moment is None)


def _camera(place: Place) -> tuple[object, object]:
    if place.facts["camera"]:
        return place.facts["camera_make"], place.facts["camera"]
    return place.root, os.path.dirname(place.relpath)


# ---- Diversity


def _diversified(hits: Sequence[Hit], share: float, limit: int, rows: Vectors) -> list[Hit]:
    """Maximal marginal relevance (Carbonell & Goldstein 1998): (1 - share) relevance - share similarity to the chosen.

    Both are scaled to 0..1, because cosines of pictures are higher than scores and spread more: relevance over these
    hits, similarity over the best SCALE_DEPTH of them.
    """
    if not hits:
        return []
    scores = np.asarray([hit.score for hit in hits], np.float32)
    relevance = _from_0_to_1(scores, scores)
    vectors = rows[[hit.place.main_slot for hit in hits]]
    scale = vectors[:SCALE_DEPTH] @ vectors[:SCALE_DEPTH].T
    nearest = np.zeros(len(hits), np.float32)
    left = np.ones(len(hits), bool)
    chosen: list[Hit] = []
    while len(chosen) < min(limit, len(hits)):
        worth = np.where(left, (1 - share) * relevance - share * nearest, -np.inf)
        best = int(np.argmax(worth))
        chosen.append(hits[best])
        left[best] = False
        nearest = np.maximum(nearest, _from_0_to_1(vectors @ vectors[best], scale))
    return chosen


def _from_0_to_1(values: Scores, over: Scores) -> Scores:
    low, high = float(over.min()), float(over.max())
    return np.asarray((values - low) / (high - low if high > low else 1.0), np.float32)
