"""Text or one picture to a unit vector without torch, whose import alone takes longer than a whole search.

The two towers of a model are ONNX files in the user's cache, written once by `core/models/onnx_export.py` and named by
the fingerprint of the space they answer for. ONNX Runtime maps their weights into memory instead of reading them, so a
query costs only what it computes. The only file that names onnxruntime.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import threading
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

from imgsearch.core.late import LateModule
from imgsearch.core.paths import cache_folder, processor_cores
from imgsearch.core.photos.codecs import version_of
from imgsearch.core.types import Embedder, Recipe, SpaceIdentity

from .query_cache import QueryCache
from .tokens import Tokenizer

if TYPE_CHECKING:
    import numpy as np

    from imgsearch.core.types import Squares, Vectors
else:  # the first towers begin to load before it is needed
    np = LateModule("numpy")

Tower = Literal["text", "image"]
TOWERS: tuple[Tower, ...] = ("text", "image")

FORMAT = 1
"""Of the files together; what has another number is made anew."""
SHIPPED = os.path.join(os.path.dirname(__file__), "builtin_model")
"""Those of the built-in model (bench/ship_light.py)."""
MANIFEST = "light.json"
MERGES = "merges.txt"

# More texts than this in one call are no question of a person's, and are not remembered.
MOST_REMEMBERED = 32
# Texts go through the tower together up to so many tokens; each is weighed against all of them.
TOKENS_AT_ONCE = 512


class OnnxError(Exception):
    """The light towers cannot answer; the model itself has to."""

    def __init__(self, reason: str, *, is_damage: bool = False) -> None:
        super().__init__(reason)
        self.is_damage = is_damage
        """Whether the files are to blame, and not what this process lacks."""


@dataclass(frozen=True, slots=True)
class Manifest:
    """What the files of one model are."""

    fingerprint: str
    dim: int
    recipe: Recipe
    context_length: int
    clean: str
    is_causal: bool
    """Whether a text may be cut after its end mark, since no token sees those behind it."""
    lacking: dict[str, str]
    """Why there is no `text` or no `image` tower, for those that there are not."""
    files: dict[str, int]
    """All other files of the folder with their sizes in bytes."""
    made_with: str
    """The libraries that wrote it: what failed with them is worth another try with others."""
    format: int = FORMAT

    def to_json(self) -> str:
        return json.dumps(asdict(self), indent=1)

    @classmethod
    def from_json(cls, text: str) -> Manifest:
        record = json.loads(text)
        if record["format"] != FORMAT:
            raise ValueError(f"format {record['format']}")
        if not all(os.path.basename(name) == name for name in [*record["files"], *record["lacking"]]):
            raise ValueError("names of other places")
        recipe: dict[str, Any] = {key: tuple(v) if isinstance(v, list) else v for key, v in record["recipe"].items()}
        return cls(**{**record, "recipe": Recipe(**recipe)})


def towers_folder(fingerprint: str) -> str:
    """Where the light towers of a model lie: never in an index, which may be somebody else's, and say anything."""
    if not re.fullmatch("[0-9a-f]{64}", fingerprint):
        fingerprint = hashlib.sha256(fingerprint.encode("utf-8", "replace")).hexdigest()
    return os.path.join(cache_folder(), "light", fingerprint[:16])


