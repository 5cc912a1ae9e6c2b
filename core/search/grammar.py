"""The query language: what a typed query means.

sunset over the sea              words
beach.jpg                        a picture, if the file exists; a bare word needs a picture's extension or a `/`
red dress like this.jpg          words and a picture; `and like that.jpg` adds another
beach -people -"beach umbrella"  words, and words to exclude
2*sunset + harbour               a weighted sum; `+` is an operator only if some term has a weight

The name of an existing picture takes precedence over every operator, the longest name first. docs/queries.md is the
reference.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import field
from typing import TYPE_CHECKING

from imgsearch.core.errors import QueryError, UsageError
from imgsearch.core.light_dataclass import dataclass, replace
from imgsearch.core.paths import has_picture_extension

from .picture_names import (
    MAX_SHOWN,
    existing_picture,
    given_pictures,
    looks_like_picture,
    shown,
    why_not_picture,
)
from .tokens import (
    WEIGHT,
    Ends,
    Kind,
    Token,
    end_of_positive,
    ends_of_names,
    has_sum,
    is_like_picture,
    split_at_plus,
    without_tokens,
)

if TYPE_CHECKING:
    from .natural import Phrase

# Bytes of a file name and of a path: longer parts of a query are not looked up on disk.
MAX_NAME = 255
MAX_PATH = 4096
# File names looked up for one query. A real query needs a handful.
MAX_LOOKUPS = 20_000

INSTRUCTIONS = (
    "please",
    "make IT look like",
    "make IT look",
    "make IT",
    "turn IT into",
    "turn into",
    "change IT to",
    "change IT into",
    "change to",
    "change into",
    "put IT",
    "like this but",
    "the same but",
    "same but",
    "similar but",
    "but",
)
"""Phrases removed from the start of the words beside a picture. IT is it, this, that, them, him or her."""

_PUNCTUATION = ",;:.!?"
_TOKEN = re.compile(rf'-"(?P<quoted>[^"]*)"(?:[{_PUNCTUATION}]+(?!\S))?|\S+')
_NEGATIVE = re.compile(r"-[^\W_]")
# A negative number is a word: -5, -1.5, -10%, -5°C.
_BELOW_ZERO = re.compile(r"-\d++(?:[^\w\s]++\d++)*+(?:°[CFK]\W*|[^\w\s]*)")
_PLAIN_NUMBER = re.compile(r"[0-9]+(?:\.[0-9]+)?")
_LIKE_WORD = re.compile(r"(?:^|(?<=\s))like\s+", re.IGNORECASE)

_AROUND_NAMES = ".,;:!?\"'()"
_LAST_AND = re.compile(r"[\s,;]+(?:and|or)$", re.IGNORECASE)
_INSTRUCTION = re.compile(
    "(?:{})(?:[\\s,:]+|$)".format(
        "|".join(
            r"[\s,]+".join("(?:it|this|that|them|him|her)" if word == "IT" else word for word in phrase.split())
            for phrase in INSTRUCTIONS
        )
    ),
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Term:
    """One part of a sum, or one value of --any or --all: words or a picture."""

    text: str | None = None
    image: str | None = None
    """Absolute path of a picture that exists."""
    weight: float = 1.0
    """Positive and finite."""


@dataclass(frozen=True, slots=True)
class Query:
    """A parsed query. It has a positive part (words, a picture, a sum or alternatives), or only filters."""

    typed: str
    text: str | None = None
    """None if there are no words, or if `terms` has them."""
    images: tuple[str, ...] = ()
    """Absolute paths of existing files."""
    terms: tuple[Term, ...] = ()
    """The parts of a weighted sum, two or more."""
    negatives: tuple[str, ...] = ()
    """Words or phrases to exclude."""
    change_from: str | None = None
    """The value of --from; the value of --to is then `text`."""
    more_like: tuple[str, ...] = ()
    less_like: tuple[str, ...] = ()
    any_of: tuple[Term, ...] = ()
    all_of: tuple[Term, ...] = ()
    as_written: str | None = None
    """The words before instructions were removed, if any were."""
    phrases: tuple[Phrase, ...] = ()
    """Words that were read as filters."""
    reads_places: bool = field(default=False, compare=False)
    """Whether places in the words are still to become filters: only the index knows their names (`place_words`)."""

    @property
    def has_positive_part(self) -> bool:
        """Whether there is something to rank photos by. Without, the photos that pass the filters are listed."""
        return bool(self.text or self.terms or self.images or self.any_of or self.all_of)


def parse(typed: str, *, directory: str | None = None, natural: bool = False, verbatim: bool = False) -> Query:
    """Parse a query; relative paths are relative to `directory` (default: the working directory).

    `natural`: "without" and "not" exclude the words after them; dates and file names become filters. `verbatim`: the
    whole query is words.
    Raises QueryError for an empty query, a query without a positive part, an unclosed quote, a wrong weight, and a
    picture that does not exist.
    """
    words = typed.strip()
    if not words:
        raise QueryError("the query is empty", hint='for example: imgsearch query "sunset over the sea"')
    if verbatim:
        return Query(typed, text=words)
    picture = existing_picture(typed, directory)  # whose name may begin or end with a space
    if picture:
        return Query(typed, images=(picture,))
    query = _Parser(typed, directory, natural).query()
    return with_filters(query) if natural else query


def with_filters(query: Query) -> Query:
    """The query with the dates and file names in its words as filters (`natural`). Raises QueryError if the rest only
    excludes."""
    from . import natural

    if query.text is None:
        return query
    words, phrases = natural.read(query.text)
    query = replace(query, text=words or None, phrases=phrases, reads_places=True)
    if query.negatives and not query.has_positive_part:
        raise _nothing_to_find(query)
    return query


def explicit(text: str | None, images: tuple[str, ...], *, directory: str | None = None) -> Query:
    """A query from `--text` and `--image`, without any grammar. Raises QueryError for a missing picture."""
    paths = given_pictures(images, "--image", directory)
    if text is not None and not text.strip():
        raise QueryError("--text is empty", hint="is a shell variable unset?")
    typed = " like ".join(part for part in (text, *images) if part)
    return Query(typed, text=text, images=paths)


def listing(filters: Iterable[tuple[str, Sequence[str]]]) -> Query:
    """A query of filters alone, given as options."""
    return Query(command_line(filters))


def combine(
    base: Query | None,
    *,
    images: Sequence[str] = (),
    negatives: Sequence[str] = (),
    change_from: str | None = None,
    change_to: str | None = None,
    more_like: Sequence[str] = (),
    less_like: Sequence[str] = (),
    any_of: Sequence[str] = (),
    all_of: Sequence[str] = (),
    directory: str | None = None,
    verbatim: bool = False,
) -> Query:
    """Add the values of options to a parsed query, or make a query from them alone.

    If the words of `base` get their first picture here, instructions are removed from them, unless `verbatim`.
    Raises UsageError for options that exclude each other, QueryError for a missing picture and a query without a
    positive part.
    """
    query = base or Query(
        command_line(
            (
                ("--from", [change_from] if change_from is not None else []),
                ("--to", [change_to] if change_to is not None else []),
                ("--any", any_of),
                ("--all", all_of),
                ("--image", images),
                ("--more-like", more_like),
                ("--less-like", less_like),
                ("--not", negatives),
            )
        )
    )
    query = replace(
        query,
        images=(*query.images, *given_pictures(images, "--image", directory)),
        negatives=(*query.negatives, *(_given_words(words, "--not") for words in negatives)),
        more_like=(*query.more_like, *given_pictures(more_like, "--more-like", directory)),
        less_like=(*query.less_like, *given_pictures(less_like, "--less-like", directory)),
        any_of=(*query.any_of, *(_alternative(each, "--any", directory, verbatim) for each in any_of)),
        all_of=(*query.all_of, *(_alternative(each, "--all", directory, verbatim) for each in all_of)),
    )
    if change_from is not None or change_to is not None:
        query = _changed(query, change_from, change_to)
    elif query.text is not None and images and not (verbatim or (base and base.images)):
        text = without_instructions(query.text)
        if text != query.text:
            query = replace(query, text=text or None, as_written=query.as_written or query.text)
    if not query.has_positive_part and query.more_like:
        query = replace(query, images=query.more_like, more_like=())
    if not query.has_positive_part and (query.negatives or query.less_like or not query.phrases):
        raise _nothing_to_find(query)
    return query


def command_line(options: Iterable[tuple[str, Sequence[str]]]) -> str:
    """Each value with its option, quoted for a shell."""
    return " ".join(f"{option} {quote(value)}" for option, values in options for value in values)


def quote(value: str) -> str:
    """For a shell."""
    import shlex

    return shlex.quote(value)


# ---- Parser ----------------------------------------------------------------------------------------------------------


class _Parser:
    """A recursive descent parser for one query; `query()` is the start rule."""

    def __init__(self, typed: str, directory: str | None, natural: bool) -> None:
        self._typed = typed
        self._directory = directory
        self._natural = natural
        self._lookups_left = MAX_LOOKUPS
        self._line = typed.strip()
        self._is_sum = False

    def query(self) -> Query:
        """query = [ positive ] , { [ "and" ] , "like" , picture }, after negatives and instructions are removed.

        The rest is parsed again from its start, so that the result does not depend on where they were.
        """
        negatives: list[str] = []
        as_written = None
        while True:
            tokens = self._tokens()
            negative = [token for token in tokens if token.kind in ("negative", "unclosed")]
            if negative:
                negatives += (self._negative(token) for token in negative)
                self._line = without_tokens(self._line, negative)
                if self._line:
                    continue
                raise _nothing_to_find(Query(self._typed, negatives=tuple(negatives)))
            at = end_of_positive(tokens)
            change = self._slice(tokens[:at])
            described = without_instructions(change) if at < len(tokens) else change
            if described == change:
                break
            as_written = as_written or change
            self._line = f"{described} {self._line[tokens[at].start :]}".strip()
        text, images, terms = self._positive(tokens[:at])
        images += tuple(token.value for token in tokens[at:] if token.kind == "picture")
        return Query(
            self._typed, text=text, images=images, terms=terms, negatives=tuple(negatives), as_written=as_written
        )

    def _positive(self, tokens: Sequence[Token]) -> tuple[str | None, tuple[str, ...], tuple[Term, ...]]:
        """positive = sum | term ; sum = term , "+" , term , { "+" , term }"""
        if not tokens:
            return None, (), ()
        parts = split_at_plus(tokens)
        if len(parts) > 1 and any(part and part[0].weight for part in parts):
            return None, (), tuple(self._term(part) for part in parts)
        term = self._term(tokens)
        return term.text, (term.image,) if term.image else (), ()

    def _term(self, tokens: Sequence[Token]) -> Term:
        """term = [ weight ] , ( picture | words )"""
        if not tokens:
            raise QueryError(
                "a + with nothing next to it", hint=f"write a sum as 2*sunset + harbour; {self._as_words()}"
            )
        first = tokens[0]
        weight = first.weight or 1.0
        if len(tokens) == 1 and first.kind == "picture":
            return Term(image=first.value, weight=weight)
        words = self._line[first.body : tokens[-1].end]
        if first.weight:
            self._reject_brackets(words)
        if not self._may_be_name(words):
            self._reject_missing_picture(words)
        self._reject_picture_among(words)
        return Term(text=words, weight=weight)

    def _reject_brackets(self, words: str) -> None:
        """Brackets, quotes and differences of other query languages, which would be words here."""
        if words[0] in "(\"'" or " - " in words:
            hint = f"write a sum as 2*red dress + sea, and exclude with -sea; {self._as_words()}"
            raise QueryError(f"{shown(words)}: no brackets, quotes or differences after a weight", hint=hint)

    def _may_be_name(self, words: str) -> bool:
        """Whether the words may be the file name of a photo in the index, and no path (`natural`)."""
        return self._natural and not (self._is_sum or "/" in words or _LIKE_WORD.search(words))

    def _reject_picture_among(self, words: str) -> None:
        """The name of an existing picture in the middle of the words."""
        for word in dict.fromkeys(words.split()):
            name = word.strip(_AROUND_NAMES)
            if has_picture_extension(name) and self._lookups_left > 0:
                self._lookups_left -= 1
                if existing_picture(name, self._directory):
                    hint = f"write WORDS like {shown(name)}, or like a.jpg and like b.jpg; {self._as_words()}"
                    raise QueryError(f"{shown(name)}: write a picture at the end of a query, after `like`", hint=hint)

    def _negative(self, token: Token) -> str:
        written = shown(self._line[token.start : token.end])
        if token.kind == "unclosed":
            raise QueryError(f"{written}: the closing quote is missing", hint=f'-"two words"; {self._as_words()}')
        if not token.value:
            raise QueryError(f"{written}: nothing between the quotes", hint='for example: -"two words"')
        if WEIGHT.match(token.value):
            rest = shown(token.value.partition("*")[2])
            raise QueryError(f"{written}: a weight must be above 0", hint=f"to exclude it: -{rest}; {self._as_words()}")
        return token.value

    def _reject_missing_picture(self, words: str) -> None:
        """Words that end like the name of a picture."""
        likes = list(_LIKE_WORD.finditer(words))
        named = words[likes[-1].end() :].strip() if likes else words
        if not looks_like_picture(named, self._directory):
            if not looks_like_picture(words, self._directory):
                return
            named = words
        if existing_picture(named, self._directory):
            raise QueryError(f"like {shown(named)}: write it at the end of a query", hint=self._as_words())
        raise QueryError(why_not_picture(named, self._directory), hint=self._as_words())

    def _slice(self, tokens: Sequence[Token]) -> str:
        return self._line[tokens[0].start : tokens[-1].end] if tokens else ""

    def _as_words(self) -> str:
        typed = quote(shown(self._typed)) if len(self._typed) <= MAX_SHOWN else "WORDS"
        return f"to search for the words: --text {typed}"

    # ---- tokens

    def _tokens(self) -> list[Token]:
        """The tokens of the line. Where the grammar allows a picture, the longest existing name is one token."""
        raw = [self._kind_of(match) for match in _TOKEN.finditer(self._line)]
        self._is_sum = has_sum(raw)
        ends = ends_of_names(raw, self._is_sum)
        tokens: list[Token] = []
        at = 0
        before: Kind | None = None
        while at < len(raw):
            token = raw[at]
            upto = at + 1
            if before in (None, "plus", "like"):
                token, upto = self._picture_or(raw, at, ends, may_weigh=before != "like")
            if token.kind != "negative":
                before = "word" if token.kind == "plus" and not self._is_sum else token.kind
            tokens.append(token)
            at = upto
        return self._with_natural_negation(tokens) if self._natural else tokens

    def _kind_of(self, match: re.Match[str]) -> Token:
        start, end = match.span()
        quoted = match["quoted"]
        if quoted is not None:
            return Token("negative", start, end, quoted.strip(), body=start)
        word = match[0]
        kind: Kind = "word"
        if word.startswith('-"'):
            kind = "unclosed"
        elif _NEGATIVE.match(word) and not _BELOW_ZERO.fullmatch(word):
            return Token("negative", start, end, word[1:].rstrip(_PUNCTUATION), body=start)
        elif word == "+":
            kind = "plus"
        elif word.lower() == "like":
            kind = "like"
        elif word.lower() == "and":
            kind = "and"
        elif self._natural and word.lower() in ("without", "not"):
            kind = "without"
        return Token(kind, start, end, word, body=start)

    def _picture_or(self, raw: list[Token], at: int, ends: Ends, *, may_weigh: bool) -> tuple[Token, int]:
        """The picture whose name starts at this token, or the token itself; and the index of the next token."""
        token = raw[at]
        found = self._picture(raw, at, ends, token.start)
        weight = WEIGHT.match(token.value) if may_weigh and token.kind == "word" else None
        if found is None and weight:
            token = token._replace(weight=self._number(weight), body=token.start + weight.end())
            found = self._picture(raw, at, ends, token.body)
        if found is None:
            return token, at + 1
        path, upto = found
        return token._replace(kind="picture", end=raw[upto - 1].end, value=path), upto

    def _picture(self, raw: list[Token], at: int, ends: Ends, start: int) -> tuple[str, int] | None:
        """The longest existing picture whose name starts there: its path, and the index of the next token."""
        has_slash = self._line.find("/", start, start + MAX_NAME + 1) >= 0
        possible = ends.all if has_slash else ends.with_extension
        readings: list[int] = []
        for index in range(bisect_right(possible, at), len(possible)):
            end = raw[possible[index] - 1].end
            if end - start > MAX_PATH or end - max(start, self._line.rfind("/", start, end) + 1) > MAX_NAME:
                break
            readings.append(possible[index])
        for upto in reversed(readings):
            self._lookups_left -= 1
            if self._lookups_left < 0:
                raise QueryError(
                    f"{shown(self._typed)}: may name too many pictures", hint=f"shorten it; {self._as_words()}"
                )
            path = existing_picture(self._line[start : raw[upto - 1].end], self._directory)
            if path:
                return path, upto
        return None

    def _number(self, match: re.Match[str]) -> float:
        written = match["number"]
        number = float(written) if _PLAIN_NUMBER.fullmatch(written) else 0.0
        if not 0 < number < float("inf"):
            raise QueryError(
                f"{shown(written)}*: not a weight",
                hint=f"a weight is a decimal number above 0, such as 2* or 0.5*; {self._as_words()}",
            )
        return number

    # ---- --natural

    def _with_natural_negation(self, tokens: list[Token]) -> list[Token]:
        """Merge `without` and `not` with the words after them into one negative token."""
        merged: list[Token] = []
        at = 0
        while at < len(tokens):
            token = tokens[at]
            upto = at + 1
            if token.kind == "without":
                if is_like_picture(tokens, upto):
                    name = shown(self._slice(tokens[upto + 1 : upto + 2]))
                    raise QueryError(
                        f"{token.value} like {name}: only words can be excluded this way", hint=f"--less-like {name}"
                    )
                upto = self._without_date(tokens, upto, self._end_of_negation(tokens, upto))
                words = _LAST_AND.sub("", self._slice(tokens[at + 1 : upto]).strip(_PUNCTUATION + " \t\r\n"))
                kind: Kind = "negative" if words else "word"
                token = token._replace(kind=kind, end=tokens[upto - 1].end, value=words)
            merged.append(token)
            at = upto
        return merged

    def _without_date(self, tokens: list[Token], start: int, end: int) -> int:
        """Where the excluded words end, if a date ends them: "people" of "without people in july 2023"."""
        from .natural import read

        phrases = read(self._slice(tokens[start:end])).phrases
        count = len(phrases[-1].words.split()) if phrases else 0
        is_last = phrases and phrases[-1].words.split() == [token.value for token in tokens[end - count : end]]
        return end - count if is_last and end - count > start else end

    def _end_of_negation(self, tokens: list[Token], at: int) -> int:
        """The excluded words end at a punctuation mark, `but`, another operator or the end."""
        while at < len(tokens):
            token = tokens[at]
            if (
                token.kind in ("without", "negative", "unclosed")
                or (token.kind == "plus" and self._is_sum)
                or is_like_picture(tokens, at)
                or token.value.lower() == "but"
            ):
                return at
            at += 1
            if self._line[token.end - 1] in _PUNCTUATION:
                return at
        return at


def without_instructions(words: str) -> str:
    """The words without the instructions at their start: "red" for "make it red"."""
    at = 0
    while match := _INSTRUCTION.match(words, at):
        at = match.end()
    return words[at:].strip()


# ---- Options ---------------------------------------------------------------------------------------------------------


def _changed(query: Query, change_from: str | None, change_to: str | None) -> Query:
    if change_from is None or change_to is None:
        given, missing = ("--to", "--from") if change_from is None else ("--from", "--to")
        raise UsageError(f"{given} without {missing}", hint='give both: --from "blue dress" --to "red dress"')
    if query.text is not None or query.terms:
        raise UsageError("--from and --to cannot be combined with other words", hint="leave the other words out")
    if not query.images:
        raise UsageError("--from and --to need a picture", hint="for example: --image this.jpg")
    return replace(query, text=_given_words(change_to, "--to"), change_from=_given_words(change_from, "--from"))


def _nothing_to_find(query: Query) -> QueryError | UsageError:
    hint = 'add what to look for: imgsearch query "beach -people"'
    if query.negatives:
        negatives = " ".join(f'-"{words}"' if " " in words else f"-{words}" for words in query.negatives[:10])
        return QueryError(f"{shown(negatives)}: the query only excludes", hint=hint)
    if query.less_like:
        return QueryError("--less-like alone: the query only excludes", hint="add what to look for")
    return UsageError("nothing to search for", hint='for example: imgsearch query "sunset over the sea"')


def _given_words(words: str, option: str) -> str:
    if not words.strip():
        raise QueryError(f"{option} is empty", hint="is a shell variable unset?")
    return words.strip()


def _alternative(given: str, option: str, directory: str | None, verbatim: bool) -> Term:
    """A value of `--any` or `--all`: a picture by the rule for a bare word, else words."""
    words = _given_words(given, option)
    if verbatim:
        return Term(text=words)
    picture = existing_picture(given, directory) or existing_picture(words, directory)
    if picture:
        return Term(image=picture)
    if looks_like_picture(words, directory):
        raise QueryError(
            why_not_picture(words, directory), hint=f"check the name given to {option}; for words add --verbatim"
        )
    return Term(text=words)
