//! `Added`: what the host adds to the requests for one granted host, and how it is found again in
//! an answer.

use std::collections::BTreeSet;

use http::{HeaderMap, HeaderName, HeaderValue, header};

/// Bytes of a part that is looked for: what is shorter is no secret, but part of many words.
const SHORTEST: usize = 4;

/// Headers of the connection, which is ours: they would let a guest speak to another host, or cut a
/// request in two.
const OURS: [HeaderName; 16] = [
    header::HOST,
    header::CONNECTION,
    header::CONTENT_LENGTH,
    header::TRANSFER_ENCODING,
    header::TE,
    header::TRAILER,
    header::UPGRADE,
    header::EXPECT,
    header::PROXY_AUTHENTICATE,
    header::PROXY_AUTHORIZATION,
    header::FORWARDED,
    header::VIA,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    HeaderName::from_static("http2-settings"),
    HeaderName::from_static("x-forwarded-for"),
];

/// Tells if a header belongs to the connection, so that no handler and no tenant sets it.
pub fn is_of_the_connection(name: &str) -> bool {
    OURS.iter().any(|ours| ours.as_str().eq_ignore_ascii_case(name))
}

/// Headers that are added to each request, and the secrets in them.
#[derive(Default)]
pub(super) struct Added {
    headers: HeaderMap,
    secrets: BTreeSet<Vec<u8>>,
}

impl Added {
    /// Takes one header more. The last one of a name counts.
    pub(super) fn insert(&mut self, name: HeaderName, mut value: HeaderValue) {
        value.set_sensitive(true);
        self.headers.insert(name, value);
        self.secrets = self.headers.values().flat_map(|value| secrets(value.as_bytes())).map(<[u8]>::to_vec).collect();
    }

    /// The guest's headers without those that are ours to set, and those that are added, which have
    /// the last word.
    pub(super) fn over(&self, asked: &HeaderMap) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in asked.iter().filter(|(name, _)| !OURS.contains(name)) {
            headers.append(name, value.clone());
        }
        for (name, value) in &self.headers {
            headers.insert(name, value.clone()); // in the place of all that the guest had under this name
        }
        headers
    }

    /// Removes what repeats a secret, or a part of one, from the headers of an answer.
    pub(super) fn strip(&self, answer: &mut HeaderMap) {
        let told: Vec<_> = answer.iter().filter(|(_, value)| self.repeated_in(value.as_bytes())).collect();
        for name in told.into_iter().map(|(name, _)| name.clone()).collect::<Vec<_>>() {
            answer.remove(name);
        }
    }

    fn repeated_in(&self, value: &[u8]) -> bool {
        self.secrets.iter().any(|secret| value.windows(secret.len()).any(|window| window == secret))
    }
}

/// Returns the parts of a header's value that must not be told: all of it, and each part that means
/// something by itself: `s3cret` of `Bearer s3cret`, `abcd` of `session=abcd; theme=dark`, `s3cret`
/// of `Digest response="s3cret"`. Leaves out those of fewer than [`SHORTEST`] bytes.
fn secrets(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    let words = value.split(|byte| byte.is_ascii_whitespace() || matches!(byte, b';' | b','));
    let words = words.filter(|word| !word.is_empty()).collect::<Vec<_>>();
    // The scheme of `Bearer s3cret` is the word that servers ask for it with.
    let scheme = words.len() > 1 && words.first().is_some_and(|first| first.iter().all(u8::is_ascii_alphabetic));
    let parts = words.into_iter().skip(usize::from(scheme)).map(|word| {
        let padded = word.iter().rev().take_while(|byte| **byte == b'=').count();
        let bare = word.get(..word.len() - padded).unwrap_or(word); // base64 may end so
        match bare.iter().position(|byte| *byte == b'=') {
            Some(at) => bare.get(at + 1..).unwrap_or_default(),
            None => bare,
        }
    });
    parts.chain([value]).map(unquoted).filter(|secret| secret.len() >= SHORTEST)
}

fn unquoted(part: &[u8]) -> &[u8] {
    part.strip_prefix(b"\"").and_then(|part| part.strip_suffix(b"\"")).unwrap_or(part)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(fields: &[(&str, &str)]) -> HeaderMap {
        let fields = fields.iter();
        fields.map(|(name, value)| (name.parse::<HeaderName>().unwrap(), value.parse().unwrap())).collect()
    }

    fn added(fields: &[(&str, &str)]) -> Added {
        let mut added = Added::default();
        fields.iter().for_each(|(name, value)| added.insert(name.parse().unwrap(), value.parse().unwrap()));
        added
    }

    #[test]
    fn the_hosts_headers_win_and_those_of_the_connection_are_not_the_guests() {
        let asked = [
            ("accept", "a"),
            ("host", "evil.example"),
            ("transfer-encoding", "chunked"),
            ("content-length", "3"),
            ("authorization", "mine"),
            ("x-forwarded-for", "127.0.0.1"),
            ("cookie", "c"),
        ];
        let mut asked = map(&asked);
        asked.append("authorization", "again".parse().unwrap());
        let sent = added(&[("Authorization", "an earlier one"), ("authorization", "Bearer s3cret")]).over(&asked);
        assert_eq!(sent, map(&[("accept", "a"), ("cookie", "c"), ("authorization", "Bearer s3cret")]));
    }

    #[test]
    fn a_credential_and_each_part_of_it_is_found_wherever_it_stands_in_a_header() {
        let added = added(&[
            ("authorization", "Bearer s3cret"),
            ("cookie", "session=abcd1234; csrf=\"efgh5678\"; theme=dark"),
            ("x-basic", "Basic dXNlcjpwYXNz=="),
            ("x-key", "k"),
        ]);
        for (value, found) in [
            ("Bearer s3cret", true),
            ("got s3cret!", true),
            ("s3cre", false),
            ("Bearer realm=\"all\"", false),
            ("session=abcd1234; path=/", true),
            ("[abcd1234]", true),
            ("efgh5678", true),
            ("theme=light", false),
            ("session=", false),
            ("dXNlcjpwYXNz", true),
            ("Basic", false),
            ("k", false),
        ] {
            let mut answer = map(&[("x-told", value), ("x-harmless", "yes")]);
            added.strip(&mut answer);
            assert_eq!((answer.len() == 1, answer.contains_key("x-harmless")), (found, true), "{value}");
        }
    }

    #[test]
    fn what_is_of_the_connection_is_known_in_any_case() {
        assert!(is_of_the_connection("Host") && is_of_the_connection("TRANSFER-ENCODING"));
        assert!(!is_of_the_connection("authorization"));
    }
}
