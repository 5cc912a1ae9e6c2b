"""Triplets of a reference photo, a change in words, and the one photo that is wanted, from captions alone.

The reference of a target is the photo whose captions share most with its captions: the cosine of their TF-IDF vectors
over the stems of content words. The change is a run of 2 to 7 words in one of the target's captions, without a content
word of any caption of the reference: the one with most content words, then the longest, then the first in the alphabet.
Function words are cut from its ends where they belong to what is around it. A photo without such a run is no target. No
model takes part, so that none is at an advantage.
"""

from __future__ import annotations

import collections
import re
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np  # noqa: TID253

if TYPE_CHECKING:
    from numpy.typing import NDArray

ROWS_AT_ONCE = 1_024
MIN_WORDS, MAX_WORDS = 2, 7
FUNCTION_WORDS = frozenset(
    """a an the of to is are was were be been being it its his hers her their he she they them him this that these those
    there and or but with for from by as at on in into onto up down out off over under while who which what where when
    very some another other one two three four five several many few more both all each has have having had do does
    doing not no you your near next through across along around behind front between against during after before about
    above below toward towards s t i we our just so than then together something someone""".split()
)
NOT_FIRST = frozenset("and or is are who that which while as of to has have s".split())


class Triplet(NamedTuple):
    """Photos are given by their number."""

    reference: int
    change: str
    target: int


def triplets(captions: Sequence[Sequence[str]]) -> list[Triplet]:
    """One for each photo that can be a target, in order. `captions`: those of each photo."""
    if len(captions) < 2:
        return []
    vectors = _vectors([collections.Counter(word for text in texts for word in content(text)) for texts in captions])
    found = []
    for target, reference in enumerate(_nearest(vectors)):
        known = {word for text in captions[reference] for word in content(text)}
        runs = {" ".join(run) for text in captions[target] for run in _unknown_runs(text, known)}
        if runs:
            best = min(runs, key=lambda run: (-len(content(run)), -len(run.split()), run))
            found.append(Triplet(reference, best, target))
    return found


def content(text: str) -> list[str]:
    """The stems of the content words of a text."""
    return [_stem(word) for word in _words(text) if _is_content(word)]


def _words(text: str) -> list[str]:
    return re.findall(r"[a-z']+", text.lower())


def _is_content(word: str) -> bool:
    return word not in FUNCTION_WORDS and len(word) > 1


def _stem(word: str) -> str:
    for ending in ("ing", "ies", "ed", "es", "s"):
        if word.endswith(ending) and len(word) - len(ending) >= 3:
            word = word[: -len(ending)]
            break
    if len(word) > 3 and word[-1] == word[-2]:
        word = word[:-1]
    return word.rstrip("e")


def _vectors(counts: Sequence[collections.Counter[str]]) -> NDArray[np.float32]:
    """float32 (photos, words): TF-IDF over the words that more than one photo has, of unit length."""
    photos_with = collections.Counter(word for each in counts for word in each)
    column = {word: i for i, word in enumerate(sorted(word for word, n in photos_with.items() if n > 1))}
    vectors = np.zeros((len(counts), len(column)), np.float32)
    for row, each in zip(vectors, counts, strict=True):
        for word in each.keys() & column.keys():
            row[column[word]] = (1 + np.log(each[word])) * np.log(len(counts) / photos_with[word])
    vectors /= np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-9)
    return vectors


def _nearest(vectors: NDArray[np.float32]) -> Iterator[int]:
    """The other photo that is nearest to each."""
    for start in range(0, len(vectors), ROWS_AT_ONCE):
        likeness = vectors[start : start + ROWS_AT_ONCE] @ vectors.T
        likeness[np.arange(len(likeness)), start + np.arange(len(likeness))] = -1
        yield from likeness.argmax(axis=1).tolist()


def _unknown_runs(text: str, known: set[str]) -> Iterator[list[str]]:
    """The longest runs of words of a text without a known content word, cut at their ends."""
    runs: list[list[str]] = [[]]
    for word in _words(text):
        if _is_content(word) and _stem(word) in known:
            runs.append([])
        else:
            runs[-1].append(word)
    for run in runs:
        while run and run[-1] in FUNCTION_WORDS:
            run.pop()
        while run and run[0] in NOT_FIRST:
            run.pop(0)
        if MIN_WORDS <= len(run) <= MAX_WORDS and any(map(_is_content, run)):
            yield run
