"""The values that shell completion offers: cameras, lenses, keywords, places and roots of an index, and known indexes.

It runs on every TAB: it imports little, and gives up on a large catalogue after a fraction of a second.
"""

from __future__ import annotations

import os
import time

from imgsearch.core.places import CATALOG, known_indexes, locate

TYPE_CHECKING = False  # importing typing takes longer than most answers
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

# 100,000 photos take half of this.
MAX_SECONDS = 0.06
MAX_VALUES = 1_000
MAX_CHARACTERS = 200
MAX_VALUE_BYTES = 1 << 20
INDEXES = "indexes"
_QUERIES = {
    "cameras": "select distinct camera from photos where state = 'present'",
    "lenses": "select distinct lens from photos where state = 'present'",
    "keywords": "select distinct value from photos, json_each(keywords) where state = 'present' and keywords <> '[]'",
    "places": """
        with names as materialized (
            select distinct place, place_district, place_region, country from photos
            where state = 'present' and country is not null
        )
        select place from names union select place_district from names union select place_region from names
        union select country from names
    """,
    "roots": "select path from roots",
}


def completion_values(topic: str, typed: str = "", index: str | None = None) -> list[str]:
    """The values that begin with `typed`, ignoring case, sorted; empty if there is no such index or topic."""
    if topic == INDEXES:
        return sorted(_matching(known_indexes(), os.path.expanduser(typed)))
    if topic not in _QUERIES:
        return []
    folder = locate(index)
    values = _from_catalogue(_QUERIES[topic], folder)
    if topic == "roots":  # a portable index stores the roots beside it relative to its own parent folder
        base = os.fsencode(os.path.dirname(folder))
        values = (os.path.normpath(os.path.join(base, value)) for value in values if isinstance(value, bytes))
    if topic == "places":
        from .folding import fold

        return sorted(_matching(values, typed, fold), key=str.casefold)
    return sorted(_matching(values, typed), key=str.casefold)


def _matching(values: Iterable[object], typed: str, folded: Callable[[str], str] = str.casefold) -> Iterator[str]:
    prefix = folded(typed)
    found = 0
    for value in values:
        text = os.fsdecode(value) if isinstance(value, bytes) else value
        if isinstance(text, str) and len(text) <= MAX_CHARACTERS and text.isprintable() and text.strip():
            if folded(text).startswith(prefix):
                yield text
                found += 1
            if found == MAX_VALUES:
                return


def _from_catalogue(query: str, folder: str) -> Iterator[object]:
    import sqlite3

    from .connection import open_for_reading

    try:
        connection = open_for_reading(os.path.join(folder, CATALOG), timeout_seconds=0)
    except sqlite3.Error:
        return
    until = time.monotonic() + MAX_SECONDS
    connection.set_progress_handler(lambda: time.monotonic() > until, 1_000)
    connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, MAX_VALUE_BYTES)
    try:
        for row in connection.execute(query):
            yield row[0]
    except sqlite3.Error:
        return  # out of time, or the file is not a catalogue
    finally:
        connection.close()
