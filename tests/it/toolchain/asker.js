// Sends what the text of the column `what` says to where it says, through the SDK's HTTP.

import * as http from "pgstream-handler/http";

export function onEvent(event, out) {
  const [method, url] = event.text("what").split(" ");
  const json = method === "POST" ? "0123456789".repeat(1000) : undefined;
  const answer = http.request(method, url, { json, headers: { "x-mine": "yes" } }).success();
  out.upsert("answer", null, { status: answer.status, body: answer.text(), told: answer.headers["x-harmless"] });
}
