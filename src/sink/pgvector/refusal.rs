//! Errors of the server that are about a row, and not about the table, the settings or the
//! connection.

use tokio_postgres::Error as DriverError;

use crate::error::{Code, Error, Fault};
use crate::postgres::failed;

/// As [`failed`]; what the server says of a row carries [`Code::Sink`], because it may concern a
/// single command.
pub(super) fn refused(what: impl Into<String>, error: DriverError) -> Error {
    let Some(server) = error.as_db_error() else { return failed(what, error) };
    let code = server.code().code().to_owned();
    // The server tells where it happened only of what functions do.
    let in_a_function = server.where_().is_some();
    if !is_about_a_row(&code) {
        let error = failed(what, error);
        return match code.as_str() {
            "42P01" | "42883" | "42704" if in_a_function => error.help(
                "a trigger's function finds names without a schema only among Postgres' own: write them with their schema, or \
                 ALTER FUNCTION … SET search_path = …",
            ),
            "42P01" => error.help(
                "the table is gone: start the pipeline again, and bring over the rows from before: `pgstream-host backfill <file>`",
            ),
            "42703" | "42804" => error.help("the table was altered: start the pipeline again, which says what does not fit"),
            _ => error,
        };
    }
    let constraint = server.constraint().map(|name| format!("constraint `{name}`"));
    let error = failed(what, error).blame(Fault::Data).code(Code::Sink);
    let error = match constraint {
        Some(constraint) => error.at(constraint),
        None => error,
    };
    match code.as_str() {
        "22P05" => error.help(
            "the payload is JSON that Postgres cannot hold, such as `\\u0000` in a text: make the handler leave it out",
        ),
        _ => error,
    }
}

/// A value that does not fit (22), a constraint (23, 44 for a view's), a limit such as that of an
/// index's key (54), an exception that a trigger raised (P0001).
fn is_about_a_row(code: &str) -> bool {
    code == "P0001" || matches!(code.get(..2), Some("22" | "23" | "44" | "54"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_told_from_tables_settings_and_connections() {
        for code in ["22P05", "22003", "23505", "23514", "44000", "54000", "P0001"] {
            assert!(is_about_a_row(code), "{code}");
        }
        for code in ["40001", "42501", "42P01", "42703", "53100", "57P01", "08006", "25006", "XX000", "P0002", ""] {
            assert!(!is_about_a_row(code), "{code}");
        }
    }
}
