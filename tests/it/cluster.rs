//! The private Postgres: it restarts on its data, and leaves nothing behind, however its process ends.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use pgstream_host::demo::{Cluster, Options, Stop};

use crate::support::{self, Database, fresh_database, postgres_bin, private_cluster};

#[tokio::test]
async fn databases_are_separate_and_logical_decoding_is_on() {
    let one = fresh_database().await;
    let two = fresh_database().await;
    one.client.batch_execute("CREATE TABLE t (id bigint)").await.unwrap();
    two.client.batch_execute("CREATE TABLE t (id bigint)").await.unwrap();
    let row = one.client.query_one("SELECT current_setting('wal_level'), current_database()", &[]).await.unwrap();
    assert_eq!(row.get::<_, &str>(0), "logical");
    assert_eq!(row.get::<_, &str>(1), one.name);
    let again = support::connect(&two.url).await;
    assert_eq!(again.query_one("SELECT current_database()", &[]).await.unwrap().get::<_, &str>(0), two.name);
}

#[tokio::test]
async fn both_versions_have_pgvector() {
    for (major, cluster) in [("18", support::postgres()), ("16", support::postgres16())] {
        let database = Database::create(cluster).await.name;
        assert!(cluster.psql(&database, "SHOW server_version").unwrap().starts_with(major));
        cluster.psql(&database, "CREATE EXTENSION vector").unwrap();
        assert_eq!(cluster.psql(&database, "SELECT '[1,2]'::vector <-> '[1,4]'").unwrap(), "2");
    }
}

#[test]
fn data_survives_both_ways_to_stop() {
    let mut cluster = private_cluster(18, &Options::fast().setting("log_min_messages", "info"));
    let port = cluster.port();
    cluster.psql("postgres", "CREATE TABLE t AS SELECT 1 AS n").unwrap();
    for how in [Stop::Fast, Stop::Immediate] {
        cluster.stop(how).unwrap();
        assert!(cluster.psql("postgres", "SELECT 1").is_err());
        cluster.start_again().unwrap();
        assert_eq!(cluster.psql("postgres", "SELECT n FROM t").unwrap(), "1");
    }
    assert_eq!(cluster.port(), port);
    assert!(cluster.log().contains("automatic recovery in progress"), "{}", cluster.log());

    cluster.set("work_mem", "7MB").unwrap();
    assert_eq!(cluster.psql("postgres", "SHOW work_mem").unwrap(), "7MB");
    assert_eq!(cluster.psql("postgres", "SHOW log_min_messages").unwrap(), "info");
}

#[test]
fn a_wrong_statement_is_an_error_with_the_server_s_words() {
    let error = support::postgres().psql("postgres", "SELECT 1; SELECT nonsense; SELECT 2").unwrap_err();
    assert!(error.report().contains("column \"nonsense\" does not exist"), "{}", error.report());
}

#[tokio::test]
async fn tcp_asks_for_the_password() {
    let wrong = support::postgres().url("postgres").replace(support::postgres().password(), "guess");
    let error = tokio_postgres::connect(&wrong, tokio_postgres::NoTls).await.err().expect("must be refused");
    assert_eq!(error.code(), Some(&tokio_postgres::error::SqlState::INVALID_PASSWORD));
}

#[test]
fn a_folder_without_postgres_is_a_clear_error() {
    let error = Cluster::start(Path::new("/nonexistent/bin"), &Options::fast()).unwrap_err();
    assert_eq!(error.to_string(), "could not run `/nonexistent/bin/initdb`");
    assert_eq!(error.fault().exit_code(), 3);
}

#[test]
fn dropping_it_ends_the_server_and_removes_its_folder_even_in_a_panic() {
    let mut folder = PathBuf::new();
    let mut port = 0;
    let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        let cluster = private_cluster(18, &Options::fast());
        folder = cluster.socket_folder().to_owned();
        port = cluster.port();
        std::panic::resume_unwind(Box::new("a failed assertion"));
    }));
    assert!(panicked.is_err());
    assert_gone(&folder, port);
}

#[test]
fn a_killed_process_leaves_neither_server_nor_folder() {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "cluster::victim", "--nocapture"])
        .env("PGSTREAM_TEST_VICTIM", postgres_bin(18))
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let started = lines.map_while(Result::ok).find_map(|line| {
        let (port, folder) = line.split_once("victim ")?.1.split_once(' ')?;
        Some((port.parse().ok()?, PathBuf::from(folder)))
    });
    let (port, folder): (u16, PathBuf) = started.expect("the victim starts");
    assert!(folder.exists());
    child.kill().unwrap();
    child.wait().unwrap();
    assert_gone(&folder, port);
}

/// The process that `a_killed_process_leaves_neither_server_nor_folder` kills; nothing unless that test started it.
#[test]
fn victim() {
    let Some(bin) = std::env::var_os("PGSTREAM_TEST_VICTIM") else { return };
    let cluster = Cluster::start(Path::new(&bin), &Options::fast()).unwrap();
    println!("victim {} {}", cluster.port(), cluster.socket_folder().display());
    loop {
        std::thread::park();
    }
}

fn assert_gone(folder: &Path, port: u16) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while folder.exists() || std::net::TcpStream::connect(("127.0.0.1", port)).is_ok() {
        assert!(Instant::now() < deadline, "server or folder still there: {}", folder.display());
        std::thread::sleep(Duration::from_millis(20));
    }
}
