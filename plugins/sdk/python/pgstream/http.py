"""HTTP requests, to the hosts that the pipeline grants: ``allow: { http: [api.example.com] }``.

A call waits for its answer::

    from pgstream import http

    tags = http.post("https://api.example.com/tags", json={"text": event.text("content")}).success().json()["tags"]

An error concerns the whole batch: of a server that cannot be reached it is ``Retry``, so that the host comes again later; of one that
is not granted ``Stop``, with the key to add. A batch may come again, and its requests with it: they should be safe to repeat.
``docs/network.md`` says what is sent and what is refused.

A component whose modules import this is only loaded where its pipeline grants it hosts.
"""

from __future__ import annotations

import json as _json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ._errors import Reject, Retry, Stop
from ._json import array

__all__ = ["Request", "Response", "get", "post", "request"]

_URL = re.compile(r"(https?)://([^/?#@\s]+)([/?][^#]*)?(?:#.*)?", re.DOTALL)


@dataclass
class Request:
    """A request as it is sent."""

    method: str
    url: str
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    timeout: float | None = None
    """Seconds to wait at most; the host's own limit, if there is none or it is less."""

    def parts(self) -> tuple[str, str, str]:
        """Scheme, host with port, and path with query."""
        found = _URL.fullmatch(self.url)
        if found is None:
            raise Stop("what was asked for is not a URL: write `https://host/path`, without a login")
        path = found[3] or ""
        return found[1], found[2], path if path.startswith("/") else f"/{path}"

    def origin(self) -> str:
        """The part of the URL that may be shown: scheme, host and port. The rest may hold a row's values, and where there is
        an ``@``, what stands before it may be a login."""
        scheme, authority, _ = self.parts()
        return f"{scheme}://{'…' if '@' in self.url else authority}"


@dataclass
class Response:
    """The answer of a server."""

    status: int
    headers: dict[str, str] = field(default_factory=dict)
    """By names in lower case."""
    body: bytes = b""

    def success(self) -> Response:
        """The answer if its status is one of success. Otherwise ``Retry`` for 408, 429 and 500 and more, ``Reject`` for others."""
        if 200 <= self.status < 300:
            return self
        kind = Retry if self.status in (408, 429) or self.status >= 500 else Reject
        raise kind(f"a server answered with status {self.status}")

    def text(self) -> str:
        """The body as text, which is UTF-8."""
        return self.body.decode()

    def json(self) -> Any:
        """The body as JSON."""
        return _json.loads(self.body)


def get(url: str, *, headers: Mapping[str, str] | None = None, timeout: float | None = None) -> Response:
    """Asks for what is at ``url``."""
    return request("GET", url, headers=headers, timeout=timeout)


def post(
    url: str,
    *,
    json: Any = None,
    body: bytes | str | None = None,
    headers: Mapping[str, str] | None = None,
    timeout: float | None = None,
) -> Response:
    """Sends JSON, or a body as it is, to ``url``."""
    return request("POST", url, json=json, body=body, headers=headers, timeout=timeout)


def request(
    method: str,
    url: str,
    *,
    json: Any = None,
    body: bytes | str | None = None,
    headers: Mapping[str, str] | None = None,
    timeout: float | None = None,
) -> Response:
    """Sends a request with any method, and waits for the answer, whatever its status is; see :meth:`Response.success`.
    ``timeout`` is in seconds."""
    given = dict(headers or {})
    if json is not None:
        if body is not None:
            raise Stop("a request has either `json` or `body`")
        body = array([json])[1:-1]
        given.setdefault("content-type", "application/json")
    sent = body.encode() if isinstance(body, str) else bytes(body or b"")
    asked = Request(method, url, given, sent, timeout)
    asked.parts()
    return _send(asked)


def _nobody(request: Request) -> Response:
    raise Stop("there is no network outside of a component: `Harness.http` answers in tests")


_send: Callable[[Request], Response] = _nobody


def set_sender(sender: Callable[[Request], Response]) -> Callable[[Request], Response]:
    """Has this answer from now on; gives who did."""
    global _send
    before, _send = _send, sender
    return before
