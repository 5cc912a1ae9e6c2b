"""What commands share that index photos: the model asked for, and an end in order."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from types import FrameType

    from imgsearch.core.models.registry import ModelSpec
    from imgsearch.core.store.catalog import Space
    from imgsearch.core.store.store import Store
    from imgsearch.core.types import Embedder


class Choice:
    """The model asked for, resolved against what the index has."""

    def __init__(
        self,
        model: str | None,
        weights: str | None,
        preprocess_from: str | None,
        device: str,
        precision: str,
        offline: bool,
        say: Callable[[str], None],
    ) -> None:
        from imgsearch.core.errors import UsageError

        if model is None and (weights or preprocess_from):
            raise UsageError(
                "--weights and --preprocess-from need --model", hint="name the open_clip architecture with --model"
            )
        self._model, self._weights, self._preprocess_from = model, weights, preprocess_from
        self._device, self._precision, self._offline, self._say = device, precision, offline, say
        self.loaded: Embedder | None = None
        self._loaded_as = ""

    def known_space(self, store: Store) -> Space | None:
        """The space to fill, if no model was asked for and the index has one already."""
        return store.active_space() if self._model is None else None

    def likely_space(self, store: Store) -> Space | None:
        """The space that a run would fill, as far as can be told without loading the model."""
        if self._model in (None, "auto"):
            return store.active_space()
        wanted = self._spec().to_json()
        return next((space for space in store.catalog.spaces() if space.model == wanted), None)

    def embedder(self, space: Space | None) -> Callable[[], tuple[Embedder, str]]:
        from . import loading

        device, precision, offline, say = self._device, self._precision, self._offline, self._say

        def load() -> tuple[Embedder, str]:
            if self.loaded is not None and self._is_of(space):
                return self.loaded, self._loaded_as
            if space is not None:
                known = loading.embedder_of(space, device=device, precision=precision, offline=offline, say=say)
                self.loaded, self._loaded_as = known(), space.model
                return self.loaded, space.model
            spec = self._spec()
            self._loaded_as = spec.to_json()
            self.loaded = loading.load_model(spec, device=device, precision=precision, offline=offline, say=say)
            return self.loaded, self._loaded_as

        return load

    def _is_of(self, space: Space | None) -> bool:
        """Whether the model that is loaded is the one of that space; a choice names one model, so None is its own."""
        assert self.loaded is not None
        return space is None or space.identity.fingerprint == self.loaded.identity.fingerprint

    def _spec(self) -> ModelSpec:
        from imgsearch.core.models import registry

        from .output.progress import Download

        if self._model in (None, "auto"):
            with Download() as progress:
                return registry.resolve_auto(self._say, offline=self._offline, progress=progress)
        assert self._model is not None
        return registry.parse(self._model, self._weights, self._preprocess_from)


class Received:
    """The signal that ended the run, if one did."""

    number: int | None = None
    is_working = False


@contextmanager
def orderly_stop(stop: threading.Event, received: Received) -> Iterator[None]:
    """The first ^C, SIGTERM or SIGHUP ends the run after its batch; a second one, or one before the work, at once."""

    def on_signal(number: int, frame: FrameType | None) -> None:
        if received.number is not None or not received.is_working:
            received.number = number
            raise KeyboardInterrupt
        received.number = number
        stop.set()

    heard = [signal.SIGINT, signal.SIGTERM]
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # else nohup has seen to it that nothing is hung up
        heard.append(signal.SIGHUP)
    previous = {number: signal.signal(number, on_signal) for number in heard}
    try:
        yield
    except KeyboardInterrupt:
        raise SystemExit(128 + (received.number or signal.SIGINT)) from None
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
