"""The words that options of a query choose from. Imports only `typing`: the command line offers them on every start."""

from __future__ import annotations

from typing import Literal, get_args

SearchIn = Literal["image", "text", "any"]
SortBy = Literal["score", "date", "path", "size"]
GroupBy = Literal["duplicates", "burst", "day", "place"]
Orientation = Literal["landscape", "portrait", "square"]
Has = Literal["gps", "caption", "date", "damage"]
MethodName = Literal["and", "lerp", "slerp", "add", "product", "weicom", "basic", "basic-style", "pdv"]

METHODS: tuple[MethodName, ...] = get_args(MethodName)
# Best of the composed methods on the set at hand, with a paired interval above `and`: docs/composition.md.
DEFAULT_METHOD: MethodName = "lerp"
# The one that starts from a text: `--from` selects it, and it needs `--from`.
CHANGE_METHOD: MethodName = "pdv"
