"""Does what the word in the column `what` says; for the tests of handlers in Python."""

import datetime
import logging
import os
import random
import secrets
import sys
import time
import uuid
from decimal import Decimal
from zoneinfo import ZoneInfo

from pgstream import Event, Out, Reject, Retry, Sparse, Stop, config, embed, info, on_event, text

print("read at the build")

UNSEEDED, SEEDED = random.Random(), random.Random(42)
KEPT = []


@on_event
def handle(event: Event, out: Out) -> None:
    word, _, rest = event.text("what").partition(" ")
    return ACTIONS[word](event, out, rest)


def upsert(event, out, rest):
    out.upsert(id=event.row["id"], embedding=text("text"), payload={"what": event.row["what"], "id": event.row["id"]})


def fail(event, out, rest):
    out.delete("never")
    raise ValueError("of two\nlines")


def recurse(event, out, rest):
    recurse(event, out, rest)


def nest(event, out, rest):
    payload = {}
    for _ in range(1000):
        payload = {"in": payload}
    out.patch("1", payload)


def compare(event, out, rest):
    one, other = [], []
    for _ in range(100_000):
        one, other = [one], [other]
    out.delete(one == other)


def hoard(event, out, rest):
    hoarded = []
    while True:
        hoarded.append(bytes(1 << 20))


def crumbs(event, out, rest):
    hoarded = []
    while True:
        hoarded.append(str(len(hoarded)) * 3)


def leave(event, out, rest):
    sys.exit(3)


def retry(event, out, rest):
    raise Retry("soon")


def stop(event, out, rest):
    raise Stop("never")


def reject(event, out, rest):
    out.delete("never")
    raise Reject("not  this one")


def say(event, out, rest):
    print("printed", "twice")
    print("unfinished", end="")
    sys.stderr.write("complained\n")
    logging.getLogger("lib").warning("warned of %s", "it")
    logging.getLogger("lib").debug("not wanted")
    info("told half a character: \ud800")


def values(event, out, rest):
    payload = {
        "ints": [2**63 - 1, -(2**63), 2**64 - 1],
        "numeric": Decimal("0.00000001"),
        "text": "a\0b 🏕 é",
        "lsn": event.lsn,
        "xid": event.xid,
        "micros": event.commit_micros,
        "time": event.commit_time,
    }
    out.upsert(2**63 - 1, {"": [0.5, 1], "sparse": Sparse([0, 2**32 - 1], [1, 2])}, payload)


def row(event, out, rest):
    out.patch(event.key, event.row.payload("what"))
    out.patch("python", {name: repr(value) for name, value in event.row.items() if name not in ("what", "text")})


def nan(event, out, rest):
    out.patch("1", {"scores": [1, float("nan")]})


def surrogate(event, out, rest):
    out.patch("1", {"text": "\ud800"})


def half(event, out, rest):
    out.delete("\ud800")


def missing(event, out, rest):
    out.delete(event.row["colour"])


def size(event, out, rest):
    out.upsert("size", text(rest), {"chars": len(rest), "text": rest})


def late(event, out, rest):
    import colorsys

    out.delete(colorsys.__name__)


def read(event, out, rest):
    with open(rest) as file:
        out.delete(file.read())


def clock(event, out, rest):
    time.sleep(0.01)
    out.patch("clock", {"now": time.time(), "random": random.random(), "hash": hash("x")})


def configured(event, out, rest):
    out.delete(config(rest, "default"))


def vectors(event, out, rest):
    vectors = embed("default", ["a", "b\0"])
    out.patch("vectors", {"vectors": vectors})


def unknown(event, out, rest):
    embed("nobody", ["a"])


def spin(event, out, rest):
    while True:
        try:
            while True:
                pass
        except BaseException:
            pass


def chance(event, out, rest):
    drawn = {"module": random.random(), "unseeded": UNSEEDED.random(), "seeded": SEEDED.random()}
    drawn |= {"uuid": uuid.uuid4(), "uuid1": uuid.uuid1(), "secret": secrets.token_hex(), "node": uuid.getnode()}
    out.patch("chance", drawn | {"environment": dict(os.environ)})


async def later(event, out):
    out.delete("never")


def coroutine(event, out, rest):
    return later(event, out)


def generator(event, out, rest):
    yield out.delete("never")


def listed(event, out, rest):
    return [{"id": 1}]


def forgotten(event, out, rest):
    later(event, out)


def held(event, out, rest):
    KEPT.append(out)
    KEPT[0].delete("late")


def library(event, out, rest):
    noon = datetime.datetime(2026, 7, 1, 12, tzinfo=ZoneInfo("Europe/Berlin"))
    words = {"euro": b"\x80".decode("cp1252"), "hanzi": "字".encode("gbk").hex(), "host": "bücher.example".encode("idna").decode()}
    moment = datetime.datetime.strptime("2026-01-02", "%Y-%m-%d")
    out.patch("library", words | {"moment": str(moment), "hour": time.strptime("12", "%H").tm_hour, "berlin": str(noon)})


def meta(event, out, rest):
    out.patch("meta", {"meta": event.row["meta"]})


def large(event, out, rest):
    out.patch("large", {"large": 10**400})


ACTIONS = {name: action for name, action in list(globals().items()) if callable(action)}
