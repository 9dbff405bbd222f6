//! Files that a tenant's pipeline names, exchanged for links after they were looked at.

use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use pgstream_host::config::Secret;
use pgstream_host::error::{Error, Fault};
use pgstream_host::postgres::{Url, connect};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

/// A server that asks for a password, and keeps what it is told.
async fn curious() -> (u16, Arc<Mutex<Vec<u8>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (port, told) = (listener.local_addr().unwrap().port(), Arc::new(Mutex::new(Vec::new())));
    let kept = Arc::clone(&told);
    tokio::spawn(async move {
        while let Ok((mut near, _)) = listener.accept().await {
            let kept = Arc::clone(&kept);
            tokio::spawn(async move {
                let length = near.read_u32().await.unwrap_or(4);
                near.read_exact(&mut vec![0; length as usize - 4]).await.unwrap();
                // AuthenticationMD5Password
                near.write_all(b"R\0\0\0\x0c\0\0\0\x05salt").await.unwrap();
                let mut answer = [0; 1000];
                let length = near.read(&mut answer).await.unwrap_or(0);
                kept.lock().unwrap().extend_from_slice(&answer[..length]);
            });
        }
    });
    (port, told)
}

struct Place {
    _all: tempfile::TempDir,
    folder: PathBuf,
    secret: PathBuf,
}

/// A tenant's folder, and beside it something that is not the tenant's.
fn place() -> Place {
    let all = tempfile::tempdir().unwrap();
    let root = all.path().canonicalize().unwrap();
    let (folder, secret) = (root.join("acme"), root.join("secret"));
    std::fs::create_dir(&folder).unwrap();
    std::fs::write(&secret, "the host's own secret").unwrap();
    Place { _all: all, folder, secret }
}

async fn log_in(url: &str, password: Option<&Path>, folder: &Path) -> Error {
    let url = Url::parse(&Secret::new(url), password.map(Path::to_owned)).unwrap().beneath(Some(folder.to_owned()));
    connect(&url, "test").await.expect_err("the server lets nobody in")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_password_file_that_became_a_link_out_of_the_folder_is_not_read() {
    let Place { folder, secret, .. } = &place();
    let (port, told) = curious().await;
    let url = format!("postgres://app@127.0.0.1:{port}/shop?sslmode=disable&connect_timeout=20");
    let file = folder.join("password");
    std::fs::write(&file, "the tenant's own").unwrap();
    let error = log_in(&url, Some(&file), folder).await;
    assert!(!error.report().contains("password file"), "{}", error.report());
    assert!(told.lock().unwrap().starts_with(b"p"), "what is there as it should be is read and sent");
    told.lock().unwrap().clear();

    std::fs::remove_file(&file).unwrap();
    symlink(secret, &file).unwrap();
    let error = log_in(&url, Some(&file), folder).await;
    assert_eq!(error.fault(), Fault::Environment);
    assert!(error.report().contains("it leads out of the tenant's folder"), "{}", error.report());

    // Nor through a folder that became one.
    std::fs::create_dir(folder.join("deep")).unwrap();
    std::fs::write(folder.join("deep/secret"), "the tenant's own").unwrap();
    std::fs::remove_dir_all(folder.join("deep")).unwrap();
    symlink(secret.parent().unwrap(), folder.join("deep")).unwrap();
    let error = log_in(&url, Some(&folder.join("deep/secret")), folder).await;
    assert!(error.report().contains("it leads out of the tenant's folder"), "{}", error.report());
    assert!(told.lock().unwrap().is_empty(), "nothing was sent");
}

#[tokio::test(flavor = "multi_thread")]
async fn certificates_that_became_links_or_pipes_are_not_read() {
    let Place { folder, secret, .. } = &place();
    let (link, pipe) = (folder.join("link.pem"), folder.join("pipe.pem"));
    symlink(secret, &link).unwrap();
    rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, rustix::fs::Mode::RWXU, 0).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((mut near, _)) = listener.accept().await {
            // Yes to TLS.
            let _ = near.read_exact(&mut [0; 8]).await;
            let _ = near.write_all(b"S").await;
        }
    });
    let url = format!("postgres://app:x@127.0.0.1:{port}/shop?sslmode=require&connect_timeout=20");
    for (file, why) in [(&link, "it leads out of the tenant's folder"), (&pipe, "it is not a plain file")] {
        let file = file.display();
        for parameters in [format!("sslrootcert={file}"), format!("sslcert={file}&sslkey={file}")] {
            let error = log_in(&format!("{url}&{parameters}"), None, folder).await;
            assert_eq!(error.fault(), Fault::Config, "{}", error.report());
            assert!(error.report().contains(why), "{parameters}: {}", error.report());
        }
    }
}
