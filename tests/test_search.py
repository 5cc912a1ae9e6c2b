"""Questions to a real index with the real model, held against arithmetic on its vectors."""

from __future__ import annotations

import os
import shutil
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from imgsearch.core.compose.composers import composer_for
from imgsearch.core.errors import IndexDamaged, QueryError, UsageError
from imgsearch.core.indexing import indexer
from imgsearch.core.models import registry
from imgsearch.core.search import best as best_rows
from imgsearch.core.search import choices, composition, encoding, scorer
from imgsearch.core.search import searcher as search
from imgsearch.core.search.filters import Filters
from imgsearch.core.search.grammar import Query, explicit, parse
from imgsearch.core.search.options import SearchOptions
from imgsearch.core.search.searcher import Searcher
from imgsearch.core.store.graphs import Graph
from imgsearch.core.store.prune import compact
from imgsearch.core.store.records import NewPhoto
from imgsearch.core.store.store import Batch, Store
from imgsearch.core.types import Facts, Photo, SpaceIdentity

from chosen import composer_of, gate_tensors, phi_tensors
from conftest import ALBUM


@pytest.fixture(scope="module")
def library(tmp_path_factory, model):
    """The whole album in two folders, one photo in both, two of them with words beside them."""
    top = tmp_path_factory.mktemp("library")
    pictures = top / "pictures"
    (pictures / "fruit").mkdir(parents=True)
    (pictures / "other").mkdir()
    fruit = {"banana", "lemon", "lime", "mango", "orange", "pineapple", "watermelon", "kiwi", "plum"}
    for path in sorted(ALBUM.glob("*.jpg")):
        shutil.copy(path, pictures / ("fruit" if path.stem in fruit else "other"))
    shutil.copy(pictures / "fruit" / "lemon.jpg", pictures / "other" / "a lemon again.jpg")
    (pictures / "fruit" / "mango.txt").write_text("bought at the harbour market")
    (pictures / "fruit" / "plum.txt").write_text("bought at the harbour market")
    (pictures / "other" / "leek.txt").write_text("soup for a rainy evening")
    with Store.writing(str(top / "index"), create=True) as store:
        spec = registry.parse("builtin").to_json()
        indexer.run(store, lambda: (model, spec), indexer.IndexPlan((str(pictures),)))
    return top


@pytest.fixture
def searcher(library, model, tmp_path):
    """Methods without shipped weights have weights by chance."""
    dim, fingerprint = model.identity.dim, model.identity.fingerprint
    tensors = phi_tensors(dim, width=256)
    own = {
        method: f"{method}:{composer_of(tmp_path / method, tensors, method=method, model=fingerprint)}"
        for method in choices.PUBLISHED
    }
    gate = composer_of(tmp_path / "gated", gate_tensors(dim), method="gated", model=fingerprint, dim=str(dim))
    own["gated"] = f"gated:{gate}"
    with Store.open(str(library / "index")) as store:
        yield Searcher(
            store, lambda: model, composers=lambda asked, identity: composer_for(own.get(asked, asked), identity)
        )


@pytest.fixture
def pictures(library):
    return library / "pictures"


def names(hits) -> list[str]:
    return [os.path.basename(hit.path) for hit in hits]


def cosines(searcher: Searcher, vector: np.ndarray) -> dict[str, float]:
    """Every photo's cosine to a vector, one by one, by the catalogue's own word on which slot is whose."""
    view = searcher.view
    places = searcher.store.catalog.places.of_slots(
        view.space.id, np.flatnonzero(view.slots.mask("image")).tolist(), include_offline=False
    )
    return {place.path: float(view.rows[place.slot] @ vector) for place in places}


def test_words_rank_by_cosine_and_ties_by_path(searcher, model):
    hits = searcher.search(parse("a yellow banana"), SearchOptions(limit=100))
    expected = cosines(searcher, model.embed_texts(["a yellow banana"])[0])
    assert len(hits) == 82
    ranking = sorted(expected, key=lambda path: (-round(expected[path], 6), os.fsencode(path)))
    assert [hit.path for hit in hits][:20] == ranking[:20]
    assert [hit.rank for hit in hits] == list(range(1, 83))
    assert {hit.method for hit in hits} == {"text"} and {hit.model for hit in hits} == {"builtin"}
    both = [hit.path for hit in hits if hit.path.endswith(("lemon.jpg", "a lemon again.jpg"))]
    assert both == sorted(both)
    for hit in hits:
        assert hit.score == pytest.approx(expected[hit.path], abs=1e-6)


