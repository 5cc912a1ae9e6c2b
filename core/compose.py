"""A picture plus a change: two score vectors in, one out.

`s_v` are the pictures' cosines to the reference picture, `s_t` those to the words; `w` in (0, 1) is the weight of
the words. At w = 0 and w = 1 nothing is composed: the caller answers as plain search would, so that the ends agree.
Formulas and evidence: docs/composition.md.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np  # noqa: TID253

from .errors import UsageError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Scores = NDArray[np.float32]

# Best of the composed methods on the set at hand, with a paired interval above `and`: docs/composition.md.
DEFAULT_METHOD = "lerp"

# Nearly parallel vectors: the sine in slerp's denominator vanishes.
PARALLEL = 0.9995


@dataclass(frozen=True, slots=True)
class Context:
    """What a method may know besides the two score vectors."""

    cosine: float
    """Of the reference picture's vector and the words' vector."""
    low_image: float = 0.0
    low_text: float = 0.0


@dataclass(frozen=True, slots=True)
class Method:
    """One way to compose. `combine(s_v, s_t, w, context)` is elementwise unless `needs_all`."""

    name: str
    default_weight: float
    summary: str
    combine: Callable[[Scores, Scores, float, Context], Scores]
    is_centred: bool = False
    """Wants scores of centred vectors, (v - mean) . (x - mean), and the percentiles."""
    needs_all: bool = False
    """Looks at the scores of all pictures at once, so a shortlist will not do."""


def lerp(s_v: Scores, s_t: Scores, w: float, context: Context) -> Scores:
    """Cosine to n((1-w) v + w t)."""
    norm = math.sqrt(max(0.0, (1 - w) ** 2 + w**2 + 2 * w * (1 - w) * context.cosine))
    return np.asarray(((1 - w) * s_v + w * s_t) / max(norm, 1e-6), np.float32)


def slerp(s_v: Scores, s_t: Scores, w: float, context: Context) -> Scores:
    """Cosine to the point a fraction w along the arc from v to t (arXiv 2405.00571)."""
    if abs(context.cosine) > PARALLEL:
        return lerp(s_v, s_t, w, context)
    angle = math.acos(context.cosine)
    a, b = math.sin((1 - w) * angle) / math.sin(angle), math.sin(w * angle) / math.sin(angle)
    return np.asarray(a * s_v + b * s_t, np.float32)


def product(s_v: Scores, s_t: Scores, w: float, context: Context) -> Scores:
    """max(0, s_v)^(2-2w) max(0, s_t)^(2w): both have to hold."""
    return np.asarray(np.maximum(s_v, 0) ** (2 - 2 * w) * np.maximum(s_t, 0) ** (2 * w), np.float32)


def weicom(s_v: Scores, s_t: Scores, w: float, context: Context) -> Scores:
    """(1-w) F(z_v) + w F(z_t), F the normal distribution, z over this collection (Psomas et al. 2024)."""
    return (1 - w) * _normal_cdf(s_v) + w * _normal_cdf(s_t)


def centred_and(s_v: Scores, s_t: Scores, w: float, context: Context) -> Scores:
    """The product of centred scores on a scale where a poor match is 0 (steps 1 and 5 of BASIC, arXiv 2510.25387)."""
    if context.low_image >= 0 or context.low_text >= 0:  # nothing to measure against: one picture, or all alike
        return lerp(s_v, s_t, w, context)
    return product(
        (s_v - context.low_image) / -np.float32(context.low_image),
        (s_t - context.low_text) / -np.float32(context.low_text),
        w,
        context,
    )


def _normal_cdf(scores: Scores) -> Scores:
    # Abramowitz & Stegun 7.1.26, absolute error below 1.5e-7; numpy has no erf.
    if not len(scores):
        return scores
    spread = float(scores.std())
    z = (scores - scores.mean()) / np.float32(spread if spread > 1e-6 else 1.0)
    x = np.abs(z) / np.float32(np.sqrt(2))
    t = 1 / (1 + 0.3275911 * x)
    series = t * (0.254829592 + t * (-0.284496736 + t * (1.421413741 + t * (-1.453152027 + t * 1.061405429))))
    erf = np.sign(z) * (1 - series * np.exp(-x * x))
    return np.asarray(0.5 * (1 + erf), np.float32)


METHODS: dict[str, Method] = {
    method.name: method
    for method in (
        Method("and", 0.5, "both must hold: product of centred, normalised scores", centred_and, is_centred=True),
        Method("lerp", 0.8, "a point between picture and words", lerp),
        Method("slerp", 0.8, "the same along the arc", slerp),
        Method("add", 0.5, "plain vector sum; the picture drowns the words", lerp),
        Method("product", 0.5, "product of the raw scores", product),
        Method("weicom", 0.3, "weighted sum of ranks on a normal scale", weicom, needs_all=True),
    )
}


def method_named(name: str) -> Method:
    """The method of that name. Raises UsageError with the names there are."""
    try:
        return METHODS[name]
    except KeyError:
        raise UsageError(f"no composition method {name!r}", hint=f"one of: {', '.join(METHODS)}") from None
