"""Composition: each method is its formula, its ends are plain search, and odd collections give numbers."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imgsearch.core.errors import UsageError
from imgsearch.core.search import composition
from imgsearch.core.search.choices import RAW_SUM
from imgsearch.core.search.composition import METHODS, Context, Spread
from imgsearch.core.search.grammar import Query
from imgsearch.core.search.options import SearchOptions
from imgsearch.core.store import calibration
from imgsearch.core.store.calibration import calibrate

from chosen import index_of, random_units, unit

LOWS = {"low_image": -0.2, "low_text": -0.1}
seeds = st.integers(0, 2**32 - 1)
weights = st.floats(0.01, 0.99)
# `raw-sum` reads the picture's file, which has no pixels here: tests/test_raw_sum.py.
every_method = pytest.mark.parametrize("name", [name for name in METHODS if name != RAW_SUM])


def cosine(a, b) -> float:
    """As search computes it: float32, so that it may lie a little beyond 1."""
    return float(a @ b)


def combine(name: str, s_v, s_t, w: float, **context: float):
    """Over a collection that has these scores and no others."""
    s_v, s_t = np.asarray(s_v, np.float32), np.asarray(s_t, np.float32)
    spreads = {"image": Spread.over(s_v), "text": Spread.over(s_t)}
    return METHODS[name].combine(s_v, s_t, w, Context(**{"cosine": 0.2} | LOWS | spreads | context))


@pytest.fixture
def album(tmp_path):
    """Forty photos, two of them copies of the first, and texts that some carry."""
    rows = random_units(1, 40, 16)
    rows[:2] = rows[2]
    contents = [b"the same" if n < 3 else b"photo %d" % n for n in range(40)]
    words, phrases = random_units(2, 16), random_units(3, 30, 16)
    with index_of(tmp_path, contents, rows, words, phrases, carried=random_units(4, 5, 16)) as (searcher, paths):
        yield Album(searcher, paths, rows, words, phrases)


class Album:
    def __init__(self, searcher, paths, rows, words, phrases) -> None:
        self.searcher, self.paths, self.rows, self.words, self.phrases = searcher, paths, rows, words, phrases
        self.reference = rows[0]

    @property
    def distinct(self):
        """The rows as they are stored: one for each content."""
        return self.rows[2:]

    def scores(self, text: str | None = "words", images=None, **options) -> dict[str, float]:
        images = (self.paths[0],) if images is None else images
        origin = "where it starts" if options.get("method") == "pdv" and text and images else None
        query = Query("typed", text=text, images=tuple(images), change_from=origin)
        hits = self.searcher.search(query, SearchOptions(limit=len(self.paths), **options))
        return {hit.path: hit.score for hit in hits}

    def expect(self, found: dict[str, float], expected) -> None:
        """That these are the scores of all photos but the reference and its copies, and their order."""
        assert set(found) == set(self.paths[3:])
        by_path = dict(zip(self.paths, expected, strict=True))
        assert [found[path] for path in found] == pytest.approx([by_path[path] for path in found], abs=2e-6)
        assert list(found.values()) == sorted(found.values(), reverse=True)


# The ends


@every_method
@pytest.mark.parametrize("include_reference", [False, True])
def test_weight_0_is_the_picture_alone(album, name, include_reference):
    composed = album.scores(method=name, weight=0.0, include_reference=include_reference)
    assert composed == album.scores(text=None, include_reference=include_reference)
    assert (album.paths[0] in composed) == include_reference


@every_method
@pytest.mark.parametrize("include_reference", [False, True])
def test_weight_1_is_the_words_alone(album, name, include_reference):
    composed = album.scores(method=name, weight=1.0, include_reference=include_reference)
    assert composed == album.scores(images=(), include_reference=include_reference)
    assert album.paths[0] in composed


@every_method
@given(seed=seeds)
@settings(deadline=None)
def test_near_its_ends_a_method_orders_as_one_side_does(name, seed):
    # Above 0 on both sides: where one is not at all like the query, a product is 0 at every weight.
    generator = np.random.default_rng(seed)
    s_v, s_t = (generator.permutation(np.linspace(0.05, 0.6, 12)) for _ in range(2))
    for w, side in ((1e-3, s_v), (1 - 1e-3, s_t)):
        assert np.argsort(combine(name, s_v, s_t, w)).tolist() == np.argsort(side).tolist()


@every_method
def test_a_better_match_on_both_sides_never_scores_lower(name):
    s = np.sort(np.random.default_rng(0).uniform(-0.5, 0.9, 200))
    # Harris' term takes away from what fits on one side better than on the other.
    alike = {"low_text": LOWS["low_image"]} if name == "basic-style" else {}
    for w in (0.1, 0.5, 0.9):
        assert (np.diff(combine(name, s, s, w, **alike)) >= 0).all()


# Each method is its formula


@given(seed=seeds, w=weights)
@settings(deadline=None)
def test_lerp_is_the_cosine_to_the_normalised_mixture(seed, w):
    v, t, *rows = random_units(seed, 12, 7)
    rows = np.stack(rows)
    mixed = unit((1 - w) * v.astype(np.float64) + w * t.astype(np.float64))
    found = combine("lerp", rows @ v, rows @ t, w, cosine=cosine(v, t))
    assert found == pytest.approx(rows @ mixed, abs=1e-5)


@pytest.mark.parametrize("w", [0.2, 0.5, 0.7])
def test_scaled_is_lerp_with_each_side_in_its_deviations_over_the_other_pictures(album, w):
    """The picture of the query is no hit, and a cosine of 1 among few photos would hide how the others differ."""
    others = album.distinct[1:].astype(np.float64)
    picture = (1 - w) / np.std(others @ album.reference)
    words = w / np.std(others @ album.words)
    album.expect(
        album.scores(method="scaled", weight=w), album.rows @ unit(picture * album.reference + words * album.words)
    )


@given(seed=seeds, w=weights)
@settings(deadline=None)
def test_scaled_does_not_depend_on_the_scale_of_a_side(seed, w):
    s_v, s_t = np.random.default_rng(seed).standard_normal((2, 20))
    one, other = (combine("scaled", s_v, side, w) for side in (s_t, 0.1 * s_t - 0.05))
    assert Spread.over(one).z(one) == pytest.approx(Spread.over(other).z(other), abs=1e-3)


def test_scaled_is_lerp_where_nothing_can_be_measured(tmp_path):
    """A picture and one other photo: both deviations are unknown."""
    rows, words, phrases = random_units(5, 2, 16), random_units(6, 16), random_units(7, 30, 16)
    with index_of(tmp_path, [b"one", b"two"], rows, words, phrases) as (searcher, paths):
        two = Album(searcher, paths, rows, words, phrases)
        assert two.scores(method="scaled", weight=0.6) == two.scores(method="lerp", weight=0.6)


@given(seed=seeds, w=weights)
@settings(deadline=None)
def test_slerp_is_the_cosine_to_a_point_on_the_arc(seed, w):
    v, t, *rows = random_units(seed, 12, 7)
    rows = np.stack(rows)
    angle = math.acos(cosine(v, t))
    point = (math.sin((1 - w) * angle) * v + math.sin(w * angle) * t) / math.sin(angle)
    assert np.linalg.norm(point) == pytest.approx(1, abs=1e-4)
    assert math.acos(min(1.0, float(point @ v))) == pytest.approx(w * angle, abs=2e-3)
    found = combine("slerp", rows @ v, rows @ t, w, cosine=cosine(v, t))
    assert found == pytest.approx(rows @ point, abs=1e-5)


def test_add_is_the_vector_sum(album):
    album.expect(album.scores(method="add"), album.rows @ unit(album.reference + album.words))
    assert album.scores(method="add") == album.scores(method="lerp", weight=0.5)


@given(seed=seeds, w=weights)
@settings(deadline=None)
def test_product_is_its_formula_and_0_where_one_side_is_not_above_0(seed, w):
    s_v, s_t = np.random.default_rng(seed).uniform(-1, 1, (2, 20))
    expected = [a ** (2 - 2 * w) * b ** (2 * w) if a > 0 and b > 0 else 0.0 for a, b in zip(s_v, s_t, strict=True)]
    assert combine("product", s_v, s_t, w) == pytest.approx(expected, rel=1e-4, abs=1e-6)


def test_product_at_its_default_weight_is_the_plain_product():
    assert METHODS["product"].default_weight == 0.5
    assert combine("product", [0.5, -0.3], [0.2, 0.9], 0.5) == pytest.approx([0.1, 0.0])


def normal(scores):
    mean, spread = np.mean(scores), np.std(scores)
    return np.array([0.5 * (1 + math.erf((s - mean) / spread / math.sqrt(2))) for s in scores])


@given(seed=seeds, w=weights, size=st.integers(2, 60), scale=st.sampled_from([1e-3, 0.1, 1.0]))
@settings(deadline=None)
def test_weicom_is_a_weighted_mean_of_normal_scores_between_0_and_1(seed, w, size, scale):
    s_v, s_t = np.random.default_rng(seed).standard_normal((2, size)) * scale
    found = combine("weicom", s_v, s_t, w)
    assert found == pytest.approx((1 - w) * normal(s_v) + w * normal(s_t), abs=1e-5)
    assert ((found >= 0) & (found <= 1)).all()


def test_weicom_bounds_hold_for_an_outlier():
    s_v = np.r_[np.zeros(10_000), 1.0, -1.0]
    found = combine("weicom", s_v, s_v, 0.3)
    assert found[-2:].tolist() == [1.0, 0.0]


def test_weicom_measures_against_pictures_only(album):
    """The texts that photos carry lie in the same vector file; they are no part of the background."""
    s_v, s_t = album.distinct @ album.reference, album.distinct @ album.words
    w = METHODS["weicom"].default_weight
    scores = (1 - w) * normal(s_v) + w * normal(s_t)
    album.expect(album.scores(method="weicom"), np.r_[scores[:1], scores[:1], scores])


@pytest.mark.parametrize("w", [0.2, 0.5, 0.9])
def test_and_is_the_product_of_centred_scores_computed_from_the_rows(album, w):
    pictures = album.distinct.astype(np.float64)
    n = len(pictures)
    image_mean = pictures.mean(axis=0) * n / (n + 200)
    text_mean = album.phrases.astype(np.float64).mean(axis=0)
    centred, phrases = pictures - image_mean, album.phrases - text_mean
    pairs = [centred[i] @ centred[j] for i in range(n) for j in range(n) if i != j]
    low_image = np.percentile(pairs, 1)
    low_text = np.percentile([p @ x for p in phrases for x in centred], 1)
    assert low_image < 0 and low_text < 0
    every = album.rows - image_mean
    s_v, s_t = every @ (album.reference - image_mean), every @ (album.words - text_mean)
    likeness = np.maximum(0, (s_v - low_image) / -low_image) ** (2 - 2 * w)
    album.expect(
        album.scores(method="and", weight=w),
        likeness * np.maximum(0, (s_t - low_text) / -low_text) ** (2 * w),
    )


@pytest.mark.parametrize("name", [name for name in METHODS if not METHODS[name].needs_scan and name != RAW_SUM])
def test_the_graph_s_shortlist_gives_the_scores_of_a_scan(album, name):
    pytest.importorskip("hnswlib")
    assert album.searcher.store.update_graphs(album.searcher.view.space)
    exact = album.scores(method=name, strategy="exact")
    found = album.scores(method=name, strategy="ann")
    assert found == pytest.approx({path: exact[path] for path in found}, abs=2e-6)
    assert len(found) == len(exact)


@every_method
def test_each_method_has_a_weight_between_the_ends_and_uses_it_when_none_is_asked_for(album, name):
    assert 0 < METHODS[name].default_weight < 1
    assert album.scores(method=name) == album.scores(method=name, weight=METHODS[name].default_weight)


def test_an_unknown_method_is_refused_with_those_there_are():
    with pytest.raises(UsageError, match="no composition method 'sum'") as refused:
        composition.method_named("sum")
    assert refused.value.hint == (
        "one of: restyle, scaled, and, lerp, slerp, add, product, weicom, basic, basic-style, pdv, gated, "
        "pic2word, searle, lincir, raw-sum"
    )


# Nothing depends on the order of photos, and odd collections give numbers


@every_method
@given(seed=seeds, w=weights)
@settings(deadline=None)
def test_scores_follow_their_photos(name, seed, w):
    generator = np.random.default_rng(seed)
    s_v, s_t = generator.uniform(-1, 1, (2, 30))
    order = generator.permutation(30)
    assert combine(name, s_v[order], s_t[order], w) == pytest.approx(combine(name, s_v, s_t, w)[order], abs=1e-6)


@every_method
@given(seed=seeds, w=st.one_of(weights, st.just(0.5)), size=st.integers(1, 6))
@settings(deadline=None)
def test_scores_are_finite_for_any_two_vectors(name, seed, w, size):
    v, other = random_units(seed, 2, 9)
    for t in (other, v, -v, unit(v + 1e-4 * other), unit(-v + 1e-4 * other)):
        for rows in (random_units(seed + 1, size, 9), np.stack([v] * size), np.stack([-v] * size)):
            for lows in (LOWS, {"low_image": 0.0, "low_text": 0.0}):
                found = combine(name, rows @ v, rows @ t, w, cosine=cosine(v, t), **lows)
                assert found.dtype == np.float32 and found.shape == (size,)
                assert np.isfinite(found).all()


@every_method
@pytest.mark.parametrize(
    "scene", ["one other picture", "all alike", "words opposite to the picture", "words are the picture"]
)
def test_odd_collections_are_answered_with_numbers(tmp_path, name, scene):
    v, other = random_units(7, 2, 16)
    rows = {"one other picture": [v, other], "all alike": [v] * 5}.get(scene, [v, *random_units(8, 4, 16)])
    words = {"words opposite to the picture": -v, "words are the picture": v}.get(scene, random_units(9, 16))
    contents = [b"photo %d" % n for n in range(len(rows))]
    with index_of(tmp_path, contents, rows, words, random_units(3, 30, 16)) as (searcher, paths):
        query = Query("typed", text="words", images=(paths[0],), change_from="before" if name == "pdv" else None)
        others = 0 if scene == "all alike" else len(rows) - 1  # near-copies are left out like the reference itself
        for weight in (None, 0.5):
            hits = searcher.search(query, SearchOptions(method=name, weight=weight))
            assert len(hits) == others
            every = searcher.search(query, SearchOptions(method=name, weight=weight, include_reference=True))
            assert len(every) == len(rows)
            assert all(math.isfinite(hit.score) for hit in every)


@every_method
def test_a_collection_of_nothing_but_the_reference_has_no_answer(tmp_path, name):
    with index_of(tmp_path, [b"photo"], random_units(7, 1, 16), random_units(9, 16), random_units(3, 30, 16)) as (
        searcher,
        paths,
    ):
        query = Query("typed", text="words", images=(paths[0],), change_from="before" if name == "pdv" else None)
        assert searcher.search(query, SearchOptions(method=name)) == []


@every_method
def test_no_pictures_have_no_scores(name):
    assert combine(name, [], [], 0.5).shape == (0,)


# What centred scores are measured against


def test_a_small_collection_s_mean_is_drawn_towards_none():
    pictures, phrases = random_units(1, 50, 8), random_units(2, 20, 8)
    found = calibrate(pictures, phrases)
    assert found.image_mean == pytest.approx(pictures.mean(axis=0) * 50 / 250, abs=1e-6)
    assert found.text_mean == pytest.approx(phrases.mean(axis=0), abs=1e-6)
    assert found.pictures == 50


@pytest.mark.parametrize("count", [1, 300, 2_500])
def test_calibration_is_the_same_every_time(count):
    pictures, phrases = random_units(1, count, 8), random_units(2, 20, 8)
    first, second = calibrate(pictures, phrases), calibrate(pictures.copy(), phrases.copy())
    assert (first.low_image, first.low_text) == (second.low_image, second.low_text)
    assert (first.image_mean == second.image_mean).all()


def test_a_large_collection_is_measured_by_a_sample(monkeypatch):
    pictures, phrases = random_units(1, 3_000, 8), random_units(2, 20, 8)
    whole = calibrate(pictures, phrases)
    monkeypatch.setattr(calibration, "MEAN_SAMPLE", 1_000)
    monkeypatch.setattr(calibration, "PAIR_SAMPLE", 500)
    sampled = calibrate(pictures, phrases)
    assert sampled.pictures == 3_000
    assert sampled.image_mean == pytest.approx(whole.image_mean, abs=0.05)
    assert (sampled.low_image, sampled.low_text) == pytest.approx((whole.low_image, whole.low_text), abs=0.05)


def test_where_no_score_is_low_the_spread_stands_in():
    """Pictures so alike that every centred score is above 0, as in a small collection of real photos."""
    generator = np.random.default_rng(0)
    pictures = unit(np.r_[1.0, np.zeros(7)] + 0.1 * generator.standard_normal((10, 8)))
    found = calibrate(pictures, random_units(2, 20, 8))
    centred = pictures - pictures.mean(axis=0) * 10 / 210
    pairs = [a @ b for i, a in enumerate(centred) for j, b in enumerate(centred) if i != j]
    assert min(pairs) > 0
    assert found.low_image == pytest.approx(-np.std(pairs), rel=1e-3)


def test_a_single_picture_gives_nothing_to_measure_against():
    assert calibrate(random_units(1, 1, 8), random_units(2, 20, 8)).low_image == 0


def test_calibration_is_due_when_the_collection_changed_by_more_than_a_tenth():
    found = calibrate(random_units(1, 100, 8), random_units(2, 20, 8))
    assert [n for n in (0, 89, 90, 100, 110, 111, 500) if found.is_due(n)] == [0, 89, 111, 500]
