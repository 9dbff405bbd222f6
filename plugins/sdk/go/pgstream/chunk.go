package pgstream

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// Chunks cuts text into pieces of at most so many characters, in order, that end between words where there are any. A piece
// repeats about an eighth of the one before, so that a sentence on the border is found through either. None for blank text.
func Chunks(text string, chars int) []string {
	chars = max(chars, 1)
	var pieces []string
	rest := strings.TrimFunc(text, unicode.IsSpace)
	for rest != "" {
		limit, ok := offset(rest, chars)
		if !ok {
			pieces = append(pieces, rest)
			break
		}
		end := limit
		if next, _ := utf8.DecodeRuneInString(rest[limit:]); !unicode.IsSpace(next) {
			if gap, ok := lastGap(rest[:limit]); ok {
				end = gap
			}
		}
		piece := rest[:end]
		pieces = append(pieces, strings.TrimRightFunc(piece, unicode.IsSpace))
		next, ok := overlap(piece, chars/8)
		if !ok {
			next = end
		}
		rest = strings.TrimLeftFunc(rest[next:], unicode.IsSpace)
	}
	return pieces
}

// offset is the byte at which the character number chars begins, if the text has more than that.
func offset(text string, chars int) (int, bool) {
	for at := range text {
		if chars == 0 {
			return at, true
		}
		chars--
	}
	return 0, false
}

// lastGap is where the last word of the second half begins: a piece is not made much shorter for the sake of a very long
// word.
func lastGap(text string) (int, bool) {
	return lastSpace(text, len(text)/2)
}

// lastSpace is where the last white space begins, not before least. Most text is ASCII, which needs no tables.
func lastSpace(text string, least int) (int, bool) {
	for at := len(text); at > least; {
		if char := text[at-1]; char < utf8.RuneSelf {
			at--
			if char == ' ' || '\t' <= char && char <= '\r' {
				return at, true
			}
			continue
		}
		char, size := utf8.DecodeLastRuneInString(text[:at])
		at -= size
		if unicode.IsSpace(char) {
			return at, at >= least
		}
	}
	return 0, false
}

// overlap is where in the piece the next one begins, to repeat at most so many characters; at a word, if one begins there.
// Not ok if nothing can be repeated.
func overlap(piece string, chars int) (int, bool) {
	start := len(piece)
	for taken := 0; taken < chars && start > 0; taken++ {
		_, size := utf8.DecodeLastRuneInString(piece[:start])
		start -= size
	}
	if start == 0 || chars == 0 {
		return 0, false
	}
	before, tail := piece[:start], piece[start:]
	last, _ := utf8.DecodeLastRuneInString(before)
	if unicode.IsSpace(last) {
		return start, true
	}
	if _, spaced := lastSpace(piece, 0); !spaced {
		return start, true
	}
	gap := strings.IndexFunc(tail, unicode.IsSpace)
	return start + gap, gap >= 0
}
