// The breaches that all SDKs refuse, from `plugins/sdk/breaches.json`.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";

import { sparse } from "../src/out.js";
import { serve } from "../src/serve.js";

const table = JSON.parse(readFileSync(new URL("../../breaches.json", import.meta.url), "utf8"));

const text = (given) => (typeof given === "string" ? given : given.repeat.repeat(given.times));

const embedding = (given) => {
  if (given.text !== undefined) return given.text;
  if (given.sparse) return sparse(given.sparse.indices, given.sparse.values.map(Number));
  return given.dense.map(Number);
};

const point = ({ id, vectors = [], payload }) => ({
  id: text(id),
  embedding: Object.fromEntries(vectors.map(([name, given]) => [text(name), embedding(given)])),
  payload,
});

const say = {
  upsert: (out, given) => {
    const { id, embedding, payload } = point(given);
    out.upsert(id, embedding, payload);
  },
  patch: (out, { id, payload }) => out.patch(text(id), payload),
  replace: (out, { group, points }) => out.replace(text(group), points.map(point)),
  patch_group: (out, { group, payload }) => out.patchGroup(text(group), payload),
  delete: (out, id) => out.delete(text(id)),
  delete_group: (out, group) => out.deleteGroup(text(group)),
  clear: (out) => out.clear(),
  reject: (out, reason) => out.reject(reason),
};

/** What the host would get of three events, the middle one of which is answered as the case says. */
function answered({ answer }) {
  const column = { name: "id", typeName: "int8", key: true };
  const raw = (id) => ({ operation: "insert", relation: 0, row: [{ tag: "int", val: id }] });
  const handle = serve({
    onEvent(event, out) {
      if (event.row.id !== 2) return out.delete("fine");
      for (const step of answer) for (const [action, given] of Object.entries(step)) say[action](out, given);
    },
  });
  return handle({ relations: [{ schema: "public", table: "things", columns: [column] }], events: [1, 2, 3].map(raw) });
}

test("what the host would stop for rejects the one event", () => {
  // An object has a vector once.
  const cases = table.breaches.filter(({ raw, name }) => !raw && !name.includes("vector twice"));
  assert.ok(cases.length > 25);
  for (const breach of cases) {
    const { commands, rejections } = answered(breach);
    assert.deepEqual(rejections, [{ event: 1, reason: `${breach.what}: ${breach.do}` }], breach.name);
    assert.deepEqual(commands.map(({ event }) => event), [0, 2], breach.name);
  }
});

test("what is odd but allowed passes", () => {
  for (const { commands, rejections = 0, ...allowed } of table.allowed) {
    const output = answered(allowed);
    const counts = [output.commands.length - 2, output.rejections.length];
    assert.deepEqual(counts, [commands, rejections], `${allowed.name}: ${JSON.stringify(output.rejections)}`);
  }
});
