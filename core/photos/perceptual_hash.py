"""A perceptual hash of 320 bytes: which parts of a picture are lighter than their neighbours, and its details.

The first part is a difference hash of the picture, squashed to a square: 8 rows of 9 cells and 9 rows of 8, each cell
compared with the next, 128 bits. Another 128 bits say which of these differences are clear: a blank sky or a black
frame has almost none, and two of them are not the same picture. The hash survives re-encoding, resizing and a change
of brightness, and that of a rotated picture follows from that of the upright one.

Two pages of text are equal in that part. The other 288 bytes therefore hold finer details: 24 by 24 cells minus the
mean around each, in 16 levels. They are compared for the few pairs that agree so far, also as if one of the two
pictures were slightly cropped.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np  # noqa: TID253

from imgsearch.core.cache import CacheFile
from imgsearch.core.places import cache_folder
from imgsearch.core.types import NotAPicture, Photo, Recipe, Skipped, SkipPhoto

if TYPE_CHECKING:
    from concurrent.futures import Future

    from numpy.typing import NDArray

    from imgsearch.core.types import Vectors

    from .decode_pool import DecodePool

    Codes = NDArray[np.uint64]
    """uint64, (..., 4): two words of bits, and two that say which of them are clear."""

SIDE = 72
"""Divisible by 8 and by 9."""
# The square of a picture that is not cropped: the whole picture, whatever its shape.
RECIPE = Recipe((SIDE, SIDE), (0.0, 0.0, 0.0), (1.0, 1.0, 1.0), resize_mode="squash")
DRAFT_SIDE = 4 * SIDE
# Of 255 levels of grey: what a JPEG encoder changes in the mean of a cell is below one.
CLEAR = 2.0
BITS = 128
CODE_BYTES = 32
FINE = 24
"""Also a divisor of the side."""
HASH_BYTES = CODE_BYTES + FINE * FINE // 2
AROUND = 5
"""Side, in fine cells, of the neighbourhood whose mean is subtracted from each cell."""
MIN_DETAIL = 1.0
"""Levels of grey (their deviation) below which there are no details but what an encoder left."""
CROPS = (0.0, 0.01, 0.02, 0.03, 0.045, 0.06)
"""Shares of each side by which one picture may be cropped."""
TURNS = (0, 90, 180, 270)
MAX_HASHES = 1_000_000
"""Hashes that are remembered: some 400 MB. Those first made go first."""
# Files read ahead, per worker.
LOOKAHEAD = 2
REMEMBERED_AT_ONCE = 256
_GREY = np.array([0.299, 0.587, 0.114], np.float32)  # ITU-R BT.601


def hash_of(square: NDArray[np.uint8]) -> bytes:
    """The hash of a picture: 320 bytes, from its (72, 72, 3) RGB square."""
    grey = square.astype(np.float32) @ _GREY
    across = np.diff(_cells(grey, 8, 9), axis=1)
    down = np.diff(_cells(grey, 9, 8), axis=0)
    steps = np.concatenate([across.ravel(), down.ravel()])
    code = np.packbits(np.concatenate([steps > 0, np.abs(steps) >= CLEAR])).tobytes()
    fine = _cells(grey, FINE, FINE)
    details = fine - _AROUND @ fine @ _AROUND.T
    deviation = float(details.std())
    shown = details / deviation if deviation >= MIN_DETAIL else np.zeros_like(details)
    levels = np.clip(np.rint(shown * 3 + 8), 0, 15).astype(np.uint8)
    return code + (levels[:, ::2] << 4 | levels[:, 1::2]).tobytes()


def _cells(grey: NDArray[np.float32], rows: int, columns: int) -> NDArray[np.float32]:
    """The means of that many rows and columns of cells."""
    means: NDArray[np.float32] = grey.reshape(rows, SIDE // rows, columns, SIDE // columns).mean(axis=(1, 3))
    return means


def codes(hashes: Sequence[bytes]) -> Codes:
    """uint64, (n, 4), to compare many at once."""
    return np.frombuffer(b"".join(each[:CODE_BYTES] for each in hashes), np.uint64).reshape(-1, 4)


def details(hashes: Sequence[bytes], quarters: int = 0) -> Vectors:
    """float32, (n, 24, 24): what is finer than the codes, after `quarters` quarter turns counterclockwise. Zeros where
    there is nothing."""
    packed = np.frombuffer(b"".join(each[CODE_BYTES:] for each in hashes), np.uint8).reshape(-1, FINE, FINE // 2)
    levels = np.stack([packed >> 4, packed & 15], axis=-1).reshape(-1, FINE, FINE)
    turned = np.rot90(levels.astype(np.float32) - 8, quarters, axes=(1, 2))
    return np.ascontiguousarray(turned)


def agreement(ones: Vectors, others: Vectors) -> Vectors:
    """float32, (n,): how well the details of each pair go together, at most 1; 0 where there are none. One of the two
    may be a slightly cropped copy of the other."""
    best = np.zeros(len(ones), np.float32)
    for crop in _CROPS:
        for whole, part in ((ones, others), (others, ones)):
            seen = crop @ whole @ crop.T
            norms = np.sqrt((seen * seen).sum(axis=(1, 2)) * (part * part).sum(axis=(1, 2)))
            best = np.maximum(best, (seen * part).sum(axis=(1, 2)) / np.maximum(norms, 1e-6))
    return best


def _smoothing(side: int, width: int) -> Vectors:
    """A matrix that replaces each cell by the mean of its `width` neighbours: as many on either side, so that a
    gradient cancels out, and therefore fewer near the ends."""
    at = np.arange(side)
    reach = np.minimum(width // 2, np.minimum(at, side - 1 - at))
    near = (np.abs(at[:, None] - at) <= reach[:, None]).astype(np.float32)
    means: Vectors = near / near.sum(axis=1, keepdims=True)
    return means


def _cropping(side: int, share: float) -> Vectors:
    """A matrix that stretches the middle of a row of cells to all of it."""
    at = share * side + (np.arange(side) + 0.5) * (1 - 2 * share) - 0.5
    weights: Vectors = np.maximum(0, 1 - np.abs(at[:, None] - np.arange(side))).astype(np.float32)
    weights /= weights.sum(axis=1, keepdims=True)
    return weights


_AROUND = _smoothing(FINE, AROUND)
_CROPS = tuple(_cropping(FINE, share) for share in CROPS)


def turned(codes: Codes, quarters: int) -> Codes:
    """The hashes of the same pictures after `quarters` quarter turns counterclockwise."""
    bits = np.unpackbits(np.ascontiguousarray(codes).view(np.uint8).reshape(-1, CODE_BYTES), axis=1)
    light, clear = bits[:, :BITS].reshape(-1, 2, 64), bits[:, BITS:].reshape(-1, 2, 64)
    across, down = light[:, 0].reshape(-1, 8, 8), light[:, 1].reshape(-1, 8, 8)
    is_clear = [clear[:, 0].reshape(-1, 8, 8), clear[:, 1].reshape(-1, 8, 8)]
    for _ in range(quarters % 4):
        # What was right of a cell is above it now, so a step to the right has become one upwards.
        across, down = np.rot90(down, axes=(1, 2)), 1 - np.rot90(across, axes=(1, 2))
        is_clear = [np.rot90(is_clear[1], axes=(1, 2)), np.rot90(is_clear[0], axes=(1, 2))]
    flat = [part.reshape(-1, 64) for part in (across, down, *is_clear)]
    return np.packbits(np.concatenate(flat, axis=1), axis=1).view(np.uint64)


def differing(ones: Codes, others: Codes) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Of each pair: bits that differ among those clear in both, how many these are, and how many are clear in any."""
    both = ones[..., 2:] & others[..., 2:]
    differ = (ones[..., :2] ^ others[..., :2]) & both
    return _counted(differ), _counted(both), _counted(ones[..., 2:] | others[..., 2:])


