//! One line of the file as it may be shown: without secrets, without control characters, not too long.

use std::ops::Range;

/// A shown line, and where in it the problem stands (in characters, from zero).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Excerpt {
    pub(super) text: String,
    pub(super) start: usize,
    pub(super) length: usize,
}

/// Wider lines are cut around the problem.
const MAX_CHARS: usize = 160;

/// Of longer lines nothing is shown: to tell what in them is secret would take too long.
const MAX_LINE_BYTES: usize = 4096;

/// Longer messages quote something that nobody reads to its end.
const MAX_MESSAGE_CHARS: usize = 1000;

/// `line` with the characters `start..start + length` as the place to point at.
pub(super) fn excerpt(line: &str, start: usize, length: usize) -> Excerpt {
    if line.len() > MAX_LINE_BYTES {
        return Excerpt { text: "…".to_owned(), start: 0, length: 1 };
    }
    let chars: Vec<char> = line.chars().collect();
    let hidden = secrets(&chars);
    let start = start.min(chars.len());
    let window = start.saturating_sub(MAX_CHARS / 2)..(start + MAX_CHARS / 2).min(chars.len());
    let window = if chars.len() <= MAX_CHARS { 0..chars.len() } else { window };

    let mut out = Excerpt { text: String::new(), start: 0, length: 0 };
    let mut shown = 0;
    let mut show = |c: char, at: Range<usize>| {
        out.text.push(c);
        if at.end <= start {
            out.start = shown + 1;
        } else if at.start < start + length {
            out.length += 1;
        }
        shown += 1;
    };
    if window.start > 0 {
        show('…', 0..window.start);
    }
    let mut at = window.start;
    while at < window.end {
        let next = match hidden.iter().find(|range| range.contains(&at)) {
            Some(range) => {
                show('…', at..range.end);
                range.end
            }
            None => {
                show(if chars[at].is_whitespace() { ' ' } else { visible(chars[at]) }, at..at + 1);
                at + 1
            }
        };
        at = next;
    }
    if window.end < chars.len() {
        show('…', window.end..chars.len());
    }
    out.length = out.length.max(1);
    out
}

/// Text of a file or of its keys must not be able to drive the terminal or to forge lines.
pub(super) fn printable(text: &str) -> String {
    text.chars().map(visible).collect()
}

/// A message, or a line of one, in a length that can be read.
pub(super) fn shown(text: &str) -> String {
    let mut chars = text.chars();
    let mut shown: String = chars.by_ref().take(MAX_MESSAGE_CHARS).map(visible).collect();
    if chars.next().is_some() {
        shown.push('…');
    }
    shown
}

fn visible(c: char) -> char {
    let reorders =
        matches!(c, '\u{200B}'..='\u{200F}' | '\u{202A}'..='\u{202E}' | '\u{2060}'..='\u{206F}' | '\u{FEFF}');
    if c.is_control() || reorders { '\u{FFFD}' } else { c }
}

/// How many characters the key or value at `start` takes.
pub(super) fn token_length(line: &str, start: usize) -> usize {
    let chars: Vec<char> = line.chars().skip(start).take(MAX_LINE_BYTES).collect();
    let end = match chars.first() {
        Some(quote @ ('"' | '\'')) => chars.iter().skip(1).position(|c| c == quote).map_or(chars.len(), |at| at + 2),
        Some('[' | '{') => 1,
        _ => {
            let stop = |at: usize, c: char| match c {
                ',' | ']' => true,
                '}' => !chars[..at].contains(&'{'),
                ':' => chars.get(at + 1).is_none_or(|next| next.is_whitespace()),
                '#' => at > 0 && chars[at - 1].is_whitespace(),
                _ => false,
            };
            let end = chars.iter().enumerate().position(|(at, c)| stop(at, *c)).unwrap_or(chars.len());
            chars[..end].iter().rposition(|c| !c.is_whitespace()).map_or(0, |last| last + 1)
        }
    };
    end.max(1)
}

/// What must not be shown: passwords in URLs, and values of keys that sound like secrets, also misspelt ones.
fn secrets(chars: &[char]) -> Vec<Range<usize>> {
    let mut hidden = Vec::new();
    for at in 0..chars.len() {
        if chars[at..].starts_with(&[':', '/', '/']) {
            let Some(end) = chars.iter().rposition(|c| *c == '@').filter(|end| *end > at + 3) else { continue };
            let colon = chars[at + 3..end].iter().position(|c| *c == ':').map_or(at + 3, |colon| at + 4 + colon);
            hide(chars, colon..end, &mut hidden);
        } else if matches!(chars[at], ':' | '=') && is_secret(&word_before(chars, at)) {
            let start = chars[at + 1..].iter().position(|c| !c.is_whitespace()).map_or(chars.len(), |n| at + 1 + n);
            hide(chars, start..value_end(chars, start), &mut hidden);
        }
    }
    hidden
}

