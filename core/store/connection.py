"""How the catalogue's SQLite file is opened, and what its errors mean. Light: completion imports it on every TAB."""

from __future__ import annotations

import os
import sqlite3

from imgsearch.core.errors import ImgsearchError, IndexDamaged, IndexLocked, StoreError
from imgsearch.core.paths import is_network_filesystem, printable

# The longest value that we write is far below; SQLite's own limit is 1 GB.
MAX_VALUE_BYTES = 64 << 20
TIMEOUT_SECONDS = 30.0
# SQLite copies the write-ahead log into the catalogue when it has grown to 32 MB; a writer caches 64 MB of pages.
LOG_PAGES = 8_000
CACHE_KIB = 65_536


def open_for_writing(path: str) -> sqlite3.Connection:
    """Open the catalogue, or create the file."""
    return _open(path, "mode=rwc")


def open_for_reading(path: str, *, timeout_seconds: float = TIMEOUT_SECONDS) -> sqlite3.Connection:
    """Open the catalogue read-only."""
    # A write-ahead log needs a helper file even for reading. Where none can be made, no process writes either.
    is_frozen = not os.access(os.path.dirname(path) or ".", os.W_OK) and not os.path.exists(f"{path}-wal")
    return _open(path, "immutable=1" if is_frozen else "mode=ro", timeout_seconds)


def open_for_salvage(path: str) -> sqlite3.Connection:
    """Open a damaged catalogue read-only, to read what is still readable."""
    return _open(path, "mode=ro")


def set_durability(connection: sqlite3.Connection, path: str) -> None:
    """Choose how commits reach the disk. The file must have tables: SQLite removes the log of an empty one."""
    # full, not normal: a commit that a vector file's slots depend on has to survive a power cut.
    connection.execute("pragma synchronous = full")
    # Processes share the write-ahead log through memory, which a network filesystem cannot do.
    journal = "delete" if is_network_filesystem(path) else "wal"
    connection.execute(f"pragma journal_mode = {journal}")
    # A checkpoint of the log writes some 700 pages scattered over a large catalogue. Rarer checkpoints gather them, and
    # the cache keeps those read (bench/growth.py: at 100,000 photos half as many bytes written).
    connection.execute(f"pragma wal_autocheckpoint = {LOG_PAGES}")
    connection.execute(f"pragma cache_size = -{CACHE_KIB}")


def _open(path: str, mode: str, timeout_seconds: float = TIMEOUT_SECONDS) -> sqlite3.Connection:
    # As SQLite reads it. Importing urllib.parse takes as long as all of completion.
    quoted = path.replace("%", "%25").replace("?", "%3f").replace("#", "%23")
    connection = sqlite3.connect(
        f"file:{quoted}?{mode}",
        uri=True,
        isolation_level=None,
        timeout=timeout_seconds,
        check_same_thread=False,
    )
    # The file may come from another person: nothing in it is run, and no value fills the memory.
    connection.execute("pragma trusted_schema = off")
    connection.execute("pragma cell_size_check = on")
    connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, MAX_VALUE_BYTES)
    return connection


_DAMAGE = ("SQLITE_CORRUPT", "SQLITE_NOTADB", "SQLITE_TOOBIG", "SQLITE_MISMATCH", "SQLITE_ERROR")


def as_index_error(error: sqlite3.Error, path: str | None = None) -> ImgsearchError:
    """What an error of SQLite means for the user: a full disk, a lock, missing permissions, or damage."""
    where = "the index" if path is None else printable(path)
    name = getattr(error, "sqlite_errorname", "") or ""
    if name.startswith("SQLITE_FULL"):
        return ImgsearchError(f"{where}: the disk is full", hint="free some space and run the same command again")
    if name.startswith(("SQLITE_BUSY", "SQLITE_LOCKED")):
        return IndexLocked(f"{where}: in use by another program", hint="try again when it has finished")
    if name.startswith(("SQLITE_READONLY", "SQLITE_CANTOPEN", "SQLITE_PERM", "SQLITE_AUTH", "SQLITE_IOERR")):
        return StoreError(
            f"{where}: cannot be opened or written ({error})", hint="check its permissions and the disk it is on"
        )
    # Python's own error about text that is not UTF-8 has no name; a file that cannot be opened gives SQLITE_ERROR.
    if name and not name.startswith(_DAMAGE):
        return StoreError(f"{where}: cannot be used ({error})", hint="see what is wrong with: imgsearch check")
    return IndexDamaged(
        f"{where}: not a readable catalogue ({error})",
        hint="save what can be saved with: imgsearch check --repair; your photos are not touched",
    )
