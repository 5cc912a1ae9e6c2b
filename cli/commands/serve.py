"""`imgsearch serve`: a gallery in the browser, with index and model kept in memory for queries."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import TYPE_CHECKING

from imgsearch.cli.command_table import DEFAULT_PORT, IDLE_MINUTES
from imgsearch.cli.output import render
from imgsearch.cli.running import handled

if TYPE_CHECKING:
    from imgsearch.core.models.towers import QueryEmbedder
    from imgsearch.core.serving.engine import Engine
    from imgsearch.core.serving.listener import Listener
    from imgsearch.core.store.records import Space

# The number of heaps that the threads of the gallery share, and glibc's code for that setting.
HEAPS, M_ARENA_MAX = 2, -8
# How often to check whether to stop.
POLL_SECONDS = 0.1


def serve(
    *,
    host: str,
    port: int | None,
    socket_only: bool,
    idle: float | None,
    device: str,
    offline: bool,
    quiet: bool,
    index: str | None,
) -> int:
    """Open a gallery of your photos in the browser, and keep the index and model in memory for fast queries.

    Prints a link that contains a secret token. Only this machine can reach it, unless you give --host. While it runs,
    `imgsearch query` uses it automatically. Press ^C to stop. See docs/serve.md.

    Examples:

      imgsearch serve

      imgsearch serve --socket-only &
    """
    from imgsearch.core.errors import UsageError
    from imgsearch.core.places import locate

    if socket_only and (host != "127.0.0.1" or port is not None):
        raise UsageError("--socket-only cannot be combined with --host and --port", hint="leave out one of them")
    minutes = (float(IDLE_MINUTES) if socket_only else 0.0) if idle is None else idle
    folder = locate(index)
    if socket_only:
        with _stopping() as stop, _warm(folder, device=device, offline=offline) as engine:
            _warm_up(engine)
            with _listening(engine, offline=offline) as listener:
                render.say(f"queries are now answered from memory{_until(minutes)}; ^C ends it")
                return _wait(stop, lambda: listener.last_query, minutes)
    return _gallery(folder, host, port, minutes, device=device, offline=offline)


class _Stop:
    """A request to stop: set by the first ^C, SIGTERM or SIGHUP."""

    def __init__(self) -> None:
        self.number: int | None = None

    def __call__(self, number: int, frame: FrameType | None) -> None:
        # Not an Event: set from a signal while its own thread starts to wait, it would deadlock.
        if self.number is not None:  # a second signal stops at once
            raise KeyboardInterrupt
        self.number = number

    @property
    def code(self) -> int:
        return 0 if self.number is None else 128 + self.number


@contextmanager
def _stopping() -> Iterator[_Stop]:
    stop = _Stop()
    with handled(stop):
        yield stop


@contextmanager
def _warm(folder: str, *, device: str, offline: bool) -> Iterator[Engine]:
    from imgsearch.cli.loading import query_embedder
    from imgsearch.core.serving.engine import Engine

    def embedder_for(space: Space) -> QueryEmbedder:
        return query_embedder(space, device=device, offline=offline, history=False)

    with contextlib.closing(Engine(folder, embedder_for)) as engine:
        yield engine


def _warm_up(engine: Engine) -> None:
    embedder = engine.warm_up()
    if embedder.model is not None:
        from imgsearch.cli.loading import export_towers

        export_towers(embedder.model)


@contextmanager
def _listening(engine: Engine, *, offline: bool) -> Iterator[Listener]:
    from imgsearch.core.serving.listener import Listener

    with contextlib.closing(Listener(engine, offline=offline)) as listener:
        yield listener


def _until(minutes: float) -> str:
    return f", until there is no query for {minutes:g} minutes" if minutes else ""


def _wait(stop: _Stop, last_query: Callable[[], float], minutes: float) -> int:
    """Wait for a signal, or for the idle limit. Returns the exit code."""
    while stop.number is None:
        time.sleep(POLL_SECONDS)
        if minutes and time.monotonic() - last_query() > minutes * 60:
            return 0
    return stop.code


def _share_heaps() -> None:
    """Dozens of threads answer. With a heap for each, glibc's default, memory would grow for hours."""
    if sys.platform == "linux":
        import ctypes

        with contextlib.suppress(OSError, AttributeError):  # other C libraries have no mallopt
            ctypes.CDLL(None).mallopt(M_ARENA_MAX, HEAPS)


def _gallery(folder: str, host: str, port: int | None, minutes: float, *, device: str, offline: bool) -> int:
    from imgsearch.core.errors import UsageError

    try:
        from imgsearch.cli.web.server import Gallery, bound
    except ImportError as error:
        raise UsageError(
            f"the gallery needs {error.name or 'a library'}, which is not installed",
            hint='pip install "imgsearch-cli[serve]"; for fast queries alone: imgsearch serve --socket-only',
        ) from error
    _share_heaps()
    listening = bound(host, port, default=DEFAULT_PORT)
    with (
        contextlib.closing(listening),
        _stopping() as stop,
        _warm(folder, device=device, offline=offline) as engine,
        contextlib.ExitStack() as opened,
    ):
        _warm_up(engine)
        asked: list[Callable[[], float]] = []
        try:
            listener = opened.enter_context(_listening(engine, offline=offline))
            asked.append(lambda: listener.last_query)
        except UsageError as error:
            render.warn(f"this server does not answer `imgsearch query`: {error}")
        gallery = opened.enter_context(Gallery(engine, listening, host=host))
        asked.append(lambda: gallery.last_query)
        render.emit(gallery.link)
        render.flush()
        render.say(f"open the link above in a browser{_until(minutes)}; ^C ends it")
        if not gallery.is_loopback:
            render.warn("anyone who has the link or can read the network traffic can see the photos")
        return _wait(stop, lambda: max(each() for each in asked), minutes)
