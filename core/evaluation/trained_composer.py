"""Weights of `restyle`, and what they find on photos and phrasings that they were not trained on."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np  # noqa: TID253

from imgsearch.core.compose.changed_photos import CHANGES, SEED, ChangedPhotos
from imgsearch.core.compose.composer_file import write
from imgsearch.core.compose.composers import composer_for
from imgsearch.core.compose.restyle import Restyle, compact
from imgsearch.core.compose.styles import PLAIN, STYLES
from imgsearch.core.compose.train_restyle import Embed, Phrases, all_phrases, fit
from imgsearch.core.search.composition import METHODS, Change, Composer, Context, Spread

from .metrics import Interval, paired_bootstrap

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from imgsearch.core.types import Embedder, SpaceIdentity, Vectors


HELD_OUT = 5
"""Every fifth photo, and every third phrase of a style."""
HELD_OUT_PHRASE = 3
WEIGHTS = tuple(round(0.1 * step, 1) for step in range(1, 10))
BASELINE = "lerp"
MOST_ALIKE = 10
"""Photos that show about the same: at most this many, and at most a twentieth of all."""
_PLAIN_NUMBER = next(number for number, style in enumerate(STYLES) if style.name == PLAIN)
VERSION = "1"
"""Of the way to train."""


@dataclass(frozen=True, slots=True)
class Figures:
    """How well one way to search finds the wanted pictures, as fractions of 1."""

    recall_at_1: float
    recall_at_10: float
    map: float
    minus_lerp: Interval
    """The mAP less that of `lerp`, over photos."""
    weight: float | None = None


@dataclass(frozen=True, slots=True)
class Report:
    photos: int
    pictures: int
    queries: int
    declined: float
    """The share of queries that the gate does not take for a style. `lerp` answers them."""
    by_method: Mapping[str, Figures]

    @property
    def wins(self) -> bool:
        """Whether `restyle` is better than `lerp` at its best weight."""
        return self.by_method["restyle"].minus_lerp.low > 0


def split(photos: ChangedPhotos) -> tuple[ChangedPhotos, ChangedPhotos]:
    """The photos to train with, and those held out."""
    numbers = np.arange(len(photos.plain))
    is_held_out = numbers % HELD_OUT == HELD_OUT - 1
    return photos.of(numbers[~is_held_out]), photos.of(numbers[is_held_out])


def split_phrases(phrases: Phrases) -> tuple[dict[str, Sequence[str]], dict[str, Sequence[str]]]:
    """The phrases to train with, and those held out, by style."""
    last = HELD_OUT_PHRASE - 1
    kept: dict[str, Sequence[str]] = {
        name: [p for at, p in enumerate(some) if at % HELD_OUT_PHRASE != last] for name, some in phrases.items()
    }
    return kept, {name: some[last::HELD_OUT_PHRASE] for name, some in phrases.items()}


def measure(composer: Composer, photos: ChangedPhotos, phrases: Phrases, embed: Embed) -> Report:
    """Ask by a picture and a phrase for a style. Wanted are the pictures in that style of the same photo and of the
    photos most like it, among all photos and changes but the picture asked with.

    Each photo asks for its changes, each change for another one, and one change of each photo for photos. `lerp` has
    the weight that is best on these very queries, and also answers the phrases that the gate declines.
    """
    task = _task(photos, phrases)
    known = sorted(set(task.texts))
    vectors = dict(zip(known, embed(known), strict=True))
    words, asked = np.stack([vectors[text] for text in task.texts]), task.pictures[task.asked]
    by_picture, by_words = asked @ task.pictures.T, words @ task.pictures.T
    swept = {weight: _found(task, _lerp(by_picture, by_words, weight)) for weight in WEIGHTS}
    best = max(WEIGHTS, key=lambda weight: float(swept[weight].precision.mean()))
    scores, declined = _lerp(by_picture, by_words, best), 0
    for query, (picture, text) in enumerate(zip(asked, words, strict=True)):
        change = Change(picture, text, task.texts[query], composer.default_weight, _no_embedder)
        directions = composer.directions(change)
        if directions is None:
            declined += 1
        else:
            scores[query] = _by_sides(composer, *(task.pictures @ direction for direction in directions))
    found = {
        Restyle.name: (_found(task, scores), composer.default_weight),
        BASELINE: (swept[best], best),
        "words only": (_found(task, by_words), None),
        "picture only": (_found(task, by_picture), None),
    }
    return Report(
        photos=len(photos.plain),
        pictures=len(task.pictures),
        queries=len(words),
        declined=declined / len(words),
        by_method={
            name: Figures(
                recall_at_1=float((each.first <= 1).mean()),
                recall_at_10=float((each.first <= 10).mean()),
                map=float(each.precision.mean()),
                minus_lerp=paired_bootstrap(each.precision - swept[best].precision, SEED, groups=task.owner.tolist()),
                weight=weight,
            )
            for name, (each, weight) in found.items()
        },
    )


@dataclass(frozen=True, slots=True)
class _Task:
    pictures: Vectors
    """The photos, then their changes."""
    asked: NDArray[np.intp]
    """The picture of each query."""
    owner: NDArray[np.intp]
    """The photo that this is, or is made from."""
    texts: Sequence[str]
    wanted: NDArray[np.bool_]
    """(queries, pictures)"""


def _task(photos: ChangedPhotos, phrases: Phrases) -> _Task:
    count = len(photos.plain)
    changes = count + np.arange(len(photos.changed))
    next_style = np.roll(photos.style.reshape(count, CHANGES), -1, axis=1).ravel()
    asked = np.concatenate([photos.photo, changes, changes[::CHANGES]])
    style = np.concatenate([photos.style, next_style, np.full(count, _PLAIN_NUMBER)])
    owner = np.concatenate([photos.photo, photos.photo, np.arange(count)])
    likeness = photos.plain @ photos.plain.T
    np.fill_diagonal(likeness, np.inf)
    nearest = np.argsort(-likeness, axis=1, kind="stable")[:, : 1 + min(MOST_ALIKE, max(1, count // 20))]
    is_alike = np.zeros((count, count), bool)
    np.put_along_axis(is_alike, nearest, values=True, axis=1)
    photo_of = np.concatenate([np.arange(count), photos.photo])
    style_of = np.concatenate([np.full(count, _PLAIN_NUMBER), photos.style])
    wanted = is_alike[owner][:, photo_of] & (style[:, None] == style_of)
    wanted[np.arange(len(asked)), asked] = False
    names = [STYLES[number].name for number in style]
    texts = [phrases[name][at % len(phrases[name])] for at, name in enumerate(names)]
    return _Task(np.concatenate([photos.plain, photos.changed]), asked, owner, texts, wanted)


def _lerp(by_picture: Vectors, by_words: Vectors, weight: float) -> Vectors:
    """The order is that of `composition.lerp`, which divides all scores of a query by the same number."""
    return np.asarray((1 - weight) * by_picture + weight * by_words, np.float32)


def _no_embedder() -> Embedder:
    raise AssertionError("this composer needs the vectors only")


def _by_sides(composer: Composer, first: Vectors, second: Vectors) -> Vectors:
    context = Context(cosine=0.0, image=Spread.over(first), text=Spread.over(second))
    return METHODS[composer.name].combine(first, second, composer.default_weight, context)


@dataclass(frozen=True, slots=True)
class _Found:
    precision: NDArray[np.float64]
    """The average precision of each query."""
    first: NDArray[np.intp]
    """The rank of the first wanted picture."""


def _found(task: _Task, scores: Vectors) -> _Found:
    scores = scores.copy()
    np.put_along_axis(scores, task.asked[:, None], -np.inf, axis=1)
    order = np.argsort(-scores, axis=1, kind="stable")
    is_wanted = np.take_along_axis(task.wanted, order, axis=1)
    precision = np.cumsum(is_wanted, axis=1) / (1 + np.arange(order.shape[1]))
    return _Found((precision * is_wanted).sum(axis=1) / is_wanted.sum(axis=1), 1 + is_wanted.argmax(axis=1))


# ---- Weights with their report ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Trained:
    metadata: Mapping[str, str]
    tensors: Mapping[str, NDArray[np.generic]]
    report: Report


def train(
    photos: ChangedPhotos,
    embed: Embed,
    identity: SpaceIdentity,
    *,
    training_data: str = "",
    licence: str = "",
    other_weight: float | None = None,
) -> Trained:
    """Weights from all photos and phrases, and what such weights find when a fifth of the photos and a third of the
    phrases are held out. Their header says so if they are not better than `lerp`."""
    kept, held_out = split(photos)
    phrases, new_phrases = split_phrases(all_phrases())
    facts = {
        "method": Restyle.name,
        "model": identity.fingerprint,
        "dim": str(identity.dim),
        "weight": str(METHODS[Restyle.name].default_weight),
        "version": VERSION,
        **({} if other_weight is None else {"other_weight": str(other_weight)}),
        "training_data": training_data or f"{len(photos.plain):,} photos, each also in {CHANGES} other styles",
        "licence": licence,
    }
    composer = _as_read_back(facts, compact(fit(kept, embed, phrases)), identity)
    report = measure(composer, held_out, new_phrases, embed)
    better = report.by_method[Restyle.name].minus_lerp
    facts["measured"] = (
        f"mAP {report.by_method[Restyle.name].map:.3f} on {report.photos} held-out photos; minus {BASELINE} at its "
        f"best weight {better.mean:+.3f} ({better.low:+.3f} to {better.high:+.3f})"
    )
    if not report.wins:
        facts["is_default"] = "no"
    return Trained(facts, compact(fit(photos, embed, all_phrases())), report)


def _as_read_back(
    facts: Mapping[str, str], tensors: Mapping[str, NDArray[np.generic]], identity: SpaceIdentity
) -> Composer:
    """The weights as a query would use them."""
    with tempfile.TemporaryDirectory(prefix="imgsearch-") as folder:
        path = os.path.join(folder, "trained.safetensors")
        with open(path, "wb") as file:
            write(file, facts, tensors)
        composer = composer_for(f"{facts['method']}:{path}", identity)
    assert composer is not None
    return composer
