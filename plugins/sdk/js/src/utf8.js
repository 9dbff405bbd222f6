// Text as bytes and back, which the engine has nothing for.

/** Bytes that become characters in one go. */
const STEP = 4096;

export function bytesOf(text) {
  const binary = unescape(encodeURIComponent(text.toWellFormed()));
  return Uint8Array.from(binary, (unit) => unit.charCodeAt(0));
}

export function textOf(bytes) {
  let binary = "";
  for (let at = 0; at < bytes.length; at += STEP) binary += String.fromCharCode(...bytes.subarray(at, at + STEP));
  if (bytes.every((byte) => byte < 0x80)) return binary;
  try {
    return decodeURIComponent(escape(binary));
  } catch {
    throw new TypeError("the body is not UTF-8");
  }
}
