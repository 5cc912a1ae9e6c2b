"""A model that turns squares and texts into unit vectors. The only file that names open_clip.

`load` makes an `OpenClipEmbedder`, on the device and in the precision that fit, exactly as open_clip itself
would load the same name. Nothing that runs when unpickled is ever loaded, and no library prints anything.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import json
import logging
import os
import re
import sys
import threading
import warnings
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

from imgsearch.core.errors import ModelError, UsageError
from imgsearch.core.models import registry
from imgsearch.core.models.registry import ModelSpec, Progress, Say
from imgsearch.core.types import Recipe, SpaceIdentity

# The decoders need the cores between two steps of the model: torch's threads are not to wait for the next one spinning.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import numpy as np
    import open_clip
    import safetensors
    import torch
    from open_clip import factory

if TYPE_CHECKING:
    from imgsearch.core.types import Squares, Vectors

Precision = Literal["fp16", "bf16", "fp32"]

_OTHER_MODEL = "name another model: `imgsearch models` lists some"

BUILTIN_DIR = Path(__file__).parent / "builtin_model"

BATCH_SIZES = {"cpu": 32, "mps": 32, "cuda": 128}
"""On 2 CPU cores 32 and 64 differ by less than the noise; a small batch keeps the look-ahead small."""

BF16_COSINE = 0.999
"""bf16 is kept only if the first photos come out this close to fp32. On 2 cores of an EPYC with AVX512-BF16,
ViT-B-32-256 (random weights): 0.99995, and 29 photos/s against 15. Convolutional towers stay in fp32: of the
built-in model's vectors 4 in 1,000 fell below 0.999 (lowest 0.9986), for 1,170 photos/s against 780, and at
such rates another stage is the slowest."""
BF16_PHOTOS = 4


def load(
    spec: ModelSpec,
    *,
    device: str = "auto",
    precision: str = "auto",
    say: Say | None = None,
    progress: Progress | None = None,
    offline: bool = False,
    threads: int | None = None,
) -> OpenClipEmbedder:
    """The model, ready to embed; what it lacks is fetched first. Raises `ModelError` or `UsageError`.

    `device` is auto, cuda, cuda:N, mps or cpu; `precision` is auto, fp16, bf16 or fp32, and means the image
    tower (texts are few and stay in fp32). `say` takes the lines a user should see.
    """
    say = say or _say_nothing
    if precision not in ("auto", "fp16", "bf16", "fp32"):
        raise UsageError(f"no such precision: {precision}", hint="one of auto, fp16, bf16, fp32")
    place = choose_device(device, say)
    if threads:
        torch.set_num_threads(threads)
    source = _find(spec, say, progress, offline)
    _vet(source.checkpoint)
    model = _build(source)
    tokenizer = _tokenizer(source)
    return OpenClipEmbedder(
        model,
        tokenizer,
        identity=_identity(source, model, tokenizer),
        recipe=_recipe(model),
        device=place,
        device_is_given=device != "auto",
        precision=cast("Precision | Literal['auto']", precision),
        say=say,
        again=lambda: _build(source),
    )


class OpenClipEmbedder:
    """Both towers of an open_clip model (a `types.Embedder`)."""

    def __init__(
        self,
        model: Any,
        tokenizer: Callable[[list[str]], torch.Tensor],
        *,
        identity: SpaceIdentity,
        recipe: Recipe,
        device: torch.device,
        device_is_given: bool = False,
        precision: Precision | Literal["auto"] = "auto",
        say: Say | None = None,
        again: Callable[[], Any] | None = None,
    ) -> None:
        self.again = again
        """The model anew, in fp32 and on the CPU, whatever has been made of this one."""
        self.model = model.eval().requires_grad_(False)
        self.tokenizer = tokenizer
        self.recipe = recipe
        self.batch_size = BATCH_SIZES[device.type]
        """Photos or texts at a time; shrinks by itself when memory runs out."""
        self.context_length = int(getattr(tokenizer, "context_length", 0) or 77)
        """Tokens of a text that are read; the rest is cut."""
        self._identity = identity
        self._say = say or _say_nothing
        self._device = device
        self._device_is_given = device_is_given
        self._precision_is_given = precision != "auto"
        self._is_convolutional = _is_convolutional(self.model.visual)
        self._causal = CausalText(self.model) if is_causal(self.model) else None
        self._has_worked = False
        self._exact_visual: Any = None
        """The image tower in fp32, until the first photos have shown whether bf16 will do."""
        self.precision: Precision = _precision_for(device, self._is_convolutional) if precision == "auto" else precision
        self._settle()

    @property
    def identity(self) -> SpaceIdentity:
        return self._identity

    @property
    def device(self) -> str:
        return str(self._device)

    @property
    def dim(self) -> int:
        return self._identity.dim

    def embed_images(self, squares: Squares) -> Vectors:
        """uint8 (n, height, width, 3) at the recipe's size -> float32 (n, dim), unit length.

        A photo whose vector is not finite comes back as a row of NaN, never as a wrong unit vector.
        """
        if not len(squares):
            return np.empty((0, self.dim), np.float32)
        if squares.dtype != np.uint8 or squares.shape[1:] != (*self.recipe.size, 3):
            raise ValueError(f"not uint8 squares of {self.recipe.size}: {squares.dtype} {squares.shape}")
        self._check_bf16(squares[:BF16_PHOTOS])
        vectors = self._in_batches(len(squares), lambda part: self._image_features(squares[part]))
        lost = ~np.isfinite(vectors).all(axis=1)
        if lost.any() and self.precision != "fp32" and not self._precision_is_given:
            self._say(f"{self.precision} overflows with this model; going on in fp32")
            self.precision = "fp32"
            self._settle()
            again = squares[lost]
            vectors[lost] = self._in_batches(len(again), lambda part: self._image_features(again[part]))
        return vectors

    def embed_texts(self, texts: Sequence[str]) -> Vectors:
        """float32 (n, dim), unit length, in the order given; each text is cut at `context_length` tokens."""
        if not texts:
            return np.empty((0, self.dim), np.float32)
        # A text out of a file may hold surrogates, which no tokenizer can encode.
        clean = [text.encode("utf-8", "replace").decode("utf-8") for text in texts]
        return self._in_batches(len(clean), lambda part: self._text_features(clean[part]))

    def _image_features(self, squares: Squares) -> torch.Tensor:
        """Normalised in float32, step for step like torchvision's ToTensor and Normalize, then cast."""
        pixels = torch.from_numpy(squares if squares.flags.writeable else squares.copy())
        images = pixels.to(self._device).permute(0, 3, 1, 2).to(torch.float32).div(255)
        images = images.sub(self._mean).div(self._std)
        layout = torch.channels_last if self._is_convolutional else torch.contiguous_format
        return cast(torch.Tensor, self.model.encode_image(images.to(self._dtype, memory_format=layout)))

    def _text_features(self, texts: list[str]) -> torch.Tensor:
        ids = self.tokenizer(texts)
        end = getattr(self.tokenizer, "eot_token_id", None)
        if end is None or self._causal is None:
            return cast(torch.Tensor, self.model.encode_text(ids.to(self._device)))
        last = (ids == end).int().argmax(dim=1)
        ids = ids[:, : int(last.max()) + 1]  # most texts are a tenth of what the model could read
        return cast(torch.Tensor, self._causal(ids.to(self._device), last.to(self._device)))

    def _in_batches(self, count: int, features: Callable[[slice], torch.Tensor]) -> Vectors:
        done: list[Vectors] = []
        at = 0
        while at < count:
            part = slice(at, min(at + self.batch_size, count))
            vectors = self._attempt(features, part)
            if vectors is not None:
                done.append(vectors)
                at = part.stop
        return np.concatenate(done)

    def _attempt(self, features: Callable[[slice], torch.Tensor], part: slice) -> Vectors | None:
        """One batch, or `None` after something was changed that makes another attempt worthwhile."""
        try:
            with torch.inference_mode():
                rows = features(part).float()
                vectors = rows / rows.norm(dim=-1, keepdim=True)
                vectors[~vectors.isfinite().all(dim=-1)] = torch.nan
                self._has_worked = True
                return cast("Vectors", vectors.cpu().numpy())
        except (RuntimeError, MemoryError) as error:
            out_of_memory = _is_out_of_memory(error)
            if self._device.type == "cpu" and not out_of_memory:
                raise
            reason = one_line(error)
        # Out of the handler: its traceback held the tensors that did not fit.
        self._give_way(out_of_memory, part.stop - part.start, reason)
        return None

    def _give_way(self, out_of_memory: bool, size: int, reason: str) -> None:
        if out_of_memory and size > 1:
            self.batch_size = size // 2
            self._say(f"out of memory on {self.device}; going on with batches of {self.batch_size}")
            if self._device.type == "cuda":
                torch.cuda.empty_cache()
        elif self._device.type == "cpu":
            raise ModelError(f"out of memory for a single item with {self._identity.name}", hint="use a smaller model")
        elif out_of_memory or not (self._has_worked or self._device_is_given):
            self._move_to_cpu("out of memory" if out_of_memory else reason)
        else:
            raise ModelError(f"{self.device} failed: {reason}", hint="--device cpu")

    def _move_to_cpu(self, reason: str) -> None:
        self._say(f"{self.device} does not work for this model ({reason}); going on on the CPU")
        self._device = torch.device("cpu")
        self.precision = "fp32"
        self.batch_size = BATCH_SIZES["cpu"]
        try:
            self._settle()
        except RuntimeError as error:
            raise ModelError(f"the GPU failed: {one_line(error)}", hint="--device cpu") from error

    def _settle(self) -> None:
        """Move the towers to where and what they should be."""
        self._dtype = {"fp16": torch.float16, "bf16": torch.bfloat16, "fp32": torch.float32}[self.precision]
        if self._device.type == "cpu" and self.precision == "bf16" and not self._precision_is_given:
            self._exact_visual = self.model.visual
            self.model.visual = _copied(self.model.visual)
        try:
            self.model.to(self._device)
        except (RuntimeError, AssertionError) as error:  # the latter from a torch without CUDA
            if self._device.type == "cpu":
                raise
            reason = one_line(error)
        else:
            layout = torch.channels_last if self._is_convolutional else torch.preserve_format
            self.model.visual.to(dtype=self._dtype, memory_format=layout)
            shape = (1, 3, 1, 1)
            self._mean = torch.tensor(self.recipe.mean, device=self._device).view(shape)
            self._std = torch.tensor(self.recipe.std, device=self._device).view(shape)
            return
        self._give_way(_is_out_of_memory_text(reason), 1, reason)

    def _check_bf16(self, squares: Squares) -> None:
        """On the first photos: is bf16 close enough to fp32 with this model?"""
        if self._exact_visual is None:
            return
        exact, self._exact_visual = self._exact_visual, None
        quick = self.model.visual
        rough = self._in_batches(len(squares), lambda part: self._image_features(squares[part]))
        self.model.visual, self._dtype = exact, torch.float32
        true = self._in_batches(len(squares), lambda part: self._image_features(squares[part]))
        lowest = float((rough * true).sum(axis=1).min())
        if lowest >= BF16_COSINE:
            self.model.visual, self._dtype = quick, torch.bfloat16
        else:
            self.precision = "fp32"
            self._say(f"bf16 is too coarse for this model (cosine {lowest:.4f} to fp32); going on in fp32")


