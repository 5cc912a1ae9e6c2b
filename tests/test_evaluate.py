"""Benchmark figures against the plainest code that computes them."""

from __future__ import annotations

import math
import statistics

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from imgsearch.core import evaluate

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
    assert evaluate.recall_at_k(rankings, relevant, k) == pytest.approx(hits / len(asked))
    assert evaluate.share_found_at_k(rankings, relevant, k) == pytest.approx(shares / len(asked))


@given(queries, st.none() | ks)
def test_average_precision_is_that_of_a_loop(asked, k):
    rankings, relevant = zip(*asked, strict=True)
    expected = [plain_average_precision(ranking, right, k) for ranking, right in asked]
    found = [evaluate.average_precision(ranking, right, k) for ranking, right in asked]
    assert found == pytest.approx(expected)
    assert evaluate.mean_average_precision(rankings, relevant, k) == pytest.approx(statistics.mean(expected))


def test_average_precision_of_a_worked_example():
    # Right at ranks 1, 3 and 5 of 4 that are right: (1/1 + 2/3 + 3/5) / 4; among the first 3, (1/1 + 2/3) / 3.
    assert evaluate.average_precision("abcde", set("acez")) == pytest.approx((1 + 2 / 3 + 3 / 5) / 4)
    assert evaluate.average_precision("abcde", set("acez"), k=3) == pytest.approx((1 + 2 / 3) / 3)


def test_a_short_perfect_ranking_has_average_precision_1_at_k():
    assert evaluate.average_precision("abc", set("abcdefgh"), k=3) == 1.0


@given(queries)
def test_median_rank_is_that_of_a_loop(asked):
    rankings, relevant = zip(*asked, strict=True)
    ranks = [
        min((ranking.index(name) + 1 for name in right if name in ranking), default=math.inf)
        for ranking, right in asked
    ]
    assert evaluate.median_rank(rankings, relevant) == statistics.median(ranks)


@given(ranking_lists, st.dictionaries(st.sampled_from(NAMES), st.sampled_from([0, 0.5, 1, 3]), min_size=1), ks)
def test_ndcg_is_that_of_a_loop(ranking, grades, k):
    grades[0] = 1.0
    found = evaluate.ndcg_at_k(ranking, grades, k)
    assert found == pytest.approx(plain_ndcg(ranking, grades, k))
    assert 0 <= found <= 1 + 1e-12


def test_ndcg_of_the_best_order_is_1():
    assert evaluate.ndcg_at_k("abcd", {"a": 3, "b": 2, "c": 1}, k=4) == pytest.approx(1)


@pytest.mark.parametrize(
    ("ranking", "relevant", "why"),
    [("aa", "a", "twice"), ("ab", "", "nothing is relevant")],
)
def test_what_has_no_figure_is_refused(ranking, relevant, why):
    with pytest.raises(ValueError, match=why):
        evaluate.average_precision(ranking, set(relevant))
    with pytest.raises(ValueError, match=why):
        evaluate.recall_at_k([ranking], [set(relevant)], 1)
    with pytest.raises(ValueError, match=why):
        evaluate.ndcg_at_k(ranking, dict.fromkeys(relevant, 1.0), 1)


def test_no_queries_have_no_mean():
    with pytest.raises(ValueError, match="no queries"):
        evaluate.mean_average_precision([], [])


def test_bootstrap_of_equal_differences_has_no_width():
    assert evaluate.paired_bootstrap([0.25] * 30, seed=0) == (0.25, 0.25, 0.25)


def test_bootstrap_is_reproducible_and_as_wide_as_theory_says():
    differences = np.random.default_rng(5).normal(0.1, 0.3, 400)
    found = evaluate.paired_bootstrap(differences, seed=1)
    assert found == evaluate.paired_bootstrap(list(differences), seed=1)
    assert found.mean == pytest.approx(differences.mean())
    half = 1.96 * differences.std() / math.sqrt(400)
    assert (found.low, found.high) == pytest.approx((found.mean - half, found.mean + half), abs=0.003)


def test_bootstrap_in_blocks_covers_all_rounds(monkeypatch):
    monkeypatch.setattr(evaluate, "DRAWS_AT_ONCE", 250)
    differences = [0.0, 1.0] * 50
    found = evaluate.paired_bootstrap(differences, seed=1, rounds=1001)
    assert 0.3 < found.low < 0.5 < found.high < 0.7


def test_bootstrap_of_groups_is_as_wide_as_their_number_allows():
    """A hundred queries that are ten, said ten times each, are worth ten."""
    differences = np.repeat(np.random.default_rng(5).normal(0, 1, 10), 10)
    groups = [f"group {number}" for number in np.repeat(range(10), 10)]
    alone = evaluate.paired_bootstrap(differences, seed=1)
    grouped = evaluate.paired_bootstrap(differences, seed=1, groups=groups)
    assert grouped.mean == alone.mean
    assert (grouped.high - grouped.low) / (alone.high - alone.low) == pytest.approx(math.sqrt(10), rel=0.1)
