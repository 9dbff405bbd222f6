//! Servers that show a certificate of another, or of another time, to whatever logs in there.

use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::net::TcpListener;

use crate::source_login::{Front, Manner, certificate, log_in};
use crate::support::fresh_database;
use crate::support::program::{Folder, pgstream, root};

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_whose_time_is_over_opens_no_session_that_checks_it() {
    let database = fresh_database().await;
    database.client.batch_execute("CREATE TABLE t (id int PRIMARY KEY)").await.unwrap();
    let (login, rest) = database.url.split_once('@').unwrap();
    let (server, name) = rest.split_once('/').unwrap();
    let front = Front::start(server, Manner { shows: Some("expired"), ..Manner::default() }).await;
    let signed = certificate("lasting.crt");
    for mode in ["require", "verify-ca", "verify-full"] {
        let url = format!("{login}@{}/{name}?sslmode={mode}&sslrootcert={}", front.address, signed.display());
        let error = log_in(&database, &url).await.unwrap_err();
        let report = error.report();
        assert!(report.contains("no trusted TLS connection") && report.contains("expired"), "{mode}: {report}");
    }
    // Who asks for no check gets none, as with libpq.
    log_in(&database, &format!("{login}@{}/{name}?sslmode=require", front.address)).await.unwrap();
}

/// A server that ends each TLS session as soon as it stands.
async fn qdrant_behind(shown: &str) -> u16 {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = rustls::ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let chain = vec![CertificateDer::from_pem_file(certificate(&format!("{shown}.crt"))).unwrap()];
    let key = PrivateKeyDer::from_pem_file(certificate(&format!("{shown}.key"))).unwrap();
    let mut config = builder.with_no_client_auth().with_single_cert(chain, key).unwrap();
    config.alpn_protocols = vec![b"h2".to_vec()];
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((near, _)) = listener.accept().await {
            let _ = acceptor.accept(near).await;
        }
    });
    port
}

#[tokio::test(flavor = "multi_thread")]
async fn qdrant_is_asked_nothing_behind_a_certificate_of_another_name_time_or_authority() {
    let folder = Folder::new();
    folder.write("events.jsonl", "");
    for (shown, host, authority, refused) in [
        ("localhost", "localhost", "authority", false),
        ("localhost", "127.0.0.1", "authority", true),
        ("localhost", "localhost", "stranger", true),
        ("expired", "localhost", "lasting", true),
    ] {
        let port = qdrant_behind(shown).await;
        let file = folder.write(
            "pipeline.yaml",
            &format!(
                "version: 1\nname: documents\nsources:\n  lines: {{ type: jsonl, path: {} }}\n\
                 embedders:\n  words: {{ type: hash, dimension: 4 }}\n\
                 transforms:\n  embed: {{ type: wasm, inputs: [lines], component: {}, embedders: [words] }}\n\
                 sinks:\n  out: {{ type: qdrant, inputs: [embed], url: \"https://{host}:{port}\", collection: docs, timeout: 5s }}\n",
                folder.path("events.jsonl").display(),
                root().join("plugins/documents-rust/documents.wasm").display()
            ),
        );
        let output = tokio::task::spawn_blocking(move || {
            pgstream(["validate", "--connect", file.to_str().unwrap()])
                .env("SSL_CERT_FILE", certificate(&format!("{authority}.crt")))
                .output()
                .unwrap()
        });
        let output = output.await.unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success(), "{shown} {host} {authority}: nothing answers there");
        assert_eq!(said.contains("certificate must be signed"), refused, "{shown} {host} {authority}: {said}");
    }
}
