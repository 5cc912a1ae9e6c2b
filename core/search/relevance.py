"""Whether a photo is relevant at all: near copies, probabilities, and the cutoff of --auto-cut."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np  # noqa: TID253

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from imgsearch.core.types import SpaceIdentity, Vectors

    from .scoring import Clause, EncodedQuery

# The cosine of near copies: no two different photos of 320 reach it with the built-in model (the highest is .934), none
# of 225 with CLIP, where the highest is .947 (bench/relevance.py copies).
NEAR_COPY = 0.97
# The cosine of the same picture.
SAME = 0.9999
# The cutoff of --auto-cut (bench/relevance.py cut, docs/queries.md): the lowest relevance, and a share of the best.
MIN_RELEVANCE = 2.0
SHARE_OF_BEST = 2 / 3
# The percentile that the deviation is measured at, and how many standard deviations it is above the median of a normal
# distribution. Among pictures it is lower, because similar photos make the upper tail heavy.
WORDS_SPREAD = (95.0, 1.645)
PICTURES_SPREAD = (84.0, 1.0)
# The smallest usable reference sample.
MIN_REFERENCE = 50
ALIKE = 1e-4
# The best photos that are looked at.
CANDIDATES = 1_000
# Hubness correction: the weight of the bias, the number of nearest phrases (bench/relevance.py hubness), and rows per
# block.
HUBNESS = 0.25
HUBNESS_NEAREST = 16
ROWS_AT_ONCE = 4_096


def near_copies(rows: Vectors, of: Vectors) -> NDArray[np.bool_]:
    """Which rows are near copies of a vector."""
    return np.asarray(rows @ of >= NEAR_COPY)


def probabilities(query: EncodedQuery, rows: Vectors, identity: SpaceIdentity) -> NDArray[np.float64] | None:
    """The model's own probability that each photo matches the words: sigmoid(scale cos + bias), Eq. 1 of Zhai et al.
    2023. None for models without it, and for queries without words."""
    try:
        scale, bias = float(identity.details["logit_scale"]), float(identity.details["logit_bias"])
    except (KeyError, TypeError, ValueError):
        return None
    words = query.main.words if query.main else None
    if words is None or not (math.isfinite(scale) and math.isfinite(bias)):
        return None
    logits = scale * (rows @ words).astype(np.float64) + bias
    return np.asarray(1 / (1 + np.exp(-np.clip(logits, -500, 500))))


def clause_relevance(
    clause: Clause, rows: Vectors, phrases: Vectors, background: Vectors
) -> tuple[NDArray[np.float32], NDArray[np.bool_]] | None:
    """The relevance of each photo to a clause: its z-score among what neutral descriptions score for that photo; and
    which photos are the picture of the clause. None if the reference sample is too small.

    Words are compared with the neutral phrases, a picture without words with the background sample. Each photo is
    compared on its own, so the result does not depend on how many photos of the collection are relevant.
    """
    if clause.words is not None:
        if len(phrases) < MIN_REFERENCE:
            return None
        return _z_among(rows, clause.words, phrases, WORDS_SPREAD), np.zeros(len(rows), bool)
    assert clause.picture is not None
    if len(background) < MIN_REFERENCE:
        return None
    return _z_among(rows, clause.picture, background, PICTURES_SPREAD), rows @ clause.picture > SAME


def biases(rows: Vectors, phrases: Vectors) -> NDArray[np.float32]:
    """The hubness bias of each photo: HUBNESS times the mean of its HUBNESS_NEAREST highest cosines to the neutral
    phrases (Nearest Neighbor Normalization, Chowdhury et al. 2024)."""
    nearest = min(HUBNESS_NEAREST, len(phrases))
    if not nearest:
        return np.zeros(len(rows), np.float32)
    parts = [
        np.partition(rows[start : start + ROWS_AT_ONCE] @ phrases.T, -nearest, axis=1)[:, -nearest:].mean(axis=1)
        for start in range(0, len(rows), ROWS_AT_ONCE)
    ]
    return np.asarray(np.float32(HUBNESS) * np.concatenate(parts), np.float32) if parts else np.zeros(0, np.float32)


def cutoff(best: float, pictures: int) -> float:
    """The lowest relevance to show, given the best in a collection of `pictures`; infinite if no photo is relevant.

    The best of N unrelated photos reaches sqrt(2 ln N) by chance.
    """
    if best < max(MIN_RELEVANCE, math.sqrt(2 * math.log(max(1, pictures)))):
        return math.inf
    return max(MIN_RELEVANCE, SHARE_OF_BEST * best)


def _z_among(rows: Vectors, vector: Vectors, reference: Vectors, spread: tuple[float, float]) -> NDArray[np.float32]:
    """For each row the z-score of its cosine to `vector` among its cosines to the reference, around their median."""
    percentile, deviations = spread
    cosines = rows @ reference.T
    middle, high = np.percentile(cosines, (50, percentile), axis=1)
    deviation = (high - middle) / deviations
    known = deviation > ALIKE
    z = (rows @ vector - middle) / np.where(known, deviation, 1.0)
    return np.asarray(np.where(known, z, 0.0), np.float32)
