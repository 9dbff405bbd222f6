//! The only `unsafe` block of the crate: machine code from the cache, loaded after it was authenticated.

use wasmtime::Engine;
use wasmtime::component::Component;

/// Compiled code that this user's host wrote. Only `cache` makes one, after it has checked the authentication code.
pub(super) struct Authentic(Vec<u8>);

impl Authentic {
    pub(super) fn checked(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }

    /// The component. Fails if the code was made by another version or with other settings of the engine.
    pub(super) fn component(&self, engine: &Engine) -> wasmtime::Result<Component> {
        // SAFETY: `deserialize` asks that the bytes come unchanged from `Component::serialize`, of an engine that is trusted.
        // The authentication code over all of them was made with a key that only this user's hosts can read, and they make
        // it over nothing but what `serialize` returned (`Cache::keep`). Version and settings of the engine are part of
        // what is authenticated, and wasmtime checks them again. The bytes are ours in memory: nobody changes them now.
        #[allow(unsafe_code)]
        unsafe {
            Component::deserialize(engine, &self.0)
        }
    }
}
