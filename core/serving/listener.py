"""Answer the queries of other processes of the same user over a Unix socket."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import logging
import os
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import replace

from imgsearch.core.errors import ImgsearchError, QueryError, UsageError
from imgsearch.core.paths import printable
from imgsearch.core.search.query_arguments import QueryArguments

from . import protocol
from .engine import Busy, Engine

# A client waits 40 ms to be accepted; if the engine is busy for longer than this, the client is told in time.
PATIENCE_SECONDS = 0.02
MAX_CLIENTS = 8
MAX_QUERY_BYTES = 1 << 20
HELLO_SECONDS = 1.0

_log = logging.getLogger(__name__)


class Listener:
    """Answers queries until it is closed."""

    def __init__(self, engine: Engine, *, offline: bool = False) -> None:
        """Starts to listen. Raises UsageError if another process listens, or the socket cannot be made."""
        self.last_query = time.monotonic()
        self._engine = engine
        self._offline = offline
        self.path = protocol.socket_path(engine.folder)
        self._clients = threading.BoundedSemaphore(MAX_CLIENTS)
        self._lock = _listening_lock(self.path)
        try:
            self._socket = _bound(self.path)
        except BaseException:
            os.close(self._lock)
            raise
        self._node = os.lstat(self.path).st_ino
        self._is_closed = False
        self._thread = threading.Thread(target=self._listen, name="listener", daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._is_closed = True
        with contextlib.suppress(OSError):
            if os.lstat(self.path).st_ino == self._node:
                os.unlink(self.path)
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        self._thread.join(1.0)
        os.close(self._lock)

    def _listen(self) -> None:
        while not self._is_closed:
            try:
                connection, _ = self._socket.accept()
            except OSError as error:
                if error.errno in (errno.EMFILE, errno.ENFILE, errno.ECONNABORTED, errno.EINTR):
                    time.sleep(0.05)
                    continue
                return
            if not self._clients.acquire(blocking=False):
                connection.close()
                continue
            threading.Thread(target=self._serve, args=(connection,), name="client", daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        try:
            # The client hung up or is not one of ours. A bug ends this thread with its traceback on stderr.
            with connection, contextlib.suppress(OSError, protocol.ProtocolError):
                self._converse(connection)
        finally:
            self._clients.release()

    def _converse(self, connection: socket.socket) -> None:
        if protocol.peer(connection) != os.getuid():
            return
        message = protocol.receive(connection, time.monotonic() + HELLO_SECONDS, most=MAX_QUERY_BYTES)
        if message.get("from") != protocol.identity(self._engine.folder):
            return
        if "asked" not in message:  # `imgsearch doctor` checks that the server runs
            protocol.send(connection, {"state": "here"})
            return
        asked, directory, statistics = protocol.unpacked_query(message)
        if asked.offline and not self._offline:
            return
        connection.settimeout(protocol.ANSWER_SECONDS)
        self.last_query = time.monotonic()
        accept = {"state": "accepted"}
        answer = self._answer(asked, directory, statistics, lambda: protocol.send(connection, accept))
        self.last_query = time.monotonic()
        protocol.send(connection, answer)

    def _answer(
        self, asked: QueryArguments, directory: str, statistics: bool, accept: Callable[[], None]
    ) -> protocol.Record:
        """The answer, or an error of the query. After any other error the client searches without the server."""
        try:
            query = asked.query(directory)
            options = asked.options(statistics=statistics)
            if options.strategy == "auto":  # the same as in a process that answers one query
                options = replace(options, strategy="scan")
            found = self._engine.search(
                query, options, explain=asked.explain, patience=PATIENCE_SECONDS, on_accept=accept
            )
            return {
                "state": "answer",
                "typed": query.typed,
                "hits": [protocol.packed(hit) for hit in found.hits],
                "explanation": found.explanation.record if found.explanation else None,
                "offline": list(found.offline),
                "progress": found.progress,
            }
        except (QueryError, UsageError) as error:
            return protocol.error_record(error)
        except Busy:
            return {"state": "failed", "reason": "it is busy"}
        except (ImgsearchError, OSError) as error:
            return {"state": "failed", "reason": str(error)}
        except Exception as error:
            _log.exception("a query failed; the client searches without this server")
            return {"state": "failed", "reason": f"{type(error).__name__}: {error}"}


def _listening_lock(path: str) -> int:
    """A file descriptor that only the process that listens there holds."""
    try:
        protocol.make_private(os.path.dirname(path))
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        descriptor = os.open(f"{path}.lock", flags, 0o600)
    except (OSError, protocol.ProtocolError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise UsageError(
            f"{printable(path)}: cannot create the socket ({reason})",
            hint="set XDG_RUNTIME_DIR to a private folder of yours",
        ) from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(descriptor)
        raise UsageError(
            "another imgsearch serve has this index open", hint="use that one, or stop it first"
        ) from error
    return descriptor


def _bound(path: str) -> socket.socket:
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)  # left by a killed server: this process has the lock
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        listening.bind(path)
        os.chmod(path, 0o600)
        listening.listen(MAX_CLIENTS)
    except OSError as error:
        listening.close()
        raise UsageError(
            f"{printable(path)}: cannot create the socket ({error.strerror or error})",
            hint="set XDG_RUNTIME_DIR to a local folder with a shorter name",
        ) from error
    return listening
