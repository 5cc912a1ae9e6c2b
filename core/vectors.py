"""Vectors on disk: the flat file that is the truth, and the HNSW graph derived from it."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np  # noqa: TID253

from .errors import IndexDamaged
from .types import Modality

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from .types import Vectors

# Links per node and candidates while building: recall_at_10 0.99 and above on 100,000 real photos' vectors at the
# `ef` below, for half a gigabyte a million (docs/benchmarks.md).
HNSW_M = 16
HNSW_EF_CONSTRUCTION = 200
HNSW_MIN_EF = 200
# hnswlib stores a graph of fixed capacity; room to grow spares a copy at every update.
HNSW_HEADROOM = 1.25

_SLOT_MODALITY: dict[str, int] = {"image": 1, "text": 2}
_SLOT_OFFLINE = 4


class FlatVectors:
    """The vector file of one space: float32 rows of unit length, row number = slot, append-only."""

    def __init__(self, path: str, dim: int) -> None:
        self.path = path
        self.dim = dim

    def append(self, at: int, rows: Vectors) -> None:
        """Write rows from slot `at` on and make them durable. What an interrupted run left there is overwritten."""
        data = memoryview(np.ascontiguousarray(rows, dtype=np.float32).tobytes())
        is_new = not os.path.exists(self.path)
        descriptor = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            offset = at * self.dim * 4
            while data:
                written = os.pwrite(descriptor, data, offset)
                data, offset = data[written:], offset + written
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        if is_new:
            fsync_path(os.path.dirname(self.path))

    def rows(self, count: int) -> Vectors:
        """The first `count` rows, mapped, not read. Raises IndexDamaged where the file is shorter than promised."""
        if count == 0:
            return np.zeros((0, self.dim), np.float32)
        try:
            size = os.stat(self.path).st_size
        except FileNotFoundError:
            size = 0
        if size < count * self.dim * 4:
            raise IndexDamaged(
                f"{self.path}: holds {size // (self.dim * 4)} vectors where the catalogue names {count}",
                hint="move the index folder away and run `imgsearch index` again; your photos are not touched",
            )
        return np.memmap(self.path, np.float32, "r", shape=(count, self.dim))


class SlotMap:
    """One byte a slot: which slots a live picture or text stands behind, so that a scan need not ask SQLite.

    Derived from the catalogue. The file ends with the catalogue's edition it was made from; of another edition it
    is stale, and `load` returns None.
    """

    def __init__(self, flags: NDArray[np.uint8]) -> None:
        self._flags = flags

    @classmethod
    def build(cls, count: int, live: Sequence[tuple[int, str, int]]) -> SlotMap:
        flags = np.zeros(count, np.uint8)
        for slot, modality, is_online in live:
            if slot < count:
                flags[slot] = _SLOT_MODALITY[modality] | (0 if is_online else _SLOT_OFFLINE)
        return cls(flags)

    @classmethod
    def load(cls, path: str, count: int, edition: int) -> SlotMap | None:
        try:
            data = np.fromfile(path, np.uint8)
        except OSError:
            return None
        if len(data) != count + 8 or int.from_bytes(data[count:].tobytes(), "little") != edition:
            return None
        return cls(data[:count])

    def save(self, path: str, edition: int) -> None:
        replace_file(path, self._flags.tobytes() + edition.to_bytes(8, "little"))

    def mask(self, modality: Modality, *, include_offline: bool = False) -> NDArray[np.bool_]:
        """A boolean per slot: live, of that modality, and online unless asked otherwise."""
        wanted: NDArray[np.bool_] = self._flags == _SLOT_MODALITY[modality]
        if include_offline:
            wanted |= self._flags == (_SLOT_MODALITY[modality] | _SLOT_OFFLINE)
        return wanted


class Graph:
    """An HNSW graph over one modality's slots, for many questions to a loaded index or a very large one.

    Two files: the graph as hnswlib writes it, and a note with its checksum and the slots it covers. A graph whose
    checksum is not the note's is never given to hnswlib, which a damaged link list can crash.
    """

    def __init__(self, path: str, dim: int) -> None:
        self.path = path
        self.dim = dim
        self._index: Any = None
        self.loaded_upto = 0
        """Slots below this are in the graph that is in memory; the file may have moved on since."""

    @staticmethod
    def available() -> bool:
        try:
            import hnswlib  # noqa: F401
        except ImportError:
            return False
        return True

    def note(self) -> dict[str, Any] | None:
        """What the note says (`upto`, `count`, `sha256`, `generation`), or None without a readable one."""
        try:
            with open(f"{self.path}.json", encoding="utf-8") as file:
                note = json.load(file)
        except (OSError, ValueError):
            return None
        if not isinstance(note, dict) or note.get("dim") != self.dim or not os.path.exists(self.path):
            return None
        return note if all(isinstance(note.get(key), int) for key in ("upto", "count", "generation")) else None

    def covers_upto(self, generation: int) -> int:
        """Slots below this number are in the graph (those of its modality that were live when they were added)."""
        note = self.note()
        return int(note["upto"]) if note and note.get("generation") == generation else 0

    def load(self, generation: int) -> bool:
        """Bring the graph into memory; False if it is missing, of another generation or damaged."""
        import hnswlib

        note = self.note()
        if not note or note.get("generation") != generation or _sha256(self.path) != note.get("sha256"):
            return False
        index = hnswlib.Index(space="ip", dim=self.dim)
        try:
            index.load_index(self.path, max_elements=int(note["count"]))
        except RuntimeError:
            return False
        self._index = index
        self.loaded_upto = int(note["upto"])
        return True

    def update(self, rows: Vectors, slots: Sequence[int], *, upto: int, generation: int) -> None:
        """Add those slots' rows to the loaded graph, or to a new one if none is loaded, and save it with its note."""
        import hnswlib

        if self._index is None:
            self._index = hnswlib.Index(space="ip", dim=self.dim)
            self._index.init_index(
                max_elements=max(1024, int(len(slots) * HNSW_HEADROOM)),
                M=HNSW_M,
                ef_construction=HNSW_EF_CONSTRUCTION,
            )
        needed = self._index.get_current_count() + len(slots)
        if needed > self._index.get_max_elements():
            self._index.resize_index(int(needed * HNSW_HEADROOM))
        if len(slots):
            self._index.add_items(rows, np.asarray(slots, np.uint64))
        self._save(upto, generation)

    def _save(self, upto: int, generation: int) -> None:
        temporary = f"{self.path}.new"
        self._index.save_index(temporary)
        os.chmod(temporary, 0o600)
        note = {
            "dim": self.dim,
            "count": self._index.get_current_count(),
            "upto": upto,
            "generation": generation,
            "sha256": _sha256(temporary),
            "M": HNSW_M,
            "ef_construction": HNSW_EF_CONSTRUCTION,
        }
        if os.path.getsize(temporary) != self._index.index_file_size():  # hnswlib does not mind a full disk
            os.unlink(temporary)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), self.path)
        fsync_path(temporary)
        os.replace(temporary, self.path)
        replace_file(f"{self.path}.json", json.dumps(note).encode())

    def nearest(self, queries: Vectors, k: int) -> NDArray[np.uint64] | None:
        """Slots of about the k nearest rows to each query by cosine: uint64, (n, k). The graph must be loaded.

        None where it finds fewer: among very many equal vectors some are out of its reach.
        """
        k = min(k, self._index.get_current_count())
        self._index.set_ef(max(HNSW_MIN_EF, 2 * k))
        try:
            labels, _ = self._index.knn_query(queries, k=k)
        except RuntimeError:
            return None
        found: NDArray[np.uint64] = labels
        return found

    def remove(self) -> None:
        """Forget the graph: it can be made again."""
        for path in (f"{self.path}.json", self.path):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)

    def __len__(self) -> int:
        return 0 if self._index is None else int(self._index.get_current_count())


def replace_file(path: str, data: bytes) -> None:
    """Write a small file so that a reader sees the old or the new one, never a part."""
    temporary = f"{path}.new"
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with open(descriptor, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)
    fsync_path(os.path.dirname(path) or ".")


def fsync_path(path: str) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _sha256(path: str) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
