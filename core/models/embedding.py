"""A loaded open_clip model that turns squares and texts into unit vectors, on the best device and precision."""

from __future__ import annotations

import contextlib
import copy
import logging
import os
import re
import sys
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

from imgsearch.core.errors import ModelError, UsageError
from imgsearch.core.types import Recipe, SpaceIdentity

from .hub import Say
from .pseudo_word import PLACEHOLDER, check_width, not_causal, place_of_placeholder, unit_or_error

# Torch's threads must not spin while they wait for the next batch: the decoders need the cores.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import numpy as np
    import torch

if TYPE_CHECKING:
    from imgsearch.core.types import Squares, Vectors

Precision = Literal["fp16", "bf16", "fp32"]

BATCH_SIZES = {"cpu": 32, "mps": 32, "cuda": 128}
"""On 2 CPU cores 32 and 64 are equally fast, and a small batch keeps the lookahead small."""

BF16_COSINE = 0.999
"""bf16 is kept only if the vectors of the first photos are this close to fp32. Measured on 2 cores of an EPYC with
AVX512-BF16, ViT-B-32-256 (random weights): 0.99995, and 29 photos/s instead of 15. Convolutional towers stay in fp32:
4 in 1,000 vectors of the built-in model fell below 0.999 (lowest 0.9986), for 1,170 photos/s instead of 780, and at
such rates another stage is the slowest."""
BF16_PHOTOS = 4


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
        reload: Callable[[], torch.nn.Module] | None = None,
        model_spec: str = "",
    ) -> None:
        self.model_spec = model_spec
        """The `ModelSpec` as JSON."""
        self.reload = reload
        """Loads the model again, in fp32 and on the CPU."""
        self.model = model.eval().requires_grad_(False)
        self.tokenizer = tokenizer
        self.recipe = recipe
        self.batch_size = BATCH_SIZES[device.type]
        """Photos or texts per batch; halved when memory runs out."""
        self.context_length = int(getattr(tokenizer, "context_length", 0) or 77)
        """Texts are cut after this many tokens."""
        self._identity = identity
        self._say = say or _say_nothing
        self._device = device
        self._device_is_given = device_is_given
        self._precision_is_given = precision != "auto"
        self._is_convolutional = _is_convolutional(self.model.visual)
        self._causal = CausalText(self.model) if is_causal(self.model) else None
        self._has_worked = False
        self._exact_visual: Any = None
        """The image tower in fp32, until bf16 has been compared with it."""
        self.precision: Precision = _precision_for(device, self._is_convolutional) if precision == "auto" else precision
        self._place_towers()

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

        A vector that is not finite becomes a row of NaN, never a wrong unit vector.
        """
        return self._images(squares, is_raw=False)

    def raw_images(self, squares: Squares) -> Vectors:
        """As `embed_images`, not normalised."""
        return self._images(squares, is_raw=True)

    def _images(self, squares: Squares, *, is_raw: bool) -> Vectors:
        if not len(squares):
            return np.empty((0, self.dim), np.float32)
        if squares.dtype != np.uint8 or squares.shape[1:] != (*self.recipe.size, 3):
            raise ValueError(f"not uint8 squares of {self.recipe.size}: {squares.dtype} {squares.shape}")
        self._check_bf16(squares[:BF16_PHOTOS])
        vectors = self._in_batches(len(squares), lambda part: self._image_features(squares[part]), is_raw=is_raw)
        lost = ~np.isfinite(vectors).all(axis=1)
        if lost.any() and self.precision != "fp32" and not self._precision_is_given:
            self._say(f"{self.precision} overflows with this model; using fp32")
            self.precision = "fp32"
            self._place_towers()
            rest = squares[lost]
            vectors[lost] = self._in_batches(len(rest), lambda part: self._image_features(rest[part]), is_raw=is_raw)
        return vectors

    def embed_texts(self, texts: Sequence[str]) -> Vectors:
        """float32 (n, dim), unit length; each text is cut at `context_length` tokens."""
        return self._texts(texts, is_raw=False)

    def raw_texts(self, texts: Sequence[str]) -> Vectors:
        """As `embed_texts`, not normalised."""
        return self._texts(texts, is_raw=True)

    def _texts(self, texts: Sequence[str], *, is_raw: bool) -> Vectors:
        if not texts:
            return np.empty((0, self.dim), np.float32)
        # A text from a file may contain surrogates, which no tokenizer can encode.
        clean = [text.encode("utf-8", "replace").decode("utf-8") for text in texts]
        return self._in_batches(len(clean), lambda part: self._text_features(clean[part]), is_raw=is_raw)

    def embed_with(self, text: str, vector: Vectors) -> Vectors:
        """float32 (dim,), unit length: the text, with `vector` in place of the embedding of its first `$`.

        Raises ModelError for a model that cannot do that.
        """
        end = getattr(self.tokenizer, "eot_token_id", None)
        if self._causal is None or end is None:
            raise not_causal()
        ids = self.tokenizer([text.encode("utf-8", "replace").decode("utf-8")])
        place = place_of_placeholder(ids[0].tolist(), self.tokenizer([PLACEHOLDER])[0].tolist(), end)
        last = (ids == end).int().argmax(dim=1).to(self._device)
        with torch.inference_mode():
            x = self._causal.tower.token_embedding(ids.to(self._device))
            check_width(len(vector), x.shape[2])
            x[0, place] = torch.from_numpy(vector).to(x)
            found = cast("Vectors", self._causal.of_tokens(x, last)[0].float().cpu().numpy())
        return unit_or_error(found)

    def _image_features(self, squares: Squares) -> torch.Tensor:
        """Normalised in float32, in the same steps as torchvision's ToTensor and Normalize, then cast."""
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
        ids = ids[:, : int(last.max()) + 1]  # most texts have a tenth of the tokens that the model could read
        return cast(torch.Tensor, self._causal(ids.to(self._device), last.to(self._device)))

    def _in_batches(self, count: int, features: Callable[[slice], torch.Tensor], *, is_raw: bool = False) -> Vectors:
        done: list[Vectors] = []
        at = 0
        while at < count:
            part = slice(at, min(at + self.batch_size, count))
            vectors = self._attempt(features, part, is_raw=is_raw)
            if vectors is not None:
                done.append(vectors)
                at = part.stop
        return np.concatenate(done)

    def _attempt(self, features: Callable[[slice], torch.Tensor], part: slice, *, is_raw: bool) -> Vectors | None:
        """One batch; None if it failed and was made smaller or moved to the CPU for another attempt."""
        try:
            with torch.inference_mode():
                rows = features(part).float()
                vectors = rows if is_raw else rows / rows.norm(dim=-1, keepdim=True)
                vectors[~vectors.isfinite().all(dim=-1)] = torch.nan
                self._has_worked = True
                return cast("Vectors", vectors.cpu().numpy())
        except (RuntimeError, MemoryError) as error:
            out_of_memory = is_out_of_memory(error)
            if self._device.type == "cpu" and not out_of_memory:
                raise
            reason = one_line(error)
        # Outside the handler: its traceback holds the tensors that did not fit.
        self._recover(out_of_memory, part.stop - part.start, reason)
        return None

    def _recover(self, out_of_memory: bool, size: int, reason: str) -> None:
        if out_of_memory and size > 1:
            self.batch_size = size // 2
            self._say(f"out of memory on {self.device}; using batches of {self.batch_size}")
            if self._device.type == "cuda":
                torch.cuda.empty_cache()
        elif self._device.type == "cpu":
            raise ModelError(f"out of memory for a single item with {self._identity.name}", hint="use a smaller model")
        elif out_of_memory or not (self._has_worked or self._device_is_given):
            self._move_to_cpu("out of memory" if out_of_memory else reason)
        else:
            raise ModelError(f"{self.device} failed: {reason}", hint="use --device cpu")

    def _move_to_cpu(self, reason: str) -> None:
        self._say(f"{self.device} does not work for this model ({reason}); using the CPU")
        self._device = torch.device("cpu")
        self.precision = "fp32"
        self.batch_size = BATCH_SIZES["cpu"]
        try:
            self._place_towers()
        except RuntimeError as error:
            raise ModelError(f"the GPU failed: {one_line(error)}", hint="use --device cpu") from error

    def _place_towers(self) -> None:
        """Move the towers to the device and precision."""
        self._dtype = {"fp16": torch.float16, "bf16": torch.bfloat16, "fp32": torch.float32}[self.precision]
        if self._device.type == "cpu" and self.precision == "bf16" and not self._precision_is_given:
            self._exact_visual = self.model.visual
            self.model.visual = copy.deepcopy(self.model.visual)
        try:
            self.model.to(self._device)
        except (RuntimeError, AssertionError) as error:  # AssertionError: a torch without CUDA
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
        self._recover(_is_out_of_memory_text(reason), 1, reason)

    def _check_bf16(self, squares: Squares) -> None:
        """Compare bf16 with fp32 on the first photos, and keep it if it is close enough."""
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
            self._say(f"bf16 is too imprecise for this model (cosine {lowest:.4f} to fp32); using fp32")


