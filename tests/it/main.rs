//! The one integration binary: linking the engines once is what keeps it quick.

mod cluster;
mod decode;
mod sinks;
mod support;
mod tidy;
