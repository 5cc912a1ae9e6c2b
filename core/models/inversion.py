"""Trains phi, the network that turns a vector into a pseudo-word, from texts alone (LinCIR, arXiv 2312.01998).

A text s has some of its words replaced by `$`. phi is given the vector of s with noise, and its answer is put in place
of each `$`: the text tower should then give the vector of s again. The noise stands for the difference between a
picture and a text that describes it.
"""

from __future__ import annotations

import contextlib
import copy
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np  # noqa: TID253
import torch  # noqa: TID253

from imgsearch.core.errors import ModelError
from imgsearch.core.writing import replacing

from .embedding import CausalText, OpenClipEmbedder, is_causal, silenced
from .pseudo_word import PLACEHOLDER, not_causal

if TYPE_CHECKING:
    from imgsearch.core.types import Vectors

HIDDEN = 512
"""The width of phi's inner layers, two of them."""
NOISE = 1.0
"""The length of the longest noise, relative to the vector's. It is drawn evenly up to that."""
DROPOUT = 0.1
BATCH_TEXTS = 64
ROUND_STEPS = 160
"""After that many steps, or after as many texts as there are, the held-out texts are tried and the state is saved."""
PATIENCE = 5
"""Rounds without a better result, after which the training ends."""
LEARNING_RATE, DECAY = 1e-3, 0.01
HELD_OUT = 20
"""Every twentieth text, at most MAX_HELD_OUT of them."""
MAX_HELD_OUT = 500

Progress = Callable[[int, float], None]
"""Called after each round with its number and the mean cosine on held-out texts."""


@dataclass(frozen=True, slots=True)
class Masked:
    """A text, and the same with `$` in place of some words."""

    text: str
    masked: str


@dataclass(frozen=True, slots=True)
class Learned:
    tensors: dict[str, Vectors]
    """As in `compose.pseudo_word.SHAPES`."""
    rounds: int
    texts: int
    held_out: int
    cosine: float
    """Of the vectors of held-out texts with the pseudo-word and without, the mean. No noise."""
    recall_at_1: float
    """How often, of all held-out texts, the text itself is the nearest to the one with its pseudo-word."""
    recall_of_something: float
    """The same with the word "something" in its place."""


@dataclass(frozen=True, slots=True)
class _Batch:
    ids: torch.Tensor
    """(texts, tokens), with the placeholder's where a pseudo-word goes."""
    last: torch.Tensor
    """The position of each text's end token."""
    vectors: torch.Tensor
    """Of the texts as they were, unit length."""

    def of(self, numbers: torch.Tensor) -> _Batch:
        return _Batch(self.ids[numbers], self.last[numbers], self.vectors[numbers])


class _Stopped(Exception):
    pass


