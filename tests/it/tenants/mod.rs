//! Several owners of handlers in one host: none can take from another what is not its own.

mod admission;
mod fairness;
mod file;
mod kinds;
mod live;
mod operate;
mod shares;
