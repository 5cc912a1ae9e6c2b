"""What a query means: words, pictures, a weighted sum of them, and words for what it should not show.

sunset over the sea              words
beach.jpg                        the picture, if it exists; a bare word needs a picture's extension or a `/`
red dress like this.jpg          words and a picture; `and like that.jpg` adds another
beach -people -"beach umbrella"  words, and what not to show
2*sunset + harbour               a weighted sum; `+` is an operator only where some term has a weight

The name of a picture that exists wins over every operator, the longest reading first. docs/queries.md defines it all.
"""

from __future__ import annotations

import contextlib
import os
import re
import stat
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Literal, NamedTuple

from imgsearch.core.errors import QueryError, UsageError
from imgsearch.core.paths import has_picture_extension, on_disk, printable

# No name and no path on any disk is longer, so no longer stretch of a query is tried as one.
LONGEST_NAME = 255
LONGEST_PATH = 4096
# Stretches of one query that are tried as names of pictures. A query that people write needs a handful.
MOST_READINGS = 20_000
LONGEST_SHOWN = 200

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
"""What words beside a picture may begin with and no caption does. IT is it, this, that, them, him or her."""

_PUNCTUATION = ",;:.!?"
_TOKEN = re.compile(rf'-"(?P<quoted>[^"]*)"(?:[{_PUNCTUATION}]+(?!\S))?|\S+')
_UNWANTED = re.compile(r"-[^\W_]")
# A temperature or a balance: -5, -1.5, -10%, -5°C.
_BELOW_ZERO = re.compile(r"-\d++(?:[^\w\s]++\d++)*+(?:°[CFK]\W*|[^\w\s]*)")
_WEIGHT = re.compile(r"(?P<number>(?=[.,]*[0-9])[0-9.,]++(?:[eE][-+]?[0-9]+)?)\*(?=[^\s\d*])")
_PLAIN_NUMBER = re.compile(r"[0-9]+(?:\.[0-9]+)?")
_LIKE = re.compile(r"(?:^|(?<=\s))like\s+", re.IGNORECASE)
# What may stand around a name in a sentence.
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
    """One part of a sum or one alternative: words or a picture."""

    text: str | None = None
    image: str | None = None
    """Absolute path of a picture that exists."""
    weight: float = 1.0
    """Above 0 and finite."""


@dataclass(frozen=True, slots=True)
class Query:
    """A question, ready to be answered. There is always something to look for, never only what not to show."""

    typed: str
    text: str | None = None
    """Plain words; None where there are none, or where `terms` says it."""
    images: tuple[str, ...] = ()
    """Absolute paths of pictures that it should be like. They exist."""
    terms: tuple[Term, ...] = ()
    """Two or more parts of a weighted sum."""
    negatives: tuple[str, ...] = ()
    """Words, or phrases, for what it should not show."""
    change_from: str | None = None
    """What the picture shows and should not; what it should show instead is then `text`."""
    more_like: tuple[str, ...] = ()
    less_like: tuple[str, ...] = ()
    any_of: tuple[Term, ...] = ()
    all_of: tuple[Term, ...] = ()
    as_written: str | None = None
    """The words beside a picture before instructions were taken off them, if there were any."""


def parse(typed: str, *, directory: str | None = None, natural: bool = False, verbatim: bool = False) -> Query:
    """Read a query as typed; relative paths are relative to `directory` (default: the working directory).

    `natural`: "without" and "not" leave out what follows them. `verbatim`: there is no grammar, all of it is words.
    Raises QueryError for an empty query, one that only says what not to show, an unclosed quote, a weight that is
    none, and for a picture that is plainly meant but is not on disk.
    """
    words = typed.strip()
    if not words:
        raise QueryError("an empty query", hint='say what to look for: imgsearch query "sunset over the sea"')
    if verbatim:
        return Query(typed, text=words)
    picture = _existing_picture(typed, directory)  # whose name may begin or end with a space
    if picture:
        return Query(typed, images=(picture,))
    return _Reader(typed, directory, natural).query()


