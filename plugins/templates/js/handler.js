// Keeps one point for each row: `content` is embedded, `title` goes into the payload.

/**
 * Called with each committed change of a row. What it throws rejects that one change, with its message.
 *
 * @type {import("pgstream-handler").OnEvent}
 */
export function onEvent(event, out) {
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

function keep(event, out) {
  const { title, content } = event.row;
  if (content === null) return out.delete(event.id);
  // Not null: Postgres did not send a large text that the UPDATE left alone. Its vector stays.
  if (event.unchanged("content")) return out.patch(event.id, { title });
  out.upsert(event.id, content, { title }); // the host embeds the text
}
