"""Tests of a handler without WebAssembly: made-up events in, commands out.

::

    from pgstream.testing import Delete, Harness, Table
    from handler import handle

    documents = Table("public.documents", {"id": "int8", "content": "text"}, key=["id"])

    def test_a_deleted_row_takes_its_point_along():
        answer = Harness(handle).run([documents.delete(id=7)])
        assert answer.actions == [Delete("7")]
"""

from __future__ import annotations

import datetime
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, TypeAlias

from . import _out, _run, _values
from ._errors import Stop
from ._event import Column, Event, Operation, Relation
from ._host import Level, set_host
from ._out import Out, Sparse
from ._values import Unchanged
from .http import Request, Response, set_sender

__all__ = [
    "Action", "Answer", "Change", "Clear", "Delete", "DeleteGroup", "Harness", "Patch", "PatchGroup", "Point", "Replace",
    "Table", "Upsert",
]  # fmt: skip

_UTC = datetime.timezone.utc
_MICRO = datetime.timedelta(microseconds=1)
_INFINITIES = {"infinity": 1, "-infinity": -1}


@dataclass(frozen=True)
class Change:
    """An event that has been made up; a :class:`Table` makes them."""

    table: Table
    operation: Operation
    row: Sequence[Any]
    old_row: Sequence[Any] | None


class Table:
    """A table, to make events of: ``Table("public.documents", {"id": "int8", "content": "text"}, key=["id"])``."""

    def __init__(self, name: str, columns: Mapping[str, str], key: Iterable[str] = ("id",)) -> None:
        schema, dot, table = name.partition(".")
        keys = list(key)
        self._relation = Relation(
            schema if dot else "public",
            table if dot else name,
            [Column(column, type_name, column in keys) for column, type_name in columns.items()],
        )
        for column in keys:
            self._known(column)

    def insert(self, row: Mapping[str, Any] | None = None, /, **values: Any) -> Change:
        """A new row. Columns that are not named are null. A str is taken as Postgres' text where the type is no text:
        ``"infinity"`` for a timestamp, ``"1.50"`` for a numeric."""
        return self._change("insert", row, values, None)

    def update(
        self, row: Mapping[str, Any] | None = None, /, *, old: Mapping[str, Any] | None = None, **values: Any
    ) -> Change:
        """A changed row; ``old`` is the old one, as replica identity FULL gives it."""
        return self._change("update", row, values, old)

    def delete(
        self, row: Mapping[str, Any] | None = None, /, *, old: Mapping[str, Any] | None = None, **values: Any
    ) -> Change:
        """A row that is gone; by default only its key is known, the other values are null."""
        return self._change("delete", row, values, old)

    def truncate(self) -> Change:
        """The table was emptied."""
        return Change(self, "truncate", [], None)

    def _change(
        self, operation: Operation, row: Mapping[str, Any] | None, values: dict[str, Any], old: Mapping[str, Any] | None
    ) -> Change:
        cells = self._cells({**(row or {}), **values})
        return Change(self, operation, cells, None if old is None else self._cells(old))

    def _cells(self, row: Mapping[str, Any]) -> list[Any]:
        for column in row:
            self._known(column)
        return [_cell(column, row.get(column.name)) for column in self._relation.columns]

    def _known(self, column: str) -> None:
        if column not in self._relation.index:
            raise ValueError(f"the table has no column `{column}`, it has {self._relation.names()}")


@dataclass(frozen=True)
class Point:
    """A point of an answer: an id, what its vectors are made of by their names, and the payload."""

    id: str
    embeddings: Mapping[str, str | list[float] | Sparse] = field(default_factory=dict)
    payload: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Upsert:
    """A point that is written whole."""

    id: str
    embeddings: Mapping[str, str | list[float] | Sparse] = field(default_factory=dict)
    payload: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Patch:
    """Keys of a point's payload that are overwritten."""

    id: str
    payload: Mapping[str, Any]


@dataclass(frozen=True)
class Replace:
    """All points of a group."""

    group: str
    points: Sequence[Point]


@dataclass(frozen=True)
class PatchGroup:
    """Keys of the payload of each point of a group that are overwritten."""

    group: str
    payload: Mapping[str, Any]


@dataclass(frozen=True)
class Delete:
    """A point that is removed."""

    id: str


@dataclass(frozen=True)
class DeleteGroup:
    """A group that is removed."""

    group: str


@dataclass(frozen=True)
class Clear:
    """Every point is removed."""


Action: TypeAlias = Upsert | Patch | Replace | PatchGroup | Delete | DeleteGroup | Clear


@dataclass(frozen=True)
class Answer:
    """The answers of a handler to a batch."""

    commands: Sequence[tuple[int, Action]]
    """Each with the index of the event that it answers."""
    rejected: Mapping[int, str]
    """The reasons, by the indices of the events that were refused."""
    logged: Sequence[tuple[Level, str]]
    """Lines that the handler logged; ``print`` and ``logging`` do as they do anywhere."""

    @property
    def actions(self) -> list[Action]:
        """The actions that are to be done, if no event was refused; else it says which was, as an ``AssertionError``."""
        assert not self.rejected, f"rejected: {dict(self.rejected)}"
        return [action for _, action in self.commands]


