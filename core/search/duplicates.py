"""Duplicates: the same bytes, or the same picture in another size, format or rotation.

Exact copies are a matter of the catalogue: equal content hashes. Near ones are found by their perceptual hashes: alike
where the vectors of the pictures agree, or all but equal where a model sees them otherwise. Nothing is deleted here.
"""

from __future__ import annotations

import datetime
import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import numpy as np  # noqa: TID253

from imgsearch.core.paths import MAX_INTEGER, MIN_INTEGER, inode, mtime_ns
from imgsearch.core.photos.perceptual_hash import (
    BITS,
    TURNS,
    PerceptualHashes,
    agreement,
    codes,
    details,
    differing,
    read_hashes,
    turned,
)
from imgsearch.core.store.records import Place
from imgsearch.core.store.store import Store, View
from imgsearch.core.types import Photo, Skipped

from .filter_conditions import condition
from .filters import Filters

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from imgsearch.core.photos.decode_pool import DecodePool
    from imgsearch.core.photos.perceptual_hash import Codes
    from imgsearch.core.types import Vectors

Keep = Literal["largest", "oldest"]
Kind = Literal["exact", "near"]

# Measured by bench/dupes.py (docs/benchmarks.md): re-encoded, resized, brightened and slightly cropped copies differ in
# at most 20 of 128 bits; four million pairs of different photos, rotated ones included, differ in 25 or more.
MIN_COSINE = 0.7
MAX_DIFFERING = 20 / BITS
# The number of bits that must be clear in both, and their share of those clear in either.
MIN_CLEAR = 48
MIN_SHARED = 0.5
# By hash only, whatever the vectors are: for some models rotated and grey copies are far away.
MAX_DIFFERING_ALONE = 10 / BITS
MIN_CLEAR_ALONE = 64
MIN_SHARED_ALONE = 0.75
# Agreement of details, which tells apart pages of text with the same layout: at least .86 for copies (.73 if 5 % is
# cropped), at most .71 for different pages of one layout.
MIN_AGREEMENT = 0.8
# With fewer clear bits (1 % of photos, nearly all pages, forms and drawings) the details must be almost equal:
# differently filled in forms agree by up to .96.
CLEAR_OF_PHOTO = 80
MIN_AGREEMENT_OF_PAGES = 0.985

# The number of agreeing clear bits minus the number of differing ones that near copies have at least.
MIN_AGREEING = MIN_CLEAR * (1 - 2 * MAX_DIFFERING)
# The side of a tile of the comparison: 4 MB for all rotations, which fit a processor's cache. The number of pairs per
# step whose hashes are compared, and whose vectors and details are.
TILE = 512
PAIRS_AT_ONCE = 1 << 16
VECTORS_AT_ONCE = 1 << 12

Progress = Callable[[str, int, int], None]
"""Called with the stage, the number done and the total."""


@dataclass(frozen=True, slots=True)
class DuplicateOptions:
    """Which photos to compare, and how."""

    keep: Keep = "largest"
    filters: Filters = field(default_factory=Filters)
    exact_only: bool = False
    """Only equal bytes, which reads no photo."""
    quick: bool = False
    """Read only photos with a similar vector, which misses copies that the model sees differently: rotated, grey ..."""


@dataclass(frozen=True, slots=True)
class Duplicate:
    """A copy of the photo that is kept."""

    place: Place
    kind: Kind
    cosine: float | None = None
    bits: int | None = None
    """The number of differing bits."""
    compared: int | None = None
    turned: int = 0
    """Degrees counter-clockwise from the kept photo."""


@dataclass(frozen=True, slots=True)
class Group:
    """The copies of one picture. Each was compared with the one that is kept."""

    kept: Place
    others: tuple[Duplicate, ...]

    @property
    def kind(self) -> Kind:
        return "exact" if all(other.kind == "exact" for other in self.others) else "near"


