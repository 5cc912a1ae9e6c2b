"""The line of a photo's texts that a query found it by: `--text-contains`, and texts that OCR read."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from imgsearch.core.store.reading_table import OCR
from imgsearch.core.store.records import text_key
from imgsearch.core.store.text_index import TextPattern, keys_matching, matching_of, searchable
from imgsearch.core.types import Region

from .filter_sql import Parameters, refused

if TYPE_CHECKING:
    from imgsearch.core.store.store import Store

    from .grouping import Hit

LINES_AT_ONCE = (1, 2, 1_000)
"""A phrase may go on in the next line, or over many."""


@dataclass(frozen=True, slots=True)
class MatchedLine:
    """A line, or those that a phrase runs over."""

    text: str
    source: str
    """Of the text that it is from, as in `--json`."""
    region: Region | None = None
    """Where in the picture the first of them is, if OCR read it."""


def patterns_of(typed: Sequence[str]) -> list[TextPattern]:
    """Raises UsageError for a value without a word."""
    return [_pattern(each) for each in typed]


def _pattern(typed: str) -> TextPattern:
    try:
        return TextPattern(typed)
    except ValueError:
        raise refused("--text-contains", typed, "words, and * after the last one for any ending", "'INV-20*'") from None


def containing(typed: Sequence[str], store: Store, value: Parameters) -> str:
    """The photos of which each value is in one of the texts. Raises UsageError."""
    import json

    tests = []
    for pattern in patterns_of(typed):
        photos = store.catalog.texts.photos_with(keys_matching(store.catalog, store.folder, pattern))
        tests.append(f"p.id in (select value from json_each({value(json.dumps(photos))}))")  # noqa: S608 - a parameter
    return " and ".join(tests)


def with_lines(hits: Sequence[Hit], store: Store, patterns: Sequence[TextPattern]) -> list[Hit]:
    """The hits with the line that contains the first pattern; without patterns, those found by what OCR read with the
    line that is most like the words."""
    if patterns:
        lines = _containing(hits, store, patterns[0])
        return [replace(hit, line=lines.get(at)) for at, hit in enumerate(hits)]
    return [_with_likeliest(hit, store) if hit.place.text_source == OCR else hit for hit in hits]


def _containing(hits: Sequence[Hit], store: Store, pattern: TextPattern) -> dict[int, MatchedLine]:
    """By the number of the hit."""
    texts = store.catalog.places.texts_of([hit.place.id for hit in hits])
    lines = [
        [_lines(store, hit.place.content_hash, carried.text, carried.source) for carried in texts.get(hit.place.id, ())]
        for hit in hits
    ]
    found: dict[int, MatchedLine] = {}
    for count in LINES_AT_ONCE:
        runs = [
            (at, run)
            for at, of_hit in enumerate(lines)
            if at not in found
            for text in of_hit
            for run in _runs(text, count)
        ]
        numbered = [(b"%d" % number, run.text) for number, (_, run) in enumerate(runs)]
        for number in sorted(int(key) for key in matching_of(numbered, pattern)):
            found.setdefault(runs[number][0], runs[number][1])
    return found


def _runs(lines: Sequence[MatchedLine], count: int) -> Iterator[MatchedLine]:
    """Every run of that many lines of a text, and all of them if there are fewer."""
    for at in range(max(1, len(lines) - count + 1)):
        yield replace(lines[at], text=" ".join(line.text for line in lines[at : at + count]))


def _lines(store: Store, content_hash: bytes, text: str, source: str) -> list[MatchedLine]:
    """The lines of a text, at least one."""
    known = store.catalog.readings.lines(content_hash, text_key(text)) if source == OCR else []
    if known:
        return [MatchedLine(line.text, source, line.region) for line in known]
    return [MatchedLine(line, source) for line in text.splitlines() or [text]]


def _with_likeliest(hit: Hit, store: Store) -> Hit:
    """The first of the lines that have most words of the query."""
    assert hit.place.text is not None
    words = _words(hit.query)
    lines = _lines(store, hit.place.content_hash, hit.place.text, OCR)
    return replace(hit, line=max(lines, key=lambda line: len(words & _words(line.text))))


def _words(text: str) -> set[str]:
    return set(re.findall(r"\w+", searchable(text).casefold()))
