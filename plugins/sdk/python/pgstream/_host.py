"""The services of the host for a handler: ``config``, ``embed`` and the log."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import Literal, Protocol, TypeAlias, overload

from ._errors import Reject, sendable
from ._out import utf8

Level: TypeAlias = Literal["trace", "debug", "info", "warn", "error"]


class Host(Protocol):
    """Who answers: the host itself, or a test."""

    def config(self, key: str) -> str | None: ...

    def asked(self, key: str) -> str | None: ...

    def embed(self, embedder: str, texts: list[str]) -> list[list[float]]: ...

    def log(self, level: Level, message: str) -> None: ...


class Nobody:
    """There is no host while a module is read, at the build, nor outside of a test's harness."""

    def config(self, key: str) -> str | None:
        raise RuntimeError("there is no configuration yet: call `config` in the handler, not when its module is read")

    def asked(self, key: str) -> str | None:
        return None

    def embed(self, embedder: str, texts: list[str]) -> list[list[float]]:
        raise RuntimeError("there are no embedders yet: call `embed` in the handler, not when its module is read")

    def log(self, level: Level, message: str) -> None:
        print(f"{level}: {message}", file=sys.stderr)


_host: Host = Nobody()


def set_host(host: Host) -> Host:
    """Has this host answer from now on; gives the one that did."""
    global _host
    before, _host = _host, host
    return before


@overload
def config(key: str) -> str | None: ...
@overload
def config(key: str, default: str) -> str: ...
def config(key: str, default: str | None = None) -> str | None:
    """A value of the transform's ``config`` in the pipeline file, or the default. It does not change while the handler
    is loaded, so asking again costs next to nothing."""
    value = _host.config(key)
    return default if value is None else value


def asked(key: str) -> str | None:
    """A value that the host gives anew with each batch."""
    return _host.asked(key)


def embed(embedder: str, texts: Iterable[str]) -> list[list[float]]:
    """Has the host embed texts: a vector for each. ``embedder`` is a name from the transform's ``embedders``.

    Answering with :func:`text` is cheaper where it is enough: the host embeds a whole batch at once, skips what it has
    embedded before, and the vector never comes here. A failure concerns the batch: unless it is caught, the host retries
    or stops, whichever helps.
    """
    if isinstance(texts, str):
        raise Reject("`embed` takes a list of texts: write `embed(embedder, [text])`")
    checked = []
    for item in texts:
        if not isinstance(item, str):
            raise Reject(f"what is to be embedded is of type {type(item).__name__}, not text")
        checked.append(utf8(item, "the text to be embedded"))
    return _host.embed(embedder, checked) if checked else []


def log(level: Level, message: object) -> None:
    """Logs a line. The host limits how many. ``print`` and ``logging`` end there too."""
    _host.log(level, sendable(str(message)))


def trace(message: object) -> None:
    """Logs a line that is only of use when a handler is being debugged closely."""
    log("trace", message)


def debug(message: object) -> None:
    """Logs a line that is of use when a handler is being debugged."""
    log("debug", message)


def info(message: object) -> None:
    """Logs something that happened."""
    log("info", message)


def warn(message: object) -> None:
    """Logs something that a person should look at some time."""
    log("warn", message)


def error(message: object) -> None:
    """Logs something that went wrong. It is repeated in the pipeline's error if the call fails."""
    log("error", message)
