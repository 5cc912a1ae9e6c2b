"""Embeds a query without torch, whose import alone takes longer than a whole search.

The two towers of a model are files in the user's cache, written once by `core/models/onnx_export.py` for one
fingerprint. ONNX Runtime runs the image tower, and a text tower that is not causal; numpy runs a causal one. Both map
the weights into memory instead of reading them. The only file that names onnxruntime.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

from imgsearch.core.errors import ModelError
from imgsearch.core.late import LateModule
from imgsearch.core.light_dataclass import dataclass, replace
from imgsearch.core.paths import processor_cores
from imgsearch.core.photos.codecs import version_of
from imgsearch.core.places import cache_folder
from imgsearch.core.types import Embedder, Recipe, SpaceIdentity

from .query_cache import QueryCache
from .registry import ModelSpec, config_digest, weights_are
from .tokens import Tokenizer

if TYPE_CHECKING:
    import numpy as np

    from imgsearch.core.types import Squares, Vectors
else:  # the towers start to load before it is needed
    np = LateModule("numpy")

Tower = Literal["text", "image"]
Activation = Literal["gelu", "quick_gelu"]
TOWERS: tuple[Tower, ...] = ("text", "image")

FORMAT = 2
"""Files with another format number are made again."""
RAW_FORMAT = 3
"""The image tower has a second output: its vectors before they are made unit length. For models that need them."""
SHIPPED = os.path.join(os.path.dirname(__file__), "builtin_model")
"""The towers of the built-in model, made by bench/export_builtin.py."""
MANIFEST = "light.json"
MERGES = "merges.txt"

# A call with more texts is not a user's query, and is not cached.
MAX_CACHED_TEXTS = 32
# Texts in one run of a tower of ONNX Runtime.
TEXTS_AT_ONCE = 8


class TowersError(Exception):
    """The ONNX towers cannot be used; the model itself is needed."""

    def __init__(self, reason: str, *, is_damage: bool = False) -> None:
        super().__init__(reason)
        self.is_damage = is_damage
        """The files are damaged. False: this process lacks something, such as memory."""


@dataclass(frozen=True, slots=True)
class TextConfig:
    """What `text_tower` has to know of a text tower, besides its weights."""

    weights: str
    """The name of the safetensors file."""
    heads: int
    layers: int
    activation: Activation
    epsilon: float


@dataclass(frozen=True, slots=True)
class Manifest:
    """What the files in a folder of towers are."""

    fingerprint: str
    dim: int
    recipe: Recipe
    context_length: int
    clean: str
    text: TextConfig | None
    """How numpy runs the text tower. None: it is an ONNX file."""
    lacking: dict[str, str]
    """Missing tower -> reason."""
    files: dict[str, int]
    """File name -> size in bytes, for all other files of the folder."""
    made_with: str
    """The versions of the libraries that made the towers. Other versions may make those that are missing."""
    format: int = FORMAT
    model: str = ""
    """The `ModelSpec` as JSON. Empty: made before this was recorded, and good for queries only."""
    details: dict[str, str] = field(default_factory=dict)
    """Those of the `SpaceIdentity`."""
    sha256: dict[str, str] = field(default_factory=dict)
    """File name -> SHA-256, checked before photos are embedded."""
    earlier: dict[str, str] = field(default_factory=dict)
    """Fingerprint of an earlier version of the model -> file that translates the vectors of this one into its space."""

    def to_json(self) -> str:
        return json.dumps(asdict(self), indent=1)

    @classmethod
    def from_json(cls, text: str) -> Manifest:
        record = json.loads(text)
        if record["format"] not in (FORMAT, RAW_FORMAT):
            raise ValueError(f"format {record['format']}")
        if not all(os.path.basename(name) == name for name in [*record["files"], *record["lacking"]]):
            raise ValueError("a name with a folder")
        recipe: dict[str, Any] = {key: tuple(v) if isinstance(v, list) else v for key, v in record["recipe"].items()}
        tower = record["text"] and TextConfig(**record["text"])
        return cls(**{**record, "recipe": Recipe(**recipe), "text": tower})


def towers_folder(fingerprint: str) -> str:
    """The folder of a model's towers. Never in an index, which may come from another user."""
    if not re.fullmatch("[0-9a-f]{64}", fingerprint):
        fingerprint = hashlib.sha256(fingerprint.encode("utf-8", "replace")).hexdigest()
    return os.path.join(cache_folder(), "light", fingerprint[:16])


