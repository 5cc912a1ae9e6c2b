"""Folders with a `CLIPModel` of transformers, as open_clip's model: configuration, preprocessing and weights.

A folder has config.json (of `model_type` clip) and model.safetensors, and may have preprocessor_config.json. Both
classes compute the same. Names differ, and the shapes of a few tensors.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterator, Mapping
from typing import Any

import safetensors
import torch  # noqa: TID253

from imgsearch.core.errors import ModelError
from imgsearch.core.paths import printable

from .registry import HF_CONFIG, HF_PREPROCESSING, HF_VOCABULARY, json_file
from .weights_file import WeightsError, WeightsFile

# What transformers assumes where a configuration says nothing.
_TEXT = {
    "hidden_size": 512, "intermediate_size": 2048, "num_hidden_layers": 12, "num_attention_heads": 8,
    "max_position_embeddings": 77, "vocab_size": 49408, "hidden_act": "quick_gelu", "layer_norm_eps": 1e-5,
}  # fmt: skip
_VISION = {
    "hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12, "num_attention_heads": 12,
    "image_size": 224, "patch_size": 32, "num_channels": 3, "hidden_act": "quick_gelu", "layer_norm_eps": 1e-5,
}  # fmt: skip
_PROJECTION = 512
_MEAN, _STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
_ACTIVATIONS = {"quick_gelu": True, "gelu": False}
_RESAMPLING = {2: "bilinear", 3: "bicubic"}
# More than any CLIP model has.
_MOST_LAYERS, _MOST = 1_000, 100_000
# Characters of a reason that a file decides.
_SHOWN = 200

_BLOCKS = {
    "self_attn.out_proj": "attn.out_proj",
    "layer_norm1": "ln_1",
    "layer_norm2": "ln_2",
    "mlp.fc1": "mlp.c_fc",
    "mlp.fc2": "mlp.c_proj",
}
_OTHERS = {
    "logit_scale": "logit_scale",
    "text_projection.weight": "text_projection",
    "text_model.embeddings.token_embedding.weight": "token_embedding.weight",
    "text_model.embeddings.position_embedding.weight": "positional_embedding",
    "text_model.final_layer_norm.weight": "ln_final.weight",
    "text_model.final_layer_norm.bias": "ln_final.bias",
    "visual_projection.weight": "visual.proj",
    "vision_model.embeddings.class_embedding": "visual.class_embedding",
    "vision_model.embeddings.patch_embedding.weight": "visual.conv1.weight",
    "vision_model.embeddings.position_embedding.weight": "visual.positional_embedding",
    "vision_model.pre_layrnorm.weight": "visual.ln_pre.weight",  # transformers spells it so
    "vision_model.pre_layrnorm.bias": "visual.ln_pre.bias",
    "vision_model.post_layernorm.weight": "visual.ln_post.weight",
    "vision_model.post_layernorm.bias": "visual.ln_post.bias",
}
_TRANSPOSED = ("text_projection.weight", "visual_projection.weight")
# The numbers 0, 1, 2 ..., which older versions of transformers stored.
_IGNORED = re.compile(r"(text|vision)_model\.embeddings\.position_ids")

_HINT = "copy the model again, or use another: imgsearch models lists some"


def config_of(folder: str) -> dict[str, Any]:
    """The configuration of a folder in open_clip's terms. Raises ModelError for one that open_clip cannot follow."""
    path = os.path.join(folder, HF_CONFIG)
    whole = json_file(path)
    try:
        text, vision = _part(whole, "text", _TEXT), _part(whole, "vision", _VISION)
        if text["vocab_size"] != _TEXT["vocab_size"] or vision["num_channels"] != _VISION["num_channels"]:
            raise ValueError("its vocabulary or its pictures are not those of CLIP")
        activations = {text["hidden_act"], vision["hidden_act"]}
        if len(activations) > 1 or not activations <= set(_ACTIVATIONS):
            raise ValueError(f"the activations {', '.join(sorted(map(str, activations)))} are not supported")
        config = {
            "embed_dim": _count(whole, "projection_dim", _PROJECTION),
            "quick_gelu": _ACTIVATIONS[activations.pop()],
            "vision_cfg": {
                "image_size": _count(vision, "image_size"),
                "patch_size": _count(vision, "patch_size"),
                "head_width": _divided(vision, "hidden_size", "num_attention_heads"),
                **_tower(vision),
            },
            "text_cfg": {
                "context_length": _count(text, "max_position_embeddings"),
                "vocab_size": _count(text, "vocab_size"),
                "heads": _count(text, "num_attention_heads"),
                **_tower(text),
            },
        }
        _divided(text, "hidden_size", "num_attention_heads")
        _divided(vision, "image_size", "patch_size")
    except (ValueError, TypeError) as error:
        raise _error(path, error) from error
    return config