def test_an_indexed_picture_uses_its_stored_vector_and_no_model(library, pictures):
    def never():
        raise AssertionError("a model was loaded for an indexed photo")

    with Store.open(str(library / "index")) as store:
        hits = Searcher(store, never).search(parse(str(pictures / "fruit" / "lemon.jpg")), SearchOptions(limit=3))
        assert names(hits)[0] == "a lemon again.jpg"
        assert hits[0].score == pytest.approx(1, abs=1e-5)
        # a copy outside the index is recognised by its bytes
        shutil.copy(pictures / "fruit" / "lemon.jpg", library / "outside.jpg")
        outside = Searcher(store, never).search(parse(str(library / "outside.jpg")), SearchOptions(limit=3))
    assert set(names(outside)[:2]) == {"lemon.jpg", "a lemon again.jpg"}


def test_a_picture_changed_since_it_was_indexed_is_embedded_as_it_is_now(library, pictures, searcher, model):
    from PIL import Image

    path = library / "new.jpg"
    with Image.open(pictures / "fruit" / "mango.jpg") as image:
        image.rotate(180).save(path)
    hits = searcher.search(parse(str(path)), SearchOptions(limit=82))
    assert hits[0].score < 0.9999 and len(hits) == 82


def test_a_picture_from_outside_is_decoded_and_embedded_once_whatever_is_asked_with_it(library, counting, tmp_path):
    outside = str(tmp_path / "outside.jpg")
    Image.open(ALBUM / "lemon.jpg").resize((200, 150)).save(outside)
    weights = [SearchOptions(limit=5, method="lerp", weight=weight) for weight in (0.2, 0.4, 0.6)]
    asked = Query("", text="milk", images=(outside,))
    with Store.open(str(library / "index")) as store:
        one = Searcher(store, lambda: counting)
        found = [one.search(asked, options) for options in weights]
        one.search(Query("", images=(outside,)))
        assert counting.pictures == 1
        assert found == [Searcher(store, lambda: counting).search(asked, options) for options in weights]
        assert counting.pictures == 4
        Image.open(ALBUM / "mango.jpg").resize((200, 150)).save(outside)
        changed = one.search(asked, weights[0])
        assert counting.pictures == 5
        assert changed != found[0]


def test_vectors_of_pictures_from_outside_are_few(library, counting, tmp_path, monkeypatch):
    monkeypatch.setattr(encoding, "MAX_OUTSIDE", 1)
    for name in ("a", "b"):
        Image.new("RGB", (40, 30), "red" if name == "a" else "blue").save(tmp_path / f"{name}.png")
    with Store.open(str(library / "index")) as store:
        searcher = Searcher(store, lambda: counting)
        for name in ("a", "a", "b", "b", "a"):
            searcher.search(Query("", images=(str(tmp_path / f"{name}.png"),)))
    assert counting.pictures == 3


def test_a_plain_picture_query_leaves_out_the_file_itself_and_a_composed_one_its_copies_too(searcher, pictures):
    lemon = str(pictures / "fruit" / "lemon.jpg")
    plain = searcher.search(parse(lemon), SearchOptions(limit=100))
    assert lemon not in [hit.path for hit in plain] and "a lemon again.jpg" in names(plain)
    composed = searcher.search(parse(f"in a bowl like {lemon}"), SearchOptions(limit=100))
    assert len(composed) == 80 and not {"lemon.jpg", "a lemon again.jpg"} & set(names(composed))
    everything = searcher.search(parse(f"in a bowl like {lemon}"), SearchOptions(limit=100, include_reference=True))
    assert len(everything) == 82


@pytest.mark.parametrize("method", list(composition.METHODS))
@pytest.mark.parametrize("include_reference", [False, True])
def test_at_weight_0_and_1_composition_is_plain_search(searcher, pictures, method, include_reference):
    lemon = str(pictures / "fruit" / "lemon.jpg")
    options = {"limit": 100, "method": method, "include_reference": include_reference}
    both = explicit("a green bottle", (lemon,))

    def ranking(query: Query, **more: object):
        return [(hit.path, hit.score, hit.method) for hit in searcher.search(query, SearchOptions(**options, **more))]

    assert ranking(both, weight=0.0) == ranking(explicit(None, (lemon,)))
    assert ranking(both, weight=1.0) == ranking(explicit("a green bottle", ()))