/// Hides `range`, except where it is nothing but a reference, which tells a name and no more.
fn hide(chars: &[char], range: Range<usize>, hidden: &mut Vec<Range<usize>>) {
    let text: String = chars[range.clone()].iter().collect();
    let bare = text.trim_matches(['"', '\'', ' ']);
    let reference = bare.strip_prefix("${").and_then(|inner| inner.strip_suffix('}'));
    let plain = |inner: &str| {
        let name = inner.split_once(":?").map_or(inner, |(name, _)| name);
        name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') && !inner.contains('{')
    };
    if !range.is_empty() && !reference.is_some_and(plain) {
        hidden.push(range);
    }
}

fn word_before(chars: &[char], at: usize) -> String {
    let end = chars[..at].iter().rposition(|c| !matches!(c, '"' | '\'' | ' ')).map_or(0, |last| last + 1);
    let start = chars[..end].iter().rposition(|c| !(c.is_alphanumeric() || matches!(c, '_' | '-')));
    chars[start.map_or(0, |before| before + 1)..end].iter().collect::<String>().to_lowercase()
}

fn is_secret(word: &str) -> bool {
    const PARTS: [&str; 7] = ["key", "pass", "pwd", "secret", "token", "auth", "cred"];
    const NAMES: [&str; 2] = ["api_key", "password"];
    let sounds = PARTS.iter().any(|part| word.contains(part));
    (sounds || NAMES.iter().any(|name| strsim::damerau_levenshtein(name, word) <= 2)) && !word.ends_with("_file")
}

fn value_end(chars: &[char], start: usize) -> usize {
    let flow = chars[..start].contains(&'{');
    match chars.get(start) {
        Some(quote @ ('"' | '\'')) => {
            let close = chars[start + 1..].iter().position(|c| c == quote);
            close.map_or(chars.len(), |n| start + n + 2)
        }
        // Inside `{…}` only a reference may hold a brace.
        _ if flow && !chars[start..].starts_with(&['$', '{']) => {
            chars[start..].iter().position(|c| matches!(c, ',' | '}')).map_or(chars.len(), |n| start + n)
        }
        _ if flow => chars[start..].iter().position(|c| *c == '}').map_or(chars.len(), |n| start + n + 1),
        _ => chars.len(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_hidden_and_references_are_not() {
        for (line, shown) in [
            ("url: postgres://app:hunter2@db/shop", "url: postgres://app:…@db/shop"),
            ("url: postgres://app:p@ss@db/shop", "url: postgres://app:…@db/shop"),
            ("url: postgres://tok@db", "url: postgres://…@db"),
            ("url: postgres://app:${PW}@db/shop", "url: postgres://app:${PW}@db/shop"),
            ("api_key: sk-1, b}", "api_key: …"),
            ("{ api_key: sk-1, model: m }", "{ api_key: …, model: m }"),
            ("{ \"api_kee\" : \"sk-1\", model: m }", "{ \"api_kee\" : …, model: m }"),
            ("{ api_key: ${KEY}, model: m }", "{ api_key: ${KEY}, model: m }"),
            ("{ api_key: ${KEY:-sk-1}, model: m }", "{ api_key: …, model: m }"),
            ("pasword: x", "pasword: …"),
            ("url: host=db password=x dbname=y", "url: host=db password=…"),
            ("password_file: /run/secrets/db", "password_file: /run/secrets/db"),
            ("a: \u{1b}[31m\u{202e}b", "a: \u{FFFD}[31m\u{FFFD}b"),
        ] {
            assert_eq!(excerpt(line, 0, 1).text, shown);
        }
    }

    #[test]
    fn the_place_follows_what_was_hidden_or_cut() {
        let after = excerpt("{ api_key: sk-123456, modle: m }", 22, 5);
        assert_eq!(after.text.chars().skip(after.start).take(after.length).collect::<String>(), "modle");
        let long = format!("{}[ here ]{}", "x".repeat(500), "y".repeat(500));
        let cut = excerpt(&long, 502, 4);
        assert!(cut.text.chars().count() <= MAX_CHARS + 2);
        assert_eq!(cut.text.chars().skip(cut.start).take(cut.length).collect::<String>(), "here");
    }
}
