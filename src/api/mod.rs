//! The API: what a running host tells about itself, over a Unix socket for its own user, and over TCP where that is asked for.
//!
//! Nothing here can change a pipeline, and no answer holds a secret, a setting or a row's value. Trouble of the API stops
//! nothing: what cannot be opened at the start is said, and what fails later ends one connection.

mod bind;

mod caller;

mod client;

mod gate;

mod metrics;

mod peers;
mod routes;

mod serve;

mod view;

pub use bind::sockets;
pub use client::ask;
pub use serve::{Api, Serving};
