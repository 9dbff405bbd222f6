//! Logging in as the source does: every `sslmode`, every way to prove a password, and what stands in between.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use pgstream_host::config::Secret;
use pgstream_host::demo::{Cluster, Options};
use pgstream_host::error::{Error, Fault};
use pgstream_host::postgres::{Url, connect};
use pgstream_host::source::postgres;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::source::{config, pipeline, slot};
use crate::support::program::eventually;
use crate::support::{Database, fresh_database, private_cluster};

pub(crate) fn certificate(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/tls").join(name)
}

/// Logs in twice, for SQL and for replication, and answers whether SQL was encrypted and bound, or the refusal.
pub(crate) async fn log_in(database: &Database, url: &str) -> Result<(), Error> {
    connect(&Url::parse(&Secret::new(url), None)?, "test").await?;
    postgres::check(&pipeline(database), &config(url, &["t"])).await
}

/// Answers SSLRequest as a server with this certificate does and passes the rest on to a server without TLS.
pub(crate) struct Front {
    /// Where it listens, as `localhost:port`.
    pub(crate) address: String,
}

#[derive(Clone, Copy, Default)]
pub(crate) struct Manner {
    pub(crate) wants_client: bool,
    /// The certificate that it shows, unless it is the good one.
    pub(crate) shows: Option<&'static str>,
    /// Bytes that somebody slips in behind the `S`.
    pub(crate) injects: bool,
}

