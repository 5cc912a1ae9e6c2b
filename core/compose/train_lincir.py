"""The weights of `lincir` for a model, from texts alone: `models.inversion` with its state in the user's cache."""

from __future__ import annotations

import contextlib
import hashlib
import os
import threading
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from imgsearch.core.errors import UsageError
from imgsearch.core.light_dataclass import dataclass
from imgsearch.core.models.pseudo_word import PLACEHOLDER
from imgsearch.core.places import cache_folder
from imgsearch.core.search.composition import METHODS

from .captions import MIN_TEXTS, masked
from .changed_photos import FOLDER

if TYPE_CHECKING:
    from imgsearch.core.models.embedding import OpenClipEmbedder
    from imgsearch.core.models.inversion import Learned

VERSION = "1"
"""Of the way to train."""


@dataclass(frozen=True, slots=True)
class TrainedLincir:
    metadata: dict[str, str]
    learned: Learned


class LincirTraining:
    """A training with these texts, made or continued. Raises UsageError for too few texts, and ModelError."""

    def __init__(self, embedder: OpenClipEmbedder, texts: Sequence[str], *, seed: int, rounds: int) -> None:
        from imgsearch.core.models import inversion

        examples = [inversion.Masked(text, masked(text)) for text in texts]
        usable = [each for each in examples if PLACEHOLDER in each.masked]
        if len(usable) < MIN_TEXTS:
            raise UsageError(
                f"training needs at least {MIN_TEXTS} English texts; there are {len(usable):,}",
                hint="give more with --captions FILE, one text per line",
            )
        self._identity = embedder.identity
        self._training = inversion.PhiTraining(embedder, usable, seed=seed, rounds=rounds)
        key = hashlib.sha256(repr((VERSION, seed, rounds, embedder.identity.fingerprint)).encode())
        for each in usable:
            key.update(each.text.encode("utf-8", "surrogatepass") + b"\0")
        self.path = os.path.join(cache_folder(), FOLDER, f"{key.hexdigest()[:32]}.pt")

    def run(self, on_round: Callable[[int, float], None], stop: threading.Event) -> TrainedLincir | None:
        """The weights. None if it was stopped; its state is kept then, as it is by a kill."""
        os.makedirs(os.path.dirname(self.path), mode=0o700, exist_ok=True)
        learned = self._training.run(self.path, on_round, stop)
        if learned is None:
            return None
        return TrainedLincir(
            {
                "method": "lincir",
                "model": self._identity.fingerprint,
                "dim": str(self._identity.dim),
                "weight": str(METHODS["lincir"].default_weight),
                "training_data": f"{learned.texts:,} texts",
                "version": VERSION,
                "licence": "",
                "is_default": "no",
                "measured": f"recall_at_1 {learned.recall_at_1:.3f} of {learned.held_out} held-out texts by their "
                f'pseudo-word; {learned.recall_of_something:.3f} by the word "something"',
            },
            learned,
        )

    def forget(self) -> None:
        """Delete the state, once the weights are written."""
        with contextlib.suppress(OSError):
            os.unlink(self.path)
