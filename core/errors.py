"""Errors, each with its exit code and a hint.

    ImgsearchError                2   an error the user can act on
    ├── UsageError                2   wrong usage
    ├── QueryError                2   a query that cannot be answered as typed
    ├── ConfigError               2   a config file that cannot be used
    ├── ModelError                2   a model that cannot be found, fetched or loaded
    ├── StoreError                4   the index is missing, damaged or not ours
    │   ├── IndexNotFound
    │   ├── IndexTooNew
    │   ├── IndexTooOld
    │   ├── IndexDamaged
    │   └── IndexUnusable
    └── IndexLocked               5   the index is in use by another process

A bad photo is not an error: it is a `Skipped` (see types).
"""

from __future__ import annotations


class ImgsearchError(Exception):
    """Something the user can act on. `str(error)` is one lower-case line; `hint` says what to do next.

    Without a hint, the command line gives the one for the error's class.
    """

    exit_code = 2

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.hint = hint


class UsageError(ImgsearchError):
    """Options or arguments that do not fit together."""


class QueryError(ImgsearchError):
    """A query that cannot be answered as it was typed."""


class ConfigError(ImgsearchError):
    """The config file cannot be read, or holds an unknown setting."""


class ModelError(ImgsearchError):
    """A model that cannot be found, fetched or loaded."""


class StoreError(ImgsearchError):
    """The index is missing, damaged or not ours."""

    exit_code = 4


class IndexNotFound(StoreError):
    """There is no index at this path."""


class IndexTooNew(StoreError):
    """The index was written by a newer version of this program."""


class IndexTooOld(StoreError):
    """The index was written by an older version, and a writer must upgrade it."""


class IndexDamaged(StoreError):
    """The index cannot be read."""


class IndexUnusable(StoreError):
    """The folder of the index, or a file in it, cannot be made, read, written or locked."""


class IndexLocked(ImgsearchError):
    """Another process is writing to the index."""

    exit_code = 5
