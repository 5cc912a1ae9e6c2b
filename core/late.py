"""Modules that are imported when something in them is first asked for.

Importing numpy takes as long as looking at 50,000 files, and a run that finds nothing to do needs none of it.
"""

from __future__ import annotations

import importlib
from types import ModuleType
from typing import Any


class LateModule(ModuleType):
    """Stands for a module until then, and for ever after: `np = LateModule("numpy")`."""

    def __getattr__(self, name: str) -> Any:
        return getattr(importlib.import_module(self.__name__), name)  # waits where a thread is importing it already