def explicit(
    text: str | None, images: tuple[str, ...], *, typed: str | None = None, directory: str | None = None
) -> Query:
    """A query from `--text` and `--image`, taken as they are. Raises QueryError for a picture that is not there."""
    paths = _given_pictures(images, "--image", directory)
    if text is not None and not text.strip():
        raise QueryError("empty words", hint="give --text something to look for")
    if typed is None:
        typed = " like ".join(part for part in (text, *images) if part)
    return Query(typed, text=text, images=paths)


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
    """What options add to a query that was parsed, or to none.

    Words that get their first picture here are a change: instructions are taken off them, unless `verbatim`.
    Raises UsageError for options that do not fit together, QueryError for a picture that is not there and where
    nothing says what to look for.
    """
    query = base or Query(
        _options_line(images, negatives, change_from, change_to, more_like, less_like, any_of, all_of)
    )
    query = replace(
        query,
        images=(*query.images, *_given_pictures(images, "--image", directory)),
        negatives=(*query.negatives, *(_given_words(words, "--not") for words in negatives)),
        more_like=(*query.more_like, *_given_pictures(more_like, "--more-like", directory)),
        less_like=(*query.less_like, *_given_pictures(less_like, "--less-like", directory)),
        any_of=(*query.any_of, *(_alternative(each, "--any", directory, verbatim) for each in any_of)),
        all_of=(*query.all_of, *(_alternative(each, "--all", directory, verbatim) for each in all_of)),
    )
    if change_from is not None or change_to is not None:
        query = _changed(query, change_from, change_to)
    elif query.text is not None and images and not (verbatim or (base and base.images)):
        text = _described(query.text)
        if text != query.text:
            query = replace(query, text=text or None, as_written=query.as_written or query.text)
    if not _says_what_to_show(query) and query.more_like:
        query = replace(query, images=query.more_like, more_like=())
    if not _says_what_to_show(query):
        raise _nothing_wanted(query)
    return query


def printed(query: Query) -> str:
    """The query in its one canonical spelling: read again it means the same (`typed` and `as_written` aside).

    What only options can say is printed as those options, in shell form.
    """
    wanted = replace(query, change_from=None, more_like=(), less_like=(), any_of=(), all_of=())
    if query.change_from is not None:
        wanted = replace(wanted, text=None)
    options = _options_of(query)
    if not options:
        line = _in_grammar(wanted)
        if line is not None:
            return line
    line = _in_grammar(replace(wanted, negatives=()))
    said = [line] if line and "--verbatim" not in options else _said_by_options(wanted)
    unwanted = [part for words in query.negatives for part in ("--not", words)]
    if line and said == [line] and line.startswith("-"):
        return _shell([*unwanted, *options, "--", line])
    return _shell([*said, *unwanted, *options])


# ---- Reading ---------------------------------------------------------------------------------------------------------

_Kind = Literal["word", "like", "and", "plus", "unwanted", "unclosed", "without", "picture"]


class _Token(NamedTuple):
    """A stretch of the query: a word, an operator, or the whole name of a picture that exists."""

    kind: _Kind
    start: int
    end: int
    value: str = ""
    """Of something unwanted its words, of a picture its path, else as it is written."""
    weight: float | None = None
    body: int = 0
    """Where it begins without its weight."""


