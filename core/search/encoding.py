"""Encode queries: embed words and pictures, compose them, and find which photos to exclude."""

from __future__ import annotations

import hashlib
import os
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np  # noqa: TID253

from imgsearch.core.errors import QueryError
from imgsearch.core.light_dataclass import replace
from imgsearch.core.models.phrases import word_list
from imgsearch.core.models.towers import QueryEmbedder
from imgsearch.core.paths import mtime_ns, printable
from imgsearch.core.store.calibration import Calibration
from imgsearch.core.types import Embedder, Photo, SkipPhoto, SpaceIdentity

from . import composition
from .choices import DEFAULT_METHOD
from .composition import METHODS, Change, Composers, Context, Method, no_composers
from .grammar import Query, Term
from .options import SearchOptions
from .query_texts import contexts, texts_of, variants
from .scoring import Clause, EncodedQuery

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from imgsearch.core.store.records import Space
    from imgsearch.core.store.store import Store, View
    from imgsearch.core.types import Vectors

# The weights of --more-like and --less-like (Rocchio's relevance feedback, on centred vectors).
MORE_LIKE = 0.5
LESS_LIKE = 0.25
# BASIC: the share of dimensions that a picture is projected to, the weight of the style words against it, the number of
# neighbours it is mixed with, and how much nearer ones count more.
PROJECTED_SHARE = 250 / 768
STYLE_SHARE = 0.2
NEIGHBOURS = 25
NEIGHBOUR_SHARPNESS = 0.1
# Texts per call of the embedder, few enough for it to cache them.
TEXTS_AT_ONCE = 32
# Vectors of pictures outside the index that are kept: such a picture is often queried again with other words.
MAX_OUTSIDE = 256


class Reference(NamedTuple):
    """The pictures of a query: their mean as a unit vector, and the vector, content hash and path of each."""

    vector: Vectors
    vectors: tuple[Vectors, ...]
    contents: frozenset[bytes]
    paths: frozenset[str]


