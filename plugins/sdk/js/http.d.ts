/** HTTP requests, to the hosts that the pipeline grants: `allow: { http: [api.example.com] }`. */

export interface Options {
  /** Sent as JSON, with the `content-type` that says so. */
  json?: unknown;
  /** Sent as it is; text as UTF-8. Not together with `json`. */
  body?: string | Uint8Array | readonly number[];
  headers?: { readonly [name: string]: string };
  /** Milliseconds to wait at most; the host's own limit, if there is none or it is less. */
  timeout?: number;
}

/** The answer of a server. */
export interface Response {
  readonly status: number;
  /** By names in lower case. */
  readonly headers: { readonly [name: string]: string | undefined };
  readonly body: Uint8Array;
  /** The body as text; throws if it is not UTF-8. */
  text(): string;
  /** The body as JSON; throws if it is none. */
  json(): any;
  /**
   * The answer if its status is one of success, 200 to 299. Otherwise throws: for 408, 429 and 500 and more the host comes again
   * later with the whole batch, for others the event is rejected.
   */
  success(): Response;
}

/**
 * Asks for what is at a URL, and waits for the answer. A server that cannot be reached has the host come again later with the whole
 * batch; a host that is not granted stops the pipeline, with the key to add.
 */
export declare function get(url: string, options?: Options): Response;

/** As `get`, for a request that sends something. */
export declare function post(url: string, options?: Options): Response;

/** As `get`, with any method. */
export declare function request(method: string, url: string, options?: Options): Response;
