"""Vectors on disk: the flat file that is the truth, and the HNSW graph derived from it."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import hmac
import json
import os
import secrets
import stat
import sys
import zlib
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, BinaryIO

from imgsearch.core.errors import IndexDamaged, UsageError
from imgsearch.core.late import LateModule
from imgsearch.core.paths import fsync_path, naming
from imgsearch.core.types import Modality

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from imgsearch.core.types import Vectors
else:
    np = LateModule("numpy")

# A graph covers so many slots, is made once when all of them are taken, and is never added to: storing a photo costs
# the same however many there are. Below, and in the tail, a scan takes some milliseconds (bench/search.py).
HNSW_SLOTS = 131_072
# Where fewer of those slots than this share hold a modality, they are scanned.
HNSW_SHARE = 1 / 8
# Links per node, candidates while building, and candidates while asking: the least that finds 0.99 of what a scan finds
# in HNSW_SLOTS pictures' vectors for questions in words, from across the modality gap (bench/hnsw.py).
HNSW_M = 16
HNSW_EF_CONSTRUCTION = 120
HNSW_EF = 600
# Added at once, between two looks at whether to stop: about half a second.
HNSW_ROWS_AT_ONCE = 2_048

MAX_NOTE_BYTES = 4_096
CHECK_HINT = "see what is wrong with: imgsearch check; mend it with: imgsearch check --repair"

_SLOT_MODALITY: dict[str, int] = {"image": 1, "text": 2}
_SLOT_OFFLINE = 4


# Rows read at once where a whole file is gone through: some tens of megabytes.
ROWS_AT_ONCE = 16_384


def crc_of(row: Vectors) -> int:
    """The checksum of one vector's bytes, which the catalogue keeps."""
    return zlib.crc32(np.ascontiguousarray(row, dtype=np.float32).tobytes())


class FlatVectors:
    """The vector file of one space: float32 rows of unit length, row number = slot, append-only."""

    def __init__(self, path: str, dim: int) -> None:
        self.path = path
        self.dim = dim

    def append(self, at: int, rows: Vectors) -> None:
        """Write rows from slot `at` on and make them durable. What an interrupted run left there is overwritten."""
        data = memoryview(np.ascontiguousarray(rows, dtype=np.float32).tobytes())
        descriptor = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            with naming(self.path):
                offset = at * self.dim * 4
                while data:
                    written = os.pwrite(descriptor, data, offset)
                    data, offset = data[written:], offset + written
                os.fsync(descriptor)
        finally:
            os.close(descriptor)
        if at == 0:  # the file's name has to last as well, also where an interrupted run had made the file
            fsync_path(os.path.dirname(self.path))

    def rows(self, count: int) -> Vectors:
        """The first `count` rows, mapped, not read. Raises IndexDamaged where the file is shorter than promised."""
        if count == 0:
            return np.zeros((0, self.dim), np.float32)
        held = self.held()
        if held < count:
            raise IndexDamaged(
                f"{self.path}: holds {held} vectors where the catalogue names {count}",
                hint="`imgsearch index` embeds what is lost once more; your photos are not touched",
            )
        with _regular(self.path) as file:
            return np.memmap(file, np.float32, "r", shape=(count, self.dim))

    def held(self) -> int:
        """How many whole rows the file holds, whatever of them counts."""
        try:
            with _regular(self.path) as file:
                return os.fstat(file.fileno()).st_size // (self.dim * 4)
        except FileNotFoundError:
            return 0

    def blocks(self, count: int) -> Iterator[tuple[int, Vectors]]:
        """The first `count` rows a block at a time, with the slot of each block's first."""
        rows = self.rows(count)
        for start in range(0, count, ROWS_AT_ONCE):
            yield start, np.array(rows[start : start + ROWS_AT_ONCE])


def fault_in(rows: Vectors) -> None:
    """Map all pages of mapped rows at once: one by one, as a first scan meets them, takes longer than the scan itself
    (bench/search.py). Where the system cannot, they come one by one."""
    populate_read = 22  # of Linux from 5.14 on; mmap names it from Python 3.14 on
    mapping = getattr(rows, "_mmap", None)
    if mapping is not None and sys.platform == "linux":
        with contextlib.suppress(OSError, ValueError):
            mapping.madvise(populate_read)


