//! Names of tables as people write them.

/// A table without a schema is one of `public`.
pub fn qualified(table: &str) -> String {
    if table.contains('.') { table.to_owned() } else { format!("public.{table}") }
}
