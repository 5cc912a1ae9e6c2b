"""Salvage of a damaged catalogue: all rows that can be read are copied into a new one.

The damaged file is kept beside it. The next run finds the rest again, because vectors and facts come from the photos.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import sqlite3
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from imgsearch.core.paths import free_name
from imgsearch.core.places import CATALOG
from imgsearch.core.writing import fsync_path

from .catalog import Catalog
from .connection import open_for_salvage
from .files import SALVAGED
from .lock import OnWait, write_lock
from .schema import APPLICATION_ID, MIGRATIONS

# A row names rows of tables before its own.
TABLES = (
    "info",
    "roots",
    "photos",
    "texts",
    "photo_texts",
    "spaces",
    "vectors",
    "regions",
    "calibrations",
    "failures",
    "notes",
    "readings",
    "awaited",
)
SQLITE_HEADER_BYTES = 100


@dataclass(frozen=True, slots=True)
class Salvaged:
    """What was saved from a damaged catalogue."""

    photos: int
    vectors: int
    kept: str | None
    """Path of the damaged catalogue, if there was one."""


def salvage(folder: str, *, wait: OnWait | None = None) -> Salvaged:
    """Replace a damaged catalogue by one with all rows that can be read. The damaged one is kept.

    If it is killed, it can be run again and loses nothing. Raises IndexLocked if another process writes.
    """
    path = os.path.join(folder, CATALOG)
    with write_lock(folder, wait):
        unfinished, new = f"{path}.salvage.new", os.path.join(folder, SALVAGED)
        kept = None
        if not os.path.lexists(new):  # else an earlier salvage was killed before its last rename
            _remove(unfinished)
            made = Catalog(unfinished, write=True)
            try:
                _rescue(path, made)
            finally:
                made.close()
            os.chmod(unfinished, 0o600)
            fsync_path(unfinished)
            kept = _keep(path)
            os.replace(unfinished, new)
            fsync_path(folder)
        for ending in ("-wal", "-shm", "-journal"):  # SQLite would take them for those of the new one
            _remove_or_rename(path + ending)
        if os.path.isdir(path) and not os.path.islink(path):
            os.rename(path, free_name(f"{path}.damaged"))
        os.replace(new, path)
        fsync_path(folder)
    with contextlib.closing(Catalog(path, write=False)) as saved:
        photos, vectors = (saved.value(f"select count(*) from {table}") for table in ("photos", "vectors"))  # noqa: S608
    return Salvaged(photos, vectors, kept)


def _keep(path: str) -> str | None:
    """Copy the damaged catalogue and its log. Returns the path of the copy."""
    if not _is_regular(path):
        return None
    kept = free_name(f"{path}.damaged")
    for ending in ("", "-wal"):
        if _is_regular(path + ending):
            shutil.copyfile(path + ending, kept + ending)
            os.chmod(kept + ending, 0o600)
            fsync_path(kept + ending)
    return kept


def _remove_or_rename(path: str) -> None:
    if os.path.isdir(path) and not os.path.islink(path):
        os.rename(path, free_name(f"{path}.damaged"))
    elif os.path.lexists(path):
        os.unlink(path)


def _rescue(path: str, made: Catalog) -> None:
    with _readable(path) as damaged, made.transaction():
        made.rows("pragma defer_foreign_keys = on")
        for table in TABLES:
            columns = [row[1] for row in made.rows(f"pragma table_info({table})")]
            for row in _rows(damaged, table, columns):
                made.insert_salvaged(table, columns, row)
        made.delete_invalid()
        made.notes.attach()
        made.readings.attach()
        made.delete_orphans()  # a row that names a lost row goes too


@contextlib.contextmanager
def _readable(path: str) -> Iterator[sqlite3.Connection | None]:
    """The damaged database, or a copy of it with a new header; None if neither opens."""
    patched = f"{path}.patched.new"
    try:
        for candidate in (path, patched):
            if not _is_regular(path) or (candidate == patched and not _patch(path, patched)):
                break
            with contextlib.suppress(sqlite3.Error):
                connection = open_for_salvage(candidate)
                try:
                    connection.execute("select count(*) from sqlite_master").fetchone()
                except sqlite3.Error:
                    connection.close()
                    raise
                with contextlib.closing(connection):
                    yield connection
                return
        yield None
    finally:
        _remove(patched)


def _is_regular(path: str) -> bool:
    try:
        return stat.S_ISREG(os.lstat(path).st_mode)
    except OSError:
        return False


def _patch(path: str, patched: str) -> bool:
    """Copy the file with the header of a new catalogue. False if it is too short to hold any rows."""
    try:
        with open(path, "rb") as file:
            data = file.read()
    except OSError:
        return False
    model = _sound_header()
    page = int.from_bytes(model[16:18], "big")
    if len(data) < 2 * page:
        return False
    header = bytearray(model)
    header[28:32] = (len(data) // page).to_bytes(4, "big")
    header[32:40] = bytes(8)  # no free pages are known
    with open(os.open(patched, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
        file.write(header + data[SQLITE_HEADER_BYTES:])
    return True


def _sound_header() -> bytes:
    with contextlib.closing(sqlite3.connect(":memory:")) as connection:
        for script in MIGRATIONS:
            connection.executescript(script)
        connection.execute(f"pragma application_id = {APPLICATION_ID}")
        connection.execute(f"pragma user_version = {len(MIGRATIONS)}")
        return connection.serialize()[:SQLITE_HEADER_BYTES]


def _rows(damaged: sqlite3.Connection | None, table: str, columns: Sequence[str]) -> Iterator[tuple[Any, ...]]:
    """Every row that can be read, from the front up to the damage, then from the back."""
    if damaged is None or not _is_table(damaged, table):
        return
    there = {row[1] for row in damaged.execute(f"pragma table_info({table})")}
    wanted = ", ".join(column if column in there else "null" for column in columns)
    for direction in ("asc", "desc"):
        try:
            key = _key(damaged, table)
            order = ", ".join(f"{column} {direction}" for column in key)
            yield from damaged.execute(f"select {wanted} from {table} order by {order}")  # noqa: S608
            return
        except sqlite3.Error:
            continue


def _is_table(damaged: sqlite3.Connection, table: str) -> bool:
    """A view of that name could run code that is not ours."""
    try:
        found = damaged.execute("select type from sqlite_master where name = ?", (table,)).fetchone()
    except sqlite3.Error:
        return False
    return found is not None and found[0] == "table"


def _key(damaged: sqlite3.Connection, table: str) -> list[str]:
    keyed = [(row[5], row[1]) for row in damaged.execute(f"pragma table_info({table})") if row[5]]
    return [name for _, name in sorted(keyed)]


def _remove(path: str) -> None:
    for ending in ("", "-wal", "-shm", "-journal"):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path + ending)
