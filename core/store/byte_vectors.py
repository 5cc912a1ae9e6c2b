"""A copy of a space's vectors with one byte per dimension: a quarter of the memory to read for a first pass.

Derived from the vector file, and made by writers only. Scores from it are near enough to leave out all but some
hundreds of vectors, which are then scored exactly. The only module that names simsimd.
"""

from __future__ import annotations

import contextlib
import json
import os
import zlib
from collections.abc import Iterator
from itertools import chain
from typing import TYPE_CHECKING

from imgsearch.core.errors import IndexDamaged
from imgsearch.core.late import LateModule
from imgsearch.core.light_dataclass import dataclass
from imgsearch.core.paths import processor_cores
from imgsearch.core.writing import fsync_path

from .files import open_regular, replace_file, write_at
from .vectors import ROWS_AT_ONCE, fault_in

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from imgsearch.core.types import Vectors

    Bytes = NDArray[np.int8]
else:
    np = LateModule("numpy")

# With 33,000 vectors a new process is as fast without, with 100,000 it is faster with them (docs/benchmarks.md).
MIN_SLOTS = 65_536
# The vectors that centre and scale are measured on. They are measured again once there are GROWTH times as many.
SAMPLE = 4_096
GROWTH = 4
UNIT_ERROR = 1e-2
LARGEST = 127
# Fewer bytes are multiplied by one thread: on a busy machine, waiting for a second one takes longer than it saves.
THREADED_BYTES = 1 << 27
MAX_INFO_BYTES = 4_096


@dataclass(frozen=True, slots=True)
class ByteInfo:
    """What the JSON file beside the bytes says of them."""

    dim: int
    count: int
    """How many rows there are."""
    first: int
    """How many rows there were when centre and scale were measured."""
    head: int
    """The checksum of centre and scale."""


@dataclass(frozen=True, slots=True)
class ByteRows:
    """Vectors as `centre + scale * rows`: int8 (n, dim), and float32 (dim,) twice."""

    rows: Bytes
    centre: Vectors
    scale: Vectors

    def encoded(self, vectors: Vectors) -> Bytes:
        with np.errstate(all="ignore"):  # a damaged vector
            steps = np.nan_to_num(np.rint((vectors - self.centre) / self.scale))
        found: Bytes = np.clip(steps, -LARGEST, LARGEST).astype(np.int8)
        return found

    def products(self, direction: Vectors) -> NDArray[np.float32]:
        """About the dot product of each vector with a direction: float32, (n,)."""
        import simsimd

        weights = direction * self.scale
        step = max(float(np.abs(weights).max()) / LARGEST, 1e-30)
        steps = np.rint(weights / step).astype(np.int8)[None]
        threads = processor_cores() if self.rows.size >= THREADED_BYTES else 1
        sums = simsimd.cdist(steps, self.rows, metric="dot", out_dtype="float32", threads=threads)
        return np.asarray(sums).reshape(-1) * np.float32(step) + np.float32(direction @ self.centre)