def _say_nothing(line: str) -> None:
    pass


class CausalText(torch.nn.Module):
    """A text tower in which no token sees those behind it: all behind the end mark can be left out, and is.

    Takes token numbers (n, tokens) and the place of each text's end mark (n); gives (n, dim), not normalised.
    """

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.tower = getattr(model, "text", model)

    def forward(self, ids: torch.Tensor, last: torch.Tensor) -> torch.Tensor:
        tower, count = self.tower, ids.shape[1]
        x = tower.token_embedding(ids) + tower.positional_embedding[:count]
        x = tower.ln_final(tower.transformer(x, attn_mask=tower.attn_mask[:count, :count]))
        return self.projected(x[torch.arange(len(x), device=x.device), last])

    def projected(self, x: torch.Tensor) -> torch.Tensor:
        """The last step, from the tower's width to the dimension of its vectors."""
        projection = self.tower.text_projection
        if projection is None:
            return x
        return cast(torch.Tensor, projection(x) if isinstance(projection, torch.nn.Linear) else x @ projection)


def is_causal(model: Any) -> bool:
    """Whether a text may be cut after its end mark, which `CausalText` does."""
    tower = getattr(model, "text", model)
    mask = getattr(tower, "attn_mask", None)
    pool = getattr(tower, "pool_type", None) or getattr(model, "text_pool_type", None)
    if mask is None or getattr(tower, "cls_emb", None) is not None or pool not in ("argmax", "eos"):
        return False
    sees = mask == 0
    return bool((sees == torch.ones_like(sees).tril()).all() and mask[~sees].eq(float("-inf")).all())


