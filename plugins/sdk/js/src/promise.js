// `Promise` as a component has it: the host calls a handler and takes its answer at once, so the queue of jobs is ours to run.
//
// The engine's own promises leave their jobs in a queue that nobody runs before the answer is taken. So `build.js` writes
// `async` functions as generators over the global `Promise`, which is this one: `run` brings everything that was begun to its
// end before an event is over, and tells what failed without anybody looking, or waits for what never comes.

const PENDING = 0;
const FULFILLED = 1;
const REJECTED = 2;

let queue = [];
/** Rejected promises that nobody has asked yet. */
const unheard = new Map();
/** Promises that somebody waits for. */
const awaited = new Set();

export class Promise {
  #state = PENDING;
  #value;
  #reactions = [];
  #heard = false;

  constructor(executor) {
    if (typeof executor !== "function") throw new TypeError("a promise is made with a function (resolve, reject)");
    const { resolve, reject } = this.#settlers();
    try {
      executor(resolve, reject);
    } catch (error) {
      reject(error);
    }
  }

  then(onFulfilled, onRejected) {
    const next = withResolvers.call(this.constructor?.[Symbol.species] ?? Promise);
    this.#ask(
      (value) => pass(next, onFulfilled, value, next.resolve),
      (error) => pass(next, onRejected, error, next.reject),
      true,
    );
    return next.promise;
  }

  catch(onRejected) {
    return this.then(undefined, onRejected);
  }

  finally(last) {
    if (typeof last !== "function") return this.then(last, last);
    const after = (then) => (value) => Promise.resolve(last()).then(() => then(value));
    const again = (error) => {
      throw error;
    };
    return this.then(
      after((value) => value),
      after(again),
    );
  }

  get [Symbol.toStringTag]() {
    return "Promise";
  }

  static get [Symbol.species]() {
    return this;
  }

  static resolve(value) {
    if (value instanceof Promise && value.constructor === this) return value;
    return new this((resolve) => resolve(value));
  }

  static reject(error) {
    return new this((_, reject) => reject(error));
  }

  static withResolvers() {
    return withResolvers.call(this);
  }

  static try(run, ...given) {
    return new this((resolve) => resolve(run(...given)));
  }

  static all(values) {
    return gather(this, values, (value) => value);
  }

  static allSettled(values) {
    const told = (value) => ({ status: "fulfilled", value });
    return gather(this, values, told, (reason) => ({ status: "rejected", reason }));
  }

  static any(values) {
    return new this((resolve, reject) => {
      const errors = [];
      let left = 1;
      const last = () => {
        if (--left === 0) reject(new AggregateError(errors, "every promise was rejected"));
      };
      let at = 0;
      for (const value of values) {
        const place = at++;
        left++;
        const failed = (error) => {
          errors[place] = error;
          last();
        };
        Promise.#watch(this.resolve(value), resolve, failed);
      }
      last();
    });
  }

  static race(values) {
    return new this((resolve, reject) => {
      for (const value of values) Promise.#watch(this.resolve(value), resolve, reject);
    });
  }

  /** As `then`, but those that lose a race may stay open. */
  static #watch(promise, resolve, reject) {
    if (#state in promise) promise.#ask(resolve, reject, false);
    else promise.then(resolve, reject);
  }

  #ask(fulfilled, rejected, waits) {
    this.#heard = true;
    unheard.delete(this);
    const react = (state, value) => (state === FULFILLED ? fulfilled(value) : rejected(value));
    if (this.#state !== PENDING) return enqueue(() => react(this.#state, this.#value));
    if (waits) awaited.add(this);
    this.#reactions.push(react);
  }

  #settlers() {
    let done = false;
    const once = (settle) => (value) => {
      if (done) return;
      done = true;
      settle(value);
    };
    return {
      resolve: once((value) => this.#resolve(value)),
      reject: once((error) => this.#settle(REJECTED, error)),
    };
  }

  #resolve(value) {
    if (value === this) return this.#settle(REJECTED, new TypeError("a promise cannot wait for itself"));
    if (value === null || (typeof value !== "object" && typeof value !== "function")) {
      return this.#settle(FULFILLED, value);
    }
    let then;
    try {
      then = value.then;
    } catch (error) {
      return this.#settle(REJECTED, error);
    }
    if (typeof then !== "function") return this.#settle(FULFILLED, value);
    enqueue(() => {
      const { resolve, reject } = this.#settlers();
      try {
        then.call(value, resolve, reject);
      } catch (error) {
        reject(error);
      }
    });
  }

  #settle(state, value) {
    const reactions = this.#reactions;
    this.#state = state;
    this.#value = value;
    this.#reactions = [];
    awaited.delete(this);
    if (state === REJECTED && !this.#heard) unheard.set(this, value);
    for (const react of reactions) enqueue(() => react(state, value));
  }
}

function withResolvers() {
  const made = {};
  made.promise = new this((resolve, reject) => Object.assign(made, { resolve, reject }));
  return made;
}

function pass(next, listener, value, otherwise) {
  if (typeof listener !== "function") return otherwise(value);
  try {
    next.resolve(listener(value));
  } catch (error) {
    next.reject(error);
  }
}

function gather(Kind, values, fulfilled, rejected) {
  return new Kind((resolve, reject) => {
    const all = [];
    let left = 1;
    const last = () => {
      if (--left === 0) resolve(all);
    };
    let at = 0;
    for (const value of values) {
      const place = at++;
      left++;
      const keep = (tell) => (found) => {
        all[place] = tell(found);
        last();
      };
      Kind.resolve(value).then(keep(fulfilled), rejected ? keep(rejected) : reject);
    }
    last();
  });
}

function enqueue(job) {
  queue.push(job);
}

export function queueMicrotask(job) {
  if (typeof job !== "function") throw new TypeError("queueMicrotask() takes a function");
  enqueue(job);
}

/** `Array.fromAsync`, whose own promises would be the engine's. */
export async function fromAsync(values, map, self) {
  const all = [];
  const items = values[Symbol.asyncIterator] || values[Symbol.iterator] ? values : Array.from(values);
  for await (const value of items) all.push(map ? await map.call(self, value, all.length) : value);
  return all;
}

/** Brings what was begun to its end. The error of what failed unheard, if something did. */
export function run() {
  if (queue.length === 0 && unheard.size === 0 && awaited.size === 0) return undefined;
  const failed = [];
  while (queue.length > 0) {
    const jobs = queue;
    queue = [];
    for (const job of jobs) {
      try {
        job();
      } catch (error) {
        failed.push(error);
      }
    }
  }
  failed.push(...unheard.values());
  const waits = awaited.size > 0;
  forget();
  if (failed.length > 0) return { error: failed[0] };
  if (waits) {
    const why = "it waits for a promise that nothing can fulfil: nothing comes from outside while an event is handled";
    return { error: new Error(why) };
  }
  return undefined;
}

/** Leaves what is still open: the batch comes again. */
export function forget() {
  queue = [];
  unheard.clear();
  awaited.clear();
}
