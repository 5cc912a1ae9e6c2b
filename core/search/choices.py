"""The words that options of a query choose from. Imports only `typing`: the command line offers them on every start."""

from __future__ import annotations

from typing import Literal, get_args

SearchIn = Literal["image", "text", "any"]
SortBy = Literal["score", "date", "path", "size"]
GroupBy = Literal["duplicates", "burst", "day", "place", "town"]
Orientation = Literal["landscape", "portrait", "square"]
Has = Literal["gps", "caption", "date", "damage", "video"]
MethodName = Literal["scaled", "and", "lerp", "slerp", "add", "product", "weicom", "basic", "basic-style", "pdv"]

METHODS: tuple[MethodName, ...] = get_args(MethodName)
# Finds more than the words alone with a paired interval, with one weight for different models: docs/composition.md.
DEFAULT_METHOD: MethodName = "scaled"
# The one that starts from a text: `--from` selects it, and it needs `--from`.
CHANGE_METHOD: MethodName = "pdv"
