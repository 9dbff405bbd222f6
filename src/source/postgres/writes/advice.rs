//! `Advice`: the SQL to type so that a table and its partitions can be followed, and still be
//! written to. It is tried against the same rules before it is printed.

use super::catalogue::{Flaw, Identity, Member, Rule};
use crate::source::postgres::settings::quoted;

/// A table and its partitions, with what would be published of them.
pub(super) struct Advice<'a> {
    pub(super) members: &'a [Member],
    pub(super) version: i32,
    /// Our own publication's rule for a member.
    pub(super) own: &'a dyn Fn(&Member) -> Rule,
    /// Name of our publication.
    pub(super) publication: &'a str,
    /// True if old rows as a whole are enough: rows that are there are not copied, or can be copied
    /// by their key.
    pub(super) full_helps: bool,
}

/// The identity that a table is to have.
enum Wanted {
    Primary,
    /// Of the table the marked index, of partitions those that belong to it.
    Marked,
    /// An index that is not marked yet.
    Index(String, Vec<String>),
    NewKey(NewKey),
    Full,
}

/// A primary key that is to be made.
struct NewKey {
    columns: Vec<String>,
    /// Its first column is to be made, too.
    made: bool,
}

impl Advice<'_> {
    /// SQL, one way or several to choose from. None if no identity suits all publications.
    pub(super) fn text(&self) -> Option<String> {
        let root = self.members.first()?;
        let mut ways = Vec::new();
        match root.identity() {
            Identity::Key(_) if root.replident == "i" => ways.push(Wanted::Marked),
            Identity::Full if self.full_helps => ways.push(Wanted::Full),
            _ => {}
        }
        if root.primary.is_some() {
            ways.push(Wanted::Primary);
        }
        if let Some((name, columns)) = root.candidate.clone().filter(|_| root.kind == "r") {
            ways.push(Wanted::Index(name, columns));
        }
        ways.extend(self.new_key().map(Wanted::NewKey));
        let full =
            (self.full_helps && root.primary.is_none() && self.works(&Wanted::Full)).then(|| self.sql(&Wanted::Full));
        let best = ways.iter().find(|wanted| self.works(wanted)).map(|wanted| self.sql(wanted));
        match (best, full) {
            (Some(best), Some(full)) if best != full => Some(format!("{best}\nor, for small tables: {full}")),
            (best, full) => best.or(full),
        }
    }

    /// SQL that gives the table a primary key.
    pub(super) fn key(&self) -> Option<String> {
        self.new_key().map(|key| self.sql(&Wanted::NewKey(key)))
    }

    fn new_key(&self) -> Option<NewKey> {
        let root = self.members.first().filter(|root| root.primary.is_none())?;
        let is_plain = |name: &str| root.columns.iter().any(|column| column == name) && !root.is_generated(name);
        let (mut columns, made) = match &root.candidate {
            Some((_, columns)) => (columns.clone(), false),
            None if is_plain("id") => (vec!["id".to_owned()], false),
            None => {
                let free =
                    ["id", "row_id"].into_iter().find(|name| !root.columns.iter().any(|column| column == name))?;
                (vec![free.to_owned()], true)
            }
        };
        // A key of a partitioned table holds all by which it is partitioned, which cannot be expressions.
        for column in self.members.iter().flat_map(|member| &member.partitioned_by) {
            let column = column.as_ref()?;
            if !columns.contains(column) {
                columns.push(column.clone());
            }
        }
        Some(NewKey { columns, made })
    }

    /// Tells if all publications would then accept writes. A refusal by another publication does
    /// not count if it is the same as now, unless it is for want of an identity.
    fn works(&self, wanted: &Wanted) -> bool {
        self.members.iter().filter(|member| member.has_rows()).all(|member| {
            let identity = match wanted {
                Wanted::Primary => member.primary.as_deref().map_or(Identity::Nothing, Identity::Key),
                Wanted::Marked if member.is_root() => member.identity(),
                Wanted::Marked if member.follows.is_none() => Identity::Nothing,
                // The columns of an index that belongs to another are those of the other.
                Wanted::Marked => match self.members.first().and_then(|root| root.marked.as_deref()) {
                    Some(columns) => Identity::Key(columns),
                    None => Identity::Nothing,
                },
                Wanted::Index(_, columns) => Identity::Key(columns),
                Wanted::NewKey(key) => Identity::Key(&key.columns),
                Wanted::Full => Identity::Full,
            };
            let own = (self.own)(member);
            let others = member.rules.iter().filter(|rule| rule.publication != self.publication);
            others.chain([&own]).all(|rule| match member.flaw(identity, rule, self.version) {
                None => true,
                // Others' writes fail already, and go on to fail.
                Some(flaw) => {
                    rule.publication != self.publication
                        && flaw != Flaw::Nothing
                        && member.flaw(member.identity(), rule, self.version) == Some(flaw)
                }
            })
        })
    }

    fn sql(&self, wanted: &Wanted) -> String {
        let mut lines = Vec::new();
        let relevant = || self.members.iter().filter(|member| member.has_rows() || member.is_root());
        let default = |lines: &mut Vec<String>| {
            let others = relevant().filter(|member| member.replident != "d");
            lines.extend(others.map(|member| format!("ALTER TABLE {} REPLICA IDENTITY DEFAULT;", member.sql)));
        };
        match wanted {
            Wanted::Primary => default(&mut lines),
            Wanted::Index(name, _) => lines
                .extend(relevant().map(|member| {
                    format!("ALTER TABLE {} REPLICA IDENTITY USING INDEX {};", member.sql, quoted(name))
                })),
            Wanted::Marked => lines.extend(relevant().filter_map(|member| {
                let index = member.follows.as_ref()?;
                Some(format!("ALTER TABLE {} REPLICA IDENTITY USING INDEX {};", member.sql, quoted(index)))
            })),
            Wanted::Full => lines.extend(
                relevant()
                    .filter(|member| member.replident != "f")
                    .map(|member| format!("ALTER TABLE {} REPLICA IDENTITY FULL;", member.sql)),
            ),
            Wanted::NewKey(key) => {
                self.make_key(key, &mut lines);
                default(&mut lines);
            }
        }
        lines.join("\n")
    }

    fn make_key(&self, NewKey { columns, made }: &NewKey, lines: &mut Vec<String>) {
        let Some(root) = self.members.first() else { return };
        let drop =
            |member: &Member| member.primary_name.as_ref().map(|name| format!("DROP CONSTRAINT {}", quoted(name)));
        for member in self.members.iter().filter(|member| !member.is_root()) {
            // A partition's own key would be a second one, unless it is the same.
            if root.primary_name.is_none()
                && member.primary.as_ref() != Some(columns)
                && let Some(drop) = drop(member)
            {
                lines.push(format!("ALTER TABLE {} {drop};", member.sql));
            }
        }
        let mut steps: Vec<String> = drop(root).into_iter().collect();
        if let Some(column) = columns.first().filter(|_| *made) {
            let default = "uuid NOT NULL DEFAULT gen_random_uuid()";
            steps.push(format!("ADD COLUMN {} {default}", quoted(column)));
        }
        let columns: Vec<String> = columns.iter().map(|column| quoted(column)).collect();
        steps.push(format!("ADD PRIMARY KEY ({})", columns.join(", ")));
        lines.push(format!("ALTER TABLE {} {};", root.sql, steps.join(", ")));
    }
}

impl Member {
    fn is_generated(&self, column: &str) -> bool {
        self.stored.iter().chain(&self.virtuals).any(|generated| generated == column)
    }
}
