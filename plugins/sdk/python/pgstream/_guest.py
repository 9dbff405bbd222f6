"""The handler's side of the boundary: only imported where a component is built.

The bindings make an object of a class for each value that arrives. They look these classes up by name once the app is
imported, and take whatever can be called: so cells become plain values here, without an object around each, and events
become `Event`. What goes back is recognized by its type, so that commands need not be copied either.
"""

from __future__ import annotations

import gc
import importlib
import io
import logging
import sys
from collections.abc import Callable
from typing import Any

from . import _event, _out, _run, _snapshot, _values
from ._errors import Reject, Retry, Stop, one_line, sendable
from ._host import Level, set_host

try:
    _types: Any = importlib.import_module("wit_world.imports.types")
except ModuleNotFoundError:  # with those of `wasi:http` beside them
    _types = importlib.import_module("wit_world.imports.pgstream_host_types")
_config: Any = importlib.import_module("wit_world.imports.config")
_embeddings: Any = importlib.import_module("wit_world.imports.embeddings")
_log: Any = importlib.import_module("wit_world.imports.log")
_Err: Any = importlib.import_module("componentize_py_types").Err


class _Batch:
    __slots__ = ("relations", "events")

    def __init__(self, relations: list[_event.Relation], events: list[_event.Event]) -> None:
        self.relations = relations
        self.events = events


_OPERATIONS: tuple[_event.Operation, ...] = ("insert", "update", "delete", "truncate")

_REPLACED: dict[str, Callable[..., Any]] = {
    "Operation": _OPERATIONS.__getitem__,
    "Value_Null": type(None),
    "Value_Unchanged": lambda: _values.UNCHANGED,
    "Value_Boolean": bool,
    "Value_Int": int,
    "Value_Float": float,
    "Value_Numeric": _values.Numeric,
    "Value_Text": str,
    "Value_Bytes": bytes,
    "Value_Timestamp": _values.Timestamp,
    "Value_Date": _values.Date,
    "Value_Time": _values.Time,
    "Value_Uuid": str,
    "Value_Json": _values.Json,
    "Value_Vector": list,
    "Value_Other": str,
    "Column": _event.Column,
    "Relation": _event.Relation,
    "Event": _event.Event,
    "Batch": _Batch,
    "Embedding_Text": _out.Text,
    "Embedding_Dense": _out.Dense,
    "Embedding_Sparse": _out.Sparse,
    "Action_Upsert": _out.Upsert,
    "Action_Patch": _out.Patch,
    "Action_Replace": _out.Replace,
    "Action_PatchGroup": _out.PatchGroup,
    "Action_Delete": _out.Delete,
    "Action_DeleteGroup": _out.DeleteGroup,
    "Action_Clear": _out.Clear,
}

for _name, _class in _REPLACED.items():
    if not hasattr(_types, _name):
        raise RuntimeError(f"the bindings have no `{_name}`: `wit/` is not the one that this SDK was made for")
    setattr(_types, _name, _class)

_LEVELS: dict[Level, Any] = {
    "trace": _log.Level.TRACE,
    "debug": _log.Level.DEBUG,
    "info": _log.Level.INFO,
    "warn": _log.Level.WARN,
    "error": _log.Level.ERROR,
}


class _Host:
    """The host itself."""

    def __init__(self) -> None:
        self._known: dict[str, str | None] = {}

    def config(self, key: str) -> str | None:
        try:
            return self._known[key]
        except KeyError:
            value: str | None = _config.get(_out.utf8(key, "the key of a configuration"))
            self._known[key] = value
            return value

    def asked(self, key: str) -> str | None:
        value: str | None = _config.get(_out.utf8(key, "the name of a table"))
        return value

    def embed(self, embedder: str, texts: list[str]) -> list[list[float]]:
        try:
            vectors = _embeddings.embed(_out.utf8(embedder, "the name of an embedder"), texts)
        except _Err as error:
            failure = error.value
            raise (Retry if isinstance(failure, _types.Failure_Retry) else Stop)(failure.value) from None
        dimension, data = vectors.dimension, vectors.data
        if not dimension:
            raise Reject(f"embedder `{embedder}` gave no numbers")
        return [data[at : at + dimension] for at in range(0, len(data), dimension)]

    def log(self, level: Level, message: str) -> None:
        _log.log(_LEVELS[level], message)


