"""Reads a safetensors file with numpy. The library for it is not part of a light installation, and loads more slowly.

Format: https://huggingface.co/docs/safetensors/index#format
"""

from __future__ import annotations

import json
import mmap
import os
import struct
from typing import TYPE_CHECKING, Any

from imgsearch.core.late import LateModule

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
else:
    np = LateModule("numpy")

# The format itself allows 100 MB, for models with more tensors than any that is read here.
MAX_HEADER = 10_000_000
# What half precision has instead of infinity and NaN comes out as this or more.
INFINITE = 2.0**16
_DTYPES = {"F16": "<f2", "F32": "<f4", "I8": "i1"}
# How files that torch.save wrote begin: zip, or a pickle of protocol 2 to 5.
_PICKLES = (b"PK\x03\x04", *(bytes((0x80, protocol)) for protocol in range(2, 6)))


class WeightsError(ValueError):
    """Not a safetensors file, damaged, or without a tensor that is needed."""


class WeightsFile:
    """The tensors of a safetensors file, mapped into memory. Raises WeightsError, also for what OSError means."""

    def __init__(self, path: str) -> None:
        self.path = path
        try:
            with open(path, "rb") as file:
                size = os.fstat(file.fileno()).st_size
                head = file.read(8)
                length = struct.unpack("<Q", head)[0] if len(head) == 8 else 0
                # A length may begin with the same bytes; the header that follows it is an object.
                if head.startswith(_PICKLES) and file.read(1) != b"{":
                    raise WeightsError(f"{path} is a pickle, which could run code; only safetensors files are read")
                if not 2 <= length <= size - 8:
                    raise WeightsError(f"{path} is not a safetensors file, or is truncated")
                if length > MAX_HEADER:
                    raise WeightsError(f"{path} has a header of {length:,} bytes; at most {MAX_HEADER:,} are read")
                file.seek(8)
                record = json.loads(file.read(length))
                self._data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        except OSError as error:
            raise WeightsError(f"cannot read {path}: {(error.strerror or str(error)).lower()}") from error
        except WeightsError:
            raise
        except (ValueError, RecursionError) as error:
            raise WeightsError(f"{path} has a damaged header") from error
        self._first = 8 + length
        self._tensors = record if isinstance(record, dict) else {}
        metadata = self._tensors.pop("__metadata__", None)
        self.metadata: dict[str, str] = metadata if isinstance(metadata, dict) else {}

    @property
    def names(self) -> list[str]:
        return list(self._tensors)

    def tensor(self, name: str) -> NDArray[Any]:
        """A view of one tensor, as it is stored: float16, float32 or int8."""
        if name not in self._tensors:
            raise WeightsError(f"{self.path} has no tensor {name}")
        try:
            entry = self._tensors[name]
            dtype, shape, (start, end) = np.dtype(_DTYPES[entry["dtype"]]), entry["shape"], entry["data_offsets"]
            count = 1
            for length in shape:
                count *= length if length >= 0 else -1
            if not 0 <= start <= end or end - start != count * dtype.itemsize:
                raise ValueError
            return np.frombuffer(self._data, dtype, count, self._first + start).reshape(shape)
        except (ValueError, KeyError, TypeError, OverflowError) as error:
            raise WeightsError(f"tensor {name} of {self.path} is damaged or of a kind that is not supported") from error

    def floats(self, name: str) -> NDArray[np.float32]:
        """One tensor in float32: a view if it is stored so."""
        tensor = self.tensor(name)
        return self._widened(tensor, name) if tensor.dtype == np.float16 else np.asarray(tensor, np.float32)

    def _widened(self, tensor: NDArray[Any], name: str) -> NDArray[np.float32]:
        """Half precision to float32 in a sixth of numpy's time: the same bits in their new place, and the exponent
        corrected by a product, which is exact."""
        bits = np.ascontiguousarray(tensor).view(np.int16).astype(np.int32)
        bits <<= 13
        bits &= np.int32(~0x70000000)  # copies of the sign
        floats = bits.view(np.float32)
        floats *= np.float32(2.0**112)
        if floats.size and not -INFINITE < floats.min() <= floats.max() < INFINITE:
            raise WeightsError(f"tensor {name} of {self.path} has values that are not finite")
        return floats
