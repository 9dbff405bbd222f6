//! Code of others that waits for a statement of ours to run it: search paths, and tables that bear our names.