def composer_of(folder: str) -> str | None:
    """The composition method that the model was trained for: copies of BGE-VL name their authors' class."""
    return "raw-sum" if "MMRet" in str(json_file(os.path.join(folder, HF_CONFIG)).get("auto_map")) else None


def _error(path: str, error: Exception) -> ModelError:
    reason = str(error)[:_SHOWN] if isinstance(error, ValueError) else "has values of the wrong kind"
    return ModelError(f"{printable(path)}: {printable(reason)}", hint=_HINT)


def _part(whole: Mapping[str, Any], name: str, assumed: Mapping[str, Any]) -> dict[str, Any]:
    parts = [whole.get(key) or {} for key in (f"{name}_config", f"{name}_config_dict")]
    if not all(isinstance(part, dict) for part in parts):
        raise ValueError(f"{name}_config is not an object")
    return {**assumed, **parts[0], **parts[1]}


def _tower(part: Mapping[str, Any]) -> dict[str, Any]:
    """The keys that the configurations of both towers have."""
    width, hidden = _count(part, "hidden_size"), _count(part, "intermediate_size")
    epsilon = part["layer_norm_eps"]
    if not isinstance(epsilon, float) or not 0 < epsilon < 1:
        raise ValueError(f"layer_norm_eps is {epsilon!r}")
    layers = _count(part, "num_hidden_layers", most=_MOST_LAYERS)
    tower = {"width": width, "layers": layers, "mlp_ratio": hidden / width}
    if int(width * tower["mlp_ratio"]) != hidden:
        raise ValueError(f"an intermediate_size of {hidden} does not go with a hidden_size of {width}")
    return tower | ({"norm_kwargs": {"eps": epsilon}} if epsilon != _TEXT["layer_norm_eps"] else {})


def _count(part: Mapping[str, Any], name: str, assumed: int | None = None, *, most: int = _MOST) -> int:
    value = part.get(name, assumed)
    if type(value) is not int or not 0 < value <= most:
        raise ValueError(f"{name} is {value!r}")
    return value


def _divided(part: Mapping[str, Any], name: str, by: str) -> int:
    whole, divisor = _count(part, name), _count(part, by)
    if whole % divisor:
        raise ValueError(f"{name} is {whole}, which is no multiple of {by}, {divisor}")
    return whole // divisor


def preprocessing(folder: str, side: int) -> dict[str, Any]:
    """How pictures of `side` x `side` pixels are prepared, in open_clip's terms: as CLIP's, unless the folder says
    otherwise. Raises ModelError for ways that open_clip does not have."""
    path = os.path.join(folder, HF_PREPROCESSING)
    known = json_file(path)
    if not known and os.path.isfile(path):
        raise ModelError(f"{printable(path)} is damaged", hint=_HINT)
    size, crop, resampling = known.get("size", side), known.get("crop_size", side), known.get("resample", 3)
    is_stretched = isinstance(size, dict) and "shortest_edge" not in size
    steps = ("do_resize", "do_rescale", "do_normalize", *(() if is_stretched else ("do_center_crop",)))
    mean, std = known.get("image_mean", _MEAN), known.get("image_std", _STD)
    try:
        sides = {length for each in (size, crop) for length in (each.values() if isinstance(each, dict) else (each,))}
        if sides != {side}:
            raise ValueError(f"size and crop_size are not {side}, which the model takes")
        if not all(known.get(step, True) is True for step in steps) or resampling not in _RESAMPLING:
            raise ValueError("this preprocessing is not supported")
        if not math.isclose(known.get("rescale_factor", 1 / 255), 1 / 255):
            raise ValueError("rescale_factor is not 1/255")
        if not len(mean) == len(std) == 3 or not all(0 < each < 1 for each in (*mean, *std)):
            raise ValueError("image_mean and image_std are not three numbers between 0 and 1")
    except (ValueError, TypeError) as error:
        raise _error(path, error) from error
    return {
        "size": side,
        "mode": "RGB",
        "mean": tuple(mean),
        "std": tuple(std),
        "interpolation": _RESAMPLING[resampling],
        "resize_mode": "squash" if is_stretched else "shortest",
        "fill_color": 0,
    }


def check_vocabulary(folder: str, numbers: Mapping[str, int]) -> None:
    """Whether the folder's tokenizer is CLIP's, whose `numbers` these are: models of other languages have others.
    Raises ModelError."""
    path = os.path.join(folder, HF_VOCABULARY)
    known = json_file(path)
    # The last two, for the start and the end, have other names there.
    is_other = any(known.get(token) != number for token, number in numbers.items() if number < len(numbers) - 2)
    if is_other and os.path.isfile(path):
        raise ModelError(f"{printable(path)} is not the vocabulary of CLIP, the only one that is supported", hint=_HINT)


