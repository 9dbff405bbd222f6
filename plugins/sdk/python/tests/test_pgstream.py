"""The SDK against its promises, in any Python: no WebAssembly is needed."""

import datetime
import json
import unittest
import uuid
from decimal import Decimal
from typing import Any

from pgstream import (
    UNCHANGED, Event, MissingColumn, Out, Point, Reject, Retry, Sparse, Stop, config, embed, info, on_event, text,
)  # fmt: skip
from pgstream import _run, http
from pgstream._json import write
from pgstream._values import _json_form, date_text, float_text, time_text, timestamp_text
from pgstream.testing import Clear, Delete, DeleteGroup, Harness, Patch, PatchGroup, Replace, Table, Upsert
from pgstream.testing import Point as Shown

UTC = datetime.timezone.utc
THINGS = Table(
    "shop.things",
    {
        "id": "int8", "name": "text", "price": "numeric", "at": "timestamptz", "day": "date", "noon": "time",
        "meta": "jsonb", "bytes": "bytea", "vector": "vector", "size": "float8", "on": "bool",
    },
)  # fmt: skip
ROW: dict[str, Any] = dict(
    id=1, name="é", price="1.50", at="2024-05-01T12:00:00.5Z", day="2024-05-01", noon="12:00:00", meta={"a": [1]},
    bytes=b"\0\xff", vector=[0.5], size=2.0, on=True,
)  # fmt: skip


def seen(change: Any) -> Event:
    events: list[Event] = []
    answer = Harness(lambda event, out: events.append(event)).run([change])
    assert not answer.rejected
    return events[0]


def _event(change: Any) -> Event:
    return Event(change.operation, 0, list(change.row), None, 0x1000, 0, 0, 1, False)


