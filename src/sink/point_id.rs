//! `PointId`: how any text becomes one of the two kinds of id that Qdrant knows, and the payload
//! keys kept for it.

use std::fmt;

use sha2::{Digest, Sha256};
use uuid::Uuid;

/// Payload key of the id as the handler gave it, where the stored id does not say it.
pub(super) const ID_KEY: &str = "_id";

/// Payload key of the group that a point belongs to.
pub(super) const GROUP_KEY: &str = "_group";

/// An id of Qdrant. Mapped as the Python library pgstream does, so that its collections need no new
/// embeddings.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum PointId {
    Number(u64),
    Uuid(Uuid),
}

impl PointId {
    /// An unsigned integer and a UUID stand for themselves; any other text for 63 bits of its
    /// SHA-256.
    ///
    /// Only the canonical spelling of a number or UUID counts, which is Postgres' own: `007` and
    /// `7`, or a UUID in capitals and in small letters, are different ids and must not fall on one
    /// point.
    pub(super) fn of(id: &str) -> Self {
        Self::literal(id).unwrap_or_else(|| Self::Number(hash(id)))
    }

    /// Tells if the id of the handler can be read off the stored one.
    pub(super) fn says(id: &str) -> bool {
        Self::literal(id).is_some()
    }

    fn literal(id: &str) -> Option<Self> {
        let number = || id.parse().ok().filter(|number: &u64| number.to_string() == id).map(Self::Number);
        let uuid = || Uuid::try_parse(id).ok().filter(|uuid| uuid.hyphenated().to_string() == id).map(Self::Uuid);
        number().or_else(uuid)
    }
}

impl fmt::Display for PointId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(number) => number.fmt(f),
            Self::Uuid(uuid) => uuid.hyphenated().fmt(f),
        }
    }
}

fn hash(id: &str) -> u64 {
    let digest = Sha256::digest(id.as_bytes());
    let head = digest.iter().take(8).fold(0, |bits, byte| bits << 8 | u64::from(*byte));
    head & (u64::MAX >> 1) // signed 64-bit clients must be able to hold it
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn ids_map_as_in_the_python_library() {
        let uuid = "550e8400-e29b-41d4-a716-446655440000";
        let cases = [
            ("0", PointId::Number(0)),
            ("42", PointId::Number(42)),
            ("18446744073709551615", PointId::Number(u64::MAX)),
            (uuid, PointId::Uuid(Uuid::try_parse(uuid).unwrap())),
            // int.from_bytes(hashlib.sha256(b"…").digest()[:8], "big") & 0x7FFF_FFFF_FFFF_FFFF
            ("", PointId::Number(7183457195969485844)),
            ("doc:1#0", PointId::Number(2260147578910936091)),
            ("日本語", PointId::Number(8606672379249086371)),
        ];
        for (id, expected) in cases {
            assert_eq!(PointId::of(id), expected, "{id}");
        }
    }

    #[test]
    fn other_spellings_of_a_number_or_uuid_are_other_points() {
        let spellings = [
            "7",
            "07",
            "007",
            "+7",
            "-7",
            " 7",
            "7.0",
            "18446744073709551616",
            "550e8400-e29b-41d4-a716-446655440000",
            "550E8400-E29B-41D4-A716-446655440000",
            "550e8400e29b41d4a716446655440000",
            "{550e8400-e29b-41d4-a716-446655440000}",
            "urn:uuid:550e8400-e29b-41d4-a716-446655440000",
        ];
        let mapped: std::collections::HashSet<_> = spellings.iter().map(|id| PointId::of(id)).collect();
        assert_eq!(mapped.len(), spellings.len());
    }

    proptest! {
        #[test]
        fn an_id_that_says_itself_comes_back(id in prop_oneof!["[0-9]{1,21}", ".*", "[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"]) {
            prop_assert_eq!(PointId::says(&id), PointId::of(&id).to_string() == id);
        }
    }
}
