//! Printable text: that of a guest, a server or a file must not drive the terminal, forge lines or
//! be read in another order.

use std::borrow::Cow;

/// Tells if the character cannot be seen and yet has an effect: a control or format character, an
/// invisible letter, or a tag that stands for ASCII.
pub fn acts(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{AD}' | '\u{61C}' | '\u{180E}' | '\u{200B}'..='\u{200F}' | '\u{2028}'..='\u{202E}')
        || matches!(c, '\u{2060}'..='\u{206F}' | '\u{FEFF}' | '\u{FFF9}'..='\u{FFFB}')
        // Invisible letters, and the tags that stand for ASCII.
        || matches!(c, '\u{115F}' | '\u{1160}' | '\u{3164}' | '\u{FFA0}' | '\u{E0000}'..='\u{E007F}')
}

/// `text` on one line, with a stand-in for each character that would act.
pub fn printable(text: &str) -> String {
    text.chars().map(shown).collect()
}

/// JSON, or lines of it, with an escape for each character that would act; line breaks between
/// values stay. Such characters can only stand in texts, where the escape means the same.
pub fn printable_json(json: &str) -> Cow<'_, str> {
    let mut rest = json;
    let mut out = String::new();
    while let Some((at, found)) = rest.char_indices().find(|(_, c)| *c != '\n' && acts(*c)) {
        out.push_str(rest.get(..at).unwrap_or_default());
        let mut units = [0; 2];
        for unit in found.encode_utf16(&mut units) {
            out.push_str(&format!("\\u{unit:04x}"));
        }
        rest = rest.get(at + found.len_utf8()..).unwrap_or_default();
    }
    if out.is_empty() { Cow::Borrowed(json) } else { Cow::Owned(out + rest) }
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

    #[test]
    fn json_means_the_same_with_its_acting_characters_escaped() {
        let json = "{\"a\":\"\u{9b}2J\u{202e}b☃😀\"}\n{\"c\":1}\n";
        let shown = printable_json(json);
        assert_eq!(shown, "{\"a\":\"\\u009b2J\\u202eb☃😀\"}\n{\"c\":1}\n");
        for (one, other) in json.lines().zip(shown.lines()) {
            let read = |text: &str| serde_json::from_str::<serde_json::Value>(text).unwrap();
            assert_eq!(read(one), read(other));
        }
        assert!(matches!(printable_json("{}"), Cow::Borrowed("{}")));
    }
}
