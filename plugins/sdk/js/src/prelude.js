// The globals that a module finds when it begins: `console`, `crypto` and numbers by chance, and no answers that would be wrong.
//
// Only imported where a component is built, before the handler.

import { define } from "./console.js";
import { Promise, fromAsync, queueMicrotask } from "./promise.js";
import { crypto, random } from "./random.js";

define();
Object.assign(globalThis, { Promise, queueMicrotask, crypto, performance: performanceSince(Date.now()) });
Array.fromAsync = fromAsync;
Math.random = random;
// Its callbacks would be jobs that nobody runs.
delete globalThis.FinalizationRegistry;

/** The engine knows neither languages nor time zones: it gives one answer whatever it is asked. */
function guard(prototype, name, at, plain) {
  const given = prototype[name];
  const guarded = function (...asked) {
    const [locale, options] = asked.slice(at);
    const zone = options?.timeZone;
    if (zone !== undefined && !/^(Etc\/)?(UTC|GMT|Zulu)$/i.test(String(zone))) {
      throw new RangeError(`${name}(): there are no time zones here but UTC: give text for \`${zone}\` where it is shown`);
    }
    const others = Object.keys(options ?? {}).filter((option) => option !== "timeZone" && options[option] !== undefined);
    if (others.length > 0) throw new RangeError(`${name}(): there is no Intl here: \`${others[0]}\` cannot be had`);
    if (locale !== undefined && !plain(String(locale))) {
      throw new RangeError(`${name}(): there is no Intl here: what \`${locale}\` writes cannot be had`);
    }
    return given.apply(this, asked.slice(0, at));
  };
  Object.defineProperty(prototype, name, { value: guarded, writable: true, configurable: true });
}

const english = (locale) => /^en(-US)?$/i.test(locale);
for (const name of ["toLocaleString", "toLocaleDateString", "toLocaleTimeString"]) guard(Date.prototype, name, 0, english);
// These have no separators, which no language writes so.
const none = () => false;
guard(Number.prototype, "toLocaleString", 0, none);
guard(BigInt.prototype, "toLocaleString", 0, none);
guard(String.prototype, "localeCompare", 1, none);
const same = (locale) => !/^(az|lt|tr|el|hy|nl)\b/i.test(locale);
guard(String.prototype, "toLocaleUpperCase", 0, same);
guard(String.prototype, "toLocaleLowerCase", 0, same);

/** `performance`, which counts from when this instance began; the engine's counts from the build. */
function performanceSince(timeOrigin) {
  const { performance } = globalThis;
  const begun = performance.now();
  return { timeOrigin, now: () => performance.now() - begun };
}
