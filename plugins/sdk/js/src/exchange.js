// A request and its answer over `wasi:http`. Whatever the host lends for it is given back at once: it counts what an
// instance holds.

import * as types from "pasi:http/types@0.2.6";
import { handle } from "pasi:http/outgoing-handler@0.2.6";
import { Failure, retry, stop } from "./error.js";
import { bytesOf, textOf } from "./utf8.js";

/** Bytes that a body takes in one go, and that an answer gives. */
const WRITTEN = 4096;
const READ = 65536n;

const METHODS = ["GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH"];

/** Errors by which the host refuses a request: they will not pass. */
const REFUSED = [
  "HTTP-request-denied",
  "destination-IP-prohibited",
  "HTTP-request-URI-invalid",
  "HTTP-request-method-invalid",
  "HTTP-request-body-size",
  "HTTP-request-length-required",
  "HTTP-request-trailer-section-size",
  "HTTP-response-body-size",
  "HTTP-protocol-error",
  "TLS-certificate-error",
];

export function exchange(request) {
  const { origin } = request;
  const refused = (what) => stop(`\`${origin}\`: ${what} is not one that can be sent`);
  const put = (what, call) => {
    try {
      return call();
    } catch {
      return refused(what);
    }
  };
  const fields = new types.Fields();
  for (const [name, value] of request.headers) {
    put(`header \`${name}\``, () => fields.append(name, bytesOf(value)));
  }
  const outgoing = new types.OutgoingRequest(fields);
  const { method } = request;
  put("the method", () =>
    outgoing.setMethod(METHODS.includes(method) ? { tag: method.toLowerCase() } : { tag: "other", val: method }));
  put("the scheme", () => outgoing.setScheme({ tag: request.scheme === "https" ? "HTTPS" : "HTTP" }));
  put("the host", () => outgoing.setAuthority(request.authority));
  put("the path", () => outgoing.setPathWithQuery(request.path));
  const options = new types.RequestOptions();
  if (request.timeout !== undefined) {
    const nanos = BigInt(Math.max(1, Math.ceil(request.timeout * 1e6)));
    put("the timeout", () => {
      options.setConnectTimeout(nanos);
      options.setFirstByteTimeout(nanos);
      options.setBetweenBytesTimeout(nanos);
    });
  }
  const body = put("the body", () => outgoing.body());
  const begun = tried(origin, () => handle(outgoing, options));
  return lent(begun, () => {
    lent(body.write(), (stream) => {
      try {
        for (let at = 0; at < request.body.length; at += WRITTEN) {
          stream.blockingWriteAndFlush(request.body.slice(at, at + WRITTEN));
        }
      } catch {
        // The answer says why.
      }
    });
    tried(origin, () => types.OutgoingBody.finish(body, undefined));
    lent(begun.subscribe(), (ready) => ready.block());
    // A result in a result in an option: there is one, it was not taken before, and it is an answer or an error.
    const answer = begun.get()?.val;
    if (answer?.tag === "err") failed(origin, answer.val);
    if (answer?.tag !== "ok") retry(`\`${origin}\`: there was no answer`);
    return lent(answer.val, (response) => received(origin, response));
  });
}

function received(origin, response) {
  const headers = lent(response.headers(), (fields) =>
    Object.fromEntries(fields.entries().map(([name, value]) => [name.toLowerCase(), latin(value)])));
  const status = response.status();
  const parts = [];
  lent(response.consume(), (incoming) =>
    lent(incoming.stream(), (stream) => {
      for (;;) {
        try {
          parts.push(Uint8Array.from(stream.blockingRead(READ)));
        } catch (error) {
          const why = error?.payload;
          if (why?.tag === "closed") return;
          if (why?.tag !== "last-operation-failed") throw error;
          const code = lent(why.val, (cause) => types.httpErrorCode(cause));
          if (code?.tag) failed(origin, code);
          retry(`\`${origin}\`: the answer broke off`);
        }
      }
    }));
  const body = new Uint8Array(parts.reduce((length, part) => length + part.length, 0));
  let at = 0;
  for (const part of parts) {
    body.set(part, at);
    at += part.length;
  }
  return { status, headers, body };
}

/** Calls with something that the host lends, and gives it back. */
function lent(resource, call) {
  try {
    return call(resource);
  } finally {
    resource[Symbol.dispose]();
  }
}

function tried(origin, call) {
  try {
    return call();
  } catch (error) {
    if (error?.payload?.tag) return failed(origin, error.payload);
    throw error;
  }
}

function failed(origin, code) {
  const why = `\`${origin}\`: ${code.tag.replaceAll("-", " ").toLowerCase()}`;
  throw new Failure(REFUSED.includes(code.tag) ? "stop" : "retry", why);
}

function latin(value) {
  const given = Uint8Array.from(value);
  try {
    return textOf(given);
  } catch {
    return String.fromCharCode(...given);
  }
}