class Rows(unittest.TestCase):
    def test_values_are_pythons_own(self) -> None:
        row = seen(THINGS.insert(ROW)).row
        own = {
            "price": Decimal("1.50"),
            "at": datetime.datetime(2024, 5, 1, 12, 0, 0, 500_000, UTC),
            "day": datetime.date(2024, 5, 1),
            "noon": datetime.time(12),
        }
        self.assertEqual(dict(row), {**ROW, **own})
        self.assertEqual(str(row["price"]), "1.50")
        self.assertEqual((len(row), "id" in row, "x" in row, row.get("x", 3), row.get("id")), (11, True, False, 3, 1))
        self.assertEqual((row.raw("at"), row.raw("price"), row.raw("noon")), (1714564800500000, "1.50", 43200000000))
        self.assertIs(row["meta"], row["meta"])

    def test_a_payload_is_the_row_as_json_has_it(self) -> None:
        row = seen(THINGS.update({**ROW, "name": UNCHANGED})).row
        expected = {
            "id": 1, "price": "1.50", "at": "2024-05-01T12:00:00.5Z", "day": "2024-05-01", "noon": "12:00:00",
            "bytes": "\\x00ff", "vector": [0.5], "size": 2.0, "on": True,
        }  # fmt: skip
        self.assertEqual(row.payload("meta"), expected)

    def test_infinities_are_told_and_can_be_had_raw(self) -> None:
        event = seen(THINGS.insert(id=1, at="infinity", day="-infinity", size=float("-inf"), price="NaN"))
        with self.assertRaisesRegex(Reject, r"`at` of `shop.things` is infinity, .*: use `row.raw\(\"at\"\)`"):
            event.row["at"]
        with self.assertRaisesRegex(Reject, "-infinity, which a date cannot hold"):
            event.row["day"]
        self.assertEqual((event.row.raw("at"), event.row.raw("day")), (2**63 - 1, -(2**31)))
        payload = event.row.payload()
        self.assertEqual((payload["at"], payload["day"], payload["size"]), ("infinity", "-infinity", "-Infinity"))
        self.assertEqual(payload["price"], "NaN")
        self.assertTrue(event.row["price"].is_nan())

    def test_a_missing_column_is_told_with_those_there_are(self) -> None:
        things = Table("things", {"id": "int8", "name": "text"})
        with self.assertRaises(KeyError) as error:
            seen(things.insert(id=1)).row["x"]
        self.assertIsInstance(error.exception, MissingColumn)
        self.assertEqual(str(error.exception), "`public.things` has no column `x`, it has `id`, `name`")
        with self.assertRaisesRegex(Reject, "the row is empty: a truncate"):
            seen(things.truncate()).row["id"]
        with self.assertRaisesRegex(ValueError, "no column `x`"):
            things.insert(x=1)

    def test_a_value_of_another_kind_is_told(self) -> None:
        event = seen(THINGS.update(id=1, name=UNCHANGED, price="1.5"))
        self.assertEqual((event.integer("id"), event.number("price"), event.number("id")), (1, 1.5, 1.0))
        wrong: list[tuple[Any, str]] = [
            (lambda: event.text("name"), "is unchanged (not sent, as the UPDATE left it alone), not text"),
            (lambda: event.text("id"), "is an integer, not text"),
            (lambda: event.integer("size"), "is null, not an integer"),
            (lambda: event.boolean("id"), "is an integer, not a truth value"),
        ]
        for call, said in wrong:
            with self.assertRaises(Reject) as error:
                call()
            self.assertTrue(str(error.exception).endswith(said), error.exception)

    def test_unchanged_is_not_null_and_not_text(self) -> None:
        event = seen(THINGS.update(id=1, name=UNCHANGED))
        self.assertTrue(event.row["name"] is UNCHANGED and event.unchanged("name"))
        self.assertFalse(event.unchanged("id") or event.unchanged("x") or event.unchanged("size"))
        uses: list[Any] = [bool, "{}".format, text]
        for use in uses:
            with self.assertRaises((TypeError, Reject)):
                use(event.row["name"])
        self.assertEqual(repr(UNCHANGED), "UNCHANGED")

    def test_an_event_tells_where_and_when(self) -> None:
        event = seen(THINGS.update(id=1, old={"id": 2}))
        self.assertEqual((event.operation, event.schema, event.table), ("update", "shop", "things"))
        self.assertEqual((event.position.lsn, str(event.position)), (0x1000, "0/1000#0"))
        self.assertEqual(event.commit_time, datetime.datetime(1970, 1, 1, tzinfo=UTC))
        self.assertEqual(event.old_row and event.old_row["id"], 2)
        self.assertIsNone(seen(THINGS.delete(id=1)).old_row)

    def test_keys_are_text(self) -> None:
        def key(value: Any, kind: str) -> str:
            return seen(Table("t", {"k": kind}, key=["k"]).insert(k=value)).key

        self.assertEqual(key(2**63 - 1, "int8"), "9223372036854775807")
        self.assertEqual((key("é", "text"), key("1.50", "numeric"), key(True, "bool")), ("é", "1.50", "true"))
        self.assertEqual((key(1e16, "float8"), key(1e-7, "float8"), key(2, "float8")), ("1e16", "1e-7", "2.0"))
        self.assertEqual(key({"b": 1.0, "a": "é"}, "jsonb"), '{"b":1.0,"a":"é"}')
        both = Table("t", {"a": "int8", "b": "text"}, key=["a", "b"])
        self.assertEqual(seen(both.insert(a=1, b='é"')).key, '[1,"é\\""]')
        answer = Harness(lambda event, out: out.delete(event.key)).run([Table("t", {"a": "int8"}, key=[]).insert(a=1)])
        self.assertEqual(answer.rejected, {0: "`public.t` has no key: `ALTER TABLE public.t ADD PRIMARY KEY (…)`"})


