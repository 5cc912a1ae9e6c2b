"""Weights of `gated` from the captions of photos, and what they find on photos that they were not trained on."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np  # noqa: TID253

from imgsearch.core.compose.caption_triplets import triplets
from imgsearch.core.compose.gated import opening
from imgsearch.core.compose.train_gated import SAME, Gate, Triplets, fit, reciprocal_rank
from imgsearch.core.errors import UsageError
from imgsearch.core.search.composition import METHODS

from .gallery import PhotoNames
from .metrics import Interval, paired_bootstrap

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from imgsearch.core.compose.train_restyle import Embed
    from imgsearch.core.search.choices import LearnedName
    from imgsearch.core.store.store import Store, View
    from imgsearch.core.types import SpaceIdentity, Vectors

    from .loaders import Benchmark

METHOD: LearnedName = "gated"
BASELINE = "lerp"
WEIGHTS = tuple(round(0.1 * step, 1) for step in range(1, 10))
PARTS = 10
"""The photos are dealt in turn to this many parts: two for the report, two to decide when the training stops."""
REPORTED, STOPPING = (4, 9), (2, 7)
MIN_TRIPLETS = 100
MAX_PHOTOS = 10_000
"""The words of all captions are compared with each other, in 0.4 GB for that many photos."""
SEED = 0
VERSION = "1"
"""Of the way to train."""


@dataclass(frozen=True, slots=True)
class Figures:
    """How often one way to search finds the wanted photo, as fractions of 1."""

    recall_at_1: float
    recall_at_10: float
    reciprocal_rank: float
    minus_lerp: Interval
    """The reciprocal rank less that of `lerp`."""
    weight: float | None = None


@dataclass(frozen=True, slots=True)
class Trained:
    metadata: Mapping[str, str]
    tensors: Mapping[str, NDArray[np.generic]]
    triplets: int
    """Those trained with."""
    photos: int
    queries: int
    """Photos held out for the report, and its queries."""
    by_method: Mapping[str, Figures]

    @property
    def wins(self) -> bool:
        """Whether `gated` is better than `lerp` at its best weight."""
        return self.by_method[METHOD].minus_lerp.low > 0


def captioned(store: Store, view: View, benchmark: Benchmark) -> tuple[Vectors, list[tuple[str, ...]]]:
    """The vectors of the photos that have captions, float32 (photos, dim), and their captions. Raises UsageError if
    there are none."""
    names = PhotoNames.of(store, view, None)
    slots, texts = [], []
    for name, some in benchmark.captions.items():
        found = filter(None, (names.path_of(each) for each in benchmark.aliases.get(name, (name,))))
        path = next(found, None)
        if path is not None:
            slots.append(names.places[path].main_slot)
            texts.append(some)
    if not slots:
        raise UsageError(
            "none of the captions is of a photo in the index", hint="index the photos first: imgsearch index FOLDER"
        )
    store.verify_checksums(view, slots)
    return np.array(view.rows[slots]), texts


def train(
    pictures: Vectors,
    captions: Sequence[Sequence[str]],
    embed: Embed,
    identity: SpaceIdentity,
    *,
    training_data: str = "",
    on_epoch: Callable[[], object] = lambda: None,
) -> Trained:
    """Weights from photos (unit vectors, float32 (photos, dim)) and the captions of each. Raises UsageError if they
    give too few triplets.

    A fifth of the photos is held out for the report, and used again for the weights that are written; another fifth
    decides when the training stops. At most MAX_PHOTOS are used, evenly spread.
    """
    if len(pictures) > MAX_PHOTOS:
        spread = np.arange(MAX_PHOTOS) * len(pictures) // MAX_PHOTOS
        pictures, captions = pictures[spread], [captions[number] for number in spread.tolist()]
    part = np.arange(len(pictures)) % PARTS
    reported = np.isin(part, REPORTED)
    stopping = np.isin(part, STOPPING)

    def cut(chosen: NDArray[np.bool_]) -> Triplets:
        numbers = np.flatnonzero(chosen)
        found = triplets([captions[number] for number in numbers.tolist()])
        if len(found) < MIN_TRIPLETS // PARTS:
            raise UsageError(
                f"the captions give {len(found)} changes for a fifth of the photos, which is too few to train with",
                hint="give captions of more photos, several for each",
            )
        rows = pictures[numbers]
        return Triplets(
            rows[[each.reference for each in found]],
            embed([each.change for each in found]),
            rows[[each.target for each in found]],
        )

    deciding = cut(stopping)
    given = cut(~reported & ~stopping)
    gates = [fit(given, deciding, gates=count, on_epoch=lambda *_: on_epoch()) for count in (1, identity.dim)]
    best = max(gates, key=lambda gate: reciprocal_rank(gate, deciding))
    by_method, queries = _report(best, pictures[reported], cut(reported))
    every = cut(~stopping)
    last = fit(every, deciding, gates=len(best.bias), on_epoch=lambda *_: on_epoch())
    better = by_method[METHOD].minus_lerp
    metadata = {
        "method": METHOD,
        "model": identity.fingerprint,
        "dim": str(identity.dim),
        "weight": "0.5",
        "version": VERSION,
        "training_data": training_data or f"the captions of {len(pictures):,} photos",
        "measured": (
            f"reciprocal rank {by_method[METHOD].reciprocal_rank:.3f} on {int(reported.sum())} held-out photos; minus "
            f"{BASELINE} at its best weight {better.mean:+.3f} ({better.low:+.3f} to {better.high:+.3f})"
        ),
        **({} if better.low > 0 else {"is_default": "no"}),
    }
    return Trained(
        metadata,
        {"gate.weights": last.weights, "gate.bias": last.bias},
        triplets=len(every.pictures),
        photos=int(reported.sum()),
        queries=queries,
        by_method=by_method,
    )


def _report(gate: Gate, gallery: Vectors, asked: Triplets) -> tuple[dict[str, Figures], int]:
    """Each query's wanted photo among all held-out photos but the one asked with."""
    by_picture, by_words = asked.pictures @ gallery.T, asked.words @ gallery.T
    own = by_picture > SAME
    wanted = (asked.wanted @ gallery.T).argmax(axis=1)

    def ranks(scores: Vectors) -> NDArray[np.float64]:
        scores = np.where(own, -np.inf, scores)
        better = scores > scores[np.arange(len(scores)), wanted][:, None]
        return np.asarray(1 + better.sum(axis=1), np.float64)

    share = opening(gate.weights, gate.bias, asked.pictures, asked.words)
    swept = {weight: ranks((1 - weight) * by_picture + weight * by_words) for weight in WEIGHTS}
    best = max(WEIGHTS, key=lambda weight: float((1 / swept[weight]).mean()))
    found = {
        METHOD: (
            ranks((share * asked.pictures + (1 - share) * asked.words) @ gallery.T),
            METHODS[METHOD].default_weight,
        ),
        BASELINE: (swept[best], best),
        "words only": (ranks(by_words), None),
        "picture only": (ranks(by_picture), None),
    }
    return {
        name: Figures(
            recall_at_1=float((rank <= 1).mean()),
            recall_at_10=float((rank <= 10).mean()),
            reciprocal_rank=float((1 / rank).mean()),
            minus_lerp=paired_bootstrap(1 / rank - 1 / swept[best], SEED),
            weight=weight,
        )
        for name, (rank, weight) in found.items()
    }, len(asked.pictures)
