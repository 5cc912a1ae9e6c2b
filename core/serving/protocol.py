"""Warm answers: what a query and a running `imgsearch serve` say to each other, over a socket of the user alone.

One question a connection. Each message is four bytes of length and as many bytes of JSON. The asker begins with who it
is and what it asks; the server accepts, or hangs up; then it answers. Whatever is odd - nobody there, another version,
another index, another user, a server that is busy or slow - is None to the asker, who then finds the answer alone.

Only the standard library is imported here, and little of it: the asker has no time for more.
"""

from __future__ import annotations

import _socket  # what socket is made of; socket itself takes 10 ms to name its numbers
import contextlib
import json
import os
import stat
import struct
import sys
import time
import zlib
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from imgsearch.core.errors import ImgsearchError, QueryError, UsageError
from imgsearch.core.places import CATALOG, locate, runtime_folder

if TYPE_CHECKING:
    from imgsearch.core.search.grouping import Hit
    from imgsearch.core.search.query_arguments import QueryArguments

PROTOCOL = 3
# A server that is alive and free accepts within a millisecond or two; after this long the asker goes its own way.
ACCEPT_SECONDS = 0.04
# A picture that is no photo of the index is decoded first, which may take this long.
ANSWER_SECONDS = 65.0
MOST_BYTES = 1 << 28
# What changes how a question is read or answered, besides all variables whose names begin with IMGSEARCH_.
_TELLING = ("HOME", "TZ", "XDG_CACHE_HOME")
_LENGTH = struct.Struct(">I")
_RAISED = {error.__name__: error for error in (QueryError, UsageError)}

Record = dict[str, Any]


class Answer(NamedTuple):
    """What is printed for one query."""

    typed: str
    hits: list[Hit]
    explanation: Record | None
    """With `explain`: the record of an `Explanation`."""
    offline: list[str]
    """Where nothing was found: the roots that are offline and hidden."""


class Odd(Exception):
    """The other end is not there, or not what it should be."""


# ---- Asking ----------------------------------------------------------------------------------------------------------


def ask(asked: QueryArguments, *, statistics: bool) -> Answer | None:
    """The answer of the server that has this index open, or None. Raises what the query would raise.

    Hits are stand-ins with all their fields.
    """
    try:
        folder = locate(asked.index)
        with contextlib.closing(_socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)) as connection:
            message = {"asked": _from_anywhere(asked).record(), "directory": os.getcwd(), "statistics": statistics}
            answer = _answer(connection, folder, message)
        if answer["state"] == "answer":
            hits = [_hit(each) for each in answer["hits"]]
            return Answer(answer["typed"], hits, answer["explanation"], answer["offline"])
        error = _RAISED[answer["error"]](answer["message"], hint=answer["hint"])
    except (Odd, OSError, ImgsearchError, ValueError, KeyError, TypeError, AttributeError, RecursionError, MemoryError):
        return None
    if any(not os.path.isabs(under) for under in asked.under):
        return None  # the complaint may name a folder, and not as it was typed
    raise error


def _answer(connection: _socket.socket, folder: str, asked: Record) -> Record:
    path, until = socket_path(folder), time.monotonic() + ACCEPT_SECONDS
    _require_private(os.path.dirname(path))
    connection.settimeout(ACCEPT_SECONDS)
    connection.connect(path)
    if peer(connection) != os.getuid():
        raise Odd("another user's server")
    send(connection, {"from": identity(folder), **asked})
    answer = receive(connection, until)
    if answer["state"] == "accepted":
        answer = receive(connection, time.monotonic() + ANSWER_SECONDS)
    return answer


def _from_anywhere(asked: QueryArguments) -> QueryArguments:
    """The same question, for a process in another folder. Raises Odd where there is none."""
    if any(not os.path.isabs(os.path.expanduser(root)) for root in asked.root):
        raise Odd("a root by the last part of its name")
    under = (os.path.abspath(os.path.expanduser(folder)) if folder else folder for folder in asked.under)
    return asked._replace(under=tuple(under))


def _hit(record: Record) -> Hit:
    """A stand-in for a hit: the class itself needs numpy."""
    place = SimpleNamespace(**record["place"])
    place.path = f"{place.root.rstrip('/')}/{place.relpath}"
    place.content_hash = bytes.fromhex(place.content_hash)
    place.keywords = tuple(place.keywords)
    members = tuple(_hit(member) for member in record["members"])
    return cast("Hit", SimpleNamespace(**{**record, "place": place, "path": place.path, "members": members}))