class _Reader:
    """Reads one query. `query()` is the grammar's start; what is below it goes down the rules."""

    def __init__(self, typed: str, directory: str | None, natural: bool) -> None:
        self._typed = typed
        self._directory = directory
        self._natural = natural
        self._readings = MOST_READINGS
        self._line = typed.strip()
        self._is_sum = False

    def query(self) -> Query:
        """query = [ wanted ] , { [ "and" ] , "like" , picture }, what is unwanted and instructions apart.

        What is left when those are taken out is read again from its beginning, so that a query never depends on
        where in it they stood.
        """
        negatives: list[str] = []
        as_written = None
        while True:
            tokens = self._tokens()
            unwanted = [token for token in tokens if token.kind in ("unwanted", "unclosed")]
            if unwanted:
                negatives += (self._unwanted(token) for token in unwanted)
                self._line = _without(self._line, unwanted)
                if self._line:
                    continue
                raise _nothing_wanted(Query(self._typed, negatives=tuple(negatives)))
            at = _end_of_wanted(tokens)
            change = self._slice(tokens[:at])
            described = _described(change) if at < len(tokens) else change
            if described == change:
                break
            as_written = as_written or change
            self._line = f"{described} {self._line[tokens[at].start :]}".strip()
        text, images, terms = self._wanted(tokens[:at])
        images += tuple(token.value for token in tokens[at:] if token.kind == "picture")
        return Query(
            self._typed, text=text, images=images, terms=terms, negatives=tuple(negatives), as_written=as_written
        )

    def _wanted(self, tokens: Sequence[_Token]) -> tuple[str | None, tuple[str, ...], tuple[Term, ...]]:
        """wanted = sum | term ; sum = term , "+" , term , { "+" , term }"""
        if not tokens:
            return None, (), ()
        parts = _split_at_plus(tokens)
        if len(parts) > 1 and any(part and part[0].weight for part in parts):
            return None, (), tuple(self._term(part) for part in parts)
        term = self._term(tokens)
        return term.text, (term.image,) if term.image else (), ()

    def _term(self, tokens: Sequence[_Token]) -> Term:
        """term = [ weight ] , ( picture | words )"""
        if not tokens:
            raise QueryError(
                "a + with nothing beside it", hint=f"a sum is written 2*sunset + harbour; {self._as_words()}"
            )
        first = tokens[0]
        weight = first.weight or 1.0
        if len(tokens) == 1 and first.kind == "picture":
            return Term(image=first.value, weight=weight)
        words = self._line[first.body : tokens[-1].end]
        if first.weight:
            self._refuse_brackets(words)
        self._refuse_absent_picture(words)
        self._refuse_picture_among(words)
        return Term(text=words, weight=weight)

    def _refuse_brackets(self, words: str) -> None:
        """What other languages would put around a term, or between two: here it would be read as words."""
        if words[0] in "(\"'" or " - " in words:
            hint = f"a sum is written 2*red dress + sea, and what is not wanted -sea; {self._as_words()}"
            raise QueryError(f"{_shown(words)}: no brackets, quotes or differences after a weight", hint=hint)

    def _refuse_picture_among(self, words: str) -> None:
        """A picture that is there and ended up among words was not meant as a word."""
        for word in dict.fromkeys(words.split()):
            name = word.strip(_AROUND_NAMES)
            if has_picture_extension(name) and self._readings > 0:
                self._readings -= 1
                if _existing_picture(name, self._directory):
                    hint = f"write WORDS like {_shown(name)}, or like a.jpg and like b.jpg; {self._as_words()}"
                    raise QueryError(f"{_shown(name)}: a picture goes at the end of a query, after `like`", hint=hint)

    def _unwanted(self, token: _Token) -> str:
        written = _shown(self._line[token.start : token.end])
        if token.kind == "unclosed":
            raise QueryError(f"{written}: the closing quote is missing", hint=f'-"two words"; {self._as_words()}')
        if not token.value:
            raise QueryError(f"{written}: nothing between the quotes", hint='-"two words" leaves out two words')
        if _WEIGHT.match(token.value):
            rest = _shown(token.value.partition("*")[2])
            raise QueryError(f"{written}: a weight is above 0", hint=f"to leave it out: -{rest}; {self._as_words()}")
        return token.value

    def _refuse_absent_picture(self, words: str) -> None:
        """Words that end as only the name of a picture does."""
        likes = list(_LIKE.finditer(words))
        named = words[likes[-1].end() :].strip() if likes else words
        if not _looks_like_picture(named, self._directory):
            if not _looks_like_picture(words, self._directory):
                return
            named = words
        if _existing_picture(named, self._directory):
            raise QueryError(f"like {_shown(named)}: goes at the end of a query", hint=self._as_words())
        raise QueryError(_why_not(named, self._directory), hint=self._as_words())

    def _slice(self, tokens: Sequence[_Token]) -> str:
        return self._line[tokens[0].start : tokens[-1].end] if tokens else ""

    def _as_words(self) -> str:
        return f"to search for the words: --text {_quoted(self._typed)}"

    # ---- tokens

    def _tokens(self) -> list[_Token]:
        """The line in pieces. Where a picture may stand, the longest existing name is one piece."""
        raw = [self._kind_of(match) for match in _TOKEN.finditer(self._line)]
        self._is_sum = _has_sum(raw)
        ends = _ends_of_names(raw, self._is_sum)
        tokens: list[_Token] = []
        at = 0
        before: _Kind | None = None
        while at < len(raw):
            token = raw[at]
            upto = at + 1
            if before in (None, "plus", "like"):
                token, upto = self._picture_or(raw, at, ends, may_weigh=before != "like")
            if token.kind != "unwanted":
                before = "word" if token.kind == "plus" and not self._is_sum else token.kind
            tokens.append(token)
            at = upto
        return self._with_natural_negation(tokens) if self._natural else tokens

    def _kind_of(self, match: re.Match[str]) -> _Token:
        start, end = match.span()
        quoted = match["quoted"]
        if quoted is not None:
            return _Token("unwanted", start, end, quoted.strip(), body=start)
        word = match[0]
        kind: _Kind = "word"
        if word.startswith('-"'):
            kind = "unclosed"
        elif _UNWANTED.match(word) and not _BELOW_ZERO.fullmatch(word):
            return _Token("unwanted", start, end, word[1:].rstrip(_PUNCTUATION), body=start)
        elif word == "+":
            kind = "plus"
        elif word.lower() == "like":
            kind = "like"
        elif word.lower() == "and":
            kind = "and"
        elif self._natural and word.lower() in ("without", "not"):
            kind = "without"
        return _Token(kind, start, end, word, body=start)

    def _picture_or(self, raw: list[_Token], at: int, ends: _Ends, *, may_weigh: bool) -> tuple[_Token, int]:
        """The picture whose name begins at this token, and the index of the token after it; or the token itself."""
        token = raw[at]
        found = self._picture(raw, at, ends, token.start)
        weight = _WEIGHT.match(token.value) if may_weigh and token.kind == "word" else None
        if found is None and weight:
            token = token._replace(weight=self._number(weight), body=token.start + weight.end())
            found = self._picture(raw, at, ends, token.body)
        if found is None:
            return token, at + 1
        path, upto = found
        return token._replace(kind="picture", end=raw[upto - 1].end, value=path), upto

    def _picture(self, raw: list[_Token], at: int, ends: _Ends, start: int) -> tuple[str, int] | None:
        """The longest existing picture whose name begins there: its path, and the index of the token after it."""
        has_slash = self._line.find("/", start, start + LONGEST_NAME + 1) >= 0
        possible = ends.all if has_slash else ends.with_extension
        readings: list[int] = []
        for index in range(bisect_right(possible, at), len(possible)):
            end = raw[possible[index] - 1].end
            if end - start > LONGEST_PATH or end - max(start, self._line.rfind("/", start, end) + 1) > LONGEST_NAME:
                break
            readings.append(possible[index])
        for upto in reversed(readings):
            self._readings -= 1
            if self._readings < 0:
                raise QueryError(
                    f"{_shown(self._typed)}: may name too many pictures", hint=f"say less; {self._as_words()}"
                )
            path = _existing_picture(self._line[start : raw[upto - 1].end], self._directory)
            if path:
                return path, upto
        return None

    def _number(self, match: re.Match[str]) -> float:
        written = match["number"]
        number = float(written) if _PLAIN_NUMBER.fullmatch(written) else 0.0
        if not 0 < number < float("inf"):
            raise QueryError(
                f"{_shown(written)}*: no weight",
                hint=f"a weight is a plain number above 0, such as 2* or 0.5*; {self._as_words()}",
            )
        return number

    # ---- --natural

    def _with_natural_negation(self, tokens: list[_Token]) -> list[_Token]:
        """`without` and `not`, each with the words after it, made one unwanted piece."""
        merged: list[_Token] = []
        at = 0
        while at < len(tokens):
            token = tokens[at]
            upto = at + 1
            if token.kind == "without":
                if _is_like_picture(tokens, upto):
                    name = _shown(self._slice(tokens[upto + 1 : upto + 2]))
                    raise QueryError(
                        f"{token.value} like {name}: only words can be left out so", hint=f"--less-like {name}"
                    )
                upto = self._end_of_negation(tokens, upto)
                words = _LAST_AND.sub("", self._slice(tokens[at + 1 : upto]).strip(_PUNCTUATION + " \t\r\n"))
                kind: _Kind = "unwanted" if words else "word"
                token = token._replace(kind=kind, end=tokens[upto - 1].end, value=words)
            merged.append(token)
            at = upto
        return merged

    def _end_of_negation(self, tokens: list[_Token], at: int) -> int:
        """What is left out goes on to a punctuation mark, `but`, another operator or the end."""
        while at < len(tokens):
            token = tokens[at]
            if (
                token.kind in ("without", "unwanted", "unclosed")
                or (token.kind == "plus" and self._is_sum)
                or _is_like_picture(tokens, at)
                or token.value.lower() == "but"
            ):
                return at
            at += 1
            if self._line[token.end - 1] in _PUNCTUATION:
                return at
        return at


