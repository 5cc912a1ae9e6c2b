"""Names that a shell offers while a command is typed: cameras, lenses, keywords and roots of an index, and indexes.

Asked on every TAB, so it imports little, and what a large catalogue does not say at once is not offered.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from imgsearch.core.places import CATALOG, known_indexes, locate

if TYPE_CHECKING:
    import sqlite3

# 100,000 photos are read in half of this.
MOST_SECONDS = 0.06
MOST_NAMES = 1_000
LONGEST_NAME = 200
INDEXES = "indexes"
_QUERIES = {
    "cameras": "select distinct camera from photos where state = 'present'",
    "lenses": "select distinct lens from photos where state = 'present'",
    "keywords": "select distinct value from photos, json_each(keywords) where state = 'present' and keywords <> '[]'",
    "roots": "select path from roots",
}
TOPICS = (*_QUERIES, INDEXES)


def offers(topic: str, typed: str = "", index: str | None = None) -> list[str]:
    """Names that begin with what was typed, in any case, sorted. Nothing where there is no index, or no such topic."""
    if topic == INDEXES:
        return sorted(_fitting(known_indexes(), os.path.expanduser(typed)))
    if topic not in _QUERIES:
        return []
    folder = locate(index)
    names = _from_catalogue(_QUERIES[topic], folder)
    if topic == "roots":  # in a portable index, those beside it are relative to where it lies
        base = os.fsencode(os.path.dirname(folder))
        names = (os.path.normpath(os.path.join(base, name)) for name in names if isinstance(name, bytes))
    return sorted(_fitting(names, typed), key=str.casefold)


def _fitting(names: Iterable[object], typed: str) -> Iterator[str]:
    begun = typed.casefold()
    found = 0
    for name in names:
        text = os.fsdecode(name) if isinstance(name, bytes) else name
        if isinstance(text, str) and len(text) <= LONGEST_NAME and text.isprintable() and text.strip():
            if text.casefold().startswith(begun):
                yield text
                found += 1
            if found == MOST_NAMES:
                return


def _from_catalogue(query: str, folder: str) -> Iterator[object]:
    import sqlite3

    try:
        connection = _opened(os.path.join(folder, CATALOG))
    except sqlite3.Error:
        return
    try:
        for row in connection.execute(query):
            yield row[0]
    except sqlite3.Error:
        return  # out of time, or none of our catalogues
    finally:
        connection.close()


def _opened(path: str) -> sqlite3.Connection:
    """For reading, with nothing run that the file brings along."""
    import sqlite3
    import urllib.parse

    where = urllib.parse.quote_from_bytes(os.fsencode(path))
    is_frozen = not os.access(os.path.dirname(path), os.W_OK) and not os.path.exists(f"{path}-wal")
    connection = sqlite3.connect(f"file:{where}?{'immutable=1' if is_frozen else 'mode=ro'}", uri=True, timeout=0)
    until = time.monotonic() + MOST_SECONDS
    connection.set_progress_handler(lambda: time.monotonic() > until, 1_000)
    connection.execute("pragma trusted_schema = off")
    connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, 1 << 20)
    return connection