class Forms(unittest.TestCase):
    def test_days_count_as_the_calendar_does(self) -> None:
        for days, said in [
            (0, "1970-01-01"), (-1, "1969-12-31"), (11_016, "2000-02-29"), (2_932_896, "9999-12-31"),
            (2_932_897, "+10000-01-01"), (-719_162, "0001-01-01"), (-719_163, "0000-12-31"), (-719_528, "0000-01-01"),
            (-719_529, "-0001-12-31"), (2**31 - 1, "infinity"), (-(2**31), "-infinity"),
        ]:  # fmt: skip
            self.assertEqual(date_text(days), said)

    def test_times_are_written_as_rfc_3339_has_them(self) -> None:
        self.assertEqual(timestamp_text(0), "1970-01-01T00:00:00Z")
        self.assertEqual(timestamp_text(-1), "1969-12-31T23:59:59.999999Z")
        self.assertEqual(timestamp_text(1_714_564_800_500_000), "2024-05-01T12:00:00.5Z")
        self.assertEqual(timestamp_text(2_932_897 * 86_400_000_000), "+10000-01-01T00:00:00Z")
        self.assertEqual(time_text(86_400_000_000), "24:00:00")

    def test_numbers_in_ids_are_written_as_all_languages_do(self) -> None:
        for number, said in [
            (1.0, "1.0"), (0.1, "0.1"), (1e15, "1000000000000000.0"), (1e16, "1e16"), (1.5e300, "1.5e300"),
            (1e-4, "0.0001"), (1e-5, "0.00001"), (-1.25e-5, "-0.0000125"), (1e-6, "1e-6"), (1.5e-10, "1.5e-10"),
        ]:  # fmt: skip
            self.assertEqual(float_text(number), said)

    def test_json_goes_into_a_payload_as_it_was_sent(self) -> None:
        table = Table("public.things", {"id": "int8", "meta": "jsonb"}, key=["id"])
        odd = [
            '{"n": 123456789012345678901234567890}', '{"n": [0.1234567890123456789, {"m": 1.50}]}', '{"n": 1e309}',
            '{"half": "\\ud800"}', '{"long": ' + "9" * 5000 + "}", '{"in":' * 150 + "1e400" + "}" * 150,
        ]  # fmt: skip

        def sent(handle: Any, text: str) -> str:
            output = _run.run(_run.loop(handle), [table._relation], [_event(table.insert(id=1, meta=text))])
            payload: str = output.commands[0].action.value[1]  # type: ignore[union-attr, index]
            return payload

        def whole(event: Event, out: Out) -> None:
            out.patch(1, {"meta": event.row["meta"]})

        def row(event: Event, out: Out) -> None:
            out.patch(1, event.row.payload("id"))

        def parts(event: Event, out: Out) -> None:
            out.patch(1, {**event.row["meta"], "more": 1})

        def changed(event: Event, out: Out) -> None:
            meta = event.row["meta"]
            meta["more"] = 1
            out.patch(1, {"meta": meta})

        for text in odd:
            self.assertEqual(sent(whole, text), f'{{"meta":{text}}}')
            self.assertEqual(sent(row, text), f'{{"meta":{text}}}')
        self.assertEqual(sent(parts, odd[1]), '{"n":[0.1234567890123456789,{"m":1.5}],"more":1}')
        self.assertEqual(sent(changed, odd[2]), '{"meta":{"n":1e309,"more":1}}')
        for handle in (whole, row):
            self.assertEqual(sent(handle, "[" * 300 + "]" * 300), '{"meta":' + "[" * 300 + "]" * 300 + "}")

    def test_integers_of_any_size_are_exact(self) -> None:
        def handle(event: Event, out: Out) -> None:
            out.patch(1, {"large": 10**400, "larger": [10**5000]})

        output = _run.run(_run.loop(handle), [THINGS._relation], [_event(THINGS.truncate())])
        payload: Any = output.commands[0].action.value[1]  # type: ignore[union-attr, index]
        self.assertEqual(payload, '{"large":1' + "0" * 400 + ',"larger":[1' + "0" * 5000 + "]}")

    def test_an_answer_that_is_none_stops(self) -> None:
        async def later(event: Event, out: Out) -> None:
            out.delete("never")

        def yielding(event: Event, out: Out) -> Any:
            yield out.delete("never")

        def dropped(event: Event, out: Out) -> None:
            later(event, out)  # type: ignore[unused-coroutine]

        def listing(event: Event, out: Out) -> Any:
            return [{"id": 1}]

        handlers: list[tuple[Any, str]] = [
            (later, "returned a coroutine, of which nothing ran"),
            (yielding, "returned a generator, of which nothing ran"),
            (listing, "returned an object of type list: answers are given with"),
            (dropped, "`.*later` is `async def`, and nobody awaited it"),
        ]
        for handle, said in handlers:
            with self.assertRaisesRegex(Stop, said):
                Harness(handle).run([THINGS.truncate()])
            with self.assertRaisesRegex(Stop, said):
                Harness.of_batches(lambda batch: handle(*batch[0])).run([THINGS.truncate()])
        for nothing in (None, True, False, 0, ""):
            anything: Any = lambda event, out: nothing
            self.assertEqual(Harness(anything).run([THINGS.truncate()]).commands, [])

    def test_what_is_answered_too_late_stops(self) -> None:
        kept: list[Out] = []

        def handle(event: Event, out: Out) -> None:
            kept.append(out)
            try:
                kept[0].delete("late")
            except Stop:
                pass

        with self.assertRaisesRegex(Stop, "`out` was used after its event was over"):
            Harness(handle).run([THINGS.truncate(), THINGS.truncate()])
        kept.clear()

        def several(batch: list[tuple[Event, Out]]) -> None:
            for event, out in batch:
                handle(event, out)

        batches = Harness.of_batches(several)
        self.assertEqual(len(batches.run([THINGS.truncate(), THINGS.truncate()]).commands), 2)
        with self.assertRaisesRegex(Stop, "`out` was used after its event was over"):
            batches.run([THINGS.truncate()])

    def test_json_that_a_payload_cannot_hold_stays_text(self) -> None:
        self.assertEqual(_json_form('{"a":[1,"x",1.5e10]}'), {"a": [1, "x", 1.5e10]})
        self.assertEqual(_json_form("[18446744073709551615,-9223372036854775808]"), [2**64 - 1, -(2**63)])
        self.assertEqual(_json_form("[18446744073709551616]"), [18446744073709551616])
        self.assertEqual(_json_form('"\\ud800"'), '"\\ud800"')
        self.assertEqual(_json_form('"\\ud83c\\udfd5"'), "🏕")
        deep = "[" * 201 + "]" * 201
        self.assertEqual((_json_form(deep), _json_form(deep[1:-1])), (deep, json.loads(deep[1:-1])))
        self.assertEqual(_json_form('["' + "[" * 300 + '\\"["]'), ["[" * 300 + '"['])
        self.assertEqual(_json_form("[" + "[]," * 300 + "[]]"), [[]] * 301)


