//! What may be printed: text of a guest, a server or a file must not drive the terminal, forge lines or be read in another order.

/// Whether the character cannot be seen, and does something all the same.
pub fn acts(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{AD}' | '\u{61C}' | '\u{180E}' | '\u{200B}'..='\u{200F}' | '\u{2028}'..='\u{202E}')
        || matches!(c, '\u{2060}'..='\u{206F}' | '\u{FEFF}' | '\u{FFF9}'..='\u{FFFB}')
}

/// `text` on one line, with a stand-in for each character that would act.
pub fn printable(text: &str) -> String {
    text.chars().map(shown).collect()
}

/// The character, or what stands in for it.
pub fn shown(c: char) -> char {
    match c {
        '\n' | '\r' | '\t' => ' ',
        c if acts(c) => '\u{FFFD}',
        c => c,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_would_act_is_shown_instead() {
        let acting = "a\u{1b}[2Jb\nc\td\u{202e}e\u{200b}f\u{61c}";
        assert_eq!(printable(acting), "a\u{FFFD}[2Jb c d\u{FFFD}e\u{FFFD}f\u{FFFD}");
        assert_eq!(printable("Größe ☃ 😀"), "Größe ☃ 😀");
    }
}
