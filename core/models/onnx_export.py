"""Writes the two towers of a loaded model as files, and keeps those whose vectors agree with the model's."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import tempfile
from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, cast

import numpy as np  # noqa: TID253
import safetensors.torch
import torch  # noqa: TID253

from imgsearch.core.photos.decode_pool import memory_available

from .embedding import CausalText, OpenClipEmbedder, is_causal, one_line, silenced
from .phrases import neutral_phrases
from .registry import weights_digest
from .towers import (
    FORMAT,
    MANIFEST,
    MERGES,
    RAW_FORMAT,
    TOWERS,
    Activation,
    Manifest,
    TextConfig,
    Tower,
    Towers,
    TowersError,
    libraries,
    runtime,
    session,
    towers_folder,
)
from .towers_cache import publish, temporary_folder

if TYPE_CHECKING:
    from imgsearch.core.types import Squares, Vectors

MIN_COSINE = 0.999
"""The smallest cosine between a vector of a tower and of the model in fp32. Measured: 1.000000 for all that export."""
PROBE_TEXTS = 24
NASTY_TEXTS = (
    "",
    "It's 2024 - don't look! C++ & T-shirts, 3/4",
    "Straße in São Paulo, 東京の夜, Привет",
    "&lt;b&gt;  red\tdress\n",
    "sunset " * 100,
)
PROBE_SQUARES = 3
PLAIN_TENSORS = (
    r"(token_embedding\.weight|positional_embedding|text_projection(\.weight|\.bias)?|ln_final\.(weight|bias)"
    r"|transformer\.resblocks\.\d+\.(ln_1|ln_2|mlp\.c_fc|mlp\.c_proj|attn\.out_proj)\.(weight|bias)"
    r"|transformer\.resblocks\.\d+\.attn\.in_proj_(weight|bias))"
)
"""The tensors of a text tower that `text_tower` knows."""
OPSET = 20
TEXT_WEIGHTS = "text.safetensors"
# Multiples of the weights' size. On disk: the towers, and the raw export of the larger one. In memory: a second copy of
# the model, and the exporter's copies of a tower.
SPACE_NEEDED = 2.5
MEMORY_NEEDED = 3


def export(embedder: OpenClipEmbedder, path: str | None = None) -> Towers:
    """Write the ONNX towers of a model into its cache folder, or `path`. Raises TowersError.

    A tower that cannot be exported or does not agree is left out, with the reason in the manifest, and not tried again.
    """
    assert embedder.reload is not None
    fingerprint = embedder.identity.fingerprint
    path = path or towers_folder(fingerprint)
    runtime()  # raises before a missing onnxruntime is recorded as a property of the model
    try:
        with temporary_folder(os.path.dirname(path)) as folder:
            _require_space(embedder.model, folder)
            towers = _write(embedder, embedder.reload().eval().requires_grad_(False), folder)
            return publish(towers, path, fingerprint)
    except MemoryError as error:
        raise TowersError("not enough memory to export them") from error
    except OSError as error:
        raise TowersError(f"cannot write {path}: {(error.strerror or str(error)).lower()}") from error


def _require_space(model: torch.nn.Module, folder: str) -> None:
    size = sum(parameter.numel() for parameter in model.parameters()) * 4
    if memory_available() < MEMORY_NEEDED * size:
        raise TowersError(f"exporting them needs {size * MEMORY_NEEDED / 1e6:,.0f} MB of free memory")
    if shutil.disk_usage(folder).free < SPACE_NEEDED * size:
        raise TowersError(f"no space for {size * SPACE_NEEDED / 1e6:,.0f} MB in {os.path.dirname(folder)}")


def _write(embedder: OpenClipEmbedder, model: Any, folder: str) -> Towers:
    missing: dict[Tower, str] = {}
    for name in TOWERS:
        try:
            if name == "text":
                write_merges(embedder.tokenizer, folder)
            if name == "text" and (plain := plain_text(model)):
                safetensors.torch.save_file(plain[1], os.path.join(folder, TEXT_WEIGHTS))
            else:
                _make(tower_of(model, embedder, name), folder, name)
        except (OSError, MemoryError):
            raise
        except Exception as error:  # torch's exporter raises all kinds of errors
            if isinstance(error, TowersError) and not error.is_damage and error.__cause__ is not None:
                raise  # onnxruntime lacked something, such as memory
            missing[name] = one_line(error)
    towers = with_manifest(embedder, model, folder, missing)
    for name in TOWERS:
        if name not in missing and (why := disagreement(towers, model, embedder, name)):
            missing[name] = why
    for name in missing:
        for file_name in (f"{name}.onnx", f"{name}.onnx.data", f"{name}.safetensors"):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(os.path.join(folder, file_name))
    towers = with_manifest(embedder, model, folder, missing)
    with open(os.path.join(folder, MANIFEST), "w", encoding="utf-8") as file:
        file.write(towers.manifest.to_json())
    return towers


def with_manifest(
    embedder: OpenClipEmbedder,
    model: Any,
    folder: str,
    missing: dict[Tower, str],
    *,
    only: Collection[str] | None = None,
    text_weights: str = TEXT_WEIGHTS,
) -> Towers:
    """The towers in a folder, with a manifest that is not written yet."""
    names = [name for name in sorted(os.listdir(folder)) if name != MANIFEST and (only is None or name in only)]
    plain = plain_text(model) if text_weights in names else None
    manifest = Manifest(
        fingerprint=embedder.identity.fingerprint,
        dim=embedder.dim,
        recipe=embedder.recipe,
        context_length=embedder.context_length,
        clean=_cleaning(embedder.tokenizer) or "",
        text=replace(plain[0], weights=text_weights) if plain else None,
        lacking={str(name): why for name, why in missing.items()},
        files={name: os.path.getsize(os.path.join(folder, name)) for name in names},
        made_with=libraries(),
        model=embedder.model_spec,
        format=RAW_FORMAT if gives_raw(embedder) else FORMAT,
        details=embedder.identity.details,
        sha256={name: weights_digest(os.path.join(folder, name)) for name in names},
    )
    return Towers(folder, manifest)


# The towers


def gives_raw(embedder: OpenClipEmbedder) -> bool:
    """Whether queries of the model need its vectors before they are made unit length."""
    return embedder.identity.composer is not None


def plain_text(model: Any) -> tuple[TextConfig, dict[str, torch.Tensor]] | None:
    """The causal text tower of a model and its weights, if it has only the parts that `text_tower` knows."""
    if not is_causal(model):
        return None
    tower = CausalText(model).tower
    blocks = tower.transformer.resblocks
    norms = {(block.ln_1.eps, block.ln_2.eps) for block in blocks} | {(tower.ln_final.eps,) * 2}
    activations = {_activation(block.mlp.gelu) for block in blocks}
    if len(norms) > 1 or len(activations) > 1 or not (activation := activations.pop()):
        return None
    prefixes = "token_embedding.", "positional_embedding", "transformer.", "ln_final.", "text_projection"
    is_whole_model = tower is model
    weights = {
        name: tensor.float().contiguous()
        for name, tensor in tower.state_dict().items()
        if name != "attn_mask" and (not is_whole_model or name.startswith(prefixes))
    }
    if not all(map(re.compile(PLAIN_TENSORS).fullmatch, weights)) or blocks[0].attn.in_proj_weight is None:
        return None
    return TextConfig(TEXT_WEIGHTS, blocks[0].attn.num_heads, len(blocks), activation, norms.pop()[0]), weights


def _activation(module: torch.nn.Module) -> Activation | None:
    if isinstance(module, torch.nn.GELU):
        return "gelu" if module.approximate == "none" else None
    return "quick_gelu" if type(module).__name__ == "QuickGELU" else None


class _Text(torch.nn.Module):
    """A text tower that numpy does not run, always with all tokens."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        return _unit(self.model.encode_text(ids))


