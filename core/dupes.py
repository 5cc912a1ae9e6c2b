"""Photos that are there more than once: the same bytes, or the same picture in another size, format or turn.

Exact copies are a matter of the catalogue: equal content hashes. Near ones are found by their looks (see looks): alike
where the vectors of the pictures agree, or all but equal where a model sees them otherwise. Nothing is deleted here.
"""

from __future__ import annotations

import datetime
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import numpy as np  # noqa: TID253

from .catalog import Place
from .filters import Filters, condition
from .looks import BITS, TURNS, Looks, codes, differing, read_looks, turned
from .paths import LEAST_INTEGER, MOST_INTEGER, mtime_ns
from .store import Store, View
from .types import Photo, Skipped

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from .looks import Codes
    from .types import Vectors
    from .workers import Workers

Keep = Literal["largest", "oldest"]
Kind = Literal["exact", "near"]

# Measured by bench/dupes.py (docs/benchmarks.md): re-encoded, resized, brightened and slightly cropped copies differ in
# at most 20 of 128 bits; of four million pairs of different photos, turned ones included, none came below 25.
LEAST_COSINE = 0.7
MOST_DIFFERING = 20 / BITS
# Fewer bits that are clear in both say too little; and a sketch is no copy of another one that is clear elsewhere.
LEAST_CLEAR = 48
LEAST_SHARED = 0.5
# By looks alone, without a vector's consent: what is turned or without colour lies far away for some models.
MOST_DIFFERING_ALONE = 10 / BITS
LEAST_CLEAR_ALONE = 64
LEAST_SHARED_ALONE = 0.75

# Cosines that are held at once, along each side: 16 MB; and pairs whose looks are compared at once.
TILE = 2_048
PAIRS_AT_ONCE = 1 << 18

Progress = Callable[[str, int, int], None]
"""What is being done, and how much of it has been."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which photos to look among, and for what."""

    keep: Keep = "largest"
    filters: Filters = field(default_factory=Filters)
    exact_only: bool = False
    """By content alone, which reads no photo."""
    quick: bool = False
    """Read only photos whose vectors have a near one, which misses copies that the model sees otherwise: turned, tiny,
    without colour."""


@dataclass(frozen=True, slots=True)
class Duplicate:
    """A photo that another one, which is kept, makes superfluous."""

    place: Place
    kind: Kind
    cosine: float | None = None
    bits: int | None = None
    """So many of those compared differ."""
    compared: int | None = None
    turned: int = 0
    """By so many degrees against the clock the kept one would have to be turned."""


@dataclass(frozen=True, slots=True)
class Group:
    """One picture, in all the files that hold it. Each of them was held against the one that is kept."""

    kept: Place
    others: tuple[Duplicate, ...]

    @property
    def kind(self) -> Kind:
        return "exact" if all(other.kind == "exact" for other in self.others) else "near"


@dataclass(frozen=True, slots=True)
class Found:
    """What came of looking for duplicates."""

    groups: tuple[Group, ...]
    photos: int
    """Among so many."""
    changed: int
    """Not counted with them: gone, or not as they were when they were indexed."""
    skipped: tuple[Skipped, ...]
    """Could not be looked at."""


@dataclass(frozen=True, slots=True)
class _Content:
    """A picture, wherever its bytes lie."""

    hash: bytes
    places: tuple[_Spot, ...]
    slot: int | None


@dataclass(frozen=True, slots=True)
class _Spot:
    """A place, as far as choosing needs it."""

    id: int
    path: str
    size: int
    mtime_ns: int
    inode: int
    rank: tuple[Any, ...]
    """The least is the one to keep."""


@dataclass(frozen=True, slots=True)
class _Match:
    """What a picture has in common with the one that is kept."""

    kept: int
    cosine: float | None
    bits: int
    compared: int
    turned: int


