//! What a guest finds when it looks around: nothing of the machine; and what it may say.

use std::io::Write;
use std::sync::{Arc, Mutex};

use tracing_subscriber::fmt::MakeWriter;

use super::{evil, hear, tell};

#[tokio::test]
async fn nothing_of_the_machine_is_within_reach() {
    let Some(evil) = evil(|_| ()) else { return };
    for (word, found) in [
        ("read-file", "Err(NotFound)"),
        ("write-file", "Err(NotFound)"),
        ("list-files", "Err(NotFound)"),
        ("connect", "false"),
        ("listen", "false"),
        ("datagram", "false"),
        ("resolve", "false"),
        ("environment", "0 0"),
        ("input", "Some(\"\")"),
        ("thread", "false"),
        ("clock", "0"),
        ("sleep", "awake"),
    ] {
        let answer = hear(&evil, word).await;
        let denied = answer == found || (found.starts_with("Err") && answer.starts_with("Err("));
        assert!(denied, "`{word}` found {answer}");
    }
    assert_eq!(hear(&evil, "calls").await, "13", "none of it was a trap");
}

#[tokio::test]
async fn config_is_what_the_file_says_and_no_more() {
    let Some(evil) = evil(|settings| drop(settings.config.insert("text_column".into(), "body".into()))) else { return };
    assert_eq!(hear(&evil, "config text_column").await, "Some(\"body\")");
    assert_eq!(hear(&evil, "config other").await, "None");
    assert_eq!(hear(&evil, "config ").await, "None");
}

#[tokio::test]
async fn what_a_guest_says_is_logged_under_its_name_and_cannot_forge_lines() {
    let log = Log::default();
    let _guard = log.listen();
    let Some(evil) = evil(|_| ()) else { return };
    tell(&evil, "log fine\n\u{1b}[31mforged").await.unwrap();
    tell(&evil, "print well\u{7}").await.unwrap();
    let text = log.text();
    for line in [
        " INFO pgstream_host::transform::voice: fine\\n\\u{1b}[31mforged handler=\"embed\"\n",
        " INFO pgstream_host::transform::voice: printed well\\u{7} handler=\"embed\"\n",
        " WARN pgstream_host::transform::voice: complained well\\u{7} handler=\"embed\"\n",
    ] {
        assert!(text.contains(line), "{text}");
    }
    assert_eq!(text.lines().count(), 3, "{text}");
}

#[tokio::test]
async fn a_flood_of_lines_is_cut_and_owned_up_to() {
    for word in ["log-flood", "print-flood"] {
        let log = Log::default();
        let _guard = log.listen();
        let Some(evil) = evil(|_| ()) else { return };
        tell(&evil, word).await.unwrap();
        let said = || log.text().lines().filter(|line| line.contains("line ")).count();
        assert!((100..=1000).contains(&said()), "{word}: {} of 10000 lines", said());
        // The worker owns up when it has nothing else to do.
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(60);
        while !log.text().contains(" lines were dropped: a handler may log 100 a second") {
            assert!(std::time::Instant::now() < deadline, "{}", log.text());
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    }
}

/// What is logged in a test, and by the handlers that it loads.
#[derive(Clone, Default)]
pub(crate) struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    pub(crate) fn listen(&self) -> tracing::subscriber::DefaultGuard {
        let subscriber = tracing_subscriber::fmt().with_ansi(false).without_time().with_writer(self.clone()).finish();
        tracing::subscriber::set_default(subscriber)
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl MakeWriter<'_> for Log {
    type Writer = Self;

    fn make_writer(&self) -> Self {
        self.clone()
    }
}
