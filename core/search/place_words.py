"""Places in the words of a query: "in Porto", "near Lisbon". Only places of the index count."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache, partial
from typing import TYPE_CHECKING

from imgsearch.core.light_dataclass import replace
from imgsearch.core.store.folding import fold

from .grammar import Query
from .natural import PLACE, Phrase, is_quoted, joined, may_name_place
from .place_names import places_called, places_named

if TYPE_CHECKING:
    from imgsearch.core.store.store import Store

NEAR_KM = 25
"""About an hour by bicycle or local train."""
MAX_WORDS = 6
MIN_LETTERS = 3
"""Of a name. A country's code may be a word: "in it"."""
_ORDINARY = frozenset(
    """
    armour bath bergen blue boring bend brest chains china corn dale essen flames georgia gold hell ice jersey joy june
    lace leather male may mobile most nancy nice normal orange paradise pink plaid reading red rice sand sandwich shape
    silver snow split spring stone sun tours trees turkey velvet victoria water white wood
    """.split()
)
"""Names of places that are words too, in small letters: "a man in orange", "a street in Orange"."""
_WORD = re.compile(r"[^\s,;()\"]+")
_ENDS = re.compile(r"[\s.!?]*(?:$|[,;)])|\s+(?:at|in|on|with|near|by|from|over|under|and|or|but)\s", re.IGNORECASE)
"""What follows a name: the end, or the next part of a sentence."""


def with_places(query: Query, store: Store) -> Query:
    """As `searcher.with_places`."""
    if query.text is None or not may_name_place(query.text):
        return query
    phrases: list[Phrase] = []
    parts: list[str] = []
    at = 0
    filters = cache(partial(_filters, store))
    is_near = False
    for match in PLACE.finditer(query.text):
        how = match["how"].lower()
        if match.start() < at or is_quoted(query.text, match.start()) or (how == "near" and is_near):
            continue
        names = _names(query.text, match.end())
        name, values = next(((name, found) for name in names if (found := filters(how, name))), (None, None))
        if name is None or values is None:
            continue
        is_near |= how == "near"
        end = match.end() + len(name)
        phrases.append(Phrase(" ".join(query.text[match.start() : end].split()), values))
        parts.append(query.text[at : match.start()])
        at = end
    if not phrases:
        return query
    text = joined([*parts, query.text[at:]])
    read = replace(query, text=text or None, phrases=(*query.phrases, *phrases), reads_places=False)
    only_excludes = (read.negatives or read.less_like) and not read.has_positive_part
    return query if only_excludes else read


def _names(text: str, start: int) -> Iterator[str]:
    """What may be a name there, the longest first."""
    ends = [word.end() for word, _ in zip(_WORD.finditer(text, start), range(MAX_WORDS), strict=False)]
    for end in reversed(ends):
        name = text[start:end].rstrip(".!?")
        is_ordinary = name.islower() and name in _ORDINARY
        if len(fold(name)) >= MIN_LETTERS and not is_ordinary and _ENDS.match(text, start + len(name)):
            yield name


def _filters(store: Store, how: str, name: str) -> tuple[tuple[str, str | tuple[str, ...]], ...] | None:
    """None for what is no place of the index."""
    places = places_called(name, store)
    if how == "in":
        return (("place", (name,)),) if next(places, None) else None
    town = fold(name.partition(",")[0])
    is_town = any(town == fold(each or "") for place in places for each in (place.place, place.place_district))
    found = places_named(name, store) if is_town else None  # near a region or a country is nowhere
    return (("near", f"{found.latitude:.4f},{found.longitude:.4f},{NEAR_KM}km"),) if found else None