class ByteVectors:
    """The bytes of one generation of vectors: centre and scale, then the rows; row number = slot, append-only.

    A JSON file says how many rows count. It is written after them.
    """

    def __init__(self, path: str, dim: int) -> None:
        self.path = path
        self.info_path = f"{path}.json"
        self.dim = dim

    @staticmethod
    def available() -> bool:
        try:
            import simsimd  # noqa: F401
        except ImportError:
            return False
        return True

    def info(self) -> ByteInfo | None:
        """None unless the bytes are there as it says; only centre and scale are read."""
        try:
            with open_regular(self.info_path) as file:
                info = ByteInfo(**json.loads(file.read(MAX_INFO_BYTES)))
            with open_regular(self.path) as file:
                size = os.fstat(file.fileno()).st_size
                head = file.read(8 * self.dim)
        except (OSError, ValueError, TypeError, RecursionError, IndexDamaged):
            return None
        numbers = (info.dim, info.count, info.first, info.head)
        if not all(isinstance(number, int) for number in numbers) or info.dim != self.dim:
            return None
        is_whole = 0 < info.first <= info.count and size >= len(head) + info.count * self.dim
        return info if is_whole and zlib.crc32(head) == info.head else None

    def is_due(self, slots: int) -> bool:
        """Whether `update` would write something for a space of that number of slots."""
        if slots < MIN_SLOTS:
            return self.exists()
        info = self.info()
        return info is None or info.count != slots or slots >= GROWTH * info.first

    def exists(self) -> bool:
        return os.path.lexists(self.path) or os.path.lexists(self.info_path)

    def load(self, slots: int) -> ByteRows | None:
        """The bytes of the first `slots` vectors or fewer, memory-mapped. None without usable ones, or without simsimd.

        What is said of them may be wrong, as with vectors: `imgsearch check` compares them.
        """
        if slots < MIN_SLOTS or not self.available():
            return None
        info = self.info()
        if info is None:
            return None
        try:
            rows = self._mapped(min(info.count, slots))
        except (OSError, ValueError, IndexDamaged):
            return None
        fault_in(rows.rows)
        return rows

    def _mapped(self, count: int) -> ByteRows:
        with open_regular(self.path) as file:
            head = np.frombuffer(file.read(8 * self.dim), np.float32)
            rows = np.memmap(file, np.int8, "r", offset=8 * self.dim, shape=(count, self.dim))
        return ByteRows(np.asarray(rows), head[: self.dim], head[self.dim :])

    def update(self, vectors: Vectors, pictures: NDArray[np.int64]) -> None:
        """Make the bytes of all `vectors`, or add those that are missing. `pictures`: the slots to measure by."""
        if not self.is_due(len(vectors)):
            return
        info = self.info()
        if len(vectors) < MIN_SLOTS:
            self.remove()
        elif info is None or info.count > len(vectors) or len(vectors) >= GROWTH * info.first:
            self._make(vectors, pictures)
        else:
            rows = self._mapped(info.count)
            write_at(self.path, 8 * self.dim + info.count * self.dim, _encoded(rows, vectors, info.count))
            self._save(ByteInfo(self.dim, len(vectors), info.first, info.head))

    def _make(self, vectors: Vectors, pictures: NDArray[np.int64]) -> None:
        rows = _measured(vectors, pictures)
        head = np.concatenate([rows.centre, rows.scale]).astype(np.float32).tobytes()
        temporary = f"{self.path}.new"
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)
        write_at(temporary, 0, chain([head], _encoded(rows, vectors, 0)))
        os.replace(temporary, self.path)  # until the next line the checksum of centre and scale does not match
        self._save(ByteInfo(self.dim, len(vectors), len(vectors), zlib.crc32(head)))

    def _save(self, info: ByteInfo) -> None:
        replace_file(self.info_path, json.dumps({name: getattr(info, name) for name in info.__slots__}).encode())

    def cut(self, slots: int) -> None:
        """Forget the rows from `slots` on: those slots will get other vectors."""
        info = self.info()
        if info is not None and info.count > slots:
            if slots < info.first:
                self.remove()
            else:
                self._save(ByteInfo(info.dim, slots, info.first, info.head))

    def differ(self, vectors: Iterator[tuple[int, Vectors]]) -> bool:
        """Whether any row is not made from its vector. `vectors`: blocks, each with the slot of its first."""
        info = self.info()
        if info is None:
            return False
        rows = self._mapped(info.count)
        return any(
            not np.array_equal(rows.rows[start : start + len(block)], rows.encoded(block[: max(0, info.count - start)]))
            for start, block in vectors
        )

    def remove(self) -> None:
        """Delete the files. They can be made again."""
        for path in (self.info_path, self.path):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)
        fsync_path(os.path.dirname(self.path))


def _measured(vectors: Vectors, pictures: NDArray[np.int64]) -> ByteRows:
    """Centre and scale for vectors like those of the pictures."""
    sample = np.array(vectors[pictures[:: max(1, -(-len(pictures) // SAMPLE))]])
    with np.errstate(all="ignore"):
        sample = sample[np.abs(np.linalg.norm(sample, axis=1) - 1) < UNIT_ERROR]  # without damaged ones
    if not len(sample):
        sample = np.zeros((1, vectors.shape[1]), np.float32)
    centre = sample.mean(axis=0, dtype=np.float64).astype(np.float32)
    widest = np.maximum(np.abs(sample - centre).max(axis=0), np.float32(1e-6))
    return ByteRows(np.zeros((0, vectors.shape[1]), np.int8), centre, (widest / LARGEST).astype(np.float32))


def _encoded(rows: ByteRows, vectors: Vectors, first: int) -> Iterator[bytes]:
    for start in range(first, len(vectors), ROWS_AT_ONCE):
        yield rows.encoded(vectors[start : start + ROWS_AT_ONCE]).tobytes()
