"""`pic2word`, `searle`, `lincir`: the picture as a word in a sentence, whose vector is the query.

A small network, phi, turns the picture's vector into the vector of a token, which the text tower reads in "a photo of
$". The three are the same at query time but for the network's activation and the sentence; they differ in how phi is
trained. Sources: Saito et al. 2023, https://arxiv.org/abs/2302.03084 (Pic2Word); Baldrati et al. 2023,
https://arxiv.org/abs/2303.15247 (SEARLE); Gu et al. 2024, https://arxiv.org/abs/2312.01998 (LinCIR).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import numpy as np  # noqa: TID253

from imgsearch.core.errors import ModelError
from imgsearch.core.models.text_tower import gelu
from imgsearch.core.paths import printable

from .composer_file import HINT, ComposerFile, Shapes
from .weighted_path import along_path

if TYPE_CHECKING:
    from imgsearch.core.search.choices import PseudoWordName
    from imgsearch.core.search.composition import Change
    from imgsearch.core.types import Vectors

LAYERS = 3
SHAPES = Shapes(
    {
        "layers.0.weight": ("first", "dim"),
        "layers.0.bias": ("first",),
        "layers.1.weight": ("second", "first"),
        "layers.1.bias": ("second",),
        "layers.2.weight": ("token", "second"),
        "layers.2.bias": ("token",),
        "feature_norm": ("one",),
    },
    optional=frozenset({"feature_norm"}),
)
"""`feature_norm`: the length that pictures had when phi was trained, if that is not 1."""


class PseudoWord:
    """The composer. Its classes below are the three methods."""

    name: PseudoWordName
    shapes: ClassVar = SHAPES
    sentence: ClassVar[str]
    """With `$` for the picture. The change is put at the end; the space before a comma keeps the `$` one token."""

    def __init__(self, file: ComposerFile) -> None:
        """Raises ModelError for tensors that do not fit together."""
        self.default_weight, self.other_weight = file.weight, file.other_weight
        self._layers = [
            (file.tensors[f"layers.{layer}.weight"], file.tensors[f"layers.{layer}.bias"]) for layer in range(LAYERS)
        ]
        norm = file.tensors.get("feature_norm", np.ones(1, np.float32))
        if len(norm) != 1 or norm[0] <= 0:
            raise ModelError(f"{printable(file.path)} has no valid feature_norm", hint=HINT)
        self._norm = norm[0]

    def directions(self, change: Change) -> tuple[Vectors]:
        """The vector of the sentence; of a point between it and the picture, or the words, for other weights than
        0.5. Raises ModelError for a model whose text tower takes no such word."""
        embedder = change.embedder()
        try:
            sentence = embedder.embed_with(f"{self.sentence} {change.text}", self.word(change.picture))
        except ModelError as error:
            reason = f"--compose {self.name} does not work with {printable(embedder.identity.name)}: {error}"
            raise ModelError(reason, hint=error.hint) from error
        return (along_path(change, sentence),)

    def word(self, picture: Vectors) -> Vectors:
        """phi: the vector of a token that stands for the picture, float32 (width,)."""
        x = picture * self._norm
        with np.errstate(over="ignore"):  # a power of e in gelu, which is then 0
            for number, (weights, bias) in enumerate(self._layers, 1):
                x = weights @ x + bias
                if number < LAYERS:
                    x = self.activated(x)
        return np.asarray(x, np.float32)

    @staticmethod
    def activated(x: Vectors) -> Vectors:
        """What is between two layers."""
        return gelu(x)


class Pic2Word(PseudoWord):
    name: PseudoWordName = "pic2word"
    sentence = "a photo of $ ,"

    @staticmethod
    def activated(x: Vectors) -> Vectors:
        return np.maximum(x, 0)


class Searle(PseudoWord):
    name: PseudoWordName = "searle"
    sentence = "a photo of $ that"


class Lincir(PseudoWord):
    name: PseudoWordName = "lincir"
    sentence = "a photo of $ that"
