"""requirements/: a light installation needs what pyproject.toml says, without torch and what only goes with it."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

TOP = Path(__file__).parents[1]
PROJECT = tomllib.loads((TOP / "pyproject.toml").read_text())["project"]
ONLY_WITH_TORCH = {"torch", "torchvision", "open_clip_torch", "timm", "safetensors", "onnx"}


def required(lines: list[str]) -> dict[str, str]:
    """Name -> range."""
    return {line[: match.start()]: line[match.start() :] for line in lines if (match := re.search(r"[<>=]", line))}


def listed(name: str) -> dict[str, str]:
    lines = (TOP / "requirements" / name).read_text().splitlines()
    return required([line for line in lines if not line.startswith("#")])


def test_a_light_installation_has_the_ranges_of_the_project() -> None:
    whole = required(PROJECT["dependencies"])
    assert whole.keys() > ONLY_WITH_TORCH
    light = {name: range_ for name, range_ in whole.items() if name not in ONLY_WITH_TORCH}
    assert listed("light.txt") == light | required(PROJECT["optional-dependencies"]["serve"])


def test_its_tests_have_the_ranges_of_the_project() -> None:
    tests = listed("light-tests.txt")
    assert tests and tests.items() <= required(PROJECT["optional-dependencies"]["dev"]).items()