def _say_nothing(line: str) -> None:
    pass


class CausalText(torch.nn.Module):
    """A text tower in which no token sees later ones, so that everything after the end token can be left out.

    From token ids (n, tokens) and the position of each text's end token (n) to (n, dim), not normalised.
    """

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.tower = getattr(model, "text", model)

    def forward(self, ids: torch.Tensor, last: torch.Tensor) -> torch.Tensor:
        return self.of_tokens(self.tower.token_embedding(ids), last)

    def of_tokens(self, x: torch.Tensor, last: torch.Tensor) -> torch.Tensor:
        """From the embeddings of the tokens, (n, tokens, width)."""
        tower, count = self.tower, x.shape[1]
        x = x + tower.positional_embedding[:count]
        x = tower.ln_final(tower.transformer(x, attn_mask=tower.attn_mask[:count, :count]))
        return self.project(x[torch.arange(len(x), device=x.device), last])

    def project(self, x: torch.Tensor) -> torch.Tensor:
        """The last step, from the width of the tower to the dimension of its vectors."""
        projection = self.tower.text_projection
        if projection is None:
            return x
        return cast(torch.Tensor, projection(x) if isinstance(projection, torch.nn.Linear) else x @ projection)


def is_causal(model: Any) -> bool:
    """Whether a text may be cut after its end token, as `CausalText` does."""
    tower = getattr(model, "text", model)
    mask = getattr(tower, "attn_mask", None)
    pool = getattr(tower, "pool_type", None) or getattr(model, "text_pool_type", None)
    if mask is None or getattr(tower, "cls_emb", None) is not None or pool not in ("argmax", "eos"):
        return False
    sees = mask == 0
    return bool((sees == torch.ones_like(sees).tril()).all() and mask[~sees].eq(float("-inf")).all())


