//! Sinks that lack what the slot has confirmed, or hold the vectors of another model: nothing of that happens without a word.

use std::path::PathBuf;

use qdrant_client::Qdrant;
use qdrant_client::qdrant::{CreateCollectionBuilder, Distance, VectorParamsBuilder};

use crate::embedder::Server;
use crate::support::program::{Folder, Running, eventually, pgstream, root};
use crate::support::qdrant_server::QdrantServer;
use crate::support::{Database, documents};

const WORDS: &str = "words: { type: hash, dimension: 3 }";
const VECTORS: &str =
    "vectors: { type: pgvector, inputs: [embed], url: \"${DATABASE_URL}\", table: vectors, create: { dimension: 3 } }";

/// A pipeline from `documents` to these sinks.
fn pipeline(folder: &Folder, name: &str, snapshot: &str, embedder: &str, sinks: &[&str]) -> PathBuf {
    let component = root().join("plugins/documents-rust/documents.wasm");
    let sinks: String = sinks.iter().map(|sink| format!("  {sink}\n")).collect();
    let file = format!(
        "version: 1\nname: {name}\nsources:\n  db: {{ type: postgres, url: \"${{DATABASE_URL}}\", tables: [public.documents], snapshot: {snapshot} }}\n\
         embedders:\n  {embedder}\n\
         transforms:\n  embed: {{ type: wasm, inputs: [db], component: {}, embedders: [words] }}\nsinks:\n{sinks}",
        component.display()
    );
    folder.write("fed.yaml", &file)
}

/// A pipeline that has brought row 1 into its sinks, and has ended in order.
struct Filled {
    database: Database,
    folder: Folder,
    file: PathBuf,
    /// Slots are the whole server's.
    name: String,
}

impl Filled {
    async fn new(embedder: &str, sinks: &[&str]) -> Self {
        let (database, folder) = (documents().await, Folder::new());
        database.client.batch_execute("INSERT INTO documents VALUES (1, 'a', 'b')").await.unwrap();
        let name = format!("fed_{}", database.name);
        let file = pipeline(&folder, &name, "initial", embedder, sinks);
        let filled = Self { database, folder, file, name };
        let host = filled.start();
        filled.confirmed().await;
        host.stop().await;
        filled
    }

    fn start(&self) -> Running {
        Running::start(&self.file, &[("DATABASE_URL", self.database.url.as_str())])
    }

    /// Waits until all first copies are durable in all sinks.
    async fn confirmed(&self) {
        let done = "SELECT count(*) FROM pgstream.copies WHERE done_at IS NOT NULL AND first";
        eventually("the rows are copied", async || {
            self.database.client.query_one(done, &[]).await.is_ok_and(|row| row.get::<_, i64>(0) == 1)
        })
        .await;
    }

    /// Starts the pipeline, which refuses to run. Answers what it says.
    async fn refused(&self, code: i32) -> String {
        let (status, log) = self.start().ended().await;
        assert_eq!(status.code(), Some(code), "{log}");
        log
    }

    fn typed(&self, arguments: &[&str]) {
        let mut command = pgstream([arguments[0]]);
        let output = command.arg(&self.file).args(&arguments[1..]).env("DATABASE_URL", &self.database.url).output();
        let output = output.unwrap();
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    }

