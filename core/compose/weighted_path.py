"""The path of a learned query vector: from the picture, through what a method makes of both, to the words."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np  # noqa: TID253

from imgsearch.core.search.encoding import unit

if TYPE_CHECKING:
    from imgsearch.core.search.composition import Change
    from imgsearch.core.types import Vectors


def along_path(change: Change, composed: Vectors) -> Vectors:
    """The unit vector at the weight of the words: `composed` at 0.5. Near 0 it is nearly the picture, near 1 the words,
    so that the ends agree with the plain searches."""
    w = change.weight
    start, end = (change.picture, composed) if w < 0.5 else (composed, change.words)
    share = np.float32(2 * w if w < 0.5 else 2 * w - 1)
    return unit((1 - share) * start + share * end)
