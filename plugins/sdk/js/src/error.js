// Why a whole batch cannot be handled, and how any error becomes one line of text.

import { place } from "./place.js";

/** Ends the batch: carried through the handler's frames as an exception. */
export class Failure extends Error {
  constructor(tag, why) {
    super(why);
    this.name = "Failure";
    this.tag = tag;
  }

  /** As the contract has it. */
  get wire() {
    return { tag: this.tag, val: this.message.toWellFormed() };
  }
}

export function retry(why) {
  throw new Failure("retry", String(why));
}

export function stop(why) {
  throw new Failure("stop", String(why));
}

/** Refuses one event, in the author's own words. */
class Refusal extends Error {}

export function reject(why) {
  throw new Refusal(String(why));
}

/** Characters of a reason. The host cuts what is longer; this keeps it from crossing at all. */
const REASON = 1000;

/** A sentence about something that was thrown: an error's message, with its name if that says more than "Error", and its place. */
export function reason(thrown) {
  let text;
  let where = "";
  try {
    if (thrown instanceof Error) {
      const message = String(thrown.message);
      text = thrown.name === "Error" ? message : `${thrown.name}: ${message}`;
      if (thrown instanceof Refusal) return sentence(thrown.message);
      where = place(thrown);
      if (thrown.cause !== undefined) text += `: ${thrown.cause instanceof Error ? thrown.cause.message : thrown.cause}`;
    } else {
      text = String(thrown);
    }
  } catch {
    text = "something was thrown that cannot be told";
  }
  return sentence(text) + where;
}

function sentence(text) {
  text = text.replace(/\s*[\r\n]+\s*/g, " ").trim() || "the handler threw without a message";
  return (text.length > REASON ? `${text.slice(0, REASON)}…` : text).toWellFormed();
}

/**
 * True if the instance's memory is full: the engine throws this, or null where it has no room even for that. A full instance is
 * no use to the next event, so it is never an event's own error.
 */
export function isFull(thrown) {
  return thrown === null || (typeof InternalError === "function" && thrown instanceof InternalError && thrown.message === "out of memory");
}
