"""``Event`` and ``Row``: what happened, with columns by name."""

from __future__ import annotations

import datetime
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal, NamedTuple, TypeAlias

from . import _host
from ._errors import MissingColumn, Reject
from ._json import array
from ._values import CONVERT, JSON_FORM, KINDS, RAW, UNCHANGED, Numeric, Timestamp, float_text

Operation: TypeAlias = Literal["insert", "update", "delete", "truncate"]


class Column:
    """A column of a table."""

    __slots__ = ("name", "type_name", "key")

    def __init__(self, name: str, type_name: str, key: bool) -> None:
        self.name = name
        self.type_name = type_name
        """Postgres' name of the type: ``int8``, ``text``, ``vector``."""
        self.key = key
        """True if the column identifies the row (primary key or replica identity)."""

    def __repr__(self) -> str:
        return f"Column({self.name!r}, {self.type_name!r}, key={self.key})"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Column):
            return NotImplemented
        return (self.name, self.type_name, self.key) == (other.name, other.type_name, other.key)

    def __hash__(self) -> int:
        return hash((self.name, self.type_name, self.key))


class Relation:
    """A table with its columns by name: made once per batch, so that an event only looks them up."""

    __slots__ = ("schema", "table", "columns", "index", "keys", "_prefix")

    def __init__(self, schema: str, table: str, columns: Sequence[Column]) -> None:
        self.schema = schema
        self.table = table
        self.columns = columns
        self.index = {column.name: at for at, column in enumerate(columns)}
        self.keys = [at for at, column in enumerate(columns) if column.key]
        self._prefix: str | None = None

    def prefix(self) -> str:
        """The text that ids begin with. The host is asked once per batch."""
        prefix = self._prefix
        if prefix is None:
            schema = self.schema.replace("~", "~0").replace(".", "~1")
            asked = _host.asked(f"pgstream:id/{schema}.{self.table}")
            prefix = self._prefix = "" if asked is None else f"{asked}:"
        return prefix

    def forget_prefix(self) -> None:
        """For tests, whose tables are used again."""
        self._prefix = None

    def names(self) -> str:
        return ", ".join(f"`{column.name}`" for column in self.columns)


class Position(NamedTuple):
    """The place of an event in the log. Positions rise from event to event."""

    lsn: int
    """LSN of the transaction's commit: unique per transaction."""
    ordinal: int
    """Index of the event within its transaction."""

    def __str__(self) -> str:
        return f"{self.lsn >> 32:X}/{self.lsn & 0xFFFFFFFF:X}#{self.ordinal}"


