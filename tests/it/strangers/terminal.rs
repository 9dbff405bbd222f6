//! Names and texts of others on the way to a terminal or a log.