class QueryEncoder:
    """Encodes queries. `embedder` is called only if something has to be embedded, `composers` only for a picture with
    words."""

    def __init__(self, store: Store, embedder: Callable[[], Embedder], composers: Composers = no_composers) -> None:
        self.store = store
        self._embedder = embedder
        self._composers = composers
        self._basis: tuple[Vectors, Vectors] | None = None
        """The mean of the subject words' vectors, and BASIC's projection."""
        self._outside: OrderedDict[bytes, Vectors] = OrderedDict()
        """The last vectors of pictures outside the index, by the hash of their bytes, and those that are not
        normalised, by `raw` and the hash."""

    def embed_texts(
        self, queries: Sequence[Query], options: SearchOptions, identity: SpaceIdentity
    ) -> dict[str, Vectors]:
        """The unit vectors of all texts that the queries need in a space, by text."""
        needed_by_query = [self._needed(query, options, identity) for query in queries]
        needed = sorted(set().union(*needed_by_query))
        vectors: dict[str, Vectors] = {}
        step = TEXTS_AT_ONCE if any(len(texts) > TEXTS_AT_ONCE for texts in needed_by_query) else max(1, len(needed))
        for start in range(0, len(needed), step):
            part = needed[start : start + step]
            vectors.update(zip(part, self._embedder().embed_texts(part), strict=True))
        return vectors

    @staticmethod
    def _needed(query: Query, options: SearchOptions, identity: SpaceIdentity) -> set[str]:
        try:
            return texts_of(query, options, identity)
        except QueryError:  # `encode` raises it for this query alone
            return set()

    def encode(self, query: Query, options: SearchOptions, texts: dict[str, Vectors], view: View) -> EncodedQuery:
        """Raises QueryError for an unusable picture, UsageError for options that exclude each other.

        At weight 0 and 1 a composed query is the same as the plain one: same vectors, same exclusions.
        """
        encoding = _Encoding(self.store, self._embedder, view, texts, self._outside)
        weight = options.weight_for(query)
        exclude = not options.include_reference
        words = encoding.words(query) if weight > 0 and (query.text is not None or query.terms) else None
        reference = encoding.reference(query.images) if query.images and weight < 1 else None
        others = [*query.more_like, *query.less_like]
        others += [term.image for term in (*query.any_of, *query.all_of) if term.image]
        others += [term.image for term in query.terms if term.image and weight > 0]
        main = self._main(query, options, encoding, words, reference, weight)
        is_composed = main is not None and main.method is not None
        if is_composed and options.modality != "image":
            hint = f"leave out --modality {options.modality}"
            raise QueryError("a picture with words searches pictures only", hint=hint)
        excluded = encoding.paths_of(others) | (reference.paths | frozenset(query.images) if reference else frozenset())
        return EncodedQuery(
            query=query,
            main=main,
            any_of=tuple(encoding.alternative(term) for term in query.any_of),
            all_of=tuple(encoding.alternative(term) for term in query.all_of),
            negatives=tuple(encoding.text(text) for text in query.negatives),
            corrects_hubness=(
                main is not None
                and main.kind == "text"
                and not (query.any_of or query.all_of)
                and options.modality == "image"
                and corrects_hubness(self.store, view.space)
            ),
            excluded_paths=excluded if exclude else frozenset(),
            excluded_contents=reference.contents if exclude and is_composed and reference else frozenset(),
            excluded_copies=reference.vectors if exclude and is_composed and reference else (),
        )

    def _main(
        self,
        query: Query,
        options: SearchOptions,
        encoding: _Encoding,
        words: Vectors | None,
        reference: Reference | None,
        weight: float,
    ) -> Clause | None:
        picture = None if reference is None else reference.vector
        if words is not None and picture is not None:
            return self._composed(query, options, encoding, picture, words)
        single = words if picture is None else picture
        if single is None:
            return None
        vector = encoding.with_feedback(single, query)
        if words is None or any(term.image for term in query.terms):
            return Clause("image" if words is None else "sum", (vector,), vector, picture=single)
        return Clause("text", (vector,), vector, words=single)

    def _composed(
        self,
        query: Query,
        options: SearchOptions,
        encoding: _Encoding,
        reference: Vectors,
        text: Vectors,
    ) -> Clause:
        method, weight, declined = options.method_for(query), options.weight_for(query), ""
        picture, words = reference, encoding.with_feedback(text, query)
        learned = None
        composer = None if query.change_from else self._composers(options.method, encoding.identity)
        if composer is not None:
            if query.text is not None:  # the weights of a sum say what counts
                own = composer.default_weight if options.weight is None else weight
                change = Change(
                    reference,
                    encoding.text(query.text),
                    query.text,
                    own,
                    self._embedder,
                    lambda: encoding.raw_reference(query.images),
                )
                learned = composer.directions(change)
            method, declined = (METHODS[composer.name], "") if learned else (METHODS[DEFAULT_METHOD], composer.name)
            if options.weight is None:
                weight = composer.default_weight if learned else composer.other_weight or method.default_weight
        if method.needs_origin:
            assert query.change_from is not None
            origin = encoding.text(query.change_from)
            step = np.float32(composition.PDV_STEP) * (words - origin)
            picture, words = unit(picture + step), unit(origin + step)
        heading = unit((1 - weight) * picture + weight * words)
        context = Context(cosine=float(words @ picture))
        directions: tuple[Vectors, ...] = (picture, words)
        offsets: tuple[float, ...] = (0.0, 0.0)
        if learned:
            directions = *learned[:-1], encoding.with_feedback(learned[-1], query)
            offsets = offsets[: len(directions)]
            heading = directions[0] if len(directions) == 1 else heading
        if method.is_centred:
            calibration = encoding.calibration(method)
            directions = picture - calibration.image_mean, words - calibration.text_mean
            if method.is_projected:
                directions = self._basic(query, method, encoding, directions[0])
            else:
                context = replace(context, low_image=calibration.low_image, low_text=calibration.low_text)
            offsets = float(directions[0] @ calibration.image_mean), float(directions[1] @ calibration.image_mean)
        return Clause(
            method.name, directions, heading, offsets, method, weight, context, text, reference, declined=declined
        )

    def _basic(self, query: Query, method: Method, encoding: _Encoding, picture: Vectors) -> tuple[Vectors, Vectors]:
        """The centred picture without its style, and the mean of the words in many contexts, centred.

        Steps 2 to 4 of BASIC (arXiv 2510.25387), with our own word lists.
        """
        if self._basis is None:
            subjects, styles = (
                np.stack([encoding.text(word) for word in word_list(n)]) for n in ("subjects", "styles")
            )
            mean = subjects.mean(axis=0)
            self._basis = mean, _projection(subjects - mean, styles - mean)
        mean, projection = self._basis
        a = projection @ picture
        if method.is_expanded:
            a = projection @ encoding.among_neighbours(a)
        if query.terms:
            return a, encoding.words(query) - mean
        assert query.text is not None
        return a, np.mean([encoding.text(text) for text in contexts(query.text)], axis=0) - mean