def find(
    store: Store,
    wanted: Wanted,
    *,
    cache: Looks,
    workers: Callable[[], Workers],
    on_progress: Progress = lambda what, done, total: None,
) -> Found:
    """The groups, those with the most to gain first. `workers` is asked for only if photos have to be read.

    Time grows with the square of the number of photos, memory in proportion to it (docs/benchmarks.md). Raises
    IndexNotFound while nothing was ever indexed.
    """
    with store.catalog.reading():  # a prune gives slots other numbers
        view = store.view()
        contents, photos, changed = _contents(store, view, wanted, on_progress)
    matches: dict[int, _Match] = {}
    skipped: list[Skipped] = []
    if not wanted.exact_only:
        near = _Near(contents, view.rows, wanted, on_progress)
        skipped = near.look(cache, workers)
        matches = near.matches()
    return Found(tuple(_groups(store, contents, matches)), photos, changed, tuple(skipped))


def _contents(store: Store, view: View, wanted: Wanted, on_progress: Progress) -> tuple[list[_Content], int, int]:
    """The contents to compare, the one to keep before those it would be kept for; and how many photos are looked
    among, and how many are not as they were indexed."""
    spots: dict[bytes, list[_Spot]] = {}
    photos = changed = 0
    rows = _rows(store, wanted.filters)
    for number, row in enumerate(rows):
        if number % 1_000 == 0:
            on_progress("looking for files", number, len(rows))
        place_id, path, content, size, mtime, inode, *facts = row
        if _is_as_indexed(path, size, mtime):
            spot = _Spot(place_id, path, size, mtime, inode, _rank(wanted.keep, path, size, mtime, *facts))
            spots.setdefault(content, []).append(spot)
            photos += 1
        else:
            changed += 1
    slots = _slots(store, view, spots) if not wanted.exact_only else {}
    made = [
        _Content(content, tuple(sorted(places, key=lambda spot: spot.rank)), slots.get(content))
        for content, places in spots.items()
    ]
    made.sort(key=lambda content: content.places[0].rank)
    return made, photos, changed


def _rows(store: Store, filters: Filters) -> list[tuple[Any, ...]]:
    """(id, path, content hash, size, mtime_ns, inode, taken_at, width, height) of the present photos picked."""
    chosen = condition(filters, store) if filters else None
    roots = {root.id: root for root in store.catalog.roots() if root.state == "online"}
    rows = store.catalog.photo_rows(chosen.sql if chosen else "", **(chosen.parameters if chosen else {}))
    return [(row[0], roots[row[1]].path_of(row[2]), *row[3:]) for row in rows if row[1] in roots]


def _slots(store: Store, view: View, contents: dict[bytes, list[_Spot]]) -> dict[bytes, int]:
    """The slots of pictures, but of a RAW file's beside which the same shot lies as a JPEG: these belong together."""
    paired = store.catalog.paired_contents()
    slots = store.catalog.slots_by_key(view.space.id, "image")
    return {key: slot for key, slot in slots.items() if key in contents and key not in paired and slot < len(view.rows)}


def _is_as_indexed(path: str, size: object, mtime: object) -> bool:
    try:
        info = os.stat(path)
    except (OSError, ValueError):
        return False
    return (info.st_size, mtime_ns(info)) == (size, mtime)


def _rank(
    keep: Keep, path: str, size: int, mtime: int, taken_at: object, width: object, height: object
) -> tuple[Any, ...]:
    pixels = width * height if isinstance(width, int) and isinstance(height, int) else 0
    moment = _moment(taken_at, mtime)
    raw = os.fsencode(path)
    if keep == "oldest":
        return (moment, -pixels, -size, mtime, len(raw), raw)
    return (-pixels, -size, moment, mtime, len(raw), raw)


def _moment(taken_at: object, mtime: int) -> float:
    """When it was taken or else last modified, in seconds; only to compare."""
    try:
        return datetime.datetime.fromisoformat(str(taken_at)).replace(tzinfo=None).timestamp()
    except (ValueError, OverflowError, OSError):
        return min(max(mtime, LEAST_INTEGER), MOST_INTEGER) / 1e9


