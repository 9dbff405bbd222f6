// JSON that keeps what Postgres sent. `JSON.stringify` refuses a BigInt, `JSON.parse` rounds numbers of many digits.
//
// What `JSON.parse` would change is read by `Reader`, which remembers the text of each object and array: as long as nobody
// changes it, it is written as it was sent.

/** Levels of nesting that are read: beyond what the engine's stack bears, the whole call would end. */
const DEPTH = 200;

/** Levels of nesting that are written. */
const WRITTEN = DEPTH + 50;

/** The text of what `Reader` made, and what it was made of. */
const texts = new WeakMap();

/** JSON that JavaScript has no value for, such as a number of thirty digits. It counts as the nearest one, and is written exactly. */
export class ExactJson {
  #text;

  constructor(text) {
    this.#text = text;
    Object.freeze(this); // a member that somebody adds would not be written
  }

  valueOf() {
    return Number(this.#text);
  }

  toString() {
    return this.#text;
  }

  toJSON() {
    return Number(this.#text);
  }
}

/** The JSON of a value; undefined for what JSON has no word for, as `JSON.stringify` has it. */
export function write(value, depth = 0) {
  switch (typeof value) {
    case "string":
      return JSON.stringify(value.toWellFormed());
    case "number":
      return number(value);
    case "boolean":
      return value ? "true" : "false";
    case "bigint":
      return value.toString();
    case "object":
      break;
    default:
      return undefined;
  }
  if (value === null) return "null";
  const sent = texts.get(value);
  if (sent && untouched(value, sent)) return sent.text;
  if (depth >= WRITTEN) throw new Error(`a value is nested more than ${WRITTEN} levels deep, or holds itself`);
  if (Array.isArray(value)) return array(value, depth);
  if (value instanceof ExactJson) return value.toString();
  if (typeof value.toJSON === "function") return write(value.toJSON(), depth + 1);
  if (value instanceof Uint8Array) return `"${hex(value)}"`;
  if (ArrayBuffer.isView(value) || value instanceof Set) return array(Array.from(value), depth);
  if (value instanceof Promise) throw new TypeError("a value is a promise: handlers are synchronous");
  return object(value instanceof Map ? Object.fromEntries(value) : value, depth);
}

/** Whether what was read still is what was sent, down to its last member. */
function untouched(value, { names, members }) {
  const now = Object.keys(value);
  if (now.length !== names.length) return false;
  for (let at = 0; at < now.length; at++) {
    const member = value[now[at]];
    if (now[at] !== names[at] || !Object.is(member, members[at])) return false;
    const sent = member === null || typeof member !== "object" ? undefined : texts.get(member);
    if (sent && !untouched(member, sent)) return false;
  }
  return true;
}

function object(value, depth) {
  let text = "";
  for (const name of Object.keys(value)) {
    const member = value[name];
    const json = typeof member === "string" ? JSON.stringify(member.toWellFormed()) : write(member, depth + 1);
    if (json !== undefined) text += `${text === "" ? "" : ","}${JSON.stringify(name.toWellFormed())}:${json}`;
  }
  return `{${text}}`;
}

function array(values, depth) {
  let text = "";
  for (let at = 0; at < values.length; at++) {
    text += `${at === 0 ? "" : ","}${write(values[at], depth + 1) ?? "null"}`;
  }
  return `[${text}]`;
}

function number(value) {
  if (Number.isSafeInteger(value)) return Object.is(value, -0) ? "-0.0" : String(value);
  if (Number.isNaN(value)) return '"NaN"';
  if (!Number.isFinite(value)) return value > 0 ? '"Infinity"' : '"-Infinity"';
  // A whole number beyond 2^53 is a float: without the exponent it would be read as an exact integer.
  return Number.isInteger(value) ? value.toExponential() : String(value);
}

const BYTES = Array.from({ length: 256 }, (_, byte) => byte.toString(16).padStart(2, "0"));

function hex(bytes) {
  let text = "\\\\x";
  for (const byte of bytes) text += BYTES[byte];
  return text;
}

/** Whether `JSON.parse` may change something: many digits in a row, a large exponent, or half of a surrogate pair. */
const RISKY = /[\d.]{17}|\d{16}|\d[eE][+-]?\d{3}|\\u[dD][89a-fA-F]/;

/** The value of a `json` column: integers exact, as a BigInt if need be. What is nested too deeply is only passed on. */
export function parse(text) {
  if (tooDeep(text)) return new ExactJson(text);
  return RISKY.test(text) ? new Reader(text).whole() : JSON.parse(text);
}

/** A string, so that its brackets do not count, or a bracket. */
const MARKS = /"(?:[^"\\]|\\.)*"|[[\]{}]/g;

