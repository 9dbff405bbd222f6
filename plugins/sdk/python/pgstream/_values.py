"""The values of columns: how they travel, what Python makes of them, and what they are as JSON.

Most travel as what they are (``str``, ``int``, ``None``). A timestamp, date, time, numeric or json column travels as
the number or text that the host sent, in a subclass that says which it is, and is only converted when it is read: most
handlers look at few columns.
"""

from __future__ import annotations

import datetime
import json
import math
import re
from decimal import Decimal
from typing import Any, Callable, Final, NoReturn, final

_I64_MIN, _I64_MAX = -(2**63), 2**63 - 1
_U64_MAX = 2**64 - 1
_I32_MIN, _I32_MAX = -(2**31), 2**31 - 1
_DAY = 86_400_000_000
_EPOCH = datetime.datetime(1970, 1, 1)
_EPOCH_UTC = datetime.datetime(1970, 1, 1, tzinfo=datetime.timezone.utc)
_EPOCH_DAY = _EPOCH.toordinal()

JSON_DEPTH: Final = 200
"""How deep lists and objects may be nested in each other."""

# A string, so that its brackets do not count, or a bracket.
_MARKS = re.compile(r'"(?:[^"\\]|\\.)*"|[\[\]{}]')


@final
class Unchanged:
    """The type of :data:`UNCHANGED`."""

    __slots__ = ()
    _only: Unchanged | None = None

    def __new__(cls) -> Unchanged:
        if cls._only is None:
            cls._only = super().__new__(cls)
        return cls._only

    def __repr__(self) -> str:
        return "UNCHANGED"

    def __reduce__(self) -> str:
        return "UNCHANGED"

    def __bool__(self) -> NoReturn:
        raise TypeError("UNCHANGED is neither true nor false: ask `value is UNCHANGED`, or `event.unchanged(column)`")

    def __format__(self, spec: str) -> NoReturn:
        raise TypeError("UNCHANGED is no text: Postgres did not send this column, as the UPDATE left it alone")


UNCHANGED: Final = Unchanged()
"""A large column that the UPDATE left alone, so that Postgres did not send it. Not the same as null, which is None."""


class Timestamp(int):
    """µs since 1970-01-01 UTC."""

    __slots__ = ()


class Date(int):
    """Days since 1970-01-01."""

    __slots__ = ()


class Time(int):
    """µs since midnight."""

    __slots__ = ()


class Numeric(str):
    """Exact decimal text."""

    __slots__ = ()


class Json(str):
    """JSON text."""

    __slots__ = ()


def _to_datetime(value: int) -> datetime.datetime:
    try:
        return _EPOCH_UTC + datetime.timedelta(microseconds=value)
    except OverflowError:
        raise ValueError(f"{timestamp_text(value)}, which a datetime cannot hold") from None


def _to_date(value: int) -> datetime.date:
    try:
        return datetime.date.fromordinal(value + _EPOCH_DAY)
    except (OverflowError, ValueError):
        raise ValueError(f"{date_text(value)}, which a date cannot hold") from None


