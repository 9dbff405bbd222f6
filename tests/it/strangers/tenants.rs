//! Tenants that would take from the host or from others: compilers, files, headers, descriptors, grants.
