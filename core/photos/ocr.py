"""Text in pictures, offline: the extra [ocr].

RapidOCR runs with the models that its package contains, PP-OCRv6 on ONNX Runtime. They are named by their paths: a
model that it has to look for and does not find, RapidOCR downloads. Only `decode_worker` reads with it.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
from typing import TYPE_CHECKING, Any

from imgsearch.core.late import LateModule
from imgsearch.core.types import Region, TextLine

if TYPE_CHECKING:
    import numpy as np
    from PIL import Image
else:
    np = LateModule("numpy")

INSTALL = "pip install 'imgsearch-cli[ocr]'"
PACKAGE = "rapidocr"
MAX_SIDE = 2_000
"""Pixels of the longest side that is read: a page of A4 at 170 dpi. Twice as many take four times as long."""
MIN_SCORE = 0.5
"""Of a line; RapidOCR's own default. Most of those below are no text."""
MAX_LINES = 1_000
MAX_LINE_CHARACTERS = 1_000

_MODELS = {
    "Det": "PP-OCRv6_det_small.onnx",
    "Rec": "PP-OCRv6_rec_small.onnx",
    "Cls": "ch_ppocr_mobile_v2.0_cls_mobile.onnx",
}


class OcrBroken(Exception):
    """The library cannot be used."""


def version() -> str | None:
    """Identifies the library with its models; None without the extra. Costs next to nothing."""
    try:
        return f"{PACKAGE} {importlib.metadata.version(PACKAGE)}"
    except importlib.metadata.PackageNotFoundError:
        return None


class Reader:
    """Reads the text of pictures on one core."""

    def __init__(self) -> None:
        """Raises OcrBroken."""
        os.environ["ORT_DISABLE_TELEMETRY"] = "1"
        try:
            import cv2
            from rapidocr import RapidOCR

            cv2.setNumThreads(1)
            self._engine: Any = RapidOCR(params=_parameters())
        except Exception as error:
            raise OcrBroken(f"{PACKAGE} cannot be loaded: {error or type(error).__name__}") from error

    def lines(self, image: Image.Image) -> list[TextLine]:
        """The lines of an upright RGB picture, from top to bottom."""
        small = image.copy() if max(image.size) > MAX_SIDE else image
        small.thumbnail((MAX_SIDE, MAX_SIDE), reducing_gap=2.0)
        found = self._engine(np.ascontiguousarray(np.asarray(small)[:, :, ::-1]))
        if found.txts is None or found.boxes is None or found.scores is None:
            return []
        lines = [
            TextLine(str(text)[:MAX_LINE_CHARACTERS], float(score), region)
            for text, score, box in zip(found.txts, found.scores, found.boxes, strict=True)
            if (region := _region(box, *small.size)) is not None
        ]
        return lines[:MAX_LINES]


def _parameters() -> dict[str, object]:
    found = importlib.util.find_spec(PACKAGE)
    assert found is not None and found.origin is not None
    models = os.path.join(os.path.dirname(found.origin), "models")
    paths = {part: os.path.join(models, name) for part, name in _MODELS.items()}
    for path in paths.values():
        if not os.path.isfile(path):
            raise OcrBroken(f"{path}: no such file")
    return {
        "Global.log_level": "critical",
        "Global.text_score": MIN_SCORE,
        "Global.max_side_len": MAX_SIDE,
        "EngineConfig.onnxruntime.intra_op_num_threads": 1,
        "EngineConfig.onnxruntime.inter_op_num_threads": 1,
        **{f"{part}.model_path": path for part, path in paths.items()},
    }


def _region(box: np.ndarray, width: int, height: int) -> Region | None:
    """The upright rectangle around four corners in pixels, as fractions."""
    left, top = (float(value) for value in np.clip(box.min(axis=0) / (width, height), 0, 1))
    right, bottom = (float(value) for value in np.clip(box.max(axis=0) / (width, height), 0, 1))
    return Region(left, top, right - left, bottom - top) if right > left and bottom > top else None
