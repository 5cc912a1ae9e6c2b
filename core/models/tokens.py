"""CLIP's byte-pair encoding, without libraries that import torch.

Gives the same tokens as open_clip's SimpleTokenizer: `core/models/onnx_export.py` checks that for every model, and the
tests check it over captions and generated texts. Source: Radford et al. 2021, https://arxiv.org/abs/2103.00020, and
Sennrich et al. 2016, https://arxiv.org/abs/1508.07909.
"""

from __future__ import annotations

import re
from functools import cache
from itertools import pairwise
from typing import Literal

Cleaning = Literal["lower", "whitespace", "canonicalize"]

END_OF_WORD = "</w>"
_SPECIAL = ("<start_of_text>", "<end_of_text>")
_PLAIN_WORDS = re.compile(r"'s|'t|'re|'ve|'m|'ll|'d|[a-z]+|[0-9]|[^\sa-z0-9]+", re.IGNORECASE)


class Tokenizer:
    """Turns texts into token ids. `merges` has one pair of symbols per line, in the order of merging."""

    def __init__(self, merges: str, *, context_length: int, clean: Cleaning) -> None:
        lines = merges.split("\n")
        self.context_length = context_length
        self._ranks = dict(zip(lines, range(len(lines)), strict=True))
        self._letters = {symbol: number for number, symbol in enumerate(_symbol_of_byte().values())}
        self._clean: Cleaning = clean
        self._first_merged = 2 * len(self._letters)
        self.start = self._first_merged + len(lines)
        self.end = self.start + 1

    def __call__(self, text: str) -> list[int]:
        """The tokens of a text with its start and end token, at most `context_length`."""
        tokens = [self.start]
        for word in _words(_cleaned(text, self._clean)):
            if word in _SPECIAL:
                tokens.append(self.start + _SPECIAL.index(word))
            else:
                tokens += self._merged(word)
        return [*tokens[: self.context_length - 1], self.end]

    def _merged(self, word: str) -> list[int]:
        """Merges pairs in the order of training until none is left."""
        symbol_of = _symbol_of_byte()
        symbols = [symbol_of[byte] for byte in word.encode("utf-8")]
        numbers = [self._letters[symbol] for symbol in symbols]
        numbers[-1] += len(self._letters)
        symbols[-1] += END_OF_WORD
        unmerged = len(self._ranks)
        while len(symbols) > 1:
            ranks = [self._ranks.get(f"{first} {second}", unmerged) for first, second in pairwise(symbols)]
            rank = min(ranks)
            if rank == unmerged:
                break
            at = ranks.index(rank)
            first, second = symbols[at], symbols[at + 1]
            while at < len(symbols) - 1:
                if symbols[at] == first and symbols[at + 1] == second:
                    symbols[at : at + 2] = [first + second]
                    numbers[at : at + 2] = [self._first_merged + rank]
                at += 1
        return numbers


def _cleaned(text: str, clean: Cleaning) -> str:
    if not (text.isascii() and text.isprintable() and "&" not in text):  # other texts need no fixing
        import html

        import ftfy

        text = html.unescape(html.unescape(ftfy.fix_text(text)))
    if clean == "canonicalize":
        import string

        text = text.replace("_", " ").translate(str.maketrans("", "", string.punctuation))
    text = " ".join(text.split())
    return text if clean == "whitespace" else text.lower()


def _words(text: str) -> list[str]:
    if text.isascii() and "<" not in text:
        return _PLAIN_WORDS.findall(text)
    return [match.group() for match in _any_words().finditer(text)]


@cache
def _any_words():  # type: ignore[no-untyped-def]  # noqa: ANN202 - regex has no types
    import regex

    marks = "|".join(_SPECIAL)
    return regex.compile(
        rf"{marks}|'s|'t|'re|'ve|'m|'ll|'d|[\p{{L}}]+|[\p{{N}}]|[^\s\p{{L}}\p{{N}}]+", regex.IGNORECASE
    )


@cache
def _symbol_of_byte() -> dict[int, str]:
    """A visible character for each byte, in the order of the vocabulary."""
    shown = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    hidden = [byte for byte in range(256) if byte not in shown]
    return {byte: chr(byte) for byte in shown} | {byte: chr(256 + n) for n, byte in enumerate(hidden)}
