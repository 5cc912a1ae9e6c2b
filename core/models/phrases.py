"""The word lists in this package."""

from __future__ import annotations

import functools
from collections.abc import Sequence


def neutral_phrases() -> Sequence[str]:
    """Texts about ordinary things and scenes. The mean of their vectors represents any text."""
    return word_list("phrases")


@functools.cache
def word_list(name: str) -> Sequence[str]:
    """The lines of a list: `phrases`, `subjects` or `styles`."""
    from importlib import resources

    return tuple(resources.files(__package__).joinpath(f"{name}.txt").read_text(encoding="utf-8").split("\n")[:-1])
