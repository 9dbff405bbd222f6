"""Coroutines that nobody awaited: Python only warns of them, and what they were to do is lost."""

from __future__ import annotations

import warnings
from collections.abc import Coroutine
from typing import Any

lost: list[str] = []
"""The names of those that are gone."""


def take() -> str | None:
    """The first that is gone since this was last asked."""
    if not lost:
        return None
    name = lost[0]
    lost.clear()
    return name


def _gone(coroutine: Coroutine[Any, Any, Any]) -> None:
    lost.append(getattr(coroutine, "__qualname__", "a coroutine"))


def watch() -> None:
    """Has the interpreter tell of them here, instead of with a warning. This is where it looks for who makes the warning."""
    lost.clear()
    setattr(warnings, "_warn_unawaited_coroutine", _gone)
