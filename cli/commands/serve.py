"""`imgsearch serve`: a gallery in the browser, and index and model kept warm for queries."""

from __future__ import annotations

import contextlib
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import TYPE_CHECKING, Annotated, Optional

import typer

from imgsearch.cli import options
from imgsearch.cli.output import render

if TYPE_CHECKING:
    from imgsearch.core.models.onnx_towers import QueryEmbedder
    from imgsearch.core.serving.engine import Engine
    from imgsearch.core.serving.listener import Listener
    from imgsearch.core.store.records import Space

PORT = 8765
IDLE_MINUTES = 15.0
# How many heaps the threads of the gallery share, and glibc's number for that.
HEAPS, M_ARENA_MAX = 2, -8
# So often it is looked whether it is to end, or whether somebody asked lately.
LOOK_SECONDS = 0.1


def serve(
    host: Annotated[
        str,
        typer.Option("--host", metavar="ADDRESS", help="Where to listen; beyond this machine only if you say so here."),
    ] = "127.0.0.1",
    port: Annotated[
        Optional[int],  # noqa: UP045 - typer reads this at run time
        typer.Option(
            "--port", metavar="PORT", min=0, max=65535, help=f"Default: {PORT}, or any that is free; 0 is any."
        ),
    ] = None,
    socket_only: Annotated[
        bool, typer.Option("--socket-only", help="No gallery: only make `imgsearch query` quick.")
    ] = False,
    idle: Annotated[
        Optional[float],  # noqa: UP045
        typer.Option(
            "--idle",
            metavar="MINUTES",
            min=0,
            help=f"End when nothing was asked for so long; 0 is never. Default: {IDLE_MINUTES:g} with --socket-only, "
            "else 0.",
        ),
    ] = None,
    device: options.Device = "auto",
    offline: options.Offline = False,
    quiet: options.Quiet = False,
    index: options.Index = None,
) -> int:
    """Open a gallery of your photos in the browser, and keep index and model in memory for quick queries.

    Prints a link that only you know. Nothing but this machine can reach it, unless --host says so. While it runs,
    `imgsearch query` asks it without being told. ^C ends it. See docs/serve.md.

    Examples:

      imgsearch serve

      imgsearch serve --socket-only &
    """
    from imgsearch.core.errors import UsageError
    from imgsearch.core.places import locate

    if socket_only and (host != "127.0.0.1" or port is not None):
        raise UsageError("--socket-only goes without --host and --port", hint="leave out one of them")
    minutes = (IDLE_MINUTES if socket_only else 0.0) if idle is None else idle
    folder = locate(index)
    if socket_only:
        with _stopping() as stop, _warm(folder, device=device, offline=offline) as engine:
            _warm_up(engine)
            with _listening(engine, offline=offline) as listener:
                render.say(f"queries are answered from memory now{_until(minutes)}; ^C ends it")
                return _wait(stop, lambda: listener.last_query, minutes)
    return _gallery(folder, host, port, minutes, device=device, offline=offline)


class _Stop:
    """The wish to end: set by the first ^C, SIGTERM or SIGHUP."""

    def __init__(self) -> None:
        self.number: int | None = None

    def __call__(self, number: int, frame: FrameType | None) -> None:
        # No Event: set where its own thread is about to wait for it, it would never come free.
        if self.number is not None:  # the second time, at once
            raise KeyboardInterrupt
        self.number = number

    @property
    def code(self) -> int:
        return 0 if self.number is None else 128 + self.number


@contextmanager
def _stopping() -> Iterator[_Stop]:
    stop = _Stop()
    heard = [signal.SIGINT, signal.SIGTERM]
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        heard.append(signal.SIGHUP)
    previous = {number: signal.signal(number, stop) for number in heard}
    try:
        yield stop
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


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
        from imgsearch.cli.loading import make_light

        make_light(embedder.model)


@contextmanager
def _listening(engine: Engine, *, offline: bool) -> Iterator[Listener]:
    from imgsearch.core.serving.listener import Listener

    with contextlib.closing(Listener(engine, offline=offline)) as listener:
        yield listener


def _until(minutes: float) -> str:
    return f", until nothing was asked for {minutes:g} minutes" if minutes else ""


def _wait(stop: _Stop, last_query: Callable[[], float], minutes: float) -> int:
    """Until it is to end: the exit code."""
    while stop.number is None:
        time.sleep(LOOK_SECONDS)
        if minutes and time.monotonic() - last_query() > minutes * 60:
            return 0
    return stop.code


def _share_heaps() -> None:
    """Dozens of threads answer. With a heap for each, as glibc has it, memory would creep up for hours."""
    if sys.platform == "linux":
        import ctypes

        with contextlib.suppress(OSError, AttributeError):  # other C libraries have no such thing
            ctypes.CDLL(None).mallopt(M_ARENA_MAX, HEAPS)


def _gallery(folder: str, host: str, port: int | None, minutes: float, *, device: str, offline: bool) -> int:
    from imgsearch.core.errors import UsageError

    try:
        from imgsearch.cli.web.server import Gallery, bound
    except ImportError as error:
        raise UsageError(
            f"the gallery needs {error.name or 'a library'}, which is not installed",
            hint='pip install "imgsearch-cli[serve]"; for quick queries alone: imgsearch serve --socket-only',
        ) from error
    _share_heaps()
    listening = bound(host, port, default=PORT)
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
            render.warn(f"queries are not answered by this process: {error}")
        gallery = opened.enter_context(Gallery(engine, listening, host=host))
        asked.append(lambda: gallery.last_query)
        render.emit(gallery.link)
        render.flush()
        render.say(f"open the link above in a browser{_until(minutes)}; ^C ends it")
        if not gallery.is_loopback:
            render.warn("whoever has the link, and whoever can read the network, can see the photos")
        return _wait(stop, lambda: max(each() for each in asked), minutes)
