// The loop over a batch around a handler's functions: what the component exports as `handle`.

import { begin } from "./calls.js";
import { define } from "./console.js";
import { Failure, reason, stop } from "./error.js";
import { Event, Table } from "./event.js";
import { Out } from "./out.js";

define();

/** `handle` of the contract, from a module that exports `onEvent` or `onBatch`. */
export function serve(module) {
  const { onEvent, onBatch } = module;
  if ((typeof onEvent === "function") === (typeof onBatch === "function")) {
    throw new Error("a handler exports a function `onEvent(event, out)`, or else `onBatch(batch)`");
  }
  const answer = onEvent ? one(onEvent) : several(onBatch);
  return (batch) => {
    begin();
    const tables = batch.relations.map((relation) => new Table(relation));
    try {
      return answer(batch.events, (raw) => new Event(tables[raw.relation >>> 0], raw));
    } catch (error) {
      if (error instanceof Failure) throw error.wire;
      throw { tag: "stop", val: reason(error) };
    }
  };
}

/** Calls `onEvent` for each event. */
function one(onEvent) {
  return (events, wrap) => {
    const output = { commands: [], rejections: [] };
    for (let index = 0; index < events.length; index++) {
      const out = new Out();
      try {
        synchronous(onEvent(wrap(events[index]), out), "onEvent");
      } catch (error) {
        if (error instanceof Failure) throw error;
        out.reject(reason(error));
      }
      keep(output, index, out);
    }
    return output;
  };
}

/** Calls `onBatch` with all events; if it throws, with one after the other, so that only the culprit is rejected. */
function several(onBatch) {
  const single = one((event, out) => {
    synchronous(onBatch([{ event, out }]), "onBatch");
  });
  return (events, wrap) => {
    const output = { commands: [], rejections: [] };
    let batch;
    try {
      // The array is the handler's to change: the answers are taken from those that were made for it.
      batch = events.map((raw) => ({ event: wrap(raw), out: new Out() }));
      synchronous(onBatch([...batch]), "onBatch");
    } catch (error) {
      if (error instanceof Failure) throw error;
      return single(events, wrap);
    }
    batch.forEach(({ out }, index) => keep(output, index, out));
    return output;
  };
}

function keep(output, event, out) {
  const { actions, rejected } = Out.taken(out);
  if (rejected !== undefined) {
    output.rejections.push({ event, reason: reason(rejected) });
    return;
  }
  for (const action of actions) output.commands.push({ event, action });
}

function synchronous(result, what) {
  if (typeof result?.then === "function") {
    stop(`${what} returned a promise: a handler is synchronous, it can neither be \`async\` nor wait`);
  }
}
