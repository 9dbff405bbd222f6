// Types of the SDK. A handler exports `onEvent`, or else `onBatch`.

/** Called with each committed change of a row. What it throws rejects that one change, with its message. */
export type OnEvent<Row extends object = AnyRow> = (event: Event<Row>, out: Out) => void;

/** Called with all changes of a batch, each with what takes its answers. If it throws, it is called again with one change
 * after the other, so that only the culprit is rejected. */
export type OnBatch<Row extends object = AnyRow> = (batch: { event: Event<Row>; out: Out }[]) => void;

export type Operation = "insert" | "update" | "delete" | "truncate";

/** A large column that the UPDATE left alone, so that Postgres did not send it. Not null. */
export declare const unchanged: unique symbol;
export type Unchanged = typeof unchanged;

/** The values that a column may hold. An integer is a `bigint` where a number would not hold it exactly; `numeric` is exact text. */
export type Value =
  | null
  | Unchanged
  | boolean
  | number
  | bigint
  | string
  | Uint8Array
  | Timestamp
  | PlainDate
  | PlainTime
  | ExactJson
  | number[]
  | Json[]
  | { [key: string]: Json };

/** A parsed `json` column. As long as nobody changes it, it is written as Postgres sent it. */
export type Json = null | boolean | number | bigint | string | ExactJson | Json[] | { [key: string]: Json };

/** JSON that JavaScript has no value for, such as a number of thirty digits behind the point. `Number(it)` is the nearest
 * number, `String(it)` what Postgres sent; in a payload it is written as it was sent. */
export declare class ExactJson {
  valueOf(): number;
  toString(): string;
}

/** A row of a table that nothing is known of. */
export type AnyRow = { [column: string]: Value };

export interface Column {
  readonly name: string;
  /** Postgres' name: `int8`, `text`, `vector`. */
  readonly type: string;
  /** True if the column identifies the row. */
  readonly key: boolean;
}

/** One committed change of a row. `Row` says what the columns hold; it is taken at its word. */
export interface Event<Row extends object = AnyRow> {
  readonly operation: Operation;
  readonly schema: string;
  readonly table: string;
  readonly columns: readonly Column[];
  /** The new row; for a delete what the replica identity gives of the old one, by default the key. A column that is not
   * there is an error that names those that are. Spread copies it: `const { content, ...payload } = event.row`. */
  readonly row: Readonly<Row>;
  /** The old row as far as the replica identity gives it. */
  readonly oldRow: Readonly<Row> | undefined;
  /** The id of the row's point, or group of points: its key. Where the pipeline has several tables, the table's name stands
   * before it, `public.documents:7`, so that rows of two tables with equal keys have points of their own. */
  readonly id: string;
  /** The row's key as text; a JSON array if the key has several columns. Throws if there is none. */
  readonly key: string;
  readonly position: { readonly lsn: bigint; readonly ordinal: number };
  /** LSN of the transaction's commit. */
  readonly lsn: bigint;
  /** Index of the event within its transaction. */
  readonly ordinal: number;
  readonly commitTime: Timestamp;
  readonly xid: number;
  /** True if the row was read by a backfill rather than streamed. */
  readonly snapshot: boolean;
  /** True if the UPDATE left this large column alone. Not the same as null. False if there is no such column. */
  unchanged(column: keyof Row & string): boolean;
  /** True if the table has such a column. */
  has(column: string): boolean;
  /** The text of a column; throws if it is null, unchanged or something else. */
  text(column: keyof Row & string): string;
  /** The integer in a column; throws if it is null, unchanged or something else. */
  int(column: keyof Row & string): number | bigint;
  /** As `int`, always as a BigInt. */
  bigint(column: keyof Row & string): bigint;
  /** The number in a column, integers and numerics too, as near as a float gets. */
  float(column: keyof Row & string): number;
  /** The truth value in a column. */
  boolean(column: keyof Row & string): boolean;
}

/** Text that the host embeds, a vector, or a sparse one. */
export type Embedding = string | readonly number[] | Float32Array | Float64Array | Sparse;

/** One embedding, several by name, or none. */
export type Embeddings = Embedding | { readonly [vector: string]: Embedding } | null | undefined;

declare const sparseBrand: unique symbol;
export interface Sparse {
  readonly [sparseBrand]: true;
}

/** A sparse vector; the indices rise. */
export declare function sparse(indices: Iterable<number>, values: Iterable<number>): Sparse;

export type Id = string | number | bigint;

/** An object that becomes JSON: members that are `undefined` or `unchanged` are left out, a BigInt keeps all its digits. */
export type Payload = object;

export interface Point {
  id: Id;
  embedding?: Embeddings;
  payload?: Payload;
}

/** Takes the answers to one event, in the order in which they are to be applied. */
export interface Out {
  /** Writes a point whole: what was stored under this id is gone. */
  upsert(id: Id, embedding: Embeddings, payload?: Payload): void;
  /** Overwrites these keys of a point's payload. Its vectors and its other keys stay. */
  patch(id: Id, payload: Payload): void;
  /** Makes these the only points of a group, such as the chunks of one document. */
  replace(group: Id, points: readonly Point[]): void;
  /** Overwrites these keys of the payload of every point of a group. */
  patchGroup(group: Id, payload: Payload): void;
  delete(id: Id): void;
  deleteGroup(group: Id): void;
  /** Removes every point of the sink's collection or table. */
  clear(): void;
  /** Refuses the event: whatever was answered to it is forgotten. Throwing an Error does the same. */
  reject(reason: string): void;
}

/** Cuts a text into pieces of at most `chars` characters that end between words where there are any. A piece repeats about an
 * eighth of the one before. Empty for blank text. */
export declare function chunks(text: string, chars: number): string[];

/** A value of the transform's `config` in the pipeline file. Only while an event is handled. */
export declare function config(key: string): string | undefined;

/** Has the host embed texts, one vector for each. Giving `upsert` the text itself is cheaper where it is enough. */
export declare function embed(embedder: string, texts: readonly string[]): number[][];

/** The host's log. `console` writes there too. */
export declare const log: Record<"trace" | "debug" | "info" | "warn" | "error", (message: string) => void>;

/** Throws: this event cannot be handled. It is rejected in these words alone, where any other error has its line, too. */
export declare function reject(why: string): never;

/** Throws: it will pass, the host calls again with the same batch, later. */
export declare function retry(why: string): never;

/** Throws: a person must act, the pipeline stops. */
export declare function stop(why: string): never;

/** JSON as payloads are written, with every integer exact. */
export declare function toJson(value: unknown): string | undefined;

/** A `timestamp` or `timestamptz`: a Date (an invalid one for infinity) that also has the microseconds. */
export declare class Timestamp extends Date {
  constructor(micros: bigint | number);
  /** Since 1970-01-01 UTC; the largest and smallest 64-bit integer for the infinities. */
  readonly micros: bigint;
  readonly infinite: boolean;
}

/** A `date`. */
export declare class PlainDate {
  constructor(days: number);
  /** Since 1970-01-01. */
  readonly days: number;
  readonly infinite: boolean;
  /** Midnight UTC. */
  toDate(): Date;
  toString(): string;
  toJSON(): string;
}

/** A `time`. */
export declare class PlainTime {
  constructor(micros: bigint | number);
  /** Since midnight. */
  readonly micros: number;
  toString(): string;
  toJSON(): string;
}
