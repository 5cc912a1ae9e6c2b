"""Hits grouped, made to differ and sorted; what is shown was chosen by relevance."""

from __future__ import annotations

import numpy as np
import pytest

from imgsearch.core.search import options
from imgsearch.core.search.grammar import Query
from imgsearch.core.search.options import SearchOptions
from imgsearch.core.types import Facts

from chosen import index_of, random_units, unit

DIM = 16


def scene(tmp_path, scores, *, rows=None, facts=None, contents=None):
    """Photos whose cosines to "words" are these, unless their vectors are given."""
    words = np.eye(1, DIM, dtype=np.float32)[0]
    if rows is None:
        across = random_units(1, len(scores), DIM)
        across[:, 0] = 0
        rows = np.sqrt(1 - np.square(scores))[:, None] * unit(across)
        rows[:, 0] = scores
    contents = contents or [b"x" * (n + 1) for n in range(len(rows))]
    return index_of(tmp_path, contents, unit(rows), words, random_units(3, 9, DIM), facts=facts)


def shown(searcher, paths, **options):
    """For each hit its number and those of its members."""
    hits = searcher.search(Query("", text="words"), SearchOptions(**options))
    number = {path: n for n, path in enumerate(paths)}
    return [(number[hit.path], [number[member.path] for member in hit.members]) for hit in hits]


def order(searcher, paths, **options):
    return [first for first, _ in shown(searcher, paths, **options)]


def at(moment: str | None, **more) -> Facts:
    return Facts("JPEG", 8, 8, taken_at=moment, **more)


def test_sorting_shows_the_most_relevant_in_another_order(tmp_path):
    facts = [at("2020-05-01T10:00:00"), at(None), at("2019-01-01T00:00:00"), at("2021-01-01T00:00:00"), at("rubbish")]
    with scene(tmp_path, [0.5, 0.9, 0.8, 0.1, 0.6], facts=facts) as (searcher, paths):
        assert order(searcher, paths) == [1, 2, 4, 0, 3]
        assert order(searcher, paths, limit=4, sort="path") == [0, 1, 2, 4]
        assert order(searcher, paths, limit=4, sort="path", reverse=True) == [4, 2, 1, 0]
        assert order(searcher, paths, limit=4, sort="size") == [0, 1, 2, 4]
        assert order(searcher, paths, sort="date") == [2, 0, 3, 1, 4]
        assert order(searcher, paths, sort="date", reverse=True) == [3, 0, 2, 1, 4]
        assert order(searcher, paths, reverse=True) == [3, 0, 4, 2, 1]
        hits = searcher.search(Query("", text="words"), SearchOptions(sort="path"))
        assert [hit.rank for hit in hits] == [4, 1, 2, 5, 3]


def test_duplicates_are_shown_as_the_best_of_them(tmp_path):
    rows = random_units(1, 6, DIM)
    across = unit(rows[2] - (rows[2] @ rows[0]) * rows[0])
    rows[2] = 0.98 * rows[0] + np.sqrt(1 - 0.98**2) * across
    rows[3] = 0.96 * rows[0] + np.sqrt(1 - 0.96**2) * across
    rows[5] = rows[4]
    contents = [b"0", b"1", b"2", b"3", b"same", b"same"]
    with scene(tmp_path, None, rows=rows, contents=contents) as (searcher, paths):
        ranking = order(searcher, paths)
        groups = shown(searcher, paths, group="duplicates")
        sets = {frozenset([first, *members]) for first, members in groups}
        assert sets == {frozenset({0, 2}), frozenset({1}), frozenset({3}), frozenset({4, 5})} or sets == {
            frozenset({2, 3, 0}),
            frozenset({1}),
            frozenset({4, 5}),
        }
        for first, members in groups:
            assert members == [n for n in ranking if n in members]
            assert all(ranking.index(first) < ranking.index(n) for n in members)
        assert [first for first, _ in groups] == sorted((first for first, _ in groups), key=ranking.index)


def test_a_group_counts_once_towards_the_limit(tmp_path):
    facts = [at(f"2020-01-0{day}T12:00:00") for day in (1, 1, 1, 2, 2, 3)]
    with scene(tmp_path, [0.9, 0.8, 0.7, 0.6, 0.5, 0.4], facts=facts) as (searcher, paths):
        assert shown(searcher, paths, group="day", limit=2) == [(0, [1, 2]), (3, [4])]
        hits = searcher.search(Query("", text="words"), SearchOptions(group="day"))
        assert [hit.rank for hit in hits] == [1, 2, 3]
        assert [hit.score for hit in hits] == pytest.approx([0.9, 0.6, 0.4], abs=1e-5)


