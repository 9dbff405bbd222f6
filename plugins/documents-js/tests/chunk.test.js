import assert from "node:assert/strict";
import { test } from "node:test";

import { chunks } from "../../sdk/js/src/chunk.js";

test("short text stays whole and blank text is nothing", () => {
  assert.deepEqual(chunks("  a b\n", 50), ["a b"]);
  assert.deepEqual(chunks(" \n\t ", 50), []);
});

test("pieces end between words and overlap", () => {
  const text = "one two three four five six seven eight nine ten";
  assert.deepEqual(chunks(text, 20), ["one two three four", "five six seven eight", "nine ten"]);
  assert.deepEqual(chunks(text, 40), ["one two three four five six seven eight", "eight nine ten"]);
});

test("script without spaces is cut by characters, not by UTF-16 units", () => {
  for (const character of ["字", "🏕"]) {
    const pieces = chunks(character.repeat(100), 40);
    assert.deepEqual(pieces.map((piece) => [...piece].length), [40, 40, 30]);
    assert.ok(pieces.every((piece) => piece.isWellFormed()));
  }
});

test("whatever the text, every word is in some piece and no piece is too long", () => {
  let seed = 1n;
  const random = (below) => {
    seed = BigInt.asUintN(64, seed * 6364136223846793005n + 1442695040888963407n);
    return Number((seed >> 33n) % BigInt(below));
  };
  for (let round = 0; round < 500; round++) {
    const words = Array.from({ length: random(80) }, (_, at) => `${at}${"ä🏕".repeat(random(6))}`);
    const text = words.join(random(2) === 0 ? " " : "\n\n");
    const pieces = chunks(text, 50);
    assert.ok(pieces.every((piece) => piece !== "" && [...piece].length <= 50));
    const held = new Set(pieces.flatMap((piece) => piece.split(/\s+/)));
    for (const word of words) assert.ok(held.has(word), `${word} of ${JSON.stringify(text)} is lost`);
  }
});
