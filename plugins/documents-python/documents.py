"""Keeps the chunks of documents searchable: each row becomes a group of points, one for each piece of its text.

| ``config`` | default | meaning |
|---|---|---|
| ``text_column`` | ``content`` | the text that is cut into chunks |
| ``title_column`` | ``title`` | put before each chunk when it is embedded, if the table has it; empty for none |
| ``chunk_chars`` | ``1000`` | characters of a chunk, at least 50 |

The payload of a point is the row, with the chunk in place of the text, and the chunk's number as ``chunk``.

An UPDATE that leaves a large text alone only patches the payloads, and so pays for no embedding. If it changes the title,
the vectors follow with the text's next change; with ``toast: reread`` in the source they follow at once.
"""

from __future__ import annotations

from dataclasses import dataclass

from pgstream import UNCHANGED, Event, Out, Point, Reject, Stop, chunks, config, on_event, text


@on_event
def handle(event: Event, out: Out) -> None:
    """Makes of an event what the sink has to do."""
    settings = Settings.read()
    if event.operation in ("insert", "update"):
        keep(event, settings, out)
    elif event.operation == "delete":
        out.delete_group(event.id)
    else:
        out.clear()


def keep(event: Event, settings: Settings, out: Out) -> None:
    column = settings.text_column
    id = event.id
    if column not in event.row:
        raise settings.no_text_column(event)
    payload = event.row.payload(column)

    if event.row.raw(column) is None:
        out.delete_group(id)
        return
    if event.unchanged(column):
        # The host makes an insert of an UPDATE that changes the key: the old group is gone, and so is the text.
        if event.operation == "insert":
            raise not_sent(event, column)
        out.patch_group(id, payload)
        return
    title = settings.title(event)
    points = []
    for number, chunk in enumerate(chunks(event.text(column), settings.chunk_chars)):
        embedded = f"{title}\n\n{chunk}" if title else chunk
        points.append(Point(f"{id}#{number}", text(embedded), {**payload, column: chunk, "chunk": number}))
    out.replace(id, points)


@dataclass(frozen=True)
class Settings:
    """What the pipeline file says."""

    text_column: str
    title_column: str
    chunk_chars: int

    @staticmethod
    def read() -> Settings:
        said = config("chunk_chars", "1000")
        # What Rust's `usize::from_str` takes: ASCII digits, a plus at most.
        digits = said.removeprefix("+")
        chars = int(digits) if digits.isascii() and digits.isdigit() and len(digits) <= 20 else 0
        if not 50 <= chars < 2**32:
            raise Stop(f"config `chunk_chars` is `{said}`, it must be a number from 50 on")
        return Settings(config("text_column", "content"), config("title_column", "title"), chars)

    def title(self, event: Event) -> str:
        if self.title_column not in event.row:
            return ""
        value = event.row.raw(self.title_column)
        if value is None:
            return ""
        if value is UNCHANGED:
            raise not_sent(event, self.title_column)
        return event.text(self.title_column)

    def no_text_column(self, event: Event) -> Stop:
        names = ", ".join(column.name for column in event.columns)
        return Stop(
            f"`{event.schema}.{event.table}` has no column `{self.text_column}`: "
            f"set `config.text_column` to one of {names}"
        )


def not_sent(event: Event, column: str) -> Reject:
    return Reject(
        f"Postgres did not send `{column}`, which is too large to be logged with each change: set `toast: reread` in the "
        f"pipeline's source, then update the row again. `ALTER TABLE {event.schema}.{event.table} REPLICA IDENTITY FULL` "
        "does as well, but logs each old row whole, and Postgres refuses writes where a partition lacks it or a generated "
        "column is not published"
    )
