// `Event`: what happened, with columns by name.

import { config } from "#host";
import { Timestamp, integer, keyText, json, kind, value } from "./values.js";

/** A relation with its columns by name: made once per batch, so that an event only looks up. */
export class Table {
  constructor(relation) {
    this.schema = relation.schema;
    this.name = relation.table;
    this.columns = Object.freeze(
      relation.columns.map(({ name, typeName, key }) => Object.freeze({ name, type: typeName, key })),
    );
    this.names = relation.columns.map((column) => column.name);
    this.index = new Map(this.names.map((name, at) => [name, at]));
    this.keys = this.columns.flatMap((column, at) => (column.key ? [at] : []));
    this.traps = { get: (row, name) => this.get(row, name), set: readOnly, deleteProperty: readOnly };
  }

  /** The row as an object whose missing columns are an error instead of undefined. */
  row(values) {
    // No prototype: every name is a column's.
    const row = Object.create(null);
    for (let at = 0; at < values.length; at++) {
      const raw = values[at];
      if (raw.tag === "json") lazy(row, this.names[at], raw);
      else row[this.names[at]] = value(raw);
    }
    return new Proxy(row, this.traps);
  }

  /** The text that ids begin with. The host is asked once per batch. */
  get prefix() {
    const schema = this.schema.replaceAll("~", "~0").replaceAll(".", "~1");
    const value = config(`pgstream:id/${schema}.${this.name}`) ?? undefined;
    Object.defineProperty(this, "prefix", { value });
    return value;
  }

  get(row, name) {
    const found = row[name];
    if (found !== undefined || typeof name === "symbol" || name in row) return found;
    if (name === "toJSON") return () => ({ ...row });
    if (name === "then") return undefined;
    throw this.missing(name);
  }

  missing(name) {
    const names = this.names.map((known) => `\`${known}\``).join(", ");
    return new Error(`\`${this.schema}.${this.name}\` has no column \`${name}\`, it has ${names}`);
  }
}

function readOnly() {
  throw new TypeError("a row cannot be changed: copy it with {...event.row}");
}

/** Parses JSON only if it is looked at. */
function lazy(row, name, raw) {
  let known;
  const get = () => (known ??= { parsed: value(raw) }).parsed;
  Object.defineProperty(row, name, { get, enumerable: true, configurable: true });
}

const TEXTS = new Set(["text", "numeric", "uuid", "json", "other"]);

export class Event {
  #table;
  #raw;
  #row;
  #oldRow;
  #commitTime;

  constructor(table, raw) {
    this.#table = table;
    this.#raw = raw;
  }

  get operation() {
    return this.#raw.operation;
  }

  get schema() {
    return this.#table.schema;
  }

  get table() {
    return this.#table.name;
  }

  get columns() {
    return this.#table.columns;
  }

  get row() {
    return (this.#row ??= this.#table.row(this.#raw.row));
  }

  get oldRow() {
    const values = this.#raw.oldRow;
    return values ? (this.#oldRow ??= this.#table.row(values)) : undefined;
  }

  get id() {
    const { prefix } = this.#table;
    return prefix === undefined ? this.key : `${prefix}:${this.key}`;
  }

  get key() {
    const { keys, schema, name } = this.#table;
    const { row } = this.#raw;
    if (keys.length === 0) {
      throw new Error(`\`${schema}.${name}\` has no key: \`ALTER TABLE ${schema}.${name} ADD PRIMARY KEY (…)\``);
    }
    if (row.length === 0) throw new Error("a truncate concerns the whole table: it has no key");
    return keys.length === 1 ? keyText(row[keys[0]]) : `[${keys.map((at) => json(row[at])).join(",")}]`;
  }

  get position() {
    return { lsn: this.lsn, ordinal: this.ordinal };
  }

  get lsn() {
    return BigInt.asUintN(64, this.#raw.lsn);
  }

  // The runtime hands over u32 as if it had a sign.
  get ordinal() {
    return this.#raw.ordinal >>> 0;
  }

  get xid() {
    return this.#raw.xid >>> 0;
  }

  get commitTime() {
    return (this.#commitTime ??= new Timestamp(this.#raw.commitTime));
  }

  get snapshot() {
    return this.#raw.snapshot;
  }

  unchanged(column) {
    return this.#find(column)?.tag === "unchanged";
  }

  has(column) {
    return this.#table.index.has(column);
  }

  text(column) {
    const raw = this.#value(column);
    if (!TEXTS.has(raw.tag)) throw this.#not(column, "text");
    return raw.val;
  }

  int(column) {
    const raw = this.#value(column);
    if (raw.tag !== "int") throw this.#not(column, "an integer");
    return integer(raw.val);
  }

  bigint(column) {
    const raw = this.#value(column);
    if (raw.tag !== "int") throw this.#not(column, "an integer");
    return raw.val;
  }

  float(column) {
    const raw = this.#value(column);
    if (raw.tag !== "float" && raw.tag !== "int" && raw.tag !== "numeric") throw this.#not(column, "a number");
    return Number(raw.val);
  }

  boolean(column) {
    const raw = this.#value(column);
    if (raw.tag !== "boolean") throw this.#not(column, "a truth value");
    return raw.val;
  }

  toJSON() {
    const { operation, schema, table, row } = this;
    return { operation, schema, table, row };
  }

  #find(column) {
    const at = this.#table.index.get(column);
    return at === undefined ? undefined : this.#raw.row[at];
  }

  #value(column) {
    const raw = this.#find(column);
    if (raw) return raw;
    if (this.#table.index.has(column)) throw new Error("a truncate concerns the whole table: it has no row");
    throw this.#table.missing(column);
  }

  #not(column, wanted) {
    const { schema, name } = this.#table;
    return new Error(`column \`${column}\` of \`${schema}.${name}\` is ${kind(this.#find(column))}, not ${wanted}`);
  }
}

