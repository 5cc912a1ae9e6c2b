"""The deep part of a check: photos are read and embedded again, and compared with what the index says of them."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any

import numpy as np  # noqa: TID253

from imgsearch.core.errors import IndexDamaged
from imgsearch.core.paths import printable
from imgsearch.core.photos import preprocess
from imgsearch.core.photos.decode_pool import DecodePool
from imgsearch.core.photos.walk import named_photo
from imgsearch.core.types import Embedder, Facts, NotAPicture, Photo, SkipPhoto

from .records import Place, Space, region_keys, sidecar_stamp, text_key
from .repair import Finding, forget_vectors, read_again
from .schema import FACT_COLUMNS
from .store import Store

if TYPE_CHECKING:
    from imgsearch.core.types import Vectors

# Vectors of the same picture agree to this cosine, at any precision and however it was decoded; those of different
# pictures hardly ever do.
SAME_COSINE = 0.98
# Another sample in every process, and the same one in every check of a process.
_SEED = random.SystemRandom().getrandbits(32)

Progress = Callable[[str, int, int], None]
"""Called with what is being done, how much is done, and of how much; 0 of 0 if that is not counted."""


class DeepCheck:
    """Reads and embeds photos again. `sample`: how many, or 0 for all."""

    def __init__(self, store: Store, embedder: Callable[[], Embedder], sample: int, on_progress: Progress) -> None:
        self._store = store
        self._catalog = store.catalog
        self._get_embedder = embedder
        self._sample = sample
        self._on_progress = on_progress
        self.read_again = 0
        self.notes: list[str] = []

    def findings(self) -> Iterator[Finding]:
        space = self._store.active_space()
        chosen = self._chosen()
        if space is None or not chosen:
            return
        try:
            view = self._store.view(space)
        except IndexDamaged:
            return  # found in the vectors already
        embedder = self._get_embedder()
        changed = 0
        with DecodePool() as workers:
            for number, (place, stamp) in enumerate(chosen):
                if number % 100 == 0:
                    self._on_progress("reading photos again", number, len(chosen))
                photo = named_photo(place.path)
                if not isinstance(photo, Photo) or (photo.size, photo.mtime_ns) != (place.size, place.mtime_ns):
                    changed += 1
                    continue
                if sidecar_stamp(photo) != stamp:
                    changed += 1
                    continue
                self.read_again += 1
                yield from self._check_photo(place, photo, workers, embedder, space, view.rows)
        yield from self._check_texts(embedder, space, view.rows)
        if changed:
            self.notes.append(f"{changed:,} photos of the sample have changed or are missing: run `imgsearch index`")

    def _chosen(self) -> list[tuple[Place, str]]:
        rows = self._catalog.consistency.reachable_photos()
        if self._sample and len(rows) > self._sample:
            rows = random.Random(_SEED).sample(rows, self._sample)  # noqa: S311
        places = {place.id: place for place in self._catalog.places.by_id([row[0] for row in rows])}
        return [(places[row[0]], row[1]) for row in rows]

    def _check_photo(
        self, place: Place, photo: Photo, workers: DecodePool, embedder: Embedder, space: Space, rows: Vectors
    ) -> Iterator[Finding]:
        path = printable(place.path)
        try:
            draft_side = preprocess.draft_side(embedder.recipe)
            read = workers.read(photo, embedder.recipe, draft_side=draft_side, regions=True)
        except (SkipPhoto, NotAPicture) as error:
            yield Finding("photos", f"{path}: was indexed but cannot be read now: {error}", read_again(place.id))
            return
        if read.content_hash != place.content_hash:
            yield Finding(
                "photos",
                f"{path}: its bytes have changed since it was indexed, but not its size and time",
                read_again(place.id),
            )
            return
        wrong = [column for column in FACT_COLUMNS if getattr(read.facts, column) != place.facts[column]]
        if place.facts["date_from"] is None and "taken_at" not in wrong:
            wrong = [column for column in wrong if column != "date_from"]  # an older version read the photo
        if "taken_offset" in wrong and _is_same_instant(read.facts, place.facts):  # it was made local time
            wrong = [column for column in wrong if column not in ("taken_at", "taken_offset")]
        wrong += ["keywords"] if read.facts.keywords != place.keywords else []
        texts = {text_key(text.text) for text in read.facts.texts}
        wrong += ["texts"] if self._catalog.consistency.text_keys(place.id) != texts else []
        if wrong:
            yield Finding(
                "photos", f"{path}: the index disagrees with the file about: {', '.join(wrong)}", read_again(place.id)
            )
        keys = region_keys(place.content_hash, read.regions)
        slots = {at: self._catalog.vectors.slot_of(space.id, "image", key) for at, key in enumerate(keys)}
        known = {at: slot for at, slot in slots.items() if slot is not None and 0 <= slot < len(rows)}
        if not known or read.squares is None:
            return  # found already
        vectors = embedder.embed_images(read.squares[list(known)])
        cosines = {slot: float(vector @ rows[slot]) for slot, vector in zip(known.values(), vectors, strict=True)}
        bad = {slot: cosine for slot, cosine in cosines.items() if not cosine >= SAME_COSINE}
        if bad:
            yield Finding(
                "vectors",
                f"{path}: its vector is not that of the picture (cosine {min(bad.values()):.3f})",
                forget_vectors(space, list(bad)),
            )

    def _check_texts(self, embedder: Embedder, space: Space, rows: Vectors) -> Iterator[Finding]:
        texts = self._catalog.consistency.texts_with_slots(space.id)
        if self._sample and len(texts) > self._sample:
            texts = random.Random(_SEED).sample(texts, self._sample)  # noqa: S311
        known = [(slot, text) for slot, text in texts if 0 <= slot < len(rows)]
        if not known:
            return
        fresh = embedder.embed_texts([text for _, text in known])
        cosines = np.einsum("ij,ij->i", fresh, rows[[slot for slot, _ in known]])
        bad = [slot for (slot, _), cosine in zip(known, cosines, strict=True) if not cosine >= SAME_COSINE]
        if bad:
            yield Finding(
                "vectors",
                f"texts with a wrong vector: {len(bad)}",
                forget_vectors(space, bad),
            )


def _is_same_instant(read: Facts, indexed: Mapping[str, Any]) -> bool:
    """Whether a date in UTC is another way to write what the index has."""
    if read.taken_offset != "+00:00":
        return False
    try:
        known = datetime.fromisoformat(f"{indexed['taken_at']}{indexed['taken_offset']}")
        return known == datetime.fromisoformat(f"{read.taken_at}+00:00")
    except (TypeError, ValueError):  # one of them without an offset, or damaged
        return False
