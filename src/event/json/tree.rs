//! `Json`: a JSON value whose numbers keep every digit, with its parser.

use std::fmt;

/// Deeper nesting is refused, so that no input can exhaust the stack.
const MAX_DEPTH: usize = 128;

/// The deepest nesting of a value inside an event. The rest of `MAX_DEPTH` is for the event, and
/// for the file in which somebody puts it.
const MAX_VALUE_DEPTH: usize = MAX_DEPTH / 2;

/// A JSON value. Numbers stay text, keys stay in their order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Json {
    /// `null`
    Null,
    /// `true`, `false`
    Bool(bool),
    /// As it was written, by JSON's grammar.
    Number(String),
    /// A string.
    Text(String),
    /// An array.
    List(Vec<Json>),
    /// An object. Of keys that stand twice both are kept.
    Object(Vec<(String, Json)>),
}

/// The text is not JSON.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what} at line {line} column {column}")]
pub struct SyntaxError {
    what: &'static str,
    line: usize,
    column: usize,
}

impl Json {
    /// Reads one value, with nothing but white space around it, or a byte-order mark before it.
    ///
    /// # Errors
    /// The place at which the text breaks JSON's grammar or is nested too deeply.
    pub fn parse(text: &str) -> Result<Self, SyntaxError> {
        Self::parse_at(0, text.strip_prefix('\u{feff}').unwrap_or(text))
    }

    /// The event of a line with a rejected one, which stands beside its reason.
    pub fn rejected_event(&self) -> Option<&Self> {
        self.get("reason").and_then(|_| self.get("event"))
    }

    /// As [`parse`](Self::parse), of a value that is to stand inside an event.
    pub(super) fn parse_value(text: &str) -> Result<Self, SyntaxError> {
        Self::parse_at(MAX_DEPTH - MAX_VALUE_DEPTH, text)
    }

    fn parse_at(depth: usize, text: &str) -> Result<Self, SyntaxError> {
        let mut parser = Parser { text, at: 0 };
        let parsed = parser.value(depth).and_then(|value| match parser.peek() {
            None => Ok(value),
            Some(_) => Err("more text after the value"),
        });
        parsed.map_err(|what| {
            let before = text.get(..parser.at).unwrap_or(text);
            let line_start = before.rfind('\n').map_or(0, |at| at + 1);
            SyntaxError {
                what,
                line: before.matches('\n').count() + 1,
                column: before.get(line_start..).unwrap_or_default().chars().count() + 1,
            }
        })
    }

    /// The value under `key` of an object.
    pub fn get(&self, key: &str) -> Option<&Json> {
        match self {
            Json::Object(entries) => entries.iter().find(|(name, _)| name == key).map(|(_, value)| value),
            _ => None,
        }
    }

    /// Names the kind of the value, for messages.
    pub fn kind(&self) -> &'static str {
        match self {
            Json::Null => "null",
            Json::Bool(_) => "a boolean",
            Json::Number(_) => "a number",
            Json::Text(_) => "text",
            Json::List(_) => "a list",
            Json::Object(_) => "an object",
        }
    }

    /// Tells if both say the same: the order of keys does not count, and numbers count by their
    /// value, `1.0` for `1`. Integers are compared to the last digit; of two fractions it is enough
    /// that they are the same double.
    pub fn same(&self, other: &Json) -> bool {
        match (self, other) {
            (Json::Number(one), Json::Number(other)) => same_number(one, other),
            (Json::List(one), Json::List(other)) => {
                one.len() == other.len() && one.iter().zip(other).all(|(one, other)| one.same(other))
            }
            (Json::Object(one), Json::Object(others)) => {
                one.len() == others.len()
                    && one.iter().all(|(key, value)| other.get(key).is_some_and(|other| value.same(other)))
            }
            _ => self == other,
        }
    }

    /// As `Display`, with the blanks that Postgres puts into `jsonb`.
    pub(super) fn spaced(&self) -> String {
        let mut out = String::new();
        self.print(&mut out, (", ", ": "));
        out
    }

    fn print(&self, out: &mut String, signs: (&str, &str)) {
        match self {
            Json::Null => out.push_str("null"),
            Json::Bool(value) => out.push_str(if *value { "true" } else { "false" }),
            Json::Number(text) => out.push_str(text),
            Json::Text(text) => quote(out, text),
            Json::List(items) => {
                out.push('[');
                for (index, item) in items.iter().enumerate() {
                    out.push_str(if index > 0 { signs.0 } else { "" });
                    item.print(out, signs);
                }
                out.push(']');
            }
            Json::Object(entries) => {
                out.push('{');
                for (index, (key, value)) in entries.iter().enumerate() {
                    out.push_str(if index > 0 { signs.0 } else { "" });
                    quote(out, key);
                    out.push_str(signs.1);
                    value.print(out, signs);
                }
                out.push('}');
            }
        }
    }
}

/// On one line, without blanks.
impl fmt::Display for Json {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = String::new();
        self.print(&mut out, (",", ":"));
        f.write_str(&out)
    }
}

/// Appends `text` as a JSON string.
pub(super) fn quote(out: &mut String, text: &str) {
    // A string cannot fail to be written; a reader would see the null.
    out.push_str(&serde_json::to_string(text).unwrap_or_else(|_| "null".to_owned()));
}

fn same_number(one: &str, other: &str) -> bool {
    match (Decimal::new(one), Decimal::new(other)) {
        (Some(a), Some(b)) if a == b => true,
        (Some(a), Some(b)) if a.exponent < 0 && b.exponent < 0 => {
            let double = |text: &str| text.parse::<f64>().ok();
            double(one) == double(other)
        }
        _ => one == other,
    }
}

