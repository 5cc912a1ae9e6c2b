"""The catalogue as a file that several processes read and write at once."""

from __future__ import annotations

import contextlib
import io
import os
from collections.abc import Iterator

import pytest

from imgsearch.core.search.grammar import parse
from imgsearch.core.store import export_collection, photo_table, schema
from imgsearch.core.store.catalog import Catalog
from imgsearch.core.store.store import Store

from chosen import index_of, random_units

COUNT = 40


@pytest.fixture
def searcher(tmp_path, monkeypatch):
    monkeypatch.setattr(export_collection, "PHOTOS_AT_ONCE", 8)
    monkeypatch.setattr(photo_table, "FOLDERS_AT_ONCE", 1)
    contents = [b"photo %d" % number for number in range(COUNT)]
    rows, texts = random_units(1, COUNT, 8), random_units(2, COUNT, 8)
    with index_of(tmp_path, contents, rows, random_units(3, 8), random_units(4, 3, 8), texts) as (searcher, _):
        yield searcher


def write_and_checkpoint(path: str) -> None:
    """Commit as a writer does, and empty the write-ahead log, which fails while a reader is in a transaction."""
    with contextlib.closing(Catalog(path, write=True)) as catalog:
        with catalog.transaction():
            catalog.set_info("written", "yes")
        catalog.execute("pragma busy_timeout = 0")
        is_busy, *_ = catalog.row("pragma wal_checkpoint(truncate)")
        assert not is_busy and os.path.getsize(f"{path}-wal") == 0


class SlowPipe(io.BytesIO):
    """Another program that reads slowly: the index is written to while it waits."""

    def __init__(self, path: str) -> None:
        super().__init__()
        self._path = path

    def write(self, data, /):
        write_and_checkpoint(self._path)
        return super().write(data)


def test_a_slow_reader_of_an_export_does_not_hold_up_a_writer(searcher):
    with contextlib.closing(Store.open(searcher.store.folder)) as store:
        pipe = SlowPipe(store.catalog.path)
        done = export_collection.export_collection(store, "-", "jsonl", output=pipe)
    assert (done.photos, done.texts) == (COUNT, COUNT)
    assert pipe.getvalue().count(b"\n") == 2 * COUNT + 2


def slow_readers(searcher) -> Iterator[Iterator[object]]:
    catalog, (root,) = searcher.store.catalog, searcher.store.catalog.roots.all()
    space = searcher.view.space.id
    yield searcher.search_many([parse("words")] * 3)
    yield catalog.photos.columns_by_folder(root.id, b"")
    yield catalog.places.with_vectors(space, 8)
    yield catalog.vectors.texts(space, 8)


def test_a_slow_reader_of_results_does_not_hold_up_a_writer(searcher):
    for results in slow_readers(searcher):
        next(results)
        write_and_checkpoint(searcher.store.catalog.path)
        assert list(results) is not None


def test_the_digest_of_the_tables_is_that_of_what_the_migrations_make():
    assert schema.digest(schema.expected_tables()) == schema.TABLES
