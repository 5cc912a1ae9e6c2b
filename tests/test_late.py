"""Modules that are imported on first use."""

from __future__ import annotations

import importlib
import sys
from types import ModuleType

import pytest

from imgsearch.core.late import LateModule


def test_late_module_is_looked_up_once(monkeypatch: pytest.MonkeyPatch) -> None:
    late, asked, really = LateModule("colorsys"), [], importlib.import_module
    monkeypatch.setattr(importlib, "import_module", lambda name: asked.append(name) or really(name))
    monkeypatch.delitem(sys.modules, "colorsys", raising=False)
    assert "colorsys" not in sys.modules
    assert late.rgb_to_hls(1, 1, 1) == late.rgb_to_hls(1, 1, 1)
    assert asked == ["colorsys"]


def test_late_module_follows_a_module_that_was_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    late = LateModule("colorsys")
    assert late.rgb_to_hls(0, 0, 0) == (0, 0, 0)
    other = ModuleType("colorsys")
    other.answer = 42  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "colorsys", other)
    assert late.answer == 42
