// Keeps the chunks of documents searchable: each row becomes a group of points, one for each piece of its text.
//
// | `config`       | default   | meaning                                                                                 |
// |----------------|-----------|-----------------------------------------------------------------------------------------|
// | `text_column`  | `content` | the text that is cut into chunks                                                        |
// | `title_column` | `title`   | put before each chunk when it is embedded, if the table has it; empty for none          |
// | `chunk_chars`  | `1000`    | characters of a chunk, at least 50                                                      |
//
// The payload of a point is the row, with the chunk in place of the text, and the chunk's number as `chunk`.
//
// An UPDATE that leaves a large text alone only patches the payloads, and so pays for no embedding. If it changes the
// title, the vectors follow with the text's next change; with `toast: reread` in the source they follow at once.

import { chunks, config, reject, stop } from "pgstream-handler";

/** Makes of an event what the sink has to do. */
export function onEvent(event, out) {
  const settings = read();
  switch (event.operation) {
    case "insert":
    case "update":
      return keep(event, settings, out);
    case "delete":
      return out.deleteGroup(event.id);
    case "truncate":
      return out.clear();
  }
}

function keep(event, settings, out) {
  const column = settings.textColumn;
  const { id } = event;
  if (!event.has(column)) throw noTextColumn(event, column);
  const { [column]: content, ...payload } = event.row;

  if (content === null) return out.deleteGroup(id);
  if (event.unchanged(column)) {
    // The host makes an insert of an UPDATE that changes the key: the old group is gone, and so is the text.
    if (event.operation === "insert") return notSent(event, column);
    return out.patchGroup(id, payload);
  }
  const title = titleOf(event, settings.titleColumn);
  const points = chunks(event.text(column), settings.chunkChars).map((chunk, number) => ({
    id: `${id}#${number}`,
    embedding: title === "" ? chunk : `${title}\n\n${chunk}`,
    payload: { ...payload, [column]: chunk, chunk: number },
  }));
  out.replace(id, points);
}

function read() {
  const chars = config("chunk_chars");
  if (chars !== undefined && !(/^\+?\d+$/.test(chars) && Number(chars) >= 50)) {
    stop(`config \`chunk_chars\` is \`${chars}\`, it must be a number from 50 on`);
  }
  return {
    textColumn: config("text_column") ?? "content",
    titleColumn: config("title_column") ?? "title",
    chunkChars: Number(chars ?? 1000),
  };
}

function titleOf(event, column) {
  if (!event.has(column) || event.row[column] === null) return "";
  if (event.unchanged(column)) return notSent(event, column);
  return event.text(column);
}

function noTextColumn(event, column) {
  const names = event.columns.map(({ name }) => name).join(", ");
  return stop(`\`${event.schema}.${event.table}\` has no column \`${column}\`: set \`config.text_column\` to one of ${names}`);
}

function notSent(event, column) {
  return reject(
    `Postgres did not send \`${column}\`, which is too large to be logged with each change: set \`toast: reread\` in ` +
      `the pipeline's source, then update the row again. \`ALTER TABLE ${event.schema}.${event.table} REPLICA IDENTITY FULL\` ` +
      "does as well, but logs each old row whole, and Postgres refuses writes where a partition lacks it or a generated " +
      "column is not published",
  );
}
