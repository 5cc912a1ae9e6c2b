"""Photos and their changes into other styles, as vectors: what `restyle` is trained on.

The vectors are kept in the user's cache until the training is complete, so that a run that was killed continues where
it was. It then makes the same weights, byte by byte: changes depend on the photo's number alone, and a batch begins
where it would have begun.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import io
import os
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

import numpy as np  # noqa: TID253

from imgsearch.core.errors import UsageError
from imgsearch.core.indexing.indexer import live_pictures
from imgsearch.core.paths import has_picture_extension, on_disk, printable
from imgsearch.core.photos import preprocess
from imgsearch.core.photos.walk import Walk, named_photo
from imgsearch.core.places import cache_folder
from imgsearch.core.types import Embedder, NotAPicture, Photo, Skipped, SkipPhoto

from . import styles
from .styles import SIDE, STYLES

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from imgsearch.core.photos.decode_pool import DecodePool
    from imgsearch.core.store.records import Space
    from imgsearch.core.store.store import Store
    from imgsearch.core.types import Recipe, Squares, Vectors

SEED = 0
MIN_PHOTOS = 50
"""With fewer, what is common to a style cannot be told from what is common to the photos."""
CHANGES = 4
"""Of each photo, drawn from all styles by their shares."""
BATCH_PHOTOS = 8
LOOKAHEAD_PHOTOS = 2 * BATCH_PHOTOS
FOLDER = "training"

T = TypeVar("T")
Taken = Callable[[Skipped | None], None]
"""Called for each photo that is done, with the reason if it was skipped."""


@dataclass(frozen=True, slots=True)
class ChangedPhotos:
    """The vectors of photos, and of some changes of each."""

    plain: Vectors
    changed: Vectors
    """(photos x CHANGES, dim): those of the first photo first."""
    style: NDArray[np.intp]
    """The number of each change in STYLES."""
    skipped: int = 0

    @property
    def photo(self) -> NDArray[np.intp]:
        """The number of the photo of each change."""
        return np.arange(len(self.changed)) // CHANGES

    def of(self, photos: NDArray[np.intp]) -> ChangedPhotos:
        """Only these photos."""
        rows = (photos[:, None] * CHANGES + np.arange(CHANGES)).ravel()
        return ChangedPhotos(self.plain[photos], self.changed[rows], self.style[rows])


# ---- Which photos ----------------------------------------------------------------------------------------------------


def photos_of_index(store: Store, space: Space, most: int) -> list[Photo]:
    """At most that many photos of an index, evenly spread. Videos and copies are left out."""
    slots = _spread(sorted(live_pictures(store, space)), 2 * most)
    places = store.catalog.places.of_slots(space.id, slots, include_offline=False)
    of_content = {
        place.content_hash: place
        for place in sorted(places, key=lambda place: os.fsencode(place.path), reverse=True)
        if place.region is None and place.at is None
    }
    chosen = sorted(of_content.values(), key=lambda place: os.fsencode(place.path))
    return [
        Photo(place.root, place.relpath, place.size, place.mtime_ns, 0, named=True) for place in _spread(chosen, most)
    ]


def photos_of_paths(paths: Sequence[str], most: int) -> tuple[list[Photo], list[Skipped]]:
    """At most that many photos of folders and files, evenly spread, and what could not be read. Absolute paths."""
    found: list[Photo | Skipped] = []
    for path in map(on_disk, paths):
        found += Walk(path) if os.path.isdir(path) else [named_photo(path)]
    skipped = [each for each in found if isinstance(each, Skipped)]
    photos = {each.path: each for each in found if isinstance(each, Photo)}
    pictures = [each for each in photos.values() if each.named or has_picture_extension(each.path)]
    return _spread(sorted(pictures, key=lambda photo: os.fsencode(photo.path)), most), skipped


def _spread(items: Sequence[T], most: int) -> list[T]:
    count = min(most, len(items))
    return [items[i * len(items) // count] for i in range(count)]


def check_number(count: int) -> None:
    """Raises UsageError for too few photos."""
    if count < MIN_PHOTOS:
        photos = "1 photo" if count == 1 else f"{count} photos"
        raise UsageError(
            f"training needs at least {MIN_PHOTOS} photos; there {'is' if count == 1 else 'are'} {photos}",
            hint="give more folders, or index more photos",
        )


# ---- Their vectors ---------------------------------------------------------------------------------------------------


def drawn_styles(number: int) -> NDArray[np.intp]:
    """The numbers in STYLES of the changes of a photo, by its number."""
    shares = np.array([style.share for style in STYLES])
    generator = np.random.default_rng((SEED, number))
    return generator.choice(len(STYLES), CHANGES, replace=False, p=shares / shares.sum())


class Training:
    """The vectors of these photos and of their changes, made or continued. Use it in a `with`.

    Raises UsageError if another process is making them.
    """

    def __init__(self, photos: Sequence[Photo], embedder: Embedder) -> None:
        self.photos = photos
        self._embedder = embedder
        self._dim = embedder.identity.dim
        self._row_bytes = (1 + CHANGES) * self._dim * 4
        key = hashlib.sha256()
        key.update(repr((styles.VERSION, SEED, CHANGES, SIDE, embedder.identity.fingerprint)).encode())
        for photo in photos:
            key.update(os.fsencode(photo.path) + b"\0%d %d\0" % (photo.size, photo.mtime_ns))
        self.path = os.path.join(cache_folder(), FOLDER, f"{key.hexdigest()[:32]}.f32")
        self._file: io.FileIO | None = None
        self.done = 0
        """Photos that an earlier run has done already."""

    def __enter__(self) -> Training:
        os.makedirs(os.path.dirname(self.path), mode=0o700, exist_ok=True)
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        self._file = open(os.open(self.path, flags, 0o600), "r+b", buffering=0)
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            self._file.close()
            raise UsageError(
                "another process is training with the same photos", hint="wait until it has finished"
            ) from None
        self.done = self._whole_photos()
        return self

    def __exit__(self, *_: object) -> None:
        if self._file is not None:
            self._file.close()

    def forget(self) -> None:
        """Delete the vectors, once they are no longer needed."""
        with contextlib.suppress(OSError):
            os.unlink(self.path)

    def run(self, pool: DecodePool, on_photo: Taken, stop: threading.Event) -> ChangedPhotos | None:
        """All vectors. None if it was stopped; what is done is kept then. Raises UsageError if the cache
        cannot be written."""
        assert self._file is not None
        self._file.truncate(self.done * self._row_bytes)
        self._file.seek(0, os.SEEK_END)
        with contextlib.closing(self._batches(pool)) as batches:
            for batch in batches:
                rows = self._embedded(batch, on_photo)
                self._append(rows.tobytes())
                if stop.is_set():
                    break
        rows = self._rows()
        return None if len(rows) < len(self.photos) else _changed_photos(rows)

    def _append(self, data: bytes) -> None:
        assert self._file is not None
        try:
            while data:
                data = data[self._file.write(data) :]
        except OSError as error:
            reason = (error.strerror or str(error)).lower()
            hint = "free some space in the cache folder and run the same command again; what is done is kept"
            raise UsageError(f"{printable(self.path)}: {reason}", hint=hint) from error

    def _rows(self) -> Vectors:
        """(photos, 1 + CHANGES, dim); NaN for a photo that was skipped."""
        assert self._file is not None
        self._file.seek(0)
        data = self._file.read()
        whole = len(data) // self._row_bytes
        return np.frombuffer(data[: whole * self._row_bytes], "<f4").reshape(whole, 1 + CHANGES, self._dim)

    def _whole_photos(self) -> int:
        """Up to where the file is what an earlier run wrote, in whole batches. After a power cut it may hold zeros."""
        lengths = np.linalg.norm(self._rows()[: len(self.photos)], axis=2)
        is_whole = (np.isnan(lengths) | (np.abs(lengths - 1) < 1e-3)).all(axis=1)
        count = int(np.argmin(is_whole)) if not is_whole.all() else len(is_whole)
        return count if count == len(self.photos) else count // BATCH_PHOTOS * BATCH_PHOTOS

    def _batches(self, pool: DecodePool) -> Generator[list[Squares | Skipped], None, None]:
        waiting: deque[Future[Squares | Skipped]] = deque()
        batch: list[Squares | Skipped] = []
        with ThreadPoolExecutor(pool.count, thread_name_prefix="change") as threads:
            try:
                for number in range(self.done, len(self.photos) + LOOKAHEAD_PHOTOS):
                    if number < len(self.photos):
                        waiting.append(threads.submit(self._squares, pool, number))
                    if waiting and (len(waiting) > LOOKAHEAD_PHOTOS or number >= len(self.photos)):
                        batch.append(waiting.popleft().result())
                    if len(batch) == BATCH_PHOTOS:
                        yield batch
                        batch = []
                if batch:
                    yield batch
            finally:
                for future in waiting:
                    future.cancel()

    def _squares(self, pool: DecodePool, number: int) -> Squares | Skipped:
        """uint8 (1 + CHANGES, height, width, 3): the photo and its changes."""
        photo, recipe = self.photos[number], self._embedder.recipe
        try:
            read = pool.read(photo, recipe, draft_side=preprocess.draft_side(recipe))
        except NotAPicture:
            return Skipped(photo.path, "decode", "not a picture")
        except SkipPhoto as skipped:
            return Skipped(photo.path, skipped.stage, skipped.reason)
        square = read.square
        assert square is not None
        return np.stack([square, *changes_of(square, number, recipe)])

    def _embedded(self, batch: Sequence[Squares | Skipped], on_photo: Taken) -> Vectors:
        squares = [each for each in batch if not isinstance(each, Skipped)]
        rows = np.full((len(batch), 1 + CHANGES, self._dim), np.nan, "<f4")
        if squares:
            is_read = [not isinstance(each, Skipped) for each in batch]
            rows[is_read] = self._embedder.embed_images(np.concatenate(squares)).reshape(-1, *rows.shape[1:])
        for each in batch:
            on_photo(each if isinstance(each, Skipped) else None)
        return rows


def changes_of(square: NDArray[np.uint8], number: int, recipe: Recipe) -> Iterator[NDArray[np.uint8]]:
    """The changes of a photo's square, at the model's size."""
    from PIL import Image

    height, width = recipe.size
    if recipe.size != (SIDE, SIDE):
        square = np.asarray(Image.fromarray(square).resize((SIDE, SIDE), Image.Resampling.BICUBIC))
    for place, style in enumerate(drawn_styles(number).tolist()):
        changed = styles.change(STYLES[style], square, np.random.default_rng((SEED, number, place)))
        if recipe.size != (SIDE, SIDE):
            changed = np.asarray(Image.fromarray(changed).resize((width, height), Image.Resampling.BICUBIC))
        yield changed


def _changed_photos(rows: Vectors) -> ChangedPhotos:
    numbers = np.flatnonzero(np.isfinite(rows).all(axis=(1, 2)))
    usable = rows[numbers]
    drawn = [drawn_styles(int(number)) for number in numbers]
    return ChangedPhotos(
        plain=np.array(usable[:, 0]),
        changed=usable[:, 1:].reshape(-1, rows.shape[2]),
        style=np.concatenate(drawn) if drawn else np.empty(0, np.intp),
        skipped=len(rows) - len(numbers),
    )
