"""HNSW graphs: derived files that give approximate nearest vectors without scanning all of them.

The only module that names hnswlib.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from imgsearch.core.errors import IndexDamaged, UsageError
from imgsearch.core.late import LateModule
from imgsearch.core.light_dataclass import dataclass
from imgsearch.core.types import MODALITIES, Modality
from imgsearch.core.writing import fsync_path

from . import seals
from .files import list_paths, open_regular, replace_file, try_unlink, write_durably

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from imgsearch.core.types import Vectors

    from .catalog import Catalog
    from .records import Space
else:
    np = LateModule("numpy")

# The slots that one graph covers. The last graph grows until all of its slots are taken; the others are never written
# again, so that storing a photo costs the same in a large index.
HNSW_SLOTS = 131_072
# A graph is made, or grows, once it lacks this share of the space's vectors, or of HNSW_SLOTS if there are more. Fewer
# are scanned, in half a millisecond at most (bench/search.py).
TAIL_SHARE = 1 / 20
# Links per node, candidates while building, and candidates while searching: the least that finds 0.99 of what a scan
# finds in HNSW_SLOTS pictures' vectors for queries in words, from across the modality gap (bench/hnsw.py).
HNSW_M = 16
HNSW_EF_CONSTRUCTION = 120
HNSW_EF = 600
# Rows added between two looks at whether to stop: about half a second.
HNSW_ROWS_AT_ONCE = 2_048
MAX_INFO_BYTES = 4_096

# Without a number: files of a version that made one graph per modality.
_GRAPH_FILE = r"hnsw\.(?:image|text)(?:\.\d+)?(?:\.json)?"


def graph_slots() -> int:
    """How many slots a graph covers at most; 0: no graphs are made or used.

    `$IMGSEARCH_HNSW_SLOTS` sets it, for experiments and for tests with small indexes. Graphs of other ranges are
    replaced.
    """
    given = os.environ.get("IMGSEARCH_HNSW_SLOTS")
    if not given:
        return HNSW_SLOTS
    if not (given.isascii() and given.isdigit()):
        raise UsageError(f"IMGSEARCH_HNSW_SLOTS={given}: not a number of vectors", hint="0 means no HNSW graphs")
    return int(given)


@dataclass(frozen=True, slots=True)
class GraphInfo:
    """What the JSON file beside a graph says of it."""

    count: int
    upto: int
    generation: int
    mtime_ns: object
    key: object
    sha256: object
    seal: object
    record: dict[str, Any]
    """All of it, as it is in the file."""


class Graph:
    """An HNSW graph over one modality's vectors in one range of slots.

    Two files: the graph as hnswlib writes it, and a JSON file with its seal (see `seals`) and the slots it covers. The
    seal covers both. A graph without a valid seal is never given to hnswlib: it could crash it, or do worse.
    """

    def __init__(self, path: str, dim: int, first: int, end: int) -> None:
        self.path = path
        self.info_path = f"{path}.json"
        self.dim = dim
        self.first = first
        self.end = end
        """Its range of slots is `first <= slot < end`."""
        self._index: Any = None
        self._loaded: GraphInfo | None = None

    @property
    def upto(self) -> int:
        """It covers the slots of its modality in `first <= slot < upto`: the loaded graph, or else the files."""
        info = self._loaded or self.info()
        return info.upto if info else self.first

    @staticmethod
    def available() -> bool:
        """Whether graphs can be made and used: this needs hnswlib and the user's key."""
        try:
            import hnswlib  # noqa: F401
        except ImportError:
            return False
        return seals.is_usable()

    def info(self) -> GraphInfo | None:
        """None unless there is a readable one for this range, and the graph has the size that it says."""
        return self._info_in(self.info_path) or self._info_in(f"{self.info_path}.new")

    def _info_in(self, path: str) -> GraphInfo | None:
        try:
            with open_regular(path) as file:
                record = json.loads(file.read(MAX_INFO_BYTES))
            with open_regular(self.path) as file:
                size = os.fstat(file.fileno()).st_size
        except (OSError, ValueError, RecursionError, IndexDamaged):
            return None
        expected = {"dim": self.dim, "first": self.first, "bytes": size}
        if not isinstance(record, dict) or any(record.get(key) != value for key, value in expected.items()):
            return None
        count, upto, generation = (record.get(name) for name in ("count", "upto", "generation"))
        if not (isinstance(count, int) and isinstance(upto, int) and isinstance(generation, int)):
            return None
        if count < 0 or generation < 0 or not self.first < upto <= self.end:
            return None
        mtime_ns, key, sha256, seal = (record.get(name) for name in ("mtime_ns", "key", "sha256", "seal"))
        return GraphInfo(count, upto, generation, mtime_ns, key, sha256, seal, record)

    def finish_rename(self) -> None:
        """Rename the JSON file too, if a process was killed after it had renamed the graph."""
        if self._info_in(self.info_path) is None and self._info_in(f"{self.info_path}.new") is not None:
            os.replace(f"{self.info_path}.new", self.info_path)

    def is_ours(self) -> bool:
        """Whether this user's imgsearch wrote the graph, to the byte, for these slots. Reads all of it."""
        info = self.info()
        return info is not None and seals.matches(self.path, self._facts(info.record), info.seal)

    def matches_checksum(self) -> bool:
        """Whether the graph is as it was written, by any user."""
        info = self.info()
        return info is not None and seals.sha256(self.path) == info.sha256

    def is_valid(self, generation: int) -> bool:
        """Whether it is ours and covers that generation of vectors. The graph is not read if its mtime shows that it
        was not touched since it was written."""
        info = self.info()
        if info is None or info.key != seals.key_id() or info.generation != generation:
            return False
        mtime_ns = os.stat(self.path).st_mtime_ns
        if info.mtime_ns == mtime_ns:
            return True
        if not self.is_ours():
            return False
        with contextlib.suppress(OSError):  # moved or copied with its index: the next look is quick
            replace_file(self.info_path, json.dumps({**info.record, "mtime_ns": mtime_ns}).encode())
        return True

    def exists(self) -> bool:
        return os.path.lexists(self.path) or os.path.lexists(self.info_path)

    def is_younger(self, seconds: float) -> bool:
        """Whether the graph was written less than `seconds` ago."""
        return 0 <= time.time() - os.stat(self.path).st_mtime < seconds

    def load(self, generation: int, *, room: int = 0) -> bool:
        """Load the graph, with room for more vectors. False if it is missing, of another generation, damaged, another
        user's, or replaced meanwhile."""
        import hnswlib

        info = self.info()
        if info is None or info.generation != generation or not self.is_ours():
            return False
        index = hnswlib.Index(space="ip", dim=self.dim)
        try:
            index.load_index(self.path, max_elements=info.count + room)
        except RuntimeError:
            return False
        self._index, self._loaded = index, info
        return self.is_current()

    def is_current(self) -> bool:
        """Whether the loaded graph is the one on disk."""
        info = self.info()
        return self._loaded is not None and info is not None and info.seal == self._loaded.seal

    def slots(self) -> set[int]:
        """The slots that are in the loaded graph."""
        return set(self._index.get_ids_list())

    def create(self, room: int) -> None:
        """Start an empty graph with room for that many vectors."""
        import hnswlib

        self._index, self._loaded = hnswlib.Index(space="ip", dim=self.dim), None
        self._index.init_index(max_elements=room, M=HNSW_M, ef_construction=HNSW_EF_CONSTRUCTION)

    def add(
        self,
        rows: Vectors,
        slots: Sequence[int],
        *,
        upto: int,
        generation: int,
        stop: Callable[[], bool] = lambda: False,
    ) -> bool:
        """Add those slots of `rows` to a graph with room for them, which then covers the slots before `upto`, and save
        it. Returns False, with nothing written, if `stop` ended it early."""
        numbers = np.asarray(slots, np.int64)
        for start in range(0, len(numbers), HNSW_ROWS_AT_ONCE):
            if stop():
                return False
            chosen = numbers[start : start + HNSW_ROWS_AT_ONCE]
            self._index.add_items(rows[chosen], chosen.astype(np.uint64))
        self._save(upto, generation)
        return True

    def _save(self, upto: int, generation: int) -> None:
        index = self._index
        temporary = f"{self.path}.new"
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)
        index.save_index(temporary)
        os.chmod(temporary, 0o600)
        size = os.path.getsize(temporary)
        if size != index.index_file_size():  # hnswlib does not report a full disk
            os.unlink(temporary)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), self.path)
        record = {
            "dim": self.dim,
            "count": index.get_current_count(),
            "first": self.first,
            "upto": upto,
            "generation": generation,
            "bytes": size,
            "mtime_ns": os.stat(temporary).st_mtime_ns,
            "key": seals.key_id(),
            "sha256": seals.sha256(temporary),
            "M": HNSW_M,
            "ef_construction": HNSW_EF_CONSTRUCTION,
        }
        record["seal"] = seals.seal(temporary, self._facts(record))
        fsync_path(temporary)
        # The JSON file first, under its temporary name, where `info` finds it: at no moment is a graph without one.
        write_durably(f"{self.info_path}.new", json.dumps(record).encode())
        os.replace(temporary, self.path)
        os.replace(f"{self.info_path}.new", self.info_path)
        fsync_path(os.path.dirname(self.path))

    @staticmethod
    def _facts(record: dict[str, Any]) -> bytes:
        """What the seal covers besides the graph's bytes."""
        return json.dumps([record[key] for key in ("dim", "count", "first", "upto", "generation")]).encode()

    def nearest(self, queries: Vectors, k: int) -> NDArray[np.uint64] | None:
        """Slots of about the k nearest rows to each query by cosine: uint64, (n, k). The graph must be loaded.

        None if it finds fewer: of very many equal vectors it cannot reach all.
        """
        k = min(k, len(self))
        self._index.set_ef(max(HNSW_EF, k))
        try:
            labels, _ = self._index.knn_query(queries, k=k)
        except RuntimeError:
            return None
        found: NDArray[np.uint64] = labels
        return found

    def remove(self) -> None:
        """Delete the files. The graph can be built again."""
        for path in (self.info_path, f"{self.info_path}.new", self.path):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)

    def __len__(self) -> int:
        return 0 if self._index is None else int(self._index.get_current_count())


