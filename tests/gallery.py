"""A gallery of an index, in this process, and a client of it."""

import contextlib
import http.client
import json
import os

import pytest

from conftest import PATIENCE_SECONDS

pytest.importorskip("starlette", reason="the extra [serve] is not installed")
pytest.importorskip("uvicorn", reason="the extra [serve] is not installed")

from imgsearch.cli import app, loading
from imgsearch.cli.web import server as web
from imgsearch.core.serving import engine as serving


def index(base):
    os.environ["IMGSEARCH_INDEX"] = str(base / "index")
    try:
        assert app.exit_code(["index", str(base / "photos"), "--model", "builtin", "--quiet"]) == 0
    finally:
        del os.environ["IMGSEARCH_INDEX"]


@contextlib.contextmanager
def opened(base, host="127.0.0.1"):
    def embedder_for(space):
        return loading.query_embedder(space, device="cpu", offline=True, history=False)

    with (
        contextlib.closing(web.bound(host, 0, default=0)) as listening,
        contextlib.closing(serving.Engine(str(base / "index"), embedder_for)) as engine,
        web.Gallery(engine, listening, host=host) as gallery,
    ):
        yield gallery


class Client:
    """Asks the gallery as its own page would, unless told otherwise."""

    def __init__(self, gallery) -> None:
        self.gallery = gallery
        self.port = int(gallery.address.rstrip("/").rpartition(":")[2])

    def __call__(self, path, *, method=None, body=None, headers=(), token=True):
        """Status, headers, body."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE_SECONDS)
        sent = {"authorization": f"Bearer {self.gallery.token}"} if token else {}
        try:
            connection.request(method or ("GET" if body is None else "POST"), path, body, sent | dict(headers))
            response = connection.getresponse()
            return response.status, response.headers, response.read()
        finally:
            connection.close()

    def json(self, path, body=None, **more):
        status, headers, data = self(path, body=None if body is None else json.dumps(body), **more)
        assert headers["content-type"] == "application/json"
        return status, json.loads(data)
