"""Where relevance stops, and what counts as the same shot."""

from __future__ import annotations

import math

import numpy as np
import pytest

from imgsearch.core.search import relevance
from imgsearch.core.search.encoding import correct_hubness
from imgsearch.core.search.filters import Filters
from imgsearch.core.search.grammar import Query, Term
from imgsearch.core.search.options import SearchOptions

from chosen import index_of, random_units, unit

DIM = 64


def test_the_gate_is_what_the_best_of_so_many_reaches_by_luck():
    assert relevance.cutoff(1.9, 1) == math.inf
    assert relevance.cutoff(2.0, 1) == 2.0
    assert relevance.cutoff(3.6, 1_000) == math.inf
    assert relevance.cutoff(3.8, 1_000) == pytest.approx(3.8 * 2 / 3)
    assert relevance.cutoff(9.0, 1_000) == 6.0
    assert relevance.cutoff(-math.inf, 0) == math.inf


@pytest.fixture
def scene(tmp_path):
    """Two hundred photos, of which the first twenty show beaches and the next ten dogs; no photo shows a teapot."""
    beach, dog, teapot = random_units(2, 3, DIM)
    rows = random_units(1, 200, DIM)
    rows[:20] = unit(rows[:20] + 1.5 * beach)
    rows[20:30] = unit(rows[20:30] + 1.5 * dog)
    teapot = unit(teapot - np.linalg.pinv(rows[:50]) @ (rows[:50] @ teapot))
    words = {"beach": beach, "dog": dog, "teapot": teapot}
    made = index_of(tmp_path, [b"%d" % n for n in range(200)], rows, words, random_units(3, 300, DIM))
    with made as (searcher, paths):
        yield searcher, paths


def found(scene, query: Query, **options) -> set[int]:
    searcher, paths = scene
    return {paths.index(hit.path) for hit in searcher.search(query, SearchOptions(limit=200, auto_cut=True, **options))}


BEACHES, DOGS = set(range(20)), set(range(20, 30))


def test_only_what_answers_is_shown_however_many_answer(scene):
    assert found(scene, Query("", text="beach")) == BEACHES
    assert found(scene, Query("", text="dog")) == DOGS


def test_nothing_is_shown_where_nothing_fits(scene):
    assert found(scene, Query("", text="teapot")) == set()


def test_a_filter_brings_nothing_up_and_loses_nothing(scene):
    for first, last in ((0, 5), (15, 25), (30, 60), (25, 200)):
        names = tuple(f"{n:03}.jpg" for n in range(first, last))
        for text, right in (("beach", BEACHES), ("dog", DOGS), ("teapot", set())):
            kept = found(scene, Query("", text=text), filters=Filters(glob=names))
            assert kept == right & set(range(first, last))


def test_how_good_an_answer_must_be_is_found_without_the_filter(scene):
    """The best that the filter leaves would pass for an answer by itself; beside the best of all it is none."""
    searcher, paths = scene
    explained = []
    searcher.search(Query("", text="beach"), SearchOptions(limit=200, auto_cut=True), on_explained=explained.append)
    whole = explained[0].record["auto_cut"]["image"]
    without = Filters(glob=tuple(f"{n:03}.jpg" for n in range(200) if n not in BEACHES))
    hits = searcher.search(
        Query("", text="beach"), SearchOptions(limit=200, auto_cut=True, filters=without), on_explained=explained.append
    )
    assert hits == [] and explained[1].record["auto_cut"]["image"] == whole


def test_pictures_asked_with_are_no_measure_of_the_others(scene):
    """Its own standing is far above all: two thirds of that no other photo has."""
    kept = found(scene, Query("", images=(scene[1][25],)), include_reference=True)
    assert 25 in kept and len(kept) > 1


def test_alternatives_are_kept_by_the_best_of_them_and_conjunctions_by_the_worst(scene):
    either = (Term("beach"), Term("dog"))
    assert found(scene, Query("", any_of=either)) == BEACHES | DOGS
    assert found(scene, Query("", all_of=either)) == set()
    assert found(scene, Query("", any_of=(Term("dog"), Term("teapot")))) == DOGS


def test_what_is_not_wanted_goes_by_its_rank_and_not_by_the_cut(scene):
    assert found(scene, Query("", text="beach", negatives=("dog",))) == BEACHES


def test_a_picture_is_held_against_the_other_pictures(scene):
    searcher, paths = scene
    assert found(scene, Query("", images=(paths[25],))) <= DOGS - {25}
    assert found(scene, Query("", text="dog", images=(paths[25],))) <= DOGS - {25}
    assert found(scene, Query("", text="dog", images=(paths[25],))) != set()


