"""A full-text index of the texts of photos: SQLite FTS5, in a file of its own beside the catalogue.

It is made once OCR has read something: the few texts of other photos are quickly indexed for each query. It is derived
from the catalogue, and nothing depends on it. A text never changes under its key, so a stale file is still right about
the texts that it has, and those that it lacks are indexed in memory for one query. A file that is damaged or missing is
made again by the next run.

Case and accents do not matter, and punctuation only separates words. Scripts that are written without spaces are
indexed by the character.
"""

from __future__ import annotations

import contextlib
import os
import re
import sqlite3
import unicodedata
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from imgsearch.core.errors import UsageError

from .connection import open_for_reading, open_for_writing

if TYPE_CHECKING:
    from .catalog import Catalog

FILE = "texts.sqlite3"
JOURNAL = f"{FILE}-journal"
MAX_PATTERN_CHARACTERS = 1_000
# How long a query waits for a run that writes the file, before it indexes the texts in memory.
TIMEOUT_SECONDS = 1.0
VERSION = 1
"""Change it with what is indexed or how."""

_TABLES = f"""
    pragma user_version = {VERSION};
    create table keys (id integer primary key, key blob not null unique);
    create virtual table words using fts5 (text, tokenize = "unicode61 remove_diacritics 2");
"""
_SPACELESS = re.compile(
    r"[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]"
)
"""Thai, Lao, Burmese, Khmer, Japanese and Chinese."""


class TextPattern:
    """What a text must contain: the words, next to each other and in that order. With * at the end the last one may go
    on."""

    def __init__(self, typed: str) -> None:
        """Raises ValueError if there is no word in it, or too much."""
        text = searchable(typed.strip())
        is_prefix = text.endswith("*")
        words = text.rstrip("*")
        if len(typed) > MAX_PATTERN_CHARACTERS or not any(each.isalnum() for each in words):
            raise ValueError(typed)
        quoted = words.replace('"', '""')
        self.match = f'"{quoted}"{"*" if is_prefix else ""}'


def searchable(text: str) -> str:
    """The text as it is indexed. Line breaks are kept."""
    plain = unicodedata.normalize("NFKC", text).encode("utf-8", "replace").decode().replace("\0", " ")
    return _SPACELESS.sub(lambda found: f" {found[0]} ", plain)


def path_of(folder: str) -> str:
    return os.path.join(folder, FILE)


def keys_matching(catalog: Catalog, folder: str, pattern: TextPattern) -> list[bytes]:
    """The keys of the texts of the catalogue that contain the pattern."""
    known: set[bytes] = set()
    found: list[bytes] = []
    with contextlib.suppress(sqlite3.Error), _reading(folder) as database:
        matching = _matching(database, pattern)
        known = {key for (key,) in database.execute("select key from keys")}
        found = matching
    texts = catalog.texts.lacking(known)
    return found + (matching_of(texts, pattern) if texts else [])


def matching_of(texts: Iterable[tuple[bytes, str]], pattern: TextPattern) -> list[bytes]:
    """The keys of those of the texts that contain the pattern. Raises UsageError if SQLite was built without FTS5."""
    try:
        with _empty() as database:
            _insert(database, texts)
            return _matching(database, pattern)
    except sqlite3.OperationalError as error:
        raise UsageError(
            f"this Python's SQLite has no full-text search ({error})", hint="use a Python whose SQLite has FTS5"
        ) from None


def update(catalog: Catalog, folder: str) -> None:
    """Bring the file up to date. Where that is not possible there is none, and queries do without."""
    with contextlib.suppress(sqlite3.Error, OSError):
        try:
            _update(catalog, folder)
        except sqlite3.DatabaseError as error:
            if _is_busy(error):
                return
            remove(folder)
            _update(catalog, folder)


def remove(folder: str) -> None:
    for name in (FILE, JOURNAL):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(os.path.join(folder, name))


def is_damaged(folder: str) -> str | None:
    """What is wrong with the file; None if it is sound, missing or in use."""
    if not os.path.isfile(path_of(folder)):
        return None
    try:
        with _reading(folder) as database:
            for (said,) in database.execute("pragma quick_check(1)"):
                if said != "ok":
                    return str(said)
            counts = [database.execute(f"select count(*) from {table}").fetchone() for table in ("keys", "words")]  # noqa: S608
            return None if counts[0] == counts[1] else "its tables differ"
    except sqlite3.Error as error:
        return None if _is_busy(error) else str(error)


def _update(catalog: Catalog, folder: str) -> None:
    path = path_of(folder)
    if not os.path.lexists(path) and not catalog.readings.exist():
        return
    os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600))
    with contextlib.closing(open_for_writing(path)) as database:
        if database.execute("pragma user_version").fetchone()[0] != VERSION or not _has_our_tables(database):
            if database.execute("select count(*) from sqlite_master").fetchone()[0]:
                raise sqlite3.DatabaseError("not a text index")
            database.executescript(_TABLES)
        known = {key: number for number, key in database.execute("select id, key from keys")}
        database.execute("begin immediate")
        _insert(database, catalog.texts.lacking(known.keys()))
        stale = [(known[key],) for key in known.keys() - catalog.texts.keys()]
        database.executemany("delete from words where rowid = ?", stale)
        database.executemany("delete from keys where id = ?", stale)
        database.execute("commit")


def _insert(database: sqlite3.Connection, texts: Iterable[tuple[bytes, str]]) -> None:
    for key, text in texts:
        number = database.execute("insert into keys (key) values (?)", (key,)).lastrowid
        database.execute("insert into words (rowid, text) values (?, ?)", (number, searchable(text)))


def _matching(database: sqlite3.Connection, pattern: TextPattern) -> list[bytes]:
    return [
        key
        for (key,) in database.execute(
            "select k.key from words w join keys k on k.id = w.rowid where words match ?", (pattern.match,)
        )
    ]


@contextlib.contextmanager
def _reading(folder: str) -> Iterator[sqlite3.Connection]:
    """The file, open for reading. Raises sqlite3.Error if it is missing, damaged or not ours."""
    path = path_of(folder)
    if os.path.islink(path):
        raise sqlite3.DatabaseError("a link")
    with contextlib.closing(open_for_reading(path, timeout_seconds=TIMEOUT_SECONDS)) as database:
        if not _has_our_tables(database):
            raise sqlite3.DatabaseError("not a text index")
        yield database


def _has_our_tables(database: sqlite3.Connection) -> bool:
    """The index may come from another person: no views and triggers."""
    with _empty() as model:
        wanted, found = (
            each.execute("select type, name, sql from sqlite_master order by 1, 2").fetchall()
            for each in (model, database)
        )
    return wanted == found


@contextlib.contextmanager
def _empty() -> Iterator[sqlite3.Connection]:
    with contextlib.closing(sqlite3.connect(":memory:", isolation_level=None)) as database:
        database.executescript(_TABLES)
        yield database


def _is_busy(error: sqlite3.Error) -> bool:
    return getattr(error, "sqlite_errorname", "").startswith(("SQLITE_BUSY", "SQLITE_LOCKED"))
