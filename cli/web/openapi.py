"""The OpenAPI description of the web API, and the check of requests against it.

A JSON-schema library would bring five packages, and accept 1.0 as an integer, NaN, and lone surrogates.
"""

from __future__ import annotations

import math
import re
from typing import Any

from imgsearch import __version__
from imgsearch.cli.command_table import COMMANDS
from imgsearch.cli.options import FILTERS as GROUP_OF_FILTERS
from imgsearch.cli.options import Option
from imgsearch.core.search.choices import CHANGE_METHOD
from imgsearch.core.store.notes import MAX_CHARACTERS

Schema = dict[str, Any]

MAX_LIMIT, MAX_OFFSET = 200, 5_000
MAX_PHOTOS = 1 << 31
"""Browsing reaches every photo; a search finds only the best."""
MAX_TEXTS = 32
MAX_CHOSEN = 2_000
"""Photos in one archive, or for one note."""
SIDES = (160, 320, 640, 1280, 1920)
MAX_JSON_BYTES = 1 << 16
MAX_PICTURE_BYTES = 64 << 20

_TEXT: Schema = {"type": "string", "minLength": 1, "maxLength": 1_000}
_ID: Schema = {"type": "integer", "minimum": 1, "maximum": (1 << 63) - 1}
_IDS: Schema = {"type": "array", "items": _ID, "maxItems": 64}
_CHOSEN: Schema = {**_IDS, "minItems": 1, "maxItems": MAX_CHOSEN}
_LIMIT: Schema = {"type": "integer", "minimum": 1, "maximum": MAX_LIMIT, "default": 60}
_OFFSET: Schema = {"type": "integer", "minimum": 0, "maximum": MAX_OFFSET, "default": 0}
MAX_SECONDS = 1_000_000
_MOMENT: Schema = {
    "type": "number",
    "minimum": 0,
    "description": "Only for a video: the time of the frame that matched, in seconds.",
}
_REGION: Schema = {
    "type": "array",
    "items": {"type": "number", "minimum": 0, "maximum": 1},
    "minItems": 4,
    "maxItems": 4,
    "description": "Only for a panorama: the part that matched. x, y, width and height, as fractions of the picture.",
}
_ANY: Schema = {"type": "object", "additionalProperties": True}
_BINARY: Schema = {"type": "string", "format": "binary"}


def _object(properties: dict[str, Schema], required: tuple[str, ...] = ()) -> Schema:
    closed: Schema = {"type": "object", "properties": properties, "additionalProperties": False}
    return {**closed, "required": list(required)} if required else closed


def _of_option(option: Option) -> Schema:
    """The values of an option of `imgsearch query` as JSON."""
    schema: Schema = {str: _TEXT, int: {"type": "integer"}, float: {"type": "number"}, bool: {"type": "boolean"}}[
        option.type
    ]
    if option.choices:
        schema = {"type": "string", "enum": [each for each in option.choices if each != CHANGE_METHOD]}
    if option.is_list:
        schema = {"type": "array", "items": schema, "maxItems": len(option.choices) or MAX_TEXTS}
    limits = {"minimum": option.minimum, "maximum": option.maximum}
    given = {name: value for name, value in limits.items() if value is not None}
    return {**schema, **given, "description": option.help}


_BY_NAME = {option.api: option for option in COMMANDS["query"].options if option.api}
FILTERS = {name: _of_option(option) for name, option in _BY_NAME.items() if option.group == GROUP_OF_FILTERS}
"""Named as the fields of `Filters`."""

