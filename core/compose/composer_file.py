"""A file with the weights of a composer: safetensors, with a header that says which model they are for.

`__metadata__` holds `format` (`imgsearch composer 1`), `method`, `model` (the fingerprint) or `arch` (`ARCH/TAG` of
open_clip, where the model was not there to compute it), `dim`, `weight` (of the words, by default), `training_data`,
`version`, `licence`, and optionally `other_weight` (for words that the method is not for) and `is_default` (`no` for
weights that were not found better than `lerp`). Nothing in the file is run.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import struct
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, BinaryIO, ClassVar, Protocol

import numpy as np  # noqa: TID253

from imgsearch.core.errors import ModelError
from imgsearch.core.light_dataclass import dataclass
from imgsearch.core.models.weights_file import WeightsError, WeightsFile
from imgsearch.core.paths import printable
from imgsearch.core.search.composition import Composer

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from imgsearch.core.types import Vectors

FORMAT = "imgsearch composer 1"
# The largest that is published, LinCIR for ViT-bigG-14, has 79 MB in half precision. A file is read as a whole.
MAX_BYTES = 80_000_000
# The most of a reason that is shown: names in a file may be of any length.
MAX_REASON = 500
# What half precision can hold. Larger values are damage, and could make scores that are not finite.
MAX_VALUE = 65_504.0
HINT = "to see which weights can be used: imgsearch composers"


@dataclass(frozen=True, slots=True)
class Shapes:
    """The tensors of a method, by name, with a name for each length. The same name is the same length."""

    of: Mapping[str, tuple[str, ...]]
    optional: frozenset[str] = frozenset()
    """Those that a file may lack."""


@dataclass(frozen=True, slots=True)
class ComposerFile:
    """What the header says, and the tensors: float32, finite, of the shapes that the method needs."""

    path: str
    method: str
    model: str
    """The fingerprint; empty if `arch` names the model."""
    arch: str
    dim: int
    weight: float
    other_weight: float | None
    training_data: str
    version: str
    licence: str
    is_default: bool
    tensors: dict[str, Vectors]


class LearnedComposer(Composer, Protocol):
    """A composer that is made from such a file."""

    shapes: ClassVar[Shapes]

    def __init__(self, file: ComposerFile) -> None:
        """Raises ModelError for tensors that do not fit together."""


def read(path: str, methods: Sequence[str], shapes_of: Callable[[str], Shapes]) -> ComposerFile:
    """The file, checked. `shapes_of`: the tensors of one of the methods. Raises ModelError."""
    with _named_errors(path):
        return _read(path, methods, shapes_of)


def model_of(path: str) -> str:
    """The fingerprint of the model that the weights are for, from the header alone. Raises ModelError."""
    with _named_errors(path):
        return _opened(path)[1].get("model", "")


@contextlib.contextmanager
def _named_errors(path: str) -> Iterator[None]:
    try:
        yield
    except (WeightsError, OSError) as error:
        reason = f"cannot read {path}: {error.strerror}" if isinstance(error, OSError) else str(error)
        raise ModelError(printable(reason[:MAX_REASON]), hint=HINT) from error


def _opened(path: str) -> tuple[WeightsFile, dict[str, str]]:
    """The file, and the texts of its header."""
    if os.path.exists(path) and not os.path.isfile(path):
        raise WeightsError(f"{path} is not a regular file")
    if os.path.exists(path) and os.path.getsize(path) > MAX_BYTES:
        raise WeightsError(f"{path} is larger than {MAX_BYTES // 10**6} MB")
    file = WeightsFile(path)
    said = {name: value for name, value in file.metadata.items() if isinstance(value, str)}
    if said.get("format") != FORMAT:
        raise WeightsError(f"{path} has no weights for --compose: its format is {said.get('format')!r}, not {FORMAT!r}")
    return file, said


def _read(path: str, methods: Sequence[str], shapes_of: Callable[[str], Shapes]) -> ComposerFile:
    file, said = _opened(path)
    method = said.get("method", "")
    if method not in methods:
        raise WeightsError(f"{path} is for the method {method!r}; the known methods are: {', '.join(methods)}")
    dim, weight = _number(file, said, "dim"), _weight(file, said, "weight")
    if not (0 < dim < MAX_BYTES and dim.is_integer()):
        raise WeightsError(f"{path} has the dimension {dim:g}")
    return ComposerFile(
        path=path,
        method=method,
        model=said.get("model", ""),
        arch=said.get("arch", ""),
        dim=int(dim),
        weight=weight,
        other_weight=_weight(file, said, "other_weight") if "other_weight" in said else None,
        training_data=said.get("training_data", ""),
        version=said.get("version", ""),
        licence=said.get("licence", ""),
        is_default=said.get("is_default") != "no",
        tensors=_tensors(file, shapes_of(method), int(dim)),
    )


def _number(file: WeightsFile, said: Mapping[str, str], name: str) -> float:
    try:
        return float(said[name])
    except (KeyError, ValueError):
        raise WeightsError(f"{file.path} has no valid {name} in its header: {said.get(name)!r}") from None


def _weight(file: WeightsFile, said: Mapping[str, str], name: str) -> float:
    weight = _number(file, said, name)
    if not 0 < weight < 1:
        raise WeightsError(f"{file.path} has the {name.replace('_', ' ')} {weight:g}, which is not between 0 and 1")
    return weight


def _tensors(file: WeightsFile, shapes: Shapes, dim: int) -> dict[str, Vectors]:
    if foreign := sorted(set(file.names) - set(shapes.of)):
        raise WeightsError(f"{file.path} has an unknown tensor: {foreign[0]}")
    lengths = {"dim": dim}
    found = {}
    for name, expected in shapes.of.items():
        if name in shapes.optional and name not in file.names:
            continue
        values = np.array(file.floats(name))  # not a view: the file may be replaced while it is in use
        fits = len(values.shape) == len(expected) and all(
            length > 0 and lengths.setdefault(each, length) == length
            for each, length in zip(expected, values.shape, strict=True)
        )
        if not fits:
            shape = " x ".join(map(str, values.shape)) or "no dimension"
            wanted = " x ".join(str(lengths.get(each, each)) for each in expected)
            raise WeightsError(f"tensor {name} of {file.path} has the shape {shape}, not {wanted}")
        if not (np.abs(values) <= MAX_VALUE).all():
            raise WeightsError(f"tensor {name} of {file.path} has values that are not finite")
        found[name] = values
    return found


def write(out: BinaryIO, metadata: Mapping[str, str], tensors: Mapping[str, NDArray[np.generic]]) -> None:
    """Write tensors of float16, float32 or int8, with `format` added. The same input gives the same bytes."""
    kinds = {np.dtype("<f2"): "F16", np.dtype("<f4"): "F32", np.dtype("i1"): "I8"}
    header: dict[str, object] = {"__metadata__": {"format": FORMAT, **metadata}}
    at = 0
    for name, values in tensors.items():
        end = at + math.prod(values.shape) * values.dtype.itemsize
        header[name] = {"dtype": kinds[values.dtype], "shape": list(values.shape), "data_offsets": [at, end]}
        at = end
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    out.write(struct.pack("<Q", len(text)) + text)
    for values in tensors.values():
        out.write(np.ascontiguousarray(values).tobytes())
