"""The word lists in this package."""

from __future__ import annotations

import contextlib
import functools
import os
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from imgsearch.core.late import LateModule

if TYPE_CHECKING:
    import numpy as np

    from imgsearch.core.types import Embedder, SpaceIdentity, Vectors
else:
    np = LateModule("numpy")


def neutral_phrases() -> Sequence[str]:
    """Texts about ordinary things and scenes. The mean of their vectors represents any text."""
    return word_list("phrases")


def neutral_vectors(identity: SpaceIdentity, load: Callable[[], Embedder]) -> Vectors:
    """The neutral phrases in the space of a model: float32 (n, dim), unit length. Those of the built-in model ship with
    it; any other model is loaded to embed them."""
    phrases = neutral_phrases()
    with contextlib.suppress(OSError, ValueError, EOFError):
        vectors = np.load(shipped_vectors(identity.fingerprint, phrases), allow_pickle=False).astype(np.float32)
        if vectors.shape == (len(phrases), identity.dim) and np.isfinite(vectors).all():
            unit: Vectors = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
            return unit
    return load().embed_texts(phrases)


def shipped_vectors(fingerprint: str, texts: Sequence[str]) -> str:
    """The file with the vectors of these texts, made by bench/export_builtin.py. Its name depends on the model and the
    texts, so that the vectors of others are never used."""
    import hashlib

    digest = hashlib.sha256("\n".join((fingerprint, *texts)).encode()).hexdigest()
    return os.path.join(os.path.dirname(__file__), "builtin_model", f"phrases-{digest[:16]}.npy")


@functools.cache
def word_list(name: str) -> Sequence[str]:
    """The lines of a list: `phrases`, `subjects` or `styles`."""
    from importlib import resources

    return tuple(resources.files(__package__).joinpath(f"{name}.txt").read_text(encoding="utf-8").split("\n")[:-1])
