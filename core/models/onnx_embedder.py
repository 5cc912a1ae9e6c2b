"""Embeds photos on the CPU without torch, with the ONNX towers of a model.

Faster than torch for the models measured (docs/benchmarks.md), and nothing waits for torch to be imported. Which of the
two is faster for a model on this machine is measured once, when a run is long enough for that to pay.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import platform
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from typing import TYPE_CHECKING, Any

from imgsearch.core.errors import ModelError
from imgsearch.core.late import LateModule
from imgsearch.core.paths import processor_cores
from imgsearch.core.places import cache_folder
from imgsearch.core.types import Embedder, Recipe, SpaceIdentity

from .hub import Say
from .registry import ALIASES, BUILTIN, RECOMMENDED, ModelSpec, json_file, weights_digest, write_cache
from .towers import Tower, Towers, TowersError, libraries, run, runtime, session

if TYPE_CHECKING:
    import numpy as np

    from imgsearch.core.types import Squares, Vectors
else:
    np = LateModule("numpy")

BATCH_SIZE = 16
"""Each photo is a run of its own, so a larger batch is no faster. A small one lets embedding begin earlier."""
MEASURE_FROM_PHOTOS = 5_000
"""A run of that size takes a minute or more; importing torch and comparing takes about ten seconds, once."""
MEASURED_PHOTOS = 64
GPU_FILES = ("/dev/nvidiactl", "/dev/kfd", "/dev/dxg")
"""What the drivers of NVIDIA, AMD and of GPUs under Windows' Linux make."""


class OnnxEmbedder:
    """Both towers of a model (a `types.Embedder`)."""

    device = "cpu"
    precision = "fp32"

    def __init__(self, towers: Towers, identity: SpaceIdentity, whole: Callable[[], Embedder], say: Say) -> None:
        """`whole` loads the model itself, in case its towers fail or torch is faster."""
        self.batch_size = BATCH_SIZE
        self.identity = identity
        self._towers = towers
        self._whole = whole
        self._say = say
        self._model: Embedder | None = None

    @property
    def recipe(self) -> Recipe:
        return self._towers.manifest.recipe

    def expect(self, photos: int) -> None:
        """Prepare for a run: load the tower while the first photos are read, and before a long run compare with torch,
        unless that was done before."""
        with contextlib.suppress(TowersError, ImportError):  # the same error comes when the tower is used
            runtime()
            self._threads.submit(lambda: self._image_tower)
        known = self._model or rates(self.identity.fingerprint)
        if photos < MEASURE_FROM_PHOTOS or known or not has_torch():
            return
        self._say(f"measuring whether torch embeds faster with {self.identity.name}, once")
        try:
            model = self._whole()
            if is_torch_faster(self, model):
                self._model = model
        except (ModelError, TowersError, RuntimeError, ImportError):  # this embedder works, which is enough
            return

    def embed_images(self, squares: Squares) -> Vectors:
        """uint8 (n, height, width, 3) at the recipe's size -> float32 (n, dim), unit length.

        A vector that is not finite becomes a row of NaN. Raises ModelError.
        """
        if self._model is None:
            try:
                return self.run_image_tower(squares)
            except TowersError as error:
                self._give_up(error)
        assert self._model
        return self._model.embed_images(squares)

    def run_image_tower(self, squares: Squares) -> Vectors:
        """`embed_images` without the fallback. Raises TowersError."""
        if not len(squares):
            return np.empty((0, self.identity.dim), np.float32)
        tower = self._image_tower
        vectors = np.concatenate(list(self._threads.map(lambda square: run(tower, squares=square[None]), squares)))
        vectors[~np.isfinite(vectors).all(axis=1)] = np.nan
        return vectors

    def embed_texts(self, texts: Sequence[str]) -> Vectors:
        """float32 (n, dim), unit length. Raises ModelError."""
        if self._model is None:
            try:
                return self._towers.embed_texts(texts)
            except TowersError as error:
                self._give_up(error)
        assert self._model
        return self._model.embed_texts(texts)

    def embed_with(self, text: str, vector: Vectors) -> Vectors:
        """As `Towers.embed_with`. Raises ModelError."""
        if self._model is None:
            try:
                return self._towers.embed_with(text, vector)
            except TowersError as error:
                self._give_up(error)
        assert self._model
        return self._model.embed_with(text, vector)

    def raw_images(self, squares: Squares) -> Vectors:
        """As `embed_images`, not normalised. Raises ModelError."""
        return self._raw("image", lambda model: model.raw_images(squares))

    def raw_texts(self, texts: Sequence[str]) -> Vectors:
        """As `embed_texts`, not normalised. Raises ModelError."""
        return self._raw("text", lambda model: model.raw_texts(texts))

    def _raw(self, tower: Tower, embed: Callable[[Towers | Embedder], Vectors]) -> Vectors:
        if self._model is None and self._towers.has_raw(tower):
            try:
                return embed(self._towers)
            except TowersError as error:
                self._give_up(error)
        return embed(self._model or self._exact)

    @cached_property
    def _exact(self) -> Embedder:
        """The model itself, for what its towers do not give."""
        return self._whole()

    @cached_property
    def _threads(self) -> ThreadPoolExecutor:
        return ThreadPoolExecutor(processor_cores(), thread_name_prefix="embed")

    @cached_property
    def _image_tower(self) -> Any:
        return session(os.path.join(self._towers.path, "image.onnx"), for_many=True)

    def _give_up(self, error: TowersError) -> None:
        """Go on with the model itself. Raises ModelError if there is none."""
        if not has_torch():
            hint = "install imgsearch again" if error.is_damage else "close other programs, and try again"
            raise ModelError(f"{self.identity.name} cannot embed: {error}", hint=hint) from error
        self._say(f"{self.identity.name} does not run on ONNX Runtime ({error}); using torch")
        self._model = self._whole()