class _Ends(NamedTuple):
    """Indices of tokens before which the name of a picture may end."""

    all: list[int]
    with_extension: list[int]


def _ends_of_names(raw: Sequence[_Token], is_sum: bool) -> _Ends:
    stops = {"unwanted", "unclosed", "like", "without"} | ({"plus"} if is_sum else set())
    every = [
        at
        for at in range(1, len(raw) + 1)
        if at == len(raw)
        or raw[at].kind in stops
        or (raw[at].kind == "and" and at + 1 < len(raw) and raw[at + 1].kind == "like")
    ]
    # What stands before the dot does not matter, and `.jpg` alone is the end of a name that has a space before it.
    return _Ends(every, [at for at in every if has_picture_extension("x" + raw[at - 1].value)])


def _has_sum(raw: Sequence[_Token]) -> bool:
    """Whether some term has a weight and there is something to add to it."""
    before: _Kind = "plus"
    has_weight = False
    for token in raw:
        if token.kind != "unwanted":
            has_weight |= before == "plus" and token.kind == "word" and _WEIGHT.match(token.value) is not None
            before = token.kind
    return has_weight and any(token.kind == "plus" for token in raw)


def _is_like_picture(tokens: Sequence[_Token], at: int) -> bool:
    return [token.kind for token in tokens[at : at + 2]] == ["like", "picture"]


