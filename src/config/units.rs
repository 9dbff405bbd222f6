//! Values with units: `64MiB`, `20ms`.

use std::time::Duration;

use schemars::JsonSchema;
use serde::Deserialize;

/// An amount of memory, written with its unit: `64MiB`, `500KB`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize, JsonSchema)]
pub struct Size(pub u64);

/// A span of time, written with its unit: `20ms`, `1s`, `5m`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize, JsonSchema)]
pub struct Span(pub Duration);