class Towers:
    """The ONNX towers of one model, each loaded when it is first needed."""

    def __init__(self, path: str, manifest: Manifest, *, translate_to: str | None = None) -> None:
        self.path = path
        self.manifest = manifest
        self._translate_to = translate_to
        self._towers: dict[Tower, Any] = {}
        self._loading = threading.Lock()

    @classmethod
    def find(cls, fingerprint: str, path: str | None = None) -> Towers | None:
        """The towers of this model. None if they are missing, incomplete, or have another format."""
        for place in [path] if path else [SHIPPED, towers_folder(fingerprint)]:
            found = cls.at(place)
            if found and found.manifest.fingerprint == fingerprint:
                return found
            if found and fingerprint in found.manifest.earlier:
                return cls(place, found.manifest, translate_to=fingerprint)
        return None

    @classmethod
    def at(cls, path: str) -> Towers | None:
        """The towers in this folder, of any model. None as in `find`."""
        try:
            with open(os.path.join(path, MANIFEST), encoding="utf-8") as file:
                manifest = Manifest.from_json(file.read())
            sizes = {name: os.path.getsize(os.path.join(path, name)) for name in manifest.files}
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
            return None
        return cls(path, manifest) if sizes == manifest.files else None

    @classmethod
    def of_model(cls, spec: ModelSpec) -> Towers | None:
        """The towers from which photos can be embedded with this model, in either folder."""
        return next((found for found in cls._all() if found._is_of(spec)), None)

    @classmethod
    def named(cls, name: str) -> ModelSpec | None:
        """The model of this name that was made from files on another machine, or elsewhere on this one."""
        own = (found.spec for found in cls._all())
        return next((spec for spec in own if spec and spec.name == name and spec.is_local), None)

    @classmethod
    def _all(cls) -> Iterator[Towers]:
        known = [SHIPPED]
        with contextlib.suppress(OSError), os.scandir(os.path.dirname(towers_folder(""))) as entries:
            known += sorted(entry.path for entry in entries if entry.is_dir() and not entry.name.startswith("."))
        yield from filter(None, map(cls.at, known))

    @property
    def spec(self) -> ModelSpec | None:
        """The model, if photos can be embedded with these towers."""
        if not self.manifest.model or set(self.manifest.sha256) != set(self.manifest.files):
            return None
        return ModelSpec.from_json(self.manifest.model)

    def _is_of(self, spec: ModelSpec) -> bool:
        own, details = self.spec, self.manifest.details
        return (
            own is not None
            and replace(own, name=spec.name) == spec
            and weights_are(spec, details.get("weights_sha256"))
            and config_digest(spec) in (None, details.get("config_sha256"))
        )

    def is_worth_retrying(self) -> bool:
        """Whether a tower is missing that the installed versions of the libraries may be able to make."""
        return (bool(self.manifest.lacking) and self.manifest.made_with != libraries()) or not self.manifest.model

    def has(self, tower: Tower) -> bool:
        return tower not in self.manifest.lacking

    def has_raw(self, tower: Tower) -> bool:
        """Whether the tower gives its vectors before they are made unit length, too."""
        gives = self.manifest.text is not None if tower == "text" else self.manifest.format == RAW_FORMAT
        return gives and self.has(tower) and not self._translate_to

    def needs_runtime(self, tower: Tower) -> bool:
        """Whether ONNX Runtime runs the tower."""
        return tower == "image" or self.manifest.text is None

    @property
    def dim(self) -> int:
        """Of the vectors that come out."""
        return int(self._translation.shape[2]) if self._translate_to else self.manifest.dim

    @property
    def is_for_earlier(self) -> bool:
        """Whether the vectors are translated into the space of an earlier version of the model."""
        return self._translate_to is not None

    def embed_texts(self, texts: Sequence[str]) -> Vectors:
        """float32 (n, dim), unit length. Raises TowersError."""
        token_lists = [self._tokens(text) for text in texts]
        if self.manifest.text:
            vectors = self._text_vectors(token_lists)
        else:
            parts = [token_lists[start : start + TEXTS_AT_ONCE] for start in range(0, len(texts), TEXTS_AT_ONCE)]
            vectors = np.concatenate([self._run("text", ids=self._padded(part)) for part in parts])
        return self.translated(vectors, "text")

    def embed_with(self, text: str, vector: Vectors) -> Vectors:
        """float32 (dim,), unit length: the text, with `vector` in place of the embedding of its first `$`.

        Raises TowersError, and ModelError for a model that cannot do that.
        """
        from .pseudo_word import PLACEHOLDER, check_width, not_causal, place_of_placeholder, unit_or_error

        if self._translate_to:
            raise ModelError("the index is of an earlier version", hint="run `imgsearch index`, which embeds it again")
        if not self.manifest.text:
            raise not_causal()
        tokens = self._tokens(text)
        place = place_of_placeholder(tokens, self._tokens(PLACEHOLDER), self._tokenizer.end)
        tower = self.load("text")
        with _damage(), np.errstate(all="ignore"):
            check_width(len(vector), tower.width)
            found = tower([self._to_the_end(tokens)], [{place: vector}])[0]
        return unit_or_error(found)

    def embed_images(self, squares: Squares) -> Vectors:
        """uint8 (n, height, width, 3) at the recipe's size -> float32 (n, dim), unit length. Raises TowersError."""
        vectors = [self._run("image", squares=square[None]) for square in squares]
        return self.translated(np.concatenate(vectors), "image") if vectors else np.empty((0, self.dim), np.float32)

    def raw_texts(self, texts: Sequence[str]) -> Vectors:
        """As `embed_texts`, not normalised, if `has_raw`. Raises TowersError."""
        return self._raw_text_vectors([self._tokens(text) for text in texts])

    def raw_images(self, squares: Squares) -> Vectors:
        """As `embed_images`, not normalised, if `has_raw`. Raises TowersError."""
        vectors = [self._run("image", output=1, squares=square[None]) for square in squares]
        return np.concatenate(vectors) if vectors else np.empty((0, self.dim), np.float32)

    def translated(self, vectors: Vectors, tower: Tower) -> Vectors:
        """In the space of an earlier version of the model, if the index was made with that."""
        if not self._translate_to:
            return vectors
        table = self._translation[TOWERS.index(tower)]
        rows = vectors @ table[:-1] + table[-1]
        translated: Vectors = rows / np.linalg.norm(rows, axis=1, keepdims=True)
        return translated

    @cached_property
    def _translation(self) -> Any:
        """float32 (towers, dim + 1, earlier dim): by tower, a matrix and in its last row an offset."""
        assert self._translate_to
        path = os.path.join(self.path, self.manifest.earlier[self._translate_to])
        try:
            return np.load(path, allow_pickle=False).astype(np.float32)
        except (OSError, ValueError, EOFError) as error:
            raise TowersError(str(error), is_damage=True) from error

    def load(self, tower: Tower) -> Any:
        """The session of a tower, loaded if necessary. Raises TowersError."""
        if not self.has(tower):
            raise TowersError(self.manifest.lacking[tower])
        with self._loading:
            if tower not in self._towers:
                if self.needs_runtime(tower):
                    self._towers[tower] = session(os.path.join(self.path, f"{tower}.onnx"))
                else:
                    from .text_tower import TextTower
                    from .weights_file import WeightsFile

                    assert self.manifest.text
                    with _damage():
                        file = WeightsFile(os.path.join(self.path, self.manifest.text.weights))
                    self._towers[tower] = TextTower(file, self.manifest.text)
            return self._towers[tower]

    def remove(self) -> None:
        """Delete the files of the towers and nothing else. They can be made again."""
        if self.path == SHIPPED:
            return
        with contextlib.suppress(OSError):
            for name in (MANIFEST, *self.manifest.files):
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(os.path.join(self.path, name))
            os.rmdir(self.path)

    def _text_vectors(self, token_lists: Sequence[list[int]]) -> Vectors:
        vectors = self._raw_text_vectors(token_lists)
        with np.errstate(all="ignore"):
            vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        return self._finite(vectors)

    def _raw_text_vectors(self, token_lists: Sequence[list[int]]) -> Vectors:
        tower = self.load("text")
        with _damage(), np.errstate(all="ignore"):
            vectors: Vectors = tower([self._to_the_end(tokens) for tokens in token_lists])
        return self._finite(vectors)

    def _tokens(self, text: str) -> list[int]:
        return self._tokenizer(text.encode("utf-8", "replace").decode("utf-8"))

    def _to_the_end(self, tokens: list[int]) -> list[int]:
        return tokens[: tokens.index(self._tokenizer.end) + 1]

    def _padded(self, token_lists: Sequence[list[int]]) -> Any:
        ids = np.zeros((len(token_lists), self.manifest.context_length), np.int64)
        for row, tokens in zip(ids, token_lists, strict=True):
            row[: len(tokens)] = tokens
        return ids

    @cached_property
    def _tokenizer(self) -> Tokenizer:
        try:
            with open(os.path.join(self.path, MERGES), encoding="utf-8", newline="\n") as file:
                merges = file.read()
        except (OSError, ValueError) as error:
            raise TowersError(str(error), is_damage=True) from error
        clean: Any = self.manifest.clean
        return Tokenizer(merges, context_length=self.manifest.context_length, clean=clean)

    def _run(self, tower: Tower, *, output: int = 0, **inputs: Any) -> Vectors:
        return self._finite(run(self.load(tower), output=output, **inputs))

    @staticmethod
    def _finite(vectors: Vectors) -> Vectors:
        if not np.isfinite(vectors).all():
            raise TowersError("a vector that is not finite", is_damage=True)
        return vectors