def _end_of_wanted(tokens: Sequence[_Token]) -> int:
    """The index of the first of the `like PICTURE` that the query ends with."""
    at = len(tokens)
    while at >= 2 and _is_like_picture(tokens, at - 2):
        at -= 2
        if at and tokens[at - 1].kind == "and":
            at -= 1
    return at


def _split_at_plus(tokens: Sequence[_Token]) -> list[list[_Token]]:
    parts: list[list[_Token]] = [[]]
    for token in tokens:
        if token.kind == "plus":
            parts.append([])
        else:
            parts[-1].append(token)
    return parts


def _without(line: str, tokens: Iterable[_Token]) -> str:
    """The line less those stretches. What was apart stays apart, by one space."""
    return " ".join(piece for piece in _pieces(line, tokens) if piece)


def _pieces(line: str, tokens: Iterable[_Token]) -> Iterator[str]:
    start = 0
    for token in tokens:
        yield line[start : token.start].strip()
        start = token.end
    yield line[start:].strip()


def _described(words: str) -> str:
    """The words less the instructions that they begin with: "make it red" says no more than "red"."""
    at = 0
    while match := _INSTRUCTION.match(words, at):
        at = match.end()
    return words[at:].strip()


# ---- Options ---------------------------------------------------------------------------------------------------------


def _changed(query: Query, change_from: str | None, change_to: str | None) -> Query:
    if change_from is None or change_to is None:
        given, missing = ("--to", "--from") if change_from is None else ("--from", "--to")
        raise UsageError(f"{given} without {missing}", hint='both say the change: --from "blue dress" --to "red dress"')
    if query.text is not None or query.terms:
        raise UsageError("--from and --to beside other words", hint="they are the words; leave the others out")
    if not query.images:
        raise UsageError("--from and --to without a picture", hint="say which picture it changes: --image this.jpg")
    return replace(query, text=_given_words(change_to, "--to"), change_from=_given_words(change_from, "--from"))


def _says_what_to_show(query: Query) -> bool:
    return bool(query.text or query.terms or query.images or query.any_of or query.all_of)