# ---------------------------------------------------------------------------------- silencing libraries

_SILENCING = threading.RLock()


@contextlib.contextmanager
def silenced() -> Iterator[None]:
    """Inside, libraries print and log nothing and do not contact the hub.

    open_clip logs through the root logger, which adds a handler on stderr if it has none: hence the null handler.
    Everything from the hub was downloaded before (`hub.ensure_weights`).
    """
    with _SILENCING, warnings.catch_warnings(), _hub_disabled():
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
def _hub_disabled() -> Iterator[None]:
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
    """The device that `--device` means. `auto`: the first of CUDA, MPS and CPU that works."""
    if not re.fullmatch(r"auto|cuda(:\d+)?|mps|cpu", device):
        raise UsageError(f"no such device: {device}", hint="one of auto, cuda, cuda:N, mps, cpu")
    if device == "cpu":
        return torch.device("cpu")
    if device != "auto":
        problem = _device_problem(device)
        if problem:
            raise ModelError(f"cannot use --device {device}: {problem}", hint="use --device auto")
        return torch.device(device)
    for kind in ("cuda", "mps"):
        if _is_available(kind):
            problem = _device_problem(kind)
            if problem is None:
                return torch.device(kind)
            say(f"{kind} does not work ({problem}); using the CPU")
    return torch.device("cpu")


