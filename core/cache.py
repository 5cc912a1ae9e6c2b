"""A best-effort cache in one SQLite file."""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Iterator


class CacheFile:
    """A SQLite file in the user's cache. If it cannot be read or written, it acts like an empty one."""

    TABLE = ""
    """The name and columns of its only table."""
    TIMEOUT_SECONDS = 0.1

    def __init__(self, path: str) -> None:
        self.path = path

    def forget(self) -> None:
        """Delete the file."""
        with contextlib.suppress(OSError):
            os.unlink(self.path)

    @contextlib.contextmanager
    def _best_effort(self) -> Iterator[None]:
        try:
            yield
        except (OSError, UnicodeError):
            pass
        except sqlite3.Error as error:
            code = getattr(error, "sqlite_errorcode", None)
            if code in (
                sqlite3.SQLITE_CORRUPT,
                sqlite3.SQLITE_NOTADB,
                sqlite3.SQLITE_ERROR,
            ):  # damaged
                self.forget()  # start over; otherwise it is busy, full or read-only

    @contextlib.contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        os.makedirs(os.path.dirname(self.path), mode=0o700, exist_ok=True)
        os.close(os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600))
        with contextlib.closing(sqlite3.connect(self.path, timeout=self.TIMEOUT_SECONDS)) as database, database:
            database.execute("pragma synchronous = off")
            database.execute(f"create table if not exists {self.TABLE}")
            yield database
