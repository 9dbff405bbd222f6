// Column values as JavaScript has them.

import { parse, write } from "./json.js";
import { dayText, timeText, timestampText } from "./time.js";

/** A large column that the UPDATE left alone, so that Postgres did not send it. Not null. */
export const unchanged = Symbol("unchanged");

const MAX_TIME = 9223372036854775807n;
const MIN_TIME = -9223372036854775808n;

/** A `timestamp` or `timestamptz`: a Date that also has the microseconds. */
export class Timestamp extends Date {
  constructor(micros) {
    const exact = BigInt(micros);
    // Rounded down, as a Date cuts what is less than a millisecond; infinity is no date.
    const infinite = exact === MAX_TIME || exact === MIN_TIME;
    super(infinite ? NaN : Number(exact >= 0n ? exact / 1000n : -((999n - exact) / 1000n)));
    this.micros = exact;
  }

  get infinite() {
    return this.micros === MAX_TIME || this.micros === MIN_TIME;
  }

  toString() {
    return timestampText(this.micros);
  }

  toJSON() {
    return this.toString();
  }
}

/** A `date`. */
export class PlainDate {
  constructor(days) {
    this.days = days;
  }

  get infinite() {
    return this.days === 2147483647 || this.days === -2147483648;
  }

  /** Midnight UTC. */
  toDate() {
    return new Date(this.infinite ? NaN : this.days * 86_400_000);
  }

  toString() {
    return dayText(this.days);
  }

  toJSON() {
    return this.toString();
  }

  valueOf() {
    return this.days;
  }
}

/** A `time`. */
export class PlainTime {
  constructor(micros) {
    this.micros = Number(micros);
  }

  toString() {
    return timeText(this.micros);
  }

  toJSON() {
    return this.toString();
  }

  valueOf() {
    return this.micros;
  }
}

/** An integer as a number if it is one that a number holds exactly, else as a BigInt. */
export function integer(value) {
  const near = Number(value);
  return Number.isSafeInteger(near) ? near : value;
}

/** The value as a handler gets it. */
export function value(raw) {
  switch (raw.tag) {
    case "null":
      return null;
    case "unchanged":
      return unchanged;
    case "int":
      return integer(raw.val);
    case "timestamp":
      return new Timestamp(raw.val);
    case "date":
      return new PlainDate(raw.val);
    case "time":
      return new PlainTime(raw.val);
    case "json":
      return parse(raw.val);
    default:
      return raw.val;
  }
}

/** The value as JSON text, as the SDKs of all languages write it. */
export function json(raw) {
  return raw.tag === "float" ? floatText(raw.val) : (write(value(raw)) ?? "null");
}

/** A value as part of an id: text as it stands, everything else as JSON. */
export function keyText(raw) {
  const text = json(raw);
  return text.startsWith('"') ? JSON.parse(text) : text;
}

/** A float as Rust writes it, because ids must not differ between languages: `1.0`, `1e16`, `1.5e-7`. */
export function floatText(value) {
  if (!Number.isFinite(value)) return write(value);
  const sign = value < 0 || Object.is(value, -0) ? "-" : "";
  const [mantissa, exponent] = Math.abs(value).toExponential().split("e");
  const digits = mantissa.replace(".", "");
  const point = Number(exponent) + 1;
  if (value === 0) return `${sign}0.0`;
  if (digits.length <= point && point <= 16) return `${sign}${digits.padEnd(point, "0")}.0`;
  if (point > 0 && point <= 16) return `${sign}${digits.slice(0, point)}.${digits.slice(point)}`;
  if (point > -5 && point <= 0) return `${sign}0.${"0".repeat(-point)}${digits}`;
  return `${sign}${mantissa}e${exponent.replace("+", "")}`;
}

const KINDS = {
  null: "null",
  unchanged: "unchanged (not sent, as the UPDATE left it alone)",
  boolean: "a truth value",
  int: "an integer",
  float: "a float",
  numeric: "a numeric",
  text: "text",
  bytes: "bytes",
  timestamp: "a timestamp",
  date: "a date",
  time: "a time",
  uuid: "a uuid",
  json: "JSON",
  vector: "a vector",
  other: "of a type that travels as text",
};

/** The kind of the value, in words. */
export function kind(raw) {
  return raw ? KINDS[raw.tag] : "nothing";
}