@dataclass(frozen=True, slots=True)
class DuplicateReport:
    """The result of the search for duplicates."""

    groups: tuple[Group, ...]
    photos: int
    """The number of photos compared."""
    changed: int
    """The number of photos left out: gone, or changed since they were indexed."""
    linked: int
    """The number of names left out: links to files that are counted."""
    skipped: tuple[Skipped, ...]
    """Could not be read."""


@dataclass(frozen=True, slots=True)
class _Content:
    """The files with the same bytes."""

    hash: bytes
    places: tuple[_File, ...]
    slot: int | None


@dataclass(frozen=True, slots=True)
class _File:
    """A file, and its rank among its copies."""

    id: int
    path: str
    size: int
    mtime_ns: int
    inode: int
    file: tuple[int, int]
    """Device and inode on disk: two names of one file are not copies."""
    rank: tuple[Any, ...]
    """The lowest is kept."""


@dataclass(frozen=True, slots=True)
class _Match:
    """How a picture compares with the one that is kept."""

    kept: int
    cosine: float | None
    bits: int
    compared: int
    turned: int


def find(
    store: Store,
    wanted: DuplicateOptions,
    *,
    cache: PerceptualHashes,
    workers: Callable[[], DecodePool],
    on_progress: Progress = lambda what, done, total: None,
) -> DuplicateReport:
    """The groups, sorted by bytes to gain. `workers` is called only if photos have to be read.

    Time grows with the square of the number of photos, memory in proportion to it (docs/benchmarks.md). Raises
    IndexNotFound while nothing was ever indexed.
    """
    with store.catalog.reading():  # a prune renumbers slots
        view = store.view()
        contents, changed, linked = _contents(store, view, wanted, on_progress)
    photos = sum(len(content.places) for content in contents)
    matches: dict[int, _Match] = {}
    skipped: list[Skipped] = []
    if not wanted.exact_only:
        near = _NearCopies(contents, view.rows, wanted, on_progress)
        skipped = near.load_hashes(cache, workers)
        matches = near.matches()
    groups, since = _groups(store, contents, matches)
    return DuplicateReport(tuple(groups), photos - since, changed + since, linked, tuple(skipped))


def _contents(
    store: Store, view: View, wanted: DuplicateOptions, on_progress: Progress
) -> tuple[list[_Content], int, int]:
    """The contents to compare, in order of rank; the number of changed photos, and of links."""
    files: dict[tuple[int, int], tuple[bytes, _File]] = {}
    changed = linked = 0
    rows = _rows(store, wanted.filters)
    for number, row in enumerate(rows):
        if number % 1_000 == 0:
            on_progress("looking for files", number, len(rows))
        place_id, path, content, size, mtime, number_on_disk, *facts = row
        file = _file_as_indexed(path, size, mtime)
        if file is None:
            changed += 1
            continue
        spot = _File(place_id, path, size, mtime, number_on_disk, file, _rank(wanted.keep, path, size, mtime, *facts))
        if file in files:
            linked += 1
        if file not in files or _name_rank(spot) < _name_rank(files[file][1]):
            files[file] = content, spot
    spots: dict[bytes, list[_File]] = {}
    for content, spot in files.values():
        spots.setdefault(content, []).append(spot)
    slots = _slots(store, view, spots) if not wanted.exact_only else {}
    made = [
        _Content(content, tuple(sorted(places, key=_name_rank)), slots.get(content))
        for content, places in spots.items()
    ]
    made.sort(key=lambda content: content.places[0].rank)
    return made, changed, linked


def _rows(store: Store, filters: Filters) -> list[tuple[Any, ...]]:
    """(id, path, content hash, size, mtime_ns, inode, taken_at, width, height) of the present photos that match."""
    chosen = condition(filters, store=store) if filters else None
    roots = {root.id: root for root in store.catalog.roots.all() if root.state == "online"}
    rows = store.catalog.places.rows_where(chosen.sql if chosen else "", **(chosen.parameters if chosen else {}))
    return [(row[0], roots[row[1]].path_of(row[2]), *row[3:]) for row in rows if row[1] in roots]


