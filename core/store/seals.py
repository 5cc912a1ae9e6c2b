"""A checksum that proves that this user's imgsearch wrote a file.

hnswlib trusts what it reads, so a graph of another person's index, or a damaged one, must not reach it. Nothing simpler
is as safe while graphs stay in the index folder. Who owns the folder proves nothing: an unpacked archive belongs to the
person who unpacked it. A plain checksum can be made by anyone. A list of our graphs in the user's own folder needs the
same private file as the key does, grows, needs locking, and would make every graph that exists unusable.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import os
from typing import TYPE_CHECKING

from imgsearch.core.errors import IndexDamaged
from imgsearch.core.places import data_folder

from .files import open_regular

if TYPE_CHECKING:
    from hashlib import _Hash

KEY_BYTES = 32


def seal(path: str, facts: bytes) -> str | None:
    """HMAC-SHA256, in hex, of what is said about a file and of its bytes; None if the user's key cannot be used."""
    key = _key()
    return None if key is None else _digest(path, hmac.new(key, facts, "sha256"))


def matches(path: str, facts: bytes, expected: object) -> bool:
    actual = seal(path, facts)
    return actual is not None and isinstance(expected, str) and hmac.compare_digest(actual.encode(), expected.encode())


def sha256(path: str) -> str:
    return _digest(path, hashlib.sha256())


def key_id() -> str | None:
    """Tells this user's key from another user's without revealing it; None if it cannot be used."""
    key = _key()
    return None if key is None else hashlib.sha256(b"imgsearch seal" + key).hexdigest()[:16]


def _digest(path: str, digest: _Hash | hmac.HMAC) -> str:
    with open_regular(path) as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def is_usable() -> bool:
    """Whether there is a key, or one can be made."""
    return _key() is not None or not os.path.lexists(_key_path())


def ensure_key() -> bool:
    """Make the user's key if there is none yet: only what writes to an index does. Returns whether there is one."""
    with contextlib.suppress(OSError):
        os.makedirs(data_folder(), mode=0o700, exist_ok=True)
        if not os.path.lexists(_key_path()):
            _make_key(_key_path())
    return _key() is not None


def _key_path() -> str:
    return os.path.join(data_folder(), "seal.key")


def _key() -> bytes | None:
    """32 random bytes in the user's data folder. Only the user may be able to read them."""
    try:
        with open_regular(_key_path()) as file:
            info = os.fstat(file.fileno())
            is_private = info.st_uid == os.getuid() and not info.st_mode & 0o077
            key = file.read(KEY_BYTES)
    except (OSError, IndexDamaged):
        return None
    return key if is_private and len(key) == KEY_BYTES else None


def _make_key(path: str) -> None:
    """If two processes do this at once, the first wins and the other one uses its key."""
    temporary = f"{path}.{os.getpid()}"
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with open(descriptor, "wb") as file:
            file.write(os.urandom(KEY_BYTES))
            file.flush()
            os.fsync(descriptor)
        with contextlib.suppress(FileExistsError):
            os.link(temporary, path)
    finally:
        os.unlink(temporary)
