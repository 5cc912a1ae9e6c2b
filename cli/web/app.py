"""The gallery's pages and API."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shutil
import tempfile
import threading
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Generator
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO
from urllib.parse import quote

from anyio.to_thread import run_sync
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from imgsearch.cli.output.hints import hint_of
from imgsearch.core.errors import ImgsearchError, IndexLocked, ModelError, QueryError, StoreError, UsageError
from imgsearch.core.paths import printable
from imgsearch.core.photos.decode_pool import PoolClosed
from imgsearch.core.photos.thumbnails import Thumbnails
from imgsearch.core.search import grammar
from imgsearch.core.search.options import SearchOptions
from imgsearch.core.serving.engine import Engine
from imgsearch.core.serving.library import Library, filters_from_json
from imgsearch.core.serving.originals import NotServed, open_original, reason_of, require_as_indexed
from imgsearch.core.serving.photo_zip import zipped
from imgsearch.core.store import notes
from imgsearch.core.store.store import Store
from imgsearch.core.types import SkipPhoto

from . import openapi
from .answers import answer, found, place_record, refusal, shown

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.types import Receive, Scope, Send

    from imgsearch.core.search.grammar import Query
    from imgsearch.core.store.records import Place

_FOLDER = Path(__file__).parent
STATIC = {
    "/": "page.html",
    **{f"/{name}": name for name in ("page.css", "page.js", "icon.svg")},
    **{f"/page/{each.name}": f"page/{each.name}" for each in (_FOLDER / "page").glob("*.js")},
}
_KINDS = {".html": "text/html", ".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
LOOKED_AT_BY_ITSELF = "/api/about"
"""The page polls it for changes of the index."""
MAX_TICKETS = 64
MAX_UPLOADS, MAX_UPLOADED_BYTES = 32, 256 << 20
BYTES_AT_ONCE = 1 << 18
THUMBNAIL_CACHING = "private, max-age=86400"
PICTURE_TYPES = {
    "JPEG": "image/jpeg",
    "PNG": "image/png",
    "GIF": "image/gif",
    "WEBP": "image/webp",
    "AVIF": "image/avif",
    "HEIF": "image/heif",
    "TIFF": "image/tiff",
    "BMP": "image/bmp",
    "JXL": "image/jxl",
}
"""By format in the catalogue. Everything else is sent as bytes, so that a browser runs none of it."""


class Refused(Exception):
    """An error response."""

    def __init__(self, status: int, message: str, hint: str | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.hint = hint


class Uploads:
    """Pictures dropped into the page: files in a private temporary folder, the oldest deleted first."""

    def __init__(self) -> None:
        self._folder = tempfile.mkdtemp(prefix="imgsearch-")
        self._small = Thumbnails(os.path.join(self._folder, "small"), workers=1)  # apart: nothing of them is to stay
        self._files: OrderedDict[str, tuple[str, int]] = OrderedDict()
        self._changing = threading.Lock()

    def close(self) -> None:
        self._small.close()
        shutil.rmtree(self._folder, ignore_errors=True)

    def check(self, path: str) -> None:
        """Decode it once, in another process. Raises SkipPhoto, PoolClosed."""
        self._small.jpeg(path, None, 160)

    def keep(self, data: bytes) -> tuple[str, str]:
        """Its id and its path. Raises OSError."""
        name = secrets.token_hex(16)
        path = os.path.join(self._folder, name)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            with open(descriptor, "wb") as file:
                file.write(data)
        except OSError:
            os.unlink(path)
            raise
        with self._changing:
            self._files[name] = path, len(data)
            while len(self._files) > MAX_UPLOADS or sum(size for _, size in self._files.values()) > MAX_UPLOADED_BYTES:
                self._drop(next(iter(self._files)))
        return name, path

    def forget(self, name: str) -> None:
        with self._changing:
            self._drop(name)

    def path(self, name: str) -> str | None:
        with self._changing:
            return self._files.get(name, (None, 0))[0]

    def _drop(self, name: str) -> None:
        path, _ = self._files.pop(name, ("", 0))
        with contextlib.suppress(OSError):
            os.unlink(path)


class Tickets:
    """Photos to download as one archive, by a random name that is easy to put into an address."""

    def __init__(self) -> None:
        self._numbers: OrderedDict[str, list[int]] = OrderedDict()
        self._changing = threading.Lock()

    def keep(self, numbers: list[int]) -> str:
        ticket = secrets.token_hex(16)
        with self._changing:
            self._numbers[ticket] = numbers
            while len(self._numbers) > MAX_TICKETS:
                self._numbers.popitem(last=False)
        return ticket

    def get(self, ticket: str) -> list[int] | None:
        with self._changing:
            return self._numbers.get(ticket)


class Pages:
    """All routes of the gallery. Slow ones run in a thread."""

    def __init__(self, engine: Engine, library: Library, thumbnails: Thumbnails, uploads: Uploads) -> None:
        self._engine = engine
        self._library = library
        self._thumbnails = thumbnails
        self._uploads = uploads
        self._tickets = Tickets()
        self._static = {path: (_FOLDER / name).read_bytes() for path, name in STATIC.items()}
        self.last_query = time.monotonic()

    def app(self) -> Starlette:
        gets: dict[str, Callable[[Request], Response]] = {
            **dict.fromkeys(STATIC, self._page),
            "/api/about": self._about,
            "/api/days": self._days,
            "/api/openapi.json": lambda request: answer(openapi.document()),
            "/api/photos": self._photos,
            "/api/places": self._places,
            "/api/photos/{number}": self._photo,
            "/api/photos/{number}/thumbnail": self._thumbnail,
            "/api/photos/{number}/original": self._original,
            "/api/zip/{ticket}": self._zipped,
        }
        routes = [
            Route(path, self._threaded(answers, counts=path != LOOKED_AT_BY_ITSELF), methods=["GET"])
            for path, answers in gets.items()
        ]
        for path, answers, most in (
            ("/api/search", self._search, openapi.MAX_JSON_BYTES),
            ("/api/zip", self._zip, openapi.MAX_JSON_BYTES),
            ("/api/notes", self._note, openapi.MAX_JSON_BYTES),
            ("/api/pictures", self._upload, openapi.MAX_PICTURE_BYTES),
        ):
            routes.append(Route(path, self._reading(answers, most), methods=["POST"]))
        app = Starlette(routes=routes, exception_handlers={HTTPException: _on_http_error})
        app.router.redirect_slashes = False
        return app

    def _threaded(
        self, answers: Callable[[Request], Response], *, counts: bool
    ) -> Callable[[Request], Awaitable[Response]]:
        """`counts`: whether a request postpones the end of an idle server."""

        async def endpoint(request: Request) -> Response:
            if counts:
                self.last_query = time.monotonic()
            return await run_sync(_said, lambda: answers(request))

        return endpoint

    def _reading(self, answers: Callable[[bytes], Response], most: int) -> Callable[[Request], Awaitable[Response]]:
        async def endpoint(request: Request) -> Response:
            self.last_query = time.monotonic()
            try:
                body = await _body(request, most)
            except ClientDisconnect:
                return refusal(400, "cut short")  # the client is gone
            if body is None:
                return refusal(413, f"more than {most:,} bytes")
            return await run_sync(_said, lambda: answers(body))

        return endpoint

    # pages

    def _page(self, request: Request) -> Response:
        kind = _KINDS[os.path.splitext(STATIC[request.url.path])[1]]
        return Response(self._static[request.url.path], media_type=kind)

    # looking

    def _about(self, request: Request) -> Response:
        about = self._library.summary()
        return answer(
            {
                "model": about.model,
                "photos": about.photos,
                "roots": [{"path": printable(r.path), "state": r.state, "photos": n} for r, n in about.roots],
                "cameras": [{"camera": name, "photos": count} for name, count in about.cameras],
                "edition": about.edition,
                "progress": about.progress and {"done": about.progress.done, "total": about.progress.planned},
            }
        )

    def _days(self, request: Request) -> Response:
        asked = _from_query(request, openapi.FILTERS)
        days = self._library.days(filters_from_json(asked))
        return answer({"days": [{"day": day, "photos": count} for day, count in days]})

    def _places(self, request: Request) -> Response:
        asked = _from_query(request, openapi.FILTERS)
        places = [place_record(place) for place in self._library.places(filters_from_json(asked))]
        return answer({"places": places, "hint": None if places else self._library.hint_on_places()})

    def _photos(self, request: Request) -> Response:
        asked = _from_query(request, openapi.BROWSE)
        limit, offset = asked.pop("limit", 60), asked.pop("offset", 0)
        places = self._library.photos(filters_from_json(asked), limit=limit, offset=offset)
        return answer({"photos": [shown(place) for place in places]})

    def _photo(self, request: Request) -> Response:
        place = self._place(_number(request))
        texts = [{"text": text.text, "source": text.source} for text in self._library.texts(place.id)]
        return answer({**shown(place), "texts": texts})

    def _thumbnail(self, request: Request) -> Response:
        place = self._place(_number(request))
        asked = _from_query(request, openapi.THUMBNAIL)
        side, at = asked.get("side", 320), asked.get("at")
        if place.facts["duration_seconds"] is None:
            at = None
        tag = f'"{place.content_hash.hex()[:32]}-{side}{"" if at is None else f"-{at}"}"'
        headers = {"cache-control": THUMBNAIL_CACHING, "etag": tag}
        if request.headers.get("if-none-match") == tag:
            return Response(status_code=304, headers=headers)
        _require_as_indexed(place)
        try:
            data = self._thumbnails.jpeg(place.path, place.content_hash, side, at)
        except SkipPhoto as skipped:
            raise Refused(410, skipped.reason) from skipped
        except PoolClosed:
            raise Refused(503, "the gallery is closing") from None
        return Response(data, media_type="image/jpeg", headers=headers)

    def _original(self, request: Request) -> Response:
        place = self._place(_number(request))
        try:
            file = open_original(place, self._library.roots())
        except NotServed as refused:
            raise Refused(403 if refused.is_outside else 410, str(refused), refused.hint) from refused
        name = os.fsencode(os.path.basename(place.relpath))
        headers = {
            "content-length": str(place.size),
            "content-disposition": f"attachment; filename*=UTF-8''{quote(name, safe='')}",
        }
        kind = PICTURE_TYPES.get(str(place.facts["format"]).upper(), "application/octet-stream")
        return _Streaming(_chunks(file, place.size), media_type=kind, headers=headers)

    def _place(self, number: int) -> Place:
        place = self._library.photo(number)
        if place is None:
            raise Refused(404, "no such photo")
        return place

    # several photos

    def _zip(self, body: bytes) -> Response:
        """What to download, not yet the archive: a browser saves only what it gets, and a page cannot post it."""
        chosen = self._chosen(_checked(body, openapi.ZIP, "zip"))
        number_of_bytes = sum(place.size for place in chosen)
        address = f"/api/zip/{self._tickets.keep([place.id for place in chosen])}"
        return answer({"address": address, "photos": len(chosen), "bytes": number_of_bytes})

    def _zipped(self, request: Request) -> Response:
        numbers = self._tickets.get(request.path_params["ticket"])
        if numbers is None:
            raise Refused(404, "no such archive", "request it again")
        pieces = zipped(self._library.photos_by_id(numbers), self._library.roots())
        headers = {"content-disposition": 'attachment; filename="photos.zip"'}
        return _Streaming(self._counting(pieces), media_type="application/zip", headers=headers)

    def _counting(self, pieces: Generator[bytes]) -> Generator[bytes]:
        """A server that sends something is not idle."""
        with contextlib.closing(pieces):
            for piece in pieces:
                self.last_query = time.monotonic()
                yield piece

    def _note(self, body: bytes) -> Response:
        asked = _checked(body, openapi.NOTE, "note")
        paths = [place.path for place in self._chosen(asked)]
        try:
            with Store.writing(self._engine.folder) as store:
                added = notes.add(store, paths, asked["text"], self._engine.embed_texts)
        except IndexLocked as error:
            raise Refused(409, str(error), "try again when it has finished") from error
        return answer({"text": notes.checked(asked["text"]), "added": added})

    def _chosen(self, asked: dict[str, Any]) -> list[Place]:
        numbers = list(dict.fromkeys(asked["photos"]))
        chosen = self._library.photos_by_id(numbers)
        if len(chosen) < len(numbers):
            missing = min(set(numbers) - {place.id for place in chosen})
            raise Refused(404, f"no such photo: {missing}", "search again, and select again")
        return chosen

    # asking

    def _search(self, body: bytes) -> Response:
        asked = _checked(body, openapi.SEARCH, "search")
        limit, offset = asked.get("limit", 60), asked.get("offset", 0)
        query, uploaded = self._query(asked)
        how = {name: asked[name] for name in _OPTIONS if name in asked}
        options = SearchOptions(limit=limit + offset, filters=filters_from_json(asked.get("filters", {})), **how)
        started = time.perf_counter()
        try:
            found_by = self._engine.search(query, options)
        except QueryError as error:
            message = str(error)
            for path in uploaded:
                message = message.replace(printable(path), "the picture")
            raise QueryError(message, hint=error.hint) from error
        seconds = time.perf_counter() - started
        hits = found_by.hits
        more = len(hits) == limit + offset and offset + limit <= openapi.MAX_OFFSET
        answered = {"hits": [found(hit) for hit in hits[offset:]], "more": more, "seconds": round(seconds, 4)}
        if asked.get("natural"):
            answered["phrases"] = [{"words": each.words, "filters": dict(each.filters)} for each in found_by.phrases]
        return answer(answered)

    def _query(self, asked: dict[str, Any]) -> tuple[Query, list[str]]:
        """The query, and the paths of uploads in it. Words are not parsed for file names."""
        uploaded: list[str] = []
        pictures: list[str] = []
        for picture in asked.get("pictures", ()):
            if len(picture) != 1:
                raise Refused(422, "search.pictures: each is a photo or an upload")
            if "photo" in picture:
                pictures.append(self._place(picture["photo"]).path)
                continue
            path = self._uploads.path(picture["upload"])
            if path is None:
                raise Refused(422, "this picture is no longer on the server", "upload it again")
            uploaded.append(path)
            pictures.append(path)
        liked, disliked = (
            [self._place(number).path for number in asked.get(name, ())] for name in ("more_like", "less_like")
        )
        text = asked.get("text")
        words = None if text is None else grammar.explicit(text, ())
        if words and asked.get("natural"):
            words = grammar.with_filters(words)
        query = grammar.combine(
            words,
            images=pictures,
            negatives=asked.get("not", ()),
            more_like=liked,
            less_like=disliked,
        )
        return query if text is not None else replace(query, typed="a picture"), uploaded

    def _upload(self, body: bytes) -> Response:
        if not body:
            raise Refused(422, "an empty file", "choose another picture")
        try:
            name, path = self._uploads.keep(body)
        except OSError as error:
            raise Refused(507, (error.strerror or str(error)).lower(), "free some space") from error
        try:
            self._uploads.check(path)
        except SkipPhoto as skipped:
            self._uploads.forget(name)
            raise Refused(422, skipped.reason, "choose another picture") from skipped
        except PoolClosed:
            raise Refused(503, "the gallery is closing") from None
        return answer({"id": name})


_OPTIONS = {each.name for each in fields(SearchOptions)} & openapi.SEARCH["properties"].keys() - {"limit", "filters"}


class _Streaming(StreamingResponse):
    """Closes what it sends, also when the browser goes away in the middle."""

    def __init__(self, pieces: Generator[bytes], *, media_type: str, headers: dict[str, str]) -> None:
        super().__init__(pieces, media_type=media_type, headers=headers)
        self._pieces = pieces

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._pieces.close()


def _said(answers: Callable[[], Response]) -> Response:
    """The response, or an error response for the errors that the commands report."""
    try:
        return answers()
    except Refused as refused:
        return refusal(refused.status, str(refused), hint=refused.hint)
    except (QueryError, UsageError) as error:
        return refusal(422, str(error), hint=hint_of(error))
    except (StoreError, ModelError, ImgsearchError) as error:
        return refusal(503, str(error), hint=hint_of(error), exit_code=error.exit_code)
    except OSError as error:
        return refusal(503, (error.strerror or str(error)).lower())


async def _on_http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    response = refusal(error.status_code, error.detail.lower())
    response.headers.update(error.headers or {})
    return response


async def _body(request: Request, most: int) -> bytes | None:
    """None if it is larger."""
    length = request.headers.get("content-length", "0")
    if not length.isdecimal() or int(length) > most:
        return None
    body = bytearray()
    async for part in request.stream():
        body += part
        if len(body) > most:
            return None
    return bytes(body)


def _json(body: bytes) -> Any:
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        raise Refused(400, "not JSON") from None


def _checked(body: bytes, schema: openapi.Schema, name: str) -> dict[str, Any]:
    asked: dict[str, Any] = _json(body)
    complaint = openapi.problem(asked, schema, name)
    if complaint:
        raise Refused(422, complaint, "see /api/openapi.json")
    return asked


def _from_query(request: Request, schema: dict[str, openapi.Schema]) -> dict[str, Any]:
    values = openapi.from_query(request.query_params.multi_items(), schema)
    complaint = openapi.problem(values, {"type": "object", "properties": schema}, "query")
    if complaint:
        raise Refused(422, complaint, "see /api/openapi.json")
    return values


def _number(request: Request) -> int:
    text = request.path_params["number"]
    if not (text.isascii() and text.isdecimal() and len(text) <= 19 and 0 < int(text) < 1 << 63):
        raise Refused(404, "no such photo")
    return int(text)


def _require_as_indexed(place: Place) -> None:
    try:
        require_as_indexed(place, os.stat(place.path))
    except (OSError, ValueError) as error:
        raise Refused(410, reason_of(error)) from error
    except NotServed as refused:
        raise Refused(410, str(refused), refused.hint) from refused


def _chunks(file: BinaryIO, left: int) -> Generator[bytes]:
    with file:
        while left > 0 and (data := file.read(min(BYTES_AT_ONCE, left))):
            left -= len(data)
            yield data
