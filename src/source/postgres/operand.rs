//! `Operand`: a column of a table as SQL may compare it without running code of the table's owner.
//!
//! A value that is cast to a domain runs the domain's checks, a value of a user's own type may be
//! cast by a user's function, and an operator without its schema is whichever the search path
//! finds. So values are cast to what lies below domains, and operators are those of the type's own
//! class for indexes, which only a superuser can make.
//!
//! A name can lead to something else by the time it is read: whoever owns a type, or the schema of
//! an operator, can rename it and put another in its place, and nothing that we may lock stops him.
//! So nothing is named that somebody whom we do not trust could rename: a constant without a type
//! takes that of the column beside it.

use tokio_postgres::Row;

use super::settings::quoted;
use crate::postgres::{is_trusted, is_trusted_here};

/// A column, its type below domains, and how values of that are compared.
#[derive(Clone, Debug)]
pub(super) struct Operand {
    /// Its name as SQL.
    pub(super) name: String,
    /// The type below domains as SQL, without a length: nothing is cut off. None if it is not to be
    /// named; then no values are compared with a domain over it.
    kind: Option<String>,
    is_domain: bool,
    /// The way in which a filter may see the column. None if it may not.
    seen: Option<Seen>,
    /// Schema and name of `=` and `>`. None if values may not be compared.
    compare: Option<(String, String)>,
    /// Of the key's index, if it differs from the column's.
    collation: Option<String>,
}

#[derive(Clone, Copy, Debug)]
enum Seen {
    AsItIs,
    /// As the server writes it: a cast of the type itself may call a function of its owner.
    AsText,
}

/// SQL that joins to a row `a` of `pg_attribute` what [`COLUMNS`] answers. `base` is the type below
/// domains.
pub(super) fn join() -> String {
    let (trusted, schema, extension, operator, operators) = (
        is_trusted("t.typowner"),
        is_trusted_here("n.nspowner"),
        is_trusted_here("x.extowner"),
        is_trusted_here("o.oprowner"),
        is_trusted_here("n.nspowner"),
    );
    let named = is_trusted_here("t.typowner");
    format!(
        "LEFT JOIN LATERAL (
             WITH RECURSIVE below AS (
                 SELECT t.oid, t.typtype, t.typbasetype FROM pg_type t WHERE t.oid = a.atttypid
                 UNION ALL SELECT t.oid, t.typtype, t.typbasetype
                 FROM below b JOIN pg_type t ON t.oid = b.typbasetype WHERE b.typtype = 'd'
             )
             SELECT t.oid, t.typtype, t.oid <> a.atttypid AS is_domain, format_type(t.oid, -1) AS kind, e.oid IS NOT NULL AS is_list,
                    t.oid < 16384 OR {trusted} AS is_trusted,
                    t.oid < 16384 OR {named} AND {schema} AND NOT EXISTS (
                        SELECT FROM pg_depend d JOIN pg_extension x ON x.oid = d.refobjid
                        WHERE d.classid = 'pg_type'::regclass AND d.objid = t.oid AND d.refclassid = 'pg_extension'::regclass
                          AND NOT {extension}) AS is_named,
                    CASE WHEN e.oid IS NOT NULL THEN e.typtype IN ('b', 'e') OR e.oid < 16384
                         WHEN t.typtype IN ('r', 'm') THEN t.oid < 16384 OR (r.rngcanonical = 0 AND s.typtype = 'b')
                         ELSE t.typtype IN ('b', 'e') END AS is_plain
             FROM below JOIN pg_type t ON t.oid = below.oid JOIN pg_namespace n ON n.oid = t.typnamespace
             LEFT JOIN pg_type e ON e.oid = t.typelem AND t.typcategory = 'A' AND t.typlen = -1
             LEFT JOIN pg_range r ON t.oid IN (r.rngtypid, r.rngmultitypid) LEFT JOIN pg_type s ON s.oid = r.rngsubtype
             WHERE t.typtype <> 'd'
         ) base ON true
         LEFT JOIN LATERAL (
             SELECT max(operator) FILTER (WHERE strategy = 3) AS equal, max(operator) FILTER (WHERE strategy = 5) AS above
             FROM (
                 SELECT p.amopstrategy AS strategy, format('OPERATOR(%I.%s)', n.nspname, o.oprname) AS operator
                 FROM pg_opclass k JOIN pg_am m ON m.oid = k.opcmethod AND m.amname = 'btree'
                 JOIN pg_amop p ON p.amopfamily = k.opcfamily AND p.amoplefttype = k.opcintype AND p.amoprighttype = k.opcintype
                 JOIN pg_operator o ON o.oid = p.amopopr JOIN pg_namespace n ON n.oid = o.oprnamespace
                 WHERE k.opcdefault AND k.opcintype = base.oid AND base.oid >= 16384 AND base.typtype = 'b' AND NOT base.is_list
                   AND base.is_named AND {operator} AND {operators}
                 UNION ALL SELECT strategy, operator
                 FROM (VALUES (3, 'OPERATOR(pg_catalog.=)'), (5, 'OPERATOR(pg_catalog.>)')) AS core (strategy, operator)
                 WHERE base.oid < 16384 OR base.typtype <> 'b' OR base.is_list
             ) AS of_class
         ) compared ON base.is_plain AND (base.is_named OR NOT base.is_domain)"
    )
}

