//! `pgstream-host` keeps vector stores in step with Postgres.
//!
//! ```text
//! Postgres ──WAL──> source ──Batch──> transform (WASM handler) ──Commands──> embedder ──> sinks
//!     ^                                                                                    │
//!     └────────────── confirm <── progress (durable prefix of the queue) <─────────────────┘
//! ```

#![deny(unsafe_code)]

pub mod lsn;

pub mod event;

pub mod command;

pub mod printable;

pub mod error;

pub mod screen;

pub mod meter;

mod backoff;

mod retry;

pub mod sabotage;

pub mod config;

pub mod postgres;

pub mod decode;

pub mod source;

pub mod transform;

pub mod embedder;

pub mod sink;

pub mod toolchain;

pub mod demo;

pub mod components;

pub mod pipeline;

pub mod host;

pub mod api;

pub mod trial;

pub mod telemetry;

pub mod cli;
