// Does what the word in the column `what` says; for the tests of handlers in JavaScript.

import { ExactJson, chunks, retry, stop } from "pgstream-handler";

const begun = { random: Math.random(), uuid: crypto.randomUUID(), now: Date.now(), clock: performance.now() };
let ready = false;
Promise.resolve().then(() => (ready = true));
const kept = [];
let opened;

export function onEvent(event, out) {
  const [word, rest] = event.text("what").split(" ");
  return ACTIONS[word](event, out, rest);
}

async function helper(event, out) {
  await null;
  for await (const part of parts()) await new Promise((resolve) => resolve(part));
  out.upsert(event.key, null, { what: event.row.what, ready });
}

async function* parts() {
  yield 1;
  yield* [2, 3];
}

const ACTIONS = {
  upsert: (event, out) => out.upsert(event.key, "text"),
  // Asynchronous by accident.
  forgotten: (event, out) => {
    helper(event, out);
  },
  microtask: (event, out) => queueMicrotask(() => out.delete(event.key)),
  promised: (event, out) => helper(event, out),
  generator: function* (event, out) {
    yield out.delete(event.key);
  },
  listed: () => [{ id: 1 }],
  object: () => ({ id: 1 }),
  seen: (event, out) => event.row.what === "never" && out.delete(event.key),
  rejecting: () => {
    Promise.reject(new TypeError("floating"));
  },
  throwing: () => queueMicrotask(() => {
    throw new TypeError("in a job");
  }),
  stopping: () => {
    (async () => stop("stopped later"))();
  },
  waiting: (event, out) => {
    new Promise(() => {}).then(() => out.delete(event.key));
  },
  racing: (event, out) => {
    Promise.race([new Promise(() => {}), Promise.resolve(1)]).then(() => out.delete(event.key));
  },
  all: (event, out) => {
    (async () => {
      const [one, two] = await Promise.all([1, Promise.resolve(2)]);
      const settled = await Promise.allSettled([Promise.reject(3), 4]);
      const any = await Promise.any([Promise.reject(5), 6]);
      const from = await Array.fromAsync([7, Promise.resolve(8)]);
      const caught = await Promise.reject(new Error("nine")).catch(({ message }) => message);
      const last = await Promise.resolve(10).finally(() => 11);
      const tried = await Promise.try((value) => value, 12);
      out.patch(event.key, { one, two, settled, any, from, caught, last, tried });
    })();
  },
  keep: (event, out) => {
    kept.push(out);
  },
  late: () => {
    try {
      kept[0].delete("late");
    } catch {}
  },
  open: (event, out) => {
    new Promise((resolve) => (opened = resolve));
    out.delete(event.key);
  },
  // What a snapshot would freeze.
  chance: (event, out) => {
    const bytes = Array.from(crypto.getRandomValues(new Uint16Array(3)));
    const more = crypto.getRandomValues(new Uint8Array(10_000)).some((byte) => byte !== 0);
    const clocks = [performance.timeOrigin, performance.now()];
    out.patch("chance", { begun, random: [Math.random(), Math.random()], uuid: crypto.randomUUID(), bytes, more, clocks, now: Date.now() });
  },
  // Where.
  fail: () => {
    throw new RangeError("deep down");
  },
  text: () => {
    throw "only text";
  },
  cause: () => {
    throw new Error("outer", { cause: new Error("inner") });
  },
  // What the engine does not know.
  zone: () => new Date(0).toLocaleString("en-US", { timeZone: "Europe/Berlin" }),
  utc: (event, out) => out.delete(new Date(0).toLocaleDateString("en-US", { timeZone: "UTC" })),
  german: () => new Date(0).toLocaleDateString("de-DE"),
  number: () => (1234.5).toLocaleString("de-DE"),
  collate: () => "a".localeCompare("b", "de"),
  upper: (event, out) => out.delete("i".toLocaleUpperCase("en-US") + ["b", "a"].sort((one, two) => one.localeCompare(two)).join("")),
  // JSON.
  meta: (event, out) => out.patch("meta", { meta: event.row.meta }),
  row: (event, out) => {
    const { meta } = event.row;
    out.patch("row", { ...event.row, what: undefined, exact: meta?.a instanceof ExactJson });
  },
  parts: (event, out) => out.patch("parts", { ...event.row.meta, more: 1 }),
  changed: (event, out) => {
    event.row.meta.more = 1;
    out.patch("changed", event.row.meta);
  },
  hoard: () => {
    for (;;) kept.push(new Uint8Array(1 << 20).fill(1));
  },
  retry: () => retry("soon"),
  chunks: (event, out) => out.patch("chunks", { chunks: chunks("one two three four five six seven eight nine ten", 20) }),
  globals: (event, out) => out.patch("globals", { names: Object.getOwnPropertyNames(globalThis) }),
};
