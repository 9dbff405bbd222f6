//! `Resource`: something outside of its pipeline that a component names, and that a tenant needs a
//! grant for.

use std::path::PathBuf;

use super::model::{HttpHost, Limits};
use super::{Secret, Size};

/// Something that settings name and that may be somebody else's. Whoever guards a tenant's pipeline
/// matches all of them.
#[derive(Debug)]
pub enum Resource<'a> {
    /// Logins to Postgres databases. The URLs may name files as well.
    Postgres {
        /// Each URL, with the file that its password may be in.
        logins: Vec<PostgresLogin<'a>>,
        /// Set to the folder that the files named in the URLs lie in, if the pipeline is a
        /// tenant's.
        folder: &'a mut Option<PathBuf>,
    },
    /// A name of a replication slot or a publication. A tenant's begins as those do that are made
    /// of its pipelines' names.
    SlotName {
        /// The setting.
        key: &'static str,
        /// Its value.
        name: &'a str,
    },
    /// Standard input, which is the host's own.
    Stdin {
        /// The setting.
        key: &'static str,
    },
    /// A server that is reached over HTTP or gRPC, by its URL.
    HttpUrl {
        /// The setting.
        key: &'static str,
        /// Its value.
        url: &'a str,
    },
    /// A file or a folder, relative to the working directory; becomes absolute if the pipeline is a
    /// tenant's.
    Path {
        /// The setting.
        key: &'static str,
        /// Its value.
        path: &'a mut PathBuf,
        /// Set to the folder that it must lie in, if the pipeline is a tenant's. It is opened
        /// beneath that one.
        folder: &'a mut Option<PathBuf>,
    },
    /// A table, as `table` or `schema.table`, in a database that several tenants may share. Gets
    /// its schema if the pipeline is a tenant's.
    Table {
        /// The setting.
        key: &'static str,
        /// Its value.
        name: &'a mut String,
    },
    /// A name in a store that several tenants may share.
    Name {
        /// The setting.
        key: &'static str,
        /// Its value.
        name: &'a str,
    },
    /// The most that one call of a handler may use up.
    HandlerLimits(&'a Limits),
    /// A host that a handler may reach over HTTP. Headers that the host file sets are added for a
    /// tenant.
    HttpHost {
        /// Its place in the list.
        index: usize,
        /// The host, and what belongs to it.
        host: &'a mut HttpHost,
    },
    /// Memory that one row may take, as `max_row`. Lowered to what is granted where the file says
    /// what is usual.
    RowBytes {
        /// Its value.
        bytes: &'a mut Size,
        /// The setting's default.
        usual: Size,
    },
    /// Memory that a batch may take, as `batch.max_bytes`. Lowered to what is granted where the
    /// file says what is usual.
    BatchBytes {
        /// Its value.
        bytes: &'a mut Size,
        /// The setting's default.
        usual: Size,
    },
}

/// A URL of a Postgres database, and the file that its password may be in.
#[derive(Debug)]
pub struct PostgresLogin<'a> {
    /// The settings that hold the URL and the file's name.
    pub keys: [&'static str; 2],
    /// The URL.
    pub url: &'a Secret,
    /// The file, if there is one; becomes absolute if the pipeline is a tenant's.
    pub password_file: &'a mut Option<PathBuf>,
}

/// The Postgres database that a source reads, for components that use the same one unless they say
/// otherwise.
#[derive(Clone, Debug)]
pub struct SourceDatabase {
    /// Its URL.
    pub url: Secret,
    /// The file that the password may be in.
    pub password_file: Option<PathBuf>,
    /// Roles that may own what the host looks at there.
    pub trusted_owners: Vec<String>,
}