def _counted(words: NDArray[np.uint64]) -> NDArray[np.int64]:
    """The ones in the bits of the last axis."""
    if hasattr(np, "bitwise_count"):  # numpy 2
        counts = np.bitwise_count(words)
    else:
        counts = _ONES[np.ascontiguousarray(words).view(np.uint8)]
    total: NDArray[np.int64] = counts.sum(axis=-1, dtype=np.int64)
    return total


_ONES = np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1).sum(axis=1, dtype=np.uint8)


class PerceptualHashes(CacheFile):
    """A cache of perceptual hashes by content hash, one file in the user's cache folder.

    If it cannot be used, photos are read again. It is independent of the index, which may be read-only.
    """

    TABLE = "looks (content blob not null unique, look blob not null)"
    TIMEOUT_SECONDS = 0.5

    def __init__(self, path: str | None = None) -> None:
        super().__init__(path or os.path.join(cache_folder(), "looks.sqlite3"))

    def find(self, contents: Sequence[bytes]) -> dict[bytes, bytes]:
        """The hashes of the contents that are in the cache."""
        found: dict[bytes, bytes] = {}
        with self._best_effort():
            if os.path.exists(self.path):
                with self._open() as database:
                    for content in contents:
                        row = database.execute("select look from looks where content = ?", [content]).fetchone()
                        if row is not None and isinstance(row[0], bytes) and len(row[0]) == HASH_BYTES:
                            found[content] = row[0]
        return found

    def remember(self, hashes: Mapping[bytes, bytes]) -> None:
        with self._best_effort(), self._open() as database:
            database.executemany("insert or replace into looks values (?, ?)", list(hashes.items()))
            database.execute("delete from looks where rowid <= (select max(rowid) from looks) - ?", [MAX_HASHES])


