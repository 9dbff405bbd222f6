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
from ._values import JSON_DEPTH, UNCHANGED, bytes_text, datetime_text, decimal_text


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
        raise Reject(f"the payload is a {type(payload).__name__}, not a dict")
    for item in payload.values():
        if isinstance(item, (dict, list, tuple)) and _too_deep(item):
            raise Reject(f"the payload is nested more than {JSON_DEPTH} deep, or holds itself")
    try:
        text = _encode(payload if type(payload) is dict else _other(payload))
        if not text.isascii():
            text.encode()
    except (TypeError, ValueError):
        raise Reject(_fault(payload, "the payload", 0) or "the payload cannot be written as JSON") from None
    return text


def array(values: list[Any]) -> str:
    """A JSON array, as all handlers write it into ids."""
    return _encode(values)


def _too_deep(value: Any) -> bool:
    """Whether the encoder would recurse too far: on a stack beyond whose end the whole call is lost, not this event."""
    level = [value]
    for _ in range(JSON_DEPTH):
        below: list[Any] = []
        for item in level:
            below.extend(item.values() if isinstance(item, dict) else item)
        # Once is enough of what occurs several times, lest a few objects become millions.
        level = list({id(item): item for item in below if isinstance(item, (dict, list, tuple))}.values())
        if not level:
            return False
    return True


def _fault(value: Any, place: str, depth: int) -> str | None:
    """What cannot be written, and where; None if it is not in here."""
    if depth > JSON_DEPTH:
        return None
    if value is UNCHANGED:
        return f"{place} is UNCHANGED: leave it out, and answer with `out.patch`"
    if value is None or isinstance(value, (bool, int)):
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