/// The SQL columns from which an operand is read, beside the name of the column and the collation
/// of the key's index.
pub(super) const COLUMNS: &str = "CASE WHEN base.is_named THEN base.kind END, base.is_domain,
    CASE WHEN base.typtype = 'e' AND NOT base.is_trusted THEN 'text'
         WHEN base.is_trusted OR (base.typtype = 'b' AND NOT base.is_list) THEN 'whole' END,
    compared.equal, compared.above";

impl Operand {
    /// Reads it from a row in which [`COLUMNS`] begin at `at`.
    pub(super) fn read(
        name: &str,
        collation: Option<String>,
        row: &Row,
        at: usize,
    ) -> Result<Self, tokio_postgres::Error> {
        let seen = match row.try_get::<_, Option<&str>>(at + 2)? {
            Some("whole") => Some(Seen::AsItIs),
            Some(_) => Some(Seen::AsText),
            None => None,
        };
        let (equal, above): (Option<String>, Option<String>) = (row.try_get(at + 3)?, row.try_get(at + 4)?);
        Ok(Self {
            name: quoted(name),
            kind: row.try_get(at)?,
            is_domain: row.try_get::<_, Option<bool>>(at + 1)?.unwrap_or_default(),
            seen,
            compare: equal.zip(above),
            collation,
        })
    }

    /// True if values may be compared without running code of others.
    pub(super) fn is_comparable(&self) -> bool {
        self.compare.is_some()
    }

    /// A value as SQL, to be compared with the column.
    pub(super) fn value(&self, sql: &str) -> String {
        match &self.kind {
            Some(kind) => format!("({sql})::{kind}"),
            // A constant: no other type than the server's own has values that are written otherwise.
            None => sql.to_owned(),
        }
    }

    /// True if the type may be named: then a value has a type of its own, and may stand elsewhere
    /// than beside the column.
    pub(super) fn is_named(&self) -> bool {
        self.kind.is_some()
    }

    /// Returns the SQL by which rows are ordered; `column` is the column's name in the query.
    pub(super) fn ordered(&self, column: &str) -> String {
        match &self.collation {
            Some(collation) => format!("{column} COLLATE {collation}"),
            None => column.to_owned(),
        }
    }

    /// Returns SQL that is true where the column has this value.
    pub(super) fn is(&self, column: &str, value: &str) -> String {
        format!("{} {} {value}", self.below(column), self.equal())
    }

    /// Returns SQL that is true where the column's value comes after this one.
    fn is_above(&self, column: &str, value: &str) -> String {
        format!("{} {} {value}", self.below(column), self.above())
    }

