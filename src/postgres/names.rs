//! Names in SQL: a statement of ours means the same to the server and to people, and is one line
//! wherever it is shown, whatever strangers have called their tables, functions and roles.

use crate::printable::{acts, shown};

/// `name` as an SQL identifier. A name that would act on a terminal, or break a line, is written
/// with escapes, which mean the same name to the server.
pub(crate) fn quoted(name: &str) -> String {
    shown_sql(&plainly_quoted(name))
}

/// `name` as an identifier in a text that the server takes apart by itself, which knows no escapes:
/// the argument of `to_regclass`, the names of publications. Not to be shown.
pub(crate) fn plainly_quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// SQL that the server has written (`%I`, `regclass`, `regprocedure`) as it may be run and shown:
/// names in it that would act are written with escapes, and anything else that would is left out.
pub(crate) fn shown_sql(sql: &str) -> String {
    if !sql.contains(acts) {
        return sql.to_owned();
    }
    let mut out = String::with_capacity(sql.len() + 16);
    let mut rest = sql;
    while let Some((before, from)) = rest.split_once('"') {
        out.extend(before.chars().map(shown));
        let (name, after) = name_of(from);
        if name.contains(acts) {
            out.push_str("U&\"");
            name.chars().for_each(|c| escape(c, &mut out));
        } else {
            out.push('"');
            out.push_str(name);
        }
        out.push('"');
        rest = after;
    }
    out.extend(rest.chars().map(shown));
    out
}

/// Returns the text before the quotation mark that ends a name, and the text behind it. Marks of
/// the name itself are doubled, and stay so.
fn name_of(text: &str) -> (&str, &str) {
    let mut from = 0;
    while let Some(found) = text.get(from..).and_then(|rest| rest.find('"')) {
        let at = from + found;
        if text.get(at + 1..).is_some_and(|after| after.starts_with('"')) {
            from = at + 2;
            continue;
        }
        return (text.get(..at).unwrap_or_default(), text.get(at + 1..).unwrap_or_default());
    }
    (text, "")
}

/// The character as it stands in `U&"…"`.
fn escape(c: char, out: &mut String) {
    match c {
        '\\' => out.push_str("\\\\"),
        c if acts(c) && c <= '\u{FFFF}' => out.push_str(&format!("\\{:04x}", u32::from(c))),
        c if acts(c) => out.push_str(&format!("\\+{:06x}", u32::from(c))),
        c => out.push(c),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_would_act_is_the_same_name_with_escapes() {
        assert_eq!(quoted("a\"b\\ü"), "\"a\"\"b\\ü\"");
        assert_eq!(quoted("a\"b\\\nhelp: no"), "U&\"a\"\"b\\\\\\000ahelp: no\"");
        assert_eq!(quoted("\u{1b}[2J\u{e0041}"), "U&\"\\001b[2J\\+0e0041\"");
        assert_eq!(plainly_quoted("a\"\n"), "\"a\"\"\n\"");
    }

    #[test]
    fn sql_of_the_server_stays_one_statement_on_one_line() {
        let sql = "DROP TRIGGER \"a\nb\"\"c\" ON app.\"Ö\"\"\"; -- \r\u{202e}";
        assert_eq!(shown_sql(sql), "DROP TRIGGER U&\"a\\000ab\"\"c\" ON app.\"Ö\"\"\"; --  \u{FFFD}");
        for broken in ["\"", "\"\n", "a\"\"\"\n", "\n\"\""] {
            assert_eq!(shown_sql(broken).lines().count(), 1, "{broken:?}");
        }
    }
}