def test_days_are_the_photo_s_own_and_a_photo_without_a_date_stands_alone(tmp_path):
    facts = [
        at("2020-01-01T23:59:59", taken_offset="+02:00"),
        at("2020-01-01T00:00:00", taken_offset="-11:00"),
        at("2020-01-02T00:00:00"),
        at(None),
        at(None),
    ]
    with scene(tmp_path, [0.9, 0.8, 0.7, 0.6, 0.5], facts=facts) as (searcher, paths):
        assert shown(searcher, paths, group="day") == [(0, [1]), (2, []), (3, []), (4, [])]


def test_a_burst_is_one_camera_s_photos_each_shortly_after_the_one_before(tmp_path):
    one, other = {"camera": "EOS 5D"}, {"camera": "X100"}
    facts = [
        at("2020-01-01T12:00:00", **one),
        at("2020-01-01T12:00:06", **one),
        at("2020-01-01T12:00:03", **one),
        at("2020-01-01T12:00:04", **other),
        at("2020-01-01T12:00:10", **one),
        at("2020-01-01T12:00:00.5"),
        at("2020-01-01T12:00:01"),
        at(None, **one),
    ]
    with scene(tmp_path, [0.3, 0.9, 0.6, 0.8, 0.5, 0.4, 0.7, 0.2], facts=facts) as (searcher, paths):
        assert shown(searcher, paths, group="burst") == [(1, [2, 0]), (3, []), (6, [5]), (4, []), (7, [])]


def test_places_are_a_kilometre_around_the_best(tmp_path):
    facts = [
        at(None, latitude=48.8584, longitude=2.2945),
        at(None, latitude=48.8614, longitude=2.2893),
        at(None, latitude=48.8738, longitude=2.2950),
        at(None, latitude=0.001, longitude=179.9999),
        at(None, latitude=0.001, longitude=-179.9999),
        at(None),
        at(None, latitude=10.0),
    ]
    with scene(tmp_path, [0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3], facts=facts) as (searcher, paths):
        assert shown(searcher, paths, group="place") == [(0, [1]), (2, []), (3, [4]), (5, []), (6, [])]


def test_diversity_is_maximal_marginal_relevance(tmp_path):
    rows = random_units(7, 30, DIM)
    with scene(tmp_path, None, rows=rows) as (searcher, paths):
        scores = rows[:, 0]
        for share in (0.3, 0.7, 1.0):
            likeness = rows @ rows.T
            likeness = (likeness - likeness.min()) / (likeness.max() - likeness.min())
            relevance = (scores - scores.min()) / (scores.max() - scores.min())
            left, chosen = sorted(range(30), key=lambda n: -scores[n]), []
            while len(chosen) < 8:
                worth = [
                    (1 - share) * relevance[n] - share * max((likeness[n, c] for c in chosen), default=0) for n in left
                ]
                chosen.append(left.pop(int(np.argmax(worth))))
            assert order(searcher, paths, diverse=share, limit=8) == chosen
        assert order(searcher, paths, diverse=0.0, limit=8) == order(searcher, paths, limit=8)


def test_what_is_cut_is_neither_shown_nor_a_member(tmp_path):
    facts = [at("2020-01-01T12:00:00")] * 4
    with scene(tmp_path, [0.9, 0.8, 0.3, 0.2], facts=facts) as (searcher, paths):
        assert shown(searcher, paths, group="day", min_score=0.5) == [(0, [1])]
        assert shown(searcher, paths, diverse=1.0, min_score=0.5) == [(0, []), (1, [])]


def test_groups_are_made_among_so_many_of_the_best_and_more_where_that_gives_too_few(tmp_path, monkeypatch):
    monkeypatch.setattr(options, "GROUP_DEPTH", 3)
    monkeypatch.setattr(options, "GROUP_DEPTH_PER_HIT", 1)
    facts = [at(f"2020-01-0{day}T12:00:00") for day in (1, 1, 2, 1, 1, 1, 3)]
    with scene(tmp_path, [0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3], facts=facts) as (searcher, paths):
        assert shown(searcher, paths, group="day", limit=2) == [(0, [1]), (2, [])]
        assert shown(searcher, paths, group="day", limit=3) == [(0, [1, 3, 4, 5]), (2, []), (6, [])]
        assert len(shown(searcher, paths, group="day", limit=9)) == 3


def test_facts_of_a_foreign_catalogue_are_sorted_and_grouped_as_none(tmp_path):
    with scene(tmp_path, [0.9, 0.8, 0.7, 0.6]) as (searcher, paths):
        with searcher.store.catalog.transaction():
            searcher.store.catalog._connection.execute(
                "update photos set size = 'much', mtime_ns = x'00', latitude = 9e999, longitude = 'east', "
                "taken_at = 17, camera = x'ff', width = 'wide' where name < cast('003' as blob)"
            )
        for options in ({"sort": "size"}, {"sort": "date"}, {"group": "place"}, {"group": "burst"}, {"group": "day"}):
            assert len(order(searcher, paths, **options)) == 4, options
        (hit, *_) = searcher.search(Query("", text="words"))
        assert hit.place.size == 0 and set(hit.place.facts.values()) <= {None, "JPEG", 8, 1, "17", False}
