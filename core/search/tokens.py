"""The tokens of a query, and where pictures, sums and `like` may be among them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Literal, NamedTuple

from imgsearch.core.paths import has_picture_extension

WEIGHT = re.compile(r"(?P<number>(?=[.,]*[0-9])[0-9.,]++(?:[eE][-+]?[0-9]+)?)\*(?=[^\s\d*])")

Kind = Literal["word", "like", "and", "plus", "negative", "unclosed", "without", "picture"]


class Token(NamedTuple):
    """A word, an operator, or the whole name of an existing picture."""

    kind: Kind
    start: int
    end: int
    value: str = ""
    """The words of a negative, the path of a picture, else the token as typed."""
    weight: float | None = None
    body: int = 0
    """The start without the weight."""


class Ends(NamedTuple):
    """Token indices before which the name of a picture may end."""

    all: list[int]
    with_extension: list[int]


def ends_of_names(raw: Sequence[Token], is_sum: bool) -> Ends:
    stops = {"negative", "unclosed", "like", "without"} | ({"plus"} if is_sum else set())
    every = [
        at
        for at in range(1, len(raw) + 1)
        if at == len(raw)
        or raw[at].kind in stops
        or (raw[at].kind == "and" and at + 1 < len(raw) and raw[at + 1].kind == "like")
    ]
    # Only the extension counts, and `.jpg` alone ends a name that has a space before it.
    return Ends(every, [at for at in every if has_picture_extension("x" + raw[at - 1].value)])


def has_sum(raw: Sequence[Token]) -> bool:
    """Whether there is a `+`, and a term with a weight."""
    before: Kind = "plus"
    has_weight = False
    for token in raw:
        if token.kind != "negative":
            has_weight |= before == "plus" and token.kind == "word" and WEIGHT.match(token.value) is not None
            before = token.kind
    return has_weight and any(token.kind == "plus" for token in raw)


def is_like_picture(tokens: Sequence[Token], at: int) -> bool:
    return [token.kind for token in tokens[at : at + 2]] == ["like", "picture"]


def end_of_positive(tokens: Sequence[Token]) -> int:
    """The index of the first of the `like PICTURE` at the end."""
    at = len(tokens)
    while at >= 2 and is_like_picture(tokens, at - 2):
        at -= 2
        if at and tokens[at - 1].kind == "and":
            at -= 1
    return at


def split_at_plus(tokens: Sequence[Token]) -> list[list[Token]]:
    parts: list[list[Token]] = [[]]
    for token in tokens:
        if token.kind == "plus":
            parts.append([])
        else:
            parts[-1].append(token)
    return parts


def without_tokens(line: str, tokens: Iterable[Token]) -> str:
    """The line without those tokens; the parts between them are joined by one space."""
    parts, start = [], 0
    for token in tokens:
        parts.append(line[start : token.start].strip())
        start = token.end
    parts.append(line[start:].strip())
    return " ".join(filter(None, parts))
