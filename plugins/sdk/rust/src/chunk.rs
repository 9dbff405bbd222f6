//! Cuts text into pieces of bounded length that overlap, between words where there are any.

/// Pieces of at most `chars` characters, in order. A piece repeats about an eighth of the one before, so that a sentence on
/// the border is found through either. Empty for blank text.
pub fn chunks(text: &str, chars: usize) -> Vec<&str> {
    let chars = chars.max(1);
    let mut pieces = Vec::new();
    let mut rest = text.trim();
    while !rest.is_empty() {
        let Some(limit) = offset(rest, chars) else {
            pieces.push(rest);
            break;
        };
        let whole = rest[limit..].starts_with(char::is_whitespace);
        let end = if whole { limit } else { last_gap(&rest[..limit]).unwrap_or(limit) };
        let piece = &rest[..end];
        pieces.push(piece.trim_end());
        let next = overlap(piece, chars / 8).unwrap_or(end);
        rest = rest[next..].trim_start();
    }
    pieces
}

/// Byte at which the character number `chars` begins; None if the text has no more than that.
fn offset(text: &str, chars: usize) -> Option<usize> {
    text.char_indices().nth(chars).map(|(at, _)| at)
}

/// Where the last word of the second half begins: a piece is not made much shorter for the sake of a very long word.
fn last_gap(text: &str) -> Option<usize> {
    let gap = text.rfind(char::is_whitespace)?;
    (gap >= text.len() / 2).then_some(gap)
}

/// Where in the piece the next one begins, to repeat at most `chars` characters; at a word, if one begins there. None if
/// nothing can be repeated.
fn overlap(piece: &str, chars: usize) -> Option<usize> {
    let (start, _) = piece.char_indices().rev().take(chars).last().filter(|&(start, _)| start > 0)?;
    let (before, tail) = piece.split_at(start);
    let at_a_word = before.ends_with(char::is_whitespace) || !piece.contains(char::is_whitespace);
    if at_a_word { Some(start) } else { tail.find(char::is_whitespace).map(|gap| start + gap) }
}

#[cfg(test)]
mod tests {
    use super::chunks;

    #[test]
    fn short_text_stays_whole_and_blank_text_is_nothing() {
        assert_eq!(chunks("  a b\n", 50), ["a b"]);
        assert_eq!(chunks(" \n\t ", 50), [""; 0]);
    }

    #[test]
    fn pieces_end_between_words_and_overlap() {
        let text = "one two three four five six seven eight nine ten";
        assert_eq!(chunks(text, 20), ["one two three four", "five six seven eight", "nine ten"]);
        let pieces = chunks(text, 40);
        assert_eq!(pieces, ["one two three four five six seven eight", "eight nine ten"]);
    }

    #[test]
    fn script_without_spaces_is_cut_by_characters() {
        let text = "字".repeat(100);
        let pieces = chunks(&text, 40);
        assert_eq!(pieces.iter().map(|piece| piece.chars().count()).collect::<Vec<_>>(), [40, 40, 30]);
    }

    #[test]
    fn whatever_the_text_every_word_is_in_some_piece_and_no_piece_is_too_long() {
        let mut seed = 1u64;
        let mut random = |below: u64| {
            seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (seed >> 33) % below
        };
        for _ in 0..500 {
            let words: Vec<String> =
                (0..random(80)).map(|at| format!("{at}{}", "äß".repeat(random(6) as usize))).collect();
            let text = words.join(if random(2) == 0 { " " } else { "\n\n" });
            let pieces = chunks(&text, 50);
            assert!(pieces.iter().all(|piece| !piece.is_empty() && piece.chars().count() <= 50));
            for word in &words {
                let held = pieces.iter().any(|piece| piece.split_whitespace().any(|held| held == word));
                assert!(held, "`{word}` of {text:?} is lost in {pieces:?}");
            }
        }
    }
}
