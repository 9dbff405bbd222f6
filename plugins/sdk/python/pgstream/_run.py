"""The loop over a batch that is put around a handler's function."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias, TypeVar

from . import _coroutines
from ._errors import Retry, Stop, one_line, reason
from ._event import Event, Relation
from ._out import OVER, Command, Out

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
"""Functions that were marked as handlers, in the order in which they were."""


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
    if not callable(function):
        raise TypeError(f"`@{decorator}` stands before a function")
    for form in (function, getattr(function, "__call__", None)):
        if inspect.iscoroutinefunction(form) or inspect.isasyncgenfunction(form):
            raise TypeError(f"`@{decorator}` takes an ordinary function: leave out `async` and `await`")
        if inspect.isgeneratorfunction(form):
            raise TypeError(f"`@{decorator}` takes an ordinary function: leave out `yield`, and answer with `out`")
    handlers.append((_name(function), around))


def _name(function: Any) -> str:
    return str(getattr(function, "__qualname__", type(function).__name__))


def _nothing(function: Any, answer: Any) -> None:
    """Answers are given by calling ``out``: what is returned would be lost. What is false or true comes of a last line such
    as ``return seen and out.delete(key)``, and says nothing."""
    if answer is None or isinstance(answer, bool) or (isinstance(answer, (int, float, str)) and not answer):
        return
    name = _name(function)
    if inspect.isawaitable(answer):
        if inspect.iscoroutine(answer):
            answer.close()
        raise Stop(
            f"`{name}` returned a {type(answer).__name__}, of which nothing ran: write `def` instead of `async def`, here and in "
            "what it calls, and leave out `await`"
        )
    if inspect.isgenerator(answer) or inspect.isasyncgen(answer):
        raise Stop(f"`{name}` returned a generator, of which nothing ran: leave out `yield`, and answer with `out`")
    raise Stop(
        f"`{name}` returned an object of type {type(answer).__name__}: answers are given with `out.upsert(…)`, "
        "`out.delete(…)` and so on, and nothing is returned"
    )


def _settle() -> None:
    """Stops if something was asked for in a way in which it is lost."""
    if OVER.used:
        OVER.used = False
        raise OVER.error()
    if (name := _coroutines.take()) is not None:
        raise Stop(
            f"`{name}` is `async def`, and nobody awaited it: nothing of it ran. Write `def`: a handler and all that it calls are "
            "ordinary functions"
        )


def loop(on_event: OnEvent) -> Loop:
    """Calls `on_event` for each event."""

    def run(events: Sequence[Event]) -> Output:
        commands: list[Command] = []
        rejections: list[Rejection] = []
        answered = 0
        for index, event in enumerate(events):
            out = Out(commands, index)
            try:
                answer: Any = on_event(event, out)  # type: ignore[func-returns-value]
                if answer is not None:
                    _nothing(on_event, answer)
                why = None if out._rejected is None else one_line(out._rejected)
            except (Retry, Stop, MemoryError):
                raise
            except BaseException as error:
                why = reason(error)
            out._commands = OVER
            if OVER.used or _coroutines.lost:
                _settle()
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
        taken = None
        try:
            answer: Any = on_batch(list(pairs))  # type: ignore[func-returns-value]
            _nothing(on_batch, answer)
            del answer
            taken = [out._commands for _, out in pairs]
        except (Retry, Stop, MemoryError):
            raise
        except BaseException as error:
            why = reason(error)
        for _, out in pairs:
            out._commands = OVER
        _settle()
        if taken is None and len(events) == 1:
            output.rejections.append(Rejection(first, why))
            return
        if taken is not None:
            for (_, out), commands in zip(pairs, taken):
                if out._rejected is None:
                    output.commands.extend(commands)
                else:
                    output.rejections.append(Rejection(out._event, one_line(out._rejected)))
            return
        half = len(events) // 2
        part(events[:half], first, output)
        part(events[half:], first + half, output)

    return run


def run(around: Loop, relations: Sequence[Relation], events: Sequence[Event]) -> Output:
    """Hands the events, whose relations are still numbers, to the handler."""
    OVER.used = False
    _coroutines.watch()
    for event in events:
        event._relation = relations[event._relation]
    return around(events)