class Payloads(unittest.TestCase):
    def test_what_json_lacks_has_an_exact_form(self) -> None:
        payload = {
            "big": 2**63, "d": Decimal("1E-8"), "t": datetime.datetime(2024, 5, 1, 12, tzinfo=UTC), "é": "🏕\0",
            "day": datetime.date(2024, 5, 1), "noon": datetime.time(12), "b": b"\0", "u": uuid.UUID(int=1), "n": None,
            "east": datetime.datetime(2024, 5, 1, 12, tzinfo=datetime.timezone(datetime.timedelta(hours=2))),
            "row": seen(Table("t", {"id": "int8"}).insert(id=1)).row,
        }  # fmt: skip
        self.assertEqual(
            write(payload),
            '{"big":9223372036854775808,"d":"0.00000001","t":"2024-05-01T12:00:00Z","é":"🏕\\u0000","day":"2024-05-01",'
            '"noon":"12:00:00","b":"\\\\x00","u":"00000000-0000-0000-0000-000000000001","n":null,'
            '"east":"2024-05-01T10:00:00Z","row":{"id":1}}',
        )
        self.assertEqual(write(None), "{}")

    def test_what_cannot_be_written_is_told_with_its_place(self) -> None:
        ring: dict[str, Any] = {}
        ring["in"] = ring
        wrong: list[tuple[Any, str]] = [
            ({"a": {"b": [1, float("nan")]}}, "item 1 of `b` of `a` of the payload is nan, which JSON does not have"),
            ({"a": UNCHANGED}, "`a` of the payload is UNCHANGED: leave it out, and answer with `out.patch`"),
            ({"a": "\ud800"}, "`a` of the payload holds half a character"),
            ({"\ud800": 1}, "a key of the payload holds half a character"),
            ({"a": object()}, "`a` of the payload is of type object"),
            ({(1, 2): 1}, "the payload has a key of type tuple"),
            ([1], "the payload is not a JSON object"),
            (ring, "the payload is nested more than 200 deep, or holds itself"),
        ]
        for payload, said in wrong:
            with self.assertRaises(Reject) as error:
                write(payload)
            self.assertIn(said, str(error.exception))


