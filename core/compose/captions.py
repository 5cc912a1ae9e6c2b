"""Texts to train `lincir` with, and what of each is replaced by a pseudo-word."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence

from imgsearch.core.errors import UsageError
from imgsearch.core.models.pseudo_word import PLACEHOLDER
from imgsearch.core.paths import printable

MIN_TEXTS = 200
MAX_BYTES = 500_000_000
MAX_TEXT = 1_000
"""Characters of a text that are used; a model reads a tenth of that."""

DETERMINERS = frozenset(
    """a an the this that these those his her its their my your our another each every some two three four five several
    many few""".split()
)
FUNCTION_WORDS = DETERMINERS | frozenset(
    """of to is are was were be been being it he she they we you i him them and or but nor so than then with without
    for from by as at on in into onto up down out off over under while who which what where when very one other there
    not no near next through across along around behind front between against during after before about above below
    toward towards has have had do does did can could will would may might must just also too together
    through who whom whose if because""".split()
)
VERB_ENDINGS = ("ing",)


def read(path: str) -> list[str]:
    """The texts of a file: one per line, or JSON Lines with `captions`, `caption` or `text`. Raises UsageError."""
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            content = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise UsageError(
            f"--captions {printable(path)}: {(error.strerror or str(error)).lower()}", hint="give a file of texts"
        ) from error
    if len(content) > MAX_BYTES:
        raise UsageError(
            f"--captions {printable(path)} is larger than {MAX_BYTES // 10**6} MB", hint="give a part of it"
        )
    texts: list[str] = []
    for number, line in enumerate(content.splitlines(), 1):
        texts += _of_line(line.strip(), f"--captions {printable(path)}, line {number}")
    return list(dict.fromkeys(" ".join(text.split())[:MAX_TEXT] for text in texts if text.strip()))


def _of_line(line: str, where: str) -> Sequence[str]:
    if not line.startswith("{"):
        return [line]
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        raise UsageError(f"{where}: no valid JSON", hint="one text, or one JSON object, per line") from None
    found = record.get("captions", record.get("caption", record.get("text")))
    texts = found if isinstance(found, list) else [found]
    if not all(isinstance(text, str) for text in texts):
        raise UsageError(f"{where}: no captions, caption or text", hint="one text, or one JSON object, per line")
    return texts


def masked(text: str) -> str:
    """The text with each noun phrase replaced by `$`, as far as English words show them: a run of words that are no
    function words and do not end in -ing, with the determiner before it."""
    return " ".join(_masked(re.findall(r"[^\W_]+(?:['-][^\W_]+)*|[^\w\s$]", text.lower())))


def _masked(words: Sequence[str]) -> Iterator[str]:
    at = 0
    while at < len(words):
        first = at + (words[at] in DETERMINERS)
        end = first
        while end < len(words) and _is_content(words[end]):
            end += 1
        if end > first:
            yield PLACEHOLDER
            at = end
        else:
            yield words[at]
            at += 1


def _is_content(word: str) -> bool:
    return word[0].isalnum() and word not in FUNCTION_WORDS and not word.endswith(VERB_ENDINGS)
