//! The sink `dead-letters`: rejected events in a table of our own, from where they can be shown,
//! replayed and dropped.

mod kind;
mod letters;
mod replays;
mod settings;
mod table;

use async_trait::async_trait;
use tokio_postgres::Client;

use self::table::Insert;
use super::{Delivery, Held, Sink};
use crate::error::{Error, Fault, Result};
use crate::postgres::{self, Url, failed};

pub use letters::{Filter, Letter, Letters, Stored, Wanted, count};
pub use replays::Settled;
pub use settings::DeadLettersSettings;

/// `Ok` from a write promises that it survives a crash, which `synchronous_commit = off` would not.
const SETTINGS: &str = "
    SELECT set_config('synchronous_commit', 'on', false) WHERE current_setting('synchronous_commit') = 'off';
    SET idle_in_transaction_session_timeout = '60s';
    SET lock_timeout = '120s'";

/// Keeps rejected events in `pgstream.dead_letters`, each once, however often its batch is
/// repeated.
///
/// Nothing is thrown away to make room: a letter stands for a row that the sinks lack. Beyond
/// `max_letters` the pipeline stops.
pub struct DeadLetters {
    pipeline: String,
    origin: String,
    url: Url,
    max_letters: u64,
    client: Option<Client>,
}

impl DeadLetters {
    /// Connects, and makes the table if it is missing.
    ///
    /// # Errors
    /// `Environment` if the table may not be made, `Transient` if the server cannot be reached.
    pub async fn open(pipeline: &str, settings: &DeadLettersSettings) -> Result<Self> {
        let url = url(settings)?;
        let client = connect(&url).await?;
        table::ensure(&client, &url).await?;
        let pipeline = pipeline.to_owned();
        Ok(Self { pipeline, origin: String::new(), url, max_letters: settings.max_letters, client: Some(client) })
    }

    /// As `open`, but makes nothing.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub async fn look(settings: &DeadLettersSettings) -> Result<()> {
        let url = url(settings)?;
        let client = connect(&url).await?;
        postgres::warn_of_excess(&client, &url).await?;
        table::look(&client, &url.user).await
    }

    async fn session(&mut self) -> Result<Client> {
        match self.client.take() {
            Some(client) if !client.is_closed() => Ok(client),
            _ => connect(&self.url).await,
        }
    }
}

/// The database that holds the table.
fn url(settings: &DeadLettersSettings) -> Result<Url> {
    let Some(url) = &settings.url else {
        return Err(Error::new(Fault::Config, "a sink of type `dead-letters` has no database").help("set its `url`"));
    };
    let url = Url::parse(url, settings.password_file.clone())?.beneath(settings.folder.clone());
    Ok(url.trusting(&settings.trusted_owners))
}

async fn connect(url: &Url) -> Result<Client> {
    let client = postgres::connect(url, "pgstream-host dead letters").await?;
    client.batch_execute(SETTINGS).await.map_err(|error| failed("cannot set up the session", error))?;
    Ok(client)
}

#[async_trait]
impl Sink for DeadLetters {
    async fn resume(&mut self, origin: &str) -> Result<Option<Held>> {
        origin.clone_into(&mut self.origin);
        Ok(None)
    }

    async fn write(&mut self, delivery: &Delivery<'_>) -> Result<()> {
        if !delivery.commands.is_empty() {
            return Err(Error::new(Fault::Bug, "commands were given to a sink that only keeps rejected events"));
        }
        if delivery.rejected.is_empty() {
            return Ok(());
        }
        let mut client = self.session().await?;
        let insert = Insert { pipeline: &self.pipeline, origin: &self.origin, max_letters: self.max_letters };
        insert.run(&mut client, &delivery.rejected).await?;
        self.client = Some(client);
        Ok(())
    }

    async fn close(self: Box<Self>) -> Result<()> {
        Ok(())
    }
}