class _Image(torch.nn.Module):
    """From uint8 squares, normalised like in `OpenClipEmbedder`."""

    def __init__(self, model: Any, embedder: OpenClipEmbedder) -> None:
        super().__init__()
        self.model = model
        self.gives_raw = gives_raw(embedder)
        self.mean = torch.tensor(embedder.recipe.mean).view(1, 3, 1, 1)
        self.std = torch.tensor(embedder.recipe.std).view(1, 3, 1, 1)

    def forward(self, squares: torch.Tensor) -> torch.Tensor | tuple[torch.Tensor, torch.Tensor]:
        pixels = squares.permute(0, 3, 1, 2).to(torch.float32).div(255)
        raw = self.model.encode_image(pixels.sub(self.mean).div(self.std))
        return (_unit(raw), raw) if self.gives_raw else _unit(raw)


def _unit(x: torch.Tensor) -> torch.Tensor:
    unit: torch.Tensor = x / x.norm(dim=-1, keepdim=True)
    return unit


@dataclass(frozen=True, slots=True)
class Traceable:
    """A tower, example inputs, and the axes of these that have any length."""

    module: torch.nn.Module
    inputs: dict[str, torch.Tensor]
    axes: dict[str, dict[int, str]]
    outputs: tuple[str, ...] = ("vectors",)