# ---- What both ends know ---------------------------------------------------------------------------------------------


def identity(folder: str) -> Record:
    """What has to be the same at both ends: the program, the index, the user's surroundings, and what paths mean.

    Raises OSError where there is no index.
    """
    from imgsearch import __version__

    variables = {name: os.environ.get(name) for name in _TELLING}
    variables |= {name: value for name, value in os.environ.items() if name.startswith("IMGSEARCH_")}
    for at_the_asker in ("IMGSEARCH_INDEX", "IMGSEARCH_CONFIG"):
        variables.pop(at_the_asker, None)
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
    """Where the server of an index listens: named after the index's real path, in the user's runtime folder."""
    path = os.fsencode(os.path.realpath(folder))
    # hashlib takes 3 ms to load; should two names ever be one, the server knows its own index and hangs up.
    return os.path.join(runtime_folder(), f"{zlib.crc32(path):08x}{zlib.crc32(path[::-1]):08x}.sock")


def _require_private(folder: str) -> None:
    """Raises Odd unless the folder is the user's own and nobody else's, and not a link."""
    info = os.lstat(folder)
    if not stat.S_ISDIR(info.st_mode) or info.st_uid != os.getuid() or stat.S_IMODE(info.st_mode) & 0o077:
        raise Odd(f"{folder} is not private")


def make_private(folder: str) -> None:
    """Make the folder, for the user alone, or find it so. Raises Odd where somebody else could reach into it."""
    parent = os.path.dirname(folder)
    os.makedirs(parent, mode=0o700, exist_ok=True)
    info = os.stat(parent)
    is_shared = bool(info.st_mode & 0o022) and not info.st_mode & stat.S_ISVTX
    if info.st_uid not in (os.getuid(), 0) or is_shared:
        raise Odd(f"{parent} is another user's")
    with contextlib.suppress(FileExistsError):
        os.mkdir(folder, 0o700)
    _require_private(folder)


def peer(connection: _socket.socket) -> int:
    """The number of the user at the other end. Raises OSError where the system does not tell."""
    if hasattr(_socket, "SO_PEERCRED"):
        found = connection.getsockopt(_socket.SOL_SOCKET, _socket.SO_PEERCRED, 12)
        return int(struct.unpack("3i", found)[1])
    if sys.platform == "darwin":
        found = connection.getsockopt(0, 1, 76)  # SOL_LOCAL, LOCAL_PEERCRED: a version, then the user
        return int(struct.unpack_from("2I", found)[1])
    raise OSError("no way to tell who is there")


def send(connection: _socket.socket, message: Record) -> None:
    data = json.dumps(message).encode("ascii")  # half characters, which stand for odd bytes in names, are escaped
    connection.sendall(_LENGTH.pack(len(data)) + data)


def receive(connection: _socket.socket, until: float, *, most: int = MOST_BYTES) -> Record:
    """The next message. Raises Odd at the end, when it is late, and for what is no message."""
    (length,) = _LENGTH.unpack(_exactly(connection, _LENGTH.size, until))
    if length > most:
        raise Odd(f"a message of {length} bytes")
    message = json.loads(_exactly(connection, length, until))
    if not isinstance(message, dict):
        raise Odd("no message")
    return message


def _exactly(connection: _socket.socket, count: int, until: float) -> bytes:
    data = bytearray()
    while len(data) < count:
        left = until - time.monotonic()
        if left <= 0:
            raise Odd("late")
        connection.settimeout(left)
        part = connection.recv(min(count - len(data), 1 << 20))
        if not part:
            raise Odd("gone")
        data += part
    return bytes(data)


# ---- Answering -------------------------------------------------------------------------------------------------------


def packed(hit: Hit) -> Record:
    """A hit as `ask` unpacks it."""
    from dataclasses import asdict

    record = asdict(hit)
    for each in (record, *record["members"]):
        each["place"]["content_hash"] = each["place"]["content_hash"].hex()
    return record


def complaint(error: QueryError | UsageError) -> Record:
    return {"state": "error", "error": type(error).__name__, "message": str(error), "hint": error.hint}
