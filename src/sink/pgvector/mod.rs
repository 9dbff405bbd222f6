//! The `pgvector` sink: points as rows of a Postgres table, with the position in the same
//! transaction.

mod columns;
mod copy;
mod create;
mod place;
mod position;
mod refusal;
mod search;
mod session;
mod settings;
mod statements;
mod table;
mod write;

use std::sync::Arc;

use async_trait::async_trait;

use self::position::Lease;
use self::session::{Session, Target};
use super::{Admission, Delivery, Held, Look, Sink, StoreMarks, WriteSet};
use crate::error::{Error, Fault, Result};
use crate::postgres::Url;

pub use self::settings::PgvectorSettings;

/// Writes points to a table:
///
/// | column | type | holds |
/// |---|---|---|
/// | `id` | `text`, primary key | the point's id |
/// | `group_id` | `text`, indexed | the point's group, or null |
/// | `embedding` | `vector(n)` | the default vector, or null |
/// | *name* | `vector(n)` | the vector of that name, or null |
/// | *name* | `sparsevec(1000000000)` | the sparse vector of that name, or null |
/// | `payload` | `jsonb` | the payload |
///
/// `create` makes such a table, with an HNSW index on each dense vector: on the `vector` itself up
/// to 2,000 numbers, on the vector as `halfvec` up to 4,000, and none beyond that. Sparse vectors
/// get none: pgvector would then refuse more than 1,000 elements. The table's pages are filled by
/// half, so that a changed payload does not touch those indexes. A table that is there already is
/// never changed. It may differ: the default vector may stand in a column `vector` (as in tables of
/// the Python library pgstream), vectors may be `halfvec`, `id` may be an integer or a `uuid`,
/// `group_id` may be missing as long as no handler uses groups, and further columns may exist if
/// they may be null or have a default.
///
/// Each delivery is one transaction: rows arrive through COPY in a temporary table and are merged
/// from there, and the position moves on in `pgstream.positions`. So a delivery is there as a whole
/// or not at all, and what was written is not written again. The table may lie in the source's own
/// database.
pub struct PgvectorSink {
    pipeline: String,
    name: String,
    target: Target,
    /// The table that the sink was opened on; a reconnect must find the same one.
    oid: u32,
    /// The marks by which the table is known, as far as there are any.
    marks: Vec<String>,
    session: Option<Session>,
    lease: Option<Lease>,
}

impl PgvectorSink {
    /// Connects, makes what `create` asks for and is missing, and checks the table. `pipeline` and
    /// `name` say under which name the position is stored.
    ///
    /// # Errors
    /// `Config` if settings and table contradict each other, `Environment` if something is missing
    /// or forbidden, `Transient` if the server cannot be reached.
    pub async fn open(pipeline: &str, name: &str, settings: &PgvectorSettings) -> Result<Self> {
        let target = target(settings)?;
        let session = Session::open(&target).await?;
        let oid = session.table.oid;
        position::ensure(&session.client, &target.url).await?;
        let marks = position::marks(&session.client, oid).await?;
        Ok(Self {
            pipeline: pipeline.to_owned(),
            name: name.to_owned(),
            target,
            oid,
            marks,
            session: Some(session),
            lease: None,
        })
    }

    /// As `open`, but makes nothing: answers what is there, or would be.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub async fn look(settings: &PgvectorSettings) -> Result<Look> {
        let target = target(settings)?;
        let (columns, name, marks) = match Session::look(&target).await? {
            Some(session) => {
                let marks = position::marks(&session.client, session.table.oid).await?;
                (session.table.columns, session.table.name, marks)
            }
            None => (target.wanted.unwrap_or_default(), settings.table.clone(), Vec::new()),
        };
        Ok(Look { marks: StoreMarks::Words(marks), admission: Some(admission(columns, name)) })
    }

    /// Forgets how far the sink holds any stream. Its rows stay.
    ///
    /// # Errors
    /// Those of the server and of the connection; `Config` if the settings cannot be used.
    pub async fn forget(pipeline: &str, name: &str, settings: &PgvectorSettings) -> Result<()> {
        position::forget(&session::connect(&target(settings)?.url).await?, pipeline, name).await
    }

    /// The open connection, or a new one in place of one that broke. The caller puts it back while
    /// it is good.
    async fn session(&mut self) -> Result<Session> {
        match self.session.take() {
            Some(session) if !session.client.is_closed() => Ok(session),
            _ => Session::reopen(&self.target, self.oid).await,
        }
    }
}

#[async_trait]
impl Sink for PgvectorSink {
    async fn resume(&mut self, origin: &str) -> Result<Option<Held>> {
        let mut session = self.session().await?;
        let (lease, held) =
            Lease::take(&mut session.client, &self.pipeline, &self.name, origin, self.oid, &self.target.url).await?;
        self.session = Some(session);
        self.lease = Some(lease);
        Ok(held)
    }

    fn admission(&self) -> Option<Admission> {
        let table = &self.session.as_ref()?.table;
        Some(admission(table.columns.clone(), table.name.clone()))
    }

    fn marks(&self) -> StoreMarks {
        StoreMarks::Words(self.marks.clone())
    }

    async fn write(&mut self, delivery: &Delivery<'_>) -> Result<()> {
        if !delivery.rejected.is_empty() {
            return Err(Error::new(Fault::Bug, "rejected events reached a sink for points"));
        }
        let lease = self.lease.clone();
        let lease = lease.ok_or_else(|| Error::new(Fault::Bug, "a sink was written to before it resumed"))?;
        let set = WriteSet::coalesce(&delivery.commands);
        let mut session = self.session().await?;
        let written = match write::admit(&session.table, &set, delivery.through.position) {
            Ok(()) => write::write(&mut session, &lease, &set, delivery.through).await,
            refused => refused,
        };
        // After any error but a refusal the session is in no known state.
        if written.as_ref().err().is_none_or(|error| error.misdeed().is_some()) {
            self.session = Some(session);
        }
        written
    }

    async fn close(self: Box<Self>) -> Result<()> {
        Ok(())
    }
}

fn target(settings: &PgvectorSettings) -> Result<Target> {
    let url = Url::parse(&settings.url, settings.password_file.clone())?.beneath(settings.folder.clone());
    let url = url.trusting(&settings.trusted_owners);
    let wanted = settings.create.as_ref().map(columns::wanted).transpose()?;
    let unqualified = (!settings.table.contains('.')).then(|| settings.table.clone());
    Ok(Target { url, table: table::parse_name(&settings.table)?, unqualified, wanted })
}

fn admission(columns: Vec<columns::Column>, table: String) -> Admission {
    Arc::new(move |point, position| columns::admit(&columns, &table, point, position))
}

impl std::fmt::Debug for PgvectorSink {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PgvectorSink").field("name", &self.name).field("target", &self.target).finish_non_exhaustive()
    }
}
