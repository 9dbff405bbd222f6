//! The end of a replay: letters whose rows are brought back go, or stay with the new reason.
//!
//! A replay does not hand the old event out once more: the source reads the row as it is now, and
//! it comes through the pipeline like any copied row, so it cannot overwrite anything newer. If it
//! is refused again, it is parked again before the copy counts as durable. So once the copy is
//! done, the letters that came of it are in the table, and whoever settles the replay next, after
//! whatever crash, finds all that it needs there.

use super::letters::{Filter, Letters, WHERE};
use super::table::TABLE;
use crate::error::Result;
use crate::postgres::{ReadRow, failed, first_column};

/// The outcome for letters that were replayed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settled {
    /// The number of rows that came through: their letters are gone.
    pub gone: u64,
    /// Letters that stay, because their rows were refused again.
    pub refused_again: Vec<i64>,
}

const TAKE: &str = "
    DELETE FROM pgstream.dead_letters WHERE pipeline = $1 AND replay = ANY ($2)
    RETURNING id, transform, table_name, row_key, sink, replay_after, attempts";

/// A letter that came of a replay takes the place of the one that was replayed.
const REFUSED_AGAIN: &str = "
    WITH asked AS (
        SELECT * FROM unnest($2::bigint[], $3::text[], $4::text[], $5::text[], $6::text[], $7::bigint[], $8::integer[])
                      AS t (id, transform, table_name, row_key, sink, replay_after, attempts)
    ), pairs AS (
        SELECT DISTINCT ON (new.id) new.id AS new, asked.id AS old, asked.attempts
        FROM asked JOIN pgstream.dead_letters new USING (transform, table_name, row_key)
        WHERE new.pipeline = $1 AND new.replayed AND new.replay IS NULL AND new.id > asked.replay_after
        ORDER BY new.id, new.sink = asked.sink DESC, asked.id
    ), chosen AS (
        SELECT DISTINCT ON (old) * FROM pairs ORDER BY old, new DESC
    )
    UPDATE pgstream.dead_letters AS letter SET id = chosen.old, attempts = chosen.attempts + 1, replayed = false
    FROM chosen WHERE letter.id = chosen.new RETURNING letter.id";

impl Letters {
    /// The copies that are to bring rows of letters back, and of which nobody has said yet what
    /// became of them.
    ///
    /// # Errors
    /// Those of the server and of the connection.
    pub async fn unsettled(&self) -> Result<Vec<i64>> {
        let sql = format!("SELECT DISTINCT replay FROM {TABLE} WHERE {WHERE} AND replay IS NOT NULL ORDER BY 1");
        first_column(&self.query(&sql, &Filter::default()).await?)
    }

    /// The number of the newest letter; to be asked for before a copy is, for
    /// [`replaying`](Self::replaying).
    ///
    /// # Errors
    /// Those of the server and of the connection.
    pub async fn newest(&self) -> Result<i64> {
        let sql = format!("SELECT coalesce(max(id), 0) FROM {TABLE} WHERE {WHERE}");
        self.query(&sql, &Filter::default()).await?.first().map_or(Ok(0), |row| row.read(0))
    }

    /// Notes that the copy with the number `replay` brings the rows of these letters back, and that
    /// what is newer than `newest` may come of it.
    ///
    /// # Errors
    /// Those of the server and of the connection.
    pub async fn replaying(&self, ids: &[i64], replay: i64, newest: i64) -> Result<()> {
        let sql = format!("UPDATE {TABLE} SET replay = $3, replay_after = $4 WHERE pipeline = $1 AND id = ANY ($2)");
        let noted = self.client.execute(&sql, &[&self.pipeline, &ids, &replay, &newest]).await;
        noted.map(drop).map_err(|error| failed(format!("cannot write to `{TABLE}`"), error))
    }

    /// Notes that these copies will not be made: their letters stay as they were.
    ///
    /// # Errors
    /// Those of the server and of the connection.
    pub async fn release(&self, replays: &[i64]) -> Result<()> {
        let sql =
            format!("UPDATE {TABLE} SET replay = NULL, replay_after = NULL WHERE pipeline = $1 AND replay = ANY ($2)");
        let noted = self.client.execute(&sql, &[&self.pipeline, &replays]).await;
        noted.map(drop).map_err(|error| failed(format!("cannot write to `{TABLE}`"), error))
    }

    /// Removes the letters whose rows came through with these copies, which must be durable, and
    /// keeps those whose rows were refused again, with the new reason.
    ///
    /// # Errors
    /// Those of the server and of the connection. After one of the server, nothing has changed.
    pub async fn settle(&mut self, replays: &[i64]) -> Result<Settled> {
        let failed = |error| failed(format!("cannot write to `{TABLE}`"), error);
        let transaction = self.client.transaction().await.map_err(failed)?;
        let taken = transaction.query(TAKE, &[&self.pipeline, &replays]).await.map_err(failed)?;
        let texts = |index: usize| taken.iter().map(|row| row.read(index)).collect::<Result<Vec<&str>>>();
        let numbers = |index: usize| taken.iter().map(|row| row.read(index)).collect::<Result<Vec<i64>>>();
        let (ids, afters) = (numbers(0)?, numbers(5)?);
        let (transforms, tables, keys, sinks) = (texts(1)?, texts(2)?, texts(3)?, texts(4)?);
        let attempts: Vec<i32> = taken.iter().map(|row| row.read(6)).collect::<Result<_>>()?;
        let again = transaction
            .query(REFUSED_AGAIN, &[&self.pipeline, &ids, &transforms, &tables, &keys, &sinks, &afters, &attempts])
            .await
            .map_err(failed)?;
        transaction.commit().await.map_err(failed)?;
        let refused_again: Vec<i64> = first_column(&again)?;
        Ok(Settled { gone: (ids.len() - refused_again.len().min(ids.len())) as u64, refused_again })
    }
}