PICTURE = {
    **_object({"photo": _ID, "upload": {"type": "string", "pattern": "^[0-9a-f]{32}$"}}),
    "description": "A photo of the index or an upload, by its id: exactly one of them.",
}
SEARCH = _object(
    {name: _of_option(option) for name, option in _BY_NAME.items() if name not in FILTERS}
    | {
        "pictures": {"type": "array", "items": PICTURE, "maxItems": 8},
        "natural": {
            "type": "boolean",
            "default": False,
            "description": "Read dates, places and file names in `text` as filters. If nothing else is left, the "
            "matching photos are listed by time, and their score is null.",
        },
        "more_like": {**_IDS, "description": "Ids of photos to prefer."},
        "less_like": {**_IDS, "description": "Ids of photos to avoid."},
        "filters": _object(FILTERS),
        "limit": _LIMIT,
        "offset": _OFFSET,
    }
)
ZIP = _object({"photos": _CHOSEN}, ("photos",))
NOTE = _object({"photos": _CHOSEN, "text": {**_TEXT, "maxLength": MAX_CHARACTERS}}, ("photos", "text"))
BROWSE: dict[str, Schema] = {**FILTERS, "limit": _LIMIT, "offset": {**_OFFSET, "maximum": MAX_PHOTOS}}
THUMBNAIL: dict[str, Schema] = {
    "side": {"type": "integer", "enum": list(SIDES), "default": 320},
    "at": {"type": "number", "minimum": 0, "maximum": MAX_SECONDS, "description": "Of a video: the moment to show."},
    "v": {"type": "string", "maxLength": 64, "description": "Any text, to make the address of another version differ."},
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
    """What is wrong with a value, in one line; None if it conforms."""
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
        return f"{at}: not valid Unicode"
    if "pattern" in schema and not re.fullmatch(schema["pattern"].strip("^$"), value):
        return f"{at}: not {schema['pattern']}"
    return None


def _problem_of_array(value: Any, schema: Schema, at: str) -> str | None:
    if len(value) > schema["maxItems"]:
        return f"{at}: at most {schema['maxItems']}"
    if len(value) < schema.get("minItems", 0):
        return f"{at}: at least {schema['minItems']}"
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
    """The values of a query string, converted to the types of the schema; what is not a number stays text."""
    values: dict[str, Any] = {}
    for name, text in pairs:
        kind = schema.get(name, {}).get("type")
        if kind == "array":
            values.setdefault(name, []).append(text)
        elif name in values:
            values[name] = [text]  # given twice, which no type allows
        else:
            values[name] = _number(text) if kind in ("integer", "number") else text
    return values


def _number(text: str) -> int | float | str:
    if re.fullmatch(r"-?[0-9]{1,19}", text, re.ASCII):
        return int(text)
    return float(text) if re.fullmatch(r"[0-9]{1,9}\.[0-9]{1,6}", text, re.ASCII) else text


# ---- The document ----------------------------------------------------------------------------------------------------


def document() -> dict[str, Any]:
    """OpenAPI 3.1."""
    photo = {"name": "number", "in": "path", "required": True, "schema": _ID}
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
            "/api/search": _operation(
                "Find photos", _json(_hits()), (400, 404, 413, 422, 503), body=("application/json", SEARCH)
            ),
            "/api/pictures": _operation(
                "Upload a picture to search by; it is removed when the server stops, or after 32 more uploads",
                _json(_object({"id": {"type": "string"}}, ("id",))),
                (413, 422, 503, 507),
                body=("application/octet-stream", _BINARY),
            ),
            "/api/zip": _operation(
                "Prepare an archive of photos. `address` is valid until the server stops, or 64 more are prepared",
                _json(
                    _object(
                        {"address": {"type": "string"}, "photos": {"type": "integer"}, "bytes": {"type": "integer"}},
                        ("address", "photos", "bytes"),
                    )
                ),
                (400, 404, 413, 422, 503),
                body=("application/json", ZIP),
            ),
            "/api/zip/{ticket}": _operation(
                "The archive: the files in one folder, uncompressed. `left-out.txt` in it names those that are missing "
                "or have changed",
                {"application/zip": {"schema": _BINARY}},
                (404, 503),
                [{"name": "ticket", "in": "path", "required": True, "schema": {"type": "string"}}],
            ),
            "/api/notes": _operation(
                "Add a note to photos, as `imgsearch notes add` does",
                _json(_object({"text": {"type": "string"}, "added": {"type": "integer"}}, ("text", "added"))),
                (400, 404, 409, 413, 422, 503),
                body=("application/json", NOTE),
            ),
            "/api/photos": _operation(
                "Photos, newest first", _json(_list_of("photos")), (422, 503), _query_parameters(BROWSE)
            ),
            "/api/photos/{number}": _operation("Metadata of a photo", _json(_ANY), (404, 503), [photo]),
            "/api/photos/{number}/thumbnail": _operation(
                "A thumbnail of the photo",
                {"image/jpeg": {"schema": _BINARY}},
                (404, 410, 422, 503),
                [photo, *_query_parameters(THUMBNAIL)],
            ),
            "/api/photos/{number}/original": _operation(
                "The file itself", {"*/*": {"schema": _BINARY}}, (403, 404, 410, 503), [photo]
            ),
            "/api/days": _operation(
                "The number of photos taken on each day, newest first",
                _json(_list_of("days")),
                (422, 503),
                _query_parameters(FILTERS),
            ),
            "/api/places": _operation(
                "The towns where photos were taken, with their numbers, most first. `hint` says why there are none",
                _json(_object({**_list_of("places")["properties"], "hint": {"type": ["string", "null"]}}, ("places",))),
                (422, 503),
                _query_parameters(FILTERS),
            ),
            "/api/about": _operation("What the index holds", _json(_ANY), (503,)),
            "/api/openapi.json": _operation("This document", _json(_ANY), ()),
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
            "hits": {"type": "array", "items": {**_ANY, "properties": {"region": _REGION, "at": _MOMENT}}},
            "more": {"type": "boolean", "description": "Whether a larger offset may find more."},
            "seconds": {"type": "number"},
            "phrases": {
                "type": "array",
                "items": _object(
                    {"words": {"type": "string"}, "filters": {"type": "object", "additionalProperties": True}},
                    ("words", "filters"),
                ),
                "description": "With `natural`: the words that were read as filters.",
            },
        },
        ("hits", "more", "seconds"),
    )


