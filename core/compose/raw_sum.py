"""`raw-sum`: the sum of a picture and words as the model gives them, before they are made unit length.

BGE-VL was trained for this sum (Zhou et al. 2024, arXiv 2412.14475): the length of a vector says how much it counts.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np  # noqa: TID253

from imgsearch.core.errors import ModelError, QueryError
from imgsearch.core.paths import printable
from imgsearch.core.search.choices import RAW_SUM, MethodName
from imgsearch.core.search.composition import METHODS
from imgsearch.core.search.encoding import unit

if TYPE_CHECKING:
    from imgsearch.core.search.composition import Change
    from imgsearch.core.types import Vectors


class RawSum:
    """The composer. It has no weights, and works with any model."""

    name: MethodName = RAW_SUM
    default_weight = METHODS[RAW_SUM].default_weight
    other_weight = None

    def directions(self, change: Change) -> tuple[Vectors]:
        """n((1-w) V + w T), for raw vectors V of the picture and T of the words. Raises ModelError, QueryError."""
        embedder = change.embedder()
        try:
            words, picture = embedder.raw_texts([change.text])[0], change.raw_picture()
        except ModelError as error:
            reason = f"--compose {self.name} does not work with {printable(embedder.identity.name)}: {error}"
            raise ModelError(reason, hint=error.hint) from error
        total = (1 - change.weight) * picture.astype(np.float64) + change.weight * words
        if not np.linalg.norm(total) > 1e-6 * np.linalg.norm(words):
            raise QueryError("the picture and the words cancel each other out", hint="use another --weight")
        return (unit(total),)
