"""The loop over a batch that is put around a handler's function."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias, TypeVar

from ._errors import Retry, Stop, one_line, reason
from ._event import Event, Relation
from ._out import Command, Out

OnEvent: TypeAlias = Callable[[Event, Out], None]
OnBatch: TypeAlias = Callable[[list[tuple[Event, Out]]], None]

E = TypeVar("E", bound=OnEvent)
B = TypeVar("B", bound=OnBatch)


class Rejection:
    """The index of an event that is refused, and why."""

    __slots__ = ("event", "reason")

    def __init__(self, event: int, reason: str) -> None:
        self.event = event
        self.reason = reason


class Output:
    """All that was answered to a batch."""

    __slots__ = ("commands", "rejections")

    def __init__(self, commands: list[Command], rejections: list[Rejection]) -> None:
        self.commands = commands
        self.rejections = rejections


Loop: TypeAlias = Callable[[Sequence[Event]], Output]

handlers: list[tuple[str, Loop]] = []
"""What was marked as a handler, in the order in which it was."""


def on_event(function: E) -> E:
    """Makes a function of the form ``def handle(event, out)`` this project's handler. It is called for each event."""
    _register("on_event", function, loop(function))
    return function


def on_batch(function: B) -> B:
    """Makes a function of the form ``def handle(batch)`` this project's handler. It is called once a batch, with a list
    of pairs of an event and its ``out``; it pays where the events have something in common, such as one call of
    ``embed``.

    An exception refuses the event if the batch has one; else the two halves of the batch are tried alone.
    """
    _register("on_batch", function, loop_batch(function))
    return function


def _register(decorator: str, function: Any, around: Loop) -> None:
    if inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function):
        raise TypeError(f"`@{decorator}` takes an ordinary function: leave out `async` and `await`")
    if not callable(function):
        raise TypeError(f"`@{decorator}` stands before a function")
    handlers.append((getattr(function, "__qualname__", repr(function)), around))


def loop(on_event: OnEvent) -> Loop:
    """Calls `on_event` for each event."""

    def run(events: Sequence[Event]) -> Output:
        commands: list[Command] = []
        rejections: list[Rejection] = []
        answered = 0
        for index, event in enumerate(events):
            out = Out(commands, index)
            try:
                on_event(event, out)
                why = None if out._rejected is None else one_line(out._rejected)
            except (Retry, Stop):
                raise
            except BaseException as error:
                why = reason(error)
            if why is None:
                answered = len(commands)
            else:
                del commands[answered:]
                rejections.append(Rejection(index, why))
        return Output(commands, rejections)

    return run


def loop_batch(on_batch: OnBatch) -> Loop:
    """Calls `on_batch` with all events, and with fewer if that fails."""

    def run(events: Sequence[Event]) -> Output:
        output = Output([], [])
        part(events, 0, output)
        return output

    def part(events: Sequence[Event], first: int, output: Output) -> None:
        pairs = [(event, Out([], first + at)) for at, event in enumerate(events)]
        try:
            on_batch(list(pairs))
        except (Retry, Stop):
            raise
        except BaseException as error:
            if len(events) == 1:
                output.rejections.append(Rejection(first, reason(error)))
                return
        else:
            for _, out in pairs:
                if out._rejected is None:
                    output.commands.extend(out._commands)
                else:
                    output.rejections.append(Rejection(out._event, one_line(out._rejected)))
            return
        half = len(events) // 2
        part(events[:half], first, output)
        part(events[half:], first + half, output)

    return run


def run(around: Loop, relations: Sequence[Relation], events: Sequence[Event]) -> Output:
    """Hands the events, whose relations are still numbers, to the handler."""
    for event in events:
        event._relation = relations[event._relation]
    return around(events)