/// A number by its value: digits without zeros at either end, times a power of ten.
#[derive(PartialEq)]
struct Decimal {
    negative: bool,
    digits: String,
    exponent: i64,
}

impl Decimal {
    fn new(text: &str) -> Option<Self> {
        let (negative, text) = text.strip_prefix('-').map_or((false, text), |rest| (true, rest));
        let (mantissa, exponent) = text.split_once(['e', 'E']).unwrap_or((text, "0"));
        let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
        let digits = format!("{whole}{fraction}");
        let significant = digits.trim_end_matches('0');
        let dropped = i64::try_from(digits.len() - significant.len()).ok()?;
        let exponent: i64 = exponent.parse().ok()?;
        let exponent = exponent.checked_add(dropped)?.checked_sub(i64::try_from(fraction.len()).ok()?)?;
        let digits = significant.trim_start_matches('0').to_owned();
        let zero = digits.is_empty();
        Some(Self { negative: negative && !zero, digits, exponent: if zero { 0 } else { exponent } })
    }
}

struct Parser<'t> {
    text: &'t str,
    at: usize,
}

impl Parser<'_> {
    /// The next byte that is not white space.
    fn peek(&mut self) -> Option<u8> {
        while matches!(self.byte(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
        self.byte()
    }

    fn byte(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn take(&mut self, byte: u8) -> bool {
        let found = self.peek() == Some(byte);
        self.at += usize::from(found);
        found
    }

    fn value(&mut self, depth: usize) -> Result<Json, &'static str> {
        if depth > MAX_DEPTH {
            return Err("nested too deeply");
        }
        match self.peek() {
            Some(b'{') => self.object(depth),
            Some(b'[') => self.list(depth),
            Some(b'"') => self.string().map(Json::Text),
            Some(b'-' | b'0'..=b'9') => self.number().map(Json::Number),
            Some(b't') => self.word("true", Json::Bool(true)),
            Some(b'f') => self.word("false", Json::Bool(false)),
            Some(b'n') => self.word("null", Json::Null),
            Some(_) => Err("expected a value"),
            None => Err("the text breaks off"),
        }
    }

    fn word(&mut self, word: &str, value: Json) -> Result<Json, &'static str> {
        let rest = self.text.get(self.at..).unwrap_or_default();
        if !rest.starts_with(word) {
            return Err("expected a value");
        }
        self.at += word.len();
        Ok(value)
    }

    fn list(&mut self, depth: usize) -> Result<Json, &'static str> {
        let mut items = Vec::new();
        self.at += 1;
        if self.take(b']') {
            return Ok(Json::List(items));
        }
        loop {
            items.push(self.value(depth + 1)?);
            match self.peek() {
                Some(b',') => self.at += 1,
                Some(b']') => {
                    self.at += 1;
                    return Ok(Json::List(items));
                }
                Some(_) => return Err("expected `,` or `]`"),
                None => return Err("the text breaks off"),
            }
        }
    }

    fn object(&mut self, depth: usize) -> Result<Json, &'static str> {
        let mut entries = Vec::new();
        self.at += 1;
        if self.take(b'}') {
            return Ok(Json::Object(entries));
        }
        loop {
            if self.peek() != Some(b'"') {
                return Err("expected a key in quotes");
            }
            let key = self.string()?;
            if !self.take(b':') {
                return Err("expected `:`");
            }
            entries.push((key, self.value(depth + 1)?));
            match self.peek() {
                Some(b',') => self.at += 1,
                Some(b'}') => {
                    self.at += 1;
                    return Ok(Json::Object(entries));
                }
                Some(_) => return Err("expected `,` or `}`"),
                None => return Err("the text breaks off"),
            }
        }
    }

    fn string(&mut self) -> Result<String, &'static str> {
        let start = self.at;
        let mut end = start + 1;
        loop {
            match self.text.as_bytes().get(end) {
                Some(b'\\') => end += 2,
                Some(b'"') => break,
                Some(_) => end += 1,
                None => return Err("a string without its closing quote"),
            }
        }
        let token = self.text.get(start..=end).ok_or("a string without its closing quote")?;
        let text = serde_json::from_str(token).map_err(|_| "a string with a wrong escape or a control character")?;
        self.at = end + 1;
        Ok(text)
    }

    fn number(&mut self) -> Result<String, &'static str> {
        let start = self.at;
        self.at += usize::from(self.byte() == Some(b'-'));
        match self.byte() {
            Some(b'0') => self.at += 1,
            _ => self.digits()?,
        }
        if self.byte() == Some(b'.') {
            self.at += 1;
            self.digits()?;
        }
        if matches!(self.byte(), Some(b'e' | b'E')) {
            self.at += 1;
            self.at += usize::from(matches!(self.byte(), Some(b'+' | b'-')));
            self.digits()?;
        }
        if matches!(self.byte(), Some(b'0'..=b'9' | b'.' | b'a'..=b'z' | b'A'..=b'Z')) {
            return Err("a malformed number");
        }
        Ok(self.text.get(start..self.at).unwrap_or_default().to_owned())
    }

    fn digits(&mut self) -> Result<(), &'static str> {
        let start = self.at;
        while matches!(self.byte(), Some(b'0'..=b'9')) {
            self.at += 1;
        }
        if self.at == start { Err("a malformed number") } else { Ok(()) }
    }
}