def _to_time(value: int) -> datetime.time:
    if not 0 <= value < _DAY:
        raise ValueError(f"{time_text(value)}, which a time cannot hold")
    seconds, micros = divmod(value, 1_000_000)
    return datetime.time(seconds // 3600, seconds // 60 % 60, seconds % 60, micros)


def _to_decimal(value: str) -> Decimal:
    return Decimal(str(value))


class JsonFloat(float):
    """A number of json whose digits no float holds: a payload has them all."""

    __slots__ = ("text",)
    text: str


class _Sent:
    """What was read of json text that Python does not write as it was sent."""

    __slots__ = ()
    sent: str

    def untouched(self) -> bool:
        """Whether it is what was sent still."""
        return _same(self, _read_json(self.sent))


def _same(one: Any, other: Any) -> bool:
    """Whether both are the same to the last member and its type: `True == 1`, but not here."""
    if isinstance(one, dict):
        return isinstance(other, dict) and list(one) == list(other) and all(map(_same, one.values(), other.values()))
    if isinstance(one, list):
        return isinstance(other, list) and len(one) == len(other) and all(map(_same, one, other))
    if isinstance(one, JsonFloat):
        return isinstance(other, JsonFloat) and one.text == other.text
    return type(one) is type(other) and bool(one == other)


class JsonObject(_Sent, dict[str, Any]):
    """An object of a json column, and its text."""

    __slots__ = ("sent",)


class JsonList(_Sent, list[Any]):
    """An array of a json column, and its text."""

    __slots__ = ("sent",)


class RawJson(str):
    """JSON that is nested too deep to be read: its text, which goes into a payload as it is."""

    __slots__ = ()


def _from_json(value: str) -> Any:
    text = str(value)
    if _too_deep(text):
        return RawJson(text)
    if _ODD.search(text) is None:
        return json.loads(text)
    read = _read_json(text)
    if type(read) is dict:
        read = JsonObject(read)
    elif type(read) is list:
        read = JsonList(read)
    else:
        return read
    read.sent = text
    return read


def _read_json(text: str) -> Any:
    return json.loads(text, parse_float=_json_float, parse_int=_json_int)


# Numbers that may not fit and characters that UTF-8 may not have: only then is it worth to look at each of them.
_ODD = re.compile(r"[0-9.]{17}|[0-9][eE][+-]?[0-9]{3}|\\u[dD][89a-fA-F]")


def _json_int(digits: str) -> int:
    try:
        return int(digits)
    except ValueError:  # of more digits than Python reads at once
        return int(Decimal(digits))


def _json_float(digits: str) -> float:
    value = float(digits)
    if math.isfinite(value) and Decimal(digits) == Decimal(repr(value)):
        return value
    exact = JsonFloat(value)
    exact.text = digits
    return exact


def _too_deep(text: str) -> bool:
    """Whether the parser, which recurses on a stack that the host limits, could come to its end: then the whole call is lost,
    not this event."""
    if text.count("[") + text.count("{") <= JSON_DEPTH:
        return False
    depth = 0
    for mark in _MARKS.finditer(text):
        depth += {"[": 1, "{": 1, "]": -1, "}": -1}.get(mark[0], 0)
        if depth > JSON_DEPTH:
            return True
    return False


CONVERT: Final[dict[type, Callable[[Any], Any]]] = {
    Timestamp: _to_datetime,
    Date: _to_date,
    Time: _to_time,
    Numeric: _to_decimal,
    Json: _from_json,
}
"""What makes Python's own types of those that travel as something else."""

RAW: Final[dict[type, Callable[[Any], Any]]] = {Timestamp: int, Date: int, Time: int, Numeric: str, Json: str}


def timestamp_text(micros: int) -> str:
    """RFC 3339 in UTC: ``2026-05-01T12:00:00.5Z``; ``infinity`` and ``-infinity`` as Postgres writes them."""
    if micros == _I64_MAX:
        return "infinity"
    if micros == _I64_MIN:
        return "-infinity"
    try:
        return datetime_text(_EPOCH + datetime.timedelta(microseconds=micros)) + "Z"
    except OverflowError:
        days, rest = divmod(micros, _DAY)
        return f"{_day_text(days)}T{time_text(rest)}Z"


def datetime_text(moment: datetime.datetime | datetime.time) -> str:
    """ISO 8601 with as many digits of a second as are not zero; for what has no time zone."""
    text = moment.isoformat()
    return text.rstrip("0") if moment.microsecond else text


def date_text(days: int) -> str:
    """``2026-05-01``; years beyond 9999 with a plus, before year 0 with a minus, as ISO 8601 has it."""
    if days == _I32_MAX:
        return "infinity"
    if days == _I32_MIN:
        return "-infinity"
    try:
        return datetime.date.fromordinal(days + _EPOCH_DAY).isoformat()
    except (OverflowError, ValueError):
        return _day_text(days)


def time_text(micros: int) -> str:
    """``12:00:00``, with as many digits of a second as are not zero."""
    seconds, micros = divmod(micros, 1_000_000)
    text = f"{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}"
    return f"{text}.{micros:06}".rstrip("0") if micros else text


def _day_text(days: int) -> str:
    # The calendar repeats every 400 years: look at a year that `date` knows, and count back.
    cycles, day = divmod(days + _EPOCH_DAY - 1, 146_097)
    known = datetime.date.fromordinal(day + 1)
    year = known.year + 400 * cycles
    shown = f"{year:04}" if 0 <= year <= 9999 else f"{year:+05}"
    return f"{shown}-{known.month:02}-{known.day:02}"


def decimal_text(value: Decimal) -> str:
    """All digits, never an exponent; ``NaN`` and the infinities as Postgres writes them."""
    return format(value, "f")


def bytes_text(value: bytes | bytearray | memoryview) -> str:
    """Postgres' own form: ``\\x00ff``."""
    return "\\x" + value.hex()


def _float_form(value: float) -> float | str:
    if math.isfinite(value):
        return value
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"


def _json_form(text: str) -> Any:
    """The parsed JSON; the text itself, to be written as it is, where a payload has no place for what was parsed."""
    read = _from_json(text)
    if isinstance(read, str) and not isinstance(read, RawJson):
        try:
            read.encode()
        except UnicodeEncodeError:  # half a character
            return RawJson(text)
    return read


JSON_FORM: Final[dict[type, Callable[[Any], Any]]] = {
    float: _float_form,
    Timestamp: timestamp_text,
    Date: date_text,
    Time: time_text,
    Numeric: str,
    Json: _json_form,
    bytes: bytes_text,
}
"""What makes JSON of those that are not JSON already."""


def float_text(value: float) -> str:
    """The shortest text that is this number, in the form in which all handlers write numbers into ids."""
    text = repr(value)
    digits, e, exponent = text.partition("e")
    if not e:
        return text
    if exponent == "-05":
        whole, _, rest = digits.lstrip("-").partition(".")
        return f"{'-' if value < 0 else ''}0.0000{whole}{'' if rest == '0' else rest}"
    return f"{digits}e{int(exponent)}"


KINDS: Final[dict[type, str]] = {
    type(None): "null",
    Unchanged: "unchanged (not sent, as the UPDATE left it alone)",
    bool: "a truth value",
    int: "an integer",
    float: "a float",
    Numeric: "a numeric",
    str: "text",
    bytes: "bytes",
    Timestamp: "a timestamp",
    Date: "a date",
    Time: "a time",
    Json: "JSON",
    list: "a vector",
}
"""What a value is, in words."""
