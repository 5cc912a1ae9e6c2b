"""The weights of `gated`, from triplets: InfoNCE (van den Oord et al. 2018) by Adam, in numpy.

The query has to find its wanted photo among the wanted photos and references of the batch, without its own reference,
which a search leaves out.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

import numpy as np  # noqa: TID253

from .gated import opening

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from imgsearch.core.types import Vectors

TEMPERATURE = 0.05
BATCH = 256
LEARNING_RATE = 1e-2
DECAY = 1.0
"""Of the weights, each step; not of the bias."""
MOMENTUM, SECOND_MOMENTUM, EPSILON = 0.9, 0.999, 1e-8
MAX_EPOCHS = 60
PATIENCE = 5
"""Epochs without a better figure on the held-out triplets before the training stops."""
SAME = 1 - 1e-5
"""The cosine of a photo to itself."""
FIRST_SHARE = 0.4
"""The share of the picture before training: about the best single share."""


class Triplets(NamedTuple):
    """float32 (triplets, dim) each, unit length."""

    pictures: Vectors
    words: Vectors
    wanted: Vectors

    def of(self, numbers: NDArray[np.intp]) -> Triplets:
        return Triplets(self.pictures[numbers], self.words[numbers], self.wanted[numbers])


class Gate(NamedTuple):
    weights: Vectors
    """(gates, 2 dim)"""
    bias: Vectors
    """(gates,)"""


OnEpoch = Callable[[int, float], object]
"""Called with the number of an epoch and the figure on the held-out triplets."""


def fit(
    given: Triplets, held_out: Triplets, *, gates: int, seed: int = 0, on_epoch: OnEpoch = lambda epoch, figure: None
) -> Gate:
    """The gate that is best on the held-out triplets. The same input gives the same gate."""
    random = np.random.default_rng(seed)
    dim = given.pictures.shape[1]
    gate = Gate(
        np.zeros((gates, 2 * dim), np.float32),
        np.full(gates, np.log(FIRST_SHARE / (1 - FIRST_SHARE)), np.float32),
    )
    best, best_figure, since = gate, reciprocal_rank(gate, held_out), 0
    moments = [(np.zeros_like(each), np.zeros_like(each)) for each in gate]
    step = 0
    for epoch in range(1, MAX_EPOCHS + 1):
        order = random.permutation(len(given.pictures))
        for start in range(0, len(order), BATCH):
            step += 1
            batch = given.of(order[start : start + BATCH])
            _, slopes = loss(gate, batch)
            gate = Gate(*_adam(gate, slopes, moments, step))
        figure = reciprocal_rank(gate, held_out)
        on_epoch(epoch, figure)
        since = 0 if figure > best_figure else since + 1
        if not since:
            best, best_figure = gate, figure
        if since == PATIENCE:
            break
    return best


def _adam(gate: Gate, slopes: Gate, moments: list[tuple[Vectors, Vectors]], step: int) -> tuple[Vectors, Vectors]:
    """One step (Kingma and Ba 2015), with decay apart from the slope (Loshchilov and Hutter 2019)."""
    moved = []
    for number, (values, slope) in enumerate(zip(gate, slopes, strict=True)):
        first, second = moments[number]
        first = MOMENTUM * first + (1 - MOMENTUM) * slope
        second = SECOND_MOMENTUM * second + (1 - SECOND_MOMENTUM) * slope**2
        moments[number] = first, second
        scaled = first / (1 - MOMENTUM**step) / (np.sqrt(second / (1 - SECOND_MOMENTUM**step)) + EPSILON)
        kept = values if number else (1 - LEARNING_RATE * DECAY) * values
        moved.append(np.asarray(kept - LEARNING_RATE * scaled, np.float32))
    return moved[0], moved[1]


def loss(gate: Gate, batch: Triplets) -> tuple[float, Gate]:
    """The mean loss of a batch, and its slope by the gate's numbers."""
    share = opening(gate.weights, gate.bias, batch.pictures, batch.words)
    mixed = share * batch.pictures + (1 - share) * batch.words
    lengths = np.maximum(np.linalg.norm(mixed, axis=1, keepdims=True), 1e-9)
    queries = mixed / lengths
    others = np.concatenate([batch.wanted, batch.pictures])
    logits = queries @ others.T / np.float32(TEMPERATURE)
    rows = np.arange(len(queries))
    is_same = np.maximum(batch.pictures @ others.T, batch.wanted @ others.T) > SAME
    is_same[rows, rows] = False
    logits[is_same] = -np.inf
    logits -= logits.max(axis=1, keepdims=True)
    likely = np.exp(logits)
    likely /= likely.sum(axis=1, keepdims=True)
    total = float(-np.log(np.maximum(likely[rows, rows], 1e-30)).mean())
    likely[rows, rows] -= 1
    by_query = likely @ others / np.float32(TEMPERATURE * len(queries))
    by_mixed = (by_query - queries * (queries * by_query).sum(axis=1, keepdims=True)) / lengths
    by_share = by_mixed * (batch.pictures - batch.words)
    if share.shape[1] == 1:
        by_share = by_share.sum(axis=1, keepdims=True)
    by_logit = by_share * share * (1 - share)
    both = np.concatenate([batch.pictures, batch.words], axis=1)
    return total, Gate(np.asarray(by_logit.T @ both, np.float32), by_logit.sum(axis=0))


def reciprocal_rank(gate: Gate, held_out: Triplets) -> float:
    """The mean of 1 / rank of the wanted photo, among all wanted photos but the one asked with."""
    share = opening(gate.weights, gate.bias, held_out.pictures, held_out.words)
    scores = (share * held_out.pictures + (1 - share) * held_out.words) @ held_out.wanted.T
    own = np.diagonal(scores)[:, None].copy()
    scores[held_out.pictures @ held_out.wanted.T > SAME] = -np.inf
    return float((1 / (1 + (scores > own).sum(axis=1))).mean())
