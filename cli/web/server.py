"""Run the gallery: a socket, a token, a thread."""

from __future__ import annotations

import contextlib
import ipaddress
import logging
import secrets
import socket
import threading
from typing import Any, cast

import uvicorn

from imgsearch.core.errors import ImgsearchError, UsageError
from imgsearch.core.paths import printable
from imgsearch.core.photos.thumbnails import Thumbnails
from imgsearch.core.serving.engine import Engine
from imgsearch.core.serving.library import Library

from .app import Pages, Uploads
from .guard import Guard

MAX_AT_ONCE = 256
START_SECONDS, STOP_SECONDS = 20.0, 5.0


def bound(host: str, port: int | None, *, default: int) -> socket.socket:
    """A socket that listens there: at `default`, or where that is taken at any port, if no port is asked for.

    Raises UsageError.
    """
    try:
        found = socket.getaddrinfo(
            host, default if port is None else port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
    except (OSError, UnicodeError) as error:
        raise UsageError(f"--host {printable(host)}: no such address", hint="leave it out for this machine") from error
    family, address = found[0][0], cast("tuple[Any, ...]", found[0][4])
    ports = [address[1], 0] if port is None else [address[1]]
    for at, number in enumerate(ports):
        listening = socket.socket(family, socket.SOCK_STREAM)
        try:
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listening.bind((address[0], number, *address[2:]))
            listening.listen(128)
            return listening
        except OSError as error:
            listening.close()
            if at == len(ports) - 1:
                reason = (error.strerror or str(error)).lower()
                raise UsageError(f"{printable(host)} port {number}: {reason}", hint="any free one: --port 0") from error
    raise AssertionError("unreachable")


class Gallery:
    """Runs while the context is open."""

    def __init__(self, engine: Engine, listening: socket.socket, *, host: str = "") -> None:
        found: tuple[Any, ...] = listening.getsockname()
        address, port = str(found[0]), int(found[1])
        self.is_loopback = ipaddress.ip_address(address.partition("%")[0]).is_loopback
        self.token = secrets.token_urlsafe(24)
        self._opened = contextlib.ExitStack()
        uploads = self._opened.enter_context(contextlib.closing(Uploads()))
        thumbnails = self._opened.enter_context(contextlib.closing(Thumbnails()))
        library = self._opened.enter_context(contextlib.closing(Library(engine.folder)))
        self._pages = Pages(engine, library, thumbnails, uploads)
        names = [host] if host else []
        guarded: Any = Guard(
            self._pages.app(),
            token=self.token,
            cookie=f"imgsearch-{port}",  # cookies know no ports
            names=names,
            is_loopback=self.is_loopback,
        )
        self._server = uvicorn.Server(
            uvicorn.Config(
                guarded,
                lifespan="off",
                ws="none",
                http="h11",
                loop="asyncio",
                log_config=None,
                log_level="error",
                access_log=False,
                server_header=False,
                proxy_headers=False,
                limit_concurrency=MAX_AT_ONCE,
                timeout_keep_alive=15,
                timeout_graceful_shutdown=1,
            )
        )
        self._listening = listening
        self._thread = threading.Thread(target=self._run, name="gallery", daemon=True)
        name = "127.0.0.1" if address in ("0.0.0.0", "::") else address  # noqa: S104 - compared, not bound
        shown = f"[{name}]" if ":" in name else name
        self.address = f"http://{shown}:{port}/"

    @property
    def link(self) -> str:
        """With the token: anyone who has the link can see the photos."""
        return f"{self.address}?token={self.token}"

    @property
    def last_query(self) -> float:
        return self._pages.last_query

    def __enter__(self) -> Gallery:
        self._thread.start()
        waited = threading.Event()
        for _ in range(int(START_SECONDS / 0.02)):
            if self._server.started:
                return self
            if not self._thread.is_alive():
                break
            waited.wait(0.02)
        self._opened.close()
        raise ImgsearchError(
            "the gallery did not start", hint="try once more; for fast queries alone: imgsearch serve --socket-only"
        )

    def __exit__(self, *_: object) -> None:
        logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL + 1)  # of whom it has to leave in the middle
        self._server.should_exit = True
        self._opened.close()  # workers first: an answer that waits for one ends
        self._thread.join(STOP_SECONDS)

    def _run(self) -> None:
        self._server.run(sockets=[self._listening])