def _slots(store: Store, view: View, contents: dict[bytes, list[_File]]) -> dict[bytes, int]:
    """The slots of pictures, without RAW files that have a JPEG of the same shot: they belong together. Also without
    videos: one of their frames does not tell whether the rest is equal."""
    left_out = store.catalog.photos.paired_contents() | store.catalog.photos.video_contents()
    slots = store.catalog.vectors.slots_by_key(view.space.id, "image")
    return {
        key: slot for key, slot in slots.items() if key in contents and key not in left_out and slot < len(view.rows)
    }


def _file_as_indexed(path: str, size: object, mtime: object) -> tuple[int, int] | None:
    """Device and inode on disk, if size and time are as indexed."""
    try:
        info = os.stat(path)
    except (OSError, ValueError):
        return None
    return (info.st_dev, inode(info)) if (info.st_size, mtime_ns(info)) == (size, mtime) else None


def _name_rank(spot: _File) -> tuple[Any, ...]:
    """The lowest of several names or equal files is kept: regular files before symbolic links, whose target may be on a
    removable disk."""
    return os.path.islink(spot.path), spot.rank


def _is_still_there(spot: _File, content: bytes) -> bool:
    """Whether the file is as indexed. If another file has taken its name, with the same size and time (a renumbered
    burst), it is read again."""
    if _file_as_indexed(spot.path, spot.size, spot.mtime_ns) != spot.file:
        return False
    if spot.inode in (0, spot.file[1]):
        return True
    try:
        with open(spot.path, "rb") as file:
            return hashlib.file_digest(file, "sha256").digest() == content
    except OSError:
        return False


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
    """When it was taken, else when it was modified, in seconds; only for sorting."""
    try:
        return datetime.datetime.fromisoformat(str(taken_at)).replace(tzinfo=None).timestamp()
    except (ValueError, OverflowError, OSError):
        return min(max(mtime, MIN_INTEGER), MAX_INTEGER) / 1e9


