// HTTP requests, to the hosts that the pipeline grants: `allow: { http: [api.example.com] }`. A component whose modules
// import this is only loaded where hosts are granted.

import { exchange } from "#http";
import { reject, retry, stop } from "./error.js";
import { write } from "./json.js";
import { bytesOf, textOf } from "./utf8.js";

/** The answer of a server. */
class Response {
  constructor(status, headers, body) {
    Object.assign(this, { status, headers, body });
  }

  text() {
    return textOf(this.body);
  }

  json() {
    return JSON.parse(this.text());
  }

  success() {
    if (this.status >= 200 && this.status <= 299) return this;
    const why = `a server answered with status ${this.status}`;
    return this.status === 408 || this.status === 429 || this.status >= 500 ? retry(why) : reject(why);
  }
}

export function get(url, options) {
  return request("GET", url, options);
}

export function post(url, options) {
  return request("POST", url, options);
}

export function request(method, url, { json, body, headers = {}, timeout } = {}) {
  if (json !== undefined && body !== undefined) stop("a request has either `json` or `body`");
  const given = Object.entries(headers).map(([name, value]) => [name, String(value)]);
  if (json !== undefined) {
    body = write(json);
    if (!given.some(([name]) => name.toLowerCase() === "content-type")) given.push(["content-type", "application/json"]);
  }
  const sent = typeof body === "string" ? bytesOf(body) : Uint8Array.from(body ?? []);
  const target = parts(String(url));
  const answer = exchange({ method: String(method), ...target, headers: given, body: sent, timeout });
  return new Response(answer.status, answer.headers, answer.body);
}

/** The parts of a URL; `origin` is what may be shown: the rest may hold a row's values, and before an `@` a login. */
function parts(url) {
  const found = /^(https?):\/\/([^/?#@\s]+)([/?][^#]*)?(#.*)?$/s.exec(url);
  if (!found) stop("what was asked for is not a URL: write `https://host/path`, without a login");
  const [, scheme, authority, path = "/"] = found;
  const origin = `${scheme}://${url.includes("@") ? "…" : authority}`;
  return { scheme, authority, path: path.startsWith("/") ? path : `/${path}`, origin };
}
