package main

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// chunks cuts text into pieces of at most so many characters, in order, that end between words where there are any. A piece
// repeats about an eighth of the one before, so that a sentence on the border is found through either. None for blank text.
func chunks(text string, chars int) []string {
	chars = max(chars, 1)
	var pieces []string
	rest := strings.TrimFunc(text, isSpace)
	for rest != "" {
		limit, ok := offset(rest, chars)
		if !ok {
			pieces = append(pieces, rest)
			break
		}
		end := limit
		if next, _ := utf8.DecodeRuneInString(rest[limit:]); !isSpace(next) {
			if gap, ok := lastGap(rest[:limit]); ok {
				end = gap
			}
		}
		piece := rest[:end]
		pieces = append(pieces, strings.TrimRightFunc(piece, isSpace))
		next, ok := overlap(piece, chars/8)
		if !ok {
			next = end
		}
		rest = strings.TrimLeftFunc(rest[next:], isSpace)
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
	gap := strings.LastIndexFunc(text, isSpace)
	return gap, gap >= 0 && gap >= len(text)/2
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
	if isSpace(last) || strings.IndexFunc(piece, isSpace) < 0 {
		return start, true
	}
	gap := strings.IndexFunc(tail, isSpace)
	return start + gap, gap >= 0
}

// isSpace is Unicode's White_Space.
func isSpace(char rune) bool { return unicode.Is(unicode.White_Space, char) }
