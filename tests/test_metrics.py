"""Benchmark figures against the plainest code that computes them."""

from __future__ import annotations

import math
import statistics

import numpy as np
import pytest
import pytrec_eval
from hypothesis import given
from hypothesis import strategies as st

from imgsearch.core.errors import UsageError
from imgsearch.core.evaluation import metrics

NAMES = range(12)
ranking_lists = st.permutations(NAMES).flatmap(lambda names: st.integers(1, 12).map(lambda n: names[:n]))
relevant_sets = st.sets(st.sampled_from(NAMES), min_size=1)
queries = st.lists(st.tuples(ranking_lists, relevant_sets), min_size=1, max_size=6)
ks = st.integers(1, 14)


def plain_average_precision(ranking, relevant, k=None):
    total, found = 0.0, 0
    for rank in range(1, len(ranking) + 1):
        if k is not None and rank > k:
            break
        if ranking[rank - 1] in relevant:
            found += 1
            total += found / rank
    return total / (len(relevant) if k is None else min(len(relevant), k))


def plain_ndcg(ranking, grades, k):
    dcg = sum((2 ** grades.get(name, 0) - 1) / math.log2(i + 2) for i, name in enumerate(ranking[:k]))
    ideal = sorted(grades.values(), reverse=True)[:k]
    return dcg / sum((2**grade - 1) / math.log2(i + 2) for i, grade in enumerate(ideal))


@given(queries, ks)
def test_recalls_are_those_of_a_loop(asked, k):
    rankings, relevant = zip(*asked, strict=True)
    hits = shares = 0.0
    for ranking, right in asked:
        found = [name for name in ranking[:k] if name in right]
        hits += bool(found)
        shares += len(found) / len(right)
    assert metrics.recall_at_k(rankings, relevant, k) == pytest.approx(hits / len(asked))
    assert metrics.share_found_at_k(rankings, relevant, k) == pytest.approx(shares / len(asked))


@given(queries, st.none() | ks)
def test_average_precision_is_that_of_a_loop(asked, k):
    rankings, relevant = zip(*asked, strict=True)
    expected = [plain_average_precision(ranking, right, k) for ranking, right in asked]
    found = [metrics.average_precision(ranking, right, k) for ranking, right in asked]
    assert found == pytest.approx(expected)
    assert metrics.mean_average_precision(rankings, relevant, k) == pytest.approx(statistics.mean(expected))


def test_average_precision_of_a_worked_example():
    # Right at ranks 1, 3 and 5 of 4 that are right: (1/1 + 2/3 + 3/5) / 4; among the first 3, (1/1 + 2/3) / 3.
    assert metrics.average_precision("abcde", set("acez")) == pytest.approx((1 + 2 / 3 + 3 / 5) / 4)
    assert metrics.average_precision("abcde", set("acez"), k=3) == pytest.approx((1 + 2 / 3) / 3)


def test_a_short_perfect_ranking_has_average_precision_1_at_k():
    assert metrics.average_precision("abc", set("abcdefgh"), k=3) == 1.0


@given(queries)
def test_median_rank_is_that_of_a_loop(asked):
    rankings, relevant = zip(*asked, strict=True)
    ranks = [
        min((ranking.index(name) + 1 for name in right if name in ranking), default=math.inf)
        for ranking, right in asked
    ]
    assert metrics.median_rank(rankings, relevant) == statistics.median(ranks)


@given(ranking_lists, st.dictionaries(st.sampled_from(NAMES), st.sampled_from([0, 0.5, 1, 3]), min_size=1), ks)
def test_ndcg_is_that_of_a_loop(ranking, grades, k):
    grades[0] = 1.0
    found = metrics.ndcg_at_k(ranking, grades, k)
    assert found == pytest.approx(plain_ndcg(ranking, grades, k))
    assert 0 <= found <= 1 + 1e-12


def test_ndcg_of_the_best_order_is_1():
    assert metrics.ndcg_at_k("abcd", {"a": 3, "b": 2, "c": 1}, k=4) == pytest.approx(1)


@given(queries, ks)
def test_precisions_and_reciprocal_ranks_are_those_of_a_loop(asked, k):
    rankings, relevant = zip(*asked, strict=True)
    precisions, inverse, inverse_at_k = [], [], []
    for ranking, right in asked:
        ranks = [rank for rank, name in enumerate(ranking, start=1) if name in right]
        precisions.append(len([rank for rank in ranks if rank <= k]) / k)
        inverse.append(1 / ranks[0] if ranks else 0)
        inverse_at_k.append(1 / ranks[0] if ranks and ranks[0] <= k else 0)
    assert metrics.precision_at_k(rankings, relevant, k) == pytest.approx(statistics.mean(precisions))
    assert metrics.mean_reciprocal_rank(rankings, relevant) == pytest.approx(statistics.mean(inverse))
    assert metrics.mean_reciprocal_rank(rankings, relevant, k) == pytest.approx(statistics.mean(inverse_at_k))
    assert metrics.hit_rate_at_k(rankings, relevant, k) == metrics.recall_at_k(rankings, relevant, k)


