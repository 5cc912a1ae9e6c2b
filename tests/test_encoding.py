"""What each kind of query is scored by, held against arithmetic on chosen vectors."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from imgsearch.core.errors import QueryError
from imgsearch.core.search import encoding, query_texts, scoring
from imgsearch.core.search.composition import PDV_STEP
from imgsearch.core.search.filters import Filters
from imgsearch.core.search.grammar import Query, Term
from imgsearch.core.search.options import SearchOptions
from imgsearch.core.store.store import Store
from imgsearch.core.types import SpaceIdentity

from chosen import index_of, random_units, unit

TEXTS = ("beach", "people", "umbrella", "dog", "cat", "blue", "red", "one word")


class Scene:
    def __init__(self, searcher, paths, rows, words) -> None:
        self.searcher, self.paths, self.rows, self.words = searcher, paths, rows, words

    def ask(self, query: Query, **options):
        return self.searcher.search(query, SearchOptions(limit=100, **options))

    def scores(self, query: Query, **options) -> dict[str, float]:
        return {hit.path: hit.score for hit in self.ask(query, **options)}

    def expect(self, found: dict[str, float], expected, *, without=()) -> None:
        """These scores for all photos but some, in falling order."""
        wanted = {path: score for path, score in zip(self.paths, expected, strict=True) if path not in without}
        assert set(found) == set(wanted)
        assert [found[path] for path in found] == pytest.approx([wanted[path] for path in found], abs=2e-5)
        assert list(found.values()) == sorted(found.values(), reverse=True)


@pytest.fixture
def scene(tmp_path):
    rows = random_units(1, 60, 16)
    words = dict(zip(TEXTS, random_units(2, len(TEXTS), 16), strict=True))
    contents = [b"photo %d" % n for n in range(len(rows))]
    with index_of(tmp_path, contents, rows, words, random_units(3, 30, 16)) as (searcher, paths):
        yield Scene(searcher, paths, rows, words)


def z(scores):
    return (scores - scores.mean()) / scores.std()


# sums


def test_a_weighted_sum_is_the_cosine_to_the_normalised_sum(scene):
    query = Query("", terms=(Term("beach", weight=2), Term("dog")))
    expected = scene.rows @ unit(2 * scene.words["beach"] + scene.words["dog"])
    scene.expect(scene.scores(query), expected)
    assert {hit.method for hit in scene.ask(query)} == {"text"}


def test_a_sum_may_have_pictures_among_its_terms_which_are_left_out(scene):
    query = Query("", terms=(Term("beach", weight=3), Term(image=scene.paths[5])))
    expected = scene.rows @ unit(3 * scene.words["beach"] + scene.rows[5])
    scene.expect(scene.scores(query), expected, without={scene.paths[5]})
    scene.expect(scene.scores(query, include_reference=True), expected)
    assert {hit.method for hit in scene.ask(query)} == {"sum"}


def test_terms_that_cancel_each_other_out_are_no_question(tmp_path):
    words = {"beach": np.eye(1, 16, dtype=np.float32)[0], "no beach": -np.eye(1, 16, dtype=np.float32)[0]}
    made = index_of(tmp_path, [b"1"], random_units(1, 1, 16), words, random_units(3, 9, 16))
    with made as (searcher, _), pytest.raises(QueryError, match="cancel each other out"):
        searcher.search(Query("", terms=(Term("beach"), Term("no beach"))))


# negatives


def penalty(rows, spread, *unwanted):
    excess = np.max([(rows @ n - np.median(rows @ n)) / (rows @ n).std() for n in unwanted], axis=0)
    return scoring.PENALTY * spread * np.clip(excess, 0, scoring.PENALTY_CAP)


def test_a_negative_is_a_penalty_for_what_stands_out_and_no_reward_for_the_rest(scene):
    plain = scene.rows @ scene.words["beach"]
    expected = plain - penalty(scene.rows, plain.std(), scene.words["people"])
    found = scene.scores(Query("", text="beach", negatives=("people",)))
    scene.expect(found, expected)
    assert all(found[path] <= score + 1e-6 for path, score in zip(scene.paths, plain, strict=True))
    assert sum(abs(found[path] - score) < 1e-6 for path, score in zip(scene.paths, plain, strict=True)) == 30


def test_of_several_negatives_the_worst_counts_and_the_order_of_them_does_not(scene):
    plain = scene.rows @ scene.words["beach"]
    expected = plain - penalty(scene.rows, plain.std(), scene.words["people"], scene.words["umbrella"])
    found = scene.scores(Query("", text="beach", negatives=("people", "umbrella")))
    scene.expect(found, expected)
    assert found == scene.scores(Query("", text="beach", negatives=("umbrella", "people")))


def test_the_penalty_is_capped(scene, monkeypatch):
    monkeypatch.setattr(scoring, "PENALTY_CAP", 0.5)
    plain = scene.rows @ scene.words["beach"]
    found = scene.scores(Query("", text="beach", negatives=("people",)))
    lost = [score - found[path] for path, score in zip(scene.paths, plain, strict=True)]
    assert max(lost) == pytest.approx(0.5 * scoring.PENALTY * plain.std(), abs=1e-5)


@pytest.mark.parametrize("method", ["scaled", "lerp", "and", "product", "weicom"])
def test_a_negative_goes_with_every_kind_of_query(scene, method):
    composed = Query("", text="beach", images=(scene.paths[0],))
    without = scene.scores(composed, method=method)
    with_one = scene.scores(Query("", text="beach", images=(scene.paths[0],), negatives=("people",)), method=method)
    by_picture = scene.scores(Query("", images=(scene.paths[0],), negatives=("people",)))
    assert set(with_one) == set(without) == set(by_picture)
    assert all(with_one[path] <= without[path] + 1e-6 for path in without)
    assert with_one != without


# alternatives


def test_any_is_the_best_of_standardised_scores_and_all_the_worst(scene):
    dog, cat = (z(scene.rows @ scene.words[word]) for word in ("dog", "cat"))
    terms = (Term("dog"), Term("cat"))
    scene.expect(scene.scores(Query("", any_of=terms)), np.maximum(dog, cat))
    scene.expect(scene.scores(Query("", all_of=terms)), np.minimum(dog, cat))
    assert {hit.method for hit in scene.ask(Query("", any_of=terms))} == {"any"}
    assert {hit.method for hit in scene.ask(Query("", all_of=terms))} == {"all"}


def test_words_alternatives_and_what_all_must_have_hold_together(scene):
    beach, dog, cat, red = (z(scene.rows @ scene.words[word]) for word in ("beach", "dog", "cat", "red"))
    query = Query("", text="beach", any_of=(Term("dog"), Term("cat")), all_of=(Term("red"),))
    scene.expect(scene.scores(query), np.minimum.reduce([beach, np.maximum(dog, cat), red]))


def test_an_alternative_may_be_a_picture_which_is_left_out(scene):
    query = Query("", any_of=(Term("dog"), Term(image=scene.paths[7])))
    expected = np.maximum(z(scene.rows @ scene.words["dog"]), z(scene.rows @ scene.rows[7]))
    scene.expect(scene.scores(query), expected, without={scene.paths[7]})


# feedback


def test_feedback_draws_the_question_on_centred_vectors(scene):
    mean = scene.rows.mean(axis=0) * 60 / 260
    liked, disliked = scene.rows[3], (scene.rows[8] + scene.rows[9]) / 2
    q = scene.words["beach"] + 0.5 * (liked - mean) - 0.25 * (disliked - mean)
    query = Query("", text="beach", more_like=(scene.paths[3],), less_like=(scene.paths[8], scene.paths[9]))
    scene.expect(scene.scores(query), scene.rows @ unit(q), without={scene.paths[n] for n in (3, 8, 9)})


# a change from one text to another


def test_pdv_moves_the_picture_and_the_words_by_the_difference_of_the_texts(scene):
    v, origin, target = scene.rows[0], scene.words["blue"], scene.words["red"]
    step = PDV_STEP * (target - origin)
    mixed = unit(0.25 * unit(v + step) + 0.75 * unit(origin + step))
    query = Query("", text="red", change_from="blue", images=(scene.paths[0],))
    scene.expect(scene.scores(query), scene.rows @ mixed, without={scene.paths[0]})
    assert {hit.method for hit in scene.ask(query)} == {"pdv"}


def test_pdv_goes_with_from_and_from_with_nothing_else(scene):
    with pytest.raises(QueryError, match="pdv needs --from and --to"):
        scene.ask(Query("", text="red", images=(scene.paths[0],)), method="pdv")
    with pytest.raises(QueryError, match="lerp does not support --from"):
        scene.ask(Query("", text="red", change_from="blue", images=(scene.paths[0],)), method="lerp")


# basic


@pytest.mark.parametrize(("method", "harris"), [("basic", 0.0), ("basic-style", 0.4)])
@pytest.mark.parametrize("weight", [0.5, 0.3])
def test_basic_is_its_formula(scene, monkeypatch, method, harris, weight):
    subjects, styles = [f"subject {n}" for n in range(40)], [f"style {n}" for n in range(20)]
    lists = {"subjects": subjects, "styles": styles}
    for module in (encoding, query_texts):
        monkeypatch.setattr(module, "word_list", lists.__getitem__)
    monkeypatch.setattr(query_texts, "CONTEXTS", 10)
    embed = scene.searcher._encoder._embedder()
    a, b = (embed.embed_texts(words).astype(np.float64) for words in (subjects, styles))
    image_mean = scene.rows.astype(np.float64).mean(axis=0) * 60 / 260
    text_mean, b = a.mean(axis=0), b - a.mean(axis=0)
    a = a - text_mean
    values, directions = np.linalg.eigh(0.8 * a.T @ a / 39 - 0.2 * b.T @ b / 19)
    kept = directions[:, np.argsort(-values)[:5]]  # 250 of 768 dimensions are 5 of 16
    assert (np.sort(values)[-5:] > 0).all()
    projected = kept @ kept.T @ (scene.rows[0] - image_mean)
    centred = scene.rows - image_mean
    if harris:
        near = np.argsort(-(scene.rows @ projected), kind="stable")[:25]
        group = np.vstack([projected, centred[near]])
        weights = np.exp(0.1 * (group @ projected))
        projected = kept @ kept.T @ (weights @ group / weights.sum())
    contexts = [f"{subjects[i * 4]} beach" for i in range(10)] + [f"beach {subjects[i * 4]}" for i in range(10)]
    words = embed.embed_texts(contexts).astype(np.float64).mean(axis=0) - text_mean
    sides = [centred @ projected, centred @ words]
    lows = [np.percentile(side, 1) for side in sides]
    assert max(lows) < -1e-3
    v, t = (np.maximum(0, (s - low) / -low) for s, low in zip(sides, lows, strict=True))
    expected = v ** (2 - 2 * weight) * t ** (2 * weight) - harris * weight * (1 - weight) * (v + t) ** 2
    query = Query("", text="beach", images=(scene.paths[0],))
    scores = scene.scores(query, method=method, weight=weight)
    scene.expect(scores, expected, without={scene.paths[0]})


# what is left out


@pytest.fixture
def copies(tmp_path):
    """A photo, a copy of it in all but bytes, one merely like it, and others."""
    rows = random_units(1, 20, 16)
    across = unit(rows[1] - (rows[1] @ rows[0]) * rows[0])
    rows[1] = 0.99 * rows[0] + np.sqrt(1 - 0.99**2) * across
    rows[2] = 0.95 * rows[0] + np.sqrt(1 - 0.95**2) * across
    words = dict(zip(TEXTS, random_units(2, len(TEXTS), 16), strict=True))
    with index_of(tmp_path, [b"%d" % n for n in range(20)], rows, words, random_units(3, 30, 16)) as (searcher, paths):
        yield Scene(searcher, paths, rows, words)


def test_a_composed_query_leaves_out_near_copies_of_its_reference_unless_asked_for(copies):
    composed = Query("", text="beach", images=(copies.paths[0],))
    assert set(copies.scores(composed)) == set(copies.paths[2:])
    assert set(copies.scores(composed, include_reference=True)) == set(copies.paths)
    assert set(copies.scores(Query("", images=(copies.paths[0],)))) == set(copies.paths[1:])


def test_a_near_copy_counts_for_none_of_the_photos_asked_for(copies):
    composed = Query("", text="beach", images=(copies.paths[0],))
    every = list(copies.scores(composed))
    assert [hit.path for hit in copies.searcher.search(composed, SearchOptions(limit=18))] == every


# what a score means


def test_z_and_percentile_are_of_this_question_over_the_whole_collection(scene):
    scores = scene.rows @ scene.words["beach"]
    for hit in scene.ask(Query("", text="beach"), filters=Filters(glob=("00*",))):
        at = scene.paths.index(hit.path)
        assert hit.z == pytest.approx(z(scores)[at], abs=1e-4)
        assert hit.percentile == pytest.approx(100 * np.mean(scores < scores[at] - 1e-6))
        assert hit.cosine == pytest.approx(scores[at], abs=1e-6)


def test_cosine_is_without_penalties_and_of_a_composed_query_to_the_mixture(scene):
    hit, *_ = scene.ask(Query("", text="beach", negatives=("people",)))
    at = scene.paths.index(hit.path)
    assert hit.cosine == pytest.approx(float(scene.rows[at] @ scene.words["beach"]), abs=1e-6)
    hit, *_ = scene.ask(Query("", text="beach", images=(scene.paths[0],)), method="product", weight=0.3)
    at = scene.paths.index(hit.path)
    mixed = unit(0.7 * scene.rows[0] + 0.3 * scene.words["beach"])
    assert hit.cosine == pytest.approx(float(scene.rows[at] @ mixed), abs=1e-5)


def test_min_z_is_the_same_cut_whatever_is_filtered(scene):
    query = Query("", text="beach")
    high = {hit.path for hit in scene.ask(query) if hit.z >= 1}
    assert {hit.path for hit in scene.ask(query, min_z=1.0)} == high
    kept = {hit.path for hit in scene.ask(query, min_z=1.0, filters=Filters(glob=("0[0-2]*",)))}
    assert kept == {path for path in high if path[-7:-4] < "030"}
    assert scene.ask(query, min_z=9.0) == []


def test_probability_is_by_the_models_own_scale_and_bias(tmp_path):
    rows, words = random_units(1, 9, 16), {"beach": random_units(2, 16)}
    details = {"logit_scale": "100.0", "logit_bias": "-12.5"}
    made = index_of(tmp_path, [b"%d" % n for n in range(9)], rows, words, random_units(3, 9, 16), details=details)
    with made as (searcher, paths):
        for hit in searcher.search(Query("", text="beach")):
            logit = 100 * float(rows[paths.index(hit.path)] @ words["beach"]) - 12.5
            assert hit.probability == pytest.approx(1 / (1 + np.exp(-logit)), abs=1e-4)
        assert searcher.search(Query("", images=(paths[0],)))[0].probability is None


def test_an_index_of_an_earlier_version_learns_what_its_model_says_of_itself(tmp_path):
    identity = SpaceIdentity("a" * 64, "m", "m", None, 4, {"torch": "2.0"})
    with Store.writing(str(tmp_path / "index"), create=True) as store:
        before = store.space_for(identity, "{}")
        now = store.space_for(replace(identity, details={"torch": "2.9", "logit_bias": "-10.0"}), "{}")
    with Store.open(str(tmp_path / "index")) as store:
        assert store.catalog.spaces.all() == [now] and now.id == before.id
    assert now.identity.details == {"torch": "2.9", "logit_bias": "-10.0"}


def test_pictures_among_alternatives_are_left_out_beside_any_other_part(scene):
    query = Query("", images=(scene.paths[3],), any_of=(Term(image=scene.paths[7]),))
    assert set(scene.scores(query)) == set(scene.paths) - {scene.paths[3], scene.paths[7]}


def test_other_models_give_no_probability(scene):
    assert scene.ask(Query("", text="beach"))[0].probability is None


# a word alone


@pytest.mark.parametrize(
    ("text", "is_put_into_sentences"),
    [("beach", True), ("two words", False), ("été", False), ("犬", False), ("photo", False), ("C3PO", False)],
)
def test_a_single_english_word_is_asked_as_a_word_and_as_sentences(tmp_path, text, is_put_into_sentences):
    rows = random_units(1, 12, 16)
    details = {"tokenizer": "SimpleTokenizer"}
    made = index_of(
        tmp_path, [b"%d" % n for n in range(12)], rows, {"x": rows[0]}, random_units(3, 9, 16), (), None, details
    )
    with made as (searcher, paths):
        embed = searcher._encoder._embedder().embed_texts
        asked = [text, f"a photo of {text}", f"a picture of {text}"] if is_put_into_sentences else [text]
        scene = Scene(searcher, paths, rows, {})
        scene.expect(scene.scores(Query("", text=text)), rows @ unit(embed(asked).sum(axis=0)))


def test_a_model_of_many_languages_gets_every_word_unchanged(scene):
    scene.expect(scene.scores(Query("", text="beach")), scene.rows @ scene.words["beach"])
