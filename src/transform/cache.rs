//! Compiled components on disk: authenticated before they are loaded, versioned, and bounded in
//! size.
//!
//! Compiled code can do anything, so an entry is loaded only if this user's host wrote it. Each
//! entry carries an HMAC-SHA256 over the engine's version and settings, the component's hash and
//! the code, made with a random key that lies beside the entries, readable by this user alone. So
//! an entry that was damaged, cut off, copied from elsewhere, written by somebody who could write
//! into the folder but not read it, renamed to stand for another component, or made by another
//! version is not loaded: it is removed, and the component compiled again. Who can read this user's
//! files, or write as this user, has the host anyway: against them no cache on the same disk can
//! help.

mod folder;

use std::hash::{Hash, Hasher};
use std::io::{Read, Write};
use std::path::Path;
use std::time::SystemTime;

use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};
use wasmtime::Engine;
use wasmtime::component::Component;

use self::folder::{Folder, Key};
use super::artifact::Authentic;

/// The first bytes of an entry; another format gets another number.
const MAGIC: &[u8; 8] = b"pgsthc01";

/// Bytes of a hash and of an authentication code.
const HASH: usize = 32;

type Sha = [u8; HASH];

/// A folder of compiled components.
pub(super) struct Cache {
    folder: Folder,
    key: Key,
    max_bytes: u64,
}

/// The identity of a compiled component: its engine and its bytes, as hashes.
struct Identity {
    engine: Sha,
    component: Sha,
}

impl Cache {
    /// Opens or makes the folder. It becomes readable by this user only, and must belong to this
    /// user.
    pub(super) fn open(path: &Path, max_bytes: u64) -> std::io::Result<Self> {
        let folder = Folder::open(path)?;
        let key = folder.key()?;
        Ok(Self { folder, key, max_bytes })
    }

    /// The component of `bytes`, from the cache or compiled now. The cache is a help, never a
    /// reason to fail.
    pub(super) fn compiled_by(
        &self,
        engine: &Engine,
        bytes: &[u8],
        compile: impl FnOnce() -> wasmtime::Result<Component>,
    ) -> wasmtime::Result<Component> {
        let identity = Identity::new(engine, bytes);
        let entry = Folder::entry(&identity.name());
        if let Some(artifact) = self.read(&entry, &identity) {
            match artifact.component(engine) {
                Ok(component) => return Ok(component),
                Err(error) => tracing::warn!(%error, "a compiled handler was not taken; it is compiled again"),
            }
            let _ = self.folder.remove(&entry);
        }
        let component = compile()?;
        let kept = component.serialize().map_err(std::io::Error::other);
        if let Err(error) = kept.and_then(|artifact| self.keep(&entry, &identity, &artifact)) {
            tracing::warn!(%error, "a compiled handler could not be kept; the next start compiles it again");
        }
        Ok(component)
    }

    /// The entry's code, if it is what it claims to be. Else it is removed.
    fn read(&self, name: &str, identity: &Identity) -> Option<Authentic> {
        let mut file = self.folder.read(name).ok()?;
        let mut bytes = Vec::new();
        let limit = self.max_bytes.saturating_add((MAGIC.len() + HASH) as u64);
        let whole = (&mut file).take(limit).read_to_end(&mut bytes).is_ok();
        let found = bytes.split_at_checked(MAGIC.len() + HASH).filter(|_| whole).and_then(|(head, artifact)| {
            let tag = head.strip_prefix(MAGIC.as_slice())?;
            self.tag(identity, artifact).verify_slice(tag).ok()?;
            Some(artifact.len())
        });
        let Some(length) = found else {
            tracing::warn!("a compiled handler in the cache is damaged or not ours; it is removed and compiled again");
            let _ = self.folder.remove(name);
            return None;
        };
        let _ = file.set_modified(SystemTime::now()); // used: the last to be evicted
        let start = bytes.len() - length;
        bytes.drain(..start);
        Some(Authentic::checked(bytes))
    }

    fn keep(&self, name: &str, identity: &Identity, artifact: &[u8]) -> std::io::Result<()> {
        let size = (MAGIC.len() + HASH + artifact.len()) as u64;
        if size > self.max_bytes {
            return Ok(());
        }
        let tag = self.tag(identity, artifact).finalize().into_bytes();
        self.folder.write(name, |file| {
            file.write_all(MAGIC)?;
            file.write_all(&tag)?;
            file.write_all(artifact)
        })?;
        self.folder.evict(self.max_bytes, name)
    }

    fn tag(&self, identity: &Identity, artifact: &[u8]) -> Hmac<Sha256> {
        let mut mac = <Hmac<Sha256> as KeyInit>::new(&self.key.into());
        for part in [identity.engine.as_slice(), identity.component.as_slice(), artifact] {
            mac.update(part); // all but the last have one length, so no two splits read alike
        }
        mac
    }
}

impl Identity {
    fn new(engine: &Engine, bytes: &[u8]) -> Self {
        let mut hasher = ShaHasher(Sha256::new());
        env!("CARGO_PKG_VERSION").hash(&mut hasher);
        engine.precompile_compatibility_hash().hash(&mut hasher);
        Self { engine: hasher.0.finalize().into(), component: Sha256::digest(bytes).into() }
    }

    /// The file's name. It only finds the entry; what counts is under the authentication code.
    fn name(&self) -> String {
        let both = Sha256::new().chain_update(self.engine).chain_update(self.component).finalize();
        both.iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

/// All of what a `Hash` feeds it, in 32 bytes: the 8 of an ordinary hasher can be made to collide.
struct ShaHasher(Sha256);

impl Hasher for ShaHasher {
    fn write(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    fn finish(&self) -> u64 {
        let digest = self.0.clone().finalize();
        digest.iter().take(8).fold(0, |sum, byte| sum << 8 | u64::from(*byte))
    }
}

#[cfg(test)]
mod tests;
