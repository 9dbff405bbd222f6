"""Exceptions that a handler raises to refuse an event or a batch, and how any other exception is put into words."""

from __future__ import annotations

from types import TracebackType

_REASON_CHARS = 1000
_HERE = __file__.replace("\\", "/").rpartition("/")[0] + "/"


class HandlerError(Exception):
    """An exception that the host acts upon."""


class Reject(HandlerError):
    """This event cannot be handled. It goes to the transform's ``.rejected`` output with the message; the others go on."""


class Retry(HandlerError):
    """It will pass: the host calls again with the same batch, later."""


class Stop(HandlerError):
    """A person must act: the pipeline stops, nothing of the batch is confirmed."""


class MissingColumn(Reject, KeyError):
    """The table has no such column."""

    def __str__(self) -> str:
        return str(self.args[0]) if self.args else ""


def reason(error: BaseException) -> str:
    """One line about the exception: a refusal's own words, or type, message and place of anything else."""
    if isinstance(error, HandlerError):
        return one_line(_message(error) or type(error).__name__)
    text = type(error).__name__
    message = _message(error)
    if message:
        text += f": {message}"
    if isinstance(error, ImportError):
        text += "; import it at the top of a module, handlers have no files while they run"
    return one_line(text, _place(error.__traceback__))


def one_line(text: str, end: str = "") -> str:
    """The text without line breaks, cut to a few sentences, fit to be sent as UTF-8."""
    limit = _REASON_CHARS - len(end)
    text = text[: limit + 1]
    if len(text) > limit:
        text = text[: limit - 1] + "…"
    return sendable(" ".join(text.splitlines()) + end)


def sendable(text: str) -> str:
    """The text with its lone surrogates, which UTF-8 does not have, written as escapes."""
    return text if text.isascii() else text.encode("utf-8", "backslashreplace").decode("utf-8")


def _message(error: BaseException) -> str:
    try:
        return str(error)
    except Exception:
        return "(its message cannot be shown)"


def _place(traceback: TracebackType | None) -> str:
    """``" (handler.py:12)"``: the innermost line that is not of this package."""
    place = ""
    while traceback is not None:
        code = traceback.tb_frame.f_code
        name = code.co_filename.replace("\\", "/")
        if not name.startswith((_HERE, "<")):
            place = f" ({name.rpartition('/')[2]}:{traceback.tb_lineno})"
        traceback = traceback.tb_next
    return place
