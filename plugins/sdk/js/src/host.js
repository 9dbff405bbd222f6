// The host, as a component sees it: what the contract in wit/ lets a handler import.

export { log } from "pgstream:host/log@0.1.0";
export { get as config } from "pgstream:host/config@0.1.0";
export { embed } from "pgstream:host/embeddings@0.1.0";
export { getRandomBytes as randomBytes } from "wasi:random/random@0.2.6";
