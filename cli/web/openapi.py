"""The API's own description, and the check of what is asked against it: one truth for both."""

from __future__ import annotations

import math
import re
from typing import Any

from imgsearch import __version__

Schema = dict[str, Any]

MOST_LIMIT, MOST_OFFSET = 200, 5_000
MOST_PHOTOS = 1 << 31
"""All photos that there can be may be looked through; of hits, only the best are found."""
SIDES = (160, 320, 640, 1280, 1920)
MOST_JSON_BYTES = 1 << 16
MOST_PICTURE_BYTES = 64 << 20

_TEXT: Schema = {"type": "string", "minLength": 1, "maxLength": 1_000}
_TEXTS: Schema = {"type": "array", "items": _TEXT, "maxItems": 32}
_ID: Schema = {"type": "integer", "minimum": 1, "maximum": (1 << 63) - 1}
_IDS: Schema = {"type": "array", "items": _ID, "maxItems": 64}
_LIMIT: Schema = {"type": "integer", "minimum": 1, "maximum": MOST_LIMIT, "default": 60}
_OFFSET: Schema = {"type": "integer", "minimum": 0, "maximum": MOST_OFFSET, "default": 0}
_ANY: Schema = {"type": "object", "additionalProperties": True}


def _object(properties: dict[str, Schema], required: tuple[str, ...] = ()) -> Schema:
    closed: Schema = {"type": "object", "properties": properties, "additionalProperties": False}
    return {**closed, "required": list(required)} if required else closed


FILTERS: dict[str, Schema] = {
    "after": {**_TEXT, "description": "Taken on this day or later: 2024-07-03, 2024-07, 2024, 30d, yesterday."},
    "before": {**_TEXT, "description": "Taken on this day or earlier."},
    "camera": {**_TEXTS, "description": "Taken with a camera whose name has one of these in it."},
    "lens": {**_TEXTS, "description": "Taken with a lens whose name has one of these in it."},
    "near": {**_TEXT, "description": "Taken within the radius: 48.85,2.35,5km."},
    "rating": {**_TEXT, "description": "Rated at least so: 4; or =3, 3-5."},
    "keyword": {**_TEXTS, "description": "With all of these keywords."},
    "under": {**_TEXTS, "description": "In one of these folders."},
    "glob": {**_TEXTS, "description": "Files whose name, or path if it has a slash, matches one of these."},
    "ext": {**_TEXTS, "description": "Files with one of these extensions."},
    "min_size": {**_TEXT, "description": "At least so large: 1600x1200, 12MP, or a file of 500kB."},
    "orientation": {
        "type": "array",
        "items": {"type": "string", "enum": ["landscape", "portrait", "square"]},
        "maxItems": 3,
    },
    "has": {"type": "array", "items": {"type": "string", "enum": ["gps", "caption", "date"]}, "maxItems": 3},
    "root": {**_TEXTS, "description": "Of one of these roots, by path or by the last part of it."},
}
"""As `Filters` has them."""

PICTURE = {
    **_object({"photo": _ID, "upload": {"type": "string", "pattern": "^[0-9a-f]{32}$"}}),
    "description": "A photo of the index by its id, or an upload by its id: exactly one of them.",
}
SEARCH = _object(
    {
        "text": {**_TEXT, "description": "Words, taken as they are."},
        "pictures": {"type": "array", "items": PICTURE, "maxItems": 8},
        "not": {**_TEXTS, "description": "What should not be shown."},
        "more_like": {**_IDS, "description": "Photos that were liked."},
        "less_like": {**_IDS, "description": "Photos that were not."},
        "weight": {"type": "number", "minimum": 0, "maximum": 1, "description": "Of the words, beside a picture."},
        "method": {"type": "string", "enum": ["and", "lerp", "slerp", "add", "product", "weicom", "basic"]},
        "modality": {"type": "string", "enum": ["image", "text", "any"]},
        "sort": {"type": "string", "enum": ["score", "date", "path", "size"]},
        "reverse": {"type": "boolean"},
        "group": {"type": "string", "enum": ["duplicates", "burst", "day", "place"]},
        "diverse": {"type": "number", "minimum": 0, "maximum": 1},
        "auto_cut": {"type": "boolean"},
        "min_score": {"type": "number"},
        "min_z": {"type": "number"},
        "filters": _object(FILTERS),
        "limit": _LIMIT,
        "offset": _OFFSET,
    }
)
BROWSE: dict[str, Schema] = {**FILTERS, "limit": _LIMIT, "offset": {**_OFFSET, "maximum": MOST_PHOTOS}}
THUMBNAIL: dict[str, Schema] = {
    "side": {"type": "integer", "enum": list(SIDES), "default": 320},
    "v": {"type": "string", "maxLength": 64, "description": "Anything; another one is another address."},
}

