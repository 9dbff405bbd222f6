//! Text that came out of a guest, made fit to be shown: one line, nothing that drives a terminal,
//! of bounded length.

use std::fmt::Write;

use crate::printable::acts;

/// `text` with everything that could forge lines, drive a terminal or reverse the reading order
/// escaped, cut to about `max` bytes.
pub(super) fn presentable(text: &str, max: usize) -> String {
    let mut shown = String::with_capacity(text.len().min(max));
    for (at, c) in text.char_indices() {
        if shown.len() + c.len_utf8() > max {
            let _ = write!(shown, "… ({} bytes more)", text.len() - at);
            break;
        }
        match c {
            '\n' => shown.push_str("\\n"),
            '\t' => shown.push(' '),
            c if acts(c) => {
                let _ = write!(shown, "\\u{{{:x}}}", c as u32);
            }
            c => shown.push(c),
        }
    }
    shown
}

/// "64 MiB", "1.5 MiB", "600 KiB".
pub(super) fn size(bytes: usize) -> String {
    let (value, unit) =
        if bytes >= 1 << 20 { (bytes as f64 / 1048576.0, "MiB") } else { (bytes as f64 / 1024.0, "KiB") };
    let text = format!("{value:.1}");
    format!("{} {unit}", text.trim_end_matches(".0"))
}

#[cfg(test)]
mod tests {
    use super::presentable;
    use proptest::prelude::*;

    #[test]
    fn what_drives_a_terminal_is_shown_not_obeyed() {
        assert_eq!(presentable("\u{1b}[2Jgone\nforged\r\u{202e}x", 80), "\\u{1b}[2Jgone\\nforged\\u{d}\\u{202e}x");
    }

    #[test]
    fn long_text_is_cut_at_a_character_and_says_how_much_is_missing() {
        assert_eq!(presentable("ääääää", 5), "ää… (8 bytes more)");
        assert_eq!(presentable("short", 5), "short");
    }

    proptest! {
        #[test]
        fn nothing_unprintable_remains(text in any::<String>(), max in 0usize..200) {
            let shown = presentable(&text, max);
            prop_assert!(!shown.chars().any(|c| c.is_control()));
            prop_assert!(shown.len() <= max + 48, "an escape and the count of what is missing at most");
        }
    }
}
