"""A vector in place of a word: what `embed_with` of every embedder checks, so that all refuse with the same words."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np  # noqa: TID253

from imgsearch.core.errors import ModelError

if TYPE_CHECKING:
    from imgsearch.core.types import Vectors

PLACEHOLDER = "$"
"""The word whose embedding is replaced. CLIP's tokenizer has one token for it."""
HINT = "use another method: imgsearch composers lists them"


def not_causal() -> ModelError:
    return ModelError("its text tower is not a causal one of CLIP", hint=HINT)


def place_of_placeholder(tokens: Sequence[int], alone: Sequence[int], end: int) -> int:
    """The position of the first placeholder in the tokens of a text. `alone`: the tokens of a placeholder, the start
    token first. `end`: the end token."""
    if alone[1] == end or alone[1] not in tokens:
        raise ModelError(f"its tokenizer leaves out {PLACEHOLDER}", hint=HINT)
    return list(tokens).index(alone[1])


def check_width(given: int, needed: int) -> None:
    if given != needed:
        raise ModelError(f"its tokens have {needed} dimensions, and the pseudo-word has {given}", hint=HINT)


def unit_or_error(vector: Vectors) -> Vectors:
    """The vector at unit length. What is not finite is the fault of the pseudo-word, not of the model."""
    norm = float(np.linalg.norm(vector))
    if not 1e-9 < norm < np.inf:
        raise ModelError("the text has no valid vector with the pseudo-word", hint=HINT)
    return np.asarray(vector / np.float32(norm), np.float32)
