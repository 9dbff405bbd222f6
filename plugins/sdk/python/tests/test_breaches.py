"""The breaches that all SDKs refuse, from ``plugins/sdk/breaches.json``."""

import json
import pathlib
import unittest
from typing import Any

from pgstream import Event, Out, Point, Sparse, text
from pgstream.testing import Answer, Harness, Table

TABLE = json.loads((pathlib.Path(__file__).parents[2] / "breaches.json").read_text(encoding="utf-8"))
THINGS = Table("things", {"id": "int8"})


def string(given: Any) -> str:
    return str(given) if isinstance(given, str) else str(given["repeat"]) * int(given["times"])


def numbers(given: list[Any]) -> list[float]:
    return [float(number) for number in given]


def embedding(given: Any) -> Any:
    if "text" in given:
        return text(given["text"])
    if "sparse" in given:
        return Sparse(given["sparse"]["indices"], numbers(given["sparse"]["values"]))
    return numbers(given["dense"])


def embeddings(given: Any) -> dict[str, Any]:
    return {string(name): embedding(vector) for name, vector in given.get("vectors", [])}


def say(out: Out, action: str, given: Any) -> None:
    if action == "upsert":
        out.upsert(string(given["id"]), embeddings(given), given.get("payload"))
    elif action == "patch":
        out.patch(string(given["id"]), given["payload"])
    elif action == "replace":
        points = [Point(string(one["id"]), embeddings(one), one.get("payload")) for one in given["points"]]
        out.replace(string(given["group"]), points)
    elif action == "patch_group":
        out.patch_group(string(given["group"]), given["payload"])
    elif action == "clear":
        out.clear()
    else:
        {"delete": out.delete, "delete_group": out.delete_group, "reject": out.reject}[action](string(given))


def answered(case: Any) -> Answer:
    """What the host would get of three events, the middle one of which is answered as the case says."""

    def handle(event: Event, out: Out) -> None:
        if event.row["id"] != 2:
            out.delete("fine")
            return
        for step in case["answer"]:
            for action, given in step.items():
                say(out, action, given)

    return Harness(handle).run([THINGS.insert(id=1), THINGS.insert(id=2), THINGS.insert(id=3)])


class Breaches(unittest.TestCase):
    def test_what_the_host_would_stop_for_rejects_the_one_event(self) -> None:
        # A dict has a vector once.
        cases = [case for case in TABLE["breaches"] if "raw" not in case and "vector twice" not in case["name"]]
        self.assertGreater(len(cases), 25)
        for case in cases:
            with self.subTest(case["name"]):
                answer = answered(case)
                self.assertEqual(answer.rejected, {1: f"{case['what']}: {case['do']}"})
                self.assertEqual(len(answer.commands), 2)

    def test_what_is_odd_but_allowed_passes(self) -> None:
        for case in TABLE["allowed"]:
            with self.subTest(case["name"]):
                answer = answered(case)
                counts = (len(answer.commands) - 2, len(answer.rejected))
                self.assertEqual(counts, (case["commands"], case.get("rejections", 0)))


if __name__ == "__main__":
    unittest.main()