@pytest.mark.parametrize("count", [1, 5, 49])
def test_a_small_collection_is_cut_by_words_and_not_by_pictures(tmp_path, count):
    beach, teapot = random_units(2, 2, DIM)
    rows = unit(random_units(1, count, DIM) + 1.5 * beach)
    rows = unit(rows - np.outer(rows @ teapot, teapot))
    words = {"beach": beach, "teapot": teapot}
    made = index_of(tmp_path, [b"%d" % n for n in range(count)], rows, words, random_units(3, 300, DIM))
    with made as (searcher, paths):
        shown = {
            text: len(searcher.search(Query("", text=text), SearchOptions(limit=99, auto_cut=True))) for text in words
        }
        assert shown == {"beach": count, "teapot": 0}
        by_picture = searcher.search(Query("", images=(paths[0],)), SearchOptions(limit=99, auto_cut=True))
        assert len(by_picture) == count - 1


def test_without_enough_phrases_nothing_is_cut(tmp_path):
    rows, words = random_units(1, 9, DIM), random_units(2, DIM)
    with index_of(tmp_path, [b"%d" % n for n in range(9)], rows, words, random_units(3, 49, DIM)) as (searcher, _):
        explained = []
        hits = searcher.search(Query("", text="words"), SearchOptions(auto_cut=True), on_explained=explained.append)
        assert len(hits) == 9
        assert "auto-cut: cannot be measured here, nothing was cut" in explained[0].lines()


def test_the_explanation_says_how_far_the_best_stands_out(scene):
    searcher, _ = scene
    explained = []
    searcher.search(Query("", text="teapot"), SearchOptions(auto_cut=True), on_explained=explained.append)
    assert explained[0].record["auto_cut"]["image"]["least_standing"] is None
    assert any(line.startswith("auto-cut: nothing is relevant; the best is") for line in explained[0].lines())
    searcher.search(Query("", text="dog"), SearchOptions(auto_cut=True), on_explained=explained.append)
    cut = explained[1].record["auto_cut"]["image"]
    assert cut["least_standing"] == pytest.approx(max(2, cut["best_standing"] * 2 / 3), abs=1e-3)


def test_a_row_that_fits_all_phrases_equally_has_no_standing():
    phrases = np.repeat(random_units(1, 1, DIM), 60, axis=0)
    rows = random_units(2, 3, DIM)
    from imgsearch.core.search.scoring import Clause

    clause = Clause("text", (rows[0],), rows[0], words=rows[0])
    values, is_reference = relevance.clause_relevance(clause, rows, phrases, rows)
    assert values.tolist() == [0, 0, 0] and not is_reference.any()


# hubness


def test_hubness_takes_from_each_photo_what_it_is_near_to_any_words(tmp_path):
    rows, words, phrases = random_units(1, 300, DIM), random_units(2, DIM), random_units(3, 60, DIM)
    nearest = np.sort(rows @ phrases.T, axis=1)[:, -16:].mean(axis=1)
    expected = rows @ words - 0.25 * nearest
    with index_of(tmp_path, [b"%d" % n for n in range(300)], rows, words, phrases) as (searcher, paths):
        query = Query("", text="words")
        plain = searcher.search(query, SearchOptions(limit=300))
        correct_hubness(searcher.store, searcher.view.space, is_on=True)
        hits = searcher.search(query, SearchOptions(limit=300))
        assert [paths.index(hit.path) for hit in hits] == np.argsort(-expected).tolist()
        assert [hit.score for hit in hits] == pytest.approx(np.sort(expected)[::-1], abs=1e-5)
        assert [hit.path for hit in hits] != [hit.path for hit in plain]
        z = (expected - expected.mean()) / expected.std()
        assert [hit.z for hit in hits] == pytest.approx(np.sort(z)[::-1], abs=1e-3)
        by_picture = searcher.search(Query("", images=(paths[0],)), SearchOptions(limit=3))
        assert by_picture[0].score == pytest.approx(np.sort(rows[1:] @ rows[0])[-1], abs=1e-5)


def test_the_best_few_are_the_same_though_only_the_best_many_are_corrected(tmp_path, monkeypatch):
    rows, words, phrases = random_units(1, 300, DIM), random_units(2, DIM), random_units(3, 60, DIM)
    with index_of(tmp_path, [b"%d" % n for n in range(300)], rows, words, phrases) as (searcher, _):
        correct_hubness(searcher.store, searcher.view.space, is_on=True)
        every = [hit.path for hit in searcher.search(Query("", text="words"))]
        monkeypatch.setattr(relevance, "CANDIDATES", 100)
        assert [hit.path for hit in searcher.search(Query("", text="words"))] == every
