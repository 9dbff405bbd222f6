//! `Room`: how much a file may hold, so that a stranger's costs no more than others.

/// Said of YAML's tags.
pub(super) const NO_TAGS: &str = "YAML tags (`!name`) have no meaning here";

/// The most that a file may hold with its aliases written out: a few bytes can name a large part of
/// it over and over.
#[derive(Clone, Copy, Debug)]
pub(super) struct Room {
    /// Keys and values.
    pub(super) nodes: usize,
    /// Bytes of text in them.
    pub(super) text: usize,
    /// Opening brackets, `[` and `{`, wherever they stand.
    pub(super) brackets: usize,
}

impl Room {
    /// Returns the reason why there is no room for a text, or None. It is found out before the YAML
    /// crate looks through all of the text: each bracket and each `%TAG` costs that crate as much
    /// time as there are others before it.
    pub(super) fn lacks(self, text: &str) -> Option<String> {
        if text.split(['\n', '\r', '\u{85}', '\u{2028}', '\u{2029}']).any(|line| line.starts_with("%TAG")) {
            return Some(NO_TAGS.to_owned());
        }
        let brackets = text.bytes().filter(|byte| matches!(byte, b'[' | b'{')).count();
        (brackets > self.brackets).then(|| format!("the file opens more than {} brackets, `[` or `{{`", self.brackets))
    }
}