def tower_of(model: Any, embedder: OpenClipEmbedder, name: Tower) -> Traceable:
    """One of a model's towers, ready for tracing."""
    if name == "image":
        square = torch.zeros(1, *embedder.recipe.size, 3, dtype=torch.uint8)
        outputs = ("vectors", "raw") if gives_raw(embedder) else ("vectors",)
        return Traceable(_Image(model, embedder), {"squares": square}, {}, outputs)
    ids = torch.zeros(2, embedder.context_length, dtype=torch.long)
    return Traceable(_Text(model), {"ids": ids}, {"ids": {0: "texts"}})


def _make(tower: Traceable, folder: str, name: Tower) -> None:
    """Trace a tower and let ONNX Runtime simplify it once, so that no query has to."""
    with tempfile.TemporaryDirectory(dir=folder, prefix="raw-") as raw:
        traced = os.path.join(raw, "traced.onnx")
        trace(tower, traced)
        session(traced, optimised=os.path.join(folder, f"{name}.onnx"))


def trace(tower: Traceable, path: str, *, keep_weights: bool = False) -> None:
    """Write a tower as ONNX. `keep_weights`: every tensor stays as it is in the model."""
    mode = torch.onnx.TrainingMode
    with silenced(), _plain_attention(), torch.no_grad():
        torch.onnx.export(
            tower.module.eval(),
            tuple(tower.inputs.values()),
            path,
            input_names=list(tower.inputs),
            output_names=list(tower.outputs),
            dynamic_axes=tower.axes,
            opset_version=OPSET,
            do_constant_folding=not keep_weights,
            training=mode.PRESERVE if keep_weights else mode.EVAL,
            dynamo=False,  # the newer exporter takes twice as long and needs another library
        )


@contextlib.contextmanager
def _plain_attention() -> Iterator[None]:
    """Traces `nn.MultiheadAttention` as plain operations: torch's own forward fixes the number of tokens in the trace.

    The old exporter has no public hook for a module, so the method is replaced while it runs. The contract is
    `disagreement` with every exported model, and tests/test_towers.py.
    """
    before = torch.nn.MultiheadAttention.forward
    torch.nn.MultiheadAttention.forward = _attention  # type: ignore[method-assign, assignment]
    try:
        yield
    finally:
        torch.nn.MultiheadAttention.forward = before  # type: ignore[method-assign]


def _attention(
    self: torch.nn.MultiheadAttention,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    key_padding_mask: torch.Tensor | None = None,
    need_weights: bool = True,
    attn_mask: torch.Tensor | None = None,
    **_: Any,
) -> tuple[torch.Tensor, None]:
    if key_padding_mask is not None or self.in_proj_weight is None or self.bias_k is not None:
        raise TowersError("its attention is not supported")
    is_turned = query.dim() == 3 and not self.batch_first
    sides = [x.transpose(0, 1) if is_turned else x for x in (query, key, value)]
    weights, biases = self.in_proj_weight, self.in_proj_bias
    if query is key is value:
        whole = _heads(torch.nn.functional.linear(sides[0], weights, biases), self)
        q, k, v = torch.split(whole, self.num_heads, dim=-3)
    else:
        q, k, v = (
            _heads(torch.nn.functional.linear(x, weight, bias), self)
            for x, weight, bias in zip(
                sides, weights.chunk(3), (None,) * 3 if biases is None else biases.chunk(3), strict=True
            )
        )
    scores = (q * self.head_dim**-0.5) @ k.transpose(-2, -1)
    if attn_mask is not None:
        scores = scores + attn_mask
    x = (scores.softmax(-1) @ v).transpose(-3, -2)
    x = self.out_proj(x.reshape(-1, self.embed_dim) if x.dim() == 3 else x.flatten(2))
    return (x.transpose(0, 1) if is_turned else x), None


