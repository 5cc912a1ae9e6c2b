"""`restyle`: the subject of the picture, in the style that the words name.

Two sides are scored. The first is what the picture shows, whatever its style: the picture with its style taken out by a
linear map, and the words that this is nearest to. The second is the direction in which a style moves pictures, learned
from photos and the same photos changed (as a sketch, a cartoon, at night ...). A gate recognises words that name a
style. docs/composition.md has the formula.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np  # noqa: TID253

from imgsearch.core.errors import ModelError
from imgsearch.core.paths import printable
from imgsearch.core.search.encoding import unit

from .composer_file import HINT, MAX_BYTES, ComposerFile, Shapes

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from imgsearch.core.search.choices import LearnedName
    from imgsearch.core.search.composition import Change
    from imgsearch.core.types import Vectors

# How sharply the nearest subject words and style phrases are preferred.
WORD_SHARPNESS = 40
PHRASE_SHARPNESS = 25

SHAPES = Shapes(
    {
        "plain.matrix": ("dim", "dim"),
        "plain.mean": ("dim",),
        "styles": ("styles", "dim"),
        "phrases": ("phrases", "dim"),
        "phrase_style": ("phrases",),
        "gate.weights": ("dim",),
        "gate.bias": ("one",),
        "subjects": ("words", "rank"),
        "subjects.basis": ("rank", "dim"),
    },
    optional=frozenset({"subjects.basis"}),  # without it, `subjects` has vectors as they are: its rank is the dimension
)

# For `compact`: a step in standard deviations of a row, and the rank that subject words are reduced to. Together they
# change the mAP on PACS by less than .003.
STEP = 0.4
RANK = 64


class Restyle:
    """The composer. Only the directions of its matrix, its words, phrases and styles count, not their lengths."""

    name: LearnedName = "restyle"
    shapes: ClassVar = SHAPES

    def __init__(self, file: ComposerFile) -> None:
        """Raises ModelError for tensors that do not fit together."""
        tensors, path = file.tensors, printable(file.path)
        self.default_weight, self.other_weight = file.weight, file.other_weight
        self._matrix, self._mean = tensors["plain.matrix"], tensors["plain.mean"]
        subjects, basis = tensors["subjects"], tensors.get("subjects.basis")
        of, known = tensors["phrase_style"], len(tensors["styles"])
        rank = file.dim if basis is None else len(basis)
        if subjects.shape[1] != rank or len(tensors["gate.bias"]) != 1:
            raise ModelError(f"{path} has tensors of shapes that do not fit together", hint=HINT)
        if len(subjects) * file.dim > MAX_BYTES:
            raise ModelError(f"{path} has too many subject words: {len(subjects):,}", hint=HINT)
        if not ((of >= 0) & (of < known) & (of == np.floor(of))).all():
            raise ModelError(f"{path} has phrases of styles that are not in it", hint=HINT)
        self._subjects = subjects if basis is None else subjects @ basis
        self._directions = rows_of_unit_length(self._subjects)
        self._phrases = rows_of_unit_length(tensors["phrases"])
        self._style_of = of.astype(np.intp)
        self._styles = rows_of_unit_length(tensors["styles"])
        self._gate, self._bias = tensors["gate.weights"], float(tensors["gate.bias"][0])

    def directions(self, change: Change) -> tuple[Vectors, Vectors] | None:
        """The subject and the style; None if the words name no style."""
        words = change.words
        if float(words @ self._gate) + self._bias <= 0:
            return None
        plain = unit(np.asarray((change.picture - self._mean) @ self._matrix, np.float32))
        named = unit(_mixed(WORD_SHARPNESS * (self._directions @ plain), self._subjects))
        style = _mixed(PHRASE_SHARPNESS * (self._phrases @ words), self._styles[self._style_of])
        return unit(plain + named), unit(style)


def rows_of_unit_length(rows: NDArray[np.floating[Any]]) -> NDArray[Any]:
    """In the precision of `rows`."""
    scaled: NDArray[Any] = rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-9)
    return scaled


def _mixed(preferences: Vectors, rows: Vectors) -> Vectors:
    """The mean of the rows, weighted by the softmax of the preferences."""
    powers = np.exp(preferences - preferences.max())
    return np.asarray(powers / powers.sum() @ rows, np.float32)


def compact(tensors: Mapping[str, Vectors]) -> dict[str, NDArray[np.generic]]:
    """The same weights in a sixth of the bytes, for a package: one byte per value, which counts steps."""
    left, sizes, right = np.linalg.svd(tensors["subjects"], full_matrices=False)
    reduced = {"subjects": left[:, :RANK] * sizes[:RANK], "subjects.basis": right[:RANK]}
    small: dict[str, NDArray[np.generic]] = {}
    for name in SHAPES.of:
        values = reduced.get(name, tensors.get(name))
        assert values is not None
        if name in ("plain.matrix", "subjects", "subjects.basis"):  # their rows have lengths that count
            small[name] = _steps(values)
        elif name in ("styles", "phrases"):
            small[name] = np.stack([_steps(row) for row in values])
        else:
            small[name] = values.astype("<f2")
    return small


def _steps(values: Vectors) -> NDArray[np.int8]:
    step = max(STEP * float(np.sqrt(np.mean(values.astype(np.float64) ** 2))), float(np.abs(values).max()) / 127, 1e-9)
    return np.round(values / step).astype(np.int8)
