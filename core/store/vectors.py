"""The vectors of a space on disk: a flat file of float32 rows, and which of them are live."""

from __future__ import annotations

import contextlib
import os
import sys
import zlib
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Literal

from imgsearch.core.errors import IndexDamaged
from imgsearch.core.late import LateModule
from imgsearch.core.types import Modality
from imgsearch.core.writing import fsync_path

from .files import open_regular, replace_file, write_at

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from imgsearch.core.types import Vectors
else:
    np = LateModule("numpy")

# Rows read at once when a whole file is read: some tens of megabytes.
ROWS_AT_ONCE = 16_384
SlotKind = Modality | Literal["region"]
"""`region`: a part of a picture, whose `image` is another slot."""
SLOT_KINDS: dict[str, int] = {"image": 1, "text": 2, "region": 3}
SLOT_OFFLINE = 4
SLOT_TAIL_BYTES = 12


def crc_of(row: Vectors) -> int:
    """The checksum of one vector's bytes, which the catalogue keeps."""
    return zlib.crc32(np.ascontiguousarray(row, dtype=np.float32).data)


class FlatVectors:
    """The vector file of one space: float32 rows of unit length, row number = slot, append-only."""

    def __init__(self, path: str, dim: int) -> None:
        self.path = path
        self.dim = dim

    def append(self, at: int, rows: Vectors) -> None:
        """Write rows from slot `at` on and make them durable. Rows that an interrupted run left there are replaced."""
        write_at(self.path, at * self.dim * 4, [np.ascontiguousarray(rows, dtype=np.float32).tobytes()])
        if at == 0:  # the file's name must be durable too, even if an interrupted run made the file
            fsync_path(os.path.dirname(self.path))

    def rows(self, count: int) -> Vectors:
        """The first `count` rows, memory-mapped. Raises IndexDamaged if the file holds fewer."""
        if count == 0:
            return np.zeros((0, self.dim), np.float32)
        stored = self.count_rows()
        if stored < count:
            raise IndexDamaged(
                f"{self.path}: has {stored} vectors, but the catalogue expects {count}",
                hint="`imgsearch index` embeds the lost ones again; your photos are not touched",
            )
        with open_regular(self.path) as file:
            return np.asarray(np.memmap(file, np.float32, "r", shape=(count, self.dim)))  # indexed faster than memmap

    def count_rows(self) -> int:
        """How many whole rows the file holds; the catalogue says how many of them count."""
        try:
            with open_regular(self.path) as file:
                return os.fstat(file.fileno()).st_size // (self.dim * 4)
        except FileNotFoundError:
            return 0

    def blocks(self, count: int) -> Iterator[tuple[int, Vectors]]:
        """The first `count` rows in blocks, each with the slot of its first row."""
        rows = self.rows(count)
        for start in range(0, count, ROWS_AT_ONCE):
            yield start, np.array(rows[start : start + ROWS_AT_ONCE])


def fault_in(rows: NDArray[Any]) -> None:
    """Map all pages of memory-mapped rows at once, if the system can. One by one, during the first scan, takes longer
    than the scan itself (bench/search.py)."""
    populate_read = 22  # Linux 5.14 and later; the mmap module has a name for it since Python 3.14
    mapping = getattr(rows.base, "_mmap", None)
    if mapping is not None and sys.platform == "linux":
        with contextlib.suppress(OSError, ValueError):
            mapping.madvise(populate_read)


class SlotMap:
    """One byte per slot: whether it belongs to a live picture, region or text, so that a scan need not ask SQLite.

    Derived from the catalogue. The file ends with the edition of the catalogue that it was made from, and a checksum.
    With another edition it is stale, and `load` returns None.
    """

    def __init__(self, flags: NDArray[np.uint8]) -> None:
        self._flags = flags

    @classmethod
    def build(cls, count: int, live: Sequence[tuple[int, str, int]]) -> SlotMap:
        """Raises IndexDamaged for a slot outside the file."""
        flags = np.zeros(count, np.uint8)
        for slot, kind, is_online in live:
            if not (isinstance(slot, int) and 0 <= slot < count):
                raise IndexDamaged(f"the catalogue expects vector {slot}, but there are only {count:,}")
            flags[slot] = SLOT_KINDS[kind] | (0 if is_online else SLOT_OFFLINE)
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
            with open_regular(path) as file:
                data = file.read(count + SLOT_TAIL_BYTES + 1)
        except (OSError, IndexDamaged):
            return None
        if len(data) != count + SLOT_TAIL_BYTES or data[count:] != _slot_tail(data[:count], edition):
            return None
        return data

    @staticmethod
    def is_whole(path: str) -> bool:
        """Whether `save` wrote the file, for any edition."""
        try:
            with open_regular(path) as file:
                data = file.read()
        except (OSError, IndexDamaged):
            return False
        count = len(data) - SLOT_TAIL_BYTES
        return count >= 0 and data[count:] == _slot_tail(
            data[:count], int.from_bytes(data[count : count + 8], "little")
        )

    def save(self, path: str, edition: int) -> None:
        flags = self._flags.tobytes()
        replace_file(path, flags + _slot_tail(flags, edition))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, SlotMap) and np.array_equal(self._flags, other._flags)

    __hash__ = None  # type: ignore[assignment]

    def mask(self, kind: SlotKind, *, include_offline: bool = False) -> NDArray[np.bool_]:
        """A boolean per slot: live, of that kind, and online unless `include_offline`."""
        wanted: NDArray[np.bool_] = self._flags == SLOT_KINDS[kind]
        if include_offline:
            wanted |= self._flags == (SLOT_KINDS[kind] | SLOT_OFFLINE)
        return wanted


def _slot_tail(flags: bytes, edition: int) -> bytes:
    number = edition.to_bytes(8, "little")
    return number + zlib.crc32(flags + number).to_bytes(4, "little")