def is_of_earlier_builtin(fingerprint: str) -> bool:
    """Whether a space was made with an earlier version of the built-in model."""
    towers = Towers.find(fingerprint)
    return towers is not None and towers.is_for_earlier


def libraries() -> str:
    """The installed versions of the libraries that make and run towers."""
    return ", ".join(f"{name} {version_of(name)}" for name in ("torch", "open_clip_torch", "onnxruntime"))


@contextlib.contextmanager
def _damage() -> Iterator[None]:
    """Turns what numpy and the weights file raise into TowersError."""
    try:
        yield
    except MemoryError as error:
        raise TowersError("not enough memory") from error
    except (ValueError, IndexError) as error:  # also a WeightsError, and tensors of other shapes than are needed
        raise TowersError(str(error), is_damage=True) from error


def _towers_error(error: BaseException) -> TowersError:
    text = str(error)
    is_missing = isinstance(error, ImportError | MemoryError) or re.search("alloc|memory|thread", text, re.IGNORECASE)
    return TowersError(text or type(error).__name__, is_damage=not is_missing)


def runtime() -> Any:
    """The onnxruntime module. First call it while no other thread imports anything: two threads that import numpy at
    the same time get half of it. numpy comes first, because onnxruntime swallows ^C while it imports it."""
    import numpy  # noqa: F401

    # Since 1.29 its wheels send usage reports unless this is set before the import.
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"
    import onnxruntime

    return onnxruntime


