"""The composers that there are, and the one for a query."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, cast

from imgsearch.core.errors import ModelError, UsageError
from imgsearch.core.light_dataclass import dataclass
from imgsearch.core.paths import printable
from imgsearch.core.search.choices import (
    DEFAULT_METHOD,
    LEARNED,
    LEARNED_DEFAULT,
    PUBLISHED,
    RAW_SUM,
    LearnedName,
    MethodName,
)
from imgsearch.core.search.composition import METHODS, Method, file_named, method_named

if TYPE_CHECKING:
    from imgsearch.core.search.composition import Composer
    from imgsearch.core.types import SpaceIdentity

    from .composer_file import ComposerFile, LearnedComposer

SHIPPED = os.path.dirname(__file__)
"""The folder of the weights in this package: NAME.safetensors."""
SHIPPED_FOR: frozenset[MethodName] = frozenset({"restyle"})
"""The methods that have some."""

# mAP on PACS with the built-in model, at the default weight (docs/composition.md; bench/quality.py composed).
PACS_MAP: dict[MethodName, float] = {
    "restyle": 0.273,
    "scaled": 0.173,
    "and": 0.183,
    "lerp": 0.166,
    "slerp": 0.172,
    "add": 0.157,
    "product": 0.183,
    "weicom": 0.161,
    "basic": 0.171,
    "basic-style": 0.183,
    "pdv": 0.170,
}


def composer_for(asked: str | None, identity: SpaceIdentity) -> Composer | None:
    """The composer for --compose (`Composers` of the search package). Raises UsageError, ModelError."""
    if asked is None:
        return _default(identity)
    method = method_named(asked)
    if method.name == RAW_SUM:
        return _raw_sum()
    if not method.is_learned:
        return None
    path = file_named(asked)
    if not path and method.name not in SHIPPED_FOR:
        raise UsageError(f"--compose {method.name} needs a file of weights", hint=_how_to_get(method.name))
    composer, file = _loaded(os.path.abspath(os.path.expanduser(path)) if path else _shipped(method.name))
    if reason := _unfit(file, method.name, identity):
        raise UsageError(f"--compose {printable(asked)}: {reason}", hint="imgsearch composers lists those that fit")
    return composer


@dataclass(frozen=True, slots=True)
class Listed:
    """A method, as it can be used with a model."""

    method: Method
    is_default: bool
    default_weight: float
    file: ComposerFile | None
    """The shipped weights of a learned method. Without them, the user gives a file."""
    reason: str
    """Why it does not fit; empty if it does."""
    pacs_map: float | None
    """With the built-in model."""


def listed(identity: SpaceIdentity) -> Iterator[Listed]:
    """All methods, those that fit the model first."""
    found = []
    is_builtin = False
    default = RAW_SUM if identity.composer == RAW_SUM else DEFAULT_METHOD
    for method in METHODS.values():
        file, reason = None, ""
        if method.name in SHIPPED_FOR:
            try:
                file = _loaded(_shipped(method.name))[1]
                reason = _unfit(file, method.name, identity)
            except ModelError as error:
                reason = str(error)
        if method.name == LEARNED_DEFAULT and file and not reason:
            is_builtin = True
            default = LEARNED_DEFAULT if file.is_default else DEFAULT_METHOD
        found.append((method, file, reason))
    for method, file, reason in sorted(found, key=lambda each: bool(each[2])):
        weight = file.weight if file else method.default_weight
        figure = PACS_MAP.get(method.name) if is_builtin else None
        yield Listed(method, method.name == default, weight, file, reason, figure)


def _default(identity: SpaceIdentity) -> Composer | None:
    if identity.composer == RAW_SUM:
        return _raw_sum()
    path = _shipped(LEARNED_DEFAULT)
    try:
        if _model_of(path) != identity.fingerprint:  # most models have none, and need not read them
            return None
        composer, file = _loaded(path)
    except ModelError as error:
        raise ModelError(str(error), hint=f"install imgsearch again, or use --compose {DEFAULT_METHOD}") from error
    return None if _unfit(file, LEARNED_DEFAULT, identity) or not file.is_default else composer


def _raw_sum() -> Composer:
    from .raw_sum import RawSum

    return RawSum()


def _shipped(name: str) -> str:
    return os.path.join(SHIPPED, f"{name}.safetensors")


def _unfit(file: ComposerFile, name: str, identity: SpaceIdentity) -> str:
    """Why the weights are not for this method and model; empty if they are."""
    if file.method != name:
        return f"the weights are for the method {file.method}"
    if file.arch and not file.model:
        if file.arch != _arch_of(identity):
            return f"the weights are for {printable(file.arch)}, and the model is {printable(_arch_of(identity))}"
    elif file.model != identity.fingerprint:
        return f"the weights are for another model than {printable(identity.name)}"
    if file.dim != identity.dim:
        return f"the weights are for {file.dim} dimensions, and the model has {identity.dim}"
    return ""


def _arch_of(identity: SpaceIdentity) -> str:
    """As open_clip names the model. Its tag `openai` means quick GELU, whether or not the architecture says so too."""
    return f"{identity.arch.removesuffix('-quickgelu')}/{identity.weights}" if identity.weights else identity.arch


def _how_to_get(name: MethodName) -> str:
    published = ["imgsearch composers import"] if name in PUBLISHED else []
    trained = [f"imgsearch train-composer {name}"] if name in TRAINED else []
    return f"--compose {name}:FILE; {' or '.join([*published, *trained])} makes one"


@functools.lru_cache(maxsize=1)
def _model_of(path: str) -> str:
    from .composer_file import model_of

    return model_of(path)


def _loaded(path: str) -> tuple[Composer, ComposerFile]:
    """Raises ModelError."""
    try:
        found = os.stat(path)
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise ModelError(f"{printable(path)}: {reason}", hint="give a file of weights") from error
    return _read(path, found.st_ino, found.st_size, found.st_mtime_ns)


@functools.lru_cache(maxsize=4)
def _read(path: str, *_state_of_the_file: int) -> tuple[Composer, ComposerFile]:
    from .composer_file import read

    file = read(path, LEARNED, lambda name: _class_of(name).shapes)
    return _class_of(file.method)(file), file


def _class_of(method: str) -> type[LearnedComposer]:
    return _CLASSES[cast("LearnedName", method)]()


def _restyle() -> type[LearnedComposer]:
    from .restyle import Restyle

    return Restyle


def _pic2word() -> type[LearnedComposer]:
    from .pseudo_word import Pic2Word

    return Pic2Word


def _searle() -> type[LearnedComposer]:
    from .pseudo_word import Searle

    return Searle


def _lincir() -> type[LearnedComposer]:
    from .pseudo_word import Lincir

    return Lincir


def _gated() -> type[LearnedComposer]:
    from .gated import Gated

    return Gated


TRAINED: tuple[LearnedName, ...] = ("restyle", "gated", "lincir")
"""Those that `imgsearch train-composer` makes weights for."""
_CLASSES: dict[LearnedName, Callable[[], type[LearnedComposer]]] = {
    "restyle": _restyle,
    "gated": _gated,
    "pic2word": _pic2word,
    "searle": _searle,
    "lincir": _lincir,
}
"""Those of the methods. A module is imported when its method is used."""