class _Encoding:
    """The vectors of one query, in one state of the index."""

    def __init__(
        self,
        store: Store,
        embedder: Callable[[], Embedder],
        view: View,
        texts: dict[str, Vectors],
        outside: OrderedDict[bytes, Vectors],
    ) -> None:
        self._store = store
        self._embedder = embedder
        self._view = view
        self._texts = texts
        self._outside = outside

    @property
    def identity(self) -> SpaceIdentity:
        return self._view.space.identity

    def text(self, text: str) -> Vectors:
        return self._texts[text]

    def words(self, query: Query) -> Vectors:
        """The unit vector of the words, or of the weighted sum."""
        if not query.terms:
            assert query.text is not None
            return unit(np.sum([self._texts[text] for text in variants(query.text, self.identity)], axis=0))
        largest = max(term.weight for term in query.terms)  # weights may be any finite number
        total = np.sum([np.float32(term.weight / largest) * self._term(term) for term in query.terms], axis=0)
        return _direction(total, "the terms cancel each other out")

    def alternative(self, term: Term) -> Clause:
        vector = self._term(term)
        if term.image is not None:
            return Clause("image", (vector,), vector, picture=vector)
        return Clause("text", (vector,), vector, words=vector)

    def _term(self, term: Term) -> Vectors:
        if term.image is not None:
            return self._picture(term.image)[0]
        assert term.text is not None
        return unit(np.sum([self._texts[text] for text in variants(term.text, self.identity)], axis=0))

    def with_feedback(self, vector: Vectors, query: Query) -> Vectors:
        """The vector moved towards --more-like and away from --less-like, relative to the collection's mean."""
        if not (query.more_like or query.less_like):
            return vector
        calibration = self._store.calibration(self._view.space)
        mean = calibration.image_mean if calibration else np.float32(0)
        total = vector
        for paths, share in ((query.more_like, MORE_LIKE), (query.less_like, -LESS_LIKE)):
            if paths:
                liked = np.mean([self._picture(path)[0] for path in paths], axis=0) - mean
                total = total + np.float32(share) * liked
        return _direction(total, "the pictures of --less-like cancel the query out")

    def calibration(self, method: Method) -> Calibration:
        calibration = self._store.calibration(self._view.space)
        if calibration is None:
            raise QueryError(
                f"--compose {method.name} needs a complete index",
                hint="run `imgsearch index`, or use --compose lerp",
            )
        return calibration

    def among_neighbours(self, picture: Vectors) -> Vectors:
        """A centred picture averaged with its nearest photos, weighted by similarity (step 3 of BASIC)."""
        live = np.flatnonzero(self._view.slots.mask("image"))
        if not len(live):
            return picture
        calibration = self._store.calibration(self._view.space)
        mean = calibration.image_mean if calibration else np.float32(0)
        scores = (self._view.rows @ picture)[live]
        nearest = live[np.argsort(-scores, kind="stable")[:NEIGHBOURS]]
        rows = np.vstack([picture, self._view.rows[nearest] - mean])
        weights = np.exp(NEIGHBOUR_SHARPNESS * (rows @ picture))
        return np.asarray(weights @ rows / weights.sum(), np.float32)

    def paths_of(self, paths: Iterable[str]) -> frozenset[str]:
        """The paths, and the paths in the index that they lead to through links."""
        known = {path: self._store.place_of(path) for path in paths}
        return frozenset(known) | {place.path for place in known.values() if place is not None}

    def reference(self, images: Sequence[str]) -> Reference:
        """The vector of several pictures is their normalised mean."""
        vectors, contents, paths = zip(*(self._picture(path) for path in images), strict=True)
        mean = np.asarray(np.mean(vectors, axis=0, dtype=np.float64))
        vector = _direction(mean, "the pictures cancel each other out")
        return Reference(vector, vectors, frozenset(contents), frozenset(paths))

    def raw_reference(self, images: Sequence[str]) -> Vectors:
        """The mean of the pictures as the model gives them. The index has no lengths: the files are embedded again."""
        return np.asarray(np.mean([self._raw_picture(path) for path in images], axis=0), np.float32)

    def _raw_picture(self, path: str) -> Vectors:
        return self._cached_vector(b"raw" + _hash_of(path), lambda: self._embedded(path, is_raw=True))

    def _picture(self, path: str) -> tuple[Vectors, bytes, str]:
        """The vector, the content hash and the path in the index. The vector is the stored one if a file with these
        bytes is indexed."""
        place = self._store.place_of(path)
        if place is not None:
            found = os.stat(path)
            if (found.st_size, mtime_ns(found)) == (place.size, place.mtime_ns):
                vector = self._stored(place.content_hash)
                if vector is not None:
                    return vector, place.content_hash, place.path
        content_hash = _hash_of(path)
        vector = self._stored(content_hash)
        known_path = path if place is None else place.path
        if vector is None:
            vector = self._cached_vector(content_hash, lambda: self._embedded(path))
        return vector, content_hash, known_path

    def _stored(self, content_hash: bytes) -> Vectors | None:
        catalog, space_id = self._store.catalog, self._view.space.id
        slot = catalog.vectors.slot_of(space_id, "image", content_hash)
        if slot is None:
            return None
        slots = catalog.regions.slots_of_moments(space_id, content_hash) or [slot]
        if not all(0 <= each < len(self._view.rows) for each in slots):
            raise self._store.damaged_vector()
        self._store.verify_checksums(self._view, slots)
        return _mean(self._view.rows[slots])

    def _cached_vector(self, key: bytes, embedded: Callable[[], tuple[Vectors, bytes]]) -> Vectors:
        if key not in self._outside:
            vector, key = embedded()
            self._outside[key] = vector
        self._outside.move_to_end(key)
        while len(self._outside) > MAX_OUTSIDE:
            self._outside.popitem(last=False)
        return self._outside[key]

    def _embedded(self, path: str, *, is_raw: bool = False) -> tuple[Vectors, bytes]:
        """The vector, and the key of the bytes that were decoded: the file may have changed."""
        from imgsearch.core.photos.decode_pool import DecodePool
        from imgsearch.core.photos.preprocess import draft_side  # imports Pillow

        embedder = self._embedder()
        if isinstance(embedder, QueryEmbedder):
            embedder.expect("image")
        photo = Photo(os.path.dirname(path), os.path.basename(path), os.stat(path).st_size, 0, 0, named=True)
        try:
            with DecodePool(1, niceness=0) as workers:  # the file may be hostile
                read = workers.read(photo, embedder.recipe, draft_side=draft_side(embedder.recipe), regions=True)
        except SkipPhoto as skipped:
            raise QueryError(f"{printable(path)}: {skipped.reason}", hint="use another picture") from skipped
        assert read.squares is not None
        is_video = read.facts.duration_seconds is not None
        squares = read.squares if is_video else read.squares[:1]
        vector = embedder.raw_images(squares).mean(axis=0) if is_raw else _mean(embedder.embed_images(squares))
        if not np.isfinite(vector).all():
            raise QueryError(f"{printable(path)}: the model returned no valid vector", hint="use another picture")
        return vector, b"raw" + read.content_hash if is_raw else read.content_hash