def run(loaded: Any, *, output: int = 0, **inputs: Any) -> Vectors:
    """The vectors that a session gives; output 1: before they are made unit length. Raises TowersError."""
    try:
        vectors: Vectors = loaded.run(None, inputs)[output]
    except Exception as error:  # onnxruntime's exceptions have no common base class
        raise _towers_error(error) from error
    return vectors


def session(path: str, *, optimised: str | None = None, for_many: bool = False) -> Any:
    """An ONNX Runtime session. `optimised`: a path to which the simplified graph and its weights are written.

    `for_many`: loads more slowly and runs faster, on one thread, so that several can run at once. Raises TowersError,
    also if onnxruntime is not installed.
    """
    try:
        ort = runtime()
        ort.set_default_logger_severity(4)
        options = ort.SessionOptions()
        options.log_severity_level = 4
        options.intra_op_num_threads = 1 if for_many else processor_cores()
        # Threads that spin while they wait take the cores from other threads.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        level = ort.GraphOptimizationLevel
        if for_many:
            options.graph_optimization_level = level.ORT_ENABLE_ALL
        else:
            # Use the weights in the mapped file: packing them takes longer than one query saves.
            options.add_session_config_entry("session.disable_prepacking", "1")
            options.graph_optimization_level = level.ORT_ENABLE_BASIC if optimised else level.ORT_DISABLE_ALL
        if optimised:
            options.optimized_model_filepath = optimised
            outside = f"{os.path.basename(optimised)}.data"
            options.add_session_config_entry("session.optimized_model_external_initializers_file_name", outside)
            options.add_session_config_entry("session.optimized_model_external_initializers_min_size_in_bytes", "1024")
        return ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # an ImportError, or one of onnxruntime's own classes
        raise _towers_error(error) from error