# ---- Checking --------------------------------------------------------------------------------------------------------

_TYPES: dict[str, tuple[type, ...]] = {
    "object": (dict,),
    "array": (list,),
    "string": (str,),
    "boolean": (bool,),
    "integer": (int,),
    "number": (int, float),
}


def problem(value: Any, schema: Schema, at: str) -> str | None:
    """What is wrong with a value, in one line; None where it is as described."""
    kind = schema["type"]
    if not isinstance(value, _TYPES[kind]) or (isinstance(value, bool) and kind != "boolean"):
        return f"{at}: not {'an' if kind[0] in 'aio' else 'a'} {kind}"
    if "enum" in schema and value not in schema["enum"]:
        return f"{at}: one of {', '.join(map(str, schema['enum']))}"
    if kind in ("integer", "number"):
        return _problem_of_number(value, schema, at)
    if kind == "string":
        return _problem_of_string(value, schema, at)
    if kind == "array":
        return _problem_of_array(value, schema, at)
    return _problem_of_object(value, schema, at) if kind == "object" else None


def _problem_of_number(value: Any, schema: Schema, at: str) -> str | None:
    low, high = schema.get("minimum", -math.inf), schema.get("maximum", math.inf)
    if isinstance(value, float) and not math.isfinite(value):
        return f"{at}: not a number"
    return None if low <= value <= high else f"{at}: from {low} to {high}"


def _problem_of_string(value: Any, schema: Schema, at: str) -> str | None:
    if not schema.get("minLength", 0) <= len(value) <= schema.get("maxLength", 1 << 16):
        return f"{at}: from {schema.get('minLength', 0)} to {schema.get('maxLength', 1 << 16)} characters"
    if any("\ud800" <= character <= "\udfff" for character in value):
        return f"{at}: half a character"
    if "pattern" in schema and not re.fullmatch(schema["pattern"].strip("^$"), value):
        return f"{at}: not {schema['pattern']}"
    return None


def _problem_of_array(value: Any, schema: Schema, at: str) -> str | None:
    if len(value) > schema["maxItems"]:
        return f"{at}: at most {schema['maxItems']}"
    found = (problem(each, schema["items"], f"{at}[{i}]") for i, each in enumerate(value))
    return next((each for each in found if each), None)


def _problem_of_object(value: Any, schema: Schema, at: str) -> str | None:
    known = schema["properties"]
    missing = [name for name in schema.get("required", ()) if name not in value]
    unknown = [name for name in value if name not in known]
    if missing or unknown:
        return f"{at}: {'no' if unknown else 'needs'} {(unknown or missing)[0][:80]!r}"
    found = (problem(each, known[name], f"{at}.{name}") for name, each in value.items())
    return next((each for each in found if each), None)


def from_query(pairs: list[tuple[str, str]], schema: dict[str, Schema]) -> dict[str, Any]:
    """The values of a query string, by the types they should have; a number that is none stays text."""
    values: dict[str, Any] = {}
    for name, text in pairs:
        kind = schema.get(name, {}).get("type")
        if kind == "array":
            values.setdefault(name, []).append(text)
        elif name in values:
            values[name] = [text]  # given twice, which is no type at all
        else:
            values[name] = int(text) if kind == "integer" and re.fullmatch(r"-?[0-9]{1,19}", text, re.ASCII) else text
    return values


# ---- The document ----------------------------------------------------------------------------------------------------


