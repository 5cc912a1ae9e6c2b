"""The words that options of a query choose from. Imports only `typing`: the command line offers them on every start."""

from __future__ import annotations

from typing import Literal, get_args

SearchIn = Literal["image", "text", "any"]
SortBy = Literal["score", "date", "path", "size"]
GroupBy = Literal["duplicates", "burst", "day", "place", "town"]
Orientation = Literal["landscape", "portrait", "square"]
Has = Literal["gps", "caption", "date", "damage", "video"]
MethodName = Literal[
    "restyle",
    "scaled",
    "and",
    "lerp",
    "slerp",
    "add",
    "product",
    "weicom",
    "basic",
    "basic-style",
    "pdv",
    "gated",
    "pic2word",
    "searle",
    "lincir",
    "raw-sum",
]
PseudoWordName = Literal["pic2word", "searle", "lincir"]
LearnedName = Literal["restyle", "gated", PseudoWordName]

METHODS: tuple[MethodName, ...] = get_args(MethodName)
# Those that need weights, which are for one model: `NAME:FILE` names a file of them.
LEARNED: tuple[LearnedName, ...] = get_args(LearnedName)
# Those whose weights were published, for OpenAI's models.
PUBLISHED: tuple[PseudoWordName, ...] = get_args(PseudoWordName)
# The default where the package has weights for the model: it beats `lerp` at its best weight
# (docs/composition-figures.md).
LEARNED_DEFAULT: LearnedName = "restyle"
# The default for any other model, and for changes that `restyle` is not for. Finds more than the words alone with a
# paired interval, with one weight for different models: docs/composition-figures.md.
DEFAULT_METHOD: MethodName = "scaled"
# The one for vectors of any length, which is the default of models that were trained for it.
RAW_SUM: MethodName = "raw-sum"
# The one that starts from a text: `--from` selects it, and it needs `--from`.
CHANGE_METHOD: MethodName = "pdv"