# ---------------------------------------------------------------------------------------------- beside trec_eval

DOCUMENTS = [f"{number:02}.jpg" for number in range(12)]
# Few values, so that most rankings have ties.
scored = st.dictionaries(st.sampled_from(DOCUMENTS), st.sampled_from([0.0, 0.25, 0.5, 1.0]), min_size=1)
judged = st.dictionaries(st.sampled_from(DOCUMENTS), st.sampled_from([0, 1, 2, 3]), min_size=1).filter(
    lambda grades: any(grades.values())
)
CUTS = (1, 3, 5, 10)


def last_first(name: str) -> str:
    """trec_eval breaks ties by name, the last first; here the first path comes first."""
    return f"{99 - DOCUMENTS.index(name):02}"


def trec(run: dict[str, float], grades: dict[str, int], measures: set[str]) -> dict[str, float]:
    judgements = {"q": {last_first(name): grade for name, grade in grades.items()}}
    evaluator = pytrec_eval.RelevanceEvaluator(judgements, measures)
    return evaluator.evaluate({"q": {last_first(name): score for name, score in run.items()}})["q"]


@given(scored, judged)
def test_metrics_are_those_of_trec_eval_on_rankings_with_ties(run, grades):
    ranking = sorted(run, key=lambda name: (-run[name], name))
    right = {name for name, grade in grades.items() if grade}
    asked = {f"{name}.{','.join(map(str, CUTS))}" for name in ("success", "recall", "P", "map_cut", "ndcg_cut")}
    theirs = trec(run, grades, asked | {"recip_rank", "map"})
    gains = {name: 2**grade - 1 for name, grade in grades.items()}  # trec_eval takes the gain itself
    discounted = trec(run, gains, {f"ndcg_cut.{','.join(map(str, CUTS))}"})
    for k in CUTS:
        assert metrics.hit_rate_at_k([ranking], [right], k) == theirs[f"success_{k}"]
        assert metrics.share_found_at_k([ranking], [right], k) == pytest.approx(theirs[f"recall_{k}"])
        assert metrics.precision_at_k([ranking], [right], k) == pytest.approx(theirs[f"P_{k}"])
        # trec_eval divides by all that is right, also where no k could hold it.
        cut = theirs[f"map_cut_{k}"] * len(right) / min(len(right), k)
        assert metrics.average_precision(ranking, right, k) == pytest.approx(cut)
        assert metrics.ndcg_at_k(ranking, grades, k) == pytest.approx(discounted[f"ndcg_cut_{k}"])
    assert metrics.mean_reciprocal_rank([ranking], [right]) == pytest.approx(theirs["recip_rank"])
    assert metrics.average_precision(ranking, right) == pytest.approx(theirs["map"])


# ------------------------------------------------------------------------------------------------ figures by name


@pytest.mark.parametrize(
    ("name", "figure"),
    [
        ("recall@1", 0.0),
        ("recall@2", 1.0),
        ("hit_rate@2", 1.0),
        ("share_found@2", 1 / 3),
        ("precision@4", 2 / 4),
        ("mrr", 1 / 2),
        ("mrr@1", 0.0),
        ("map@4", (1 / 2 + 2 / 4) / 3),
        # Gains 2^3 - 1 at rank 2 and 2^1 - 1 at rank 4; the best four are 7, 1 and 1.
        ("ndcg@4", (7 / math.log2(3) + 1 / math.log2(5)) / (7 + 1 / math.log2(3) + 1 / math.log2(4))),
        ("median_rank", 2.0),
    ],
)
def test_a_metric_by_its_name_is_what_a_hand_computes(name, figure):
    grades = {"b": 3, "d": 1, "z": 1, "c": 0}
    metric = metrics.metric_named(f" {name.upper()}")
    assert metric.name == name
    assert metric.of(["a", "b", "c", "d"], grades) == pytest.approx(figure)


@pytest.mark.parametrize("name", ["", "recall", "recall@0", "recall@x", "bleu@4", "median_rank@5", "map"])
def test_an_unknown_metric_is_refused_with_those_that_are(name):
    with pytest.raises(UsageError, match="no metric") as refused:
        metrics.metric_named(name)
    assert "share_found@K" in refused.value.hint and "median_rank" in refused.value.hint