def corrects_hubness(store: Store, space: Space) -> bool:
    """Whether the hubness correction is on for this space."""
    return store.catalog.get_info(f"hubness {space.id}") == "on"


def correct_hubness(store: Store, space: Space, *, is_on: bool) -> None:
    with store.catalog.transaction():
        store.catalog.set_info(f"hubness {space.id}", "on" if is_on else "off")


def unit(vector: Vectors) -> Vectors:
    norm = float(np.linalg.norm(vector))
    return np.asarray(vector / np.float32(norm if norm > 1e-9 else 1.0), np.float32)


def _mean(vectors: Vectors) -> Vectors:
    """The vector of a picture, or of the moments of a video."""
    return np.array(vectors[0]) if len(vectors) == 1 else unit(vectors.mean(axis=0))


def _direction(vector: NDArray[np.floating], message: str) -> Vectors:
    norm = float(np.linalg.norm(vector))
    if norm < 1e-6:
        raise QueryError(message, hint="leave some of them out")
    return np.asarray(vector / norm, np.float32)


def _projection(subjects: Vectors, styles: Vectors) -> Vectors:
    """The projection onto the directions in which subjects differ and styles do not: float32 (dim, dim)."""
    spread = (1 - STYLE_SHARE) * subjects.T @ subjects / (len(subjects) - 1)
    spread -= STYLE_SHARE * styles.T @ styles / (len(styles) - 1)
    values, directions = np.linalg.eigh(spread.astype(np.float64))
    best = np.argsort(-values)[: max(1, round(PROJECTED_SHARE * len(values)))]
    kept = directions[:, best[values[best] > 0]]
    return np.asarray(kept @ kept.T, np.float32)


def _hash_of(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").digest()
    except OSError as error:
        raise QueryError(f"{printable(path)}: {error.strerror}", hint="use another picture") from error
