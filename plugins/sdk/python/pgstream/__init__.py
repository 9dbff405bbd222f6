"""Write pgstream-host handlers in Python.

A handler is a function that is called with one event at a time and says what is to become of the vector store::

    from pgstream import Event, Out, on_event, text

    @on_event
    def handle(event: Event, out: Out) -> None:
        if event.operation in ("insert", "update"):
            if event.unchanged("content"):
                out.patch(event.key, {"title": event.row["title"]})
            else:
                out.upsert(
                    id=event.key,
                    embedding=text(event.text("content")),  # the host embeds it
                    payload={"title": event.row["title"]},
                )
        elif event.operation == "delete":
            out.delete(event.key)
        else:
            out.clear()

An exception refuses that one event, with its type and message, and leaves the rest of the batch alone; ``Retry`` and
``Stop`` are for what concerns the whole batch.

A large column that an UPDATE left alone is *unchanged*: Postgres did not send it. That is not null. ``event.unchanged``
tells it, and ``out.patch`` updates the payload while the vectors stay.

A handler's functions can be tested without WebAssembly: see :mod:`pgstream.testing`.
"""

from ._chunks import chunks
from ._errors import HandlerError, MissingColumn, Reject, Retry, Stop
from ._event import Column, Event, Operation, Position, Row
from ._host import Level, config, debug, embed, error, info, log, trace, warn
from ._out import Embedding, Embeddings, Out, Point, Sparse, Text, text
from ._run import on_batch, on_event
from ._values import UNCHANGED, Unchanged

__all__ = [
    "UNCHANGED", "Column", "Embedding", "Embeddings", "Event", "HandlerError", "Level", "MissingColumn", "Operation",
    "Out", "Point", "Position", "Reject", "Retry", "Row", "Sparse", "Stop", "Text", "Unchanged", "chunks", "config",
    "debug", "embed", "error", "info", "log", "on_batch", "on_event", "text", "trace", "warn",
]  # fmt: skip
