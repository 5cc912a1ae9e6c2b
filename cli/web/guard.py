"""Access control of the gallery: requests need the token, the gallery's own origin and a trusted host name.

Another site can make a browser send requests to this machine, and can even point its own name to this machine (DNS
rebinding). So Host must be an address or `localhost`, Origin must be the same, and a random token must be sent, in a
cookie that other sites cannot make the browser send.
"""

from __future__ import annotations

import hmac
import ipaddress
import re
from collections.abc import Sequence
from http.cookies import CookieError, SimpleCookie
from typing import TYPE_CHECKING

from starlette.responses import RedirectResponse, Response

from .answers import refusal

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

_HOST = re.compile(r"(?P<name>\[[0-9a-fA-F:.]+\]|[\w.-]+)(?::[0-9]{1,5})?", re.ASCII)
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; connect-src 'self'; "
    "form-action 'none'; frame-ancestors 'none'; base-uri 'none'"
)
HEADERS = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "permissions-policy": "camera=(), microphone=(), geolocation=()",
}
"""On every response, with `cache-control: no-store` unless the response sets it."""


class Guard:
    """ASGI middleware. `names`: further host names besides addresses of this machine and `localhost`."""

    def __init__(self, app: ASGIApp, *, token: str, cookie: str, names: Sequence[str], is_loopback: bool) -> None:
        self._app = app
        self._token = token
        self._cookie = cookie
        self._names = {name.lower() for name in names} | {"localhost"}
        self._is_loopback = is_loopback

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return

        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                given = {name.lower() for name, _ in message["headers"]}
                wanted = {**HEADERS, "cache-control": "no-store"}
                message["headers"] = [
                    *message["headers"],
                    *((k.encode(), v.encode()) for k, v in wanted.items() if k.encode() not in given),
                ]
            await send(message)

        from starlette.requests import Request

        answer = self._answer(Request(scope))
        await (answer or self._app)(scope, receive, send_guarded)

    def _answer(self, request: Request) -> Response | None:
        """The refusal or redirect; None for a request to pass on."""
        hosts = request.headers.getlist("host")
        if len(hosts) != 1 or not self._is_ours(hosts[0]):
            return refusal(421, "the gallery is not served under this host name", hint="use the link that was printed")
        origins = request.headers.getlist("origin")
        if origins and origins != [f"http://{hosts[0]}"]:
            return refusal(403, "asked from another site")
        is_page = request.url.path == "/" and request.method == "GET"
        if not is_page and request.headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
            return refusal(403, "asked from another site")
        if is_page and self._is_right(request.query_params.get("token")):
            answer = RedirectResponse("/", 303)
            answer.set_cookie(self._cookie, self._token, httponly=True, samesite="strict", path="/")
            return answer
        if self._is_right(_cookie(request, self._cookie)) or self._is_right(_bearer(request)):
            return None
        if is_page:
            return Response("Use the link that `imgsearch serve` printed.\n", 401, media_type="text/plain")
        answer_401 = refusal(401, "the token is missing or wrong", hint="use the link that `imgsearch serve` printed")
        answer_401.headers["www-authenticate"] = "Bearer"
        return answer_401

    def _is_ours(self, host: str) -> bool:
        found = _HOST.fullmatch(host)
        if not found:
            return False
        try:
            address = ipaddress.ip_address(found["name"].strip("[]"))
        except ValueError:
            return found["name"].lower() in self._names
        return address.is_loopback or not self._is_loopback

    def _is_right(self, token: str | None) -> bool:
        return token is not None and hmac.compare_digest(token.encode("utf-8", "replace"), self._token.encode())


def _cookie(request: Request, name: str) -> str | None:
    try:
        found = SimpleCookie(request.headers.get("cookie", "")).get(name)
    except CookieError:
        return None
    return found.value if found else None


def _bearer(request: Request) -> str | None:
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else None
