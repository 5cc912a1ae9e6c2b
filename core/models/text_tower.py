"""The causal text tower of CLIP in numpy: a query by words needs no ONNX Runtime, whose import takes longer than this.

Source: Radford et al. 2021, https://arxiv.org/abs/2103.00020, section 2.4. The weights keep open_clip's names.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from imgsearch.core.late import LateModule
from imgsearch.core.paths import processor_cores

from .weights_file import WeightsFile

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from imgsearch.core.types import Vectors

    from .towers import TextConfig

    Array = NDArray[np.float32]
else:
    np = LateModule("numpy")

# The most tokens in one run of the tower.
MAX_TOKENS = 512


class TextTower:
    """Embeds token ids. Raises WeightsError if the file is damaged."""

    def __init__(self, file: WeightsFile, config: TextConfig) -> None:
        self._file = file
        self._config = config
        self._floats: dict[str, Array] = {}
        self._projection = "text_projection.weight" if "text_projection.weight" in file.names else "text_projection"

    def __call__(
        self, token_lists: Sequence[Sequence[int]], inserted: Sequence[Mapping[int, Array]] | None = None
    ) -> Vectors:
        """Token ids with their end token -> float32 (texts, dim), not normalised.

        `inserted`: for each text, the vectors that take the place of the embeddings of tokens, by position: float32
        (width,). The ids stay what they are, and say where the text ends.
        """
        inserted = inserted or [{}] * len(token_lists)
        by_length = sorted(range(len(token_lists)), key=lambda i: len(token_lists[i]))
        parts = []
        while by_length:
            count = max(1, MAX_TOKENS // len(token_lists[by_length[-1]]))
            by_length, part = by_length[:-count], by_length[-count:]
            parts.append(part)
        found = self._parts([([token_lists[i] for i in part], [inserted[i] for i in part]) for part in parts])
        vectors = np.empty((len(token_lists), found[0].shape[1]), np.float32)
        for part, own in zip(parts, found, strict=True):
            vectors[part] = own
        return vectors

    @property
    def width(self) -> int:
        """Of the vector of a token."""
        return len(self._weights("ln_final.weight"))

    def _parts(self, parts: Sequence[tuple[Sequence[Sequence[int]], Sequence[Mapping[int, Array]]]]) -> list[Vectors]:
        if len(parts) == 1:
            return [self._part(*parts[0])]
        from concurrent.futures import ThreadPoolExecutor

        with ThreadPoolExecutor(processor_cores()) as pool:
            return list(pool.map(lambda part: self._part(*part), parts))

    def _part(self, token_lists: Sequence[Sequence[int]], inserted: Sequence[Mapping[int, Array]]) -> Vectors:
        """Texts are padded at the end, where no token sees the padding."""
        lengths = np.array([len(tokens) for tokens in token_lists])
        ids = np.zeros((len(token_lists), lengths.max()), np.int64)
        for row, tokens in zip(ids, token_lists, strict=True):
            row[: len(tokens)] = tokens
        x = self._file.tensor("token_embedding.weight")[ids].astype(np.float32)
        for text, vectors in zip(x, inserted, strict=True):
            for position, vector in vectors.items():
                text[position] = vector
        x += self._weights("positional_embedding")[: ids.shape[1]]
        mask = np.triu(np.full((ids.shape[1],) * 2, -np.inf, np.float32), 1)
        for layer in range(self._config.layers):
            block = f"transformer.resblocks.{layer}"
            x += self._attention(self._normalised(x, f"{block}.ln_1"), f"{block}.attn", mask)
            hidden = self._linear(self._normalised(x, f"{block}.ln_2"), f"{block}.mlp.c_fc")
            x += self._linear(_ACTIVATIONS[self._config.activation](hidden), f"{block}.mlp.c_proj")
        x = self._normalised(x[np.arange(len(x)), lengths - 1], "ln_final")
        return self._projected(x)

    def _attention(self, x: Array, name: str, mask: Array) -> Array:
        texts, tokens, width = x.shape
        heads = self._config.heads
        whole = self._product(x, f"{name}.in_proj_weight") + self._weights(f"{name}.in_proj_bias")
        q, k, v = whole.reshape(texts, tokens, 3, heads, width // heads).transpose(2, 0, 3, 1, 4)
        scores = q @ k.swapaxes(2, 3) * np.float32((width // heads) ** -0.5) + mask
        scores = np.exp(scores - scores.max(axis=-1, keepdims=True))
        scores /= scores.sum(axis=-1, keepdims=True)
        return self._linear((scores @ v).swapaxes(1, 2).reshape(texts, tokens, width), f"{name}.out_proj")

    def _normalised(self, x: Array, name: str) -> Array:
        centred: Array = x - x.mean(axis=-1, keepdims=True)
        variance = (centred * centred).mean(axis=-1, keepdims=True)
        centred /= np.sqrt(variance + np.float32(self._config.epsilon))
        return centred * self._weights(f"{name}.weight") + self._weights(f"{name}.bias")

    def _linear(self, x: Array, name: str) -> Array:
        return self._product(x, f"{name}.weight") + self._weights(f"{name}.bias")

    def _product(self, x: Array, name: str) -> Array:
        weights = self._weights(name)
        product: Array = x.reshape(-1, x.shape[-1]) @ weights.T
        return product.reshape(*x.shape[:-1], len(weights))

    def _projected(self, x: Array) -> Vectors:
        if self._projection not in self._file.names:
            return x
        if self._projection == "text_projection":
            projected: Vectors = x @ self._weights(self._projection)
            return projected
        bias = "text_projection.bias"
        return self._linear(x, "text_projection") if bias in self._file.names else self._product(x, self._projection)

    def _weights(self, name: str) -> Array:
        found = self._floats.get(name)
        if found is None:
            found = self._floats[name] = self._file.floats(name)
        return found


def gelu(x: Array) -> Array:
    """x times the normal distribution's share below x. erf as in Abramowitz and Stegun, 7.1.26: wrong by 1.5e-7."""
    size = np.abs(x) * np.float32(math.sqrt(0.5))
    t = 1 / (1 + np.float32(0.3275911) * size)
    polynomial = np.zeros_like(t)
    for factor in (1.061405429, -1.453152027, 1.421413741, -0.284496736, 0.254829592):
        polynomial = (polynomial + np.float32(factor)) * t
    outside = polynomial * np.exp(-size * size) / 2
    found: Array = np.maximum(x, 0) - np.abs(x) * outside
    return found


def _quick_gelu(x: Array) -> Array:
    found: Array = x / (1 + np.exp(np.float32(-1.702) * x))
    return found


_ACTIVATIONS = {"gelu": gelu, "quick_gelu": _quick_gelu}
