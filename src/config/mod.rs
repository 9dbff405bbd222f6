//! The pipeline file: parsed, checked and turned into the `model` that the rest of the host works with.

pub mod model;
mod secret;
mod units;

pub use secret::Secret;
pub use units::{Size, Span};
