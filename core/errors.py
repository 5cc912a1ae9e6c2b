"""What can go wrong, each with its exit code and what to do next.

    ImgsearchError                2   an error the user can act on
    ├── UsageError                2   wrong usage
    ├── QueryError                2   a query that cannot be answered as typed
    ├── ConfigError               2   a file of settings that cannot be used
    ├── ModelError                2   a model that cannot be found, fetched or loaded
    ├── StoreError                4   the index is missing, damaged or not ours
    │   ├── IndexNotFound
    │   ├── IndexTooNew
    │   ├── IndexTooOld
    │   └── IndexDamaged
    └── IndexLocked               5   the index is in use by another process

A bad photo is no error: it is a `Skipped` (see types).
"""

from __future__ import annotations


class ImgsearchError(Exception):
    """Something the user can act on. `str(error)` is one lower-case line; `hint` says what to do next."""

    exit_code = 2

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.hint = hint


class UsageError(ImgsearchError):
    """Options or arguments that do not fit together."""


class QueryError(ImgsearchError):
    """A query that cannot be answered as it was typed."""


class ConfigError(ImgsearchError):
    """The file of settings cannot be read, or has in it what no command knows."""


class ModelError(ImgsearchError):
    """A model that cannot be found, fetched or loaded."""


class StoreError(ImgsearchError):
    """The index is missing, damaged or not ours."""

    exit_code = 4


class IndexNotFound(StoreError):
    """There is no index where one was looked for."""


class IndexTooNew(StoreError):
    """The index was written by a newer version of this program."""


class IndexTooOld(StoreError):
    """The index was written by an older version and has to be brought up to date by a writer."""


class IndexDamaged(StoreError):
    """The index cannot be read."""


class IndexLocked(ImgsearchError):
    """Another process is writing to the index."""

    exit_code = 5