class Row(Mapping[str, Any]):
    """The values of one row, by the names of their columns.

    ``row["price"]`` is what Python has for the type: ``int``, ``float``, ``bool``, ``str``, ``bytes``, ``Decimal`` for
    numeric, ``datetime`` in UTC for timestamp and timestamptz, ``date``, ``time``, parsed json, a list of floats for a
    vector, ``str`` for uuid and every other type. Null is ``None``; a large column that Postgres did not send is
    :data:`UNCHANGED`.
    """

    __slots__ = ("_relation", "_cells", "_read")

    def __init__(self, relation: Relation, cells: Sequence[Any]) -> None:
        self._relation = relation
        self._cells = cells
        self._read: dict[str, Any] | None = None

    def __getitem__(self, column: str) -> Any:
        try:
            value = self._cells[self._relation.index[column]]
        except (KeyError, IndexError):
            raise self._missing(column) from None
        convert = CONVERT.get(type(value))
        if convert is None:
            return value
        read = self._read
        if read is None:
            read = self._read = {}
        elif column in read:
            return read[column]
        try:
            converted = read[column] = convert(value)
        except ValueError as error:
            raise Reject(f'column `{column}` of {self._name()} is {error}: use `row.raw("{column}")`') from None
        return converted

    def __iter__(self) -> Iterator[str]:
        return (column.name for column, _ in zip(self._relation.columns, self._cells))

    def __len__(self) -> int:
        return len(self._cells)

    def __contains__(self, column: object) -> bool:
        at = self._relation.index.get(column)  # type: ignore[call-overload]
        return at is not None and at < len(self._cells)

    def __repr__(self) -> str:
        cells = zip(self._relation.columns, self._cells)
        return "Row(" + ", ".join(f"{column.name}={value!r}" for column, value in cells) + ")"

    def raw(self, column: str) -> Any:
        """The value as the host sent it: µs since 1970-01-01 UTC of a timestamp (infinity is 2**63-1, -infinity -2**63),
        days since then of a date (2**31-1, -2**31), µs since midnight of a time, text of a numeric and of json. Every
        other value is what ``row[column]`` is."""
        value = self._cell(column)
        raw = RAW.get(type(value))
        return value if raw is None else raw(value)

    def text(self, column: str) -> str:
        """The text of a column, also of a type that travels as text. Refuses the event if it is null, unchanged or
        something else."""
        value = self._cell(column)
        return str(value) if isinstance(value, str) else self._refuse(column, value, "text")

    def integer(self, column: str) -> int:
        """The integer in a column. Refuses the event if it is null, unchanged or something else."""
        value = self._cell(column)
        return value if type(value) is int else self._refuse(column, value, "an integer")

    def number(self, column: str) -> float:
        """The number in a column: integers and numerics too, as near as a float gets. Refuses the event if it is null,
        unchanged or something else."""
        value = self._cell(column)
        return float(value) if type(value) in (int, float, Numeric) else self._refuse(column, value, "a number")

    def boolean(self, column: str) -> bool:
        """The truth value in a column. Refuses the event if it is null, unchanged or something else."""
        value = self._cell(column)
        return value if type(value) is bool else self._refuse(column, value, "a truth value")

    def payload(self, *without: str) -> dict[str, Any]:
        """The row as a payload: every column that was sent, but those named here, as JSON has them. Times are RFC 3339
        text, numerics text with all digits, bytes ``\\x`` and hexadecimal, infinities and not-a-number text."""
        result = {}
        for column, value in zip(self._relation.columns, self._cells):
            if value is UNCHANGED or column.name in without:
                continue
            form = JSON_FORM.get(type(value))
            result[column.name] = value if form is None else form(value)
        return result

    def _cell(self, column: str) -> Any:
        try:
            return self._cells[self._relation.index[column]]
        except (KeyError, IndexError):
            raise self._missing(column) from None

    def _name(self) -> str:
        return f"`{self._relation.schema}.{self._relation.table}`"

    def _missing(self, column: object) -> MissingColumn:
        if not self._cells and column in self._relation.index:
            return MissingColumn(f"the row is empty: a truncate of {self._name()} has none")
        return MissingColumn(f"{self._name()} has no column `{column}`, it has {self._relation.names()}")

    def _refuse(self, column: str, value: Any, wanted: str) -> Any:
        found = KINDS.get(type(value), type(value).__name__)
        raise Reject(f"column `{column}` of {self._name()} is {found}, not {wanted}")


