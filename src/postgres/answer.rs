//! `ReadRow`: the columns of an answer, as whatever the server sent: NULL where none was expected
//! is an error, and no panic.

use std::fmt::Display;

use tokio_postgres::Row;
use tokio_postgres::row::RowIndex;
use tokio_postgres::types::FromSql;

use crate::error::{Error, Fault, Result};

/// A row whose columns are read without trust in the server.
pub(crate) trait ReadRow {
    /// The value of a column, by its name or its place.
    ///
    /// # Errors
    /// `Environment` if there is no such column, or if what it holds has no place in a `T`: NULL,
    /// or another type.
    fn read<'r, I: RowIndex + Display, T: FromSql<'r>>(&'r self, column: I) -> Result<T>;
}

impl ReadRow for Row {
    fn read<'r, I: RowIndex + Display, T: FromSql<'r>>(&'r self, column: I) -> Result<T> {
        self.try_get(&column).map_err(|error| unfit(self, &column, error))
    }
}

/// The first column of all rows.
///
/// # Errors
/// As for [`ReadRow::read`].
pub(crate) fn first_column<'r, T: FromSql<'r>>(rows: &'r [Row]) -> Result<Vec<T>> {
    rows.iter().map(|row| row.read(0)).collect()
}

/// Names what was asked for by the columns of the answer: they say more than the statement, which
/// is long.
fn unfit(row: &Row, column: &dyn Display, error: tokio_postgres::Error) -> Error {
    let columns: Vec<&str> = row.columns().iter().map(|column| column.name()).collect();
    let what = format!("the server's answer is not as it was asked for, in its column `{column}`");
    let error = Error::new(Fault::Environment, what).because(error);
    error.at(format!("an answer of the columns {}", columns.join(", "))).help(
        "check that `url` leads to a Postgres server; in a table of the schema `pgstream`, let only pgstream-host write",
    )
}