@pytest.mark.parametrize("method", [name for name in composition.METHODS if name != choices.RAW_SUM])  # test_raw_sum
def test_the_graph_finds_what_the_scan_finds(searcher, pictures, method):
    lemon = str(pictures / "fruit" / "lemon.jpg")
    origin = "a yellow fruit" if method == "pdv" else None
    words = "as a cartoon" if method == "restyle" else "a green bottle"
    composed = replace(parse(f"{words} like {lemon}"), change_from=origin)
    for query in (parse("a green bottle"), parse(lemon), composed):
        exact = searcher.search(query, SearchOptions(method=method, strategy="exact"))
        ann = searcher.search(query, SearchOptions(method=method, strategy="ann"))
        assert names(exact) == names(ann)
        assert query != composed or exact[0].method == method
        assert [hit.score for hit in exact] == pytest.approx([hit.score for hit in ann], abs=1e-5)


def test_a_missing_or_damaged_graph_means_an_exact_answer(library, searcher, tmp_path, model):
    copy = tmp_path / "index"
    shutil.copytree(library / "index", copy)
    wanted = names(searcher.search(parse("red fruit")))
    graphs = [path for path in copy.glob("spaces/*/hnsw.image.*") if path.suffix != ".json"]
    assert len(graphs) > 1
    graphs[0].write_bytes(b"rubbish" * 1000)
    graphs[1].unlink()
    with Store.open(str(copy)) as store:
        assert names(Searcher(store, lambda: model).search(parse("red fruit"), SearchOptions(strategy="ann"))) == wanted


def test_a_stale_slot_map_is_not_believed(library, searcher, tmp_path, model):
    copy = tmp_path / "index"
    shutil.copytree(library / "index", copy)
    wanted = names(searcher.search(parse("red fruit")))
    (slots,) = copy.glob("spaces/*/slots.u8")
    slots.write_bytes(bytes(len(slots.read_bytes())))
    with Store.open(str(copy)) as store:
        assert names(Searcher(store, lambda: model).search(parse("red fruit"))) == wanted


def test_under_keeps_to_a_folder_whichever_way_it_is_searched(searcher, pictures):
    for strategy in ("exact", "ann"):
        hits = searcher.search(
            parse("a bottle of milk"),
            SearchOptions(limit=100, filters=Filters(under=(str(pictures / "fruit"),)), strategy=strategy),
        )
        assert len(hits) == 9
        assert {os.path.dirname(hit.path) for hit in hits} == {str(pictures / "fruit")}
    # a copy elsewhere shares the vector, not the place
    assert "a lemon again.jpg" not in names(hits)
    assert (
        len(searcher.search(parse("milk"), SearchOptions(limit=100, filters=Filters(under=(str(pictures.parent),)))))
        == 82
    )
    for nothing in ("/nowhere", str(pictures / "typo"), str(pictures / "fruit" / "lemon.jpg")):
        with pytest.raises(QueryError, match="nothing indexed under this folder"):
            searcher.search(parse("milk"), SearchOptions(filters=Filters(under=(nothing,))))


def test_min_score_cuts_and_nothing_may_be_left(searcher):
    hits = searcher.search(parse("a yellow banana"), SearchOptions(limit=100))
    cut = (hits[4].score + hits[5].score) / 2
    assert names(searcher.search(parse("a yellow banana"), SearchOptions(limit=100, min_score=cut))) == names(hits)[:5]
    assert searcher.search(parse("a yellow banana"), SearchOptions(min_score=2)) == []
    assert searcher.search(parse("a yellow banana"), SearchOptions(min_score=1e300)) == []
    assert searcher.search(parse("a yellow banana"), SearchOptions(limit=100, min_score=-1e300)) == hits
    assert searcher.search(parse("a yellow banana"), SearchOptions(limit=100, min_z=-1e300)) == hits


def test_texts_are_searched_on_request_and_a_shared_text_finds_each_photo_that_carries_it(searcher):
    hits = searcher.search(parse("market by the harbour"), SearchOptions(modality="text"))
    assert names(hits) == ["mango.jpg", "plum.jpg", "leek.jpg"]
    assert hits[0].place.text == "bought at the harbour market" and hits[0].modality == "text"
    assert all(hit.modality == "image" for hit in searcher.search(parse("market by the harbour")))


