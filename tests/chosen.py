"""A small index with chosen vectors: no model, no pixels."""

from __future__ import annotations

import functools
import hashlib
import os
from contextlib import contextmanager

import numpy as np

from imgsearch.core.compose import composer_file
from imgsearch.core.compose.composers import composer_for
from imgsearch.core.search.choices import PUBLISHED
from imgsearch.core.search.searcher import Searcher
from imgsearch.core.store.calibration import calibrate
from imgsearch.core.store.records import NewPhoto
from imgsearch.core.store.store import Batch, Store
from imgsearch.core.types import CarriedText, Embedder, Facts, Photo, Recipe, SpaceIdentity


def unit(vectors):
    vectors = np.asarray(vectors, np.float64)
    return (vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)).astype(np.float32)


def random_units(seed: int, *shape: int):
    return unit(np.random.default_rng(seed).standard_normal(shape))


class Remembering:
    """A real model that is asked once about each picture and text."""

    def __init__(self, model: Embedder) -> None:
        self.identity, self.recipe = model.identity, model.recipe
        self._model = model
        self._known: dict[bytes | str, np.ndarray] = {}

    def embed_images(self, squares):
        return self._remembered([square.tobytes() for square in squares], squares, self._model.embed_images)

    def embed_texts(self, texts):
        return self._remembered(list(texts), list(texts), self._model.embed_texts)

    def embed_with(self, text, vector):
        return self._model.embed_with(text, vector)

    def _remembered(self, keys, items, embed):
        if any(key not in self._known for key in keys):
            self._known.update(zip(keys, embed(items), strict=True))
        return np.stack([self._known[key] for key in keys])


class Words:
    """An embedder that knows some words and no pictures."""

    recipe = Recipe((8, 8), (0.5,) * 3, (0.5,) * 3)

    def __init__(self, vectors: dict, details: dict[str, str] | None = None) -> None:
        """What is not among them has a vector that its letters decide."""
        self.vectors = vectors
        dim = len(next(iter(vectors.values())))
        self.identity = SpaceIdentity(FINGERPRINT, "chosen", "none", None, dim, details or {})

    def embed_images(self, squares):
        raise AssertionError("every picture asked with is indexed")

    def embed_texts(self, texts):
        return np.stack([self.vectors.get(text, self.of(text)) for text in texts])

    def embed_with(self, text, vector):
        return self.of(f"{text} {vector.tobytes().hex()}")

    def of(self, text: str):
        return _unit_of(text, self.identity.dim)


@functools.cache
def _unit_of(text: str, dim: int):
    return random_units(int.from_bytes(hashlib.sha256(text.encode()).digest()[:4]), dim)


FINGERPRINT = "f" * 64
"""Of the model that `Words` is."""


def composer_tensors(dim: int, *, words: int = 7, bias: float = 0.0) -> dict:
    """Weights of `restyle`, by chance: three styles with two phrases each. `bias` decides for which words they are."""
    return {
        "plain.matrix": np.eye(dim, dtype=np.float32) + 0.1 * random_units(50, dim, dim),
        "plain.mean": 0.3 * random_units(51, dim),
        "styles": random_units(52, 3, dim),
        "phrases": random_units(53, 6, dim),
        "phrase_style": np.float32([0, 0, 1, 1, 2, 2]),
        "gate.weights": random_units(54, dim),
        "gate.bias": np.float32([bias]),
        "subjects": 0.5 * random_units(55, words, dim),
    }


def phi_tensors(dim: int, hidden: int = 20, width: int = 12, *, norm: float | None = None) -> dict:
    """Weights of `pic2word`, `searle` or `lincir`, by chance: three layers."""
    sizes, tensors = (dim, hidden, hidden, width), {}
    for layer in range(3):
        shape = sizes[layer + 1], sizes[layer]
        tensors[f"layers.{layer}.weight"] = np.sqrt(np.float32(shape[0] / shape[1])) * random_units(60 + layer, *shape)
        tensors[f"layers.{layer}.bias"] = 0.1 * random_units(70 + layer, shape[0])
    return tensors | ({"feature_norm": np.float32([norm])} if norm else {})


def gate_tensors(dim: int) -> dict:
    """Weights of `gated`, by chance: one number for each dimension."""
    return {"gate.weights": random_units(56, dim, 2 * dim), "gate.bias": random_units(57, dim)}


def composer_of(path, tensors: dict, **said: str) -> str:
    """A file with these weights, for the model that `Words` is."""
    dim = len(tensors["gate.weights"]) if "gate.weights" in tensors else tensors["layers.0.weight"].shape[1]
    known = {"method": "restyle", "model": FINGERPRINT, "dim": str(dim), "weight": "0.5",
             "training_data": "chance", "version": "1", "licence": "none"}  # fmt: skip
    with open(path, "wb") as out:
        composer_file.write(out, {**known, **said}, tensors)
    return str(path)


@contextmanager
def index_of(tmp_path, contents: list[bytes], rows, words, phrases, carried=(), facts=None, details=None):
    """An index of files with these contents and vectors; the same content has the same vector.

    `words`: the vector of the text "words", or those of several texts. `facts`: what the header of each says. The
    learned methods have weights, those of `restyle` for all words.
    """
    folder = tmp_path / "photos"
    folder.mkdir()
    embedder = Words(words if isinstance(words, dict) else {"words": words}, details)
    with Store.writing(str(tmp_path / "index"), create=True) as store:
        with store.catalog.transaction():
            root = store.catalog.roots.add(str(folder), "folder", os.stat(folder).st_dev)
        batch = Batch()
        for number, (content, row) in enumerate(zip(contents, rows, strict=True)):
            path = folder / f"{number:03}.jpg"
            path.write_bytes(content)
            found, key = path.stat(), hashlib.sha256(content).digest()
            photo = Photo(str(folder), path.name, found.st_size, found.st_mtime_ns, found.st_ino)
            texts = tuple(
                (bytes([at]), CarriedText(f"text {at}", "exif:ImageDescription")) for at in range(len(carried))
            )
            new = NewPhoto(
                photo, key, found.st_size, found.st_mtime_ns, facts[number] if facts else Facts("JPEG", 8, 8)
            )
            batch.photos.append((root, new, texts if number == 0 else ()))
            batch.images[key] = row
        batch.texts.update({bytes([at]): row for at, row in enumerate(carried)})
        space = store.commit(store.space_for(embedder.identity, "{}"), batch, codecs="")
        store.save_calibration(space, calibrate(np.stack(list(batch.images.values())), phrases))
        store.complete(space)
        store.save_slots(space)
        dim = embedder.identity.dim
        weights = {"restyle": composer_of(tmp_path / "restyle", composer_tensors(dim, bias=2))}
        weights["gated"] = composer_of(tmp_path / "gated", gate_tensors(dim), method="gated", dim=str(dim))
        for method in PUBLISHED:
            weights[method] = composer_of(tmp_path / method, phi_tensors(dim), method=method)
        asked_for = {method: f"{method}:{path}" for method, path in weights.items()}
        searcher = Searcher(
            store, lambda: embedder, composers=lambda asked, space: composer_for(asked_for.get(asked, asked), space)
        )
        yield searcher, [str(folder / f"{n:03}.jpg") for n in range(len(rows))]