class QueryEmbedder:
    """Embeds queries the fastest way: from the cache, else with the ONNX towers, else with the model itself."""

    def __init__(
        self,
        identity: SpaceIdentity,
        load: Callable[[], Embedder],
        *,
        towers: Towers | None = None,
        cache: QueryCache | None = None,
    ) -> None:
        self.identity = identity
        self.model: Embedder | None = None
        """The model itself, if it was needed."""
        self._load = load
        self._towers = towers
        self._cache = cache
        self._known: dict[str, Vectors] = {}
        self._unknown: set[str] = set()

    @property
    def recipe(self) -> Recipe:
        return self._towers.manifest.recipe if self._towers else self._loaded_model().recipe

    def _loaded_model(self) -> Embedder:
        if self.model is None:
            self.model = self._load()
        return self.model

    def expect(self, tower: Tower, texts: Sequence[str] = ()) -> None:
        """Load the tower in the background, unless all `texts` are cached."""
        self._look_up(texts)
        is_needed = tower == "image" or any(text not in self._known for text in texts)
        if is_needed and self._towers and self._towers.has(tower) and self._towers.needs_runtime(tower):
            with contextlib.suppress(Exception):  # the same error comes when the tower is used
                runtime()
                # Not a daemon: onnxruntime aborts a process that exits while it loads.
                threading.Thread(target=self._prepare, args=(self._towers, tower)).start()

    def embed_texts(self, texts: Sequence[str]) -> Vectors:
        self._look_up(texts)
        wanted = [text for text in dict.fromkeys(texts) if text not in self._known]
        if not wanted:
            return np.stack([self._known[text] for text in texts])
        new = dict(zip(wanted, self._run("text", lambda model: model.embed_texts(wanted)), strict=True))
        if self._cache and len(texts) <= MAX_CACHED_TEXTS:
            self._cache.remember(new)
        return np.stack([self._known[text] if text in self._known else new[text] for text in texts])

    def _look_up(self, texts: Sequence[str]) -> None:
        if self._cache and len(texts) <= MAX_CACHED_TEXTS:
            new = [text for text in texts if text not in self._known and text not in self._unknown]
            self._known |= self._cache.find(new) if new else {}
            self._unknown.update(new)

    def embed_images(self, squares: Squares) -> Vectors:
        return self._run("image", lambda model: model.embed_images(squares))

    def embed_with(self, text: str, vector: Vectors) -> Vectors:
        return self._run("text", lambda model: model.embed_with(text, vector))

    def raw_images(self, squares: Squares) -> Vectors:
        return self._run("image", lambda model: model.raw_images(squares), is_raw=True)

    def raw_texts(self, texts: Sequence[str]) -> Vectors:
        return self._run("text", lambda model: model.raw_texts(texts), is_raw=True)

    def _run(self, tower: Tower, embed: Callable[[Towers | Embedder], Vectors], *, is_raw: bool = False) -> Vectors:
        if self._towers and (self._towers.has_raw(tower) if is_raw else self._towers.has(tower)):
            try:
                return embed(self._towers)
            except TowersError as error:
                if error.is_damage:  # earlier vectors may be wrong as well; both are made again
                    self._towers.remove()
                    if self._cache:
                        self._cache.forget()
                self._towers = None
        return embed(self._loaded_model())

    @staticmethod
    def _prepare(towers: Towers, tower: Tower) -> None:
        with contextlib.suppress(TowersError):
            towers.load(tower)
