"""What `imgsearch query` and a running `imgsearch serve` send each other over a Unix socket that only the user can use.

One query per connection. A message is four bytes of length and that many bytes of JSON. The client sends its identity
and the query; the server accepts or hangs up, then answers. If there is no server, or it has another version, index or
user, or is busy, slow or fails, `ask` returns None and the client searches without it.

Imports little of the standard library and nothing else, because this is on the path of every query.
"""

from __future__ import annotations

import _socket  # socket itself takes 10 ms to import
import contextlib
import json
import os
import stat
import struct
import sys
import time
import zlib
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar, cast

from imgsearch.core.errors import ImgsearchError, QueryError, UsageError
from imgsearch.core.places import CATALOG, locate, runtime_folder

if TYPE_CHECKING:
    from collections.abc import Callable

    from imgsearch.core.search.grouping import Hit
    from imgsearch.core.search.query_arguments import QueryArguments

PROTOCOL = 4
# A free server accepts within 2 ms; after this long the client searches without it.
ACCEPT_SECONDS = 0.04
# A picture outside the index is decoded first, which may take this long.
ANSWER_SECONDS = 65.0
MAX_BYTES = 1 << 28
# Environment variables that change an answer, besides those that start with IMGSEARCH_.
_VARIABLES = ("HOME", "TZ", "XDG_CACHE_HOME")
_LENGTH = struct.Struct(">I")
_ERRORS = {error.__name__: error for error in (QueryError, UsageError)}

Record = dict[str, Any]
T = TypeVar("T")


class ServerAnswer(NamedTuple):
    """The answer to one query."""

    typed: str
    hits: list[Hit]
    explanation: Record | None
    """With `explain`: the record of an `Explanation`."""
    offline: list[str]
    """If there are no hits: the offline roots, which were not searched."""
    progress: str | None
    """How far a run is that fills the index at this moment."""


class ProtocolError(Exception):
    """The other end is not a server or client of this user, version and index, or broke the protocol."""


# ---- Client ----------------------------------------------------------------------------------------------------------


def ask(
    asked: QueryArguments, *, statistics: bool, on_failure: Callable[[str], None] = lambda reason: None
) -> ServerAnswer | None:
    """The answer of the server of this index. Raises the QueryError or UsageError of the query.

    None if no server can answer it; `on_failure` is called with the reason. Hits are stand-ins for `Hit`.
    """
    try:
        folder = locate(asked.index)
        message = {"asked": _absolute(asked).record(), "directory": os.getcwd(), "statistics": statistics}
        with contextlib.closing(_socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)) as connection:
            answer = _exchange(connection, folder, message)
        found = _parsed(answer)
    except (FileNotFoundError, ConnectionRefusedError):
        return None  # no server is running
    except (ProtocolError, OSError, ImgsearchError) as error:
        on_failure(str(error))
        return None
    if isinstance(found, ServerAnswer):
        return found
    if any(not os.path.isabs(under) for under in asked.under):
        return None  # the message may name a folder, and has to show it as typed
    raise found


def _exchange(connection: _socket.socket, folder: str, message: Record) -> Record:
    path, until = socket_path(folder), time.monotonic() + ACCEPT_SECONDS
    _require_private(os.path.dirname(path))
    connection.settimeout(ACCEPT_SECONDS)
    connection.connect(path)
    if peer(connection) != os.getuid():
        raise ProtocolError("the server belongs to another user")
    send(connection, {"from": identity(folder), **message})
    answer = receive(connection, until)
    if answer.get("state") == "accepted":
        answer = receive(connection, time.monotonic() + ANSWER_SECONDS)
    return answer


def _absolute(asked: QueryArguments) -> QueryArguments:
    """The same query with absolute folders. Raises ProtocolError if that is not possible."""
    if any(not os.path.isabs(os.path.expanduser(root)) for root in asked.root):
        raise ProtocolError("--root is not an absolute path")
    under = (os.path.abspath(os.path.expanduser(folder)) if folder else folder for folder in asked.under)
    return asked._replace(under=tuple(under))


