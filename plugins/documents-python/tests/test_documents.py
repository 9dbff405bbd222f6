"""What becomes of each kind of event."""

import random
import unittest

from documents import handle
from pgstream import UNCHANGED, Stop, chunks
from pgstream.testing import Clear, DeleteGroup, Harness, PatchGroup, Replace, Table

DOCUMENTS = Table("public.documents", {"id": "int8", "title": "text", "content": "text", "year": "int4"})


class Handler(unittest.TestCase):
    def test_a_row_becomes_a_group_of_chunks_with_the_other_columns(self) -> None:
        insert = DOCUMENTS.insert(id=7, title="Title", content="word " * 30, year=2026)
        [replace] = Harness(handle).config("chunk_chars", "100").run([insert]).actions
        assert isinstance(replace, Replace)
        self.assertEqual(replace.group, "7")
        self.assertEqual([point.id for point in replace.points], ["7#0", "7#1"])
        embedded = replace.points[1].embeddings[""]
        assert isinstance(embedded, str)
        self.assertTrue(embedded.startswith("Title\n\nword"))
        chunk = embedded.removeprefix("Title\n\n")
        expected = {"id": 7, "title": "Title", "year": 2026, "content": chunk, "chunk": 1}
        self.assertEqual(list(replace.points[1].payload.items()), list(expected.items()))

    def test_an_unchanged_text_keeps_its_vectors(self) -> None:
        answer = Harness(handle).run([DOCUMENTS.update(id=7, title="New", content=UNCHANGED, year=2027)])
        self.assertEqual(answer.actions, [PatchGroup("7", {"id": 7, "title": "New", "year": 2027})])

    def test_a_text_that_is_gone_takes_its_points_along(self) -> None:
        changes = [DOCUMENTS.update(id=7, title="Title"), DOCUMENTS.delete(id=8), DOCUMENTS.truncate()]
        self.assertEqual(Harness(handle).run(changes).actions, [DeleteGroup("7"), DeleteGroup("8"), Clear()])

    def test_an_empty_text_leaves_an_empty_group(self) -> None:
        self.assertEqual(Harness(handle).run([DOCUMENTS.update(id=7, content=" ")]).actions, [Replace("7", [])])

    def test_a_changed_key_whose_text_was_not_sent_is_rejected_with_the_fix(self) -> None:
        answer = Harness(handle).run([DOCUMENTS.insert(id=9, title="Title", content=UNCHANGED)])
        self.assertEqual(answer.commands, [])
        self.assertEqual(
            answer.rejected[0],
            "Postgres did not send `content`, which is too large to be logged with each change: "
            "set `toast: reread` in the pipeline's source, then update the row again. "
            "`ALTER TABLE public.documents REPLICA IDENTITY FULL` does as well, but logs each old row whole, and Postgres "
            "refuses writes where a partition lacks it or a generated column is not published",
        )

    def test_a_table_without_the_text_column_stops_the_pipeline(self) -> None:
        said = "`public.documents` has no column `body`: set `config.text_column` to one of id, title, content, year"
        with self.assertRaises(Stop) as stop:
            Harness(handle).config("text_column", "body").run([DOCUMENTS.insert(id=1)])
        self.assertEqual(str(stop.exception), said)

    def test_nonsense_in_the_configuration_stops_the_pipeline(self) -> None:
        for nonsense in ("many", "49", "-60", "", "５０", "1_000", " 60"):
            with self.assertRaises(Stop) as stop:
                Harness(handle).config("chunk_chars", nonsense).run([DOCUMENTS.truncate()])
            said = f"config `chunk_chars` is `{nonsense}`, it must be a number from 50 on"
            self.assertEqual(str(stop.exception), said)


class Chunks(unittest.TestCase):
    def test_short_text_stays_whole_and_blank_text_is_nothing(self) -> None:
        self.assertEqual(chunks("  a b\n", 50), ["a b"])
        self.assertEqual(chunks(" \n\t ", 50), [])

    def test_pieces_end_between_words_and_overlap(self) -> None:
        text = "one two three four five six seven eight nine ten"
        self.assertEqual(chunks(text, 20), ["one two three four", "five six seven eight", "nine ten"])
        self.assertEqual(chunks(text, 40), ["one two three four five six seven eight", "eight nine ten"])

    def test_script_without_spaces_is_cut_by_characters(self) -> None:
        self.assertEqual([len(piece) for piece in chunks("字" * 100, 40)], [40, 40, 30])
        self.assertEqual([len(piece) for piece in chunks("🏕" * 100, 40)], [40, 40, 30])

    def test_whatever_the_text_every_word_is_in_some_piece_and_no_piece_is_too_long(self) -> None:
        chance = random.Random(1)
        for _ in range(500):
            words = [f"{at}{'äß' * chance.randrange(6)}" for at in range(chance.randrange(80))]
            pieces = chunks(chance.choice([" ", "\n\n"]).join(words), 50)
            self.assertTrue(all(0 < len(piece) <= 50 for piece in pieces))
            held = {word for piece in pieces for word in piece.split()}
            self.assertLessEqual(set(words), held)