@contextlib.contextmanager
def _regular(path: str) -> Iterator[BinaryIO]:
    """A file of an index, for reading. The index may be somebody else's: no link is followed, no pipe waited for."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENXIO):
            raise _not_a_file(path) from None
        raise
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise _not_a_file(path)
    with os.fdopen(descriptor, "rb") as file:
        yield file


def _not_a_file(path: str) -> IndexDamaged:
    return IndexDamaged(f"{path}: not a regular file, where an index has one of its own", hint=CHECK_HINT)


class SlotMap:
    """One byte a slot: which slots a live picture or text stands behind, so that a scan need not ask SQLite.

    Derived from the catalogue. The file ends with the catalogue's edition it was made from and a checksum; of another
    edition it is stale, and `load` returns None.
    """

    def __init__(self, flags: NDArray[np.uint8]) -> None:
        self._flags = flags

    @classmethod
    def build(cls, count: int, live: Sequence[tuple[int, str, int]]) -> SlotMap:
        """Raises IndexDamaged for a slot that cannot be."""
        flags = np.zeros(count, np.uint8)
        for slot, modality, is_online in live:
            if not (isinstance(slot, int) and 0 <= slot < count):
                raise IndexDamaged(f"the catalogue names vector {slot} of {count:,}", hint=CHECK_HINT)
            flags[slot] = _SLOT_MODALITY[modality] | (0 if is_online else _SLOT_OFFLINE)
        return cls(flags)

    @classmethod
    def load(cls, path: str, count: int, edition: int) -> SlotMap | None:
        data = cls._read(path, count, edition)
        return None if data is None else cls(np.frombuffer(data, np.uint8, count))

    @classmethod
    def is_current(cls, path: str, count: int, edition: int) -> bool:
        """Whether `load` would return one; without numpy."""
        return cls._read(path, count, edition) is not None

    @staticmethod
    def _read(path: str, count: int, edition: int) -> bytes | None:
        try:
            with _regular(path) as file:
                data = file.read(count + _SLOT_TAIL_BYTES + 1)
        except (OSError, IndexDamaged):
            return None
        if len(data) != count + _SLOT_TAIL_BYTES or data[count:] != _slot_tail(data[:count], edition):
            return None
        return data

    @staticmethod
    def is_whole(path: str) -> bool:
        """Whether the file is one that `save` wrote, of whatever edition."""
        try:
            with _regular(path) as file:
                data = file.read()
        except (OSError, IndexDamaged):
            return False
        count = len(data) - _SLOT_TAIL_BYTES
        return count >= 0 and data[count:] == _slot_tail(
            data[:count], int.from_bytes(data[count : count + 8], "little")
        )

    def save(self, path: str, edition: int) -> None:
        flags = self._flags.tobytes()
        replace_file(path, flags + _slot_tail(flags, edition))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, SlotMap) and np.array_equal(self._flags, other._flags)

    __hash__ = None  # type: ignore[assignment]

    def mask(self, modality: Modality, *, include_offline: bool = False) -> NDArray[np.bool_]:
        """A boolean per slot: live, of that modality, and online unless asked otherwise."""
        wanted: NDArray[np.bool_] = self._flags == _SLOT_MODALITY[modality]
        if include_offline:
            wanted |= self._flags == (_SLOT_MODALITY[modality] | _SLOT_OFFLINE)
        return wanted


def _slot_tail(flags: bytes, edition: int) -> bytes:
    number = edition.to_bytes(8, "little")
    return number + zlib.crc32(flags + number).to_bytes(4, "little")


_SLOT_TAIL_BYTES = 12


def graph_slots() -> int:
    """How many slots a graph covers; 0: none are made, and none are used.

    `$IMGSEARCH_HNSW_SLOTS` sets it, for trials and for tests with small indexes; graphs of other ranges are made anew.
    """
    given = os.environ.get("IMGSEARCH_HNSW_SLOTS")
    if not given:
        return HNSW_SLOTS
    if not (given.isascii() and given.isdigit()):
        raise UsageError(f"IMGSEARCH_HNSW_SLOTS={given}: not a number of vectors", hint="0 means no HNSW graphs")
    return int(given)


class Graph:
    """An HNSW graph over one modality's vectors in one range of slots, for many questions to a loaded index.

    Two files: the graph as hnswlib writes it, and a note with its seal and the slots it covers. A graph whose seal is
    not the note's is never given to hnswlib: a damaged link list can crash it, and a made-up one do worse. The seal is
    a checksum keyed by a secret of the user's, so that the graph of somebody else's index does not pass either; it
    covers what the note says of the range as well.
    """

    def __init__(self, path: str, dim: int, first: int, upto: int) -> None:
        self.path = path
        self.dim = dim
        self.first = first
        self.upto = upto
        """The slots that it covers: those of its modality in `first <= slot < upto`."""
        self._index: Any = None
        self._seal: str | None = None

    @staticmethod
    def available() -> bool:
        """Whether there can be graphs: hnswlib, and a secret to seal them with."""
        try:
            import hnswlib  # noqa: F401
        except ImportError:
            return False
        return _secret() is not None

    def note(self) -> dict[str, Any] | None:
        """What the note says (`first`, `upto`, `count`, `bytes`, `seal`, `generation`); None without a readable one
        for this range, or where the graph beside it is of another size."""
        return self._note_in(f"{self.path}.json") or self._note_in(f"{self.path}.json.new")

    def _note_in(self, path: str) -> dict[str, Any] | None:
        try:
            with _regular(path) as file:
                note = json.loads(file.read(MAX_NOTE_BYTES))
            with _regular(self.path) as file:
                size = os.fstat(file.fileno()).st_size
        except (OSError, ValueError, RecursionError, IndexDamaged):
            return None
        right = {"dim": self.dim, "first": self.first, "upto": self.upto, "bytes": size}
        if not isinstance(note, dict) or any(note.get(key) != value for key, value in right.items()):
            return None
        numbers = [note.get(key) for key in ("count", "generation")]
        return note if all(isinstance(number, int) and number >= 0 for number in numbers) else None

    def finish(self) -> None:
        """Put the note in its place, where a run was killed after it had put the graph into its."""
        if self._note_in(f"{self.path}.json") is None and self._note_in(f"{self.path}.json.new") is not None:
            os.replace(f"{self.path}.json.new", f"{self.path}.json")

    def is_sealed(self) -> bool:
        """Whether the graph is, to the byte, one that this user's imgsearch wrote for these slots."""
        note = self.note()
        return note is not None and _is_equal(_sealed(self.path, _claims(note)), note.get("seal"))

    def is_whole(self) -> bool:
        """Whether the graph is as whoever made it wrote it: the checksum says that, and anybody can make one."""
        note = self.note()
        return note is not None and _sha256(self.path) == note.get("sha256")

    def is_sound(self, generation: int) -> bool:
        """Whether it is sealed and of that generation of vectors; believed without reading the graph where nobody has
        touched it since it was written."""
        note = self.note()
        if note is None or note.get("key") != _key_name() or note["generation"] != generation:
            return False
        touched_ns = os.stat(self.path).st_mtime_ns
        if note.get("mtime_ns") == touched_ns:
            return True
        if not self.is_sealed():
            return False
        with contextlib.suppress(OSError):  # moved or copied, with its index: look no more
            replace_file(f"{self.path}.json", json.dumps({**note, "mtime_ns": touched_ns}).encode())
        return True

    def exists(self) -> bool:
        return os.path.lexists(self.path) or os.path.lexists(f"{self.path}.json")

    def load(self, generation: int) -> bool:
        """Bring the graph into memory; False if it is missing, of another generation, damaged or somebody else's."""
        import hnswlib

        note = self.note()
        if not note or note["generation"] != generation or not self.is_sealed():
            return False
        index = hnswlib.Index(space="ip", dim=self.dim)
        try:
            index.load_index(self.path, max_elements=note["count"])
        except RuntimeError:
            return False
        self._index = index
        self._seal = note["seal"]
        return True

    def is_current(self) -> bool:
        """Whether what is in memory is what lies on the disk."""
        note = self.note()
        return self._index is not None and note is not None and note.get("seal") == self._seal

    def slots(self) -> set[int]:
        """The slots that are in the loaded graph."""
        return set(self._index.get_ids_list())

    def build(
        self, rows: Vectors, slots: Sequence[int], *, generation: int, stop: Callable[[], bool] = lambda: False
    ) -> bool:
        """Make the graph of those slots of `rows`, save it with its note, and let go of it. False, and nothing is
        left of it, if `stop` said so meanwhile."""
        import hnswlib

        index = hnswlib.Index(space="ip", dim=self.dim)
        index.init_index(max_elements=len(slots), M=HNSW_M, ef_construction=HNSW_EF_CONSTRUCTION)
        numbers = np.asarray(slots, np.int64)
        for start in range(0, len(numbers), HNSW_ROWS_AT_ONCE):
            if stop():
                return False
            chosen = numbers[start : start + HNSW_ROWS_AT_ONCE]
            index.add_items(rows[chosen], chosen.astype(np.uint64))
        self._save(index, generation)
        return True

    def _save(self, index: Any, generation: int) -> None:
        temporary = f"{self.path}.new"
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)
        index.save_index(temporary)
        os.chmod(temporary, 0o600)
        size = os.path.getsize(temporary)
        if size != index.index_file_size():  # hnswlib does not mind a full disk
            os.unlink(temporary)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), self.path)
        note = {
            "dim": self.dim,
            "count": index.get_current_count(),
            "first": self.first,
            "upto": self.upto,
            "generation": generation,
            "bytes": size,
            "mtime_ns": os.stat(temporary).st_mtime_ns,
            "key": _key_name(),
            "sha256": _sha256(temporary),
            "M": HNSW_M,
            "ef_construction": HNSW_EF_CONSTRUCTION,
        }
        note["seal"] = _sealed(temporary, _claims(note))
        fsync_path(temporary)
        # The note first, under its temporary name, where `note` finds it: no moment has a graph without one.
        write_durably(f"{self.path}.json.new", json.dumps(note).encode())
        os.replace(temporary, self.path)
        os.replace(f"{self.path}.json.new", f"{self.path}.json")
        fsync_path(os.path.dirname(self.path))

    def nearest(self, queries: Vectors, k: int) -> NDArray[np.uint64] | None:
        """Slots of about the k nearest rows to each query by cosine: uint64, (n, k). The graph must be loaded.

        None where it finds fewer: among very many equal vectors some are out of its reach.
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
        """Forget the graph: it can be made again."""
        for path in (f"{self.path}.json", f"{self.path}.json.new", self.path):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)

    def __len__(self) -> int:
        return 0 if self._index is None else int(self._index.get_current_count())


def replace_file(path: str, data: bytes) -> None:
    """Write a small file so that a reader sees the old or the new one, never a part."""
    write_durably(f"{path}.new", data)
    os.replace(f"{path}.new", path)
    fsync_path(os.path.dirname(path) or ".")


def write_durably(path: str, data: bytes) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW
    with naming(path), open(os.open(path, flags, 0o600), "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


# Seals


def _sealed(path: str, claims: bytes) -> str | None:
    """HMAC-SHA256 of a file and what is said about it, with the user's secret; None where there is none to be had."""
    key = _secret()
    return None if key is None else _digest(path, hmac.new(key, claims, "sha256"))


