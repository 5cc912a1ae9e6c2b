"""What the commands that index photos share: the chosen model, the run, and how it stops."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from types import FrameType

    from imgsearch.core.indexing.indexer import Event, IndexPlan, Summary
    from imgsearch.core.indexing.reading import Embed
    from imgsearch.core.models.registry import ModelSpec
    from imgsearch.core.store.reading_table import Scope
    from imgsearch.core.store.records import Space
    from imgsearch.core.store.store import Store
    from imgsearch.core.types import Embedder, Vectors

    from .output.progress import Progress


STOPPED = "stopped; what is indexed is kept. To continue, run the same command again"
STOPPED_READING = "stopped; what was read is kept. To continue, run: imgsearch ocr"


def absolute(paths: tuple[str, ...]) -> tuple[str, ...]:
    """The typed paths as absolute ones, spelled as on disk. Raises UsageError for an empty one."""
    from imgsearch.core.errors import UsageError
    from imgsearch.core.paths import on_disk

    if "" in paths:
        raise UsageError("empty folder name", hint="is a shell variable unset?")
    return tuple(on_disk(os.path.abspath(os.path.expanduser(path))) for path in paths)


class ModelChoice:
    """The model of --model, or of the index; loaded once, when first needed."""

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
                "--weights and --preprocess-from need --model", hint="give the open_clip architecture with --model"
            )
        self._model, self._weights, self._preprocess_from = model, weights, preprocess_from
        self.device, self.offline, self._precision, self._say = device, offline, precision, say
        self.loaded: Embedder | None = None
        self._loaded_as = ""

    def known_space(self, store: Store) -> Space | None:
        """The index's active space if no model was given, else None: the model tells, once loaded."""
        return store.active_space() if self._model is None else None

    def upgrade_builtin(self, store: Store) -> bool:
        """If the index was made with an earlier version of the built-in model, choose the present one for this run."""
        from imgsearch.core.models.registry import BUILTIN
        from imgsearch.core.models.towers import is_of_earlier_builtin

        space = store.active_space() if self._model is None else None
        if space is None or not is_of_earlier_builtin(space.identity.fingerprint):
            return False
        self._say("the built-in model has a better version: embedding all photos again, once")
        self._model = BUILTIN
        return True

    def likely_space(self, store: Store) -> Space | None:
        """The space that a run would fill, without loading the model."""
        if self._model in (None, "auto"):
            return store.active_space()
        return next((space for space in store.catalog.spaces.all() if self.may_be(space)), None)

    def may_be(self, space: Space) -> bool:
        """Whether the chosen model may be the one of that space, without loading it."""
        return self._model in (None, "auto") or space.model == self._spec().to_json()

    def embedder(self, space: Space | None) -> Callable[[], tuple[Embedder, str]]:
        from . import loading

        device, precision, offline, say = self.device, self._precision, self.offline, self._say

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
        """Whether the loaded model is the one of that space. None is the space that this model will make."""
        assert self.loaded is not None
        return space is None or space.identity.fingerprint == self.loaded.identity.fingerprint

    def _spec(self) -> ModelSpec:
        from imgsearch.core.models import hub, onnx_embedder

        from .loading import named
        from .output.progress import Download

        if self._model in (None, "auto"):
            if not onnx_embedder.has_torch():
                return onnx_embedder.resolve_auto(self._say)
            with Download() as progress:
                return hub.resolve_auto(self._say, offline=self.offline, progress=progress)
        assert self._model is not None
        return named(self._model, self._weights, self._preprocess_from)


class Received:
    """The signal that stops a run, if one came."""

    number: int | None = None
    is_working = False
    """Whether the run has photos in hand: the first signal then lets it finish the batch."""


class Interrupted(Exception):
    """A signal stopped a run; what it indexed is kept."""

    def __init__(self, signal: int) -> None:
        super().__init__(signal)
        self.signal = signal


def run_index(
    store: Store,
    choice: ModelChoice,
    plan: IndexPlan,
    space: Space | None,
    on_event: Callable[[Event], None],
    stop: threading.Event,
    received: Received,
) -> Summary:
    """Run the indexer inside `orderly_stop`."""
    from imgsearch.core.indexing import indexer

    def mark_working(event: Event) -> None:
        received.is_working |= event.kind == "planned"
        on_event(event)

    return indexer.run(store, choice.embedder(space), plan, space=space, on_event=mark_working, stop=stop)


def text_embedder(*, device: str, offline: bool, loaded: Embedder | None = None) -> Embed:
    """Embeds texts by the model of any space: `loaded` if it is that, else its ONNX tower or the whole model."""
    from .loading import query_embedder

    known: dict[str, Embedder] = {} if loaded is None else {loaded.identity.fingerprint: loaded}

    def embed(space: Space, texts: Sequence[str]) -> Vectors:
        fingerprint = space.identity.fingerprint
        if fingerprint not in known:
            known[fingerprint] = query_embedder(space, device=device, offline=offline, history=False)
        return known[fingerprint].embed_texts(texts)

    return embed


def run_reading(
    folder: str,
    scopes: Callable[[Store], Sequence[Scope]],
    embed: Embed,
    progress: Progress,
    *,
    everything: bool = False,
    workers: int | None,
    as_json: bool,
    quiet: bool,
) -> int:
    """Read the text in pictures, with progress and a summary. Returns the exit code."""
    from imgsearch.core.indexing.reading import read_texts

    from .loading import waiting
    from .output import render
    from .output.progress import read_line, read_record

    stop, received = progress.stop, Received()

    def mark_working(event: Event) -> None:
        received.is_working |= event.kind == "reading"
        progress(event)

    def say(message: str) -> None:
        if not quiet:
            progress.say(message)

    with orderly_stop(stop, received):  # until the summary is printed
        try:
            summary = read_texts(
                folder,
                scopes,
                embed,
                everything=everything,
                workers=workers,
                on_event=mark_working,
                on_wait=waiting(say),
                stop=stop,
            )
        finally:
            progress.close()
        if progress.is_deserted:
            raise BrokenPipeError
        if as_json:
            render.emit_json(read_record(summary))
            render.flush()
        elif not quiet:
            render.say(read_line(summary))
    if summary.was_stopped:
        say(STOPPED_READING)
        return 128 + (received.number or signal.SIGINT)
    return 3 if summary.failed else 0


@contextmanager
def orderly_stop(stop: threading.Event, received: Received) -> Iterator[None]:
    """Stop after the current batch on the first ^C, SIGTERM or SIGHUP; at once on a second, or before the first batch.

    Raises SystemExit for a stop at once.
    """

    def on_signal(number: int, frame: FrameType | None) -> None:
        if received.number is not None or not received.is_working:
            received.number = number
            raise KeyboardInterrupt
        received.number = number
        stop.set()

    try:
        with handled(on_signal):
            yield
    except KeyboardInterrupt:
        raise SystemExit(128 + (received.number or signal.SIGINT)) from None


@contextmanager
def handled(handler: Callable[[int, FrameType | None], None]) -> Iterator[None]:
    """Call the handler on ^C and SIGTERM, and on SIGHUP unless that is ignored, as under nohup."""
    numbers = [signal.SIGINT, signal.SIGTERM]
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        numbers.append(signal.SIGHUP)
    previous = {number: signal.signal(number, handler) for number in numbers}
    try:
        yield
    finally:
        for number, before in previous.items():
            signal.signal(number, before)
