//! A TCP address that leads to a server, to another one later, or nowhere.

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// As a DNS name or a virtual address that moves. What is open is cut when it does.
pub(crate) struct Door {
    port: u16,
    leads_to: watch::Sender<Option<u16>>,
}

impl Door {
    /// Opens it, on 127.0.0.1, to a port there.
    pub(crate) async fn to(server: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (leads_to, mut target) = watch::channel(Some(server));
        tokio::spawn(async move {
            while let Ok((mut near, _)) = listener.accept().await {
                let Some(server) = *target.borrow_and_update() else { continue };
                let mut moved = target.clone();
                tokio::spawn(async move {
                    let Ok(mut far) = TcpStream::connect(("127.0.0.1", server)).await else { return };
                    tokio::select! {
                        _ = tokio::io::copy_bidirectional(&mut near, &mut far) => {}
                        _ = moved.changed() => {}
                    }
                });
            }
        });
        Self { port, leads_to }
    }

    /// The URL of a server on 127.0.0.1, through the door.
    pub(crate) fn url(&self, url: &str) -> String {
        let (login, rest) = url.rsplit_once('@').unwrap();
        let (_, database) = rest.split_once('/').unwrap();
        format!("{login}@127.0.0.1:{}/{database}", self.port)
    }

    /// Leads elsewhere from now on; None: every connection is cut at once.
    pub(crate) fn lead_to(&self, server: Option<u16>) {
        self.leads_to.send_replace(server);
    }
}
