"""Words of a query that are dates and file names, as filters: `--natural`, and the gallery's search box.

Words between double quotes are always searched as words.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

from imgsearch.core.paths import has_picture_extension

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import date

    from .date_words import Values

MAX_CHARACTERS = 1_000
"""Longer texts are no queries for a date."""


class Phrase(NamedTuple):
    """Words that became filters.

    No dataclass: a query on a terminal loads this module after its answer, for a hint.
    """

    words: str
    """As typed."""
    filters: tuple[tuple[str, str | tuple[str, ...]], ...]
    """Names and values of fields of `Filters`."""

    def options(self) -> list[tuple[str, list[str]]]:
        """The same filters as options of the command line."""
        return [(f"--{name}", [value] if isinstance(value, str) else list(value)) for name, value in self.filters]


class Reading(NamedTuple):
    """What a text says."""

    words: str
    """What is left to search for; empty if nothing is."""
    phrases: tuple[Phrase, ...]


class _Found(NamedTuple):
    start: int
    end: int
    values: Values


_CAMERA_NAME = re.compile(
    r"(?<![^\s(,;])(?:_?IMG|_?DSC|_?MG|DSCN|DSCF|DSCI|PXL|MVI|VID|PANO|GOPR|DJI|SAM|CIMG|IMGP|PICT|HPIM|IMAG|WP|PHOTO)"
    r"[_-]?[0-9]{3,}[\w()~-]*(?:\.\w{3,4})?(?=[,;:!?)]*(?:\s|$))|"
    r"(?<![^\s(,;])P[0-9]{7}(?:\.\w{3,4})?(?=[,;:!?)]*(?:\s|$))",
    re.IGNORECASE,
)
"""A name that a camera or phone gives: IMG_3551, DSC00012, PXL_20230714_093015123, IMG-20230714-WA0012, P1010234."""
PLACE = re.compile(r"(?<![^\s(,;])(?P<how>in|near)\s+(?:the\s+)?(?=[^\W\d_])", re.IGNORECASE)
"""Where the name of a place may begin."""
_LIKE = re.compile(r"\blike\s", re.IGNORECASE)
_QUOTED = re.compile(r'"([^"]*)"')
_EMPTY = frozenset(
    """
    a all and any everything find from get i images image in list me my of on our photo photographs photos pic pics
    picture pictures shot shots show some taken that the these those to we were
    """.split()
)
"""Words that say nothing about what is in a photo: with only these left, the photos of a date are listed."""
_DATE_WORDS = frozenset(
    """
    0 1 2 3 4 5 6 7 8 9 last past this ago yesterday today
    january february march april may june july august september october november december
    """.split()
)
"""Every date has one of these, and every file name of a camera a digit."""
_AROUND = " \t\r\n,;:"
_LINK = re.compile(r"(?:^|\s+)(?:and|or)$", re.IGNORECASE)


def read(text: str, *, today: date | None = None) -> Reading:
    """The dates and file names in a text, and the other words.

    Several months, days or names are alternatives. Of other phrases for the same filter only the first counts.
    """
    if len(text) > MAX_CHARACTERS:
        return Reading(text, ())
    from datetime import date

    phrases: list[Phrase] = []
    parts: list[str] = []
    at = 0
    known: set[str] = set()
    alone: set[str] = set()
    for start, end, values in sorted(_phrases(text, today or date.today()), key=lambda found: found[:2]):
        is_alternative = len(values) == 1 and alone >= values.keys()
        if start < at or is_quoted(text, start) or (known & values.keys() and not is_alternative):
            continue
        known |= values.keys()
        if len(values) == 1 and all(isinstance(value, tuple) for value in values.values()):
            alone |= values.keys()
        phrases.append(Phrase(" ".join(text[start:end].split()), tuple(values.items())))
        parts.append(text[at:start])
        at = end
    left = joined([*parts, text[at:]]) if phrases else text
    return Reading(_without_quotes(left, today), tuple(phrases))


def _phrases(text: str, today: date) -> Iterator[_Found]:
    names = list(_CAMERA_NAME.finditer(text))
    if has_picture_extension(text) and not (names or "/" in text or _LIKE.search(text)):
        yield _Found(0, len(text), {"name": (_escaped(text.strip()),)})
        return
    for match in () if _LIKE.search(text) else names:
        yield _Found(*match.span(), {"name": (_escaped(match[0]),)})
    if may_have_filters(text):
        from .date_words import dates_in  # compiles large patterns

        yield from (_Found(*found) for found in dates_in(text, today))


def may_name_place(text: str) -> bool:
    return PLACE.search(text) is not None


def _escaped(name: str) -> str:
    return re.sub(r"([*?[])", r"[\1]", name)


def may_have_filters(text: str) -> bool:
    """False for most texts without a date, at no cost."""
    return not _DATE_WORDS.isdisjoint(re.findall(r"[0-9]|[a-z]+", text.lower()))


def is_quoted(text: str, at: int) -> bool:
    """Whether that character is between double quotes."""
    return any(match.start() <= at < match.end() for match in _QUOTED.finditer(text))


def joined(parts: list[str]) -> str:
    """The words between the phrases, or nothing if they say nothing."""
    words = " ".join(filter(None, (_LINK.sub("", part.strip(_AROUND)) for part in parts)))
    words = re.sub(r"\s*\(\s*\)", "", words)
    is_empty = all(word in _EMPTY for word in re.findall(r"\w+", words.lower()))
    return "" if is_empty else words


def _without_quotes(text: str, today: date | None) -> str:
    """Quotes around a date have done their work."""
    return _QUOTED.sub(lambda match: match[1] if read(match[1], today=today).phrases else match[0], text)
