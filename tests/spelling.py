"""A spelling of a query in its own grammar: parsing it gives the same query. Round trips test the parser."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from itertools import product

from imgsearch.core.errors import ImgsearchError
from imgsearch.core.search import tokens
from imgsearch.core.search.grammar import Query, parse


def meaning_of(query):
    """What a query asks for, however it was typed."""
    return replace(query, typed="", as_written=None)


def spelling_of(query):
    """The plainest spelling that is parsed as this query; None if only options can express it."""
    if query.change_from or query.more_like or query.less_like or query.any_of or query.all_of:
        return None
    negatives = [_negative(words) for words in query.negatives]
    if None in negatives:
        return None
    for spelling in _spellings(query, " ".join(negatives)):
        try:
            if meaning_of(parse(spelling)) == meaning_of(query):
                return spelling
        except ImgsearchError:
            continue
    return None


def _spellings(query, negatives):
    wants = [_sum(query.terms, careful) for careful in (False, True)] if query.terms else [query.text or ""]
    if query.text:
        wants.append(f"1*{query.text}")
    likes = " and ".join(f"like {image}" for image in query.images)
    likings = [likes, f"and {likes}"] if likes else [""]
    if len(query.images) == 1 and not wants[0]:
        likings.insert(0, query.images[0])
    for gap, wanted, liked in product((" ", "  "), wants, likings):
        for parts in ((wanted, liked, negatives), (wanted, negatives, liked), (negatives, wanted, liked)):
            yield gap.join(part for part in parts if part)


def _sum(terms, careful):
    """`2*sunset + harbour`: at least one weight is written; if `careful`, each one that can be."""
    can_weigh = [_is_weighted(f"1*{term.text or term.image}") for term in terms]
    needs = [term.weight != 1 or (careful and can) for term, can in zip(terms, can_weigh, strict=True)]
    if not any(needs) and any(can_weigh):
        needs[can_weigh.index(True)] = True
    return " + ".join(
        (f"{_decimal(term.weight)}*" if need else "") + (term.text or term.image or "")
        for term, need in zip(terms, needs, strict=True)
    )


def _is_weighted(words):
    return tokens.WEIGHT.match(words) is not None


def _decimal(number):
    return format(Decimal(repr(number)), "f").removesuffix(".0")


def _negative(words):
    """`-word` or `-"two words"`; None if neither excludes exactly these words."""
    for spelling in (f"-{words}", f'-"{words}"'):
        try:
            if parse(f"x {spelling}") == Query(f"x {spelling}", text="x", negatives=(words,)):
                return spelling
        except ImgsearchError:
            continue
    return None
