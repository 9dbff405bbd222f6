//! `Columns`: which columns of a row cross into a handler.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};

use crate::event::Relation;

/// The columns that a handler gets of each row. Columns that it does not read need not be copied to
/// it: a column costs more than an event.
pub(super) enum Columns {
    /// Every column.
    All,
    /// Those of the key, and those of these names.
    Only(Chosen),
}

pub(super) struct Chosen {
    transform: Arc<str>,
    names: Box<[String]>,
    /// Tables without one of the names, each of which gets a word once.
    lacking: Mutex<HashSet<String>>,
}

impl Columns {
    /// Those that the settings of `transform` name; all if they name none.
    pub(super) fn new(transform: &Arc<str>, names: Option<&[String]>) -> Self {
        let Some(names) = names else { return Self::All };
        Self::Only(Chosen { transform: Arc::clone(transform), names: names.into(), lacking: Mutex::default() })
    }

    /// The indices of the relation's columns that cross, in their order.
    pub(super) fn of(&self, relation: &Relation) -> Vec<u32> {
        let all = (0..).zip(&relation.columns);
        match self {
            Self::All => all.map(|(index, _)| index).collect(),
            Self::Only(chosen) => {
                chosen.check(relation);
                let kept = all.filter(|(_, column)| column.key || chosen.names.contains(&column.name));
                kept.map(|(index, _)| index).collect()
            }
        }
    }
}

impl Chosen {
    /// A name that is missing may be a slip of the pen, or a column of another table.
    fn check(&self, relation: &Relation) {
        let missing = |name: &&String| relation.columns.iter().all(|column| column.name != **name);
        let Some(name) = self.names.iter().find(missing) else { return };
        let table = relation.to_string();
        if self.lacking.lock().unwrap_or_else(PoisonError::into_inner).insert(table.clone()) {
            let transform = &*self.transform;
            tracing::warn!(
                transform,
                table,
                column = name,
                "the table has no such column; see `columns` of the transform"
            );
        }
    }
}