class Graphs:
    """The graphs of all spaces of an index."""

    def __init__(self, folder: str, catalog: Catalog) -> None:
        self._folder = folder
        self._catalog = catalog

    def of(self, space: Space, modality: Modality) -> list[Graph]:
        """One for each range of slots, whether or not it exists."""
        span = graph_slots()
        path = os.path.join(self._folder, "spaces", space.id, f"hnsw.{modality}.")
        return [
            Graph(f"{path}{number}", space.identity.dim, number * span, (number + 1) * span)
            for number in range(-(-space.slots // span) if span else 0)
        ]

    def all_of(self, space: Space) -> list[Graph]:
        return [graph for modality in MODALITIES for graph in self.of(space, modality)]

    def is_due(self, space: Space, modality: Modality, graph: Graph, *, is_usable: bool = False) -> bool:
        """Whether it lacks enough vectors of its range: of all of them, unless the graph there `is_usable`."""
        enough = max(1, int(min(space.slots, graph.end - graph.first) * TAIL_SHARE))
        start = graph.upto if is_usable else graph.first
        return len(self._catalog.vectors.in_range(space.id, modality, start, graph.end, enough)) == enough

    def are_complete(self, space: Space) -> bool:
        """Whether no graph is missing or out of date. The vectors in none are scanned."""
        return self._all_due(space, lambda graph: _covers(graph, space))

    def are_up_to_date(self, space: Space) -> bool:
        """Whether every graph that can be made here is there and ours. It may have to grow; the next run that stores
        something sees to that."""
        # In this order: it does not load hnswlib if all is well.
        return self._all_due(space, lambda graph: graph.is_valid(space.generation)) or not Graph.available()

    def _all_due(self, space: Space, is_right: Callable[[Graph], bool]) -> bool:
        return all(
            is_right(graph) or not self.is_due(space, modality, graph)
            for modality in MODALITIES
            for graph in self.of(space, modality)
        )

    def count_vectors(self, space: Space) -> int:
        """How many of the space's vectors are in graphs."""
        infos = [graph.info() for graph in self.all_of(space)]
        return sum(info.count for info in infos if info and info.generation == space.generation)

    def update(
        self,
        space: Space,
        rows: Callable[[], Vectors],
        stop: Callable[[], bool] = lambda: False,
        *,
        min_age_seconds: float = 0,
    ) -> bool:
        """Make the graphs that are due, or let them grow. `rows` gives the space's vectors. A graph that was written
        less than `min_age_seconds` ago does not grow.

        Returns False without hnswlib, or if `stop` ended it early.
        """
        for path in self.stale_files(space):
            try_unlink(path)
        if not self.all_of(space):
            return True
        if not (Graph.available() and seals.ensure_key()):
            return False
        for modality in MODALITIES:
            for graph in self.of(space, modality):
                is_usable = graph.is_valid(space.generation)
                if is_usable and graph.is_younger(min_age_seconds):
                    continue
                if self.is_due(space, modality, graph, is_usable=is_usable):
                    if not self._grow(space, modality, graph, rows(), stop, is_usable=is_usable):
                        return False
                elif not is_usable:
                    graph.remove()
        return True

    def _grow(
        self,
        space: Space,
        modality: Modality,
        graph: Graph,
        rows: Vectors,
        stop: Callable[[], bool],
        *,
        is_usable: bool,
    ) -> bool:
        """Add what is missing to the graph on disk if it `is_usable`, or rebuild it. False if `stop` ended it."""
        end = min(graph.end, space.slots)
        slots = self._catalog.vectors.in_range(space.id, modality, graph.upto, end) if is_usable else []
        if not (is_usable and graph.load(space.generation, room=len(slots))):
            slots = self._catalog.vectors.in_range(space.id, modality, graph.first, end)
            graph.create(len(slots))
        return graph.add(rows, slots, upto=end, generation=space.generation, stop=stop)

    def stale_files(self, space: Space) -> list[str]:
        """Files of ranges that are not used: an earlier version's, or of another `$IMGSEARCH_HNSW_SLOTS`."""
        current = {path for graph in self.all_of(space) for path in (graph.path, graph.info_path)}
        return [path for path in self._files(space) if path not in current and not os.path.isdir(path)]

    def remove(self, space: Space) -> None:
        for path in self._files(space):
            try_unlink(path)

    def remove_covering(self, space: Space, slots: Sequence[int], end: int) -> None:
        """Delete the graphs that cover any of these slots, or slots from `end` on."""
        for graph in self.all_of(space):
            upto = graph.upto if graph.info() else graph.end
            if upto > end or any(isinstance(slot, int) and graph.first <= slot < upto for slot in slots):
                graph.remove()

    def _files(self, space: Space) -> list[str]:
        folder = os.path.join(self._folder, "spaces", space.id)
        return list_paths(folder, lambda name: re.fullmatch(_GRAPH_FILE, name) is not None)


def _covers(graph: Graph, space: Space) -> bool:
    info = graph.info()
    return info is not None and info.generation == space.generation
