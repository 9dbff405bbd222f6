// The services of the host for a handler: `config`, `embed` and the log.

import * as host from "#host";
import { Failure } from "./error.js";

let running = false;

/** The module's top level runs when the component is built, where there is no host. */
export function begin() {
  running = true;
}

function needHost(what) {
  if (!running) {
    throw new Error(`${what} can be called only while an event is handled: a module's top level runs at build time`);
  }
}

const known = new Map();

export function config(key) {
  key = String(key);
  let value = known.get(key);
  if (value === undefined) {
    needHost("config()");
    value = host.config(key.toWellFormed());
    known.set(key, value);
  }
  return value ?? undefined;
}

/** For tests, whose configuration changes. */
export function forget() {
  known.clear();
}

export function embed(embedder, texts) {
  needHost("embed()");
  if (!Array.isArray(texts)) throw new TypeError("embed() takes an array of texts");
  let answer;
  try {
    answer = host.embed(String(embedder).toWellFormed(), texts.map((text) => String(text).toWellFormed()));
  } catch (error) {
    const failure = error?.payload;
    if (failure?.tag === "retry" || failure?.tag === "stop") throw new Failure(failure.tag, failure.val);
    throw error;
  }
  const { data } = answer;
  const dimension = answer.dimension >>> 0;
  return texts.map((_, row) => data.slice(row * dimension, (row + 1) * dimension));
}

function say(level, message) {
  needHost("log");
  host.log(level, message.toWellFormed());
}

export const log = {
  trace: (message) => say("trace", String(message)),
  debug: (message) => say("debug", String(message)),
  info: (message) => say("info", String(message)),
  warn: (message) => say("warn", String(message)),
  error: (message) => say("error", String(message)),
};
