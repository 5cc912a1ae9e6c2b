"""The bytes of vectors: a first pass over them finds what a scan finds, and they follow the vectors."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from test_search import Directions, write

from imgsearch.core.search import best
from imgsearch.core.search.filters import Filters
from imgsearch.core.search.grammar import explicit
from imgsearch.core.search.options import SearchOptions
from imgsearch.core.search.searcher import Searcher
from imgsearch.core.store import byte_vectors
from imgsearch.core.store.check import check
from imgsearch.core.store.prune import compact
from imgsearch.core.store.repair import repair
from imgsearch.core.store.store import Store

pytest.importorskip("simsimd")
COUNT = 6_000


@pytest.fixture(scope="module")
def rows() -> np.ndarray:
    """In a cone, as a model's are, with a burst of nearly equal ones and many that are equal."""
    generator = np.random.default_rng(1)
    rows = generator.normal(size=(COUNT + 400, 32)).astype(np.float32) + np.linspace(-1, 2, 32, dtype=np.float32)
    rows[1_000:1_300] = rows[1_000] + generator.normal(scale=1e-3, size=(300, 32))
    rows[2_000:2_400] = rows[2_000]
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


@pytest.fixture(autouse=True)
def few(monkeypatch):
    monkeypatch.setenv("IMGSEARCH_HNSW_SLOTS", "0")
    monkeypatch.setattr(byte_vectors, "MIN_SLOTS", 3_300)


@pytest.fixture(scope="module")
def whole(tmp_path_factory, rows):
    folder = tmp_path_factory.mktemp("bytes") / "index"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(byte_vectors, "MIN_SLOTS", 3_300)
        with Store.writing(str(folder), create=True) as store:
            write(store, rows, range(COUNT))
    return folder


@pytest.fixture
def index(whole, tmp_path):
    shutil.copytree(whole, tmp_path / "index")
    return str(tmp_path / "index")


def files(index: str) -> list[Path]:
    return sorted(Path(index).glob("spaces/*/vectors.*.i8*"))


def asked(store: Store, rows: np.ndarray, number: int, **options: object) -> tuple[str, list[tuple[str, float]]]:
    """The strategy that was used, and the hits with their scores."""
    plans = []
    searcher = Searcher(store, lambda: Directions(rows))
    hits = searcher.search(explicit(str(number), ()), SearchOptions(**options), on_explained=plans.append)
    return plans[0].record["plan"]["strategy"], [(hit.path, hit.score) for hit in hits]


@pytest.mark.parametrize("chosen", [Filters(), Filters(name=("0[0-3]*",)), Filters(name=("00[01]*",))])
def test_the_bytes_find_what_a_scan_finds(whole, rows, chosen):
    """Also in a burst of nearly equal vectors, which needs a longer shortlist or a scan."""
    used = set()
    with Store.open(str(whole)) as store:
        for number in (*range(0, COUNT, 750), 1_000, 1_299, 2_000):
            for limit in (1, 40):
                how, found = asked(store, rows, number, limit=limit, filters=chosen)
                exact, expected = asked(store, rows, number, limit=limit, filters=chosen, strategy="exact")
                assert [path for path, _ in found] == [path for path, _ in expected]
                assert [score for _, score in found] == pytest.approx([score for _, score in expected], abs=1e-6)
                assert exact == "scan"
                used.add(how)
    assert "bytes" in used or chosen == Filters(name=("00[01]*",))


def test_vectors_that_have_no_bytes_yet_are_found_too(index, rows):
    with Store.writing(index) as store:
        kept = [path.read_bytes() for path in files(index)]
        write(store, rows, range(COUNT, COUNT + 300))
        for path, data in zip(files(index), kept, strict=True):  # as if the run had been killed before it wrote them
            path.write_bytes(data)
        assert not store.is_up_to_date(store.active_space())
        how, hits = asked(store, rows, COUNT + 7)
        assert how == "bytes" and hits[0][0].endswith(f"{COUNT + 7:05}.jpg")


def test_new_vectors_are_added_at_the_end(index, rows):
    before, inode = files(index)[0].read_bytes(), files(index)[0].stat().st_ino
    with Store.writing(index) as store:
        write(store, rows, range(COUNT, COUNT + 10))
        assert store.is_up_to_date(store.active_space())
        info = store.byte_vectors(store.active_space()).info()
        assert info.count == COUNT + 10 and info.first == COUNT
        assert list(check(store).findings) == []
    after = files(index)[0]
    assert after.stat().st_ino == inode and after.read_bytes()[: len(before)] == before
    assert after.stat().st_size == len(before) + 10 * 32 and after.stat().st_mode & 0o077 == 0