@pytest.mark.parametrize(
    ("ranking", "relevant", "why"),
    [("aa", "a", "twice"), ("ab", "", "no relevant name")],
)
def test_what_has_no_figure_is_refused(ranking, relevant, why):
    with pytest.raises(ValueError, match=why):
        metrics.average_precision(ranking, set(relevant))
    with pytest.raises(ValueError, match=why):
        metrics.recall_at_k([ranking], [set(relevant)], 1)
    with pytest.raises(ValueError, match=why):
        metrics.ndcg_at_k(ranking, dict.fromkeys(relevant, 1.0), 1)


def test_no_queries_have_no_mean():
    with pytest.raises(ValueError, match="no queries"):
        metrics.mean_average_precision([], [])


def test_bootstrap_of_equal_differences_has_no_width():
    assert metrics.paired_bootstrap([0.25] * 30, seed=0) == (0.25, 0.25, 0.25)


def test_bootstrap_is_reproducible_and_as_wide_as_theory_says():
    differences = np.random.default_rng(5).normal(0.1, 0.3, 400)
    found = metrics.paired_bootstrap(differences, seed=1)
    assert found == metrics.paired_bootstrap(list(differences), seed=1)
    assert found.mean == pytest.approx(differences.mean())
    half = 1.96 * differences.std() / math.sqrt(400)
    assert (found.low, found.high) == pytest.approx((found.mean - half, found.mean + half), abs=0.003)


def test_bootstrap_in_blocks_covers_all_rounds(monkeypatch):
    monkeypatch.setattr(metrics, "DRAWS_AT_ONCE", 250)
    differences = [0.0, 1.0] * 50
    found = metrics.paired_bootstrap(differences, seed=1, rounds=1001)
    assert 0.3 < found.low < 0.5 < found.high < 0.7


def test_bootstrap_of_groups_is_as_wide_as_their_number_allows():
    """A hundred queries that are ten, said ten times each, are worth ten."""
    differences = np.repeat(np.random.default_rng(5).normal(0, 1, 10), 10)
    groups = [f"group {number}" for number in np.repeat(range(10), 10)]
    alone = metrics.paired_bootstrap(differences, seed=1)
    grouped = metrics.paired_bootstrap(differences, seed=1, groups=groups)
    assert grouped.mean == alone.mean
    assert (grouped.high - grouped.low) / (alone.high - alone.low) == pytest.approx(math.sqrt(10), rel=0.1)


def test_the_interval_of_a_median_is_that_of_medians_of_samples():
    ranks = np.random.default_rng(3).integers(1, 50, 81).astype(float)
    found = metrics.resampled([metrics.Sample(ranks)], seed=4, rounds=400, statistic="median")
    generator = np.random.default_rng(4)
    plain = [np.median(ranks[row]) for row in generator.integers(0, 81, (400, 81))]
    assert found.draws.tolist() == plain
    assert found.interval == (np.median(ranks), *np.percentile(plain, (2.5, 97.5)))


def test_a_median_of_groups_counts_every_query_of_a_drawn_group():
    ranks, groups = [1.0, 2.0, 9.0, 4.0, 5.0], ["a", "a", "b", "b", "b"]
    found = metrics.resampled([metrics.Sample(ranks, groups)], seed=4, rounds=50, statistic="median")
    by_group = {0: [1.0, 2.0], 1: [9.0, 4.0, 5.0]}
    drawn = np.random.default_rng(4).integers(0, 2, (50, 2))
    assert found.draws.tolist() == [np.median([rank for group in row for rank in by_group[group]]) for row in drawn]


def test_ranks_of_queries_that_find_nothing_are_infinite_and_stay_so():
    found = metrics.resampled([metrics.Sample([math.inf] * 9 + [1.0])], seed=0, rounds=200, statistic="median")
    assert found.interval == (math.inf, math.inf, math.inf)
    assert (found - found).interval == (0, 0, 0)


def test_a_paired_difference_is_narrower_than_its_sides_where_both_rise_and_fall_together():
    one = np.random.default_rng(1).normal(0.5, 0.3, 200)
    other = one - 0.05
    a, b = (metrics.resampled([metrics.Sample(figures)], seed=0) for figures in (one, other))
    difference = (a - b).interval
    assert difference == pytest.approx((0.05, 0.05, 0.05))
    assert a.interval.high - a.interval.low > 0.05
    assert (a - b).interval == pytest.approx(metrics.paired_bootstrap(one - other, seed=0))


def test_the_mean_over_categories_does_not_weigh_them_by_their_size():
    many, few = metrics.Sample([1.0] * 30), metrics.Sample([0.0] * 3)
    assert metrics.resampled([many, few], seed=0, rounds=50).interval == (0.5, 0.5, 0.5)