class OnnxTowers:
    """The light towers of one model, each loaded when first needed."""

    def __init__(self, path: str, manifest: Manifest) -> None:
        self.path = path
        self.manifest = manifest
        self._towers: dict[Tower, Any] = {}
        self._loading = threading.Lock()

    @classmethod
    def find(cls, fingerprint: str, path: str | None = None) -> OnnxTowers | None:
        """The towers made for that very model, or None: not made yet, incomplete, or of another version."""
        for place in [path] if path else [SHIPPED, towers_folder(fingerprint)]:
            try:
                with open(os.path.join(place, MANIFEST), encoding="utf-8") as file:
                    manifest = Manifest.from_json(file.read())
                sizes = {name: os.path.getsize(os.path.join(place, name)) for name in manifest.files}
            except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
                continue
            if manifest.fingerprint == fingerprint and sizes == manifest.files:
                return cls(place, manifest)
        return None

    def is_worth_retrying(self) -> bool:
        """Whether a tower is lacking that other versions of the libraries may be able to make."""
        return bool(self.manifest.lacking) and self.manifest.made_with != libraries()

    def has(self, tower: Tower) -> bool:
        return tower not in self.manifest.lacking

    def embed_texts(self, texts: Sequence[str]) -> Vectors:
        """float32 (n, dim), unit length, in the order given. Raises OnnxError."""
        token_lists = [self._tokens(text.encode("utf-8", "replace").decode("utf-8")) for text in texts]
        vectors = np.empty((len(texts), self.manifest.dim), np.float32)
        by_length = sorted(range(len(texts)), key=lambda i: len(token_lists[i]))
        while by_length:
            count = max(1, TOKENS_AT_ONCE // len(token_lists[by_length[-1]]))
            by_length, chosen = by_length[:-count], by_length[-count:]
            tokens = [token_lists[i] for i in chosen]
            vectors[chosen] = self._run("text", **(packed(tokens) if self.manifest.is_causal else self._whole(tokens)))
        return vectors

    def embed_images(self, squares: Squares) -> Vectors:
        """uint8 (n, height, width, 3) at the recipe's size -> float32 (n, dim), unit length. Raises OnnxError."""
        vectors = [self._run("image", squares=square[None]) for square in squares]
        return np.concatenate(vectors) if vectors else np.empty((0, self.manifest.dim), np.float32)

    def load(self, tower: Tower) -> Any:
        """Bring a tower into memory, if it is not there yet. Raises OnnxError."""
        if not self.has(tower):
            raise OnnxError(self.manifest.lacking[tower])
        with self._loading:
            if tower not in self._towers:
                self._towers[tower] = session(os.path.join(self.path, f"{tower}.onnx"))
            return self._towers[tower]

    def remove(self) -> None:
        """They can be made again. Nothing but their own files goes."""
        if self.path == SHIPPED:
            return
        with contextlib.suppress(OSError):
            for name in (MANIFEST, *self.manifest.files):
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(os.path.join(self.path, name))
            os.rmdir(self.path)

    def _tokens(self, text: str) -> list[int]:
        tokens = self._tokenizer(text)
        return tokens[: tokens.index(self._tokenizer.end) + 1] if self.manifest.is_causal else tokens

    def _whole(self, token_lists: Sequence[list[int]]) -> dict[str, Any]:
        ids = np.zeros((len(token_lists), self.manifest.context_length), np.int64)
        for row, tokens in zip(ids, token_lists, strict=True):
            row[: len(tokens)] = tokens
        return {"ids": ids}

    @cached_property
    def _tokenizer(self) -> Tokenizer:
        try:
            with open(os.path.join(self.path, MERGES), encoding="utf-8", newline="\n") as file:
                merges = file.read()
        except (OSError, ValueError) as error:
            raise OnnxError(str(error), is_damage=True) from error
        clean: Any = self.manifest.clean
        return Tokenizer(merges, context_length=self.manifest.context_length, clean=clean)

    def _run(self, tower: Tower, **inputs: Any) -> Vectors:
        loaded = self.load(tower)
        try:
            (vectors,) = loaded.run(None, inputs)
        except Exception as error:  # onnxruntime raises classes of its own, without a common parent
            raise _light_error(error) from error
        if not np.isfinite(vectors).all():
            raise OnnxError("a vector that is not finite", is_damage=True)
        found: Vectors = vectors
        return found


def libraries() -> str:
    """Those that towers are made and run with, as installed."""
    return ", ".join(f"{name} {version_of(name)}" for name in ("torch", "open_clip_torch", "onnxruntime"))


def packed(token_lists: Sequence[list[int]]) -> dict[str, Any]:
    """Texts end to end, as a causal tower takes them: token numbers and their positions (tokens), who sees whom
    (tokens, tokens), and where each text ends (texts)."""
    lengths = [len(tokens) for tokens in token_lists]
    text = np.repeat(np.arange(len(lengths)), lengths)
    positions = np.concatenate([np.arange(length) for length in lengths])
    sees = (text[:, None] == text) & (positions[:, None] >= positions)
    return {
        "ids": np.concatenate(token_lists).astype(np.int64),
        "positions": positions.astype(np.int64),
        "mask": np.where(sees, np.float32(0), np.float32(-np.inf)),
        "last": np.cumsum(lengths).astype(np.int64) - 1,
    }


def _light_error(error: BaseException) -> OnnxError:
    text = str(error)
    lacks = isinstance(error, ImportError | MemoryError) or re.search("alloc|memory|thread", text, re.IGNORECASE)
    return OnnxError(text or type(error).__name__, is_damage=not lacks)


def runtime() -> Any:
    """The onnxruntime module. First called where no other thread is importing anything: two that meet in numpy would
    leave each other with half of it. numpy comes first, because onnxruntime imports it in a way that swallows ^C."""
    import numpy  # noqa: F401

    # Since 1.29 its wheels send reports of use unless this is set before they are imported.
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"
    import onnxruntime

    return onnxruntime


def session(path: str, *, optimised: str | None = None) -> Any:
    """An ONNX Runtime session. With `optimised` the graph is simplified and written there, its weights beside it.

    Raises OnnxError, also where onnxruntime is missing.
    """
    try:
        ort = runtime()
        ort.set_default_logger_severity(4)
        options = ort.SessionOptions()
        options.log_severity_level = 4
        options.intra_op_num_threads = processor_cores()
        # A thread that waits for the next piece of work by spinning takes the core from whoever has work.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        # Weights stay where they are, in the mapped file: packing them costs more than one question gains by it.
        options.add_session_config_entry("session.disable_prepacking", "1")
        level = ort.GraphOptimizationLevel
        options.graph_optimization_level = level.ORT_ENABLE_BASIC if optimised else level.ORT_DISABLE_ALL
        if optimised:
            options.optimized_model_filepath = optimised
            outside = f"{os.path.basename(optimised)}.data"
            options.add_session_config_entry("session.optimized_model_external_initializers_file_name", outside)
            options.add_session_config_entry("session.optimized_model_external_initializers_min_size_in_bytes", "1024")
        return ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # an ImportError, or one of onnxruntime's own classes
        raise _light_error(error) from error


class QueryEmbedder:
    """Vectors for questions, by the quickest way: remembered, then the light towers, then the model itself."""

    def __init__(
        self,
        identity: SpaceIdentity,
        load: Callable[[], Embedder],
        *,
        light: OnnxTowers | None = None,
        history: QueryCache | None = None,
    ) -> None:
        self.identity = identity
        self.whole: Embedder | None = None
        """The model itself, once it had to be loaded."""
        self._load = load
        self._light = light
        self._history = history
        self._known: dict[str, Vectors] = {}
        self._unknown: set[str] = set()

    @property
    def recipe(self) -> Recipe:
        return self._light.manifest.recipe if self._light else self._whole().recipe

    def _whole(self) -> Embedder:
        if self.whole is None:
            self.whole = self._load()
        return self.whole

    def expect(self, tower: Tower, texts: Sequence[str] = ()) -> None:
        """Load in the background what will be asked, while other things are done."""
        self._recall(texts)
        is_needed = tower == "image" or any(text not in self._known for text in texts)
        if is_needed and self._light and self._light.has(tower):
            with contextlib.suppress(Exception):  # whoever needs the tower meets it again
                runtime()
                # Waited for at the end: onnxruntime aborts a process that leaves while it loads.
                threading.Thread(target=self._prepare, args=(self._light, tower)).start()

    def embed_texts(self, texts: Sequence[str]) -> Vectors:
        self._recall(texts)
        wanted = [text for text in dict.fromkeys(texts) if text not in self._known]
        if not wanted:
            return np.stack([self._known[text] for text in texts])
        new = dict(zip(wanted, self._embed("text", wanted), strict=True))
        if self._history and len(texts) <= MOST_REMEMBERED:
            self._history.remember(new)
        return np.stack([self._known[text] if text in self._known else new[text] for text in texts])

    def _recall(self, texts: Sequence[str]) -> None:
        if self._history and len(texts) <= MOST_REMEMBERED:
            new = [text for text in texts if text not in self._known and text not in self._unknown]
            self._known |= self._history.find(new) if new else {}
            self._unknown.update(new)

    def embed_images(self, squares: Squares) -> Vectors:
        return self._embed("image", squares)

    def _embed(self, tower: Tower, items: Any) -> Vectors:
        if self._light and self._light.has(tower):
            try:
                return self._light.embed_texts(items) if tower == "text" else self._light.embed_images(items)
            except OnnxError as error:
                if error.is_damage:  # what they gave before may be wrong as well; both are made again
                    self._light.remove()
                    if self._history:
                        self._history.forget()
                self._light = None
        whole = self._whole()
        return whole.embed_texts(items) if tower == "text" else whole.embed_images(items)

    @staticmethod
    def _prepare(light: OnnxTowers, tower: Tower) -> None:
        with contextlib.suppress(OnnxError):
            light.load(tower)