def _nothing_wanted(query: Query) -> QueryError | UsageError:
    hint = 'say what to look for as well: imgsearch query "beach -people"'
    if query.negatives:
        said = " ".join(_negative(words) or f"--not {_quoted(words)}" for words in query.negatives[:10])
        return QueryError(f"{_shown(said)}: only what not to show", hint=hint)
    if query.less_like:
        return QueryError("--less-like alone: only what not to show", hint="say what to look for as well")
    return UsageError("nothing to look for", hint='say it: imgsearch query "sunset over the sea"')


def _given_words(words: str, option: str) -> str:
    if not words.strip():
        raise QueryError("empty words", hint=f"give {option} something")
    return words.strip()


def _given_pictures(names: Sequence[str], option: str, directory: str | None) -> tuple[str, ...]:
    paths = []
    for name in names:
        if not name:
            raise QueryError(
                "an empty name for a picture", hint=f"look what {option} is given: is a variable of your shell unset?"
            )
        path = _resolved(name, directory)
        if not _is_file(path):
            raise QueryError(_why_not(name, directory), hint=f"check the name given to {option}")
        paths.append(path)
    return tuple(paths)


def _alternative(given: str, option: str, directory: str | None, verbatim: bool) -> Term:
    """What `--any` or `--all` names: a picture by the rule for a bare word, else words."""
    words = _given_words(given, option)
    if verbatim:
        return Term(text=words)
    picture = _existing_picture(given, directory) or _existing_picture(words, directory)
    if picture:
        return Term(image=picture)
    if _looks_like_picture(words, directory):
        raise QueryError(
            _why_not(words, directory), hint=f"check the name given to {option}; for the words: --verbatim"
        )
    return Term(text=words)


# ---- Printing --------------------------------------------------------------------------------------------------------


def _in_grammar(query: Query) -> str | None:
    """The shortest spelling that is read as this query; None if there is none."""
    if not _says_what_to_show(query):
        return None
    negatives = [_negative(words) for words in query.negatives]
    if None in negatives:
        return None
    unwanted = " ".join(words for words in negatives if words)
    for spelling in _spellings(query, unwanted):
        try:
            if _same(parse(spelling), query):
                return spelling
        except QueryError:
            continue
    return None


def _spellings(query: Query, unwanted: str) -> Iterator[str]:
    """The plainest first. The others are for names and words that read as something else there."""
    wants = [_sum(query.terms, careful) for careful in (False, True)] if query.terms else [query.text or ""]
    if query.text:
        wants.append(f"1*{query.text}")
    likes = " and ".join(f"like {image}" for image in query.images)
    likings = [likes, f"and {likes}"] if likes else [""]
    if len(query.images) == 1 and not wants[0]:
        likings.insert(0, query.images[0])
    for gap, wanted, liked in product((" ", "  "), wants, likings):
        for parts in ((wanted, liked, unwanted), (wanted, unwanted, liked), (unwanted, wanted, liked)):
            yield gap.join(part for part in parts if part)


def _sum(terms: Sequence[Term], careful: bool) -> str:
    """`2*sunset + harbour`. One weight at least is written; if `careful`, each that can be."""
    can_weigh = [bool(_WEIGHT.match(f"1*{term.text or term.image}")) for term in terms]
    needs = [term.weight != 1 or (careful and can) for term, can in zip(terms, can_weigh, strict=True)]
    if not any(needs) and any(can_weigh):
        needs[can_weigh.index(True)] = True
    return " + ".join(
        (f"{_plain(term.weight)}*" if need else "") + (term.text or term.image or "")
        for term, need in zip(terms, needs, strict=True)
    )


def _plain(number: float) -> str:
    """All its digits and no exponent."""
    from decimal import Decimal

    digits = format(Decimal(repr(number)), "f")
    return digits.removesuffix(".0")


def _negative(words: str) -> str | None:
    """`-word` or `-"two words"`; None where neither is read as these words."""
    reader = _Reader("", None, False)
    for spelling in (f"-{words}", f'-"{words}"'):
        match = _TOKEN.fullmatch(spelling)
        if match:
            token = reader._kind_of(match)
            if (token.kind, token.value) == ("unwanted", words) and not _WEIGHT.match(words):
                return spelling
    return None


def _same(one: Query, other: Query) -> bool:
    return replace(one, typed="", as_written=None) == replace(other, typed="", as_written=None)


