//! The one integration binary: linking the engines once is what keeps it quick.

mod cli;
mod cluster;
mod config;
mod conformance;
mod copy;
mod crash;
mod decode;
mod demo;
mod embedder;
mod examples;
mod guests;
mod pipeline;
mod poison;
mod sdk;
mod sinks;
mod source;
mod source_login;
mod source_refusals;
mod support;
mod tap;
mod tenants;
mod tidy;
mod toolchain;
mod transform;
mod trial;
