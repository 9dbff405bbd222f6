"""Cuts text into pieces of bounded length that overlap, between words where there are any."""

from __future__ import annotations

# What Unicode calls white space; `str.isspace` also has the separators U+001C to U+001F.
_SPACE = (
    "\t\n\v\f\r \x85\xa0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a\u2028\u2029\u202f\u205f"
    "\u3000"
)


def chunks(text: str, chars: int) -> list[str]:
    """Pieces of at most ``chars`` characters, in order. A piece repeats about an eighth of the one before, so that a
    sentence on the border is found through either. Empty for blank text."""
    chars = max(chars, 1)
    text = text.strip(_SPACE)
    pieces = []
    start = 0
    while start < len(text):
        limit = start + chars
        if limit >= len(text):
            pieces.append(text[start:])
            break
        end = limit if text[limit] in _SPACE else _last_gap(text, start, limit)
        pieces.append(text[start:end].rstrip(_SPACE))
        start = _overlap(text, start, end, chars // 8)
        while start < len(text) and text[start] in _SPACE:
            start += 1
    return pieces


def _last_gap(text: str, start: int, limit: int) -> int:
    """Where the last word of the second half ends: a piece is not made much shorter for the sake of a very long word."""
    gap = limit - 1
    while gap >= start and text[gap] not in _SPACE:
        gap -= 1
    if gap < start:
        return limit
    # Halves of the piece's bytes in UTF-8, as the other languages' example has them.
    return gap if len(text[start:gap].encode()) >= len(text[start:limit].encode()) // 2 else limit


def _overlap(text: str, start: int, end: int, chars: int) -> int:
    """Where in the piece the next one begins, to repeat at most ``chars`` characters; at a word, if one begins there. The
    piece's end if nothing can be repeated."""
    repeat = end - chars
    if chars == 0 or repeat <= start:
        return end
    if text[repeat - 1] in _SPACE or not any(c in _SPACE for c in text[start:end]):
        return repeat
    return next((at for at in range(repeat, end) if text[at] in _SPACE), end)