# --------------------------------------------------------------------------------------------- silence

_SILENCE = threading.RLock()


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Nothing is logged, warned of, or asked of the hub inside.

    open_clip logs through the root logger, which installs a handler on stderr if it has none: hence the null
    handler. Everything from the hub was fetched before (models.ensure_weights).
    """
    with _SILENCE, warnings.catch_warnings(), _hub_switched_off():
        warnings.simplefilter("ignore")
        root, stopper, level = logging.getLogger(), logging.NullHandler(), logging.root.manager.disable
        root.addHandler(stopper)
        logging.disable(logging.CRITICAL)
        try:
            yield
        finally:
            logging.disable(level)
            root.removeHandler(stopper)


@contextlib.contextmanager
def _hub_switched_off() -> Iterator[None]:
    constants: Any = sys.modules.get("huggingface_hub.constants")
    before = getattr(constants, "HF_HUB_OFFLINE", None)
    if constants is not None:
        constants.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        if constants is not None:
            constants.HF_HUB_OFFLINE = before


# ------------------------------------------------------------------------------ devices and precisions


def choose_device(device: str, say: Say = _say_nothing) -> torch.device:
    """What `--device` means on this machine. `auto`: the first of CUDA, MPS and CPU that works."""
    if not re.fullmatch(r"auto|cuda(:\d+)?|mps|cpu", device):
        raise UsageError(f"no such device: {device}", hint="one of auto, cuda, cuda:N, mps, cpu")
    if device == "cpu":
        return torch.device("cpu")
    if device != "auto":
        trouble = _trouble_with(device)
        if trouble:
            raise ModelError(f"cannot use --device {device}: {trouble}", hint="--device auto takes what is there")
        return torch.device(device)
    for kind in ("cuda", "mps"):
        if _is_there(kind):
            trouble = _trouble_with(kind)
            if trouble is None:
                return torch.device(kind)
            say(f"{kind} does not work ({trouble}); using the CPU")
    return torch.device("cpu")


def devices() -> dict[str, Any]:
    """What torch sees of this machine, and what `auto` takes of it, as JSON has it."""
    said: list[str] = []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        torch.cuda.is_available()  # warns of a driver that is too old
        gpus: list[Any] = []
        with contextlib.suppress(RuntimeError, AssertionError):  # of which `choose_device` tells
            gpus = [torch.cuda.get_device_properties(number) for number in range(torch.cuda.device_count())]
    place = choose_device("auto", said.append)
    return {
        "cuda": torch.version.cuda,
        "rocm": torch.version.hip,
        "gpus": [{"name": gpu.name, "bytes": gpu.total_memory} for gpu in gpus],
        "warnings": [str(warning.message) for warning in caught],
        "trouble": said,
        "device": str(place),
        "has_bf16": cpu_has_bf16(),
        "precisions": [_precision_for(place, is_convolutional) for is_convolutional in (False, True)],
        "threads": torch.get_num_threads(),
    }


def _is_there(kind: str) -> bool:
    with quiet():  # torch warns of a driver that is too old
        return torch.cuda.is_available() if kind == "cuda" else torch.backends.mps.is_available()


def _trouble_with(device: str) -> str | None:
    """A driver too old, or a GPU this torch was not built for, only shows when something is computed."""
    kind = device.partition(":")[0]
    if not _is_there(kind):
        return f"torch finds no {kind.upper()} device on this machine"
    try:
        picture = torch.ones(1, 3, 8, 8, device=device)
        kernel = torch.ones(4, 3, 3, 3, device=device)
        result = float(torch.nn.functional.conv2d(picture, kernel).sum().cpu())
    except (RuntimeError, AssertionError) as error:
        return one_line(error)
    return None if result == 27.0 * 4 * 36 else "it computes wrong numbers"


def _precision_for(device: torch.device, is_convolutional: bool) -> Precision:
    if device.type != "cpu":
        return "fp16"
    return "bf16" if cpu_has_bf16() and not is_convolutional else "fp32"


def cpu_has_bf16() -> bool:
    """Whether this CPU multiplies bf16 natively (AVX512-BF16, AMX, ARMv8.6), as Linux tells it.

    Emulated bf16 is slower than fp32. On macOS fp32 is the CPU's fast path, and MPS is there for the rest.
    """
    if sys.platform != "linux":
        return False
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="ascii", errors="replace")
    except OSError:
        return False
    flags = re.search(r"^(?:flags|Features)\s*:(.*)$", text, re.MULTILINE)
    return bool(flags and {"avx512_bf16", "amx_bf16", "bf16"} & set(flags.group(1).split()))


def _is_convolutional(tower: torch.nn.Module) -> bool:
    """Most weights in convolutions, or no attention at all (ConvNeXt has most of its in linear layers)."""
    everything = sum(parameter.numel() for parameter in tower.parameters())
    convolutions = sum(m.weight.numel() for m in tower.modules() if isinstance(m, torch.nn.Conv2d))
    attends = any("attention" in type(module).__name__.lower() for module in tower.modules())
    return not attends or convolutions > everything / 2


def _copied(tower: torch.nn.Module) -> torch.nn.Module:
    import copy

    return copy.deepcopy(tower)


def _is_out_of_memory(error: BaseException) -> bool:
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or _is_out_of_memory_text(str(error))


def _is_out_of_memory_text(text: str) -> bool:
    return bool(re.search(r"out of memory|can't allocate memory|not enough memory|failed to allocate", text, re.I))


# ---------------------------------------------------------------------------------------- what to load


@dataclass(frozen=True, slots=True)
class _Source:
    """Everything open_clip has to be told."""

    spec: ModelSpec
    name: str
    """An architecture or a `local-dir:` or `hf-hub:` name."""
    checkpoint: str
    config: dict[str, Any]
    preprocess: dict[str, Any] = field(default_factory=dict)
    quick_gelu: bool = False


def _find(spec: ModelSpec, say: Say, progress: Progress | None, offline: bool) -> _Source:
    if spec.arch == registry.BUILTIN:
        return _in_folder(spec, BUILTIN_DIR)
    if spec.arch.startswith(registry.DIR_PREFIX):
        return _in_folder(spec, Path(spec.arch.removeprefix(registry.DIR_PREFIX)))
    if spec.arch.startswith(registry.HUB_PREFIX):
        return _on_hub(spec, say, progress, offline)
    config = open_clip.get_model_config(spec.arch)
    if config is None:
        near = registry.closest(spec.arch, [*open_clip.list_models(), *registry.ALIASES])
        hint = f"did you mean {' or '.join(near)}?" if near else "imgsearch models lists some"
        raise ModelError(f"there is no model {spec.name}", hint=hint)
    _need_transformers(spec, config)
    if spec.checkpoint:
        return _Source(spec, spec.arch, spec.checkpoint, config, _as_trained(spec, config, say))
    tag = _tag(spec)
    repo, file = os.path.split(tag["hf_hub"])
    safe = os.path.splitext(file)[0] + ".safetensors"
    files = registry.HubFiles(
        repo,
        tuple(dict.fromkeys((safe, file))) if file else registry.HUB_WEIGHTS,
        tokenizer_repos=tuple(registry.tokenizer_repos_of(config)),
    )
    registry.ensure_weights(spec, say, files=files, progress=progress, offline=offline)
    checkpoint = registry.cached_weights(files)
    assert checkpoint, "ensure_weights returned without weights"
    return _Source(spec, spec.arch, checkpoint, config, _preprocess_of(tag), _needs_quick_gelu(tag, config))


def _in_folder(spec: ModelSpec, folder: Path) -> _Source:
    name = registry.DIR_PREFIX + str(folder)
    try:
        config = open_clip.get_model_config(name)
        with quiet():
            checkpoint = factory._find_checkpoint_in_dir(folder)
    except (OSError, ValueError, AttributeError) as error:
        raise ModelError(f"cannot read the model in {folder}: {one_line(error)}", hint=_OTHER_MODEL) from error
    if not isinstance(config, dict) or "vision_cfg" not in config:
        raise ModelError(f"cannot read the model in {folder}: {registry.CONFIG_FILE} describes none", hint=_OTHER_MODEL)
    if checkpoint is None:  # open_clip would go on with random weights
        raise ModelError(f"the model in {folder} has no weights", hint=f"expected: {registry.HUB_WEIGHTS[0]}")
    _need_transformers(spec, config)
    return _Source(spec, name, checkpoint, config)


def _on_hub(spec: ModelSpec, say: Say, progress: Progress | None, offline: bool) -> _Source:
    registry.ensure_weights(spec, say, progress=progress, offline=offline)
    files = registry.hub_files(spec)
    checkpoint = registry.cached_weights(files) if files else None
    with quiet():
        config = open_clip.get_model_config(spec.arch)
    if not checkpoint or not isinstance(config, dict) or "vision_cfg" not in config:
        raise ModelError(f"{spec.name} is no open_clip model", hint=_OTHER_MODEL)
    _need_transformers(spec, config)
    return _Source(spec, spec.arch, checkpoint, config)


def _need_transformers(spec: ModelSpec, config: dict[str, Any]) -> None:
    """Asked before anything is downloaded."""
    if registry.tokenizer_repos_of(config) and importlib.util.find_spec("transformers") is None:
        raise ModelError(
            f"{spec.name} reads text with the transformers library",
            hint="needs: pip install 'imgsearch-cli[siglip]'",
        )


def _tag(spec: ModelSpec) -> dict[str, Any]:
    tags = open_clip.list_pretrained_tags_by_model(spec.arch)
    listed = ", ".join(tags) or "none, it needs --weights FILE"
    if spec.weights is None:
        raise ModelError(
            f"{spec.arch} is an architecture; which weights?",
            hint=f"--model {spec.arch}/TAG with one of: {listed}",
        )
    tag: dict[str, Any] = open_clip.get_pretrained_cfg(spec.arch, spec.weights)
    if not tag.get("hf_hub"):
        near = registry.closest(spec.weights, tags)
        known = f"did you mean {' or '.join(near)}?" if near else f"its weights: {listed}"
        raise ModelError(f"{spec.arch} has no weights named {spec.weights}", hint=known)
    return tag


def _needs_quick_gelu(tag: dict[str, Any], config: dict[str, Any]) -> bool:
    """Weights trained with QuickGELU, asked for under the plain architecture's name (ViT-B-32/openai).

    open_clip only warns, and computes with the wrong activation; the right one is what ARCH-quickgelu has.
    """
    return bool(tag.get("quick_gelu")) and not config.get("quick_gelu")


def _preprocess_of(tag: Mapping[str, Any]) -> dict[str, Any]:
    return {key: tag[key] for key in ("mean", "std", "interpolation", "resize_mode") if key in tag}


def _as_trained(spec: ModelSpec, config: dict[str, Any], say: Say) -> dict[str, Any]:
    """The preprocessing of a local checkpoint, for which open_clip would quietly take its defaults.

    If all tags of the architecture agree, it is theirs; if they do not, we ask.
    """
    names = open_clip.list_pretrained_tags_by_model(spec.arch)
    tags = {tag: open_clip.get_pretrained_cfg(spec.arch, tag) for tag in names}
    if spec.preprocess_from:
        arch, _, tag = spec.preprocess_from.rpartition("/")
        chosen = open_clip.get_pretrained_cfg(arch or spec.arch, tag)
        if not chosen:
            listed = ", ".join(tags) or "none; write it ARCH/TAG to take another architecture's"
            raise ModelError(
                f"--preprocess-from {spec.preprocess_from}: no such tag", hint=f"{spec.arch} has: {listed}"
            )
        if _needs_quick_gelu(chosen, config):
            say(f"weights like {tag} use QuickGELU; if yours do too, name the model {spec.arch}-quickgelu")
        return _preprocess_of(chosen)
    ways: dict[str, list[str]] = {}
    for tag, entry in tags.items():
        ways.setdefault(json.dumps(_preprocess_of(entry), sort_keys=True), []).append(tag)
    if len(ways) > 1:
        listed = "; or ".join(f"{' '.join(names)} ({_in_words(json.loads(way))})" for way, names in ways.items())
        raise ModelError(
            f"{spec.arch} models prepare pictures in {len(ways)} ways; which is right for {spec.weights}?",
            hint=f"--preprocess-from one of: {listed}",
        )
    return json.loads(next(iter(ways))) if ways else {}


def _in_words(way: dict[str, Any]) -> str:
    mean = "/".join(f"{value:.2f}" for value in way["mean"])
    return f"mean {mean}, {way['interpolation']}, {way['resize_mode']}"


# ------------------------------------------------------------------------------------------ loading it


@quiet()
def _vet(path: str) -> None:
    """Refuse weights that are anything but tensors, before open_clip opens them.

    open_clip loads big_vision's .npz through numpy, and repeats a load that raised TypeError without
    `weights_only`: what has passed here raises none.
    """
    if not os.path.isfile(path):
        raise ModelError(f"no weights file at {path}", hint="put it back there, or name another with --weights")
    suffix = Path(path).suffix.lower()
    if suffix in (".npz", ".npy"):
        raise ModelError(f"{path} is a numpy file, which is not loaded", hint="convert it to safetensors")
    try:
        if path.endswith(".safetensors"):
            with safetensors.safe_open(path, "pt") as file:
                names: Sequence[Any] = list(file.keys())
                are_tensors = True
        else:
            names, are_tensors = _pickled_names(path)
    except ModelError:
        raise
    except Exception as error:  # a damaged or hostile file raises anything
        raise ModelError(
            f"{path} cannot be loaded: it is damaged, or holds more than tensors",
            hint="save it with safetensors, or with torch.save(model.state_dict(), FILE)",
        ) from error
    if not names or not are_tensors or not all(isinstance(name, str) for name in names):
        raise ModelError(f"{path} holds no model weights", hint="name the file that holds them with --weights")


def _pickled_names(path: str) -> tuple[Sequence[Any], bool]:
    is_zip = zipfile.is_zipfile(path)
    if is_zip:
        with zipfile.ZipFile(path) as archive:
            if any(name.endswith("constants.pkl") or "/code/" in name for name in archive.namelist()):
                raise ModelError(
                    f"{path} is a TorchScript archive, which carries code and is not loaded",
                    hint="save its state_dict() with safetensors",
                )
    # Mapped: a zip's tensors are not read here, only the pickle that names them.
    content = torch.load(path, map_location="cpu", weights_only=True, mmap=is_zip)
    state = content.get("state_dict", content) if isinstance(content, dict) else content
    if not isinstance(state, Mapping):
        return [], False
    return list(state), all(isinstance(value, torch.Tensor) for value in state.values())


@quiet()
def _build(source: _Source) -> Any:
    try:
        return open_clip.create_model(
            source.name,
            None if ":" in source.name else source.checkpoint,
            force_preprocess_cfg=source.preprocess or None,
            force_quick_gelu=source.quick_gelu,
            require_pretrained=True,
        )
    except MemoryError as error:
        raise ModelError(
            f"{source.spec.name} does not fit in memory", hint="close other programs, or take a smaller model"
        ) from error
    except Exception as error:  # open_clip, timm and torch raise whatever a strange configuration leads to
        if _is_out_of_memory(error):
            raise ModelError(
                f"{source.spec.name} does not fit in memory", hint="close other programs, or take a smaller model"
            ) from error
        raise ModelError(
            f"{source.checkpoint} does not fit {source.spec.arch}: {one_line(error)}",
            hint="name the architecture that these weights are of with --model",
        ) from error


@quiet()
def _tokenizer(source: _Source) -> Any:
    kwargs: dict[str, Any] = {"local_files_only": True} if registry.tokenizer_repos_of(source.config) else {}
    try:
        return open_clip.get_tokenizer(source.name, **kwargs)
    except Exception as error:  # transformers raises many things for a tokenizer that is not there
        raise ModelError(
            f"the tokenizer of {source.spec.name} cannot be loaded: {one_line(error)}",
            hint="remove it from the model cache, so that it is fetched again, or take another",
        ) from error


def _recipe(model: Any) -> Recipe:
    """What open_clip hung on the model: its own transform is made from nothing else."""
    wanted = model.visual.preprocess_cfg
    size = wanted["size"]
    height, width = (size, size) if isinstance(size, int) else size
    if wanted["interpolation"] not in ("bicubic", "bilinear") or wanted["resize_mode"] not in (
        "shortest",
        "longest",
        "squash",
    ):
        raise ModelError(
            f"unknown preprocessing: {wanted['interpolation']}, {wanted['resize_mode']}", hint=_OTHER_MODEL
        )
    mean, std = ([float(value) for value in wanted[key]] for key in ("mean", "std"))
    return Recipe(
        size=(int(height), int(width)),
        mean=(mean[0], mean[1], mean[2]),
        std=(std[0], std[1], std[2]),
        interpolation=wanted["interpolation"],
        resize_mode=wanted["resize_mode"],
        fill_color=int(wanted.get("fill_color", 0)),
    )


def _identity(source: _Source, model: Any, tokenizer: Any) -> SpaceIdentity:
    config = dict(source.config)
    if source.quick_gelu:
        config["quick_gelu"] = True
    dim = int(config["embed_dim"])
    recipe = _recipe(model)
    digest = registry.weights_digest(source.checkpoint)
    content = {
        "weights": digest,
        "model": _without_loading_switches(config),
        "preprocess": [recipe.size, recipe.mean, recipe.std, recipe.interpolation, recipe.resize_mode]
        + ([recipe.fill_color] if recipe.resize_mode == "longest" else []),
        "tokenizer": _tokenizer_described(tokenizer),
        "dim": dim,
    }
    canonical = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return SpaceIdentity(
        fingerprint=hashlib.sha256(canonical.encode()).hexdigest(),
        name=source.spec.name,
        arch=source.spec.arch,
        weights=source.spec.weights,
        dim=dim,
        details={
            "weights_sha256": digest,
            "open_clip": str(open_clip.__version__),
            "torch": str(torch.__version__),
            "tokenizer": type(tokenizer).__name__,
            **_probability(model),
        },
    )


def _probability(model: Any) -> dict[str, str]:
    """What turns a cosine into a probability, of a model trained to give one: SigLIP's scale and bias."""
    if model.logit_bias is None:
        return {}
    scale, bias = float(model.logit_scale.detach().exp()), float(model.logit_bias.detach())
    return {"logit_scale": repr(scale), "logit_bias": repr(bias)}


