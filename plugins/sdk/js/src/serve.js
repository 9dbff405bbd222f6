// The loop over a batch around a handler's functions: what the component exports as `handle`.

import { begin, log } from "./calls.js";
import { Failure, isFull, reason, stop } from "./error.js";
import { Event, Table } from "./event.js";
import { Out, lateAnswer, takeLate } from "./out.js";
import { forget, run } from "./promise.js";

/** `handle` of the contract, from a module that exports `onEvent` or `onBatch`. */
export function serve(module) {
  const { onEvent, onBatch } = module;
  if ((typeof onEvent === "function") === (typeof onBatch === "function")) {
    throw new Error("a handler exports a function `onEvent(event, out)`, or else `onBatch(batch)`");
  }
  settle(); // what the module's top level began
  const answer = onEvent ? one(onEvent, "onEvent(event, out)") : several(onBatch);
  return (batch) => {
    begin();
    const tables = batch.relations.map((relation) => new Table(relation));
    try {
      return answer(batch.events, (raw) => new Event(tables[raw.relation >>> 0], raw));
    } catch (error) {
      forget();
      takeLate();
      if (isFull(error)) end(error);
      if (error instanceof Failure) throw error.wire;
      throw { tag: "stop", val: reason(error) };
    }
  };
}

/** Calls a function for each event. */
function one(handler, form) {
  return (events, wrap) => {
    const output = { commands: [], rejections: [] };
    for (let index = 0; index < events.length; index++) {
      const out = new Out();
      try {
        whole(() => handler(wrap(events[index]), out), form);
      } catch (error) {
        if (error instanceof Failure || isFull(error)) throw error;
        out.reject(reason(error));
      }
      keep(output, index, out);
    }
    return output;
  };
}

/** Calls `onBatch` with all events; if it throws, with one after the other, so that only the culprit is rejected. */
function several(onBatch) {
  const form = "onBatch(batch)";
  const single = one((event, out) => onBatch([{ event, out }]), form);
  return (events, wrap) => {
    const output = { commands: [], rejections: [] };
    let batch;
    try {
      // The array is the handler's to change: the answers are taken from those that were made for it.
      batch = events.map((raw) => ({ event: wrap(raw), out: new Out() }));
      whole(() => onBatch([...batch]), form);
    } catch (error) {
      if (error instanceof Failure || isFull(error)) throw error;
      for (const { out } of batch ?? []) Out.taken(out);
      return single(events, wrap);
    }
    batch.forEach(({ out }, index) => keep(output, index, out));
    return output;
  };
}

/** Calls the handler, and brings all that it began to its end. */
function whole(call, form) {
  let answer;
  try {
    answer = call();
  } catch (error) {
    run(); // what else it began is not the next event's
    if (takeLate()) throw lateAnswer();
    throw error;
  }
  // First what it returned: a promise that is given back is nobody's to look at.
  nothing(answer, form);
  settle();
}

function settle() {
  const failed = run();
  if (takeLate()) throw lateAnswer();
  if (failed) throw failed.error;
}

function keep(output, event, out) {
  const { actions, rejected } = Out.taken(out);
  if (rejected !== undefined) {
    output.rejections.push({ event, reason: reason(rejected) });
    return;
  }
  for (const action of actions) output.commands.push({ event, action });
}

/** Ends the instance: what is thrown is no answer of the contract. */
function end(error) {
  try {
    log.error(reason(error ?? "out of memory"));
  } catch {
    // There is no room even for that.
  }
  throw error;
}

/** Answers are given by calling `out`: what is returned would be lost. `seen && out.delete(…)` returns nothing that counts. */
function nothing(answer, form) {
  if (!answer || answer === true) return;
  const name = form.slice(0, form.indexOf("("));
  const returned = (what, advice) => stop(`\`${name}\` returned ${what}: ${advice}`);
  if (typeof answer.then === "function") {
    returned(
      "a promise",
      `write \`export function ${form}\` without \`async\`, and answer before it returns; an async function that it calls ` +
        "runs to its end by itself",
    );
  }
  if (typeof answer.next === "function") {
    returned("a generator, which never began", `write \`export function ${form}\` without the star`);
  }
  const what = Array.isArray(answer) ? "an array" : typeof answer === "object" ? "an object" : `a ${typeof answer}`;
  returned(what, "answers are given with `out.upsert(…)`, `out.delete(…)` and so on, and nothing is returned");
}
