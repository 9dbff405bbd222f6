//! Servers that answer too much, and users who write too much into the log.
