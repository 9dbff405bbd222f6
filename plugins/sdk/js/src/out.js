// `Out`: the answers of a handler. Mistakes that the host would stop the pipeline for reject the one event here, in the
// host's words: `plugins/sdk/breaches.json` has them all.

import { Failure } from "./error.js";
import { write } from "./json.js";

/** Bytes of an id or a group that the host takes. */
const ID_BYTES = 1024;

/** Bytes of a vector's name that the host takes. */
const VECTOR_NAME_BYTES = 63;

let late = false;

/** Says once whether something was answered to an event that was over: that answer is lost, whoever caught the error. */
export function takeLate() {
  const was = late;
  late = false;
  return was;
}

export function lateAnswer() {
  return new Failure(
    "stop",
    "`out` was used after its event was over, so that the answer would have been lost: answer before the handler's " +
      "function returns, and keep no `out` for later",
  );
}

/** Takes the answers to one event, in the order in which they are to be applied. */
export class Out {
  #actions = [];
  #rejected;
  #over = false;

  upsert(id, embedding, payload) {
    this.#push("upsert", point({ id, embedding, payload }, "upsert"));
  }

  patch(id, payload) {
    this.#push("patch", [name("id", id), object(payload)]);
  }

  replace(group, points) {
    if (!Array.isArray(points)) throw new TypeError("replace() takes an array of points: { id, embedding, payload }");
    const wired = points.map(point);
    const at = repeated(wired.map(({ id }) => id));
    if (at !== undefined) throw new Error(`point ${at} has the id of an earlier one: give each point of the group its own id`);
    this.#push("replace", [name("group", group), wired]);
  }

  patchGroup(group, payload) {
    this.#push("patch-group", [name("group", group), object(payload)]);
  }

  delete(id) {
    this.#push("delete", name("id", id));
  }

  deleteGroup(group) {
    this.#push("delete-group", name("group", group));
  }

  clear() {
    this.#open();
    this.#actions.push({ tag: "clear" });
  }

  reject(reason) {
    this.#open();
    this.#rejected = String(reason);
  }

  #push(tag, val) {
    this.#open();
    this.#actions.push({ tag, val });
  }

  #open() {
    if (!this.#over) return;
    late = true;
    throw lateAnswer();
  }

  /** The answers as the contract has them, and the reason if the event was refused. None are taken from now on. */
  static taken(out) {
    out.#over = true;
    return { actions: out.#actions, rejected: out.#rejected };
  }
}

class Sparse {
  constructor(indices, values) {
    this.indices = indices;
    this.values = values;
  }
}

export function sparse(indices, values) {
  return new Sparse(Array.from(indices), Array.from(values));
}

function point({ id, embedding, payload }) {
  return { id: name("id", id), embeddings: embeddings(embedding), payload: object(payload ?? {}) };
}

function embeddings(given) {
  if (given === undefined || given === null) return [];
  if (!isNamed(given)) return [["", one("", given)]];
  const all = Object.entries(given).map(([vector, embedding]) => [vectorName(vector), one(vector, embedding)]);
  const at = repeated(all.map(([vector]) => vector)); // halves of characters may have become one
  if (at !== undefined) throw new Error(`vector \`${all[at][0]}\` is given twice: give each vector of a point once`);
  return all;
}

/** Index of the first name that an earlier one equals. */
function repeated(names) {
  const seen = new Set(names);
  if (seen.size === names.length) return undefined;
  return names.findIndex((name) => !seen.delete(name));
}

function vectorName(given) {
  const vector = given.toWellFormed();
  if (vector !== "" && (utf8Length(vector) > VECTOR_NAME_BYTES || /[\u0000-\u001f\u007f-\u009f]/.test(vector))) {
    throw new Error(
      `the name of a vector is longer than ${VECTOR_NAME_BYTES} bytes or has control characters: ` +
        "name vectors as the sink's `create.vectors` does",
    );
  }
  return vector;
}

/** True for embeddings by name: a plain object. */
function isNamed(given) {
  if (typeof given !== "object" || given instanceof Sparse) return false;
  const prototype = Object.getPrototypeOf(given);
  return prototype === Object.prototype || prototype === null;
}

function one(vector, given) {
  const wrong = (what) => new Error(`${vector === "" ? "the default vector" : `vector \`${shown(vector)}\``} ${what}`);
  if (typeof given === "string") {
    if (given === "") throw wrong("is to be made from empty text: leave the vector out where there is no text");
    return { tag: "text", val: given.toWellFormed() };
  }
  if (given instanceof Sparse) {
    const { indices, values } = given;
    if (indices.length !== values.length) {
      throw wrong(`has ${indices.length} indices and ${values.length} values: give one index for each value`);
    }
    if (!indices.every(isU32)) throw wrong("has an index that is not a number from 0 to 4294967295");
    const at = indices.findIndex((index, at) => at > 0 && indices[at - 1] >= index);
    if (at >= 0) throw wrong(`has indices that do not rise at place ${at}: sort the indices and name each once`);
    finite(values, wrong);
    // The runtime takes u32 as if it had a sign.
    return { tag: "sparse", val: { indices: indices.map((index) => index | 0), values } };
  }
  if (Array.isArray(given) || (ArrayBuffer.isView(given) && typeof given.every === "function")) {
    if (given.length === 0) throw wrong("has no numbers: leave the vector out, or give all its numbers");
    finite(given, wrong);
    return { tag: "dense", val: Array.isArray(given) ? given : Array.from(given) };
  }
  throw wrong(`is ${typeof given === "symbol" ? String(given) : typeof given}, not text, an array of numbers or sparse()`);
}

function finite(values, wrong) {
  if (values.every(isF32)) return;
  const at = values.findIndex((value) => !isF32(value));
  throw wrong(`has a number at place ${at} that is not finite: look for a division by zero`);
}

/** The largest finite 32-bit float, and half of what would follow: beyond that it rounds to infinity. */
const F32_MAX = 3.4028235677973366e38;

function isF32(value) {
  return typeof value === "number" && value < F32_MAX && value > -F32_MAX;
}

function isU32(value) {
  return Number.isInteger(value) && value >= 0 && value <= 0xffffffff;
}

function name(what, given) {
  if (typeof given !== "string" && typeof given !== "number" && typeof given !== "bigint") {
    const found = given === null ? "null" : typeof given === "symbol" ? String(given) : typeof given;
    throw new TypeError(`the ${what} is ${found}, not text or a number`);
  }
  const text = String(given).toWellFormed();
  if (text === "") throw new Error(`the ${what} is empty: use the row's key`);
  // A UTF-16 unit takes three bytes at most.
  if (text.length * 3 > ID_BYTES) {
    const bytes = utf8Length(text);
    if (bytes > ID_BYTES) throw new Error(`the ${what} has ${bytes} bytes, at most ${ID_BYTES} are allowed: use a hash of it`);
  }
  if (text.includes("\0")) throw new Error(`the ${what} holds a NUL character: put another character between its parts`);
  return text;
}

function utf8Length(text) {
  let bytes = 0;
  for (const character of text) {
    const point = character.codePointAt(0);
    bytes += point < 0x80 ? 1 : point < 0x800 ? 2 : point < 0x10000 ? 3 : 4;
  }
  return bytes;
}

function object(payload) {
  const text = write(payload);
  if (!text?.startsWith("{")) {
    throw new Error('the payload is not a JSON object: give an object, such as `{"title": "…"}`');
  };
  return text;
}

function shown(text) {
  return text.length > 100 ? `${text.slice(0, 100)}…` : text;
}