class _Lines(io.TextIOBase):
    """What is printed, line by line."""

    def __init__(self, level: Level) -> None:
        self._level = _LEVELS[level]
        self._begun = ""

    def writable(self) -> bool:
        return True

    def write(self, text: str) -> int:
        *lines, self._begun = (self._begun + text).split("\n")
        for line in lines:
            _log.log(self._level, sendable(line))
        return len(text)

    def finish(self) -> None:
        if self._begun:
            self.write("\n")


class _Logging(logging.Handler):
    """What goes to Python's own `logging`."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            text = self.format(record)
        except Exception as error:
            text = f"a line of the log could not be made: {error!r}"
        number = record.levelno
        level: Level = (
            "error" if number >= logging.ERROR
            else "warn" if number >= logging.WARNING
            else "info" if number >= logging.INFO
            else "debug" if number >= logging.DEBUG
            else "trace"
        )  # fmt: skip
        _log.log(_LEVELS[level], sendable(text))


class WitWorld:
    """What the component exports."""

    def __init__(self) -> None:
        self._began = False
        if hasattr(sys, "set_int_max_str_digits"):
            sys.set_int_max_str_digits(0)  # integers are exact at any size
        self._streams: list[_Lines] = []

    def handle(self, batch: _Batch) -> _run.Output:
        if not self._began:
            self._begin()
        try:
            return _run.run(_run.handlers[0][1], batch.relations, batch.events)
        except MemoryError:
            # A full instance is no use to the next event: its end has the host begin a new one.
            _log.log(_LEVELS["error"], "MemoryError: the handler ran out of memory")
            raise
        except Retry as error:
            failure = _types.Failure_Retry(one_line(str(error)))
        except Stop as error:
            failure = _types.Failure_Stop(one_line(str(error)))
        finally:
            for stream in self._streams:
                stream.finish()
        raise _Err(failure)

    def _begin(self) -> None:
        # Not before: what is imported at the build shall print to the build.
        self._began = True
        _snapshot.begin()
        set_host(_Host())
        self._streams = [_Lines("info"), _Lines("warn")]
        sys.stdout, sys.stderr = self._streams
        root = logging.getLogger()
        if not root.handlers:
            root.addHandler(_Logging())
            root.setLevel(min(root.level, logging.INFO) if root.level else logging.INFO)


def begin(folders: list[str]) -> None:
    """Begins the build: the project's own modules, which lie in these folders, are imported next."""
    _snapshot.watch(folders)


def ready(module: str) -> None:
    """Ends the build: what was imported until now is part of the component as it is."""
    if (place := _snapshot.drawn()) is not None:
        raise SystemExit(
            f"{place} draws something by chance while its module is imported. That happens once, at the build: every instance would "
            "have the same. Draw it in the handler, or in a function that it calls"
        )
    if len(_run.handlers) != 1:
        names = ", ".join(f"`{name}`" for name, _ in _run.handlers)
        raise SystemExit(
            f"`{module}` has {len(_run.handlers)} handlers ({names}): put `@on_event` before one function only"
            if names
            else f"`{module}` has no handler: put `@on_event` before the function that takes an event and `out`"
        )
    if "pgstream.http" in sys.modules:
        try:
            importlib.import_module("pgstream._requests")
        except ModuleNotFoundError:
            raise SystemExit(
                f"`pgstream.http` is imported, but not in a way in which the build sees it: write `from pgstream import http` in "
                f"a module of the project, such as `{module}`"
            ) from None
    _snapshot.take_along()
    # The thousands of objects of the standard library need not be looked at again by each collection.
    gc.collect()
    gc.freeze()
