"""``Out``: the answers of a handler. Mistakes that the host would stop the pipeline for refuse the one event here, in the
host's words: ``plugins/sdk/breaches.json`` has them all."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from math import isfinite
from typing import Any, TypeAlias

from ._errors import Reject, Stop
from ._json import write
from ._values import UNCHANGED

_ID_BYTES = 1024
_VECTOR_NAME_BYTES = 63
_U32 = 2**32
_F32_MAX = 3.4028235677973366e38
"""Half of what follows the largest finite number of 32 bits: from here on it is rounded to infinity."""


class Text:
    """Text that the host turns into a vector; made by :func:`text`."""

    __slots__ = ("value",)

    def __init__(self, value: str) -> None:
        self.value = value

    def __repr__(self) -> str:
        return f"text({self.value!r})"

    def __eq__(self, other: object) -> bool:
        return self.value == other.value if isinstance(other, Text) else NotImplemented

    def __hash__(self) -> int:
        return hash(self.value)


class Dense:
    """A vector, checked."""

    __slots__ = ("value",)

    def __init__(self, value: list[float]) -> None:
        self.value = value


class Sparse:
    """A sparse vector: rising indices, and as many values."""

    __slots__ = ("indices", "values")

    def __init__(self, indices: Iterable[int], values: Iterable[float]) -> None:
        self.indices = list(indices)
        self.values = list(map(float, values))

    @property
    def value(self) -> Sparse:
        return self

    def __repr__(self) -> str:
        return f"Sparse({self.indices!r}, {self.values!r})"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Sparse):
            return NotImplemented
        return self.indices == other.indices and self.values == other.values

    __hash__ = None  # type: ignore[assignment]


Embedding: TypeAlias = Text | Sequence[float] | Sparse
"""Something that becomes a vector: :func:`text`, numbers, or :class:`Sparse`."""

Embeddings: TypeAlias = Embedding | Mapping[str, Embedding] | None
"""One embedding, several by the names of their vectors, or none."""


def text(value: str) -> Text:
    """Text that the host turns into a vector: with the embedder that is named as the vector is, or else with the
    transform's first. The vector never comes here."""
    if not isinstance(value, str):
        if value is UNCHANGED:
            raise Reject("UNCHANGED cannot be embedded: answer with `out.patch`, so that the vector stays")
        raise Reject(f"what is to be embedded is {_kind(value)}, not text")
    return Text(utf8(value, "the text to be embedded"))


class Point:
    """A point: an id, its vectors and a payload. ``embedding`` and ``payload`` are those of :meth:`Out.upsert`."""

    __slots__ = ("id", "embeddings", "payload")

    def __init__(self, id: object, embedding: Embeddings = None, payload: Mapping[str, Any] | None = None) -> None:
        self.id: str = name(id, "id")
        # One vector, made from text, is what almost every point has.
        self.embeddings: list[tuple[str, Text | Dense | Sparse]] = (
            [("", embedding)] if type(embedding) is Text and embedding.value else _embeddings(embedding)
        )
        self.payload: str = write(payload)

    def __repr__(self) -> str:
        return f"Point({self.id!r}, {dict(self.embeddings)!r}, {self.payload})"


class Upsert:
    __slots__ = ("value",)

    def __init__(self, value: Point) -> None:
        self.value = value


class Patch:
    __slots__ = ("value",)

    def __init__(self, value: tuple[str, str]) -> None:
        self.value = value


class Replace:
    __slots__ = ("value",)

    def __init__(self, value: tuple[str, list[Point]]) -> None:
        self.value = value


class PatchGroup:
    __slots__ = ("value",)

    def __init__(self, value: tuple[str, str]) -> None:
        self.value = value


class Delete:
    __slots__ = ("value",)

    def __init__(self, value: str) -> None:
        self.value = value


class DeleteGroup:
    __slots__ = ("value",)

    def __init__(self, value: str) -> None:
        self.value = value


class Clear:
    __slots__ = ()


Action: TypeAlias = Upsert | Patch | Replace | PatchGroup | Delete | DeleteGroup | Clear


class Command:
    """An action, and the index of the event that it answers."""

    __slots__ = ("event", "action")

    def __init__(self, event: int, action: Action) -> None:
        self.event = event
        self.action = action


class _Over(list[Command]):
    """Takes the place of the answers to an event that is over: what came now would be lost, or another event's."""

    used = False

    def append(self, command: Command) -> None:
        self.used = True
        raise self.error()

    def error(self) -> Stop:
        return Stop(
            "`out` was used after its event was over, so that the answer would have been lost: answer before the handler's "
            "function returns, and keep no `out` for later"
        )


OVER = _Over()


