"""Requests over ``wasi:http``: only imported where a component is built whose modules import ``pgstream.http``."""

from __future__ import annotations

import importlib
import re
from typing import Any

from ._errors import Retry, Stop
from .http import Request, Response, set_sender

_types: Any = importlib.import_module("wit_world.imports.wasi_http_types")
_streams: Any = importlib.import_module("wit_world.imports.streams")
_outgoing: Any = importlib.import_module("wit_world.imports.outgoing_handler")
_Err: Any = importlib.import_module("componentize_py_types").Err

# Bytes that a body takes in one go, and an answer gives.
_WRITTEN = 4096
_READ = 64 << 10

# What the host refuses will not pass.
_REFUSED = {
    "HttpRequestDenied", "DestinationIpProhibited", "HttpRequestUriInvalid", "HttpRequestMethodInvalid", "HttpRequestBodySize",
    "HttpRequestLengthRequired", "HttpRequestTrailerSectionSize", "HttpResponseBodySize", "HttpProtocolError",
    "TlsCertificateError",
}  # fmt: skip


def _failed(request: Request, code: Any) -> Exception:
    name = type(code).__name__.removeprefix("ErrorCode_")
    words = re.sub(r"(?<!^)(?=[A-Z])", " ", name).lower()
    return (Stop if name in _REFUSED else Retry)(f"`{request.origin()}`: {words}")


def _refused(request: Request, what: str) -> Stop:
    return Stop(f"`{request.origin()}`: {what} is not one that can be sent")


def send(request: Request) -> Response:
    scheme, authority, path = request.parts()
    fields = _types.Fields()
    for name, value in request.headers.items():
        try:
            fields.append(name, str(value).encode())
        except _Err:
            raise _refused(request, f"header {name!r}") from None
    outgoing = _types.OutgoingRequest(fields)
    method = getattr(_types, f"Method_{request.method.capitalize()}", None)
    for what, put, value in (
        ("the method", outgoing.set_method, method() if method else _types.Method_Other(request.method)),
        ("the scheme", outgoing.set_scheme, _types.Scheme_Https() if scheme == "https" else _types.Scheme_Http()),
        ("the host", outgoing.set_authority, authority),
        ("the path", outgoing.set_path_with_query, path),
    ):
        try:
            put(value)
        except _Err:
            raise _refused(request, what) from None
    options = _types.RequestOptions()
    if request.timeout is not None:
        nanos = max(1, int(request.timeout * 1e9))
        options.set_connect_timeout(nanos)
        options.set_first_byte_timeout(nanos)
        options.set_between_bytes_timeout(nanos)
    try:
        body = outgoing.body()
        begun = _outgoing.handle(outgoing, options)
        with begun:
            with body.write() as stream:
                try:
                    for at in range(0, len(request.body), _WRITTEN):
                        stream.blocking_write_and_flush(request.body[at : at + _WRITTEN])
                except _Err:
                    pass  # the answer says why
            _types.OutgoingBody.finish(body, None)
            with begun.subscribe() as ready:
                ready.block()
            answer = begun.get()
            # A result in a result in an option: there is one, it was not taken before, and it is an answer or an error.
            while not isinstance(answer, _types.IncomingResponse):
                if isinstance(answer, _Err):
                    raise answer
                if answer is None:
                    raise Retry(f"`{request.origin()}`: there was no answer")
                answer = answer.value
            with answer:
                return _received(request, answer)
    except _Err as error:
        raise _failed(request, error.value) from None


def _received(request: Request, response: Any) -> Response:
    with response.headers() as fields:
        headers = {name.lower(): value.decode("utf-8", "replace") for name, value in fields.entries()}
    parts = []
    with response.consume() as body, body.stream() as stream:
        while True:
            try:
                parts.append(stream.blocking_read(_READ))
            except _Err as error:
                if isinstance(error.value, _streams.StreamError_Closed):
                    return Response(response.status(), headers, b"".join(parts))
                code = _types.http_error_code(error.value.value)
                if code is None:
                    raise Retry(f"`{request.origin()}`: the answer broke off") from None
                raise _failed(request, getattr(code, "value", code)) from None


set_sender(send)