class PhiTraining:
    """Use `run` once. Raises ModelError for a model whose text tower is no causal one of CLIP."""

    def __init__(self, embedder: OpenClipEmbedder, texts: Sequence[Masked], *, seed: int, rounds: int) -> None:
        if not is_causal(embedder.model):
            raise not_causal()
        self._embedder = embedder
        self._tokenizer: Any = embedder.tokenizer
        self._tower = CausalText(embedder.model)
        self._texts = texts
        self._seed = seed
        self._rounds = rounds
        self._placeholder = int(self._tokenizer([PLACEHOLDER])[0, 1])
        words = self._tower.tower.token_embedding.weight
        with _seeded(seed):
            last = torch.nn.Linear(HIDDEN, words.shape[1])
            # At first a word like others: with their mean and spread.
            torch.nn.init.normal_(last.weight, std=float(words.std()) / HIDDEN**0.5)
            last.bias.data.copy_(words.mean(dim=0))
            self._phi = torch.nn.Sequential(
                torch.nn.Linear(embedder.dim, HIDDEN), torch.nn.GELU(), torch.nn.Dropout(DROPOUT),
                torch.nn.Linear(HIDDEN, HIDDEN), torch.nn.GELU(), torch.nn.Dropout(DROPOUT),
                last,
            )  # fmt: skip
        self._optimizer = torch.optim.AdamW(self._phi.parameters(), LEARNING_RATE, weight_decay=DECAY)
        self._round = 0
        self._best: tuple[float, dict[str, Any], int] = (-2.0, {}, 0)
        """The mean cosine, phi, and the round."""

    def run(self, saved: str, on_round: Progress, stop: threading.Event) -> Learned | None:
        """phi, from a new start or from the state in the file `saved`. None if it was stopped: that file then has the
        state after the last whole round.

        The draws of a round depend on the seed and its number, so that a training that was continued gives the same.
        """
        try:
            return self._run(saved, on_round, stop)
        except _Stopped:
            return None

    def _run(self, saved: str, on_round: Progress, stop: threading.Event) -> Learned:
        texts = self._tokens(stop)
        is_usable = (texts.ids == self._placeholder).any(dim=1)  # a long text may be cut before its first one
        is_held_out = torch.zeros(len(is_usable), dtype=torch.bool)
        is_held_out[torch.arange(HELD_OUT - 1, len(is_usable), HELD_OUT)[:MAX_HELD_OUT]] = True
        kept = (is_usable & ~is_held_out).nonzero()[:, 0]
        asked = (is_usable & is_held_out).nonzero()[:, 0]
        if not (len(kept) and len(asked)):
            raise ModelError("the texts are too long for the model", hint="give shorter ones, such as captions")
        held_out = texts.of(asked)
        self._load(saved)
        while self._round < self._rounds and self._round - self._best[2] < PATIENCE:
            self._train_round(texts, kept, stop)
            cosine = float((self._read(held_out) * held_out.vectors).sum(dim=1).mean())
            if cosine > self._best[0]:
                self._best = cosine, copy.deepcopy(self._phi.state_dict()), self._round
            self._save(saved)
            on_round(self._round, cosine)
        best = self._best[1]
        self._phi.load_state_dict(best)
        plain = [self._texts[number].masked.replace(PLACEHOLDER, "something") for number in asked.tolist()]
        return Learned(
            {
                f"layers.{number}.{kind}": best[f"{at}.{kind}"].numpy().astype("<f2")
                for number, at in enumerate((0, 3, 6))
                for kind in ("weight", "bias")
            },
            rounds=self._round,
            texts=len(kept),
            held_out=len(asked),
            cosine=self._best[0],
            recall_at_1=_recall(self._read(held_out).numpy(), held_out.vectors.numpy()),
            recall_of_something=_recall(self._embedded(plain, stop), held_out.vectors.numpy()),
        )

    def _tokens(self, stop: threading.Event) -> _Batch:
        ids = self._tokenizer([each.masked for each in self._texts])
        last = (ids == self._tokenizer.eot_token_id).int().argmax(dim=1)
        return _Batch(ids, last, torch.from_numpy(self._embedded([each.text for each in self._texts], stop)))

    def _embedded(self, texts: Sequence[str], stop: threading.Event) -> Vectors:
        """Texts of about the same length are embedded together."""
        order = sorted(range(len(texts)), key=lambda number: len(texts[number]))
        vectors = np.empty((len(texts), self._embedder.dim), np.float32)
        for start in range(0, len(order), BATCH_TEXTS):
            _check(stop)
            part = order[start : start + BATCH_TEXTS]
            vectors[part] = self._embedder.embed_texts([texts[number] for number in part])
        return vectors

    def _train_round(self, texts: _Batch, kept: torch.Tensor, stop: threading.Event) -> None:
        steps = min(ROUND_STEPS, -(-len(kept) // BATCH_TEXTS))
        self._phi.train()
        with _seeded(self._seed, self._round):
            drawn = kept[torch.randint(len(kept), (steps * BATCH_TEXTS,))]
            by_length = drawn[texts.last[drawn].argsort(stable=True)]  # a batch of one length has no padding
            batches = by_length.view(steps, BATCH_TEXTS)
            for number in torch.randperm(steps).tolist():
                _check(stop)
                batch = texts.of(batches[number])
                noise = torch.randn(batch.vectors.shape) * torch.rand(BATCH_TEXTS, 1)
                noisy = batch.vectors + noise * (NOISE / noise.shape[1] ** 0.5)
                found = self._sentences(batch, torch.nn.functional.normalize(noisy, dim=1))
                loss = 2 - 2 * (found * batch.vectors).sum(dim=1).mean()  # the squared distance of unit vectors
                self._optimizer.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]
                self._optimizer.step()
        self._round += 1

    @torch.no_grad()
    def _read(self, texts: _Batch) -> torch.Tensor:
        """The unit vectors of texts with their own pseudo-word."""
        self._phi.eval()
        parts = map(texts.of, torch.arange(len(texts.ids)).split(BATCH_TEXTS))  # type: ignore[no-untyped-call]
        return torch.cat([self._sentences(part, part.vectors) for part in parts])

    def _sentences(self, texts: _Batch, vectors: torch.Tensor) -> torch.Tensor:
        """The unit vectors of texts with the pseudo-words of vectors."""
        ids = texts.ids[:, : int(texts.last.max()) + 1]
        x = self._tower.tower.token_embedding(ids)
        x = torch.where((ids == self._placeholder)[:, :, None], self._phi(vectors)[:, None, :], x)
        return torch.nn.functional.normalize(self._tower.of_tokens(x, texts.last), dim=1)

    def _load(self, path: str) -> None:
        if not os.path.exists(path):
            return
        with silenced(), contextlib.suppress(Exception):  # a state that cannot be read is a state that is not there
            state = torch.load(path, map_location="cpu", weights_only=True)
            self._phi.load_state_dict(state["phi"])
            self._optimizer.load_state_dict(state["optimizer"])
            self._round, self._best = int(state["round"]), (float(state["best"]), state["of_best"], int(state["when"]))

    def _save(self, path: str) -> None:
        best, of_best, when = self._best
        state = {
            "phi": self._phi.state_dict(),
            "optimizer": self._optimizer.state_dict(),
            "round": self._round,
            "best": best,
            "of_best": of_best,
            "when": when,
        }
        try:
            with replacing(path) as file:
                torch.save(state, file)
        except OSError as error:
            reason = (error.strerror or str(error)).lower()
            raise ModelError(f"{path}: {reason}", hint="free some space in the cache folder") from error


def _check(stop: threading.Event) -> None:
    if stop.is_set():
        raise _Stopped


@contextlib.contextmanager
def _seeded(*numbers: int) -> Iterator[None]:
    """Inside, torch draws the same for the same numbers."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0] >> 1))
        yield


def _recall(queries: Vectors, true: Vectors) -> float:
    return float(((queries @ true.T).argmax(axis=1) == np.arange(len(true))).mean())
