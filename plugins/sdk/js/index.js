// What a handler imports. The types are in index.d.ts.

export { reject, retry, stop } from "./src/error.js";
export { config, embed, log } from "./src/calls.js";
export { sparse } from "./src/out.js";
export { PlainDate, PlainTime, Timestamp, unchanged } from "./src/values.js";
export { ExactJson, write as toJson } from "./src/json.js";
export { chunks } from "./src/chunk.js";