class _Near:
    """Near copies among contents that stand in the order in which they would be kept.

    Each content joins the first one before it that it is a near copy of and that is kept itself, so that no group
    drifts away from what is kept. Only tiles of the comparison are ever in memory.
    """

    def __init__(self, contents: Sequence[_Content], rows: Vectors, wanted: Wanted, on_progress: Progress) -> None:
        self._contents = contents
        self._rows = rows
        self._quick = wanted.quick
        self._on_progress = on_progress
        self._numbers = [number for number, content in enumerate(contents) if content.slot is not None]
        self._slots = np.array([contents[number].slot for number in self._numbers], np.int64)
        self._looks: list[bytes] = []

    def look(self, cache: Looks, workers: Callable[[], Workers]) -> list[Skipped]:
        """Get the looks of all that may have a near copy; what has none is left out from here on."""
        hashes = [self._contents[number].hash for number in self._numbers]
        known = cache.find(hashes)
        is_known = np.array([content in known for content in hashes], bool)
        if not is_known.all():
            needed = self._has_neighbour() & ~is_known if self._quick else ~is_known
            photos = {hashes[at]: _photo(self._contents[self._numbers[at]].places[0]) for at in np.flatnonzero(needed)}
            skipped = []
            if photos:
                found = read_looks(
                    workers(), photos, cache=cache, on_step=lambda n: self._on_progress("reading", n, len(photos))
                )
                for content, seen in found:
                    if isinstance(seen, Skipped):
                        skipped.append(seen)
                    else:
                        known[content] = seen
        else:
            skipped = []
        kept = [at for at, content in enumerate(hashes) if content in known]
        self._looks = [known[hashes[at]] for at in kept]
        self._numbers = [self._numbers[at] for at in kept]
        self._slots = self._slots[kept]
        return skipped

    def _has_neighbour(self) -> NDArray[np.bool_]:
        """Of each content: whether another one's vector is near enough."""
        near = np.zeros(len(self._slots), bool)
        for across, down, cosines in self._tiles("comparing", np.ones(len(near), bool)):
            is_near = cosines >= LEAST_COSINE
            if across == down:
                np.fill_diagonal(is_near, False)
            near[across : across + TILE] |= is_near.any(axis=1)
            near[down : down + TILE] |= is_near.any(axis=0)
        return near

    def _tiles(self, doing: str, is_open: NDArray[np.bool_]) -> Iterator[tuple[int, int, NDArray[np.float32]]]:
        """Where a tile of the upper triangle begins, across and down, and its cosines. `is_open` may be changed
        meanwhile: rows of tiles with none that is are passed over."""
        count = len(self._slots)
        starts = range(0, count, TILE)
        total, done = len(starts) * (len(starts) + 1) // 2, 0
        for across in starts:
            if is_open[across : across + TILE].any():
                ones = self._rows[self._slots[across : across + TILE]]
                for down in range(across, count, TILE):
                    others = ones if down == across else self._rows[self._slots[down : down + TILE]]
                    yield across, down, ones @ others.T
                    done += 1
                    self._on_progress(doing, done, total)
            else:
                done += len(range(across, count, TILE))

    def matches(self) -> dict[int, _Match]:
        """By the number of a content, what it is a near copy of."""
        found: dict[int, _Match] = {}
        if not self._looks:
            return found
        looks = codes(self._looks)
        turns = [turned(looks, quarters) for quarters in range(4)]
        is_open = np.ones(len(looks), bool)
        for across, down, cosines in self._tiles("matching", is_open):
            alone = None if self._quick else self._alone(looks, turns, across, down)
            candidates = cosines >= LEAST_COSINE if alone is None else (cosines >= LEAST_COSINE) | alone
            if across == down:
                candidates = np.triu(candidates, 1)
            candidates &= is_open[across : across + TILE, None] & is_open[None, down : down + TILE]
            for one, other, bits, compared, quarters in self._confirmed(candidates, cosines, turns, across, down):
                if is_open[one] and is_open[other]:  # one is kept, the other not yet a copy of anything
                    is_open[other] = False
                    cosine = float(cosines[one - across, other - down])
                    found[self._numbers[other]] = _Match(self._numbers[one], cosine, bits, compared, TURNS[quarters])
        return found

    @staticmethod
    def _alone(looks: Codes, turns: Sequence[Codes], across: int, down: int) -> NDArray[np.bool_]:
        """Pairs of a tile whose looks may be near enough without their vectors: counted by a product of signs."""
        ones, near = _signs(looks[across : across + TILE]), None
        for each in turns:
            agreeing = ones @ _signs(each[down : down + TILE]).T
            # Bits that are not clear may differ without counting; what they hide is looked at by `_confirmed`.
            is_near = agreeing >= BITS - 2 * (BITS * MOST_DIFFERING_ALONE + (BITS - LEAST_CLEAR_ALONE) / 2)
            near = is_near if near is None else near | is_near
        assert near is not None
        return near

    @staticmethod
    def _confirmed(
        candidates: NDArray[np.bool_], cosines: NDArray[np.float32], turns: Sequence[Codes], across: int, down: int
    ) -> Iterator[tuple[int, int, int, int, int]]:
        """Those pairs of a tile whose looks agree, in order: both numbers, bits that differ, bits compared, turns."""
        ones, others = np.nonzero(candidates)
        for start in range(0, len(ones), PAIRS_AT_ONCE):
            one, other = ones[start : start + PAIRS_AT_ONCE], others[start : start + PAIRS_AT_ONCE]
            cosine = cosines[one, other]
            one, other = one + across, other + down
            best = np.full(len(one), np.inf)
            bits, compared, quarters = (np.zeros(len(one), np.int64) for _ in range(3))
            for quarter, each in enumerate(turns):
                differ, both, either = differing(each[one], turns[0][other])
                share = differ / np.maximum(both, 1)
                is_better = _is_near(share, both, either, cosine) & (share < best)
                best[is_better], bits[is_better] = share[is_better], differ[is_better]
                compared[is_better], quarters[is_better] = both[is_better], quarter
            for at in np.flatnonzero(best < np.inf):
                yield int(one[at]), int(other[at]), int(bits[at]), int(compared[at]), int(quarters[at])


