//! Names of tables as people write them.

/// A table without a schema is one of `public`. Parts in quotes, as SQL has them, may hold dots;
/// they come without their quotes.
pub fn qualified(table: &str) -> String {
    match split(table) {
        Some((schema, table)) => format!("{schema}.{table}"),
        None if table.contains('.') => table.to_owned(),
        None => format!("public.{table}"),
    }
}

/// Schema and name of a table, without quotes. None if the text has more parts than two, an empty
/// one, or a quote without its end.
pub fn split(text: &str) -> Option<(String, String)> {
    parts(text).map(|(schema, table)| (schema.unwrap_or_else(|| "public".to_owned()), table))
}

/// As `split`, with the schema only if the text names one.
pub(super) fn parts(text: &str) -> Option<(Option<String>, String)> {
    let (first, rest) = part(text)?;
    let Some(rest) = rest else { return Some((None, first)) };
    let (second, rest) = part(rest)?;
    rest.is_none().then_some((Some(first), second))
}

/// The part up to the first dot outside of quotes, and what follows it.
fn part(text: &str) -> Option<(String, Option<&str>)> {
    let Some(mut rest) = text.strip_prefix('"') else {
        let (part, rest) = text.split_once('.').map_or((text, None), |(part, rest)| (part, Some(rest)));
        return Some((part.to_owned(), rest)).filter(|_| !part.is_empty());
    };
    let mut part = String::new();
    loop {
        let (before, after) = rest.split_once('"')?;
        part.push_str(before);
        let Some(after) = after.strip_prefix('"') else {
            return match (part.is_empty(), after.is_empty()) {
                (true, _) => None,
                (_, true) => Some((part, None)),
                _ => after.strip_prefix('.').map(|rest| (part, Some(rest))),
            };
        };
        part.push('"');
        rest = after;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_in_quotes_may_hold_dots() {
        for (text, schema, table) in [
            ("docs", "public", "docs"),
            ("app.docs", "app", "docs"),
            ("app.my docs", "app", "my docs"),
            ("\"app.v2\".\"my.docs\"", "app.v2", "my.docs"),
            ("app.\"a\"\"b\"", "app", "a\"b"),
            ("\"docs\"", "public", "docs"),
            ("app.a\"b", "app", "a\"b"),
        ] {
            assert_eq!(split(text), Some((schema.to_owned(), table.to_owned())), "{text}");
            assert_eq!(qualified(text), format!("{schema}.{table}"));
        }
        for text in ["", ".", "a.", ".b", "a.b.c", "\"a", "\"a\"b", "\"\".a", "\"a\".\"b\".c", "a.\"b\"c"] {
            assert_eq!(split(text), None, "{text}");
        }
    }
}
