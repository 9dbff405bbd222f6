//! What a host does not start with: each with a sentence that says what to type, and before anything is opened.

use std::os::unix::fs::PermissionsExt;

use super::Home;
use crate::support::program::{Folder, root};

/// A good pipeline file, whose database is not there.
fn pipeline(folder: &Folder) -> String {
    let component = root().join("plugins/documents-rust/documents.wasm");
    let text = format!(
        "version: 1\nname: nowhere\nsources:\n  db: {{ type: postgres, url: \"postgres://me:hunter2@127.0.0.1:1/shop\", tables: [public.t] }}\n\
         embedders:\n  words: {{ type: hash, dimension: 8 }}\n\
         transforms:\n  chunk: {{ type: wasm, inputs: [db], component: {}, embedders: [words] }}\n\
         sinks:\n  out: {{ type: blackhole, inputs: [chunk] }}\n",
        component.display()
    );
    folder.write("nowhere.yaml", &text).to_str().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_api_that_cannot_be_as_it_is_meant_ends_the_start() {
    let (folder, home) = (Folder::new(), Home::new());
    let file = pipeline(&folder);
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let loose = folder.write("loose", &"x".repeat(40));
    std::fs::set_permissions(&loose, std::fs::Permissions::from_mode(0o644)).unwrap();
    let short = folder.write("short", "secret");
    std::fs::set_permissions(&short, std::fs::Permissions::from_mode(0o600)).unwrap();
    let (loose, short) = (loose.to_str().unwrap(), short.to_str().unwrap());
    for (arguments, code, says) in [
        (&["--api", "0.0.0.0:0"][..], 2, &["where others can reach it", "--api-token"][..]),
        (&["--api", "nonsense"], 2, &["expected an address with a port"]),
        (&["--api", &address], 3, &["the port is taken", "ss -ltnp", "choose another port"]),
        (&["--api", "127.0.0.1:0", "--api-token", loose], 2, &["others can read the token file", "chmod o= "]),
        (&["--api", "127.0.0.1:0", "--api-token", short], 2, &["it is too short", "head -c 32 /dev/urandom"]),
        (&["--api", "127.0.0.1:0", "--api-token", "/nonexistent/token"], 3, &["cannot be read", "umask 077"]),
    ] {
        let mut command = home.command(["run"].into_iter().chain(arguments.iter().copied()).chain([file.as_str()]));
        let output = command.output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {said}");
        assert!(says.iter().all(|says| said.contains(says)), "{arguments:?}: {said}");
        assert!(!said.contains("127.0.0.1:1"), "no pipeline was opened: {said}");
    }
}