def _parsed(answer: Record) -> ServerAnswer | QueryError | UsageError:
    """Raises ProtocolError if the server did not answer, or for a malformed message."""
    state = _field(answer, "state", str)
    if state == "answer":
        return ServerAnswer(
            _field(answer, "typed", str),
            [_hit(hit) for hit in _field(answer, "hits", list)],
            _field(answer, "explanation", dict) if answer.get("explanation") is not None else None,
            _field(answer, "offline", list),
            _field(answer, "progress", str) if answer.get("progress") is not None else None,
        )
    if state == "error" and answer.get("error") in _ERRORS:
        hint = _field(answer, "hint", str) if answer.get("hint") is not None else None
        return _ERRORS[answer["error"]](_field(answer, "message", str), hint=hint)
    raise ProtocolError(f"the server did not answer: {answer.get('reason') or state}")


def _hit(record: object) -> Hit:
    """A stand-in for a hit: the class itself imports numpy."""
    place = SimpleNamespace(**_field(record, "place", dict))
    place.path = f"{_field(vars(place), 'root', str).rstrip('/')}/{_field(vars(place), 'relpath', str)}"
    place.keywords = tuple(_field(vars(place), "keywords", list))
    try:
        place.content_hash = bytes.fromhex(_field(vars(place), "content_hash", str))
    except ValueError as error:
        raise ProtocolError(f"malformed message: {error}") from error
    place.region = _region(vars(place).get("region"))
    if vars(place).get("at") is not None:
        _field(vars(place), "at", float)
    if (line := cast(Record, record).get("line")) is not None:
        line = SimpleNamespace(
            text=_field(line, "text", str), source=_field(line, "source", str), region=_region(line.get("region"))
        )
    members = tuple(_hit(member) for member in _field(record, "members", list))
    fields = {**cast(Record, record), "place": place, "path": place.path, "line": line, "members": members}
    return cast("Hit", SimpleNamespace(**fields))


def _region(record: object) -> SimpleNamespace | None:
    if record is None:
        return None
    return SimpleNamespace(**{name: _field(record, name, float) for name in ("x", "y", "width", "height")})


def _field(record: object, name: str, kind: type[T]) -> T:
    value = record.get(name) if isinstance(record, dict) else None
    if not isinstance(value, kind):
        raise ProtocolError(f"malformed message: {name} is not a {kind.__name__}")
    return value


# ---- Both ends -------------------------------------------------------------------------------------------------------


def identity(folder: str) -> Record:
    """What must be equal at both ends: program, index, environment and root of the file system.

    Raises OSError if there is no index.
    """
    from imgsearch import __version__

    variables = {name: os.environ.get(name) for name in _VARIABLES}
    variables |= {name: value for name, value in os.environ.items() if name.startswith("IMGSEARCH_")}
    for only_of_client in ("IMGSEARCH_INDEX", "IMGSEARCH_CONFIG"):
        variables.pop(only_of_client, None)
    return {
        "protocol": PROTOCOL,
        "version": __version__,
        "program": [sys.prefix, *_stamp(__file__)],
        "catalog": _stamp(os.path.join(folder, CATALOG))[:2],
        "top": _stamp("/")[:2],
        "variables": variables,
    }


def _stamp(path: str) -> list[int]:
    info = os.stat(path)
    return [info.st_dev, info.st_ino, info.st_mtime_ns]


def socket_path(folder: str) -> str:
    """Where the server of an index listens: in the user's runtime folder, named after the index's real path."""
    path = os.fsencode(os.path.realpath(folder))
    # hashlib takes 3 ms to import. If two names collide, the server sees another index and hangs up.
    return os.path.join(runtime_folder(), f"{zlib.crc32(path):08x}{zlib.crc32(path[::-1]):08x}.sock")