def find(
    spec: ModelSpec, *, device: str, precision: str, whole: Callable[[], Embedder], say: Say
) -> OnnxEmbedder | None:
    """The embedder of a model that needs no torch, unless the user, a GPU or a measurement asks for torch."""
    if option_for_torch(device, precision) or (device == "auto" and has_torch() and may_have_gpu()):
        return None
    towers = Towers.of_model(spec)
    if towers is None or towers.manifest.lacking or not _is_intact(towers, spec):
        return None
    manifest = towers.manifest
    known = rates(manifest.fingerprint)
    if known and known["torch"] > known["onnx"] and has_torch():
        return None
    identity = SpaceIdentity(manifest.fingerprint, spec.name, spec.arch, spec.weights, manifest.dim, manifest.details)
    return OnnxEmbedder(towers, identity, whole, say)


def option_for_torch(device: str, precision: str) -> str:
    """The option that only torch can follow; empty if there is none."""
    if device not in ("auto", "cpu"):
        return f"--device {device}"
    is_same_here = precision == "auto" or (precision == OnnxEmbedder.precision and not has_torch())
    return "" if is_same_here else f"--precision {precision}"


def can_do_without_torch(spec: ModelSpec) -> bool:
    """Whether the towers of the model are here, so that photos can be embedded with it. Hashes nothing."""
    towers = Towers.of_model(spec)
    return towers is not None and not towers.manifest.lacking


def resolve_auto(say: Say) -> ModelSpec:
    """Without torch: the recommended model if its towers are here, else the built-in one, reported in one line."""
    recommended = ALIASES[RECOMMENDED].spec
    if can_do_without_torch(recommended):
        return recommended
    say(
        "torch is not installed; using the built-in model. For better results, export "
        f"{RECOMMENDED} on a machine with torch (imgsearch models export {RECOMMENDED} FILE), and import it here"
    )
    return ALIASES[BUILTIN].spec


def _is_intact(towers: Towers, spec: ModelSpec) -> bool:
    """Whether the files have their checksums; damaged ones are removed. Raises ModelError if nothing replaces them."""
    try:
        sums = {name: weights_digest(os.path.join(towers.path, name)) for name in towers.manifest.files}
    except ModelError:
        sums = {}
    if sums == towers.manifest.sha256:
        return True
    towers.remove()
    if not has_torch():
        raise ModelError(f"the files of {spec.name} in {towers.path} are damaged", hint="install or import them again")
    return False


def has_torch() -> bool:
    """Whether torch and open_clip are installed. Imports neither."""
    return all(name in sys.modules or importlib.util.find_spec(name) for name in ("torch", "open_clip"))


def may_have_gpu() -> bool:
    """Whether torch may find a GPU, as far as files show: importing torch to ask takes seconds."""
    if sys.platform == "darwin":
        return platform.machine() == "arm64"
    return any(os.path.exists(path) for path in GPU_FILES)


# ------------------------------------------------------------------------------- measuring, once


def is_torch_faster(onnx: OnnxEmbedder, model: Embedder) -> bool:
    """Compare them by photos per second, in turn, and remember the result. Raises TowersError."""
    height, width = onnx.recipe.size
    squares = np.random.default_rng(7).integers(0, 256, (MEASURED_PHOTOS, height, width, 3), np.uint8)
    ways: dict[str, Callable[[Squares], Vectors]] = {"onnx": onnx.run_image_tower, "torch": model.embed_images}
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for embed in ways.values():
        embed(squares[:BATCH_SIZE])
    for _ in range(2):
        for name, embed in ways.items():
            started = time.perf_counter()
            embed(squares)
            seconds[name].append(time.perf_counter() - started)
    measured = {name: round(MEASURED_PHOTOS / min(times), 1) for name, times in seconds.items()}
    known = json_file(_file()) | {_key(onnx.identity.fingerprint): measured}
    with contextlib.suppress(OSError):
        write_cache(_file(), known)
    return measured["torch"] > measured["onnx"]


def rates(fingerprint: str) -> dict[str, float] | None:
    """Photos per second on this machine by `onnx` and `torch`, if they were compared with these versions."""
    found = json_file(_file()).get(_key(fingerprint))
    is_known = isinstance(found, dict) and all(isinstance(found.get(name), int | float) for name in ("onnx", "torch"))
    return found if is_known else None


def _file() -> str:
    return os.path.join(cache_folder(), "photos-per-second.json")


def _key(fingerprint: str) -> str:
    return json.dumps([fingerprint[:16], _processor(), processor_cores(), libraries()])


def _processor() -> str:
    with contextlib.suppress(OSError, UnicodeDecodeError), open("/proc/cpuinfo", encoding="utf-8") as file:
        for line in file:
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