def _said_by_options(query: Query) -> list[str]:
    said = ["--text", query.text] if query.text else [_sum(query.terms, careful=False)] if query.terms else []
    return [*said, *(part for image in query.images for part in ("--image", image))]


def _options_of(query: Query) -> list[str]:
    """The parts that no grammar says. Alternatives that are words and read as a picture need `--verbatim`."""
    options = ["--from", query.change_from, "--to", query.text or ""] if query.change_from is not None else []
    for option, names in (("--more-like", query.more_like), ("--less-like", query.less_like)):
        options += (part for name in names for part in (option, name))
    for option, terms in (("--any", query.any_of), ("--all", query.all_of)):
        options += (part for term in terms for part in (option, term.text or term.image or ""))
    texts = [term.text for term in (*query.any_of, *query.all_of) if term.text is not None]
    if any(_existing_picture(text, None) or _looks_like_picture(text, None) for text in texts):
        options.append("--verbatim")
    return options


def _shell(arguments: Iterable[str]) -> str:
    import shlex

    return shlex.join(arguments)


def _options_line(
    images: Sequence[str],
    negatives: Sequence[str],
    change_from: str | None,
    change_to: str | None,
    more_like: Sequence[str],
    less_like: Sequence[str],
    any_of: Sequence[str],
    all_of: Sequence[str],
) -> str:
    """What was typed where nothing but options was."""
    given = (
        ("--from", [change_from] if change_from is not None else []),
        ("--to", [change_to] if change_to is not None else []),
        ("--any", any_of),
        ("--all", all_of),
        ("--image", images),
        ("--more-like", more_like),
        ("--less-like", less_like),
        ("--not", negatives),
    )
    return _shell(part for option, values in given for value in values for part in (option, value))


# ---- Pictures on disk ------------------------------------------------------------------------------------------------


def _existing_picture(words: str, directory: str | None) -> str | None:
    """The absolute path, if these words name a picture: they exist, and have its extension or a `/`."""
    if not (has_picture_extension(words) or "/" in words):
        return None
    path = _resolved(words, directory)
    if not _is_file(path):
        return None
    # `a/../b.jpg and like a/../c.jpg` is no name of c.jpg, though leaving out `x/..` would make it one.
    return path if ".." not in words or _is_file(on_disk(_joined(words, directory))) else None


def _looks_like_picture(words: str, directory: str | None) -> bool:
    """Whether a path was plainly meant: a picture's extension, or one word that begins as a path does, with a `/`, a
    dot, a `~` or a folder that is there. `AC/DC` and `24/7` are words."""
    if has_picture_extension(words):
        return True
    if "/" not in words or re.search(r"\s", words):
        return False
    first = words.partition("/")[0]
    return first in ("", ".", "..") or first.startswith("~") or _is_folder(_resolved(first, directory))


def _resolved(words: str, directory: str | None) -> str:
    return on_disk(os.path.abspath(_joined(words, directory)))


def _joined(words: str, directory: str | None) -> str:
    with contextlib.suppress(ValueError):  # a user's name with NUL or half a character in it
        words = os.path.expanduser(words)
    return os.path.join(directory or os.getcwd(), words)


def _is_file(path: str) -> bool:
    return _is(path, stat.S_ISREG)


def _is_folder(path: str) -> bool:
    return _is(path, stat.S_ISDIR)


def _is(path: str, kind: Callable[[int], bool]) -> bool:
    try:
        return bool(kind(os.stat(path).st_mode))
    except (OSError, ValueError):
        return False


def _why_not(words: str, directory: str | None) -> str:
    name = _shown(words)
    try:
        mode = os.stat(_resolved(words, directory)).st_mode
    except PermissionError:
        return f"{name}: permission denied"
    except (OSError, ValueError):
        return f"{name}: no such picture"
    return f"{name}: is a folder, not a picture" if stat.S_ISDIR(mode) else f"{name}: not a file"


def _shown(words: str) -> str:
    """For a message: printable, and not endless."""
    return printable(words if len(words) <= LONGEST_SHOWN else words[:LONGEST_SHOWN] + "...")


def _quoted(words: str) -> str:
    import shlex

    return shlex.quote(_shown(words)) if len(words) <= LONGEST_SHOWN else "WORDS"
