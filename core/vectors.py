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
import zlib
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, BinaryIO

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
                raise IndexDamaged(f"slot {slot} of {count:,} vectors", hint=CHECK_HINT)
            flags[slot] = _SLOT_MODALITY[modality] | (0 if is_online else _SLOT_OFFLINE)
        return cls(flags)

    @classmethod
    def load(cls, path: str, count: int, edition: int) -> SlotMap | None:
        try:
            with _regular(path) as file:
                data = file.read(count + _SLOT_TAIL_BYTES + 1)
        except (OSError, IndexDamaged):
            return None
        if len(data) != count + _SLOT_TAIL_BYTES or data[count:] != _slot_tail(data[:count], edition):
            return None
        return cls(np.frombuffer(data, np.uint8, count))

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


class Graph:
    """An HNSW graph over one modality's slots, for many questions to a loaded index or a very large one.

    Two files: the graph as hnswlib writes it, and a note with its seal and the slots it covers. A graph whose seal is
    not the note's is never given to hnswlib: a damaged link list can crash it, and a made-up one do worse. The seal is
    a checksum keyed by a secret of the user's, so that the graph of somebody else's index does not pass either.
    """

    def __init__(self, path: str, dim: int) -> None:
        self.path = path
        self.dim = dim
        self._index: Any = None
        self.loaded_upto = 0
        """Slots below this are in the graph that is in memory; the file may have moved on since."""

    @staticmethod
    def available() -> bool:
        """Whether there can be graphs: hnswlib, and a secret to seal them with."""
        try:
            import hnswlib  # noqa: F401
        except ImportError:
            return False
        return _secret() is not None

    def note(self) -> dict[str, Any] | None:
        """What the note says (`upto`, `count`, `bytes`, `seal`, `generation`); None without a readable one, or
        where the graph beside it is of another size."""
        return self._note_in(f"{self.path}.json") or self._note_in(f"{self.path}.json.new")

    def _note_in(self, path: str) -> dict[str, Any] | None:
        try:
            with _regular(path) as file:
                note = json.loads(file.read(MAX_NOTE_BYTES))
            with _regular(self.path) as file:
                size = os.fstat(file.fileno()).st_size
        except (OSError, ValueError, RecursionError, IndexDamaged):
            return None
        if not isinstance(note, dict) or note.get("dim") != self.dim or note.get("bytes") != size:
            return None
        numbers = [note.get(key) for key in ("upto", "count", "generation")]
        return note if all(isinstance(number, int) and number >= 0 for number in numbers) else None

    def finish(self) -> None:
        """Put the note in its place, where a run was killed after it had put the graph into its."""
        if self._note_in(f"{self.path}.json") is None and self._note_in(f"{self.path}.json.new") is not None:
            os.replace(f"{self.path}.json.new", f"{self.path}.json")

    def covers_upto(self, generation: int) -> int:
        """Slots below this number are in the graph (those of its modality that were live when they were added)."""
        note = self.note()
        return int(note["upto"]) if note and note.get("generation") == generation else 0

    def is_sealed(self) -> bool:
        """Whether the graph is, to the byte, one that this user's imgsearch wrote."""
        note = self.note()
        return note is not None and _is_equal(_checksums(self.path)[0], note.get("seal"))

    def is_whole(self) -> bool:
        """Whether the graph is as whoever made it wrote it: the checksum says that, and anybody can make one."""
        note = self.note()
        return note is not None and _checksums(self.path)[1] == note.get("sha256")

    def is_sound(self) -> bool:
        """The same, believed without reading the graph where nobody has touched it since it was written."""
        note = self.note()
        if note is None or note.get("key") != _key_name():
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
        if not note or note.get("generation") != generation or not self.is_sealed():
            return False
        index = hnswlib.Index(space="ip", dim=self.dim)
        try:
            index.load_index(self.path, max_elements=int(note["count"]))
        except RuntimeError:
            return False
        self._index = index
        self.loaded_upto = int(note["upto"])
        return True

    def slots(self) -> set[int]:
        """The slots that are in the loaded graph."""
        return set(self._index.get_ids_list())

    def update(self, rows: Vectors, slots: Sequence[int], *, upto: int, generation: int) -> None:
        """Add those slots of `rows` to the loaded graph, or else to a new one, and save it with its note."""
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
        numbers = np.asarray(slots, np.int64)
        for start in range(0, len(numbers), ROWS_AT_ONCE):
            chosen = numbers[start : start + ROWS_AT_ONCE]
            self._index.add_items(rows[chosen], chosen.astype(np.uint64))
        self._save(upto, generation)

    def _save(self, upto: int, generation: int) -> None:
        temporary = f"{self.path}.new"
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)
        self._index.save_index(temporary)
        os.chmod(temporary, 0o600)
        size = os.path.getsize(temporary)
        if size != self._index.index_file_size():  # hnswlib does not mind a full disk
            os.unlink(temporary)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), self.path)
        seal, sha256 = _checksums(temporary)
        note = {
            "dim": self.dim,
            "count": self._index.get_current_count(),
            "upto": upto,
            "generation": generation,
            "bytes": size,
            "mtime_ns": os.stat(temporary).st_mtime_ns,
            "seal": seal,
            "key": _key_name(),
            "sha256": sha256,
            "M": HNSW_M,
            "ef_construction": HNSW_EF_CONSTRUCTION,
        }
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


@contextlib.contextmanager
def naming(path: str) -> Iterator[None]:
    """What fails on a descriptor says which file it was."""
    try:
        yield
    except OSError as error:
        if error.filename is None and error.errno is not None:
            error.filename = path
        raise


def fsync_path(path: str) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        with naming(path):
            os.fsync(descriptor)
    finally:
        os.close(descriptor)


# Seals


def _checksums(path: str) -> tuple[str | None, str]:
    """HMAC-SHA256 of a file with the user's secret, None where there is no secret to be had; and plain SHA-256."""
    key = _secret()
    seal, plain = hmac.new(key or b"", digestmod="sha256"), hashlib.sha256()
    with _regular(path) as file:
        while block := file.read(1 << 20):
            seal.update(block)
            plain.update(block)
    return (seal.hexdigest() if key else None), plain.hexdigest()


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
