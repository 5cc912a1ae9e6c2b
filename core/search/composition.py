"""Composition of a picture and words: two score vectors in, one out.

`s_v` are the pictures' cosines to the reference picture, `s_t` those to the words; `w` in (0, 1) is the weight of
the words. At w = 0 and w = 1 nothing is composed: the caller runs a plain search, so that the ends agree.
Formulas and evidence: docs/composition.md.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, NoReturn, Protocol, cast

from imgsearch.core.errors import UsageError
from imgsearch.core.late import LateModule
from imgsearch.core.light_dataclass import dataclass

from .choices import LEARNED, RAW_SUM, MethodName

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from imgsearch.core.types import Embedder, SpaceIdentity, Vectors

    Scores = NDArray[np.float32]
else:  # a query's texts are found before it is needed
    np = LateModule("numpy")

# Nearly parallel vectors: the sine in slerp's denominator vanishes.
PARALLEL = 0.9995
# Scores with a smaller standard deviation are all equal.
ALIKE = 1e-6
# The penalty of one-sided matches in `basic-style` (BASIC's Harris term).
HARRIS = 0.1
# The step of `pdv` from one text to the other (PDV's alpha is 1.2 to 1.4).
PDV_STEP = 1.2


@dataclass(frozen=True, slots=True)
class Spread:
    """Mean and standard deviation of scores; the deviation is 1 if they are all equal."""

    mean: float = 0.0
    deviation: float = 1.0

    @classmethod
    def over(cls, scores: Scores) -> Spread:
        if not len(scores):
            return cls()
        deviation = float(scores.std(dtype=np.float64))
        return cls(float(scores.mean(dtype=np.float64)), deviation if deviation > ALIKE else 1.0)

    def z(self, scores: Scores) -> Scores:
        """The z-scores."""
        return np.asarray((scores - np.float32(self.mean)) / np.float32(self.deviation), np.float32)


@dataclass(frozen=True, slots=True)
class Context:
    """What methods use besides the two score vectors."""

    cosine: float
    """Of the picture's vector and the words' vector."""
    low_image: float = 0.0
    """The low end of centred scores, below 0; 0 if unknown."""
    low_text: float = 0.0
    image: Spread = Spread()
    """Of the query's scores over the collection."""
    text: Spread = Spread()


@dataclass(frozen=True, slots=True)
class Method:
    """One way to compose. `combine(s_v, s_t, w, context)` is elementwise."""

    name: MethodName
    default_weight: float
    summary: str
    combine: Callable[[Scores, Scores, float, Context], Scores]
    is_centred: bool = False
    """Uses scores of centred vectors, (v - mean) . (x - mean), and their low ends."""
    needs_background: bool = False
    """Uses the scores of both sides over a sample of the collection."""
    without_copies: bool = False
    """That sample leaves out near copies of the picture, which are no hits."""
    needs_scan: bool = False
    """Its best photos may be far from the picture, from the words and from their sum."""
    is_projected: bool = False
    """Uses the picture without its style, and the words in many contexts."""
    is_expanded: bool = False
    """Uses the picture averaged with its neighbours."""
    needs_origin: bool = False
    """Uses the words of --from."""

    @property
    def is_learned(self) -> bool:
        """Needs a composer, which has its weights."""
        return self.name in LEARNED

    @property
    def needs_composer(self) -> bool:
        return self.is_learned or self.name == RAW_SUM


def _no_picture() -> NoReturn:
    raise AssertionError("no composer that needs the picture itself is used here")


@dataclass(frozen=True, slots=True)
class Change:
    """A picture and the words that change it, as a composer is given them. Vectors: float32 (dim,), unit length."""

    picture: Vectors
    """The mean of several pictures."""
    words: Vectors
    """Of the words as they are, without sentences around a single one."""
    text: str
    weight: float
    """Of the words, between 0 and 1."""
    embedder: Callable[[], Embedder]
    """The model, for a composer that embeds more than these."""
    raw_picture: Callable[[], Vectors] = _no_picture
    """Embeds the pictures again, for a composer that needs lengths: their mean as the model gives them."""


class Composer(Protocol):
    """What makes the query's vectors for a method that needs more than two scores, such as weights for one model. Those
    there are: `core/compose`."""

    @property
    def name(self) -> MethodName: ...

    @property
    def default_weight(self) -> float: ...

    @property
    def other_weight(self) -> float | None:
        """The default weight for words that it is not for. None: that of the method that answers them."""
        ...

    def directions(self, change: Change) -> tuple[Vectors, ...] | None:
        """What photos are scored by, instead of the picture and the words: one unit vector, whose cosine is the score,
        or two, which the method combines. None for words that it is not for: the query is then answered by the method
        that needs no weights."""
        ...


Composers = Callable[[str | None, "SpaceIdentity"], Composer | None]
"""The composer that a query asks for with --compose (None: the default) in the space of a model. None if its method
needs none. Raises UsageError and ModelError for weights that cannot be used."""


def no_composers(asked: str | None, identity: SpaceIdentity) -> None:
    """Where only the methods are offered that need no weights."""
    if asked is not None and method_named(asked).needs_composer:
        raise UsageError(f"--compose {asked} cannot be used here", hint=f"one of: {', '.join(METHODS)}")