class Answers(unittest.TestCase):
    def test_every_action_comes_out(self) -> None:
        def handle(event: Event, out: Out) -> None:
            out.upsert(id=1, embedding=text("a"), payload={"a": 1})
            out.upsert("2", {"x": [1, 2.5], "y": Sparse([0, 7], [1, 2])})
            out.patch(uuid.UUID(int=1), {})
            out.replace("g", [Point("p"), Point("q", text("b"))])
            out.patch_group("g", {"b": None})
            out.delete("d")
            out.delete_group(Decimal("1.5"))
            out.clear()

        expected = [
            Upsert("1", {"": "a"}, {"a": 1}),
            Upsert("2", {"x": [1.0, 2.5], "y": Sparse([0, 7], [1, 2])}, {}),
            Patch("00000000-0000-0000-0000-000000000001", {}),
            Replace("g", [Shown("p"), Shown("q", {"": "b"})]),
            PatchGroup("g", {"b": None}),
            Delete("d"),
            DeleteGroup("1.5"),
            Clear(),
        ]
        self.assertEqual(Harness(handle).run([THINGS.truncate()]).actions, expected)

    def test_what_no_id_vector_or_text_can_be_rejects_the_event(self) -> None:
        out = Out([], 0)
        anything: Any = None
        str_for_text: Any = "words"
        wrong: list[tuple[Any, str]] = [
            (lambda: out.delete(None), "the id is None: give text or a number"),
            (lambda: out.delete(UNCHANGED), "the id is UNCHANGED"),
            (lambda: out.delete("\ud800"), "the id holds half a character"),
            (lambda: out.upsert(1, str_for_text), "the default vector is of type str: write `text(…)` to have it embedded"),
            (lambda: out.upsert(1, Sparse([2**32], [1])), "an index that is not a whole number of 32 bits"),
            (lambda: text(anything), "what is to be embedded is None, not text"),
        ]
        for call, said in wrong:
            with self.assertRaises(Reject) as error:
                call()
            self.assertIn(said, str(error.exception))
        self.assertEqual(out._commands, [])