def weights(path: str, config: Mapping[str, Any]) -> dict[str, torch.Tensor]:
    """The tensors of model.safetensors by open_clip's names, in float32. Raises ModelError."""
    expected = dict(_shapes(config))
    try:
        names = set(WeightsFile(path).names)  # says what is wrong with a file that is none
        if missing := expected.keys() - names:
            raise WeightsError(f"{path} has no tensor {min(missing)}")
        if foreign := [name for name in sorted(names - expected.keys()) if not _IGNORED.fullmatch(name)]:
            raise WeightsError(f"{path} has an unknown tensor: {foreign[0][:_SHOWN]}")
        with safetensors.safe_open(path, "pt") as file:
            found = {name: _tensor(file, path, name, shape) for name, shape in expected.items()}
    except (WeightsError, safetensors.SafetensorError) as error:
        reason = str(error) if isinstance(error, WeightsError) else f"{path} is damaged: {str(error)[:_SHOWN]}"
        raise ModelError(printable(reason), hint=_HINT) from error
    return dict(_renamed(found, config))


def _tensor(file: Any, path: str, name: str, shape: tuple[int, ...]) -> torch.Tensor:
    tensor: torch.Tensor = file.get_tensor(name).float()
    if tensor.shape != shape:
        has, wanted = (" x ".join(map(str, each)) or "no dimension" for each in (tensor.shape, shape))
        raise WeightsError(f"tensor {name} of {path} has the shape {has}, not {wanted}")
    if not tensor.isfinite().all():
        raise WeightsError(f"tensor {name} of {path} has values that are not finite")
    return tensor


def _shapes(config: Mapping[str, Any]) -> Iterator[tuple[str, tuple[int, ...]]]:
    """All tensors of a CLIPModel, with their shapes."""
    text, vision, dim = config["text_cfg"], config["vision_cfg"], config["embed_dim"]
    patch = vision["patch_size"]
    yield "logit_scale", ()
    for tower, part, norms in (
        ("text", text, ("final_layer_norm",)),
        ("vision", vision, ("pre_layrnorm", "post_layernorm")),
    ):
        width, hidden = part["width"], int(part["width"] * part["mlp_ratio"])
        yield f"{'visual' if tower == 'vision' else tower}_projection.weight", (dim, width)
        layers = [f"{tower}_model.encoder.layers.{layer}" for layer in range(part["layers"])]
        for name in [f"{tower}_model.{norm}" for norm in norms] + [
            f"{layer}.layer_norm{number}" for layer in layers for number in (1, 2)
        ]:
            yield f"{name}.weight", (width,)
            yield f"{name}.bias", (width,)
        for layer in layers:
            shapes = {f"self_attn.{each}_proj": (width, width) for each in ("q", "k", "v", "out")}
            for name, shape in (shapes | {"mlp.fc1": (hidden, width), "mlp.fc2": (width, hidden)}).items():
                yield f"{layer}.{name}.weight", shape
                yield f"{layer}.{name}.bias", shape[:1]
    yield "text_model.embeddings.token_embedding.weight", (text["vocab_size"], text["width"])
    yield "text_model.embeddings.position_embedding.weight", (text["context_length"], text["width"])
    yield "vision_model.embeddings.class_embedding", (vision["width"],)
    yield "vision_model.embeddings.patch_embedding.weight", (vision["width"], 3, patch, patch)
    places = (vision["image_size"] // patch) ** 2 + 1
    yield "vision_model.embeddings.position_embedding.weight", (places, vision["width"])


def _renamed(found: Mapping[str, torch.Tensor], config: Mapping[str, Any]) -> Iterator[tuple[str, torch.Tensor]]:
    for name, other in _OTHERS.items():
        yield other, found[name].T.contiguous() if name in _TRANSPOSED else found[name]
    for tower, prefix in (("text", "transformer"), ("vision", "visual.transformer")):
        for layer in range(config[f"{tower}_cfg"]["layers"]):
            theirs, ours = f"{tower}_model.encoder.layers.{layer}", f"{prefix}.resblocks.{layer}"
            for kind in ("weight", "bias"):
                parts = [found[f"{theirs}.self_attn.{part}_proj.{kind}"] for part in "qkv"]
                yield f"{ours}.attn.in_proj_{kind}", torch.cat(parts)
                for name, other in _BLOCKS.items():
                    yield f"{ours}.{other}.{kind}", found[f"{theirs}.{name}.{kind}"]