class Harness:
    """A handler with a made-up host around it. ``handler`` is what stands behind ``@on_event``; what stands behind
    ``@on_batch`` goes to :meth:`of_batches`."""

    def __init__(self, handler: Callable[[Event, Out], None]) -> None:
        self._loop = _run.loop(handler)
        self._config: dict[str, str] = {}
        self._embedders: dict[str, Callable[[str], Sequence[float]]] = {}
        self._http: Callable[[Request], Response] | None = None

    @classmethod
    def of_batches(cls, handler: _run.OnBatch) -> Harness:
        """A harness around a function that takes a batch."""
        harness = cls(lambda event, out: None)
        harness._loop = _run.loop_batch(handler)
        return harness

    def config(self, key: str, value: str) -> Harness:
        """Sets a value that the handler reads with :func:`pgstream.config`."""
        self._config[key] = value
        return self

    def several_tables(self, table: str) -> Harness:
        """Has ids of the rows of a table, ``public.documents``, begin with its name, as the host does where a pipeline
        has several tables."""
        return self.config(f"pgstream:id/{table}", table)

    def embedder(self, name: str, model: Callable[[str], Sequence[float]]) -> Harness:
        """Adds an embedder that the handler reaches with :func:`pgstream.embed`."""
        self._embedders[name] = model
        return self

    def http(self, answer: Callable[[Request], Response]) -> Harness:
        """Answers the requests that the handler sends with :mod:`pgstream.http`."""
        self._http = answer
        return self

    def run(self, changes: Iterable[Change]) -> Answer:
        """Hands the events to the handler as one batch. ``Retry`` and ``Stop`` come out as they are."""
        relations: list[Relation] = []
        events: list[Event] = []
        for ordinal, change in enumerate(changes):
            relation = change.table._relation
            relation.forget_prefix()
            if relation not in relations:
                relations.append(relation)
            event = Event(
                change.operation, relations.index(relation), list(change.row),
                None if change.old_row is None else list(change.old_row),
                0x1000, ordinal, 0, 1, False,
            )  # fmt: skip
            events.append(event)
        host = _World(self._config, self._embedders)
        before = set_host(host)
        sender = set_sender(self._http) if self._http is not None else None
        try:
            output = _run.run(self._loop, relations, events)
        finally:
            set_host(before)
            if sender is not None:
                set_sender(sender)
        return Answer(
            [(command.event, _shown(command.action)) for command in output.commands],
            {rejection.event: rejection.reason for rejection in output.rejections},
            host.logged,
        )


class _World:
    """The host's side."""

    def __init__(self, config: dict[str, str], embedders: dict[str, Callable[[str], Sequence[float]]]) -> None:
        self._config = config
        self._embedders = embedders
        self.logged: list[tuple[Level, str]] = []

    def config(self, key: str) -> str | None:
        return self._config.get(key)

    def asked(self, key: str) -> str | None:
        return self._config.get(key)

    def embed(self, embedder: str, texts: list[str]) -> list[list[float]]:
        if embedder not in self._embedders:
            raise Stop(f"no embedder `{embedder}`")
        return [list(map(float, self._embedders[embedder](text))) for text in texts]

    def log(self, level: Level, message: str) -> None:
        self.logged.append((level, message))


def _shown(action: _out.Action) -> Action:
    match action:
        case _out.Upsert(value=point):
            return Upsert(*_parts(point))
        case _out.Patch(value=(id, payload)):
            return Patch(id, json.loads(payload))
        case _out.Replace(value=(group, points)):
            return Replace(group, [Point(*_parts(point)) for point in points])
        case _out.PatchGroup(value=(group, payload)):
            return PatchGroup(group, json.loads(payload))
        case _out.Delete(value=id):
            return Delete(id)
        case _out.DeleteGroup(value=group):
            return DeleteGroup(group)
        case _out.Clear():
            return Clear()


def _parts(point: _out.Point) -> tuple[str, dict[str, Any], dict[str, Any]]:
    return point.id, {name: embedding.value for name, embedding in point.embeddings}, json.loads(point.payload)


def _cell(column: Column, value: Any) -> Any:
    """The value as the host would send it."""
    kind = column.type_name
    if value is None or isinstance(value, (Unchanged, bool, bytes)):
        return value
    if kind in ("timestamp", "timestamptz"):
        return _values.Timestamp(_moment(value))
    if kind == "date":
        if isinstance(value, str) and value in _INFINITIES:
            return _values.Date(2**31 - 1 if _INFINITIES[value] > 0 else -(2**31))
        day = datetime.date.fromisoformat(value) if isinstance(value, str) else value
        if isinstance(day, datetime.date):
            day = day.toordinal() - datetime.date(1970, 1, 1).toordinal()
        return _values.Date(day)
    if kind == "time":
        clock = datetime.time.fromisoformat(value) if isinstance(value, str) else value
        if isinstance(clock, datetime.time):
            seconds = clock.hour * 3600 + clock.minute * 60 + clock.second
            clock = seconds * 1_000_000 + clock.microsecond
        return _values.Time(clock)
    if kind == "numeric":
        return _values.Numeric(_values.decimal_text(value if isinstance(value, Decimal) else Decimal(str(value))))
    if kind in ("json", "jsonb") or kind.startswith("_"):
        return _values.Json(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False))
    if kind in ("vector", "halfvec"):
        return list(map(float, value))
    if kind in ("float4", "float8"):
        return float(value)
    if isinstance(value, (int, float)):
        return value
    return str(value)


def _moment(value: Any) -> int:
    if isinstance(value, str):
        if value in _INFINITIES:
            return 2**63 - 1 if _INFINITIES[value] > 0 else -(2**63)
        value = datetime.datetime.fromisoformat(value.replace("Z", "+00:00"))
    if isinstance(value, datetime.datetime):
        if value.tzinfo is None:
            value = value.replace(tzinfo=_UTC)
        micros: int = (value - datetime.datetime(1970, 1, 1, tzinfo=_UTC)) // _MICRO
        return micros
    return int(value)
