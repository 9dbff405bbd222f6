"""Tests of the handler's functions, without WebAssembly."""

import unittest

from handler import handle
from pgstream import UNCHANGED
from pgstream.testing import Clear, Delete, Harness, Patch, Table, Upsert

DOCUMENTS = Table("public.documents", {"id": "int8", "title": "text", "content": "text"})


class Handler(unittest.TestCase):
    def test_a_row_becomes_a_point(self) -> None:
        answer = Harness(handle).run([DOCUMENTS.insert(id=1, title="Tents", content="Dry it")])
        self.assertEqual(answer.actions, [Upsert("1", {"": "Dry it"}, {"title": "Tents"})])

    def test_an_update_that_leaves_the_content_alone_keeps_the_vector(self) -> None:
        answer = Harness(handle).run([DOCUMENTS.update(id=1, title="Tarps", content=UNCHANGED)])
        self.assertEqual(answer.actions, [Patch("1", {"title": "Tarps"})])

    def test_what_is_gone_is_forgotten(self) -> None:
        answer = Harness(handle).run([DOCUMENTS.delete(id=2), DOCUMENTS.truncate()])
        self.assertEqual(answer.actions, [Delete("2"), Clear()])