def _list_of(name: str) -> Schema:
    return _object({name: {"type": "array", "items": _ANY}}, (name,))


def _json(schema: Schema) -> dict[str, Any]:
    return {"application/json": {"schema": schema}}


_REFUSALS = {
    400: "Not JSON",
    401: "The token is missing or wrong",
    403: "Not allowed from here, or not served",
    404: "No such photo",
    409: "Another process is writing the index",
    410: "The file is gone, or has changed since it was indexed",
    413: "Too large",
    421: "The host name is not that of the gallery",
    422: "Not as described here, or a query that cannot be answered",
    503: "The index or its model is not available now",
    507: "No space for the picture",
}


def _operation(
    summary: str,
    content: dict[str, Any],
    statuses: tuple[int, ...],
    parameters: list[dict[str, Any]] | None = None,
    *,
    body: tuple[str, Schema] | None = None,
) -> dict[str, Any]:
    """The operation of a path: with a body it is a POST, else a GET."""
    refused = {"application/json": {"schema": {"$ref": "#/components/schemas/Refusal"}}}
    operation: dict[str, Any] = {
        "summary": summary,
        "responses": {"200": {"description": "Success", "content": content}}
        | {
            str(status): {"description": _REFUSALS[status], "content": refused}
            for status in sorted({401, 403, 421, *statuses})
        },
    }
    if parameters:
        operation["parameters"] = parameters
    if body:
        operation["requestBody"] = {"required": True, "content": {body[0]: {"schema": body[1]}}}
    return {"post" if body else "get": operation}


def _query_parameters(schemas: dict[str, Schema]) -> list[dict[str, Any]]:
    return [{"name": name, "in": "query", "required": False, "schema": schema} for name, schema in schemas.items()]
