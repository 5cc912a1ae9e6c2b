"""Published weights of textual inversion as files for --compose.

Keys and shapes are those of the authors' repositories: google-research/composed_image_retrieval, miccunifi/SEARLE and
navervision/lincir. The networks took pictures as the model gives them, and an index has unit vectors: `feature_norm` is
the length that these are given. It differs from picture to picture, so that a mean is what can be done.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np  # noqa: TID253

from imgsearch.core.errors import ModelError, UsageError
from imgsearch.core.light_dataclass import dataclass
from imgsearch.core.paths import printable

from .composer_file import MAX_BYTES, MAX_VALUE

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from imgsearch.core.models.checkpoint import Checkpoint
    from imgsearch.core.search.choices import PseudoWordName
    from imgsearch.core.types import Vectors


@dataclass(frozen=True, slots=True)
class Published:
    """What the authors' file is like."""

    key: str
    layers: tuple[str, str, str]
    """The names of the linear layers."""
    training_data: str
    licence: str


PUBLISHED: Mapping[PseudoWordName, Published] = {
    "pic2word": Published(
        "state_dict_img2text",
        ("layers.0.0", "layers.1.0", "fc_out"),
        "pictures of Conceptual Captions 3M (Pic2Word)",
        "not stated (the code is Apache-2.0)",
    ),
    "searle": Published(
        "Phi", ("layers.0", "layers.3", "layers.6"), "pictures of ImageNet (SEARLE)", "CC BY-NC 4.0: no commercial use"
    ),
    "lincir": Published(
        "Phi", ("layers.0", "layers.3", "layers.6"), "texts alone (LinCIR)", "CC BY-NC 4.0: no commercial use"
    ),
}
ARCH_OF_DIM = {
    512: "ViT-B-32/openai",
    768: "ViT-L-14/openai",
    1024: "ViT-H-14/laion2b_s32b_b79k",
    1280: "ViT-bigG-14/laion2b_s39b_b160k",
}
"""The models that weights were published for, as open_clip names them."""
NORM_OF_ARCH = {"ViT-B-32/openai": 10.8, "ViT-L-14/openai": 20.0}
"""Reported lengths of pictures' vectors: 10.6 to 11.2 for ViT-B-32, and 20.8 for one picture of ViT-L-14 at 336
pixels. Nothing could be downloaded here to measure more."""
VERSION = "published"


@dataclass(frozen=True, slots=True)
class Converted:
    metadata: dict[str, str]
    tensors: dict[str, NDArray[np.generic]]
    read: dict[str, tuple[int, ...]]
    """The shape of each tensor that was read, by its key in the file."""
    ignored: tuple[str, ...]
    """Keys of the file that were not read."""


def convert(
    method: PseudoWordName,
    path: str,
    found: Checkpoint,
    *,
    model: str | None = None,
    feature_norm: float | None = None,
) -> Converted:
    """The weights in what was read under PUBLISHED's key of the file. `model`: `ARCH/TAG`, for another model than the
    dimension suggests. Raises ModelError, UsageError.
    """
    if feature_norm is not None and not 0 < feature_norm <= MAX_VALUE:
        raise UsageError(f"--feature-norm {feature_norm:g} is no length", hint="give a number like 10")
    known = PUBLISHED[method]
    plain = {name.removeprefix("module."): values for name, values in found.tensors.items()}
    tensors: dict[str, NDArray[np.generic]] = {}
    for number, layer in enumerate(known.layers):
        for kind, rank in (("weight", 2), ("bias", 1)):
            values = plain.pop(f"{layer}.{kind}", None)
            if values is None:
                raise _error(path, f"has no {known.key}/{layer}.{kind}")
            if values.ndim != rank or not values.size:
                raise _error(path, f"has a {known.key}/{layer}.{kind} of {_shape(values)}")
            if not (np.abs(values) <= MAX_VALUE).all():
                raise _error(path, f"has values that are not finite in {known.key}/{layer}.{kind}")
            tensors[f"layers.{number}.{kind}"] = values
    if plain:
        raise _error(path, f"has an unknown tensor: {known.key}/{min(plain)}")
    _check_chain(path, tensors)
    dim = tensors["layers.0.weight"].shape[1]
    arch = model or ARCH_OF_DIM.get(dim)
    if arch is None:
        raise UsageError(
            f"{printable(path)} is for {dim} dimensions, which no published model has",
            hint="name the model that it was trained for: --model ARCH/TAG",
        )
    norm = NORM_OF_ARCH.get(arch) if feature_norm is None else feature_norm
    if norm is None:
        raise UsageError(
            f"the length of pictures' vectors of {printable(arch)} is not known",
            hint="give it: --feature-norm N, the mean length of what its encode_image returns",
        )
    if sum(values.nbytes for values in tensors.values()) > MAX_BYTES - 100_000:
        tensors = {name: values.astype("<f2") for name, values in tensors.items()}
    metadata = {
        "method": method,
        "arch": arch,
        "dim": str(dim),
        "weight": "0.5",
        "training_data": known.training_data,
        "version": VERSION,
        "licence": known.licence,
        "is_default": "no",
    }
    read = {f"{known.key}/{name}": values.shape for name, values in found.tensors.items()}
    return Converted(metadata, tensors | {"feature_norm": np.array([norm], "<f4")}, read, found.others)


def _check_chain(path: str, tensors: Mapping[str, NDArray[np.generic]]) -> None:
    """Each layer takes what the one before gives."""
    width = tensors["layers.0.weight"].shape[1]
    for number in range(3):
        weight, bias = tensors[f"layers.{number}.weight"], tensors[f"layers.{number}.bias"]
        if weight.shape[1] != width or bias.shape[0] != weight.shape[0]:
            raise _error(path, f"has layers that do not fit together: {_shape(weight)} after {width}")
        width = weight.shape[0]


def _shape(values: Vectors | NDArray[np.generic]) -> str:
    return " x ".join(map(str, values.shape)) or "no dimension"


def _error(path: str, reason: str) -> ModelError:
    return ModelError(f"{printable(path)} {printable(reason)}", hint="give the file as its authors published it")
