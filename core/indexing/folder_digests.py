"""One digest per folder of what the catalogue knows about it.

Nearly all folders are unchanged since the last run. Comparing digests shows that without a Python object per file:
SQLite concatenates the columns, in a thread, while the folders are being listed.
"""

from __future__ import annotations

import hashlib
import os
import sqlite3
import threading
from collections.abc import Sequence

from imgsearch.core.errors import ImgsearchError
from imgsearch.core.photos.walk import Listing
from imgsearch.core.store.catalog import Catalog

_DIGEST_BYTES = 16


class FolderDigests:
    """Digests of the folders at or below some places (root id, relpath), read in a thread until `close`.

    Files with a failure are not in them. A folder with a sidecar, a pair, or a photo without a vector has no digest.
    """

    def __init__(self, catalog: Catalog, places: Sequence[tuple[int, str]], space_id: str | None) -> None:
        self._path = catalog.path
        self._places = [(root_id, os.fsencode(start)) for root_id, start in places]
        self._digests: dict[tuple[int, bytes], bytes] = {}
        self._is_read = space_id is None or not places
        self._is_closed = False
        self._progress = threading.Condition()
        self._thread = threading.Thread(target=self._read, args=(space_id,), name="folder digests", daemon=True)
        if not self._is_read:
            try:
                self._thread.start()
            except RuntimeError:  # no more threads: compare every folder file by file
                self._is_read = True

    def is_unchanged(self, root_id: int, found: Listing) -> bool:
        """Whether a folder is certainly unchanged, apart from files with a failure. Waits until its digest is read."""
        if found.beside or not found.names:
            return False
        place = root_id, os.fsencode(found.relpath)
        columns = f"{found.sizes}{found.mtimes_ns}{found.inodes}"
        digest = _digest(columns, os.fsencode("/".join(found.names)))
        with self._progress:
            self._progress.wait_for(lambda: self._is_read or place in self._digests)
            return self._digests.get(place) == digest

    def close(self) -> None:
        self._is_closed = True
        if self._thread.is_alive():
            self._thread.join()

    def _read(self, space_id: str) -> None:
        try:
            catalog = Catalog(self._path, write=False)  # its own connection, so that nothing waits for it
            try:
                self._read_digests(catalog, space_id)
            finally:
                catalog.close()
        except (ImgsearchError, sqlite3.Error):
            pass  # comparing file by file meets the same error, and reports it
        finally:
            with self._progress:
                self._is_read = True
                self._progress.notify_all()

    def _read_digests(self, catalog: Catalog, space_id: str) -> None:
        is_whole = catalog.vectors.are_complete(space_id)
        for root_id, start in self._places:
            incomplete = set() if is_whole else catalog.photos.folders_without_vectors(root_id, start, space_id)
            for row in catalog.photos.columns_by_folder(root_id, start):
                if self._is_closed:
                    return
                if row.is_plain and row.folder not in incomplete:
                    digest = _digest(f"[{row.sizes}][{row.mtimes_ns}][{row.inodes}]", row.names)
                    with self._progress:
                        self._digests[root_id, row.folder] = digest
                        self._progress.notify_all()


def _digest(columns: str, names: bytes) -> bytes:
    return hashlib.blake2b(columns.encode() + names, digest_size=_DIGEST_BYTES).digest()
