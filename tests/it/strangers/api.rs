//! Who reaches the API without a token, and would keep others out, or read what is not for them.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

use crate::api::gate::Rig;
use crate::api::get;
use crate::support::program::eventually;

async fn from(here: &str, there: std::net::SocketAddr) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(format!("{here}:0").parse().unwrap()).unwrap();
    socket.connect(there).await.unwrap()
}

/// Tells if the other side has neither sent anything nor closed the connection.
fn would_wait(stream: &TcpStream) -> bool {
    stream.try_read(&mut [0]).is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock)
}

/// What tells whether the host is healthy may end it, so nobody may keep that from being asked.
#[cfg(target_os = "linux")] // where all of 127.0.0.0/8 is this machine
#[tokio::test(flavor = "multi_thread")]
async fn connections_from_one_address_leave_places_for_others() {
    let rig = Rig::patient(Duration::from_secs(600)).await;
    let mut held = Vec::new();
    for _ in 0..200 {
        let mut stream = from("127.0.0.2", rig.address).await;
        // Half a head, which is waited for.
        let _ = stream.write_all(b"GET /health HTTP/1.1\r\nHost: loc").await;
        held.push(stream);
    }
    let open = || held.iter().filter(|stream| would_wait(stream)).count();
    eventually("half of the 64 places are left", async || open() == 32).await;
    for _ in 0..3 {
        assert_eq!(get(rig.address, "/health", "").await.status, 200);
    }
    assert_eq!(open(), 32, "and those that have a place keep it");
}

/// Two requests where a proxy sees one: none of the words for it is taken.
#[tokio::test(flavor = "multi_thread")]
async fn no_request_hides_in_another() {
    let rig = Rig::patient(Duration::from_secs(5)).await;
    let hidden = "GET /hidden HTTP/1.1\r\nHost: localhost\r\n\r\n";
    for (what, headers) in [
        ("two lengths", format!("Content-Length: 0\r\nContent-Length: {}\r\n\r\n{hidden}", hidden.len())),
        (
            "a length and pieces",
            format!("Content-Length: {}\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n{hidden}", hidden.len()),
        ),
        ("pieces by another name", format!("Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n{hidden}")),
        ("a length with a sign", format!("Content-Length: +0\r\n\r\n{hidden}")),
        ("a header on two lines", format!("X: y\r\n Content-Length: 0\r\n\r\n{hidden}")),
        ("a space before the colon", format!("Content-Length : 0\r\n\r\n{hidden}")),
    ] {
        let mut stream = TcpStream::connect(rig.address).await.unwrap();
        let request = format!("GET /health HTTP/1.1\r\nHost: localhost\r\n{headers}");
        let _ = stream.write_all(request.as_bytes()).await;
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer).await;
        let answer = String::from_utf8_lossy(&answer);
        assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "{what}: {answer}");
    }
}
