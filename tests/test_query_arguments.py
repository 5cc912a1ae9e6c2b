"""The arguments of a query: what they make, and that only true ones come back from JSON."""

import json
from dataclasses import fields

import pytest

from imgsearch.core.errors import UsageError
from imgsearch.core.search import choices, composition
from imgsearch.core.search.filters import Filters
from imgsearch.core.search.grammar import parse
from imgsearch.core.search.options import SearchOptions as Options
from imgsearch.core.search.query_arguments import QueryArguments

TYPED = QueryArguments(
    words=("red", "apple"), negatives=("pear \udcff",), limit=3, min_score=1, has=("gps",), compose="slerp", exact=False
)


def test_json_gives_the_same_arguments_back():
    assert QueryArguments.from_record(json.loads(json.dumps(TYPED.record()))) == TYPED
    assert QueryArguments.from_record(QueryArguments().record()) == QueryArguments()


@pytest.mark.parametrize(
    "wrong",
    [
        {"limit": "3"}, {"limit": 3.0}, {"limit": True}, {"limit": None}, {"words": "red"}, {"words": [1]},
        {"words": None}, {"has": ["nothing"]}, {"sort": "up"}, {"group": 1}, {"quiet": 1}, {"min_score": "1"},
        {"exact": 0}, {"text": ["a"]}, {"directory": "/"},
    ],
    ids=repr,
)  # fmt: skip
def test_what_is_no_argument_or_has_another_type_is_refused(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        QueryArguments.from_record({**TYPED.record(), **wrong})


def test_an_argument_that_is_missing_is_refused():
    record = TYPED.record()
    del record["index"]
    with pytest.raises(ValueError, match="index"):
        QueryArguments.from_record(record)


def test_a_library_caller_needs_only_what_differs_from_the_command():
    arguments = QueryArguments(words=("sunset", "over", "the", "sea"))
    assert arguments.query() == parse("sunset over the sea")
    assert arguments.options(statistics=True) == Options()


def test_every_option_of_a_search_and_every_filter_is_filled_from_an_argument():
    same = {"method": "compose", "strategy": "exact", "filters": None, "statistics": None}
    names = {same.get(each.name, each.name) for each in fields(Options)} | {each.name for each in fields(Filters)}
    assert names - {None} <= set(QueryArguments._fields)
    options = QueryArguments(
        limit=1, min_score=2.0, min_z=3.0, auto_cut=True, modality="any", compose="and", weight=0.4, sort="date",
        reverse=True, group="day", diverse=0.5, exact=True, include_reference=True, include_offline=True,
        after="2024", before="2025", camera=("a",), lens=("b",), near="1,2,3km", place=("a",), rating="4",
        keyword=("c",), under=("d",), glob=("e",), month=("7",), on=("12-25",), name=("h",),
        ext=("f",), min_size="1MP", orientation=("square",), has=("gps",), root=("g",),
        text_contains=("i",),
    ).options(statistics=False)  # fmt: skip
    for each in fields(Options):
        assert getattr(options, each.name) != getattr(Options(), each.name), each.name
    for each in fields(Filters):
        assert getattr(options.filters, each.name) != getattr(Filters(), each.name), each.name


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (QueryArguments(), "nothing to search for"),
        (QueryArguments(words=("a",), text="b"), "words given twice"),
    ],
)
def test_arguments_that_make_no_query(arguments, complaint):
    with pytest.raises(UsageError, match=complaint):
        arguments.query()


@pytest.mark.parametrize("part", [{"image": ("a.jpg",)}, {"text": ""}, {"change_to": "x"}, {"any_of": ("x",)}])
def test_options_of_one_query_do_not_go_with_many(part):
    QueryArguments(words=("-",), negatives=("x",), more_like=("a.jpg",)).refuse_for_lines()
    with pytest.raises(UsageError, match="cannot be combined"):
        QueryArguments(words=("-",), **part).refuse_for_lines()


def test_the_methods_offered_are_those_of_composition():
    assert tuple(composition.METHODS) == choices.METHODS
    assert [name for name, method in composition.METHODS.items() if method.needs_origin] == [choices.CHANGE_METHOD]
