//! The only `unsafe` block of the crate: machine code from the cache or from our compiler, loaded
//! once it is known whose it is.

use wasmtime::Engine;
use wasmtime::component::Component;

/// Compiled code that this user's host wrote.
pub(super) struct Authentic(Vec<u8>);

impl Authentic {
    /// For `cache` alone, after it has checked the authentication code.
    pub(super) fn checked(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }

    /// For `compiler` alone: what a process that it started itself, of our own program, wrote into
    /// the pipe between the two.
    pub(super) fn made_by_our_compiler(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }

    /// The component. Fails if the code was made by another version or with other settings of the
    /// engine.
    pub(super) fn component(&self, engine: &Engine) -> wasmtime::Result<Component> {
        // SAFETY: `deserialize` asks that the bytes come unchanged from `Component::serialize` or `precompile_component`, of an
        // engine that is trusted. Those of the cache carry an authentication code that only this user's hosts can make, and
        // they make it over nothing but what `serialize` returned (`Cache::keep`). Those of the compiler come through a pipe
        // whose other end nobody has but a process of this program, which writes what `precompile_component` returned: it is
        // as much to be trusted as if the compiler ran here, and no more: a component that takes the compiler over, by a
        // mistake in it, writes this code. Version and settings of the engine are part of what is
        // authenticated, and wasmtime checks them again. The bytes are ours in memory: nobody changes them now.
        #[allow(unsafe_code)]
        unsafe {
            Component::deserialize(engine, &self.0)
        }
    }
}
