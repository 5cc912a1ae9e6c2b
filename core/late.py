"""Modules that are imported on first use.

Importing numpy takes as long as checking 50,000 files, and a run without changes does not need it.
"""

from __future__ import annotations

import importlib
from types import ModuleType
from typing import Any


class LateModule(ModuleType):
    """A stand-in for a module: `np = LateModule("numpy")`."""

    def __getattr__(self, name: str) -> Any:
        return getattr(importlib.import_module(self.__name__), name)  # waits if another thread is importing it
