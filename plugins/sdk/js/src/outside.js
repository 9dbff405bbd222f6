// A made-up host for unit tests in Node.js, where there is no component.

/** What the made-up host knows. */
export const world = { config: {}, embedders: {}, logged: [] };

export function log(level, message) {
  world.logged.push({ level, message });
}

export function config(key) {
  return Object.hasOwn(world.config, key) ? world.config[key] : null;
}

export function embed(embedder, texts) {
  if (!Object.hasOwn(world.embedders, embedder)) {
    const names = Object.keys(world.embedders).map((name) => `\`${name}\``);
    const val = `the handler has no embedder \`${embedder}\`, it has ${names.join(", ") || "none"}`;
    throw Object.assign(new Error(val), { payload: { tag: "stop", val } });
  }
  const rows = texts.map((text) => Array.from(world.embedders[embedder](text)));
  return { dimension: rows[0]?.length ?? 0, data: rows.flat() };
}

export function randomBytes(length) {
  return globalThis.crypto.getRandomValues(new Uint8Array(Number(length)));
}
