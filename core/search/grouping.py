"""Hits in the order and grouping asked for. What is shown was chosen by relevance; this only arranges it."""

from __future__ import annotations

import datetime
import math
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np  # noqa: TID253

from .filters import EARTH_RADIUS_KM
from .relevance import near_copies

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from imgsearch.core.store.catalog import Place
    from imgsearch.core.types import Modality, Vectors

    from .encoding import Options

    Mask = NDArray[np.bool_]

# Groups are made, and differing hits chosen, among so many of the best: enough to fill a page, few enough to be quick.
GROUP_DEPTH = 1_000
GROUP_DEPTH_PER_HIT = 20
DIVERSE_DEPTH = 200
DIVERSE_DEPTH_PER_HIT = 10
SCALE_DEPTH = 1_000
# Photos of one camera (or folder, where the camera is not known) within so many seconds of the one before are a burst.
BURST_SECONDS = 3.0
PLACE_KILOMETRES = 1.0


@dataclass(frozen=True, slots=True)
class Hit:
    """A photo that answers, with the score it was ranked by."""

    query: str
    rank: int
    score: float
    method: str
    """`text`, `image`, `sum`, `any`, `all`, or the composition method: it names the scale of `score`."""
    modality: Modality
    """Whether the picture or a text it carries matched."""
    place: Place
    model: str
    cosine: float = math.nan
    """To what was asked for, without penalties."""
    z: float | None = None
    """How far the score lies above this question's mean over the collection, in standard deviations."""
    percentile: float | None = None
    """The share of the collection that scores below, in percent."""
    probability: float | None = None
    """By the model's own scale and bias, where it was trained to give one (SigLIP)."""
    members: tuple[Hit, ...] = ()
    """With --group: the others of its group, best first."""

    @property
    def path(self) -> str:
        return self.place.path


def depth(options: Options) -> int:
    """How many of the best photos have to be known before they can be arranged."""
    if options.group:
        return max(GROUP_DEPTH, GROUP_DEPTH_PER_HIT * options.limit)
    if options.diverse:
        return max(DIVERSE_DEPTH, DIVERSE_DEPTH_PER_HIT * options.limit)
    return options.limit


def arranged(hits: Sequence[Hit], options: Options, rows: Vectors) -> list[Hit]:
    """The hits to show: grouped, made to differ, cut to the limit, numbered, sorted.

    `hits` are the best ones, best first; `rows` the unit vectors by slot. Ranks are by relevance (and difference),
    whatever the order they are shown in.
    """
    chosen = list(hits)
    if options.group:
        chosen = _grouped(chosen, options.group, rows)
    if options.diverse:
        chosen = _differing(chosen, options.diverse, options.limit, rows)
    if options.group or options.diverse:
        chosen = [replace(hit, rank=rank) for rank, hit in enumerate(chosen[: options.limit], start=1)]
    if options.sort == "score":
        return chosen[::-1] if options.reverse else chosen
    known = [hit for hit in chosen if _sort_key(hit, options.sort) is not None]
    unknown = [hit for hit in chosen if _sort_key(hit, options.sort) is None]
    known.sort(key=lambda hit: (_sort_key(hit, options.sort), os.fsencode(hit.path)), reverse=options.reverse)
    return known + unknown


def taken(place: Place) -> datetime.datetime | None:
    """The camera's local time, if the catalogue holds one that can be read."""
    try:
        return datetime.datetime.fromisoformat(str(place.facts["taken_at"])).replace(tzinfo=None)
    except ValueError:
        return None


def _sort_key(hit: Hit, by: str) -> Any:
    if by == "date":
        return taken(hit.place)
    return os.fsencode(hit.path) if by == "path" else hit.place.size


# groups


def _grouped(hits: Sequence[Hit], by: str, rows: Vectors) -> list[Hit]:
    """The best of each group, with the others of it as members, in the order of the best."""
    groups = _bursts(hits) if by == "burst" else _joined(hits, _RELATIONS[by](hits, rows))
    return [replace(group[0], members=tuple(group[1:])) for group in groups]


def _joined(hits: Sequence[Hit], belong: Callable[[int], Mask]) -> list[list[Hit]]:
    """Each hit joins the first group whose best it belongs to, so that a group never drifts away from its best."""
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
    vectors = rows[[hit.place.slot for hit in hits]]
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
    """By the haversine formula; nothing belongs where a photo does not say where it was taken."""
    latitudes, longitudes = np.radians([_coordinates(hit.place) or (math.nan, math.nan) for hit in hits]).T

    def belong(best: int) -> Mask:
        a = np.sin((latitudes - latitudes[best]) / 2) ** 2
        b = np.cos(latitudes) * np.cos(latitudes[best]) * np.sin((longitudes - longitudes[best]) / 2) ** 2
        kilometres = 2 * EARTH_RADIUS_KM * np.arcsin(np.sqrt(np.clip(a + b, 0, 1)))
        return np.asarray(kilometres <= PLACE_KILOMETRES)

    return belong


_RELATIONS = {"duplicates": _same_picture, "day": _same_day, "place": _same_place}


def _coordinates(place: Place) -> tuple[float, float] | None:
    values = place.facts["latitude"], place.facts["longitude"]
    if not all(isinstance(value, int | float) and math.isfinite(value) for value in values):
        return None
    return float(values[0]), float(values[1])


def _bursts(hits: Sequence[Hit]) -> list[list[Hit]]:
    """Runs of one camera's photos, each within BURST_SECONDS of the one before."""
    position = {id(hit): at for at, hit in enumerate(hits)}
    groups = [sorted(run, key=lambda hit: position[id(hit)]) for run in _runs(hits)]
    return sorted(groups, key=lambda group: position[id(group[0])])


def _runs(hits: Sequence[Hit]) -> Iterator[list[Hit]]:
    timed = [(str(_camera(hit.place)), moment, hit) for hit in hits if (moment := taken(hit.place)) is not None]
    timed.sort(key=lambda item: (item[0], item[1]))
    run: list[Hit] = []
    last: tuple[str, datetime.datetime] | None = None
    for camera, moment, hit in timed:
        if last is not None and (camera != last[0] or (moment - last[1]).total_seconds() > BURST_SECONDS):
            yield run
            run = []
        run.append(hit)
        last = camera, moment
    if run:
        yield run
    yield from ([hit] for hit in hits if taken(hit.place) is None)


def _camera(place: Place) -> tuple[Any, ...]:
    if place.facts["camera"]:
        return place.facts["camera_make"], place.facts["camera"]
    return place.root, os.path.dirname(place.relpath)


# difference


def _differing(hits: Sequence[Hit], share: float, limit: int, rows: Vectors) -> list[Hit]:
    """Maximal marginal relevance (Carbonell & Goldstein 1998): (1 - share) relevance - share likeness to the chosen.

    Both are brought to 0..1, because cosines of pictures lie higher and spread more than scores: relevance over these
    hits, likeness over the best SCALE_DEPTH of them.
    """
    if not hits:
        return []
    scores = np.asarray([hit.score for hit in hits], np.float32)
    relevance = _from_0_to_1(scores, scores)
    vectors = rows[[hit.place.slot for hit in hits]]
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


def _from_0_to_1(values: Any, over: Any) -> Any:
    low, high = float(over.min()), float(over.max())
    return (values - low) / (high - low if high > low else 1.0)
