"""What a component keeps from its build, and what each instance must have of its own.

Modules are imported once, at the build, and each instance begins with what they were then: so numbers drawn by chance would be
the same in all of them. Generators without a seed of their own are seeded again when an instance begins; what is drawn while
the project's own modules are imported is refused at the build.
"""

from __future__ import annotations

import codecs
import encodings
import importlib
import logging
import os
import pkgutil
import random
import sys
import time
import uuid
import weakref
from collections.abc import Sequence
from types import FrameType
from typing import Any

_unseeded: weakref.WeakSet[random.Random] = weakref.WeakSet()
_zones: list[Any] = []
_folders: tuple[str, ...] = ()
_drawn: str | None = None
_seed = random.Random.seed


def watch(folders: Sequence[str]) -> None:
    """Begins to look at who draws by chance. `folders` are where the project's own modules lie, as the build has them."""
    global _folders
    _folders = tuple(folders)

    def seed(self: random.Random, a: Any = None, version: int = 2) -> None:
        _seed(self, a, version)
        if a is None:
            _unseeded.add(self)
        else:
            _unseeded.discard(self)

    setattr(random.Random, "seed", seed)
    _unseeded.add(getattr(random, "_inst"))
    sys.setprofile(_look)


def _look(frame: FrameType, event: str, called: Any) -> None:
    global _drawn
    if event != "c_call" or _drawn is not None:
        return
    if called is not os.urandom:
        generator = getattr(called, "__self__", None)
        if not isinstance(generator, random.Random) or called.__name__ not in ("random", "getrandbits"):
            return
        if generator not in _unseeded and not isinstance(generator, random.SystemRandom):
            return
    at: FrameType | None = frame
    while at is not None:
        if at.f_code.co_filename.startswith(_folders):
            _drawn = f"{at.f_code.co_filename.rpartition('/')[2]}:{at.f_lineno}"
            return
        at = at.f_back


def drawn() -> str | None:
    """Where in the project something was drawn by chance, if anything was. Ends the looking."""
    sys.setprofile(None)
    setattr(random.Random, "seed", _seed)
    return _drawn


def take_along() -> None:
    """Imports what the standard library itself imports only once it is needed: there are no files to import from later."""
    for _, name, _ in pkgutil.iter_modules(encodings.__path__):
        try:
            codecs.lookup(name)
            importlib.import_module(f"encodings.{name}")
        except (ImportError, LookupError, AttributeError):
            pass  # those of another system
    for name in ("_strptime", "_compat_pickle", "ipaddress", "linecache", "stringprep", "traceback", "unicodedata"):
        try:
            importlib.import_module(name)
        except ImportError:
            pass
    if "zoneinfo" in sys.modules:
        zoneinfo = sys.modules["zoneinfo"]
        # What is in use somewhere is not looked for in files again.
        _zones.extend(map(zoneinfo.ZoneInfo, zoneinfo.available_timezones()))


def begin() -> None:
    """An instance begins."""
    for generator in list(_unseeded):
        generator.seed()
    setattr(uuid, "_node", None)
    if hasattr(logging, "_startTime"):
        setattr(logging, "_startTime", time.time_ns() if sys.version_info >= (3, 13) else time.time())