def test_any_modality_shows_each_photo_once_with_its_best(searcher):
    hits = searcher.search(parse("bought at the harbour market"), SearchOptions(modality="any", limit=100))
    assert len(hits) == len({hit.path for hit in hits}) == 82
    assert {"image", "text"} == {hit.modality for hit in hits}
    assert set(names(hits)[:2]) == {"mango.jpg", "plum.jpg"}
    assert hits[0].place.text == "bought at the harbour market"


def test_a_picture_asked_with_through_a_link_is_left_out_too(searcher, pictures, tmp_path):
    (tmp_path / "link").symlink_to(pictures)
    hits = searcher.search(parse(str(tmp_path / "link" / "fruit" / "lemon.jpg")), SearchOptions(limit=100))
    assert len(hits) == 81 and str(pictures / "fruit" / "lemon.jpg") not in [hit.path for hit in hits]


def test_a_picture_plus_words_finds_pictures_only(searcher, pictures):
    with pytest.raises(QueryError, match="searches pictures only"):
        searcher.search(parse(f"red like {pictures}/fruit/lemon.jpg"), SearchOptions(modality="text"))


def test_many_queries_in_one_call_are_answered_as_each_alone(searcher, pictures):
    queries = [
        parse("a yellow banana"),
        parse(str(pictures / "fruit" / "lemon.jpg")),
        parse(f"in a bowl like {pictures}/fruit/lemon.jpg"),
        parse("a carton of milk"),
    ]
    together = [names(hits) for hits in searcher.search_many(queries)]
    assert together == [names(searcher.search(query)) for query in queries]


def test_several_pictures_are_asked_with_by_their_mean(searcher, pictures):
    paths = tuple(str(pictures / "fruit" / name) for name in ("lemon.jpg", "lime.jpg"))
    hits = searcher.search(explicit(None, paths), SearchOptions(limit=100))
    store, view = searcher.store, searcher.view
    hashes = [store.place_of(path).content_hash for path in paths]
    vectors = [view.rows[store.catalog.vectors.slot_of(view.space.id, "image", content)] for content in hashes]
    mean = np.mean(vectors, axis=0)
    expected = cosines(searcher, mean / np.linalg.norm(mean))
    assert not {"lemon.jpg", "lime.jpg"} & set(names(hits))
    assert hits[0].score == pytest.approx(max(v for p, v in expected.items() if p not in paths), abs=1e-5)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"limit": 0}, "--limit 0"),
        ({"weight": 1.5}, r"--weight 1\.5"),
        ({"method": "magic"}, "no composition method 'magic'"),
        ({"min_score": float("nan")}, "--min-score nan"),
        ({"filters": Filters(under=("",))}, "empty folder name"),
    ],
)
def test_options_out_of_range_are_refused(searcher, options, message):
    with pytest.raises(UsageError, match=message):
        searcher.search(parse("x y"), SearchOptions(**options))


def test_a_picture_that_cannot_be_read_is_named(searcher, library):
    (library / "broken.jpg").write_bytes(b"\xff\xd8\xff no more")
    with pytest.raises(QueryError, match=r"broken\.jpg: "):
        searcher.search(parse(str(library / "broken.jpg")))


# An index of many small vectors of known places, to see what a graph and a second writer do.


class Directions:
    """Stands for a text tower whose texts are numbers: text "7" is the vector of picture 7."""

    def __init__(self, rows: np.ndarray) -> None:
        self._rows = rows

    def embed_texts(self, texts):
        return self._rows[[int(text) for text in texts]]


