//! Descriptions of tables that the server has sent in a session, as far as they are remembered.

use super::{DecodeError, Decoder};
use crate::event::{Relation, ReplicaIdentity};

/// Of descriptions, per session: a hundred thousand tables have less, and a server may describe
/// them without end.
pub(super) const DESCRIBED: usize = 32 << 20;

/// Counts a description.
pub(super) fn remember(described: &mut usize, bytes: usize) -> Result<(), DecodeError> {
    *described = described.saturating_add(bytes);
    if *described > DESCRIBED { Err(DecodeError::Crowded) } else { Ok(()) }
}

impl Decoder {
    /// The table with this OID, if the server has described it.
    pub fn relation(&self, oid: u32) -> Option<&Relation> {
        self.tables.get(&oid).map(|table| &*table.relation)
    }

    /// Tells if a table that has a primary key is described without it, and with columns that it
    /// does not have now. (If it has them all, its key is just not published.)
    pub(super) fn lacks_key(&self, relation: &Relation) -> bool {
        let key = self.catalog.primary_key(relation.id).filter(|_| relation.replica_identity == ReplicaIdentity::Full);
        key.is_some_and(|key| {
            relation.columns.iter().filter(|column| column.key).count() != key.names.len()
                && relation.columns.iter().any(|column| !key.among.contains(&Some(column.name.clone())))
        })
    }
}
