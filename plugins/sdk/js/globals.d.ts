// Names that a handler finds without importing them: `"types": ["pgstream-handler/globals"]` in tsconfig.json.

export {};

declare global {
  /** There is no more of it than this. */
  var crypto: {
    getRandomValues<T extends ArrayBufferView>(array: T): T;
    randomUUID(): `${string}-${string}-${string}-${string}-${string}`;
  };
  /** Counts from when the instance began. */
  var performance: { readonly timeOrigin: number; now(): number };
  /** Writes to the host's log. */
  var console: Record<"trace" | "debug" | "log" | "info" | "warn" | "error", (...args: unknown[]) => void> & {
    assert(truth: unknown, ...args: unknown[]): void;
  };
}
