//! Code of others that waits for a copy to run it: domains, views in the place of tables, policies.