function tooDeep(text) {
  if (text.length <= 2 * DEPTH || text.split("[").length + text.split("{").length <= DEPTH + 2) return false;
  let depth = 0;
  for (const [mark] of text.matchAll(MARKS)) {
    if (mark === "[" || mark === "{") depth++;
    else if (mark === "]" || mark === "}") depth--;
    if (depth > DEPTH) return true;
  }
  return false;
}

/** Nearer to zero a number has fewer digits. */
const SMALLEST = 2.2250738585072014e-308;

const NUMBER = /-?\d+(\.\d+)?([eE][+-]?\d+)?/y;
const SPACE = /[ \t\r\n]*/y;
const STRING = /"(?:[^"\\]|\\.)*"/ys;

class Reader {
  constructor(text) {
    this.text = text;
    this.at = 0;
  }

  whole() {
    const value = this.value();
    this.skip();
    if (this.at !== this.text.length) throw new SyntaxError("more than one value");
    return value;
  }

  skip() {
    SPACE.lastIndex = this.at;
    SPACE.test(this.text);
    this.at = SPACE.lastIndex;
  }

  take(pattern) {
    pattern.lastIndex = this.at;
    const found = pattern.exec(this.text);
    if (!found) throw new SyntaxError("not JSON");
    this.at = pattern.lastIndex;
    return found[0];
  }

  next() {
    this.skip();
    return this.text[this.at];
  }

  word(word, value) {
    if (!this.text.startsWith(word, this.at)) throw new SyntaxError("not JSON");
    this.at += word.length;
    return value;
  }

  value() {
    switch (this.next()) {
      case "{":
        return this.object();
      case "[":
        return this.array();
      case '"':
        return JSON.parse(this.take(STRING));
      case "t":
        return this.word("true", true);
      case "f":
        return this.word("false", false);
      case "n":
        return this.word("null", null);
      default:
        return this.number();
    }
  }

  number() {
    const text = this.take(NUMBER);
    const value = Number(text);
    if (Number.isSafeInteger(value) && !/[.eE]/.test(text)) return value;
    if (/^-?\d+$/.test(text)) return BigInt(text);
    // What has at most 15 digits comes back as it was; a longer one only if it is what a number is written as.
    const held = Number.isFinite(value) && Math.abs(value) >= SMALLEST;
    const digits = significant(text);
    const exact = digits === "" || (held && (digits.length <= 15 || digits === significant(String(value))));
    return exact ? value : new ExactJson(text);
  }

  /** What was read from `from` on is this: its text is kept. */
  made(value, from) {
    const names = Object.keys(value);
    texts.set(value, { text: this.text.slice(from, this.at), names, members: names.map((name) => value[name]) });
    return value;
  }

  array() {
    const values = [];
    const from = this.at++;
    if (this.next() === "]") {
      this.at++;
      return this.made(values, from);
    }
    for (;;) {
      values.push(this.value());
      const next = this.next();
      this.at++;
      if (next === "]") return this.made(values, from);
      if (next !== ",") throw new SyntaxError("not JSON");
    }
  }

  object() {
    const members = {};
    const from = this.at++;
    if (this.next() === "}") {
      this.at++;
      return this.made(members, from);
    }
    for (;;) {
      this.skip();
      const name = JSON.parse(this.take(STRING));
      if (this.next() !== ":") throw new SyntaxError("not JSON");
      this.at++;
      const value = this.value();
      // Not an assignment: `__proto__` is a name like others.
      Object.defineProperty(members, name, { value, writable: true, enumerable: true, configurable: true });
      const next = this.next();
      this.at++;
      if (next === "}") return this.made(members, from);
      if (next !== ",") throw new SyntaxError("not JSON");
    }
  }
}

/** The digits that count of a number's text, without sign, point and exponent. */
function significant(text) {
  return text.replace(/[eE].*$/, "").replace(/[-.]/g, "").replace(/^0+|0+$/g, "");
}
