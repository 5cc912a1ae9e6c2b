"""Whether a photo answers at all: near-copies, probabilities, and where relevance stops."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np  # noqa: TID253

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from imgsearch.core.types import SpaceIdentity, Vectors

    from .scoring import Clause, Question

# The cosine from which two photos are taken for the same shot: no two different ones of 1,600 reach it with the
# built-in model, none of 225 with CLIP's, where the nearest are at .947 (bench/relevance.py copies).
NEAR_COPY = 0.97
# ... and from which they are the same picture.
SAME = 0.9999
# Where relevance stops (bench/relevance.py cut, docs/composition.md): so many deviations above ordinary descriptions at
# the least, and so much of what the best photo has.
LEAST = 2.0
SHARE_OF_BEST = 2 / 3
# The deviation is measured at this percentile, which lies so many normal deviations above the median. Photos of one
# kind fatten the upper end among pictures, so there it is taken lower.
WORDS_SPREAD = (95.0, 1.645)
PICTURES_SPREAD = (84.0, 1.0)
# Fewer descriptions are no measure.
LEAST_BANK = 50
ALIKE = 1e-4
# The best photos that can answer at all.
CANDIDATES = 1_000
# Hubness: the share, the number of nearest phrases (bench/relevance.py hubness), and rows that are looked at together.
HUBNESS = 0.25
HUBNESS_NEAREST = 16
ROWS_AT_ONCE = 4_096


def near_copies(rows: Vectors, of: Vectors) -> NDArray[np.bool_]:
    """Which of these photos show the same shot as that one."""
    return np.asarray(rows @ of >= NEAR_COPY)


def probabilities(question: Question, rows: Vectors, identity: SpaceIdentity) -> NDArray[np.float64] | None:
    """What the model itself makes of each photo and the words: sigmoid(scale cos + bias), for models trained to give
    it (Eq. 1 of Zhai et al. 2023); None for others, and where no words were asked."""
    try:
        scale, bias = float(identity.details["logit_scale"]), float(identity.details["logit_bias"])
    except (KeyError, TypeError, ValueError):
        return None
    words = question.main.words if question.main else None
    if words is None or not (math.isfinite(scale) and math.isfinite(bias)):
        return None
    logits = scale * (rows @ words).astype(np.float64) + bias
    return np.asarray(1 / (1 + np.exp(-np.clip(logits, -500, 500))))


def standing(
    clause: Clause, rows: Vectors, phrases: Vectors, background: Vectors
) -> tuple[NDArray[np.float32], NDArray[np.bool_]] | None:
    """How well a clause describes each photo, in deviations above what ordinary descriptions reach for that photo; and
    which photos are the very picture asked with. None where there is too little to compare with.

    Words are held against the neutral phrases, a picture without words against the background sample. Judged photo by
    photo, so that it does not matter how much of a collection answers: all of it may, or none.
    """
    if clause.words is not None:
        if len(phrases) < LEAST_BANK:
            return None
        return _above_bank(rows, clause.words, phrases, WORDS_SPREAD), np.zeros(len(rows), bool)
    assert clause.picture is not None
    if len(background) < LEAST_BANK:
        return None
    return _above_bank(rows, clause.picture, background, PICTURES_SPREAD), rows @ clause.picture > SAME


def biases(rows: Vectors, phrases: Vectors) -> NDArray[np.float32]:
    """What each photo loses for being near to any description: HUBNESS times the mean of its HUBNESS_NEAREST highest
    cosines to the neutral phrases (Nearest Neighbor Normalization, Chowdhury et al. 2024)."""
    nearest = min(HUBNESS_NEAREST, len(phrases))
    if not nearest:
        return np.zeros(len(rows), np.float32)
    parts = [
        np.partition(rows[start : start + ROWS_AT_ONCE] @ phrases.T, -nearest, axis=1)[:, -nearest:].mean(axis=1)
        for start in range(0, len(rows), ROWS_AT_ONCE)
    ]
    return np.asarray(np.float32(HUBNESS) * np.concatenate(parts), np.float32) if parts else np.zeros(0, np.float32)


def least_standing(best: float, pictures: int) -> float:
    """From which standing on photos answer, given the best of a collection of so many; infinite where none does.

    The best of N unrelated descriptions reaches sqrt(2 ln N) by luck.
    """
    if best < max(LEAST, math.sqrt(2 * math.log(max(1, pictures)))):
        return math.inf
    return max(LEAST, SHARE_OF_BEST * best)


def _above_bank(rows: Vectors, asked: Vectors, bank: Vectors, spread: tuple[float, float]) -> NDArray[np.float32]:
    """For each row its cosine to what is asked, as deviations above the median of its cosines to the bank."""
    percentile, deviations = spread
    cosines = rows @ bank.T
    middle, high = np.percentile(cosines, (50, percentile), axis=1)
    deviation = (high - middle) / deviations
    known = deviation > ALIKE
    z = (rows @ asked - middle) / np.where(known, deviation, 1.0)
    return np.asarray(np.where(known, z, 0.0), np.float32)
