// `console`, which the runtime lacks, over the host's log.

import { log } from "./calls.js";
import { write } from "./json.js";
import { stack } from "./place.js";

function line(args) {
  return args.map(shown).join(" ");
}

function shown(value) {
  if (typeof value === "string") return value;
  if (value instanceof Error) return `${value.name}: ${value.message}${value.stack ? `\n${stack(value)}` : ""}`;
  try {
    return write(value) ?? String(value);
  } catch {
    return String(value);
  }
}

/** Defines `console`. */
export function define() {
  globalThis.console = {
    trace: (...args) => log.trace(line(args)),
    debug: (...args) => log.debug(line(args)),
    log: (...args) => log.info(line(args)),
    info: (...args) => log.info(line(args)),
    warn: (...args) => log.warn(line(args)),
    error: (...args) => log.error(line(args)),
    assert: (truth, ...args) => truth || log.error(`assertion failed: ${line(args)}`),
  };
}
