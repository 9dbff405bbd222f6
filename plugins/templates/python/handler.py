"""Keeps a point for each document: its content as the vector, its title as the payload."""

from pgstream import Event, Out, on_event, text


@on_event
def handle(event: Event, out: Out) -> None:
    if event.operation in ("insert", "update"):
        keep(event, out)
    elif event.operation == "delete":
        out.delete(event.id)
    else:
        out.clear()


def keep(event: Event, out: Out) -> None:
    payload = {"title": event.row["title"]}
    if event.unchanged("content") and event.operation == "update":
        # Postgres did not send the content, because the UPDATE left it alone: the vector stays as it is.
        out.patch(event.id, payload)
    elif event.row["content"] is None:
        out.delete(event.id)
    else:
        # The host turns the text into a vector.
        out.upsert(id=event.id, embedding=text(event.text("content")), payload=payload)