def lerp(s_v: Scores, s_t: Scores, w: float, context: Context) -> Scores:
    """Cosine to n((1-w) v + w t)."""
    norm = math.sqrt(max(0.0, (1 - w) ** 2 + w**2 + 2 * w * (1 - w) * context.cosine))
    return np.asarray(((1 - w) * s_v + w * s_t) / max(norm, 1e-6), np.float32)


def scaled(s_v: Scores, s_t: Scores, w: float, context: Context) -> Scores:
    """`lerp`, with the scores of each side counted in their standard deviations over the collection."""
    picture, words = (1 - w) / context.image.deviation, w / context.text.deviation
    return lerp(s_v, s_t, words / (picture + words), context)


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
    return (1 - w) * _normal_cdf(context.image.z(s_v)) + w * _normal_cdf(context.text.z(s_t))


def centred_and(s_v: Scores, s_t: Scores, w: float, context: Context) -> Scores:
    """The product of centred scores, scaled so that a poor match is 0 (steps 1 and 5 of BASIC, arXiv 2510.25387)."""
    if context.low_image >= 0 or context.low_text >= 0:  # a single picture, or all equal
        return lerp(s_v, s_t, w, context)
    return product(_above(s_v, context.low_image), _above(s_t, context.low_text), w, context)


def basic_style(s_v: Scores, s_t: Scores, w: float, context: Context) -> Scores:
    """`centred_and`, less HARRIS (s_v + s_t)^2: a match of one side alone loses (step 6 of BASIC).

    Weighed by 4 w (1-w), which is 1 in the middle, so that the ends are those of the product.
    """
    both = centred_and(s_v, s_t, w, context)
    if context.low_image >= 0 or context.low_text >= 0:
        return both
    either = _above(s_v, context.low_image) + _above(s_t, context.low_text)
    return np.asarray(both - HARRIS * 4 * w * (1 - w) * either**2, np.float32)


def _above(scores: Scores, low: float) -> Scores:
    """On a scale where a poor match is 0 and one at 0 is 1."""
    return np.asarray(np.maximum(0, (scores - np.float32(low)) / np.float32(-low)), np.float32)


def _normal_cdf(z: Scores) -> Scores:
    # Abramowitz & Stegun 7.1.26, absolute error below 1.5e-7; numpy has no erf.
    x = np.abs(z) / np.float32(np.sqrt(2))
    t = 1 / (1 + 0.3275911 * x)
    series = t * (0.254829592 + t * (-0.284496736 + t * (1.421413741 + t * (-1.453152027 + t * 1.061405429))))
    erf = np.sign(z) * (1 - series * np.exp(-x * x))
    return np.asarray(0.5 * (1 + erf), np.float32)


METHODS: dict[MethodName, Method] = {
    method.name: method
    for method in (
        Method(
            "restyle",
            0.5,
            "the same thing in another style (a sketch, a cartoon); other changes as with `scaled`",
            weicom,
            needs_background=True,
            without_copies=True,
            needs_scan=True,
        ),
        Method(
            "scaled",
            0.7,
            "`lerp`, with the scores of each side measured in standard deviations",
            scaled,
            needs_background=True,
            without_copies=True,
        ),
        Method("and", 0.5, "both must match: the product of centred, normalised scores", centred_and, is_centred=True),
        Method("lerp", 0.8, "a point between picture and words", lerp),
        Method("slerp", 0.8, "a point on the arc between picture and words", slerp),
        Method("add", 0.5, "the plain sum of the vectors; the picture dominates", lerp),
        Method("product", 0.5, "the product of the raw scores", product),
        Method(
            "weicom",
            0.3,
            "the weighted sum of ranks on a normal scale",
            weicom,
            needs_background=True,
            needs_scan=True,
        ),
        Method(
            "basic",
            0.5,
            "the same object, changed: `and` without the picture's style, and with the words in many contexts",
            centred_and,
            is_centred=True,
            needs_background=True,
            needs_scan=True,
            is_projected=True,
        ),
        Method(
            "basic-style",
            0.5,
            "the same kind of thing in another style: `basic`, averaged with the picture's neighbours",
            basic_style,
            is_centred=True,
            needs_background=True,
            needs_scan=True,
            is_projected=True,
            is_expanded=True,
        ),
        Method("pdv", 0.75, "the picture, moved from the words of --from to those of --to", lerp, needs_origin=True),
        Method("gated", 0.5, "a point between picture and words that learned weights decide", lerp),
        Method("pic2word", 0.5, "the picture as a word: the text `a photo of $, WORDS`", lerp),
        Method("searle", 0.5, "the picture as a word: the text `a photo of $ that WORDS`", lerp),
        Method("lincir", 0.5, "the picture as a word, learned from texts alone: `a photo of $ that WORDS`", lerp),
        Method("raw-sum", 0.5, "the sum of the vectors as the model gives them: what BGE-VL was trained for", lerp),
    )
}


def method_named(asked: str) -> Method:
    """The method of `NAME`, or of `NAME:FILE` with a file of weights. Raises UsageError with the names there are."""
    name, colon, _ = asked.partition(":")
    method = METHODS.get(cast("MethodName", name))
    if method is None or (colon and not method.is_learned):
        complaint = f"--compose {name} has no weights" if method else f"no composition method {asked!r}"
        raise UsageError(complaint, hint=f"one of: {', '.join(METHODS)}")
    return method


def file_named(asked: str) -> str:
    """FILE of `NAME:FILE`; empty without one."""
    return asked.partition(":")[2]