class Runs(unittest.TestCase):
    def test_an_exception_rejects_one_event_with_its_place(self) -> None:
        def handle(event: Event, out: Out) -> None:
            out.delete(event.key)
            if event.row["id"] == 2:
                raise ValueError("two\nlines \ud800" + "x" * 2000)

        answer = Harness(handle).run([THINGS.insert(id=1), THINGS.insert(id=2), THINGS.insert(id=3)])
        self.assertEqual(answer.commands, [(0, Delete("1")), (2, Delete("3"))])
        said = answer.rejected[1]
        self.assertTrue(said.startswith("ValueError: two lines \\ud800xxx") and len(said) < 1020, said)
        self.assertRegex(said, r"… \(test_pgstream.py:\d+\)$")
        with self.assertRaisesRegex(AssertionError, "rejected: {1: "):
            answer.actions

    def test_whatever_is_raised_is_put_into_words(self) -> None:
        class Mute(Exception):
            def __str__(self) -> str:
                raise OSError

        raised: list[tuple[BaseException, str]] = [
            (Reject("said  so"), "said  so"),
            (Reject(), "Reject"),
            (SystemExit(3), "SystemExit: 3"),
            (Mute(), "Mute: (its"),
            (KeyError("k"), "KeyError: 'k'"),
        ]

        def handle(event: Event, out: Out) -> None:
            raise raised[event.row["id"]][0]

        answer = Harness(handle).run([THINGS.insert(id=number) for number in range(len(raised))])
        for number, (_, start) in enumerate(raised):
            self.assertTrue(answer.rejected[number].startswith(start), answer.rejected[number])

    def test_a_rejected_event_leaves_nothing(self) -> None:
        def handle(event: Event, out: Out) -> None:
            out.delete("x")
            out.reject("no")

        answer = Harness(handle).run([THINGS.truncate()])
        self.assertEqual((answer.commands, answer.rejected), ([], {0: "no"}))

    def test_retry_and_stop_concern_the_batch(self) -> None:
        for kind in (Retry, Stop):

            def handle(event: Event, out: Out) -> None:
                raise kind("why")

            with self.assertRaises(kind):
                Harness(handle).run([THINGS.truncate()])

    def test_a_batch_is_halved_until_what_fails_is_alone(self) -> None:
        calls = []

        def handle(batch: list[tuple[Event, Out]]) -> None:
            calls.append(len(batch))
            for event, out in batch:
                if event.row["id"] == 3:
                    raise ValueError("three")
                if event.row["id"] == 5:
                    out.reject("five")
                out.delete(event.key)

        answer = Harness.of_batches(handle).run([THINGS.insert(id=number) for number in range(6)])
        self.assertEqual([command[0] for command in answer.commands], [0, 1, 2, 4])
        self.assertEqual(answer.commands[2], (2, Delete("2")))
        self.assertTrue(answer.rejected[3].startswith("ValueError: three") and answer.rejected[5] == "five")
        self.assertEqual(calls, [6, 3, 3, 1, 2])

    def test_the_host_is_there_while_it_runs(self) -> None:
        def handle(event: Event, out: Out) -> None:
            info(f"{config('known')} {config('unknown')} {config('unknown', 'else')}")
            out.upsert(1, embed("words", ["a", "bc"])[1])

        harness = Harness(handle).config("known", "yes").embedder("words", lambda text: [len(text)])
        answer = harness.run([THINGS.truncate()])
        self.assertEqual(answer.actions, [Upsert("1", {"": [2.0]}, {})])
        self.assertEqual(answer.logged, [("info", "yes None else")])
        with self.assertRaisesRegex(Stop, "no embedder `words`"):
            Harness(handle).run([THINGS.truncate()])
        with self.assertRaisesRegex(RuntimeError, "call `config` in the handler"):
            config("known")

    def test_requests_are_answered_by_the_test(self) -> None:
        asked: list[http.Request] = []

        def handle(event: Event, out: Out) -> None:
            answer = http.post(f"https://api.example.com/{event.row['name']}?x", json={"n": 1}, headers={"a": "b"}).success()
            out.delete(answer.json()["id"])

        def run(path: str, status: int = 200) -> Any:
            def answer(request: http.Request) -> http.Response:
                asked.append(request)
                return http.Response(status, {}, b'{"id": 7}')

            return Harness(handle).http(answer).run([THINGS.insert(id=1, name=path)])

        self.assertEqual(run("v1").actions, [Delete("7")])
        sent = asked[0]
        self.assertEqual((sent.method, sent.body, sent.headers["content-type"]), ("POST", b'{"n":1}', "application/json"))
        self.assertEqual(sent.parts(), ("https", "api.example.com", "/v1?x"))
        self.assertEqual(run("v1", 404).rejected, {0: "a server answered with status 404"})
        with self.assertRaisesRegex(Retry, "status 503"):
            run("v1", 503)
        with self.assertRaisesRegex(Stop, "there is no network outside of a component"):
            Harness(handle).run([THINGS.insert(id=1, name="v1")])
        for url in ("ftp://a", "https://", "a.example/secret", "https://user:secret@a.example"):
            with self.assertRaisesRegex(Stop, "is not a URL") as raised:
                http.get(url)
            self.assertNotIn("secret", str(raised.exception))
        for url, shown in (
            ("https://a.example:8443/b", "https://a.example:8443"),
            ("https://me:se/cret@a.example/b", "https://…"),
            ("http://secret/@a.example", "http://…"),
        ):
            self.assertEqual(http.Request("GET", url).origin(), shown)

    def test_only_an_ordinary_function_is_a_handler(self) -> None:
        async def handle(event: Event, out: Out) -> None: ...

        def yielding(event: Event, out: Out) -> Any:
            yield

        anything: Any = handle
        with self.assertRaisesRegex(TypeError, "leave out `async` and `await`"):
            on_event(anything)
        with self.assertRaisesRegex(TypeError, "leave out `yield`"):
            on_event(yielding)
        before = list(_run.handlers)
        on_event(lambda event, out: None)
        self.assertEqual(len(_run.handlers), len(before) + 1)
        _run.handlers[:] = before


if __name__ == "__main__":
    unittest.main()