def _heads(x: torch.Tensor, attention: torch.nn.MultiheadAttention) -> torch.Tensor:
    """(..., tokens, heads x width) to (..., heads, tokens, width)."""
    before = (-1,) if x.dim() == 2 else x.shape[:-1]  # -1: no operation that needs the number of tokens
    return x.reshape(*before, int(x.shape[-1]) // attention.head_dim, attention.head_dim).transpose(-3, -2)


# The tokenizer


def _cleaning(tokenizer: Any) -> str | None:
    """How an open_clip SimpleTokenizer cleans texts. None for other tokenizers."""
    cleaning = getattr(getattr(tokenizer, "clean_fn", None), "__name__", "").removeprefix("_clean_")
    is_simple = type(tokenizer).__name__ == "SimpleTokenizer" and getattr(tokenizer, "reduction_fn", None) is None
    return cleaning if is_simple and cleaning in ("lower", "whitespace", "canonicalize") else None


def write_merges(tokenizer: Any, folder: str) -> None:
    """Write the tokenizer's merges, after checking what `tokens` assumes about its vocabulary. Raises TowersError."""
    if _cleaning(tokenizer) is None:
        raise TowersError(f"its tokenizer is a {type(tokenizer).__name__}, which needs torch")
    merges = list(tokenizer.bpe_ranks)
    numbers = [tokenizer.encoder["".join(pair)] for pair in merges]
    if numbers != list(range(512, 512 + len(merges))) or tokenizer.sot_token_id != 512 + len(merges):
        raise TowersError("its tokenizer has another numbering")
    with open(os.path.join(folder, MERGES), "w", encoding="utf-8", newline="\n") as file:
        file.write("\n".join(" ".join(pair) for pair in merges))


# Comparing with the model


def disagreement(towers: Towers, model: Any, embedder: OpenClipEmbedder, tower: Tower) -> str:
    """Why a tower cannot replace the model; empty if it can."""
    try:
        cosines = _text_cosines(towers, model, embedder) if tower == "text" else _image_cosines(towers, embedder)
    except TowersError as error:
        return one_line(error)
    return "" if cosines.min() >= MIN_COSINE else f"cosine {cosines.min():.4f} to the model"


def _text_cosines(towers: Towers, model: Any, embedder: OpenClipEmbedder) -> Vectors:
    texts = [*neutral_phrases()[:PROBE_TEXTS], *NASTY_TEXTS]
    with torch.inference_mode():
        true: Vectors = _unit(model.encode_text(embedder.tokenizer(texts))).numpy()
    return cast("Vectors", (towers.embed_texts(texts) * true).sum(axis=1))


def _image_cosines(towers: Towers, embedder: OpenClipEmbedder) -> Vectors:
    squares = _squares(embedder.recipe.size)
    return cast("Vectors", (towers.embed_images(squares) * embedder.embed_images(squares)).sum(axis=1))


def _squares(size: tuple[int, int]) -> Squares:
    """Smooth colours with some noise, which activate a tower's layers like photos."""
    rng = np.random.default_rng(7)
    height, width = size
    y, x = np.mgrid[0:height, 0:width] / max(size)
    squares = np.empty((PROBE_SQUARES, height, width, 3), np.uint8)
    for square in squares:
        for channel in range(3):
            fx, fy, phase = rng.uniform(0, 12, 3)
            field = 128 + 90 * np.sin(fx * x + fy * y + phase) + rng.normal(0, 12, size)
            square[..., channel] = field.clip(0, 255)
    return squares
