// Keeps one point for each row: `content` is embedded, `title` goes into the payload.

import { unchanged, type Event, type Out, type Unchanged } from "pgstream-handler";

interface Document {
  id: number | bigint;
  title: string | null;
  content: string | null | Unchanged;
}

/** Called with each committed change of a row. What it throws rejects that one change, with its message. */
export function onEvent(event: Event<Document>, out: Out): void {
  switch (event.operation) {
    case "insert":
    case "update":
      return keep(event, out);
    case "delete":
      return out.delete(event.id);
    case "truncate":
      return out.clear();
  }
}

function keep(event: Event<Document>, out: Out): void {
  const { title, content } = event.row;
  if (content === null) return out.delete(event.id);
  // Not null: Postgres did not send a large text that the UPDATE left alone. Its vector stays.
  if (content === unchanged) return out.patch(event.id, { title });
  out.upsert(event.id, content, { title }); // the host embeds the text
}