impl Front {
    pub(crate) async fn start(server: &str, manner: Manner) -> Self {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = rustls::ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .unwrap();
        let builder = if manner.wants_client {
            let mut roots = rustls::RootCertStore::empty();
            roots.add(CertificateDer::from_pem_file(certificate("authority.crt")).unwrap()).unwrap();
            let verifier =
                rustls::server::WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build().unwrap();
            builder.with_client_cert_verifier(verifier)
        } else {
            builder.with_no_client_auth()
        };
        let shown = certificate(manner.shows.unwrap_or("localhost"));
        let chain = vec![CertificateDer::from_pem_file(shown.with_extension("crt")).unwrap()];
        let key = PrivateKeyDer::from_pem_file(shown.with_extension("key")).unwrap();
        let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(builder.with_single_cert(chain, key).unwrap()));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("localhost:{}", listener.local_addr().unwrap().port());
        let server = server.to_owned();
        tokio::spawn(async move {
            while let Ok((mut near, _)) = listener.accept().await {
                let (acceptor, server) = (acceptor.clone(), server.clone());
                tokio::spawn(async move {
                    let mut request = [0; 8];
                    near.read_exact(&mut request).await.unwrap();
                    assert_eq!(request, [0, 0, 0, 8, 4, 210, 22, 47], "an SSLRequest comes first");
                    let answer: &[u8] = if manner.injects { b"SR\0\0\0\x08\0\0\0\0" } else { b"S" };
                    near.write_all(answer).await.unwrap();
                    let Ok(mut near) = acceptor.accept(near).await else { return };
                    let mut far = TcpStream::connect(&server).await.unwrap();
                    let _ = tokio::io::copy_bidirectional(&mut near, &mut far).await;
                });
            }
        });
        Self { address }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_sslmode_checks_what_libpq_checks() {
    let database = fresh_database().await;
    database.client.batch_execute("CREATE TABLE t (id int PRIMARY KEY)").await.unwrap();
    let (login, rest) = database.url.split_once('@').unwrap();
    let (server, name) = rest.split_once('/').unwrap();
    let front = Front::start(server, Manner::default()).await;
    let (good, ip) = (
        format!("{login}@{}/{name}", front.address),
        format!("{login}@{}/{name}", front.address.replace("localhost", "127.0.0.1")),
    );
    let root = |name: &str| format!("sslrootcert={}", certificate(name).display());
    let (authority, stranger) = (root("authority.crt"), root("stranger.crt"));

    let none = "does not offer TLS";
    let untrusted = "no trusted TLS connection";
    for (url, parameters, refusal) in [
        (&database.url, "sslmode=disable".to_owned(), None),
        (&database.url, "sslmode=allow".to_owned(), None),
        (&database.url, "sslmode=prefer".to_owned(), None),
        (&database.url, "sslmode=require".to_owned(), Some(none)),
        (&database.url, format!("sslmode=verify-full&{authority}"), Some(none)),
        (&ip, "sslmode=prefer".to_owned(), None),
        (&ip, "sslmode=require".to_owned(), None),
        (&ip, format!("sslmode=require&{authority}"), None),
        (&ip, format!("sslmode=require&{stranger}"), Some(untrusted)),
        (&ip, format!("sslmode=verify-ca&{authority}"), None),
        (&ip, format!("sslmode=verify-ca&{stranger}"), Some(untrusted)),
        (&ip, format!("sslmode=verify-full&{authority}"), Some(untrusted)),
        (&good, format!("sslmode=verify-full&{authority}"), None),
        (&good, format!("sslmode=verify-full&{stranger}"), Some(untrusted)),
        (&good, "sslmode=verify-full".to_owned(), Some(untrusted)),
        (&good, "sslrootcert=system".to_owned(), Some(untrusted)),
    ] {
        let result = log_in(&database, &format!("{url}?{parameters}")).await;
        match (result, refusal) {
            (Ok(()), None) => {}
            (Err(error), Some(refusal)) => {
                assert!(error.report().contains(refusal), "{parameters}: {}", error.report());
                assert_eq!(error.fault(), Fault::Environment);
                assert!(error.advice().is_some());
            }
            (Ok(()), Some(refusal)) => panic!("{parameters}: should be refused: {refusal}"),
            (Err(error), None) => panic!("{parameters}: {}", error.report()),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_certificate_is_shown_and_a_missing_one_is_missed() {
    let database = fresh_database().await;
    database.client.batch_execute("CREATE TABLE t (id int PRIMARY KEY)").await.unwrap();
    let (login, rest) = database.url.split_once('@').unwrap();
    let (server, name) = rest.split_once('/').unwrap();
    let front = Front::start(server, Manner { wants_client: true, ..Manner::default() }).await;
    let url = format!("{login}@{}/{name}?sslmode=require", front.address);
    let ours =
        format!("{url}&sslcert={}&sslkey={}", certificate("client.crt").display(), certificate("client.key").display());
    log_in(&database, &ours).await.unwrap();
    assert!(log_in(&database, &url).await.is_err());
    let error = log_in(&database, &format!("{url}&sslcert=/nowhere&sslkey=/nowhere")).await.unwrap_err();
    assert_eq!((error.fault(), error.to_string().as_str()), (Fault::Config, "`sslcert=/nowhere` cannot be used"));
    let swapped =
        format!("{url}&sslcert={}&sslkey={}", certificate("client.crt").display(), certificate("rsa.key").display());
    let error = log_in(&database, &swapped).await.unwrap_err();
    assert_eq!(
        (error.fault(), error.to_string().as_str()),
        (Fault::Config, "`sslcert` and `sslkey` cannot be used together")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn bytes_slipped_in_before_tls_are_not_taken_for_the_servers() {
    let database = fresh_database().await;
    let (login, rest) = database.url.split_once('@').unwrap();
    let (server, name) = rest.split_once('/').unwrap();
    let front = Front::start(server, Manner { injects: true, ..Manner::default() }).await;
    let url = format!("{login}@{}/{name}?sslmode=require", front.address);
    let error = log_in(&database, &url).await.unwrap_err();
    assert!(error.to_string().starts_with("no trusted TLS connection to"), "{}", error.report());
}

#[tokio::test(flavor = "multi_thread")]
async fn each_kind_of_password_opens_and_a_wrong_one_is_one_definite_error() {
    let cluster = private_cluster(18, &Options::fast());
    let database = Database::create(&cluster).await;
    database
        .client
        .batch_execute(
            "CREATE TABLE t (id int PRIMARY KEY);
             SET password_encryption = 'md5'; CREATE ROLE hashed LOGIN SUPERUSER PASSWORD 'hunter2';
             SET password_encryption = 'scram-sha-256'; CREATE ROLE scrambled LOGIN SUPERUSER PASSWORD 'hunter2';
             CREATE ROLE plain LOGIN SUPERUSER PASSWORD 'hunter2'; CREATE ROLE trusted LOGIN SUPERUSER",
        )
        .await
        .unwrap();
    let rules = cluster.read("pg_hba.conf").unwrap();
    let mut ours = String::new();
    for (role, method) in [
        ("hashed", "md5"),
        ("scrambled", "scram-sha-256"),
        ("plain", "password"),
        ("trusted", "trust"),
        ("absent", "reject"),
    ] {
        ours.push_str(&format!("host all,replication {role} all {method}\n"));
    }
    cluster.write("pg_hba.conf", &(ours + &rules)).unwrap();
    cluster.reload().unwrap();

    let url = |role: &str, password: &str| {
        format!("postgres://{role}:{password}@127.0.0.1:{}/{}?sslmode=disable", cluster.port(), database.name)
    };
    for role in ["hashed", "scrambled", "trusted"] {
        log_in(&database, &url(role, "hunter2")).await.unwrap();
    }
    let address = format!("127.0.0.1:{}", cluster.port());
    for role in ["hashed", "scrambled"] {
        let error = log_in(&database, &url(role, "hunter3")).await.unwrap_err();
        assert_eq!(
            error.report(),
            format!(
                "error: cannot log in to `{}` at `{address}`\n  \
                 caused by: password authentication failed for user \"{role}\" (SQLSTATE 28P01)\n  \
                 help: correct user and password in `url`, `PGPASSWORD` or `password_file`\n",
                database.name
            )
        );
        assert_eq!(error.fault(), Fault::Environment);
        let error = log_in(&database, &url(role, "")).await.unwrap_err();
        assert_eq!(error.fault(), Fault::Config);
        assert!(
            error.report().contains("caused by: the server asks for a password and none is given\n"),
            "{}",
            error.report()
        );
    }
    // By each of the two kinds of session: `log_in` stops at the first.
    let plain = Url::parse(&Secret::new(url("plain", "hunter2")), None).unwrap();
    let Err(error) = connect(&plain, "test").await else { panic!("the driver sent the password") };
    assert!(error.report().contains("the server wants the password in clear text"), "{}", error.report());
    let error = log_in(&database, &url("plain", "hunter2")).await.unwrap_err();
    assert!(
        error.report().contains("the server wants the password in clear text over an unencrypted connection"),
        "{}",
        error.report()
    );
    let front = Front::start(&address, Manner::default()).await;
    let encrypted = format!("postgres://plain:hunter2@{}/{}?sslmode=require", front.address, database.name);
    log_in(&database, &encrypted).await.unwrap();
    let error =
        log_in(&database, &format!("{}&channel_binding=require", url("scrambled", "hunter2"))).await.unwrap_err();
    assert!(!error.report().contains("hunter2"));
    let error = log_in(&database, &url("absent", "x")).await.unwrap_err();
    assert!(error.advice().unwrap().contains("pg_hba.conf"), "{}", error.report());

    let socket = cluster.socket_folder().display().to_string().replace('/', "%2F");
    log_in(&database, &format!("postgres://postgres@{socket}:{}/{}", cluster.port(), database.name)).await.unwrap();
}

/// A Postgres that was built with TLS; the private one is not.
fn postgres_with_tls() -> Option<PathBuf> {
    let installed = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let bin = installed.map(|version| version.path().join("bin")).find(|bin| bin.join("initdb").is_file());
    if bin.is_none() {
        println!("skipped: no Postgres with TLS (Debian's package `postgresql`) is installed");
    }
    bin
}

#[tokio::test(flavor = "multi_thread")]
async fn scram_is_bound_to_the_certificate_of_a_real_server() {
    let Some(bin) = postgres_with_tls() else { return };
    let read = |name: &str| std::fs::read_to_string(certificate(name)).unwrap();
    let cluster = Cluster::start(&bin, &Options::fast()).unwrap();
    cluster.write("server.crt", &read("localhost.crt")).unwrap();
    cluster.write("server.key", &read("localhost.key")).unwrap();
    cluster.set("ssl", "on").unwrap();
    let database = Database::create(&cluster).await;
    database.client.batch_execute("CREATE TABLE t (id int PRIMARY KEY); CREATE ROLE only_tls LOGIN SUPERUSER PASSWORD 'p'; CREATE ROLE never_tls LOGIN SUPERUSER PASSWORD 'p'").await.unwrap();
    for (name, bound) in [("localhost", true), ("sha384", true), ("rsa", true), ("rsa-pss", true), ("ed25519", false)] {
        cluster.write("server.crt", &read(&format!("{name}.crt"))).unwrap();
        cluster.write("server.key", &read(&format!("{name}.key"))).unwrap();
        cluster.reload().unwrap();
        // The reload takes a moment; until then the certificate of the round before is shown.
        let expected = CertificateDer::from_pem_file(certificate(&format!("{name}.crt"))).unwrap();
        eventually("the new certificate is shown", async || shown(cluster.port()).await == expected).await;
        log_in(&database, &format!("{}?sslmode=require", database.url)).await.unwrap();
        let result = log_in(&database, &format!("{}?sslmode=require&channel_binding=require", database.url)).await;
        assert_eq!(result.is_ok(), bound, "{name}: {result:?}");
    }
    let rules = cluster.read("pg_hba.conf").unwrap();
    let ours = "hostssl all only_tls all scram-sha-256\nhost all only_tls all reject\nhostnossl all never_tls all scram-sha-256\nhost all never_tls all reject\n";
    cluster.write("pg_hba.conf", &(ours.to_owned() + &rules)).unwrap();
    cluster.reload().unwrap();
    for (role, mode, opens) in [
        ("only_tls", "disable", false),
        ("only_tls", "allow", true),
        ("only_tls", "prefer", true),
        ("never_tls", "prefer", true),
        ("never_tls", "allow", true),
        ("never_tls", "require", false),
    ] {
        let url = format!("postgres://{role}:p@127.0.0.1:{}/{}?sslmode={mode}", cluster.port(), database.name);
        // As above: the rules are read again in a moment.
        let what = format!("the door is {} for {role} with {mode}", if opens { "open" } else { "shut" });
        eventually(&what, async || log_in(&database, &url).await.is_ok() == opens).await;
    }
}

/// The certificate that a server shows now.
async fn shown(port: u16) -> CertificateDer<'static> {
    let mut tcp = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    tcp.write_all(&[0, 0, 0, 8, 4, 210, 22, 47]).await.unwrap();
    assert_eq!(tcp.read_u8().await.unwrap(), b'S');
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(certificate("authority.crt")).unwrap()).unwrap();
    let seen = Arc::new(std::sync::Mutex::new(None));
    let builder = rustls::ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .unwrap();
    let config =
        builder.dangerous().with_custom_certificate_verifier(Arc::new(Look(Arc::clone(&seen)))).with_no_client_auth();
    let _ = tokio_rustls::TlsConnector::from(Arc::new(config)).connect("localhost".try_into().unwrap(), tcp).await;
    let seen = seen.lock().unwrap().take();
    seen.expect("a certificate is shown")
}

#[derive(Debug)]
struct Look(Arc<std::sync::Mutex<Option<CertificateDer<'static>>>>);

impl rustls::client::danger::ServerCertVerifier for Look {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &rustls::pki_types::ServerName<'_>,
        _: &[u8],
        _: rustls::pki_types::UnixTime,
    ) -> Result<rustls::client::danger::ServerCertVerified, rustls::Error> {
        *self.0.lock().unwrap() = Some(end_entity.clone().into_owned());
        Err(rustls::Error::General("seen enough".into()))
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        Ok(rustls::client::danger::HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        Ok(rustls::client::danger::HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        rustls::crypto::ring::default_provider().signature_verification_algorithms.supported_schemes()
    }
}

const POOLER: &str =
    "a pooler (PgBouncer or alike) stands in between: use the direct endpoint of the database server in `url`";

#[tokio::test(flavor = "multi_thread")]
async fn a_pooler_in_between_is_named() {
    let database = fresh_database().await;
    database.client.batch_execute("CREATE TABLE t (id int PRIMARY KEY)").await.unwrap();
    let (login, rest) = database.url.split_once('@').unwrap();
    let (server, name) = rest.split_once('/').unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("{login}@{}/{name}?sslmode=disable", listener.local_addr().unwrap());
    let server = server.to_owned();
    tokio::spawn(async move {
        while let Ok((mut near, _)) = listener.accept().await {
            let server = server.clone();
            tokio::spawn(async move {
                let mut startup = vec![0; 4096];
                let length = near.read(&mut startup).await.unwrap();
                startup.truncate(length);
                if startup.windows(12).any(|bytes| bytes == b"replication\0") {
                    let fields = b"SFATAL\0C08P01\0Munsupported startup parameter: replication\0\0";
                    let mut reply = vec![b'E'];
                    reply.extend((fields.len() as u32 + 4).to_be_bytes());
                    reply.extend(fields);
                    near.write_all(&reply).await.unwrap();
                    return;
                }
                let mut far = TcpStream::connect(&server).await.unwrap();
                far.write_all(&startup).await.unwrap();
                let _ = tokio::io::copy_bidirectional(&mut near, &mut far).await;
            });
        }
    });
    let error = log_in(&database, &url).await.unwrap_err();
    assert_eq!((error.fault(), error.advice()), (Fault::Environment, Some(POOLER)), "{}", error.report());
    // And leaves no slot that would keep log for nobody.
    let error = postgres::setup(&pipeline(&database), &config(&url, &["t"])).await.unwrap_err();
    assert_eq!((error.fault(), error.advice()), (Fault::Environment, Some(POOLER)), "{}", error.report());
    let left = "SELECT (SELECT count(*) FROM pg_replication_slots WHERE slot_name = $1)
                       + (SELECT count(*) FROM pg_publication WHERE pubname = $1)";
    let left: i64 = database.client.query_one(left, &[&slot(&database)]).await.unwrap().get(0);
    assert_eq!(left, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_real_pgbouncer_is_named() {
    let program = std::env::var("PGSTREAM_PGBOUNCER").unwrap_or_else(|_| "/usr/sbin/pgbouncer".into());
    if !Path::new(&program).is_file() {
        println!("skipped: PgBouncer (Debian's package `pgbouncer`, or PGSTREAM_PGBOUNCER) is not installed");
        return;
    }
    let database = fresh_database().await;
    database.client.batch_execute("CREATE TABLE t (id int PRIMARY KEY)").await.unwrap();
    let (login, rest) = database.url.split_once('@').unwrap();
    let (_, password) = login.rsplit_once(':').unwrap();
    let (server, name) = rest.split_once('/').unwrap();
    let (host, server_port) = server.split_once(':').unwrap();
    let port = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port();
    let folder = tempfile::tempdir().unwrap();
    let write = |file: &str, text: String| std::fs::write(folder.path().join(file), text).unwrap();
    write("users", format!("\"postgres\" \"{password}\"\n"));
    write(
        "ini",
        format!(
            "[databases]\n* = host={host} port={server_port}\n[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\n\
             unix_socket_dir =\nauth_type = scram-sha-256\nauth_file = users\n"
        ),
    );
    let mut command = tokio::process::Command::new(&program);
    command.arg("ini").current_dir(folder.path()).kill_on_drop(true);
    if std::fs::metadata("/proc/self").map(|own| std::os::unix::fs::MetadataExt::uid(&own)).unwrap_or(1) == 0 {
        std::os::unix::fs::chown(folder.path(), Some(65534), None).unwrap();
        command.uid(65534);
    }
    let mut child = command.stderr(std::process::Stdio::null()).spawn().unwrap();
    eventually("pgbouncer listens", async || {
        assert_eq!(child.try_wait().unwrap(), None, "pgbouncer ended");
        TcpStream::connect(("127.0.0.1", port)).await.is_ok()
    })
    .await;
    let config = config(&format!("postgres://postgres:{password}@127.0.0.1:{port}/{name}?sslmode=disable"), &["t"]);
    let error = postgres::check(&pipeline(&database), &config).await.unwrap_err();
    assert!(error.report().contains(POOLER), "{}", error.report());
}