class Event:
    """One committed change of a row."""

    __slots__ = (
        "operation", "_relation", "_row", "_old_row", "lsn", "ordinal", "commit_micros", "xid", "snapshot",
    )  # fmt: skip

    def __init__(
        self,
        operation: Operation,
        relation: Any,
        row: Any,
        old_row: Any,
        lsn: int,
        ordinal: int,
        commit_micros: int,
        xid: int,
        snapshot: bool,
    ) -> None:
        self.operation: Operation = operation
        """The kind of change: ``"insert"``, ``"update"``, ``"delete"`` or ``"truncate"``."""
        # Numbers and lists as the host sent them; `run` puts the relation here, rows are made when they are asked for.
        self._relation = relation
        self._row = row
        self._old_row = old_row
        self.lsn = lsn
        """LSN of the transaction's commit: unique per transaction and rising."""
        self.ordinal = ordinal
        """Index of the event within its transaction."""
        self.commit_micros = commit_micros
        """When the transaction committed, in µs since 1970-01-01 UTC."""
        self.xid = xid
        """The transaction's id."""
        self.snapshot = snapshot
        """True if the row was read by a backfill rather than streamed."""

    def __repr__(self) -> str:
        return f"<Event {self.operation} {self.schema}.{self.table} at {self.position}>"

    @property
    def schema(self) -> str:
        """The table's schema, such as ``public``."""
        schema: str = self._relation.schema
        return schema

    @property
    def table(self) -> str:
        """The table's name."""
        table: str = self._relation.table
        return table

    @property
    def columns(self) -> Sequence[Column]:
        """The table's columns, in the order of a row's values."""
        columns: Sequence[Column] = self._relation.columns
        return columns

    @property
    def row(self) -> Row:
        """The new row; for a delete what the replica identity gives of the old one, which by default is the key. Empty
        for a truncate."""
        row = self._row
        if type(row) is not Row:
            row = self._row = Row(self._relation, row)
        return row

    @property
    def old_row(self) -> Row | None:
        """The old row as far as the replica identity gives it."""
        row = self._old_row
        if row is None:
            return None
        if type(row) is not Row:
            row = self._old_row = Row(self._relation, row)
        return row

    @property
    def id(self) -> str:
        """The id of the row's point, or group of points: its :attr:`key`. Where the pipeline has several tables, the
        table's name stands before it, ``public.documents:7``, so that rows of two tables with equal keys have points of
        their own."""
        prefix: str = self._relation.prefix()
        return prefix + self.key

    @property
    def key(self) -> str:
        """The row's key as text: the primary key's value, or a JSON array of them if it has several columns. Refuses the
        event if the table has none."""
        relation = self._relation
        keys = relation.keys
        if not keys:
            table = f"{relation.schema}.{relation.table}"
            raise Reject(f"`{table}` has no key: `ALTER TABLE {table} ADD PRIMARY KEY (…)`")
        cells = self.row._cells
        if not cells:
            raise Reject(f"a truncate of `{relation.schema}.{relation.table}` has no key")
        if len(keys) > 1:
            return _several([cells[at] for at in keys])
        value = cells[keys[0]]
        kind = type(value)
        if kind is str:
            return str(value)
        if kind is int:
            return int.__repr__(value)
        return _single(_form(value))

    @property
    def position(self) -> Position:
        """The place of the event in the log."""
        return Position(self.lsn, self.ordinal)

    @property
    def commit_time(self) -> datetime.datetime:
        """When the transaction committed, in UTC."""
        moment: datetime.datetime = CONVERT[Timestamp](self.commit_micros)
        return moment

    def unchanged(self, column: str) -> bool:
        """True if the UPDATE left this large column alone, so that Postgres did not send it. Not the same as null. False
        if there is no such column."""
        at = self._relation.index.get(column)
        cells = self.row._cells
        return at is not None and at < len(cells) and cells[at] is UNCHANGED

    def text(self, column: str) -> str:
        """The text of a column of the row; see :meth:`Row.text`."""
        return self.row.text(column)

    def integer(self, column: str) -> int:
        """The integer in a column of the row; see :meth:`Row.integer`."""
        return self.row.integer(column)

    def number(self, column: str) -> float:
        """The number in a column of the row; see :meth:`Row.number`."""
        return self.row.number(column)

    def boolean(self, column: str) -> bool:
        """The truth value in a column of the row; see :meth:`Row.boolean`."""
        return self.row.boolean(column)


def _form(value: Any) -> Any:
    if value is UNCHANGED:
        return None
    form = JSON_FORM.get(type(value))
    return value if form is None else form(value)


def _single(form: Any) -> str:
    if isinstance(form, str):
        return form
    return _text(form)


def _several(cells: list[Any]) -> str:
    return "[" + ",".join(map(_text, map(_form, cells))) + "]"


def _text(form: Any) -> str:
    """JSON in which numbers are written as all handlers write them into ids."""
    if isinstance(form, float):
        return float_text(form)
    if isinstance(form, list):
        return "[" + ",".join(map(_text, form)) + "]"
    if isinstance(form, dict):
        return "{" + ",".join(f"{_text(key)}:{_text(item)}" for key, item in form.items()) + "}"
    return array([form])[1:-1]