def _require_private(folder: str) -> None:
    """Raises ProtocolError unless only the user can enter the folder, and it is not a link."""
    info = os.lstat(folder)
    if not stat.S_ISDIR(info.st_mode) or info.st_uid != os.getuid() or stat.S_IMODE(info.st_mode) & 0o077:
        raise ProtocolError(f"{folder} is not private")


def make_private(folder: str) -> None:
    """Make the folder for the user only, if it does not exist. Raises ProtocolError if others could enter it."""
    parent = os.path.dirname(folder)
    os.makedirs(parent, mode=0o700, exist_ok=True)
    info = os.stat(parent)
    is_shared = bool(info.st_mode & 0o022) and not info.st_mode & stat.S_ISVTX
    if info.st_uid not in (os.getuid(), 0) or is_shared:
        raise ProtocolError(f"{parent} belongs to another user")
    with contextlib.suppress(FileExistsError):
        os.mkdir(folder, 0o700)
    _require_private(folder)


def peer(connection: _socket.socket) -> int:
    """The user id of the other end. Raises OSError if the system cannot tell."""
    if hasattr(_socket, "SO_PEERCRED"):
        found = connection.getsockopt(_socket.SOL_SOCKET, _socket.SO_PEERCRED, 12)
        return int(struct.unpack("3i", found)[1])
    if sys.platform == "darwin":
        found = connection.getsockopt(0, 1, 76)  # SOL_LOCAL, LOCAL_PEERCRED: a version, then the user
        return int(struct.unpack_from("2I", found)[1])
    raise OSError("the system does not report the user of a connection")


def send(connection: _socket.socket, message: Record) -> None:
    data = json.dumps(message).encode("ascii")  # escapes lone surrogates, which stand for bytes in file names
    connection.sendall(_LENGTH.pack(len(data)) + data)


def receive(connection: _socket.socket, until: float, *, most: int = MAX_BYTES) -> Record:
    """The next message. Raises ProtocolError at the end, after `until`, and for a malformed message; OSError."""
    (length,) = _LENGTH.unpack(_exactly(connection, _LENGTH.size, until))
    if length > most:
        raise ProtocolError(f"malformed message: {length} bytes")
    try:
        message = json.loads(_exactly(connection, length, until))
    except (ValueError, RecursionError) as error:
        raise ProtocolError(f"malformed message: {error}") from error
    if not isinstance(message, dict):
        raise ProtocolError("malformed message: not an object")
    return message


def _exactly(connection: _socket.socket, count: int, until: float) -> bytes:
    data = bytearray()
    while len(data) < count:
        left = until - time.monotonic()
        if left <= 0:
            raise ProtocolError("no answer in time")
        connection.settimeout(left)
        part = connection.recv(min(count - len(data), 1 << 20))
        if not part:
            raise ProtocolError("the other end hung up")
        data += part
    return bytes(data)


# ---- Server ----------------------------------------------------------------------------------------------------------


def unpacked_query(message: Record) -> tuple[QueryArguments, str, bool]:
    """The query of a client, its working directory, and whether it needs statistics. Raises ProtocolError."""
    from imgsearch.core.search.query_arguments import QueryArguments

    try:
        asked = QueryArguments.from_record(_field(message, "asked", dict))
    except ValueError as error:
        raise ProtocolError(f"malformed message: {error}") from error
    return asked, _field(message, "directory", str), _field(message, "statistics", bool)


def packed(hit: Hit) -> Record:
    """A hit for JSON, as `ask` unpacks it."""
    from dataclasses import asdict

    record = asdict(hit)
    for each in (record, *record["members"]):
        each["place"]["content_hash"] = each["place"]["content_hash"].hex()
    return record


def error_record(error: QueryError | UsageError) -> Record:
    return {"state": "error", "error": type(error).__name__, "message": str(error), "hint": error.hint}