class Out:
    """Takes a handler's answers to one event, in the order in which they are to be applied."""

    __slots__ = ("_commands", "_event", "_rejected")

    def __init__(self, commands: list[Command], event: int) -> None:
        self._commands = commands
        self._event = event
        self._rejected: str | None = None

    def upsert(self, id: object, embedding: Embeddings = None, payload: Mapping[str, Any] | None = None) -> None:
        """Writes a point whole: what was stored under this id is gone.

        ``embedding`` is :func:`text` that the host embeds, a list of floats, :class:`Sparse`, several of them by name
        (``{"title": …, "content": …}``), or None. ``payload`` is a dict of what JSON has; a ``Decimal`` becomes text with
        all its digits, a ``datetime`` RFC 3339.
        """
        self._commands.append(Command(self._event, Upsert(Point(id, embedding, payload))))

    def patch(self, id: object, payload: Mapping[str, Any]) -> None:
        """Overwrites these keys of a point's payload. Its vectors and its other keys stay."""
        self._commands.append(Command(self._event, Patch((name(id, "id"), write(payload)))))

    def replace(self, group: object, points: Iterable[Point]) -> None:
        """Makes these the only points of a group, such as the chunks of one document: those that were there and are not
        among them go."""
        points = list(points)
        group = name(group, "group")
        seen = set()
        for at, point in enumerate(points):
            if not isinstance(point, Point):
                raise Reject(f"point {at} of a group is {_kind(point)}, not a Point")
            if point.id in seen:
                raise Reject(f"point {at} has the id of an earlier one: give each point of the group its own id")
            seen.add(point.id)
        self._commands.append(Command(self._event, Replace((group, points))))

    def patch_group(self, group: object, payload: Mapping[str, Any]) -> None:
        """Overwrites these keys of the payload of every point of a group. Vectors and other keys stay."""
        self._commands.append(Command(self._event, PatchGroup((name(group, "group"), write(payload)))))

    def delete(self, id: object) -> None:
        """Removes a point."""
        self._commands.append(Command(self._event, Delete(name(id, "id"))))

    def delete_group(self, group: object) -> None:
        """Removes every point of a group."""
        self._commands.append(Command(self._event, DeleteGroup(name(group, "group"))))

    def clear(self) -> None:
        """Removes every point of the sink's collection or table."""
        self._commands.append(Command(self._event, Clear()))

    def reject(self, reason: object) -> None:
        """Refuses the event: whatever was answered to it is forgotten, and it goes to the transform's ``.rejected``
        output."""
        if self._commands is OVER:
            raise OVER.error()
        self._rejected = str(reason)


def name(value: object, kind: str) -> str:
    """An id or a group as text, checked."""
    if type(value) is int:
        return int.__repr__(value)
    if not isinstance(value, str):
        if value is None or value is UNCHANGED or isinstance(value, (bytes, bytearray, bool, list, tuple, dict, set)):
            raise Reject(f"the {kind} is {_kind(value)}: give text or a number")
        value = str(value)
    if not value:
        raise Reject(f"the {kind} is empty: use the row's key")
    size = len(value) if value.isascii() else len(utf8(value, f"the {kind}").encode())
    if size > _ID_BYTES:
        raise Reject(f"the {kind} has {size} bytes, at most {_ID_BYTES} are allowed: use a hash of it")
    if "\0" in value:
        raise Reject(f"the {kind} holds a NUL character: put another character between its parts")
    return str(value)


def utf8(value: str, what: str) -> str:
    """The text, if it can be sent. A lone surrogate, as JSON may bring, cannot."""
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError:
            raise Reject(f"{what} holds half a character (a lone surrogate)") from None
    return str(value)


def _embeddings(given: Embeddings) -> list[tuple[str, Text | Dense | Sparse]]:
    if given is None:
        return []
    if not isinstance(given, Mapping):
        return [("", _embedding("", given))]
    return [(_vector_name(vector), _embedding(vector, embedding)) for vector, embedding in given.items()]


def _vector_name(vector: object) -> str:
    if not isinstance(vector, str):
        raise Reject(f"the name of a vector is {_kind(vector)}, not text")
    size = len(utf8(vector, "the name of a vector").encode())
    if size > _VECTOR_NAME_BYTES or any(char < " " or "\x7f" <= char <= "\x9f" for char in vector):
        raise Reject(
            f"the name of a vector is longer than {_VECTOR_NAME_BYTES} bytes or has control characters: "
            "name vectors as the sink's `create.vectors` does"
        )
    return str(vector)


def _embedding(vector: str, given: Any) -> Text | Dense | Sparse:
    if isinstance(given, Text):
        if not given.value:
            raise _wrong(vector, "is to be made from empty text: leave the vector out where there is no text")
        return given
    if isinstance(given, Sparse):
        _check_sparse(vector, given)
        return given
    if isinstance(given, (str, bytes, bytearray)) or not isinstance(given, Iterable):
        help = ": write `text(…)` to have it embedded" if isinstance(given, str) else ", not text or numbers"
        raise _wrong(vector, f"is {_kind(given)}{help}")
    try:
        values = list(map(float, given))
    except (TypeError, ValueError):
        raise _wrong(vector, "has something in it that is no number") from None
    if not values:
        raise _wrong(vector, "has no numbers: leave the vector out, or give all its numbers")
    _check_finite(vector, values)
    return Dense(values)


def _check_sparse(vector: str, sparse: Sparse) -> None:
    sizes = (len(sparse.indices), len(sparse.values))
    if sizes[0] != sizes[1]:
        raise _wrong(vector, f"has {sizes[0]} indices and {sizes[1]} values: give one index for each value")
    before = -1
    for at, index in enumerate(sparse.indices):
        if type(index) is not int or not 0 <= index < _U32:
            raise _wrong(vector, "has an index that is not a whole number of 32 bits")
        if index <= before:
            raise _wrong(vector, f"has indices that do not rise at place {at}: sort the indices and name each once")
        before = index
    _check_finite(vector, sparse.values)


def _check_finite(vector: str, values: list[float]) -> None:
    """Refuses what is not finite once it is 32 bits wide."""
    if values and all(map(isfinite, values)) and -_F32_MAX < min(values) and max(values) < _F32_MAX:
        return
    for at, value in enumerate(values):
        if not -_F32_MAX < value < _F32_MAX:
            raise _wrong(vector, f"has a number at place {at} that is not finite: look for a division by zero")


def _wrong(vector: str, what: str) -> Reject:
    return Reject(f"vector `{vector}` {what}" if vector else f"the default vector {what}")


def _kind(value: object) -> str:
    return repr(value) if value is None or value is UNCHANGED else f"of type {type(value).__name__}"