class _NearCopies:
    """Near copies among contents in order of rank.

    Each content joins the first one before it that it is a near copy of and that is kept itself, so that no group
    drifts away from what is kept. Only tiles of the comparison are ever in memory.
    """

    def __init__(
        self, contents: Sequence[_Content], rows: Vectors, wanted: DuplicateOptions, on_progress: Progress
    ) -> None:
        self._contents = contents
        self._rows = rows
        self._quick = wanted.quick
        self._on_progress = on_progress
        self._numbers = [number for number, content in enumerate(contents) if content.slot is not None]
        self._slots = np.array([contents[number].slot for number in self._numbers], np.int64)
        self._hashes: list[bytes] = []

    def load_hashes(self, cache: PerceptualHashes, workers: Callable[[], DecodePool]) -> list[Skipped]:
        """Get the hashes of all that may have a near copy; what has none is left out from here on."""
        hashes = [self._contents[number].hash for number in self._numbers]
        known = cache.find(hashes)
        needed = np.array([content not in known for content in hashes], bool)
        if self._quick and needed.any():
            needed &= self._has_neighbour()
        photos = {hashes[at]: _photo(self._contents[self._numbers[at]].places[0]) for at in np.flatnonzero(needed)}
        skipped: list[Skipped] = []
        if photos:
            found = read_hashes(
                workers(), photos, cache=cache, on_step=lambda n: self._on_progress("reading", n, len(photos))
            )
            for content, seen in found:
                if isinstance(seen, Skipped):
                    skipped.append(seen)
                else:
                    known[content] = seen
        kept = [at for at, content in enumerate(hashes) if content in known]
        self._hashes = [known[hashes[at]] for at in kept]
        self._numbers = [self._numbers[at] for at in kept]
        self._slots = self._slots[kept]
        return skipped

    def _has_neighbour(self) -> NDArray[np.bool_]:
        """For each content, whether another has a similar vector."""
        near = np.zeros(len(self._slots), bool)
        for across, down in self._tiles("comparing", np.ones(len(near), bool)):
            ones, others = (self._rows[self._slots[start : start + TILE]] for start in (across, down))
            is_near = ones @ others.T >= MIN_COSINE
            if across == down:
                np.fill_diagonal(is_near, False)
            near[across : across + TILE] |= is_near.any(axis=1)
            near[down : down + TILE] |= is_near.any(axis=0)
        return near

    def _tiles(self, doing: str, is_open: NDArray[np.bool_]) -> Iterator[tuple[int, int]]:
        """The starts of the tiles of the upper triangle, across and down.

        The caller may change `is_open`: a row of tiles without open contents is skipped.
        """
        starts = range(0, len(is_open), TILE)
        total, done = len(starts) * (len(starts) + 1) // 2, 0
        for across in starts:
            for down in range(across, len(is_open), TILE):
                if is_open[across : across + TILE].any():
                    yield across, down
                done += 1
                self._on_progress(doing, done, total)

    def matches(self) -> dict[int, _Match]:
        """The matches of near copies, by the number of the content."""
        found: dict[int, _Match] = {}
        if not self._hashes:
            return found
        all_codes = codes(self._hashes)
        turns = [turned(all_codes, quarters) for quarters in range(4)]
        is_open = np.ones(len(all_codes), bool)
        before, ones = -1, np.empty(0, np.float32)
        for across, down in self._tiles("matching", is_open):
            if across != before:
                before, ones = across, np.concatenate([_signs(each[across : across + TILE]) for each in turns])
            others = _signs(all_codes[down : down + TILE])
            agreeing = (ones @ others.T).reshape(len(turns), -1, len(others)).max(axis=0)
            candidates = agreeing >= MIN_AGREEING
            candidates &= is_open[across : across + TILE, None] & is_open[None, down : down + TILE]
            if across == down:
                candidates = np.triu(candidates, 1)
            for one, other, match in self._confirmed(candidates, turns, across, down):
                if is_open[one] and is_open[other]:  # one is kept, the other is not yet a copy
                    is_open[other] = False
                    found[self._numbers[other]] = match
        return found

    def _confirmed(
        self, candidates: NDArray[np.bool_], turns: Sequence[Codes], across: int, down: int
    ) -> Iterator[tuple[int, int, _Match]]:
        """The pairs of a tile that are near copies, in order."""
        ones, others = np.nonzero(candidates)
        for start in range(0, len(ones), PAIRS_AT_ONCE):
            one, other = ones[start : start + PAIRS_AT_ONCE] + across, others[start : start + PAIRS_AT_ONCE] + down
            may_be = np.any([_agree(each[one], turns[0][other])[0] for each in turns], axis=0)
            one, other = one[may_be], other[may_be]
            for part in range(0, len(one), VECTORS_AT_ONCE):
                yield from self._near(one[part : part + VECTORS_AT_ONCE], other[part : part + VECTORS_AT_ONCE], turns)

    def _near(
        self, one: NDArray[np.int64], other: NDArray[np.int64], turns: Sequence[Codes]
    ) -> Iterator[tuple[int, int, _Match]]:
        """Of pairs whose hashes agree, those whose vectors do, too, or that agree so well that it is not needed."""
        cosine = np.einsum("ij,ij->i", self._rows[self._slots[one]], self._rows[self._slots[other]])
        best = np.full(len(one), np.inf)
        bits, compared, quarters = (np.zeros(len(one), np.int64) for _ in range(3))
        for quarter, each in enumerate(turns):
            with_vectors, alone, differ, both = _agree(each[one], turns[0][other])
            share = differ / np.maximum(both, 1)
            is_near = with_vectors & (cosine >= MIN_COSINE)
            if not self._quick:
                is_near |= alone
            is_better = is_near & (share < best)
            best[is_better], bits[is_better] = share[is_better], differ[is_better]
            compared[is_better], quarters[is_better] = both[is_better], quarter
        near = np.flatnonzero(best < np.inf)
        least = np.where(compared < CLEAR_OF_PHOTO, MIN_AGREEMENT_OF_PAGES, MIN_AGREEMENT)
        for at in near[self._agreement(one[near], other[near], quarters[near]) >= least[near]]:
            match = _Match(
                self._numbers[one[at]], float(cosine[at]), int(bits[at]), int(compared[at]), TURNS[quarters[at]]
            )
            yield int(one[at]), int(other[at]), match

    def _agreement(
        self, one: NDArray[np.int64], other: NDArray[np.int64], quarters: NDArray[np.int64]
    ) -> NDArray[np.float32]:
        """The agreement of the details of each pair."""
        agreeing = np.zeros(len(one), np.float32)
        for turn in np.unique(quarters):
            at = np.flatnonzero(quarters == turn)
            ones = details([self._hashes[number] for number in one[at]], int(turn))
            others = details([self._hashes[number] for number in other[at]])
            agreeing[at] = agreement(ones, others)
        return agreeing


