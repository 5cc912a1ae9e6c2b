"""The texts of photos, each once, by their key."""

from __future__ import annotations

import json
from collections.abc import Container, Sequence

from .database import Database


class TextTable:
    """Texts, and which photos have them."""

    def __init__(self, database: Database) -> None:
        self._db = database

    def keys(self) -> set[bytes]:
        return set(self._db.column("select key from texts"))

    def lacking(self, known: Container[bytes]) -> list[tuple[bytes, str]]:
        """(key, text) of every text whose key is not among those known."""
        wanted = [key for key in self.keys() if key not in known]
        self._db.define_function("unhexed", _unhexed)
        rows = self._db.rows(
            "select x.key, x.text from json_each(:keys) k cross join texts x on x.key = unhexed(k.value)",
            keys=_listed(wanted),
        )
        return [(row[0], row[1]) for row in rows if isinstance(row[1], str)]

    def photos_with(self, keys: Sequence[bytes]) -> list[int]:
        """Ids of the photos that have one of these texts."""
        self._db.define_function("unhexed", _unhexed)
        return self._db.column(
            """
            select distinct t.photo_id from json_each(:keys) k cross join photo_texts t on t.key = unhexed(k.value)
            """,
            keys=_listed(keys),
        )


def _listed(keys: Sequence[bytes]) -> str:
    return json.dumps([key.hex() for key in keys if isinstance(key, bytes)])


def _unhexed(value: object) -> bytes | None:
    try:
        return bytes.fromhex(value) if isinstance(value, str) else None
    except ValueError:
        return None
