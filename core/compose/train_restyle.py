"""The weights of `restyle`, from photos and their changes. Closed form, but for the gate: some Newton steps.

x is a photo, c a change of it, both unit vectors. The matrix and the mean take the style out of a picture: a ridge
regression from changes to their photos, in which each style counts the same. A style's direction is the mean of c - x,
less the mean over all styles. The gate is a logistic regression on texts: phrases of styles against phrases of things.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np  # noqa: TID253

from imgsearch.core.models.phrases import neutral_phrases, word_list

from .changed_photos import ChangedPhotos
from .restyle import rows_of_unit_length
from .styles import STYLES

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from imgsearch.core.types import Vectors

    Floats = NDArray[np.float64]

Embed = Callable[[Sequence[str]], "Vectors"]
Phrases = Mapping[str, Sequence[str]]
"""Those of each style, by its name."""

# Of the ridge regression, in mean eigenvalues of what it inverts.
RIDGE = 0.03
# Of the gate: the share of the texts that name a style in its loss. A text taken for a style by mistake is the worse of
# the two errors: the other words in it are lost.
NAMED_SHARE = 0.4
# The weight of the squared length of its vector, and when its steps have converged.
DECAY = 1e-4
STEPS, CONVERGED = 50, 1e-9
SUBJECT_FORMS = ("{}", "a {}", "a photo of a {}")
# What people write for a change that is not a style. Each subject word is put into two of these.
CONTENT_FORMS = (
    "with a {}",
    "on a {}",
    "in the {}",
    "next to a {}",
    "holding a {}",
    "wearing a {}",
    "without the {}",
    "in front of a {}",
    "with more {}",
    "two of them with a {}",
    "a {} in the background",
    "at the {}",
    "a red {}",
    "a small {} on the left",
    "running through the {}",
    "looking at a {}",
    "sitting on a {}",
    "posing with a {}",
    "standing near the {}",
    "jumping over a {}",
    "playing with a {}",
    "a man and a {}",
    "a woman in a {}",
    "children with a {}",
    "covered with {}",
    "made of {}",
)
STYLE_FORMS = ("{}", "{}.", "the same {}", "this {}")


def all_phrases() -> Phrases:
    return {style.name: style.phrases for style in STYLES}


def fit(photos: ChangedPhotos, embed: Embed, phrases: Phrases) -> dict[str, Vectors]:
    """The tensors of `restyle.SHAPES`. A style without a change of any photo is left out."""
    known = [number for number, style in enumerate(STYLES) if style.change is None or (photos.style == number).any()]
    directions, mean, matrix = _pictures(photos, known)
    texts = [(place, phrase) for place, number in enumerate(known) for phrase in phrases[STYLES[number].name]]
    subjects = _subjects(embed)
    gate = fit_gate(*_gate_texts(embed, phrases))
    tensors = {
        "plain.matrix": matrix,
        "plain.mean": mean,
        "styles": directions,
        "phrases": embed([phrase for _, phrase in texts]),
        "phrase_style": np.array([place for place, _ in texts]),
        "gate.weights": gate[:-1],
        "gate.bias": gate[-1:],
        "subjects": subjects - subjects.mean(axis=0),
    }
    return {name: np.asarray(values, np.float32) for name, values in tensors.items()}


def _pictures(photos: ChangedPhotos, known: Sequence[int]) -> tuple[Floats, Floats, Floats]:
    """The directions of the styles, the mean picture over all of them, and the matrix that takes the style out."""
    plain, changed = photos.plain.astype(np.float64), photos.changed.astype(np.float64)
    moved = changed - plain[photos.photo]
    rows = [photos.style == number for number in known]
    shifts = np.stack([moved[mask].mean(axis=0) if mask.any() else np.zeros(plain.shape[1]) for mask in rows])
    directions = rows_of_unit_length(shifts - shifts.mean(axis=0))
    mean = plain.mean(axis=0) + shifts.mean(axis=0)
    weight = np.concatenate([np.full(len(plain), 1 / len(plain)), np.zeros(len(changed))])
    for mask in rows:
        if mask.any():
            weight[len(plain) :][mask] = 1 / mask.sum()
    seen = np.concatenate([plain, changed]) - mean
    wanted = np.concatenate([plain, plain[photos.photo]]) - plain.mean(axis=0)
    weighted = seen * (weight / len(known))[:, None]
    inner = weighted.T @ seen
    ridge = RIDGE * np.trace(inner) / len(inner)
    return directions, mean, np.linalg.solve(inner + ridge * np.eye(len(inner)), weighted.T @ wanted)


def _subjects(embed: Embed) -> Floats:
    words = word_list("subjects")
    sums = np.sum([embed([form.format(word) for word in words]) for form in SUBJECT_FORMS], axis=0)
    return rows_of_unit_length(sums).astype(np.float64)


def _gate_texts(embed: Embed, phrases: Phrases) -> tuple[Vectors, Vectors]:
    """Texts that name a style, and texts that do not."""
    named = [phrase for style in STYLES if style.names_style_only for phrase in phrases[style.name]]
    words = word_list("subjects")
    forms = [CONTENT_FORMS[(2 * at + more) % len(CONTENT_FORMS)] for at in range(len(words)) for more in (0, 1)]
    content = [form.format(words[at // 2]) for at, form in enumerate(forms)]
    content += [*words, *(f"a {word}" for word in words), *neutral_phrases()]
    return embed([form.format(phrase) for phrase in named for form in STYLE_FORMS]), embed(content)


def fit_gate(yes: Vectors, no: Vectors) -> Floats:
    """Logistic regression: the weights of the dimensions, and last the bias."""
    x = np.concatenate([yes, no]).astype(np.float64)
    x = np.concatenate([x, np.ones((len(x), 1))], axis=1)
    sign = np.concatenate([np.ones(len(yes)), -np.ones(len(no))])
    share = np.repeat([NAMED_SHARE / len(yes), (1 - NAMED_SHARE) / len(no)], [len(yes), len(no)])
    decay = np.full(x.shape[1], 2 * DECAY)
    decay[-1] = 0

    def loss(weights: Floats) -> float:
        return float(share @ np.logaddexp(0, -sign * (x @ weights)) + 0.5 * decay @ weights**2)

    weights = np.zeros(x.shape[1])
    at = loss(weights)
    for _ in range(STEPS):
        likely = 0.5 * (1 + np.tanh(0.5 * (x @ weights)))  # the logistic function, which cannot overflow so
        slope = x.T @ (share * (likely - (sign > 0))) + decay * weights
        curve = (x * (share * likely * (1 - likely))[:, None]).T @ x + np.diag(decay + 1e-12)
        step = np.linalg.solve(curve, slope)
        length = 1.0
        while (reached := loss(weights - length * step)) > at and length > 1e-6:
            length /= 2
        weights = weights - length * step
        if at - reached < CONVERGED:
            break
        at = reached
    return weights
