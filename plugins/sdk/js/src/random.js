// Random numbers. Each instance has its own: those of the engine would begin with the number that they had at the build.

import * as host from "#host";

/** Bytes that the host gives at once. */
const MOST = 4096;

/** Bytes that `crypto.getRandomValues` gives at most. */
const QUOTA = 65_536;

/** A module's top level runs at the build too, to be looked at, and always with the same numbers; each instance runs it anew. */
const building = () => typeof __pgstreamBuilding !== "undefined" && __pgstreamBuilding;

function bytes(length) {
  if (building()) return Uint8Array.from({ length }, (_, at) => (at * 89 + 71) & 255);
  const all = new Uint8Array(length);
  for (let at = 0; at < length; at += MOST) {
    all.set(host.randomBytes(BigInt(Math.min(MOST, length - at))), at);
  }
  return all;
}

let state;

/** 32 random bits: `sfc32` by Chris Doty-Humphrey, which is in the public domain. */
function next() {
  const sum = (state[0] + state[1] + state[3]) | 0;
  state[3] = (state[3] + 1) | 0;
  state[0] = state[1] ^ (state[1] >>> 9);
  state[1] = (state[2] + (state[2] << 3)) | 0;
  state[2] = (((state[2] << 21) | (state[2] >>> 11)) + sum) | 0;
  return sum >>> 0;
}

/** `Math.random`. */
export function random() {
  if (!state) {
    state = new Int32Array(bytes(16).buffer);
    for (let round = 0; round < 12; round++) next();
  }
  return ((next() >>> 5) * 67_108_864 + (next() >>> 6)) / 9_007_199_254_740_992;
}

function getRandomValues(array) {
  if (!ArrayBuffer.isView(array) || array instanceof DataView || /^Float/.test(array.constructor.name)) {
    throw new TypeError("crypto.getRandomValues() takes an array of integers, such as a Uint8Array");
  }
  if (array.byteLength > QUOTA) {
    throw new RangeError(`crypto.getRandomValues() fills ${QUOTA} bytes at once, not ${array.byteLength}`);
  }
  new Uint8Array(array.buffer, array.byteOffset, array.byteLength).set(bytes(array.byteLength));
  return array;
}

function randomUUID() {
  const all = bytes(16);
  all[6] = (all[6] & 0x0f) | 0x40;
  all[8] = (all[8] & 0x3f) | 0x80;
  const hex = Array.from(all, (byte) => byte.toString(16).padStart(2, "0")).join("");
  return [hex.slice(0, 8), hex.slice(8, 12), hex.slice(12, 16), hex.slice(16, 20), hex.slice(20)].join("-");
}

/** `crypto`, of which there is no more than this. */
export const crypto = Object.freeze({ getRandomValues, randomUUID });