def _without_loading_switches(config: dict[str, Any]) -> dict[str, Any]:
    """Without the keys that say where a tower's first weights come from: they leave no trace in a vector."""
    return {
        key: {k: v for k, v in value.items() if k not in ("timm_model_pretrained", "hf_model_pretrained")}
        if isinstance(value, dict)
        else value
        for key, value in config.items()
    }


def _tokenizer_described(tokenizer: Any) -> dict[str, Any]:
    """What decides a text's tokens: kind, vocabulary, length. How it cleans is in the configuration."""
    inner = getattr(tokenizer, "tokenizer", None)
    vocabulary = inner.get_vocab() if inner is not None else getattr(tokenizer, "encoder", {})
    words = "\n".join(sorted(vocabulary, key=vocabulary.__getitem__))
    return {
        "kind": type(tokenizer).__name__,
        "vocabulary": hashlib.sha256(words.encode("utf-8", "surrogatepass")).hexdigest(),
        "context_length": getattr(tokenizer, "context_length", None),
    }


def one_line(error: BaseException) -> str:
    """The telling line of a library's error: of a list of misfitting tensors the first, with their number."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    if len(lines) > 1 and lines[0].startswith("Error(s) in loading"):
        more = f" (and {len(lines) - 2} more)" if len(lines) > 2 else ""
        return lines[1][:160].rstrip(" .") + more
    return (lines[0] if lines else type(error).__name__)[:200]