def unit_rows(count: int) -> np.ndarray:
    rows = np.random.default_rng(0).normal(size=(count, 32)).astype(np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def write(store: Store, rows: np.ndarray, numbers: range) -> None:
    space = store.space_for(SpaceIdentity("a" * 64, "m", "m", None, 32), "{}")
    roots = store.catalog.roots.all()
    if not roots:
        with store.catalog.transaction():
            store.catalog.roots.add("/p", "folder", None)
    batch = Batch()
    for n in numbers:
        key = n.to_bytes(32, "big")
        photo = Photo("/p", f"{n:05}.jpg", 100, 1, n)
        batch.photos.append((1, NewPhoto(photo, key, 100, 1, Facts("JPEG", 1, 1)), ()))
        batch.images[key] = rows[n]
    space = store.commit(space, batch, codecs="")
    store.complete(space)
    store.save_slots(space)


def best(searcher: Searcher, number: int, **options: object) -> str:
    return os.path.basename(searcher.search(explicit(str(number), ()), SearchOptions(limit=1, **options))[0].path)


@pytest.fixture(scope="module")
def _many(tmp_path_factory):
    folder = str(tmp_path_factory.mktemp("many") / "index")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("IMGSEARCH_HNSW_SLOTS", "1000")
        with Store.writing(folder, create=True) as store:
            write(store, unit_rows(3_000), range(2_000))
            store.update_graphs(store.active_space())
    return folder


@pytest.fixture
def many(_many, tmp_path, monkeypatch):
    """The folder of an index with 2,000 of these rows, in two graphs."""
    monkeypatch.setenv("IMGSEARCH_HNSW_SLOTS", "1000")
    return shutil.copytree(_many, str(tmp_path / "many")), unit_rows(3_000)


def test_the_graph_and_the_tail_that_it_does_not_cover_are_searched_together(many):
    folder, rows = many
    with Store.writing(folder) as store:
        write(store, rows, range(2_000, 2_030))
        store.update_graphs(store.active_space())
        assert store.status().in_graphs == {store.active_space().id: 2_000}
        searcher = Searcher(store, lambda: Directions(rows))
        for number in (3, 1_999, 2_000, 2_029):
            assert best(searcher, number, strategy="ann") == f"{number:05}.jpg"


def test_a_searcher_sees_what_is_written_after_it_was_made(many):
    folder, rows = many
    with Store.open(folder) as reader:
        searcher = Searcher(reader, lambda: Directions(rows))
        assert best(searcher, 3, strategy="ann") == "00003.jpg"
        with Store.writing(folder) as store:
            write(store, rows, range(2_000, 3_000))
            store.update_graphs(store.active_space())
        for strategy in ("ann", "exact"):
            assert best(searcher, 2_500, strategy=strategy) == "02500.jpg"


def test_a_prune_between_two_questions_mixes_nothing_up(many):
    folder, rows = many
    with Store.open(folder) as reader:
        searcher = Searcher(reader, lambda: Directions(rows))
        assert best(searcher, 1_500) == "01500.jpg"
        with Store.writing(folder) as store:
            with store.catalog.transaction():
                store.catalog.photos.delete(range(1, 1_001))
            compact(store, store.active_space())
        for strategy in ("ann", "exact"):
            assert best(searcher, 1_500, strategy=strategy) == "01500.jpg"
        assert best(searcher, 3) != "00003.jpg"


def test_a_prune_while_the_model_loads_mixes_nothing_up(many):
    folder, rows = many

    def slow_model() -> Directions:
        with Store.writing(folder) as store:
            with store.catalog.transaction():
                store.catalog.photos.delete(range(1, 1_001))
            compact(store, store.active_space())
        return Directions(rows)

    with Store.open(folder) as reader:
        assert best(Searcher(reader, slow_model), 1_500) == "01500.jpg"


def test_a_graph_is_never_written_again_but_for_damage_which_costs_it_alone(many):
    folder, rows = many
    with Store.writing(folder) as store:
        first, second = store.graphs.of(store.active_space(), "image")
        before = [os.stat(graph.path).st_ino for graph in (first, second)]
        os.truncate(first.path, 1_000)
        write(store, rows, range(2_000, 3_000))
        space = store.active_space()
        assert store.status().covered == frozenset()
        assert store.update_graphs(space)
        assert store.status().covered == {space.id} and len(store.graphs.of(space, "image")) == 3
        after = [os.stat(graph.path).st_ino for graph in (first, second)]
        assert after[0] != before[0] and after[1] == before[1]
        searcher = Searcher(store, lambda: Directions(rows))
        assert [best(searcher, n, strategy="ann") for n in (5, 2_400)] == ["00005.jpg", "02400.jpg"]


def test_the_last_graph_grows_by_a_twentieth_at_a_time(tmp_path, monkeypatch):
    rows = unit_rows(3_000)
    monkeypatch.delenv("IMGSEARCH_HNSW_SLOTS")
    covered = []
    with Store.writing(str(tmp_path / "index"), create=True) as store:
        write(store, rows, range(2_000))
        for end in range(2_000, 2_300, 10):  # thirty small runs
            if end > 2_000:
                write(store, rows, range(end - 10, end))
            store.update_graphs(store.active_space())
            assert store.is_up_to_date(store.active_space())
            covered.append(sum(store.status().in_graphs.values()))
        (graph,) = store.graphs.of(store.active_space(), "image")
        assert sorted(set(covered)) == [2_000, 2_110, 2_230] and graph.upto == 2_230
        searcher = Searcher(store, lambda: Directions(rows))
        for number in (3, 2_050, 2_229, 2_230, 2_289):
            assert best(searcher, number, strategy="ann") == f"{number:05}.jpg"


def test_a_young_graph_does_not_grow(many):
    folder, rows = many
    with Store.writing(folder) as store:
        write(store, rows, range(2_000, 2_500))
        assert store.update_graphs(store.active_space())
        write(store, rows, range(2_500, 2_900))
        *full, last = store.graphs.of(store.active_space(), "image")
        full[0].remove()  # what is missing is made all the same
        for age, upto in ((0, 2_500), (599, 2_500), (-60, 2_900), (601, 2_900)):
            os.utime(last.path, (time.time() - age,) * 2)
            assert store.update_graphs(store.active_space(), min_age_seconds=600)
            assert last.upto == upto and full[0].exists()


def test_a_graph_that_is_replaced_while_it_is_loaded_is_not_used(many, monkeypatch):
    folder, rows = many
    with Store.writing(folder) as store:
        write(store, rows, range(2_000, 2_500))
        store.update_graphs(store.active_space())
        space = store.active_space()
        graph = store.graphs.of(space, "image")[2]
        is_ours = Graph.is_ours

        def and_then_it_grows(self: Graph) -> bool:
            answer = is_ours(self)
            monkeypatch.setattr(Graph, "is_ours", is_ours)
            write(store, rows, range(2_500, 3_000))
            store.update_graphs(store.active_space())
            return answer

        monkeypatch.setattr(Graph, "is_ours", and_then_it_grows)
        assert not graph.load(space.generation)
        assert graph.load(space.generation) and graph.upto == 3_000


def test_a_lost_vector_takes_only_the_graph_that_holds_it(many):
    folder, _ = many
    with Store.writing(folder) as store:
        space = store.active_space()
        store.forget(space, [1_500])
        assert [graph.exists() for graph in store.graphs.of(space, "image")] == [True, False]
        assert store.update_graphs(space) and store.status().in_graphs == {space.id: 1_999}


def test_a_stopped_run_makes_no_further_graph_and_the_next_one_does(many):
    folder, rows = many
    with Store.writing(folder) as store:
        for graph in store.graphs.of(store.active_space(), "image"):
            graph.remove()
        space = store.active_space()
        looks = iter([False, True])
        assert not store.update_graphs(space, stop=lambda: next(looks))
        assert [graph.exists() for graph in store.graphs.of(space, "image")] == [True, False]
        assert not store.is_up_to_date(space)
        assert store.update_graphs(space) and store.is_up_to_date(space)


def test_graphs_of_earlier_versions_and_of_other_ranges_go_with_the_next_writer(many, monkeypatch):
    folder, rows = many
    with Store.open(folder) as store:
        top = store.space_folder(store.active_space().id)
    for name in ("hnsw.image", "hnsw.image.json", "hnsw.text"):
        (Path(top) / name).write_bytes(b"{}")
    monkeypatch.setenv("IMGSEARCH_HNSW_SLOTS", "1500")
    with Store.open(folder) as store:
        searcher = Searcher(store, lambda: Directions(rows))
        assert best(searcher, 1_700, strategy="ann") == "01700.jpg"
    with Store.writing(folder) as store:
        assert store.update_graphs(store.active_space())
        assert store.status().in_graphs == {store.active_space().id: 2_000}
        names = [name for name in os.listdir(top) if name.startswith("hnsw")]
        assert sorted(names) == [f"hnsw.image.{number}" for number in ("0", "0.json", "1", "1.json")]


def test_a_range_with_few_vectors_of_a_modality_is_scanned(many, monkeypatch):
    folder, rows = many
    with Store.writing(folder) as store:
        space = store.active_space()
        texts = {bytes([255, n]) * 16: rows[n] for n in range(49)}
        write(store, rows, range(2_000, 2_951))
        store.commit(store.active_space(), Batch(texts=texts), codecs="")
        space = store.active_space()
        assert space.slots == 3_000 and store.update_graphs(space)
        assert not any(graph.exists() for graph in store.graphs.of(space, "text"))
        store.save_slots(space)
        assert store.is_up_to_date(space)
        monkeypatch.setattr("imgsearch.core.store.graphs.TAIL_SHARE", 0.049)
        assert not store.is_up_to_date(space)


def test_single_queries_use_the_graphs_once_scanning_has_cost_as_much_as_loading(many, monkeypatch):
    folder, rows = many
    monkeypatch.setattr("imgsearch.core.search.scorer.GRAPH_SECONDS_PER_QUERY", 1e-9)
    monkeypatch.setattr("imgsearch.core.search.scorer.GRAPH_LOAD_SECONDS_PER_FLOAT", 4 * scorer.SCAN_SECONDS_PER_FLOAT)
    with Store.open(folder) as store:
        searcher = Searcher(store, lambda: Directions(rows))
        loaded = []
        for number in range(6):
            assert best(searcher, number) == f"{number:05}.jpg"
            loaded.append(len(searcher._scorer._graphs))
        assert loaded == [0, 0, 0, 0, 2, 2]


def test_loaded_graphs_are_kept_while_they_are_what_lies_on_the_disk(many):
    folder, rows = many
    with Store.open(folder) as reader:
        searcher = Searcher(reader, lambda: Directions(rows))
        assert best(searcher, 1_500, strategy="ann") == "01500.jpg"
        before = dict(searcher._scorer._graphs)
        with Store.writing(folder) as store:
            write(store, rows, range(2_000, 2_010))
            first, second, _ = store.graphs.of(store.active_space(), "image")
            second.remove()
            store.update_graphs(store.active_space())
        assert best(searcher, 2_005, strategy="ann") == "02005.jpg"
        assert searcher._scorer._graphs[first.path] is before[first.path]
        assert searcher._scorer._graphs[second.path] is not before[second.path]


def test_no_read_transaction_is_open_while_hits_are_consumed(many, monkeypatch):
    folder, rows = many
    with Store.open(folder) as store:
        searcher = Searcher(store, lambda: Directions(rows))
        queries = [explicit(str(number), ()) for number in range(5)]
        expected = [[hit.path for hit in hits] for hits in searcher.search_many(queries)]
        monkeypatch.setattr(search, "MAX_HITS", 20)  # two queries a block
        answers = searcher.search_many(queries)
        found = []
        for hits in answers:
            assert not store.catalog._connection.in_transaction
            found.append([hit.path for hit in hits])
    assert found == expected


def test_each_block_answers_from_the_current_state_of_the_index(many, monkeypatch):
    folder, rows = many
    monkeypatch.setattr(search, "MAX_HITS", 1)  # one query a block
    with Store.open(folder) as reader:
        searcher = Searcher(reader, lambda: Directions(rows))
        answers = searcher.search_many([explicit("3", ())] * 3, SearchOptions(limit=1))
        assert next(answers)[0].place.relpath == "00003.jpg"
        with Store.writing(folder) as store, store.catalog.transaction():
            (gone,) = [p.id for p in reader.catalog.places.of_slots(searcher.view.space.id, [3], include_offline=False)]
            store.catalog.photos.delete([gone])
        assert next(answers)[0].place.relpath != "00003.jpg"


@pytest.mark.parametrize("rows_at_once", [64, 8_192])
def test_queries_that_share_a_pass_find_what_each_finds_alone(many, monkeypatch, rows_at_once):
    """Blocks end within the best, many equal vectors tie, and filters leave every block a part of its rows or none."""
    folder, rows = many
    monkeypatch.setattr(best_rows, "ROWS_AT_ONCE", rows_at_once)
    rows[100:400] = rows[100]
    with Store.writing(f"{folder}2", create=True) as store:
        write(store, rows, range(2_000))
        searcher = Searcher(store, lambda: Directions(rows))
        queries = [explicit(str(number), ()) for number in range(0, 2_000, 250)]
        for chosen in (Filters(), Filters(name=("00[0-9][0-5]*", "01*")), Filters(name=("0199*",))):
            for limit in (1, 150):
                options = SearchOptions(limit=limit, filters=chosen, strategy="exact")
                explained = []
                together = list(searcher.search_many(queries, options, on_explained=explained.append))
                for query, hits, explanation in zip(queries, together, explained, strict=True):
                    alone = searcher.search(query, options)
                    assert [hit.path for hit in hits] == [hit.path for hit in alone]
                    assert [hit.score for hit in hits] == pytest.approx([hit.score for hit in alone], abs=1e-6)
                    plan = explanation.record["plan"]
                    assert plan["scored"] == plan["allowed"]


def test_a_damaged_vector_is_reported_by_queries_that_share_a_pass(many):
    folder, rows = many
    with Store.open(folder) as store:
        space = store.active_space()
        np.memmap(f"{folder}/spaces/{space.id}/vectors.0.f32", np.float32, "r+", shape=(2_000, 32))[1_500, 3] = np.nan
        searcher = Searcher(store, lambda: Directions(rows))
        with pytest.raises(IndexDamaged, match="a vector is damaged"):
            list(searcher.search_many([explicit(str(number), ()) for number in range(8)]))


def test_errors_and_explanations_come_with_the_hits_of_their_query(library, model):
    with Store.open(str(library / "index")) as store:
        events = []
        queries = [explicit("milk", ()), Query("broken", images=(str(library / "none.jpg"),)), explicit("a lemon", ())]
        answers = Searcher(store, lambda: model).search_many(
            queries,
            on_error=lambda query, error: events.append(("error", query.typed)),
            on_explained=lambda explanation: events.append(("explained", explanation.record["query"])),
        )
        for hits in answers:
            events += [("hits", len(hits))]
    assert events == [
        *(("explained", "milk"), ("hits", 10)),
        *(("error", "broken"), ("hits", 0)),
        *(("explained", "a lemon"), ("hits", 10)),
    ]


def test_missing_vectors_are_reported_and_never_replaced(many):
    folder, rows = many
    with Store.writing(folder) as store:
        space = store.active_space()
        path = f"{folder}/spaces/{space.id}/vectors.0.f32"
        os.truncate(path, 0)
        with pytest.raises(IndexDamaged, match="has 0 vectors, but the catalogue expects 2000"):
            write(store, rows, range(2_000, 2_010))
        assert os.path.getsize(path) == 0


def test_pruning_the_last_photo_leaves_a_working_index(many):
    folder, rows = many
    with Store.writing(folder) as store:
        with store.catalog.transaction():
            store.catalog.photos.delete(range(1, 2_001))
        space = compact(store, store.active_space())
        store.update_graphs(space)
        store.save_slots(space)
        assert Searcher(store, lambda: Directions(rows)).search(explicit("1", ())) == []
        write(store, rows, range(3))
        assert best(Searcher(store, lambda: Directions(rows)), 1) == "00001.jpg"


def test_very_many_equal_vectors_are_searched_all_the_same(tmp_path, monkeypatch):
    monkeypatch.setenv("IMGSEARCH_HNSW_SLOTS", "1500")
    rows = unit_rows(1_500)
    rows[200:1_400] = rows[200]
    with Store.writing(str(tmp_path / "equal"), create=True) as store:
        write(store, rows, range(1_500))
        store.update_graphs(store.active_space())
        searcher = Searcher(store, lambda: Directions(rows))
        hits = searcher.search(explicit("200", ()), SearchOptions(limit=150, strategy="ann"))
        assert len(hits) == 150 and hits[-1].score == pytest.approx(1, abs=1e-5)


def test_a_shortlist_of_which_little_is_allowed_is_not_made_up_from_other_graphs(tmp_path, monkeypatch):
    """What is nearest in the first graph is deleted, what comes next is still nearer than all in the second."""
    monkeypatch.setenv("IMGSEARCH_HNSW_SLOTS", "1000")
    rows = unit_rows(2_000)
    for first, last, share in ((1, 400, 0.99), (400, 460, 0.8)):
        others = rows[first:last] - np.outer(rows[first:last] @ rows[0], rows[0])
        others /= np.linalg.norm(others, axis=1, keepdims=True)
        rows[first:last] = share * rows[0] + np.sqrt(1 - share**2) * others
    with Store.writing(str(tmp_path / "index"), create=True) as store:
        write(store, rows, range(2_000))
        store.update_graphs(store.active_space())
        with store.catalog.transaction():
            store.catalog.photos.delete(range(1, 401))
        searcher = Searcher(store, lambda: Directions(rows))
        exact, near = (
            [hit.path for hit in searcher.search(explicit("0", ()), SearchOptions(strategy=strategy))]
            for strategy in ("exact", "ann")
        )
    assert near == exact