def devices() -> dict[str, Any]:
    """What torch finds on this machine, and what `auto` chooses, as JSON values."""
    messages: list[str] = []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        torch.cuda.is_available()  # warns about a driver that is too old
        gpus: list[Any] = []
        with contextlib.suppress(RuntimeError, AssertionError):  # `choose_device` reports it
            gpus = [torch.cuda.get_device_properties(number) for number in range(torch.cuda.device_count())]
    place = choose_device("auto", messages.append)
    return {
        "cuda": torch.version.cuda,
        "rocm": torch.version.hip,
        "gpus": [{"name": gpu.name, "bytes": gpu.total_memory} for gpu in gpus],
        "warnings": [str(warning.message) for warning in caught],
        "trouble": messages,
        "device": str(place),
        "has_bf16": cpu_has_bf16(),
        "precisions": [_precision_for(place, is_convolutional) for is_convolutional in (False, True)],
        "threads": torch.get_num_threads(),
    }


def _is_available(kind: str) -> bool:
    with silenced():  # torch warns about a driver that is too old
        return torch.cuda.is_available() if kind == "cuda" else torch.backends.mps.is_available()


def _device_problem(device: str) -> str | None:
    """An old driver, or a GPU that this torch does not support, only shows when something is computed."""
    kind = device.partition(":")[0]
    if not _is_available(kind):
        return f"torch finds no {kind.upper()} device"
    try:
        picture = torch.ones(1, 3, 8, 8, device=device)
        kernel = torch.ones(4, 3, 3, 3, device=device)
        result = float(torch.nn.functional.conv2d(picture, kernel).sum().cpu())
    except (RuntimeError, AssertionError) as error:
        return one_line(error)
    return None if result == 27.0 * 4 * 36 else "its results are wrong"


def _precision_for(device: torch.device, is_convolutional: bool) -> Precision:
    if device.type != "cpu":
        return "fp16"
    return "bf16" if cpu_has_bf16() and not is_convolutional else "fp32"


def cpu_has_bf16() -> bool:
    """Whether this CPU multiplies bf16 natively (AVX512-BF16, AMX, ARMv8.6), according to Linux.

    Emulated bf16 is slower than fp32. On macOS the CPU is fastest in fp32.
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
    """Whether most weights are in convolutions, or there is no attention (most of ConvNeXt is linear layers)."""
    everything = sum(parameter.numel() for parameter in tower.parameters())
    convolutions = sum(m.weight.numel() for m in tower.modules() if isinstance(m, torch.nn.Conv2d))
    attends = any("attention" in type(module).__name__.lower() for module in tower.modules())
    return not attends or convolutions > everything / 2


def is_out_of_memory(error: BaseException) -> bool:
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or _is_out_of_memory_text(str(error))


def _is_out_of_memory_text(text: str) -> bool:
    # The last is what oneDNN, which computes convolutions on the CPU, says for it.
    said = r"out of memory|can't allocate memory|not enough memory|failed to allocate|could not create a primitive$"
    return bool(re.search(said, text, re.IGNORECASE | re.MULTILINE))


def one_line(error: BaseException) -> str:
    """The most useful line of a library's error. For a list of tensors that do not fit: the first, and their number."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    if len(lines) > 1 and lines[0].startswith("Error(s) in loading"):
        more = f" (and {len(lines) - 2} more)" if len(lines) > 2 else ""
        return lines[1][:160].rstrip(" .") + more
    return (lines[0] if lines else type(error).__name__)[:200]
