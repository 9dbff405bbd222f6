//! `Connection`: a replication session from its first byte to START_REPLICATION, which no driver
//! offers.

use bytes::{Bytes, BytesMut};
use postgres_protocol::message::frontend;
use tokio::io::{AsyncWriteExt, ReadHalf, WriteHalf};

use super::auth;
use super::footing;
use super::frames::{Frame, Frames};
use super::message::{server_error, unexpected};
use super::settings::{Settings, literal, quoted};
use crate::decode::texts;
use crate::error::{Error, Fault, Result};
use crate::lsn::Lsn;
use crate::postgres::{
    Encryption, Ladder, NO_TRANSACTION_TIMEOUT, PIN, SEARCH_PATH, SESSION, Socket, in_time, lost, plainly_quoted,
    trusting,
};

/// Bytes that are kept of the answer to a command of replication: the longest is a history of
/// timelines.
const COMMANDS: usize = 4 << 20;

/// A session that has logged in and streams nothing yet.
pub(super) struct Connection {
    frames: Frames<Socket>,
    /// Bytes of rows that are kept of one answer.
    most: usize,
}

/// The number of rows that a query answered, kept and dropped.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Answer {
    /// Rows that were kept.
    pub(super) rows: usize,
    /// Their bytes.
    pub(super) bytes: usize,
    /// Rows for which there was no room.
    pub(super) dropped: usize,
}

/// The setting that a database reports if it holds bytes of no encoding.
const WITHOUT_ENCODING: &[u8] = b"server_encoding\0SQL_ASCII\0";

/// The two directions of a streaming session.
pub(super) type Streaming = (Frames<ReadHalf<Socket>>, WriteHalf<Socket>);

impl Connection {
    /// Connects and logs in, to stream.
    pub(super) async fn open(settings: &Settings) -> Result<Self> {
        Self::open_as(settings, Some(("replication", "database"))).await
    }

    /// Connects and logs in, to run SQL whose rows are wanted as they stand in the server's
    /// messages.
    pub(super) async fn open_sql(settings: &Settings) -> Result<Self> {
        let mut session = Self::open_as(settings, None).await?;
        session.query(footing::SESSION, &mut Vec::new()).await?;
        Ok(session)
    }

    async fn open_as(settings: &Settings, purpose: Option<(&str, &str)>) -> Result<Self> {
        let login = async {
            let mut ladder = Ladder::new(&settings.url);
            loop {
                match Self::log_in(settings, ladder.rung(), purpose).await {
                    Err(error) if ladder.climb(&error) => {}
                    result => return result,
                }
            }
        };
        in_time(&settings.url, login).await
    }

    async fn log_in(settings: &Settings, encryption: Encryption, purpose: Option<(&str, &str)>) -> Result<Self> {
        let url = &settings.url;
        let kind = if purpose.is_some() { "a replication" } else { "an SQL" };
        let headline = format!("cannot open {kind} session at `{}`", url.address);
        let socket = Socket::open(url, encryption).await?;
        let mut connection = Self {
            frames: Frames::new(socket),
            most: if purpose.is_some() { COMMANDS } else { settings.limits.answer() },
        };
        let name = url.application_name.as_ref().unwrap_or(&settings.application_name);
        let mut parameters = vec![("user", url.user.as_str()), ("database", &url.database), ("application_name", name)];
        parameters.extend(purpose);
        parameters.extend(url.options.as_deref().map(|options| ("options", options)));
        parameters.extend(SESSION);
        parameters.push(("search_path", SEARCH_PATH));
        // `ALTER ROLE … SET role` would take the login's own rights away, which are what replication asks for.
        parameters.push(("role", "none"));
        let mut startup = BytesMut::new();
        let result = async {
            frontend::startup_message(parameters, &mut startup).map_err(|error| lost("startup", error))?;
            connection.send(&startup).await?;
            auth::log_in(&mut connection, url).await?;
            // ParameterStatus and BackendKeyData, until the server is ready for a query.
            let mut encoded = true;
            loop {
                let frame = connection.receive().await?;
                match frame.tag {
                    b'Z' => break,
                    b'S' if *frame.body == *WITHOUT_ENCODING => encoded = false,
                    _ => {}
                }
            }
            if !encoded {
                // The server would refuse to send what is not UTF-8, and with it all that follows.
                connection.query("SET client_encoding = 'SQL_ASCII'", &mut Vec::new()).await?;
            }
            connection.frames.input().set_room(settings.limits.room());
            // A parameter of the login is stronger than the role's settings and than `options`; this is stronger than any.
            connection
                .query(&format!("{PIN}{NO_TRANSACTION_TIMEOUT}{}", trusting(&url.trusted_owners)), &mut Vec::new())
                .await
        };
        result.await.map_err(|error: Error| error.within(headline))?;
        Ok(connection)
    }

    /// Checks that the session is one that could stream.
    pub(super) async fn check(mut self) -> Result<()> {
        let known = self.query("IDENTIFY_SYSTEM", &mut Vec::new()).await;
        known.map_err(|error| {
            pooler(&error).unwrap_or_else(|| error.within("the server cannot be asked for its identity"))
        })
    }

