//! One line of the file as it may be shown: without secrets, without control characters, not too
//! long.

use std::ops::Range;

use crate::printable;

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

/// The line numbered `number`, from one, of `text`, with the characters `start..start + length` as
/// the place to point at.
pub(super) fn excerpt(text: &str, number: usize, start: usize, length: usize) -> Excerpt {
    let lines: Vec<&str> = text.lines().take(number).collect();
    let Some((line, before)) = lines.split_last() else {
        return Excerpt { text: String::new(), start: 0, length: 1 };
    };
    if line.len() > MAX_LINE_BYTES {
        return Excerpt { text: "…".to_owned(), start: 0, length: 1 };
    }
    let chars: Vec<char> = line.chars().collect();
    let hidden = if in_headers(line, before) { values(&chars) } else { secrets(&chars) };
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
                show(if chars[at].is_whitespace() { ' ' } else { printable::shown(chars[at]) }, at..at + 1);
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

/// A message, or a line of one, in a length that can be read.
pub(super) fn shown(text: &str) -> String {
    let mut chars = text.chars();
    let mut shown: String = chars.by_ref().take(MAX_MESSAGE_CHARS).map(printable::shown).collect();
    if chars.next().is_some() {
        shown.push('…');
    }
    shown
}

/// Returns the number of characters that the key or value at `start` takes.
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

/// Returns the parts of a line that must not be shown: passwords in URLs, all that stands behind
/// `headers`, and values of keys that sound like secrets, also misspelt ones.
fn secrets(chars: &[char]) -> Vec<Range<usize>> {
    let mut hidden = Vec::new();
    for at in 0..chars.len() {
        if chars[at..].starts_with(&[':', '/', '/']) {
            let Some(end) = chars.iter().rposition(|c| *c == '@').filter(|end| *end > at + 3) else {
                // A login without its host, or a port: only the port may be shown.
                if let Some(login) = unended_login(chars, at + 3) {
                    hide(chars, login, &mut hidden);
                }
                continue;
            };
            let colon = chars[at + 3..end].iter().position(|c| *c == ':').map_or(at + 3, |colon| at + 4 + colon);
            hide(chars, colon..end, &mut hidden);
        } else if matches!(chars[at], ':' | '=') {
            let (word, start) = (word_before(chars, at), value_start(chars, at));
            if is_headers(&word) {
                hidden.push(start..map_end(chars, start));
            } else if word.ends_with("url") && chars[start..].contains(&'@') && !has_scheme(&chars[start..]) {
                // Without its scheme, and all the same a login.
                hide(chars, start..value_end(chars, start), &mut hidden);
            } else if is_secret(&word) {
                hide(chars, start..value_end(chars, start), &mut hidden);
            }
        }
    }
    hidden
}

/// Tells if a value begins as a URL does.
fn has_scheme(value: &[char]) -> bool {
    let text: String = value.iter().collect();
    let bare = text.trim_start_matches(['"', '\'', ' ', '[']);
    let bare = bare.strip_prefix("jdbc:").unwrap_or(bare);
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.');
    bare.split_once("://").is_some_and(|(scheme, _)| !scheme.is_empty() && scheme.chars().all(plain))
}

/// The rest of a URL behind the first colon of its authority, if that is more than a port.
fn unended_login(chars: &[char], start: usize) -> Option<Range<usize>> {
    let ends = |c: &char| c.is_whitespace() || matches!(c, '"' | '\'');
    let end = chars.iter().skip(start).position(ends).map_or(chars.len(), |length| start + length);
    let colon =
        if chars.get(start) == Some(&'[') { chars.iter().skip(start).position(|c| *c == ']')? + start } else { start };
    let colon = colon + chars.get(colon..end)?.iter().position(|c| *c == ':')? + 1;
    let port = chars.get(colon..end)?.split(|c| matches!(c, '/' | ',' | '}' | ']')).next()?;
    let is_port = !port.is_empty() && port.iter().all(char::is_ascii_digit) && port.len() <= 5;
    (!is_port).then_some(colon..end)
}

/// All that stands behind the first key of a line, or the line, if it begins with none.
fn values(chars: &[char]) -> Vec<Range<usize>> {
    let indent = indent(chars);
    let quoted = chars.get(indent).is_some_and(|c| matches!(c, '"' | '\''));
    let key = (indent..chars.len()).find(|&at| {
        chars[at] == ':' && chars.get(at + 1).is_none_or(|c| c.is_whitespace()) && !(quoted && at == indent)
    });
    let start = match key {
        Some(at) if !chars[indent..at].iter().any(|c| matches!(c, '{' | ',' | ' ')) => value_start(chars, at),
        _ => indent,
    };
    let mut hidden = Vec::new();
    hide(chars, start..chars.len(), &mut hidden);
    hidden
}

/// Tells if a line stands below a `headers`, whose values are secrets whatever their keys sound
/// like. It goes by the indentation, which is there even if the file cannot be parsed.
fn in_headers(line: &str, before: &[&str]) -> bool {
    let width = |line: &str| line.len() - line.trim_start().len();
    let mut inner = width(line);
    for line in before.iter().rev() {
        let text = line.trim_start();
        if inner == 0 {
            break;
        }
        if width(line) >= inner || text.is_empty() || text.starts_with('#') {
            continue;
        }
        inner = width(line);
        let chars: Vec<char> = line.chars().take(MAX_LINE_BYTES).collect();
        if (0..chars.len()).any(|at| chars[at] == ':' && is_headers(&word_before(&chars, at))) {
            return true;
        }
    }
    false
}

fn indent(chars: &[char]) -> usize {
    chars.iter().position(|c| !c.is_whitespace()).unwrap_or(chars.len())
}

fn value_start(chars: &[char], colon: usize) -> usize {
    colon + 1 + indent(&chars[colon + 1..])
}

/// Returns the end of the map in braces that begins at `start`; the end of the line, if the map's
/// end cannot be found.
fn map_end(chars: &[char], start: usize) -> usize {
    let (mut depth, mut quote) = (0, None);
    for (at, c) in chars.iter().enumerate().skip(start) {
        match (quote, c) {
            (Some(open), c) if *c == open => quote = None,
            (Some(_), _) => {}
            (None, '"' | '\'') => quote = Some(*c),
            (None, '{') => depth += 1,
            (None, '}') if depth == 1 => return at + 1,
            (None, '}') => depth -= 1,
            (None, _) => {}
        }
        if depth == 0 {
            break;
        }
    }
    chars.len()
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

fn is_headers(word: &str) -> bool {
    strsim::damerau_levenshtein("headers", word) <= 2
}

fn is_secret(word: &str) -> bool {
    const PARTS: [&str; 7] = ["key", "pass", "pwd", "secret", "token", "auth", "cred"];
    const NAMES: [&str; 2] = ["api_key", "password"];
    let sounds = PARTS.iter().any(|part| word.contains(part));
    (sounds || NAMES.iter().any(|name| strsim::damerau_levenshtein(name, word) <= 2)) && !word.ends_with("_file")
}

fn value_end(chars: &[char], start: usize) -> usize {
    let flow = chars[..start].contains(&'{');
    if let Some(quote) = open_quote(&chars[..start]) {
        return close_quote(chars, start, quote);
    }
    match chars.get(start) {
        Some(quote @ ('"' | '\'')) => (close_quote(chars, start + 1, *quote) + 1).min(chars.len()),
        // Inside `{…}` only a reference may hold a brace.
        _ if flow && !chars[start..].starts_with(&['$', '{']) => {
            chars[start..].iter().position(|c| matches!(c, ',' | '}')).map_or(chars.len(), |n| start + n)
        }
        _ if flow => chars[start..].iter().position(|c| *c == '}').map_or(chars.len(), |n| start + n + 1),
        _ => chars.len(),
    }
}

/// The quote in which a line goes on behind `chars`.
fn open_quote(chars: &[char]) -> Option<char> {
    let (mut at, mut last) = (0, ' ');
    while let Some(c) = chars.get(at) {
        // A quote amid a plain word is one of its letters.
        if matches!(c, '"' | '\'') && matches!(last, ' ' | '\t' | ':' | ',' | '{' | '[') {
            let close = close_quote(chars, at + 1, *c);
            if close >= chars.len() {
                return Some(*c);
            }
            at = close;
        }
        last = chars.get(at).copied().unwrap_or(' ');
        at += 1;
    }
    None
}

/// The end of the text in quotes that goes on at `start`: `''` and `\"` are letters of it.
fn close_quote(chars: &[char], start: usize, quote: char) -> usize {
    let mut at = start;
    while let Some(c) = chars.get(at) {
        match c {
            '\\' if quote == '"' => at += 1,
            '\'' if quote == '\'' && chars.get(at + 1) == Some(&'\'') => at += 1,
            c if *c == quote => return at,
            _ => {}
        }
        at += 1;
    }
    chars.len()
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
            ("url: 'app:hunter2@db/shop'", "url: …"),
            ("url: app:hunter2://@db/shop", "url: …"),
            ("url: 'postgres://app:hunter2'", "url: 'postgres://app:…'"),
            ("url: postgres://app:hunter2/x?y", "url: postgres://app:…"),
            ("url: http://localhost:6334/a:b", "url: http://localhost:6334/a:b"),
            ("{ url: http://[::1]:6334, modle: m }", "{ url: http://[::1]:6334, modle: m }"),
            ("url: http://[::1]/x", "url: http://[::1]/x"),
            ("url: postgres://app:${PW}@db/shop", "url: postgres://app:${PW}@db/shop"),
            ("api_key: sk-1, b}", "api_key: …"),
            ("{ api_key: sk-1, model: m }", "{ api_key: …, model: m }"),
            ("{ \"api_kee\" : \"sk-1\", model: m }", "{ \"api_kee\" : …, model: m }"),
            ("{ api_key: ${KEY}, model: m }", "{ api_key: ${KEY}, model: m }"),
            ("{ api_key: ${KEY:-sk-1}, model: m }", "{ api_key: …, model: m }"),
            ("{ api_key: 'sk''-1, x', model: m }", "{ api_key: …, model: m }"),
            ("{ api_key: \"sk\\\"-1, x\", model: m }", "{ api_key: …, model: m }"),
            (
                "{ url: 'jdbc:postgresql://db/d?password=a,b}c''d', modle: m }",
                "{ url: 'jdbc:postgresql://db/d?password=…', modle: m }",
            ),
            ("pasword: x", "pasword: …"),
            ("url: host=db password=x dbname=y", "url: host=db password=…"),
            ("password_file: /run/secrets/db", "password_file: /run/secrets/db"),
            ("a: \u{1b}[31m\u{202e}b", "a: \u{FFFD}[31m\u{FFFD}b"),
        ] {
            assert_eq!(excerpt(line, 1, 0, 1).text, shown);
        }
    }

    #[test]
    fn all_of_headers_is_secret() {
        for (text, number, shown) in [
            ("http:\n  headers:\n    cookie: \"sess=AAA\"", 3, "    cookie: …"),
            ("http:\n  headers:\n    cookie: \"sess=\n      AAA\"", 4, "      …"),
            ("http:\n  headers:\n\n    # AAA\n    x-id: ${ID}", 5, "    x-id: ${ID}"),
            ("http:\n  headers:\n    cookie: a\n  privat: x", 4, "  privat: x"),
            (
                "- { host: a, headers: { cookie: \"s}AAA\", x: b }, privat: c }",
                1,
                "- { host: a, headers: …, privat: c }",
            ),
            ("- { host: a, haeders: { cookie: \"sess=AAA, x: b }", 1, "- { host: a, haeders: …"),
            ("headers: {\n  cookie: a, x: AAA }", 2, "  cookie: …"),
            ("headers: {\n  a, cookie: AAA }", 2, "  …"),
        ] {
            assert_eq!(excerpt(text, number, 0, 1).text, shown, "{text}");
        }
    }

    #[test]
    fn the_place_follows_what_was_hidden_or_cut() {
        let after = excerpt("{ api_key: sk-123456, modle: m }", 1, 22, 5);
        assert_eq!(after.text.chars().skip(after.start).take(after.length).collect::<String>(), "modle");
        let long = format!("{}[ here ]{}", "x".repeat(500), "y".repeat(500));
        let cut = excerpt(&long, 1, 502, 4);
        assert!(cut.text.chars().count() <= MAX_CHARS + 2);
        assert_eq!(cut.text.chars().skip(cut.start).take(cut.length).collect::<String>(), "here");
    }
}
