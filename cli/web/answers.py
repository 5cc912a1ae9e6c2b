"""JSON responses of the API: the objects of `--json`, and errors of the same shape."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any

from starlette.responses import Response

from imgsearch.cli.output.hits import hit_record
from imgsearch.core.paths import printable

if TYPE_CHECKING:
    from imgsearch.core.search.grouping import Hit
    from imgsearch.core.store.place_names import NamedPlace
    from imgsearch.core.store.records import Place

_QUERY_KEYS = ("query", "query_b64", "rank", "score", "method", "cosine", "z", "percentile", "model")


def answer(value: Any, status: int = 200) -> Response:
    """ASCII, because names may contain lone surrogates; without NaN, which browsers cannot parse."""
    try:
        data = json.dumps(value, allow_nan=False)
    except ValueError:
        data = json.dumps(_finite(value))
    return Response(data, status, media_type="application/json")


def refusal(status: int, message: str, *, hint: str | None = None, exit_code: int = 2) -> Response:
    return answer({"error": printable(message), "hint": hint, "exit_code": exit_code}, status)


def found(hit: Hit) -> dict[str, Any]:
    """A hit with its `id` and the URL of its thumbnail."""
    record = {**hit_record(hit, metadata=True), **_addresses(hit.place)}
    if hit.members:
        members = zip(record["members"], hit.members, strict=True)
        record["members"] = [{**member, **_addresses(of.place)} for member, of in members]
    return record


def shown(place: Place) -> dict[str, Any]:
    """A photo without a query: the keys of a hit, except those about the query."""
    from imgsearch.core.search.grouping import Hit

    hit = Hit(query="", rank=1, score=0.0, method="", modality="image", place=place, model="", cosine=0.0)
    record = found(hit)
    return {key: value for key, value in record.items() if key not in _QUERY_KEYS}


def place_record(place: NamedPlace) -> dict[str, Any]:
    """A place of photos, and the value of the filter `place` that finds them."""
    return {
        "place": place.name.place,
        "place_region": place.name.place_region,
        "country": place.name.country,
        "country_code": place.name.country_code,
        "filter": place.filter,
        "photos": place.photos,
        "latitude": round(place.latitude, 5),
        "longitude": round(place.longitude, 5),
    }


def _addresses(place: Place) -> dict[str, Any]:
    version = place.content_hash.hex()[:16]
    moment = "" if place.at is None else f"&at={place.at:.3f}"
    return {"id": place.id, "thumbnail": f"/api/photos/{place.id}/thumbnail?v={version}{moment}"}


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _finite(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(each) for each in value]
    return value
