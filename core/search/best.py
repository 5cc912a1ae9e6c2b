"""The best rows for a query, without keeping the exact products of all rows.

For one query, by approximate products, which name a shortlist that is multiplied exactly. For many queries that share
one pass over the vectors, block by block: the products of a block are compared with what is best so far while they are
in the processor's cache, and then dropped. To keep all of them and partition them later takes half as long again as to
multiply.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, TypeVar

import numpy as np  # noqa: TID253

from imgsearch.core.light_dataclass import dataclass
from imgsearch.core.paths import processor_cores

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from imgsearch.core.types import Vectors

    Scores = NDArray[np.float32]
    Slots = NDArray[np.int64]

Result = TypeVar("Result")

# The size of a shortlist, and how many times its largest error the products outside are below the last wanted one.
SHORTLIST = 200
SHORTLIST_PER_WANTED = 4
MARGIN = 2
# A shortlist is at most this part of all rows.
SCAN_SHARE = 16
# Rows multiplied at once (bench/search.py).
ROWS_AT_ONCE = 8_192
# What is kept per query, as a multiple of what is wanted, before the rest is dropped.
SLACK = 4
# How much the products of equal rows differ at most: how they are rounded depends on their place in the block.
ROUNDING = 1e-6


def best_slots(directions: Sequence[Vectors], rows: Vectors, slots: Slots, count: int) -> list[Slots]:
    """For each direction the slots of the `count` highest dot products, and of all that tie with the last of them.

    Only `slots`, which are in order, are multiplied. NaN counts as highest.
    """
    queries = np.stack(directions).astype(np.float32, copy=False)

    def best_of(part: slice) -> _Best:
        best = _Best(len(queries), count)
        for chosen, block in _blocks(rows, slots[part]):
            best.add(chosen, queries @ block.T)
        return best

    first, *others = in_parts(best_of, len(slots))
    for other in others:
        first.add_all(other)
    return first.each()


def in_parts(work: Callable[[slice], Result], count: int) -> list[Result]:
    """The results of work on parts of that many rows, in order, on all cores. BLAS has only one thread (cli/app.py)."""

    def quiet(part: slice) -> Result:
        with np.errstate(all="ignore"):  # it holds for one thread
            return work(part)

    parts = max(1, min(processor_cores(), count // ROWS_AT_ONCE))
    if parts == 1:
        return [quiet(slice(0, count))]
    from concurrent.futures import ThreadPoolExecutor

    ends = [count * n // parts for n in range(parts + 1)]
    with ThreadPoolExecutor(parts) as pool:
        return list(pool.map(quiet, map(slice, ends, ends[1:])))


def products(direction: Vectors, rows: Vectors) -> Scores:
    """The dot products of some rows: equal for equal rows, which BLAS does not promise."""
    found: Scores = np.einsum("ij,j->i", rows, direction.astype(np.float32, copy=False))
    return found


def best_by_shortlist(
    direction: Vectors, rows: Vectors, slots: Slots, about: Scores, count: int
) -> tuple[Slots, Scores] | None:
    """At least the `count` slots with the highest dot products, and these products.

    `about`: float32, approximate products of the first of `slots`; the rest are multiplied exactly. How wrong they are
    is measured on the shortlist: if a row that is not on it could be among the best, it is made longer. None if that
    would be no better than a scan.
    """
    size = max(SHORTLIST, SHORTLIST_PER_WANTED * count)
    rest = slots[len(about) :]
    while size * SCAN_SHARE <= len(about):
        cut = np.partition(about, len(about) - size)[len(about) - size]
        at = np.flatnonzero(about >= cut)
        near = np.concatenate([slots[at], rest])
        exact = products(direction, rows[near])
        error = np.abs(exact[: len(at)] - about[at]).max()
        if np.partition(exact, len(exact) - count)[len(exact) - count] > cut + MARGIN * error:
            return near, exact
        size *= 4
    return None


def _blocks(rows: Vectors, slots: Slots) -> Iterator[tuple[Slots, Vectors]]:
    for start in range(0, len(slots), ROWS_AT_ONCE):
        chosen = slots[start : start + ROWS_AT_ONCE]
        first, last = int(chosen[0]), int(chosen[-1])
        is_range = last - first == len(chosen) - 1
        yield chosen, rows[first : last + 1] if is_range else rows[chosen]


@dataclass(frozen=True, slots=True)
class _Found:
    """Products that may be among the best: parallel arrays."""

    queries: Slots
    slots: Slots
    products: Scores


class _Best:
    """The best so far. `_cuts`: float32 (queries,), the lowest product that can still be among them."""

    def __init__(self, queries: int, count: int) -> None:
        self._count = count
        self._cuts = np.full(queries, -np.inf, np.float32)
        self._found: list[_Found] = []

    def add(self, slots: Slots, products: Scores) -> None:
        """`products`: float32 (queries, slots)."""
        if not self._found and len(slots) > self._count:
            below = len(slots) - self._count
            self._cuts = np.partition(products, below, axis=1)[:, below] - np.float32(ROUNDING)
        at = np.flatnonzero(~(products < self._cuts[:, None]))
        queries, columns = np.divmod(at, len(slots))
        self._found.append(_Found(queries, slots[columns], products.ravel()[at]))
        if sum(len(found.queries) for found in self._found) > SLACK * self._count * len(self._cuts):
            self._drop_the_rest()

    def add_all(self, other: _Best) -> None:
        self._found += other._found

    def _drop_the_rest(self) -> None:
        queries, slots, products = (
            np.concatenate([getattr(found, name) for found in self._found]) for name in ("queries", "slots", "products")
        )
        order = np.argsort(queries, kind="stable")  # fast, because it joins a few sorted runs
        queries, slots, products = queries[order], slots[order], products[order]
        ends = np.searchsorted(queries, np.arange(1, len(self._cuts)))
        for at, own in enumerate(np.split(products, ends)):
            if len(own) > self._count:
                cut = np.partition(own, len(own) - self._count)[len(own) - self._count]
                self._cuts[at] = cut - np.float32(ROUNDING)
        keep = ~(products < self._cuts[queries])
        self._found = [_Found(queries[keep], slots[keep], products[keep])]

    def each(self) -> list[Slots]:
        if not self._found:
            return [np.zeros(0, np.int64)] * len(self._cuts)
        self._drop_the_rest()
        (found,) = self._found
        at = np.searchsorted(found.queries, np.arange(1, len(self._cuts)))
        return np.split(found.slots, at)
