"""Modules that are imported on first use.

Importing numpy takes as long as checking 50,000 files, and a run without changes does not need it.
"""

from __future__ import annotations

import importlib
import sys
from types import ModuleType
from typing import Any


class LateModule(ModuleType):
    """A stand-in for a module: `np = LateModule("numpy")`."""

    def __getattr__(self, name: str) -> Any:
        module = self.__dict__.get("_module")
        if module is None or sys.modules.get(self.__name__) is not module:
            module = importlib.import_module(self.__name__)  # waits if another thread is importing it
            self.__dict__["_module"] = module
        return getattr(module, name)
