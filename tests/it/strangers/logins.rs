//! Servers that misuse a login: to keep the host computing, or to have their words taken for somebody's.

use pgstream_host::config::Secret;
use pgstream_host::error::{Error, Fault};
use pgstream_host::postgres::{Url, connect};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::wire::{in_time, message};

/// A server that answers each login in its own way.
async fn serving<F>(answer: fn(TcpStream) -> F) -> String
where
    F: Future<Output = std::io::Result<()>> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    tokio::spawn(async move {
        while let Ok((near, _)) = listener.accept().await {
            tokio::spawn(answer(near));
        }
    });
    address
}

/// What comes of a login. On a thread of its own, which may be kept busy.
async fn refusal(address: &str, more: &str) -> Error {
    let url = format!("postgres://somebody:secret@{address}/shop?connect_timeout=60&{more}");
    let url = Url::parse(&Secret::new(url), None).unwrap();
    let login = tokio::spawn(async move { connect(&url, "test").await.map(drop).unwrap_err() });
    in_time("a login", login).await.unwrap()
}

/// One message that begins with its length alone.
async fn startup(near: &mut TcpStream) -> std::io::Result<()> {
    let length = near.read_u32().await?;
    near.read_exact(&mut vec![0; length as usize - 4]).await.map(drop)
}

async fn rounds<const ROUNDS: u32>(mut near: TcpStream) -> std::io::Result<()> {
    startup(&mut near).await?;
    near.write_all(&message(b'R', b"\0\0\0\x0aSCRAM-SHA-256\0\0")).await?;
    near.read_u8().await?;
    let mut body = vec![0; near.read_u32().await? as usize - 4];
    near.read_exact(&mut body).await?;
    let said = String::from_utf8_lossy(&body).into_owned();
    let nonce = said.rsplit_once("r=").map_or("", |(_, nonce)| nonce);
    let challenge = format!("r={nonce}more,s=c2FsdHNhbHRzYWx0,i={ROUNDS}");
    near.write_all(&message(b'R', &[b"\0\0\0\x0b", challenge.as_bytes()].concat())).await?;
    // The client's proof, for which it has hashed.
    if near.read_u8().await? == b'p' {
        near.write_all(&message(b'E', b"SFATAL\0C28P01\0Mthe proof came\0\0")).await?;
    }
    near.read_to_end(&mut Vec::new()).await.map(drop)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_wants_a_password_hashed_for_hours_is_left() {
    let error = refusal(&serving(rounds::<4096>).await, "sslmode=disable").await;
    assert!(error.report().contains("the proof came"), "as many as are usual: {}", error.report());
    let error = refusal(&serving(rounds::<{ u32::MAX }>).await, "sslmode=disable").await;
    assert_eq!(error.fault(), Fault::Environment, "{}", error.report());
    assert!(!error.report().contains("the proof came"), "{}", error.report());
}

async fn words_before_tls(mut near: TcpStream) -> std::io::Result<()> {
    startup(&mut near).await?;
    let words = b"SFATAL\0C28000\0Mcall +1 555 0100 and read your password out\0\0";
    near.write_all(&message(b'E', words)).await?;
    near.read_to_end(&mut Vec::new()).await.map(drop)
}

/// Whoever is in between can answer before there is TLS: what he says is not repeated as the server's.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_said_before_tls_is_not_repeated() {
    let address = serving(words_before_tls).await;
    let error = refusal(&address, "sslmode=require").await;
    assert!(error.report().contains("cannot reach the database server"), "{}", error.report());
    assert!(!error.report().contains("call +1"), "{}", error.report());
}
