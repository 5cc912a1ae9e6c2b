"""The JSON files of a Google Takeout, as read: when and where a photo was taken, and its description."""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from .header import MAX_TAKEOUT_BYTES
from .takeout_names import fits_title, relation
from .xmp import Place, place

_EPOCH = datetime(1970, 1, 1)
_MARK = b'"photoTakenTime"'


@dataclass(frozen=True, slots=True)
class Takeout:
    """What a JSON file says about its photo."""

    name: str = ""
    """The file's name."""
    taken_at: str = ""
    """An instant in UTC: `2018-08-11T14:45:21+00:00`."""
    place: Place | None = None
    description: str = ""
    problem: str | None = None
    """What is wrong with the file."""


def parse(data: bytes, name: str, photo: str) -> Takeout:
    """`data`: the content of the file `name`, or its first MAX_TAKEOUT_BYTES and more. `photo`: the photo's file name.

    Other programs write JSON files beside photos, too. One without the keys of a Takeout says nothing, and there is no
    problem with it.
    """
    kind = relation(photo, name)
    is_expected = _MARK in data or kind != "stem"
    if len(data) > MAX_TAKEOUT_BYTES:
        return Takeout(name, problem=f"larger than {MAX_TAKEOUT_BYTES // 1024} KiB" if is_expected else None)
    try:
        found = json.loads(data)
    except (ValueError, RecursionError, MemoryError):
        return Takeout(name, problem="not valid JSON" if is_expected else None)
    if not isinstance(found, dict) or "photoTakenTime" not in found:
        return Takeout(name)
    if kind == "cut" and not fits_title(photo, name, found.get("title")):
        return Takeout(name)  # it belongs to another photo, whose name begins in the same way
    return _takeout(name, found)


def _takeout(name: str, found: dict[str, Any]) -> Takeout:
    wrong = []
    taken_at = _instant(found["photoTakenTime"])
    if taken_at is None:
        wrong.append("photoTakenTime")
    its_place = None
    for key in ("geoData", "geoDataExif"):
        try:
            its_place = its_place or _place(found.get(key))
        except (ValueError, OverflowError):
            wrong.append(key)
    description = found.get("description", "")
    if not isinstance(description, str | None):
        wrong.append("description")
        description = ""
    problem = f"no valid {', '.join(wrong)}" if wrong else None
    return Takeout(name, taken_at or "", its_place, description or "", problem)


def _instant(value: object) -> str | None:
    """`{"timestamp": "1533998721"}`: seconds since 1970, also before. "" for 0, which stands for an unknown time."""
    stamp = value.get("timestamp") if isinstance(value, dict) else None
    text = str(stamp) if isinstance(stamp, int | str) else ""
    if not re.fullmatch(r"-?[0-9]{1,12}", text, re.ASCII):
        return None
    try:
        return f"{(_EPOCH + timedelta(seconds=int(text))).isoformat()}+00:00" if int(text) else ""
    except OverflowError:
        return None


def _place(value: object) -> Place | None:
    """None for no place: 0, 0. Raises ValueError for what is not a place."""
    if value is None:
        return None
    if not isinstance(value, dict):
        raise ValueError
    latitude, longitude, altitude = (_number(value.get(key, 0)) for key in ("latitude", "longitude", "altitude"))
    found = place(latitude, longitude, altitude or None)
    if found is None and (latitude or longitude):
        raise ValueError
    return found


def _number(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError
    return float(value)
