"""A cache of query vectors, so that a repeated query needs no model.

One file in the user's cache folder, readable only by the user. It contains the hash of each text and its vector, but no
text. If it cannot be used, the model embeds the text again.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from imgsearch.core.cache import CacheFile
from imgsearch.core.late import LateModule
from imgsearch.core.places import cache_folder

if TYPE_CHECKING:
    import numpy as np

    from imgsearch.core.types import Vectors
else:
    np = LateModule("numpy")

MAX_VECTORS = 10_000
"""The number of texts kept: 20 MB at 512 dimensions. The least recently used is deleted first."""


class QueryCache(CacheFile):
    """The vectors of one model's texts."""

    TABLE = "vectors (key blob not null unique, vector blob not null, used integer)"

    def __init__(self, fingerprint: str, dim: int, path: str | None = None) -> None:
        super().__init__(path or os.path.join(cache_folder(), "queries.sqlite3"))
        self._model = fingerprint.encode()
        self._dim = dim

    def find(self, texts: Sequence[str]) -> dict[str, Vectors]:
        """The vectors of the texts that are in the cache."""
        found: dict[str, Vectors] = {}
        with self._best_effort():
            if not os.path.exists(self.path):
                return found
            with self._open() as database:
                for text in texts:
                    row = database.execute(
                        "select vector, used from vectors where key = ?", [self._key(text)]
                    ).fetchone()
                    vector = None if row is None else _vector(row[0], self._dim)
                    if vector is not None:
                        found[text] = vector
                        if row[1] != _today():
                            database.execute("update vectors set used = ? where key = ?", [_today(), self._key(text)])
        return found

    def remember(self, vectors: Mapping[str, Vectors]) -> None:
        with self._best_effort(), self._open() as database:
            database.executemany(
                "insert or replace into vectors values (?, ?, ?)",
                [(self._key(text), np.asarray(vector, "<f4").tobytes(), _today()) for text, vector in vectors.items()],
            )
            if database.execute("select count(*) from vectors").fetchone()[0] > 1.1 * MAX_VECTORS:
                database.execute(
                    "delete from vectors where key in (select key from vectors order by used desc, rowid desc "
                    "limit -1 offset ?)",
                    [MAX_VECTORS],
                )

    def _key(self, text: str) -> bytes:
        return hashlib.sha256(self._model + b"\0" + text.encode("utf-8", "surrogatepass")).digest()


def _vector(data: object, dim: int) -> Vectors | None:
    """The stored vector, if it is a unit vector with `dim` dimensions."""
    if not isinstance(data, bytes) or len(data) != 4 * dim:
        return None
    vector = np.frombuffer(data, "<f4")
    return vector if abs(float(vector @ vector) - 1) < 1e-3 else None


def _today() -> int:
    return int(time.time()) // 86_400