def document() -> dict[str, Any]:
    """OpenAPI 3.1."""
    photo = _path_parameter("number", _ID)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "imgsearch",
            "version": __version__,
            "description": "Photos of one index. Hits are those of `imgsearch query --json --metadata` (docs/json.md), "
            "with `id` and `thumbnail`.",
        },
        "security": [{"token": []}],
        "paths": {
            "/api/search": {
                "post": _operation(
                    "Find photos", _json(_hits()), (400, 404, 413, 422, 503), body={"application/json": SEARCH}
                )
            },
            "/api/pictures": {
                "post": _operation(
                    "Bring a picture to ask with; it is forgotten when the server ends, or 32 pictures later",
                    _json(_object({"id": {"type": "string"}}, ("id",))),
                    (413, 422, 503, 507),
                    body={"application/octet-stream": {"type": "string", "format": "binary"}},
                )
            },
            "/api/photos": {
                "get": _operation(
                    "Photos, the newest first",
                    _json(_object({"photos": {"type": "array", "items": _ANY}}, ("photos",))),
                    (422, 503),
                    parameters=_query_parameters(BROWSE),
                )
            },
            "/api/photos/{number}": {
                "get": _operation("What is known of a photo", _json(_ANY), (404, 503), parameters=[photo])
            },
            "/api/photos/{number}/thumbnail": {
                "get": _operation(
                    "The photo made small",
                    {"image/jpeg": {"schema": {"type": "string", "format": "binary"}}},
                    (404, 410, 422, 503),
                    parameters=[photo, *_query_parameters(THUMBNAIL)],
                )
            },
            "/api/photos/{number}/original": {
                "get": _operation(
                    "The file itself, to be saved",
                    {"*/*": {"schema": {"type": "string", "format": "binary"}}},
                    (403, 404, 410, 503),
                    parameters=[photo],
                )
            },
            "/api/days": {
                "get": _operation(
                    "How many photos were taken on each day, the last first",
                    _json(_object({"days": {"type": "array", "items": _ANY}}, ("days",))),
                    (422, 503),
                    parameters=_query_parameters(FILTERS),
                )
            },
            "/api/about": {"get": _operation("What the index holds", _json(_ANY), (503,))},
            "/api/openapi.json": {"get": _operation("This document", _json(_ANY), ())},
        },
        "components": {
            "securitySchemes": {
                "token": {"type": "http", "scheme": "bearer", "description": "The token of the printed link."}
            },
            "schemas": {
                "Refusal": _object(
                    {
                        "error": {"type": "string"},
                        "hint": {"type": ["string", "null"]},
                        "exit_code": {"type": "integer"},
                    },
                    ("error", "hint", "exit_code"),
                )
            },
        },
    }


def _hits() -> Schema:
    return _object(
        {
            "hits": {"type": "array", "items": _ANY},
            "more": {"type": "boolean", "description": "Whether a greater offset may find more."},
            "seconds": {"type": "number"},
        },
        ("hits", "more", "seconds"),
    )


def _json(schema: Schema) -> dict[str, Any]:
    return {"application/json": {"schema": schema}}


_REFUSALS = {
    400: "Not JSON",
    401: "The token is missing or wrong",
    403: "Not from here, or not to be served",
    404: "No such photo",
    410: "The file is gone, or another since it was indexed",
    413: "Too much",
    421: "Asked by a name that is not that of the gallery",
    422: "Not as described here, or a question that cannot be answered",
    503: "The index or its model cannot be used now",
    507: "No room for the picture",
}


def _operation(
    summary: str,
    content: dict[str, Any],
    statuses: tuple[int, ...],
    *,
    parameters: list[dict[str, Any]] | None = None,
    body: dict[str, Schema] | None = None,
) -> dict[str, Any]:
    refused = {"application/json": {"schema": {"$ref": "#/components/schemas/Refusal"}}}
    operation: dict[str, Any] = {
        "summary": summary,
        "responses": {"200": {"description": "As asked", "content": content}}
        | {
            str(status): {"description": _REFUSALS[status], "content": refused}
            for status in sorted({401, 403, 421, *statuses})
        },
    }
    if parameters:
        operation["parameters"] = parameters
    if body:
        contents = {kind: {"schema": schema} for kind, schema in body.items()}
        operation["requestBody"] = {"required": True, "content": contents}
    return operation


def _path_parameter(name: str, schema: Schema) -> dict[str, Any]:
    return {"name": name, "in": "path", "required": True, "schema": schema}


def _query_parameters(schemas: dict[str, Schema]) -> list[dict[str, Any]]:
    return [{"name": name, "in": "query", "required": False, "schema": schema} for name, schema in schemas.items()]