def _agree(
    ones: Codes, others: Codes
) -> tuple[NDArray[np.bool_], NDArray[np.bool_], NDArray[np.int64], NDArray[np.int64]]:
    """Of each pair: whether the hashes agree well enough if the vectors do, and if they do not; how many bits differ,
    and of how many."""
    differ, both, either = differing(ones, others)
    share, shared = differ / np.maximum(both, 1), both / np.maximum(either, 1)
    with_vectors = (share <= MAX_DIFFERING) & (both >= MIN_CLEAR) & (shared >= MIN_SHARED)
    alone = (share <= MAX_DIFFERING_ALONE) & (both >= MIN_CLEAR_ALONE) & (shared >= MIN_SHARED_ALONE)
    return with_vectors, alone, differ, both


def _signs(codes: Codes) -> NDArray[np.float32]:
    """float32, (n, 128): 1 for a set bit, -1 for a cleared one, 0 for an unclear one."""
    bits = np.unpackbits(np.ascontiguousarray(codes).view(np.uint8), axis=1).astype(np.float32)
    return (bits[:, :BITS] * 2 - 1) * bits[:, BITS:]


def _photo(spot: _File) -> Photo:
    folder, name = os.path.split(spot.path)
    return Photo(folder, name, spot.size, spot.mtime_ns, spot.inode, named=True)


def _groups(store: Store, contents: Sequence[_Content], matches: dict[int, _Match]) -> tuple[list[Group], int]:
    """The groups, sorted by bytes to gain; and the number of files that changed meanwhile, which are in no group."""
    copies: dict[int, list[tuple[int, _Match]]] = {}
    for number, match in matches.items():
        copies.setdefault(match.kept, []).append((number, match))
    kept = [number for number, content in enumerate(contents) if number in copies or len(content.places) > 1]
    kept = [number for number in kept if number not in matches]
    gains = {number: _gain(contents, number, copies.get(number, ())) for number in kept}
    groups, changed = [], 0
    for number in sorted(kept, key=lambda number: (-gains[number], number)):
        near = sorted(copies.get(number, ()))
        here = {member: _still_there(contents[member]) for member in (number, *(other for other, _ in near))}
        changed += sum(len(contents[member].places) - len(spots) for member, spots in here.items())
        if not here[number]:
            continue  # the others were compared with nothing else
        places = {
            place.id: place for place in store.catalog.places.by_id([s.id for spots in here.values() for s in spots])
        }
        first, *same = here[number]
        others = [Duplicate(places[spot.id], "exact") for spot in same if spot.id in places]
        for other, match in near:
            others += [
                Duplicate(places[spot.id], "near", match.cosine, match.bits, match.compared, match.turned)
                for spot in here[other]
                if spot.id in places
            ]
        if first.id in places and others:  # else a prune removed them meanwhile
            groups.append(Group(places[first.id], tuple(others)))
    return groups, changed


def _still_there(content: _Content) -> list[_File]:
    return [spot for spot in content.places if _is_still_there(spot, content.hash)]


def _gain(contents: Sequence[_Content], number: int, copies: Sequence[tuple[int, _Match]]) -> int:
    """Bytes of a group without the file that is kept."""
    members = [contents[number], *(contents[other] for other, _ in copies)]
    return sum(spot.size for content in members for spot in content.places) - contents[number].places[0].size
