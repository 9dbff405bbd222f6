//! The API: what a running host tells about itself and can be asked to do, over a Unix socket for
//! its own user, and over TCP where that is asked for; and the page that shows it.
//!
//! No answer holds a secret or a setting. The values of a row stand in the answer about one dead
//! letter alone, which takes a right of its own; what changes something takes another. Trouble of
//! the API stops nothing: what cannot be opened at the start is said, and what fails later ends one
//! connection.

mod acting;

mod actions;

mod bind;

mod body;

mod caller;

mod client;

mod gate;

mod letters;

mod metrics;

mod peers;

mod reload;

mod routes;

mod serve;

mod shared;

mod ui;

mod view;

pub use bind::sockets;
pub use client::{Answer, Place, ask};
pub use reload::{ReloadAnswer, ReloadOrder, reload_orders};
pub use serve::{Api, Serving};
