// Cuts text into pieces of bounded length that overlap, between words where there are any.
//
// A character is a Unicode code point here. JavaScript counts UTF-16 units, of which an emoji has two: offsets are in units,
// lengths in characters.

/** What Unicode calls white space; `\s` lacks U+0085 and has U+FEFF. */
const SPACE = "\\t-\\r \\x85\\xa0\\u1680\\u2000-\\u200a\\u2028\\u2029\\u202f\\u205f\\u3000";
const ONE = new RegExp(`[${SPACE}]`);

/**
 * Pieces of at most `chars` characters, in order. A piece repeats about an eighth of the one before, so that a sentence on
 * the border is found through either. Empty for blank text.
 */
export function chunks(text, chars) {
  chars = Math.max(chars, 1);
  const pieces = [];
  const stop = trimmed(text, text.length);
  // What remains is not cut off the text: each cut would copy all of the rest.
  let start = skipped(text, 0);
  while (start < stop) {
    const limit = offset(text, start, stop, chars);
    if (limit === undefined) {
      pieces.push(text.slice(start, stop));
      break;
    }
    const end = isSpace(text, limit) ? limit : start + (lastGap(text.slice(start, limit)) ?? limit - start);
    const piece = text.slice(start, end);
    pieces.push(piece.slice(0, trimmed(piece, piece.length)));
    start = skipped(text, start + (overlap(piece, Math.floor(chars / 8)) ?? piece.length));
  }
  return pieces;
}

function isSpace(text, at) {
  return at < text.length && ONE.test(text[at]);
}

/** Where the text ends without the space at its end. */
function trimmed(text, end) {
  while (end > 0 && isSpace(text, end - 1)) end--;
  return end;
}

/** Where the space that begins here ends. */
function skipped(text, start) {
  while (isSpace(text, start)) start++;
  return start;
}

/** Where the character number `chars` from `start` on begins; undefined if there are no more than that. */
function offset(text, start, stop, chars) {
  let at = start;
  for (let count = 0; count < chars; count++) {
    if (at >= stop) return undefined;
    at += text.codePointAt(at) > 0xffff ? 2 : 1;
  }
  return at < stop ? at : undefined;
}

/** Where the last word of the second half begins: a piece is not made much shorter for the sake of a very long word. */
function lastGap(text) {
  let gap = text.length - 1;
  while (gap >= 0 && !isSpace(text, gap)) gap--;
  // Halves are measured in bytes of UTF-8, so that every language's example cuts at the same place.
  return gap >= 0 && bytes(text.slice(0, gap)) >= Math.floor(bytes(text) / 2) ? gap : undefined;
}

/**
 * Where in the piece the next one begins, to repeat at most `chars` characters; at a word, if one begins there. Undefined if
 * nothing can be repeated.
 */
function overlap(piece, chars) {
  if (chars === 0) return undefined;
  let start = piece.length;
  for (let count = 0; count < chars && start > 0; count++) start -= isPair(piece, start - 2) ? 2 : 1;
  if (start === 0) return undefined;
  if (isSpace(piece, start - 1) || !ONE.test(piece)) return start;
  for (let at = start; at < piece.length; at++) if (isSpace(piece, at)) return at;
  return undefined;
}

function isPair(text, at) {
  return at >= 0 && text.codePointAt(at) > 0xffff;
}

/** Length in UTF-8. */
function bytes(text) {
  let sum = 0;
  for (let at = 0; at < text.length; at++) {
    const unit = text.charCodeAt(at);
    // Each half of a pair counts for two of its four bytes.
    sum += unit < 0x80 ? 1 : unit < 0x800 || (unit >= 0xd800 && unit < 0xe000) ? 2 : 3;
  }
  return sum;
}
