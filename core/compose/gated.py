"""`gated`: a point between the picture and the words, whose place a learned gate decides.

h = a v + (1 - a) t with a = sigmoid(W [v; t] + b): one number for each query, or one for each dimension. Source: the
gated fusion of Arevalo et al. 2017, https://arxiv.org/abs/1702.01992, on the vectors of a dual encoder.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import numpy as np  # noqa: TID253

from imgsearch.core.errors import ModelError
from imgsearch.core.paths import printable
from imgsearch.core.search.encoding import unit

from .composer_file import HINT, ComposerFile, Shapes
from .weighted_path import along_path

if TYPE_CHECKING:
    from imgsearch.core.search.choices import LearnedName
    from imgsearch.core.search.composition import Change
    from imgsearch.core.types import Vectors

SHAPES = Shapes({"gate.weights": ("gates", "both"), "gate.bias": ("gates",)})
"""`gates`: 1, or the dimension; `both`: twice the dimension."""


class Gated:
    """The composer."""

    name: LearnedName = "gated"
    shapes: ClassVar = SHAPES

    def __init__(self, file: ComposerFile) -> None:
        """Raises ModelError for tensors that do not fit together."""
        self.default_weight, self.other_weight = file.weight, file.other_weight
        self._weights, self._bias = file.tensors["gate.weights"], file.tensors["gate.bias"]
        gates, both = self._weights.shape
        if gates not in (1, file.dim) or both != 2 * file.dim:
            raise ModelError(f"{printable(file.path)} has a gate of {gates} x {both} numbers", hint=HINT)

    def directions(self, change: Change) -> tuple[Vectors]:
        """The point that the gate decides, at weight 0.5. Other weights: on the way to the picture or the words."""
        share = opening(self._weights, self._bias, change.picture, change.words)
        return (along_path(change, unit(share * change.picture + (1 - share) * change.words)),)


def opening(weights: Vectors, bias: Vectors, pictures: Vectors, words: Vectors) -> Vectors:
    """The picture's share: float32 (..., gates), between 0 and 1."""
    logits = np.concatenate([pictures, words], axis=-1) @ weights.T + bias
    return np.asarray(0.5 * (1 + np.tanh(0.5 * logits)), np.float32)  # the logistic function, which cannot overflow so