    /// Begins to stream the changes of `publication` that the slot holds after `from`.
    pub(super) async fn start(mut self, settings: &Settings, from: Lsn, binary: bool) -> Result<Streaming> {
        let mut command = format!(
            "START_REPLICATION SLOT {} LOGICAL {from} (proto_version '1', publication_names {}, messages 'true'",
            quoted(&settings.slot),
            literal(&plainly_quoted(&settings.publication)),
        );
        command.push_str(if binary { ", binary 'true')" } else { ")" });
        tracing::debug!(%command, "streaming");
        let mut query = BytesMut::new();
        let result = async {
            frontend::query(&command, &mut query).map_err(|error| lost("query", error))?;
            self.frames.input().let_stream();
            self.send(&query).await?;
            // CopyBothResponse is unknown to the protocol crate, and its content says nothing.
            match self.receive().await?.tag {
                b'W' => Ok(()),
                tag => Err(unexpected(tag)),
            }
        };
        if let Err(error) = result.await {
            return Err(not_started(settings, error));
        }
        self.frames.input().pace();
        let mut write = None;
        let frames = self.frames.within(settings.limits.row).map(|socket| {
            let (read, half) = tokio::io::split(socket);
            write = Some(half);
            read
        });
        write.map(|write| (frames, write)).ok_or_else(|| Error::new(Fault::Bug, "the socket was not split"))
    }

    /// Runs SQL without parameters, and puts the bodies of the DataRow messages that it answers
    /// into `rows`.
    ///
    /// # Errors
    /// The error that the server answers; `Environment` if the rows have more bytes than are kept
    /// of one answer.
    pub(super) async fn query(&mut self, sql: &str, rows: &mut Vec<Bytes>) -> Result<()> {
        self.ask(sql, rows, self.most, true).await.map(drop)
    }

    /// As `query`, but keeps rows only until they have `room` bytes together, the one with which
    /// they do included.
    pub(super) async fn query_within(&mut self, sql: &str, rows: &mut Vec<Bytes>, room: usize) -> Result<Answer> {
        self.ask(sql, rows, room, false).await
    }

    async fn ask(&mut self, sql: &str, rows: &mut Vec<Bytes>, room: usize, all: bool) -> Result<Answer> {
        let mut query = BytesMut::new();
        frontend::query(sql, &mut query).map_err(|error| lost("query", error))?;
        self.send(&query).await?;
        let mut answer = Answer::default();
        loop {
            let Frame { tag, body } = self.receive().await?;
            match tag {
                b'D' if answer.bytes < room => {
                    answer.rows += 1;
                    answer.bytes += body.len();
                    rows.push(body);
                }
                b'D' if all => {
                    let what =
                        format!("the server's answer to one query is longer than the {room} bytes that it may have");
                    return Err(Error::new(Fault::Environment, what).help("raise `max_row` of the source"));
                }
                b'D' => answer.dropped += 1,
                b'Z' => return Ok(answer),
                _ => {} // RowDescription, CommandComplete, ParameterStatus
            }
        }
    }

    /// Lets the server bring the slot along when a standby is promoted.
    pub(super) async fn make_failover(&mut self, settings: &Settings) -> Result<()> {
        let command = format!("ALTER_REPLICATION_SLOT {} (FAILOVER true)", quoted(&settings.slot));
        self.query(&command, &mut Vec::new()).await
    }

    /// Returns the position at which the server left an older timeline for its present one. None if
    /// the present one does not go back to it.
    pub(super) async fn fork(&mut self, older: i64, present: i64) -> Result<Option<Lsn>> {
        let mut rows = Vec::new();
        self.query(&format!("TIMELINE_HISTORY {present}"), &mut rows).await?;
        let history = rows.first().and_then(|row| texts(row, &[1])).unwrap_or_default();
        let mut forks = history.iter().flat_map(|text| text.lines()).filter_map(|line| {
            let mut words = line.split_whitespace();
            (words.next()?.parse() == Ok(older)).then(|| words.next()?.parse().ok()).flatten()
        });
        Ok(forks.next_back())
    }

    /// Makes a slot that lives as long as this session, and begins where the log ends now.
    pub(super) async fn create_temporary_slot(&mut self, settings: &Settings) -> Result<()> {
        let command =
            format!("CREATE_REPLICATION_SLOT {} TEMPORARY LOGICAL pgoutput NOEXPORT_SNAPSHOT", quoted(&settings.slot));
        self.query(&command, &mut Vec::new()).await
    }

    pub(super) async fn send(&mut self, bytes: &[u8]) -> Result<()> {
        let socket = self.frames.input();
        let sent = async {
            socket.write_all(bytes).await?;
            socket.flush().await
        };
        sent.await.map_err(|error| lost("the connection broke", error))
    }

    /// The next message that is not a notice; an error of the server as an error.
    pub(super) async fn receive(&mut self) -> Result<Frame> {
        loop {
            let frame = self.frames.next().await.map_err(|error| lost("the connection broke", error))?;
            match frame.tag {
                b'E' => return Err(server_error(frame)?.into()),
                b'N' => {}
                _ => return Ok(frame),
            }
        }
    }

    pub(super) fn socket(&mut self) -> &Socket {
        self.frames.input()
    }
}

fn not_started(settings: &Settings, error: Error) -> Error {
    pooler(&error).unwrap_or_else(|| error.within(format!("cannot stream from slot `{}`", settings.slot)))
}

/// A pooler that swallowed the `replication` parameter has opened an ordinary session, to which all
/// of replication is a syntax error.
fn pooler(error: &Error) -> Option<Error> {
    (crate::postgres::sqlstate(error) == Some("42601")).then(|| {
        Error::new(Fault::Environment, "the database URL leads to a pooler")
            .because("the session understands no commands of replication")
            .help("a pooler (PgBouncer or alike) stands in between: use the direct endpoint of the database server in `url`")
    })
}
