"""Folders of a CLIPModel of transformers with weights by chance, and what such a model computes, from its paper.

Radford et al. 2021, https://arxiv.org/abs/2103.00020, with the names that transformers gives to the tensors.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import safetensors.torch
import torch
from torch.nn import functional

TINY = {
    "model_type": "clip",
    "projection_dim": 24,
    "text_config": {
        "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2,
        "hidden_act": "quick_gelu",
    },
    "vision_config": {
        "hidden_size": 48, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 3,
        "image_size": 32, "patch_size": 8, "hidden_act": "quick_gelu",
    },
}  # fmt: skip
BGE = {"auto_map": {"AutoModel": "modeling_MMRet_CLIP.CLIPModel"}}
PREPROCESSING = {
    "do_center_crop": True, "do_convert_rgb": True, "do_normalize": True, "do_resize": True, "resample": 3,
    "crop_size": {"height": 32, "width": 32}, "size": {"shortest_edge": 32},
    "image_mean": [0.48145466, 0.4578275, 0.40821073], "image_std": [0.26862954, 0.26130258, 0.27577711],
}  # fmt: skip


def shapes_of(config: dict) -> dict[str, tuple[int, ...]]:
    text, vision, dim = config["text_config"], config["vision_config"], config["projection_dim"]
    patch, (wide, high) = vision["patch_size"], (text["hidden_size"], vision["hidden_size"])
    shapes: dict[str, tuple[int, ...]] = {
        "logit_scale": (),
        "text_projection.weight": (dim, wide),
        "visual_projection.weight": (dim, high),
        "text_model.embeddings.token_embedding.weight": (49408, wide),
        "text_model.embeddings.position_embedding.weight": (77, wide),
        "vision_model.embeddings.class_embedding": (high,),
        "vision_model.embeddings.patch_embedding.weight": (high, 3, patch, patch),
        "vision_model.embeddings.position_embedding.weight": ((vision["image_size"] // patch) ** 2 + 1, high),
    }
    linear = {}
    for part, sizes, norms in (
        ("text_model", text, ("final_layer_norm",)),
        ("vision_model", vision, ("pre_layrnorm", "post_layernorm")),
    ):
        width, hidden = sizes["hidden_size"], sizes["intermediate_size"]
        linear |= {f"{part}.{norm}": (width,) for norm in norms}
        for layer in range(sizes["num_hidden_layers"]):
            name = f"{part}.encoder.layers.{layer}"
            linear |= {f"{name}.layer_norm{n}": (width,) for n in (1, 2)}
            linear |= {f"{name}.self_attn.{which}_proj": (width, width) for which in ("q", "k", "v", "out")}
            linear |= {f"{name}.mlp.fc1": (hidden, width), f"{name}.mlp.fc2": (width, hidden)}
    for name, shape in linear.items():
        shapes |= {f"{name}.weight": shape, f"{name}.bias": shape[:1]}
    return shapes


def tensors_of(config: dict, seed: int = 0) -> dict[str, torch.Tensor]:
    """Large enough that pictures and texts differ from each other."""
    random = torch.Generator().manual_seed(seed)
    tensors = {}
    for name, shape in shapes_of(config).items():
        values = torch.randn(shape, generator=random)
        is_norm = "norm" in name and name.endswith("weight")
        tensors[name] = 1 + 0.1 * values if is_norm else values * (0.5 if "embedding" in name else 0.2)
    return tensors


def folder_of(path: Path, config: dict | None = None, tensors: dict | None = None, **more: object) -> Path:
    """A folder as save_pretrained makes it. `more` is added to its config.json."""
    config = config or TINY
    path.mkdir(parents=True, exist_ok=True)
    (path / "config.json").write_text(json.dumps(config | more))
    (path / "preprocessor_config.json").write_text(json.dumps(PREPROCESSING))
    safetensors.torch.save_file(
        {name: tensor.contiguous() for name, tensor in (tensors or tensors_of(config)).items()},
        path / "model.safetensors",
        {"format": "pt"},
    )
    return path


class Paper:
    """The model, from the formulas. Vectors: float32, not normalised."""

    def __init__(self, config: dict, tensors: dict[str, torch.Tensor]) -> None:
        self.config, self.tensors = config, {name: tensor.double() for name, tensor in tensors.items()}

    def images(self, squares: np.ndarray) -> np.ndarray:
        mean, std = (
            torch.tensor(PREPROCESSING[name], dtype=torch.double).view(3, 1, 1) for name in ("image_mean", "image_std")
        )
        pixels = (torch.tensor(squares).permute(0, 3, 1, 2).double() / 255 - mean) / std
        sizes, t = self.config["vision_config"], self.tensors
        patches = functional.conv2d(
            pixels, t["vision_model.embeddings.patch_embedding.weight"], stride=sizes["patch_size"]
        )
        x = patches.flatten(2).transpose(1, 2)
        first = t["vision_model.embeddings.class_embedding"].expand(len(x), 1, -1)
        x = torch.cat([first, x], 1) + t["vision_model.embeddings.position_embedding.weight"]
        x = self._layers(self._norm(x, "vision_model.pre_layrnorm"), "vision", None)[:, 0]
        return (self._norm(x, "vision_model.post_layernorm") @ t["visual_projection.weight"].T).float().numpy()

    def texts(self, ids: torch.Tensor) -> np.ndarray:
        t, count = self.tensors, ids.shape[1]
        x = t["text_model.embeddings.token_embedding.weight"][ids]
        x = x + t["text_model.embeddings.position_embedding.weight"][:count]
        mask = torch.full((count, count), float("-inf"), dtype=torch.double).triu(1)
        x = self._norm(self._layers(x, "text", mask), "text_model.final_layer_norm")
        ends = x[torch.arange(len(x)), ids.argmax(1)]
        return (ends @ t["text_projection.weight"].T).float().numpy()

    def _layers(self, x: torch.Tensor, part: str, mask: torch.Tensor | None) -> torch.Tensor:
        sizes = self.config[f"{part}_config"]
        heads = sizes["num_attention_heads"]
        for layer in range(sizes["num_hidden_layers"]):
            name = f"{part}_model.encoder.layers.{layer}"
            y = self._norm(x, f"{name}.layer_norm1")
            q, k, v = (
                self._linear(y, f"{name}.self_attn.{which}_proj").unflatten(2, (heads, -1)).transpose(1, 2)
                for which in ("q", "k", "v")
            )
            scores = q @ k.transpose(2, 3) / q.shape[3] ** 0.5
            scores = scores if mask is None else scores + mask
            x = x + self._linear((scores.softmax(3) @ v).transpose(1, 2).flatten(2), f"{name}.self_attn.out_proj")
            hidden = self._linear(self._norm(x, f"{name}.layer_norm2"), f"{name}.mlp.fc1")
            is_quick = sizes["hidden_act"] == "quick_gelu"
            hidden = hidden * torch.sigmoid(1.702 * hidden) if is_quick else functional.gelu(hidden)
            x = x + self._linear(hidden, f"{name}.mlp.fc2")
        return x

    def _linear(self, x: torch.Tensor, name: str) -> torch.Tensor:
        return x @ self.tensors[f"{name}.weight"].T + self.tensors[f"{name}.bias"]

    def _norm(self, x: torch.Tensor, name: str) -> torch.Tensor:
        return functional.layer_norm(x, x.shape[-1:], self.tensors[f"{name}.weight"], self.tensors[f"{name}.bias"])