    async fn vectors(&self) -> i64 {
        let row = self.database.client.query_one("SELECT count(*) FROM vectors", &[]).await;
        row.map_or(0, |row| row.get(0))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_made_anew_under_an_old_slot_is_refused_until_its_rows_are_asked_for() {
    let filled = Filled::new(WORDS, &[VECTORS]).await;
    assert_eq!(filled.vectors().await, 1);
    filled.database.client.batch_execute("DROP TABLE vectors").await.unwrap();
    // The second time the table is there, made by the first.
    for _ in 0..2 {
        let log = filled.refused(3).await;
        assert!(log.contains("sink `vectors` is not the one that the pipeline has filled"), "{log}");
        assert!(log.contains("pgstream-host backfill") && log.contains("resnapshot"), "{log}");
    }
    let mut validate = pgstream(["validate", "--connect"]);
    let checked = validate.arg(&filled.file).env("DATABASE_URL", &filled.database.url).output().unwrap();
    assert!(String::from_utf8_lossy(&checked.stderr).contains("is not the one that the pipeline has filled"));
    filled.typed(&["backfill", "--detach"]);
    let host = filled.start();
    eventually("the row is brought again", async || filled.vectors().await == 1).await;
    host.stop().await;
    let mut host = filled.start();
    host.said("streaming").await;
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_beginning_and_a_word_that_all_is_well_are_ways_on_too() {
    let filled = Filled::new(WORDS, &[VECTORS]).await;
    filled.database.client.batch_execute("ALTER TABLE vectors RENAME TO old").await.unwrap();
    filled.refused(3).await;
    filled.typed(&["setup", "--accept-sinks"]);
    let mut host = filled.start();
    host.said("streaming").await;
    host.stop().await;
    assert_eq!(filled.vectors().await, 0, "nothing was asked for");
    filled.database.client.batch_execute("DROP TABLE vectors").await.unwrap();
    filled.refused(3).await;
    filled.typed(&["resnapshot"]);
    let host = filled.start();
    eventually("the row is brought again", async || filled.vectors().await == 1).await;
    host.stop().await;
}

/// By what is stored, not by what the process knows that made it: it may have died since.
#[tokio::test(flavor = "multi_thread")]
async fn a_table_made_anew_is_filled_by_itself_where_that_is_wanted_whoever_made_it() {
    let filled = Filled::new(WORDS, &[VECTORS]).await;
    let anew = "ALTER TABLE vectors RENAME TO old; CREATE TABLE vectors (LIKE old INCLUDING ALL)";
    filled.database.client.batch_execute(anew).await.unwrap();
    pipeline(&filled.folder, &filled.name, "initial, on_slot_lost: resnapshot", WORDS, &[VECTORS]);
    let mut validate = pgstream(["validate", "--connect"]);
    let checked = validate.arg(&filled.file).env("DATABASE_URL", &filled.database.url).output().unwrap();
    assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stderr));
    let mut host = filled.start();
    host.said("the sinks are cleared and all rows copied again").await;
    eventually("the row is brought again", async || filled.vectors().await == 1).await;
    host.stop().await;
    let (status, log) = {
        let mut host = filled.start();
        host.said("streaming").await;
        host.stop().await
    };
    assert!(status.success() && !log.contains("copied again"), "{log}");
}

/// Ids that users look up change when somebody types `resnapshot`, and never by themselves.
#[tokio::test(flavor = "multi_thread")]
async fn a_sink_that_is_filled_again_by_itself_gets_the_ids_that_it_had() {
    let filled = Filled::new(WORDS, &[VECTORS]).await;
    let more = "CREATE TABLE notes (LIKE documents INCLUDING ALL); INSERT INTO notes VALUES (1, 'c', 'd')";
    filled.database.client.batch_execute(more).await.unwrap();
    let grown = std::fs::read_to_string(&filled.file).unwrap();
    let grown = grown
        .replace("tables: [public.documents]", "tables: [public.documents, public.notes], on_slot_lost: resnapshot");
    std::fs::write(&filled.file, grown).unwrap();
    let groups = "SELECT string_agg(group_id, ' ' ORDER BY group_id COLLATE \"C\") FROM vectors";
    let both = async || {
        let found = filled.database.client.query_one(groups, &[]).await;
        found.is_ok_and(|row| row.get::<_, Option<&str>>(0) == Some("1 public.notes:1"))
    };
    let host = filled.start();
    eventually("both rows are there", both).await;
    host.stop().await;
    filled.database.client.batch_execute("DROP TABLE vectors").await.unwrap();
    let mut host = filled.start();
    host.said("the sinks are cleared and all rows copied again").await;
    eventually("both rows are there again, as they were", both).await;
    host.stop().await;
}

/// Whoever cannot give our table its word knows his sink by less; he is not refused once its owner has come.
#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_was_known_by_its_number_is_the_same_once_it_is_known_better() {
    let filled = Filled::new(WORDS, &[VECTORS]).await;
    let earlier = "UPDATE pgstream.sinks SET mark = '/' || split_part(mark, '/', 2)";
    filled.database.client.batch_execute(earlier).await.unwrap();
    let mut host = filled.start();
    host.said("streaming").await;
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sink_that_is_new_to_a_pipeline_is_refused_where_it_would_lack_rows() {
    let filled = Filled::new(WORDS, &[VECTORS]).await;
    let more = VECTORS.replacen("vectors:", "more:", 1).replace("table: vectors", "table: more");
    pipeline(&filled.folder, &filled.name, "initial", WORDS, &[VECTORS, &more]);
    let log = filled.refused(3).await;
    assert!(log.contains("sink `more` is new to the pipeline"), "{log}");
    // Who does not want old rows gets new ones, and is told.
    pipeline(&filled.folder, &filled.name, "never", WORDS, &[VECTORS, &more]);
    let mut host = filled.start();
    host.said("the sink is new to the pipeline").await;
    host.said("streaming").await;
    host.stop().await;
    // A sink that was left out has missed what came meanwhile.
    pipeline(&filled.folder, &filled.name, "initial", WORDS, &[&more]);
    let mut host = filled.start();
    host.said("streaming").await;
    host.stop().await;
    pipeline(&filled.folder, &filled.name, "initial", WORDS, &[VECTORS, &more]);
    let log = filled.refused(3).await;
    assert!(log.contains("sink `vectors` is new to the pipeline"), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn another_model_of_the_same_length_is_refused_until_somebody_decides() {
    let provider = Server::good().await;
    let model = |name: &str| {
        format!("words: {{ type: openai, url: \"{}\", model: {name}, api_key: secret-1 }}", provider.url())
    };
    let filled = Filled::new(&model("small"), &[VECTORS]).await;
    pipeline(&filled.folder, &filled.name, "initial", &model("large"), &[VECTORS]);
    let log = filled.refused(2).await;
    assert!(log.contains("the vectors in sink `vectors` were made by another model"), "{log}");
    assert!(log.contains("it was openai small, and is now openai large"), "{log}");
    let kept: String = filled
        .database
        .client
        .query_one("SELECT string_agg(s::text, '') FROM pgstream.sinks s", &[])
        .await
        .unwrap()
        .get(0);
    assert!(!kept.contains("secret-1") && !kept.contains("127.0.0.1"), "{kept}");
    filled.typed(&["setup", "--accept-sinks"]);
    let mut host = filled.start();
    host.said("streaming").await;
    host.stop().await;
    let log_of_the_first = {
        pipeline(&filled.folder, &filled.name, "initial", &model("small"), &[VECTORS]);
        filled.refused(2).await
    };
    assert!(log_of_the_first.contains("it was openai large"), "{log_of_the_first}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collection_made_anew_while_the_pipeline_runs_stops_it_and_is_refused_at_the_next_start() {
    let store = QdrantServer::start(None);
    let sink = format!(
        "store: {{ type: qdrant, inputs: [embed], url: \"{}\", collection: docs, create: {{ dimension: 3, distance: cosine }} }}",
        store.url()
    );
    let filled = Filled::new(WORDS, &[&sink]).await;
    let mut host = filled.start();
    host.said("streaming").await;
    let client = Qdrant::from_url(&store.url()).skip_compatibility_check().build().unwrap();
    client.delete_collection("docs").await.unwrap();
    let vectors = VectorParamsBuilder::new(3, Distance::Cosine);
    client.create_collection(CreateCollectionBuilder::new("docs").vectors_config(vectors)).await.unwrap();
    // Whatever is written until it is noticed is brought again by what the error says.
    let mut id = 1;
    eventually("it is noticed", async || {
        id += 1;
        filled.database.client.execute("INSERT INTO documents VALUES ($1, 'a', 'b')", &[&i64::from(id)]).await.unwrap();
        host.exit().is_some()
    })
    .await;
    let (status, log) = host.ended().await;
    assert_eq!(status.code(), Some(3), "{log}");
    assert!(log.contains("collection `docs` was deleted and made anew while the sink was using it"), "{log}");
    let log = filled.refused(3).await;
    assert!(log.contains("sink `store` is not the one that the pipeline has filled"), "{log}");
}

/// The store cannot tell whose vectors it holds; what fed it can.
#[tokio::test(flavor = "multi_thread")]
async fn another_model_is_refused_for_each_kind_of_sink_that_keeps_vectors() {
    let (provider, store, made) = (Server::good().await, QdrantServer::start(None), Folder::new());
    let model = |name: &str| {
        format!("words: {{ type: openai, url: \"{}\", model: {name}, api_key: secret-1 }}", provider.url())
    };
    let made_of = |name: &str| made.path(name).display().to_string();
    let create = "create: { dimension: 3, distance: cosine }";
    let sinks = [
        VECTORS.to_owned(),
        format!("store: {{ type: qdrant, inputs: [embed], url: \"{}\", collection: docs, {create} }}", store.url()),
        format!("edge: {{ type: qdrant-edge, inputs: [embed], path: {}, {create} }}", made_of("edge")),
        format!("lines: {{ type: file, inputs: [embed], path: {} }}", made_of("points.jsonl")),
    ];
    let all: Vec<&str> = sinks.iter().map(String::as_str).collect();
    let filled = Filled::new(&model("small"), &all).await;
    for sink in all {
        let name = sink.split(':').next().unwrap();
        pipeline(&filled.folder, &filled.name, "initial", &model("large"), &[sink]);
        let log = filled.refused(2).await;
        assert!(log.contains(&format!("the vectors in sink `{name}` were made by another model")), "{log}");
        assert!(log.contains("it was openai small, and is now openai large"), "{log}");
    }
    // Who reads lines may want those that come from now on only.
    let more = sinks[3].replacen("lines:", "more:", 1).replace("points.jsonl", "more.jsonl");
    pipeline(&filled.folder, &filled.name, "initial", &model("small"), &[&sinks[3], &more]);
    let mut host = filled.start();
    host.said("streaming").await;
    host.stop().await;
}
