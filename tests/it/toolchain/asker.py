"""Sends what the text of the column ``what`` says to where it says, through the SDK's HTTP."""

from pgstream import Event, Out, http, on_event


@on_event
def handle(event: Event, out: Out) -> None:
    method, _, url = event.text("what").partition(" ")
    data = "0123456789" * 1000 if method == "POST" else None
    answer = http.request(method, url, json=data, headers={"x-mine": "yes"}).success()
    payload = {"status": answer.status, "body": answer.text(), "told": answer.headers.get("x-harmless")}
    out.upsert("answer", None, payload)
