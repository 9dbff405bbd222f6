// JSON that keeps every integer, both ways. `JSON.stringify` refuses a BigInt, `JSON.parse` rounds one.

/** Levels of nesting that the host reads. */
const DEPTH = 120;

const INT_MIN = -(2n ** 63n);
const INT_MAX = 2n ** 64n - 1n;

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
      return value >= INT_MIN && value <= INT_MAX ? value.toString() : `"${value}"`;
    case "object":
      break;
    default:
      return undefined;
  }
  if (value === null) return "null";
  if (depth >= DEPTH) throw new Error(`a value is nested more than ${DEPTH} levels deep, or holds itself`);
  if (Array.isArray(value)) return array(value, depth);
  if (typeof value.toJSON === "function") return write(value.toJSON(), depth + 1);
  if (value instanceof Uint8Array) return `"${hex(value)}"`;
  if (ArrayBuffer.isView(value) || value instanceof Set) return array(Array.from(value), depth);
  if (value instanceof Promise) throw new TypeError("a value is a promise: handlers are synchronous");
  return object(value instanceof Map ? Object.fromEntries(value) : value, depth);
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

/** Whether `JSON.parse` may change a number: many digits in a row, or a large exponent. */
const RISKY = /\d{16}|\d[eE]\+?\d{3}/;

/** The value of a `json` column: integers exact, as a BigInt if need be. The text as it is, if no sink could read it. */
export function parse(text) {
  try {
    return RISKY.test(text) ? new Reader(text).whole() : JSON.parse(text);
  } catch {
    return text;
  }
}

const NUMBER = /-?\d+(\.\d+)?([eE][+-]?\d+)?/y;
const SPACE = /[ \t\r\n]*/y;
const STRING = /"(?:[^"\\]|\\.)*"/ys;

class Reader {
  constructor(text) {
    this.text = text;
    this.at = 0;
  }

  whole() {
    const value = this.value(0);
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

  value(depth) {
    if (depth > DEPTH) throw new RangeError("nested too deep");
    switch (this.next()) {
      case "{":
        return this.object(depth);
      case "[":
        return this.array(depth);
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
    if (!Number.isFinite(value)) throw new RangeError("a number that no float holds");
    if (Number.isSafeInteger(value) || /[.eE]/.test(text)) return value;
    const exact = BigInt(text);
    return exact >= INT_MIN && exact <= INT_MAX ? exact : value;
  }

  array(depth) {
    const values = [];
    this.at++;
    if (this.next() === "]") {
      this.at++;
      return values;
    }
    for (;;) {
      values.push(this.value(depth + 1));
      const next = this.next();
      this.at++;
      if (next === "]") return values;
      if (next !== ",") throw new SyntaxError("not JSON");
    }
  }

  object(depth) {
    const members = {};
    this.at++;
    if (this.next() === "}") {
      this.at++;
      return members;
    }
    for (;;) {
      this.skip();
      const name = JSON.parse(this.take(STRING));
      if (this.next() !== ":") throw new SyntaxError("not JSON");
      this.at++;
      const value = this.value(depth + 1);
      // Not an assignment: `__proto__` is a name like others.
      Object.defineProperty(members, name, { value, writable: true, enumerable: true, configurable: true });
      const next = this.next();
      this.at++;
      if (next === "}") return members;
      if (next !== ",") throw new SyntaxError("not JSON");
    }
  }
}


