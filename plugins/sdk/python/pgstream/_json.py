"""Payloads: dicts into exact, compact JSON."""

from __future__ import annotations

import datetime
import json
import math
import uuid
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from ._errors import Reject
from ._values import JSON_DEPTH, UNCHANGED, JsonFloat, JsonList, JsonObject, RawJson, bytes_text, datetime_text, decimal_text


def _other(value: Any) -> Any:
    """What `json` does not know by itself."""
    if isinstance(value, Decimal):
        return decimal_text(value)
    if isinstance(value, datetime.datetime):
        if value.tzinfo is None:
            return datetime_text(value)
        return datetime_text(value.astimezone(datetime.timezone.utc).replace(tzinfo=None)) + "Z"
    if isinstance(value, datetime.date):
        return value.isoformat()
    if isinstance(value, datetime.time):
        return datetime_text(value)
    if isinstance(value, (bytes, bytearray, memoryview)):
        return bytes_text(value)
    if isinstance(value, uuid.UUID):
        return str(value)
    if isinstance(value, Mapping):
        form = getattr(value, "payload", None)
        return form() if callable(form) else dict(value)
    if isinstance(value, (set, frozenset)):
        return sorted(value)
    raise TypeError(type(value).__name__)


_encode = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":"), default=_other).encode


def write(payload: Mapping[str, Any] | None) -> str:
    """The payload as the text of a JSON object. What JSON cannot hold is refused, with its place."""
    if payload is None:
        return "{}"
    if not isinstance(payload, Mapping):
        raise Reject("the payload is not a JSON object: give an object, such as `{\"title\": \"…\"}`")
    exact = False
    for item in payload.values():
        if isinstance(item, (dict, list, tuple)):
            if (found := _looked_at(item)) is None:
                raise Reject(f"the payload is nested more than {JSON_DEPTH} deep, or holds itself")
            exact = exact or found
        elif isinstance(item, (JsonFloat, RawJson)) or (type(item) is int and not -_LONG < item < _LONG):
            exact = True
    try:
        plain = payload if type(payload) is dict else _other(payload)
        text = _exact(plain) if exact else _encode(plain)
        if not text.isascii():
            text.encode()
    except (TypeError, ValueError):
        raise Reject(_fault(payload, "the payload", 0) or "the payload cannot be written as JSON") from None
    return text


def array(values: list[Any]) -> str:
    """A JSON array, as all handlers write it into ids."""
    return _encode(values)


# As many digits as the encoder writes without being told.
_LONG = 10**4000


def _looked_at(value: Any) -> bool | None:
    """Whether there is something in it that only `_exact` writes as it was sent. None if the encoder would recurse too far: on a
    stack beyond whose end the whole call is lost, not this event."""
    if isinstance(value, (JsonObject, JsonList)):
        return True
    level = [value]
    exact = False
    for _ in range(JSON_DEPTH):
        below: dict[int, Any] = {}
        for item in level:
            for inner in item.values() if isinstance(item, dict) else item:
                if isinstance(inner, (JsonObject, JsonList, JsonFloat, RawJson)):
                    exact = True
                elif isinstance(inner, (dict, list, tuple)):
                    # Once is enough of what occurs several times, lest a few objects become millions.
                    below[id(inner)] = inner
                elif type(inner) is int and not -_LONG < inner < _LONG:
                    exact = True
        level = list(below.values())
        if not level:
            return exact
    return None


def _exact(value: Any) -> str:
    """As `_encode`, with the text of what was sent and is still the same."""
    if isinstance(value, (JsonObject, JsonList)) and value.untouched():
        return value.sent
    if isinstance(value, JsonFloat):
        return value.text
    if isinstance(value, RawJson):
        return str(value)
    if type(value) is int:
        return str(value) if -_LONG < value < _LONG else str(Decimal(value))
    if isinstance(value, dict):
        return "{" + ",".join(f"{_key(key)}:{_exact(item)}" for key, item in value.items()) + "}"
    if isinstance(value, (list, tuple)):
        return "[" + ",".join(map(_exact, value)) + "]"
    return _encode(value)


def _key(key: Any) -> str:
    """A key as the encoder writes it, numbers and all."""
    return _encode({key: 0})[1:-3]


def _fault(value: Any, place: str, depth: int) -> str | None:
    """What cannot be written, and where; None if it is not in here."""
    if depth > JSON_DEPTH:
        return None
    if value is UNCHANGED:
        return f"{place} is UNCHANGED: leave it out, and answer with `out.patch`"
    if value is None or isinstance(value, (bool, int)):
        return None
    if isinstance(value, (JsonFloat, RawJson)) or (isinstance(value, (JsonObject, JsonList)) and value.untouched()):
        return None
    if isinstance(value, float):
        return None if math.isfinite(value) else f"{place} is {value}, which JSON does not have: give None, or leave it out"
    if isinstance(value, str):
        try:
            value.encode()
        except UnicodeEncodeError:
            return f"{place} holds half a character (a lone surrogate)"
        return None
    if isinstance(value, Mapping):
        for key, item in value.items():
            if not isinstance(key, (str, int, float, bool, type(None))):
                return f"{place} has a key of type {type(key).__name__}: keys are text"
            if (found := _fault(key, f"a key of {place}", depth)) is not None:
                return found
            if (found := _fault(item, f"`{key}` of {place}", depth + 1)) is not None:
                return found
        return None
    if isinstance(value, (list, tuple)):
        for at, item in enumerate(value):
            if (found := _fault(item, f"item {at} of {place}", depth + 1)) is not None:
                return found
        return None
    try:
        _other(value)
    except (TypeError, ValueError):
        return f"{place} is of type {type(value).__name__}, which JSON does not have: make text or numbers of it"
    return None