def read_hashes(
    workers: DecodePool,
    photos: Mapping[bytes, Photo],
    *,
    cache: PerceptualHashes,
    on_step: Callable[[int], None] = lambda done: None,
) -> Iterator[tuple[bytes, bytes | Skipped]]:
    """Read photos, by content hash: each with its perceptual hash, or why there is none. Several are read at once.

    A photo that has changed since it was indexed is skipped.
    """
    from concurrent.futures import ThreadPoolExecutor

    fresh: dict[bytes, bytes] = {}
    with ThreadPoolExecutor(workers.count, thread_name_prefix="hash") as pool:
        pending: deque[tuple[bytes, Future[bytes | Skipped]]] = deque()
        try:
            for done, (content, photo) in enumerate(photos.items(), start=-LOOKAHEAD * workers.count):
                pending.append((content, pool.submit(_read_hash, workers, content, photo)))
                if done >= 0:
                    yield _next(pending, fresh, cache)
                    on_step(done + 1)
            while pending:
                yield _next(pending, fresh, cache)
                on_step(len(photos) - len(pending))
        finally:
            for _, future in pending:
                future.cancel()
            if pending:
                workers.close()  # nothing waits for their results
            if fresh:
                cache.remember(fresh)


def _next(
    pending: deque[tuple[bytes, Future[bytes | Skipped]]], fresh: dict[bytes, bytes], cache: PerceptualHashes
) -> tuple[bytes, bytes | Skipped]:
    content, future = pending[0]
    result = future.result()
    pending.popleft()
    if isinstance(result, bytes):
        fresh[content] = result
        if len(fresh) >= REMEMBERED_AT_ONCE:
            cache.remember(fresh)
            fresh.clear()
    return content, result


def _read_hash(workers: DecodePool, content: bytes, photo: Photo) -> bytes | Skipped:
    try:
        read = workers.read(photo, RECIPE, draft_side=DRAFT_SIDE)
    except SkipPhoto as skipped:
        return Skipped(photo.path, skipped.stage, skipped.reason)
    except NotAPicture:
        return Skipped(photo.path, "decode", "not a picture any more")
    if read.content_hash != content or read.square is None:
        return Skipped(photo.path, "read", "changed since it was indexed")
    return hash_of(read.square)
