"""A query as it was typed, option by option, and what it asks for.

What is typed goes as it is to a running `imgsearch serve`, or is read here: the reading is the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from imgsearch.core.errors import UsageError

if TYPE_CHECKING:
    from .grammar import Query
    from .options import SearchOptions


Asked = Mapping[str, Any]
"""The parameters of `imgsearch query` by their names there: strings, lists of strings, numbers and booleans."""
_PARTS = ("negatives", "more_like", "less_like", "any_of", "all_of")


def query_of(asked: Asked, directory: str | None = None) -> Query:
    """The one query that words and options make together; relative paths are relative to `directory`.

    Raises UsageError and QueryError, as `grammar.parse` and `grammar.combine` do.
    """
    from . import grammar

    words, text, images = asked["words"], asked["text"], asked["image"] or []
    if words and text is not None:
        raise UsageError("words twice: as arguments and as --text", hint="give them once")
    if words:
        return _combined(asked, _parsed(asked, " ".join(words), directory), images, directory)
    if text is not None or (images and not _has_parts(asked)):
        return _combined(asked, grammar.explicit(text, tuple(images), directory=directory), [], directory)
    if not (images or _has_parts(asked)):
        raise UsageError("nothing to look for", hint='say it: imgsearch query "sunset over the sea", or see --help')
    return _combined(asked, None, images, directory)


def query_of_line(asked: Asked, line: str) -> Query:
    """One query of many, with what the options add to each. Raises as `query_of` does."""
    return _combined(asked, _parsed(asked, line, None), [], None)


def refuse_for_lines(asked: Asked) -> None:
    """Many queries share what narrows each of them, not what one of them would consist of. Raises UsageError."""
    if asked["image"] or any(asked[name] is not None for name in ("text", "change_from", "change_to")):
        raise UsageError(
            "`-` goes without --image, --text, --from and --to",
            hint="put the pictures into the lines that are read",
        )
    if asked["any_of"] or asked["all_of"]:
        raise UsageError("`-` goes without --any and --all", hint="ask one such query at a time")


def options_of(asked: Asked, *, statistics: bool) -> SearchOptions:
    """How the query is to be answered. Raises UsageError for numbers that mean nothing."""
    from dataclasses import fields

    from .filters import Filters
    from .options import SearchOptions

    given: dict[str, Any] = {name: tuple(value) if isinstance(value, list) else value for name, value in asked.items()}
    exact = given["exact"]
    return SearchOptions(
        **{each.name: given[each.name] for each in fields(SearchOptions) if each.name in given},
        filters=Filters(**{each.name: given[each.name] for each in fields(Filters) if given[each.name] is not None}),
        method=given["compose"],
        strategy="auto" if exact is None else "exact" if exact else "ann",
        statistics=statistics,
    )


def _parsed(asked: Asked, typed: str, directory: str | None) -> Query:
    from . import grammar

    return grammar.parse(typed, directory=directory, natural=asked["natural"], verbatim=asked["verbatim"])


def _combined(asked: Asked, base: Query | None, images: list[str], directory: str | None) -> Query:
    from . import grammar

    if base is not None and not (images or _has_parts(asked)):
        return base
    return grammar.combine(
        base,
        images=images,
        change_from=asked["change_from"],
        change_to=asked["change_to"],
        directory=directory,
        verbatim=asked["verbatim"],
        **{name: asked[name] or () for name in _PARTS},
    )


def _has_parts(asked: Asked) -> bool:
    return any(asked[name] for name in _PARTS) or asked["change_from"] is not None or asked["change_to"] is not None