def _is_near(
    share: NDArray[np.float64], both: NDArray[np.int64], either: NDArray[np.int64], cosine: NDArray[np.float32]
) -> NDArray[np.bool_]:
    """Whether looks agree: with the vectors' consent, or so well that it is not needed."""
    shared = both / np.maximum(either, 1)
    with_vectors = (cosine >= LEAST_COSINE) & (share <= MOST_DIFFERING) & (both >= LEAST_CLEAR)
    alone = (share <= MOST_DIFFERING_ALONE) & (both >= LEAST_CLEAR_ALONE) & (shared >= LEAST_SHARED_ALONE)
    near: NDArray[np.bool_] = (with_vectors & (shared >= LEAST_SHARED)) | alone
    return near


def _signs(looks: Codes) -> NDArray[np.float32]:
    """float32, (n, 128): 1 for a bit that is set, -1 for one that is not."""
    bits = np.unpackbits(np.ascontiguousarray(looks[:, :2]).view(np.uint8), axis=1)
    return bits.astype(np.float32) * 2 - 1


def _photo(spot: _Spot) -> Photo:
    folder, name = os.path.split(spot.path)
    return Photo(folder, name, spot.size, spot.mtime_ns, spot.inode, named=True)


def _groups(store: Store, contents: Sequence[_Content], matches: dict[int, _Match]) -> Iterator[Group]:
    """Contents put together, each with all its places: what is gained most by first."""
    copies: dict[int, list[tuple[int, _Match]]] = {}
    for number, match in matches.items():
        copies.setdefault(match.kept, []).append((number, match))
    kept = [number for number, content in enumerate(contents) if number in copies or len(content.places) > 1]
    kept = [number for number in kept if number not in matches]
    gains = {number: _gain(contents, number, copies.get(number, ())) for number in kept}
    for number in sorted(kept, key=lambda number: (-gains[number], number)):
        near = sorted(copies.get(number, ()))
        members = [number, *(other for other, _ in near)]
        ids = [spot.id for member in members for spot in contents[member].places]
        places = {place.id: place for place in store.catalog.places_by_id(ids)}
        first, *same = contents[number].places
        others = [Duplicate(places[spot.id], "exact") for spot in same if spot.id in places]
        for other, match in near:
            others += [
                Duplicate(places[spot.id], "near", match.cosine, match.bits, match.compared, match.turned)
                for spot in contents[other].places
                if spot.id in places
            ]
        if first.id in places and others:  # else a prune has forgotten them meanwhile
            yield Group(places[first.id], tuple(others))


def _gain(contents: Sequence[_Content], number: int, copies: Sequence[tuple[int, _Match]]) -> int:
    """Bytes of all files of a group but the one that is kept."""
    members = [contents[number], *(contents[other] for other, _ in copies)]
    return sum(spot.size for content in members for spot in content.places) - contents[number].places[0].size