def test_centre_and_scale_are_measured_again_in_a_much_larger_collection(index, rows, monkeypatch):
    monkeypatch.setattr(byte_vectors, "GROWTH", 1.05)
    inode = files(index)[0].stat().st_ino
    with Store.writing(index) as store:
        write(store, rows, range(COUNT, COUNT + 400))
        assert store.byte_vectors(store.active_space()).info().first == COUNT + 400
        assert list(check(store).findings) == []
    assert files(index)[0].stat().st_ino != inode


def test_a_prune_makes_the_bytes_of_the_new_generation(index, rows):
    with Store.writing(index) as store:
        with store.catalog.transaction():
            store.catalog.photos.delete(range(1, 1_001))
        space = compact(store, store.active_space())
        assert files(index) == []
        store.save_slots(space)
        assert [path.name for path in files(index)] == ["vectors.1.i8", "vectors.1.i8.json"]
        how, hits = asked(store, rows, 5_000)
        assert how == "bytes" and hits[0][0].endswith("05000.jpg")
        assert list(check(store).findings) == []


def test_slots_that_get_other_vectors_lose_their_bytes_first(index, rows):
    with Store.writing(index) as store:
        write(store, rows, range(COUNT, COUNT + 100))
        space = store.active_space()
        store.forget(space, range(COUNT + 50, COUNT + 100), slots_left=COUNT + 50)
        assert store.byte_vectors(space).info().count == COUNT + 50
        store.forget(space, range(5_000, COUNT + 50), slots_left=5_000)
        assert files(index) == []


def test_an_older_catalogue_that_is_put_back_cuts_the_bytes(index, rows):
    catalog = Path(index, "catalog.sqlite3")
    older = catalog.read_bytes()
    with Store.writing(index) as store:
        write(store, rows, range(COUNT, COUNT + 100))
    catalog.write_bytes(older)
    with Store.writing(index) as store:
        write(store, rows, range(COUNT + 200, COUNT + 400))
        assert list(check(store).findings) == []


DAMAGE = {
    "a byte": (lambda path: flip(path, 32 * 8 + 1_000), "disagrees with the vectors"),
    "centre and scale": (lambda path: flip(path, 7), "is damaged; it is not used"),
    "the end": (lambda path: os.truncate(path, 50_000), "is damaged; it is not used"),
    "all of it": (lambda path: path.unlink(), "is damaged; it is not used"),
    "both files": (lambda path: (path.unlink(), path.with_name(f"{path.name}.json").unlink()), "is missing"),
    "what is said of it": (lambda path: path.with_name(f"{path.name}.json").write_text("[1]"), "is damaged"),
}


def flip(path: Path, at: int) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 0x55
    path.write_bytes(data)


@pytest.mark.parametrize("what", DAMAGE)
def test_damaged_bytes_are_found_by_check_and_made_again(index, rows, what):
    damage, said = DAMAGE[what]
    damage(files(index)[0] if files(index) else Path())
    with Store.open(index) as store:
        how, hits = asked(store, rows, 4_321)
        assert how == ("bytes" if what == "a byte" else "scan") and hits[0][0].endswith("04321.jpg")
    with Store.writing(index) as store:
        found = list(check(store).findings)
        assert [(finding.part, said in finding.what) for finding in found] == [("bytes", True)]
        assert not repair(store, found)
        assert list(check(store).findings) == []
        assert asked(store, rows, 4_321)[0] == "bytes"


def test_a_folder_that_shrinks_keeps_no_bytes(index, rows, monkeypatch):
    monkeypatch.setattr(byte_vectors, "MIN_SLOTS", COUNT + 1)
    with Store.writing(index) as store:
        assert not store.is_up_to_date(store.active_space())
        store.save_slots(store.active_space())
    assert files(index) == []


def test_a_shortlist_grows_until_nothing_outside_it_can_be_among_the_best(rows, monkeypatch):
    """Approximate products that are wrong enough to put the best row outside the first shortlist."""
    monkeypatch.setattr(best, "SHORTLIST", 20)
    generator = np.random.default_rng(2)
    slots = np.arange(len(rows))
    exact = rows @ rows[77]
    sizes = []
    for noise in (0.0, 0.003, 0.01, 0.03, 0.1, 1.0):
        about = (exact + generator.normal(scale=noise, size=len(rows))).astype(np.float32)
        found = best.best_by_shortlist(rows[77], rows, slots, about, 5)
        if found is None:
            continue
        near, products = found
        assert set(np.argsort(-exact)[:5]) <= set(near.tolist())
        np.testing.assert_allclose(products, exact[near], atol=1e-6)
        sizes.append(len(near))
    assert sizes[0] == best.SHORTLIST < max(sizes) and len(sizes) < 6