    /// Returns the SQL of the column as a filter sees it. None if it may not see it.
    pub(super) fn seen(&self, column: &str) -> Option<String> {
        match (self.seen?, self.is_domain) {
            (Seen::AsText, _) => Some(format!("pg_catalog.textin(pg_catalog.enum_out({column}))")),
            (Seen::AsItIs, true) => Some(format!("{column}::{}", self.kind.as_ref()?)),
            (Seen::AsItIs, false) => Some(column.to_owned()),
        }
    }

    fn below(&self, column: &str) -> String {
        let below = self.kind.as_ref().filter(|_| self.is_domain).map(|kind| format!("({column}::{kind})"));
        self.ordered(below.as_deref().unwrap_or(column))
    }

    fn equal(&self) -> &str {
        self.compare.as_ref().map_or("OPERATOR(pg_catalog.=)", |(equal, _)| equal)
    }

    fn above(&self) -> &str {
        self.compare.as_ref().map_or("OPERATOR(pg_catalog.>)", |(_, above)| above)
    }
}

/// Returns SQL that is true where the columns, together, come after these values. Each column comes
/// with its name in the query, and with its value.
pub(super) fn after(columns: &[(&Operand, String, String)]) -> String {
    let same = columns.windows(2).all(|pair| match pair {
        [(first, ..), (second, ..)] => first.above() == second.above(),
        _ => true,
    });
    if let (true, Some((first, ..))) = (same, columns.first()) {
        // In this form an index serves for all columns.
        let below: Vec<String> = columns.iter().map(|(operand, column, _)| operand.below(column)).collect();
        let values: Vec<&str> = columns.iter().map(|(_, _, value)| value.as_str()).collect();
        return format!("({}) {} ({})", below.join(", "), first.above(), values.join(", "));
    }
    let one = |at: usize| {
        let (operand, column, value) = columns.get(at)?;
        let before = columns.get(..at)?.iter().map(|(operand, column, value)| operand.is(column, value));
        let all: Vec<String> = before.chain([operand.is_above(column, value)]).collect();
        Some(format!("({})", all.join(" AND ")))
    };
    let any: Vec<String> = (0..columns.len()).filter_map(one).collect();
    format!("({})", any.join(" OR "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn operand(name: &str, kind: &str, schema: &str) -> Operand {
        let operator = |name: &str| format!("OPERATOR({schema}.{name})");
        Operand {
            name: quoted(name),
            kind: Some(kind.to_owned()),
            is_domain: name.starts_with('d'),
            seen: None,
            compare: Some((operator("="), operator(">"))),
            collation: name.ends_with('c').then(|| "s.c".to_owned()),
        }
    }

    fn after_of(operands: &[Operand]) -> String {
        let columns: Vec<_> =
            operands.iter().map(|operand| (operand, operand.name.clone(), operand.value("1"))).collect();
        after(&columns)
    }

    #[test]
    fn keys_are_compared_as_rows_where_one_operator_serves() {
        let (a, d) = (operand("a", "bigint", "pg_catalog"), operand("dc", "text", "pg_catalog"));
        assert_eq!(after_of(std::slice::from_ref(&a)), "(\"a\") OPERATOR(pg_catalog.>) ((1)::bigint)");
        assert_eq!(
            after_of(&[a, d]),
            "(\"a\", (\"dc\"::text) COLLATE s.c) OPERATOR(pg_catalog.>) ((1)::bigint, (1)::text)"
        );
    }

    #[test]
    fn a_type_that_others_could_rename_is_not_named() {
        let mood = Operand { kind: None, ..operand("mood", "", "pg_catalog") };
        let (column, value) = (mood.name.clone(), mood.value("'calm'"));
        assert_eq!(after(&[(&mood, column, value)]), "(\"mood\") OPERATOR(pg_catalog.>) ('calm')");
    }

    #[test]
    fn keys_of_an_extensions_type_are_compared_column_by_column() {
        let (a, b) = (operand("a", "public.citext", "public"), operand("b", "bigint", "pg_catalog"));
        assert_eq!(
            after_of(&[a, b]),
            "((\"a\" OPERATOR(public.>) (1)::public.citext) OR (\"a\" OPERATOR(public.=) (1)::public.citext \
             AND \"b\" OPERATOR(pg_catalog.>) (1)::bigint))"
        );
    }
}