def _sha256(path: str) -> str:
    return _digest(path, hashlib.sha256())


def _digest(path: str, digest: Any) -> str:
    with _regular(path) as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return str(digest.hexdigest())


def _claims(note: dict[str, Any]) -> bytes:
    return json.dumps([note[key] for key in ("dim", "count", "first", "upto", "generation")]).encode()


def _key_name() -> str | None:
    """Tells this user's secret from another's, and nothing else of it."""
    key = _secret()
    return None if key is None else hashlib.sha256(b"imgsearch seal" + key).hexdigest()[:16]


def _is_equal(seal: str | None, other: object) -> bool:
    return seal is not None and isinstance(other, str) and hmac.compare_digest(seal.encode(), other.encode())


def _secret() -> bytes | None:
    """32 random bytes of this user's, made on first use: what they sign was written here."""
    import platformdirs

    folder = platformdirs.user_data_dir("imgsearch", appauthor=False)
    path = os.path.join(folder, "seal.key")
    try:
        os.makedirs(folder, mode=0o700, exist_ok=True)
        if not os.path.lexists(path):
            _make_secret(path)
        with _regular(path) as file:
            info = os.fstat(file.fileno())
            is_ours = info.st_uid == os.getuid() and not info.st_mode & 0o077
            key = file.read(32)
    except (OSError, IndexDamaged):
        return None
    return key if is_ours and len(key) == 32 else None


def _make_secret(path: str) -> None:
    """Whoever of two processes is first: the other one takes the same."""
    temporary = f"{path}.{os.getpid()}"
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with open(descriptor, "wb") as file:
            file.write(secrets.token_bytes(32))
            file.flush()
            os.fsync(descriptor)
        with contextlib.suppress(FileExistsError):
            os.link(temporary, path)
    finally:
        os.unlink(temporary)
