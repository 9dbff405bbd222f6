//! The page of the host in a real browser: it asks nobody but the host, shows text of strangers as text, and what is clicked is done.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::{Value as Json, json};

use super::steer::{READS, token};
use super::{Home, get, listens};
use crate::guests::guest;
use crate::source::pipeline;
use crate::support::fresh_database;
use crate::support::program::{Folder, Running, eventually};

const ALL: &str = "all-all-all-all-all-all-all-all-all-all";

/// Chromium, steered through its driver.
struct Browser {
    driver: Child,
    client: reqwest::Client,
    address: SocketAddr,
    session: String,
}

impl Browser {
    /// None, with a word on why, where it is missing.
    async fn open() -> Option<Self> {
        let mut command = Command::new("chromedriver");
        command.arg("--port=0").stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        let Ok(mut driver) = command.spawn() else {
            assert!(std::env::var_os("CI").is_none(), "CI installs Debian's `chromium` and `chromium-driver`");
            eprintln!("skipped: `apt-get install chromium chromium-driver` to test the page in a browser");
            return None;
        };
        let mut lines = BufReader::new(driver.stdout.take().unwrap()).lines().map_while(Result::ok);
        let line = lines.find(|line| line.contains("successfully on port")).unwrap();
        let port: u16 = line.trim_end_matches('.').rsplit(' ').next().unwrap().parse().unwrap();
        // It goes on talking, and would wait for somebody to listen.
        std::thread::spawn(move || lines.for_each(drop));
        let _ = rustls::crypto::ring::default_provider().install_default(); // reqwest asks for one, also without TLS
        let client = reqwest::Client::builder().timeout(Duration::from_secs(60)).build().unwrap();
        let address = ([127, 0, 0, 1], port).into();
        let mut browser = Self { driver, client, address, session: String::new() };
        let arguments = [
            "--headless=new",
            "--no-sandbox",
            "--disable-dev-shm-usage",
            "--disable-background-networking",
            "--disable-component-update",
            "--window-size=1280,900",
            "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
        ];
        let wanted = json!({ "capabilities": { "alwaysMatch": {
            "browserName": "chrome", "goog:chromeOptions": { "args": arguments },
            "goog:loggingPrefs": { "browser": "ALL", "performance": "ALL" },
        } } });
        browser.session = browser.ask("/session", &wanted).await["sessionId"].as_str().unwrap().to_owned();
        Some(browser)
    }

    async fn ask(&self, path: &str, body: &Json) -> Json {
        let request = self.client.post(format!("http://{}{path}", self.address)).body(body.to_string());
        let text = request.header("Content-Type", "application/json").send().await.unwrap().text().await.unwrap();
        let answer: Json = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"));
        assert!(answer["value"]["error"].is_null(), "{path}: {answer}");
        answer["value"].clone()
    }

    async fn order(&self, path: &str, body: Json) -> Json {
        self.ask(&format!("/session/{}{path}", self.session), &body).await
    }

    async fn visit(&self, url: &str) {
        // Another part of the same address would be no visit.
        self.order("/url", json!({ "url": "about:blank" })).await;
        self.order("/url", json!({ "url": url })).await;
    }

    async fn run(&self, script: &str) -> Json {
        self.order("/execute/sync", json!({ "script": script, "args": [] })).await
    }

    async fn text(&self) -> String {
        self.run("return document.body.innerText").await.as_str().unwrap_or_default().to_owned()
    }

    async fn shows(&self, text: &str) {
        eventually(&format!("the page shows `{text}`"), async || self.text().await.contains(text)).await;
    }

    /// Clicks what a person would: a real click in the middle of it, which fails if something lies above.
    async fn click(&self, selector: &str) {
        let center = format!("document.querySelector({}).scrollIntoView({{ block: 'center' }})", json!(selector));
        self.run(&center).await;
        let found = self.order("/element", json!({ "using": "css selector", "value": selector })).await;
        let element = found.as_object().unwrap().values().next().unwrap().as_str().unwrap().to_owned();
        self.order(&format!("/element/{element}/click"), json!({})).await;
    }

    /// What the console has said since it was asked last.
    async fn console(&self) -> Vec<String> {
        let lines = self.order("/se/log", json!({ "type": "browser" })).await;
        lines.as_array().unwrap().iter().map(|line| line["message"].to_string()).collect()
    }

    /// The addresses that were asked since it was asked last.
    async fn requests(&self) -> Vec<String> {
        let lines = self.order("/se/log", json!({ "type": "performance" })).await;
        let messages = lines.as_array().unwrap().iter().filter_map(|line| line["message"].as_str());
        let events = messages.filter_map(|message| serde_json::from_str::<Json>(message).ok());
        let sent = events.filter(|event| event["message"]["method"] == "Network.requestWillBeSent");
        sent.filter_map(|event| event["message"]["params"]["request"]["url"].as_str().map(str::to_owned)).collect()
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // The driver takes its browser along when it is asked to end.
        let pid = rustix::process::Pid::from_child(&self.driver);
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        let _ = self.driver.wait();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_page_shows_and_steers_the_host_and_asks_nobody_else() {
    let Some(evil) = guest("evil") else { return };
    let Some(browser) = Browser::open().await else { return };
    let (database, folder, home) = (fresh_database().await, Folder::new(), Home::new());
    let sql = async |sql: &str| database.client.batch_execute(sql).await.unwrap();
    sql("CREATE TABLE documents (id int PRIMARY KEY, title text, content text)").await;
    token(&folder, "all.token", ALL);
    token(&folder, "reads.token", READS);
    std::fs::create_dir(folder.path("acme")).unwrap();
    std::fs::copy(evil, folder.path("acme/handler.wasm")).unwrap();
    let server = database.url.split('@').nth(1).unwrap().split('/').next().unwrap();
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let file = folder.write(
        "host.yaml",
        &format!(
            "version: 1\napi:\n  listen: 127.0.0.1:{port}\n  tokens:\n  \
             - {{ name: ops, file: all.token, may: [read, act, values] }}\n  - {{ name: watch, file: reads.token, may: [read] }}\n\
             tenants:\n  acme: {{ folder: acme, sinks: [blackhole, dead-letters], servers: [\"{server}\"], env: [DATABASE_URL] }}\n"
        ),
    );
    let short = pipeline(&database);
    let name = format!("acme-{short}");
    folder.write(
        "acme/docs.yaml",
        &format!(
            "version: 1\nname: {short}\ntenant: acme\nsources:\n  db: {{ type: postgres, url: \"${{DATABASE_URL}}\", tables: [public.documents], heartbeat: 1s }}\n\
             transforms:\n  evil: {{ type: wasm, inputs: [db], component: handler.wasm }}\n\
             sinks:\n  out: {{ type: blackhole, inputs: [evil] }}\n  parked: {{ type: dead-letters, inputs: [evil.rejected] }}\n"
        ),
    );
    let start = || {
        let mut command = home.command(["run", "--host", file.to_str().unwrap()]);
        command.arg(folder.path("")).env("DATABASE_URL", &database.url);
        Running::spawn(command)
    };
    let mut host = start();
    let address = listens(&mut host).await;
    let told = async || {
        let path = format!("/api/v1/pipelines/{name}");
        get(address, &path, &format!("Authorization: Bearer {READS}\r\n")).await.json()
    };
    eventually("it streams", async || told().await["state"] == "streaming").await;
    sql("INSERT INTO documents VALUES (1, 'reject no', '<script>window.hacked = 1</script><img src=x onerror=\"window.hacked = 1\">')").await;
    eventually("the event is set aside", async || told().await["rejected"] == 1).await;

    browser.visit(&format!("http://{address}/#token=wrong-wrong-wrong-wrong-wrong-wrong")).await;
    browser.shows("does not take this token").await;
    assert!(browser.run("return sessionStorage.getItem('token')").await.is_null(), "it is forgotten");
    let refusals = browser.console().await;
    assert!(refusals.iter().all(|line| line.contains("401")), "{refusals:?}");

    browser.visit(&format!("http://{address}/#token={ALL}")).await;
    browser.shows(&name).await;
    assert!(
        !browser.run("return location.href").await.to_string().contains("all-all"),
        "no token stays in the address"
    );
    browser.click(".name").await;
    browser.shows("From table to store").await;
    browser.shows("reject").await;
    browser.click("[data-key^='show']").await;
    browser.shows("<script>window.hacked = 1</script>").await;
    assert_eq!(
        browser.run("return [window.hacked, document.querySelectorAll('main script, main img').length]").await,
        json!([null, 0])
    );

    browser.click("[data-key='pause']").await;
    browser.shows("Paused by token `ops`").await;
    assert_eq!(told().await["state"], "paused");
    browser.click("[data-key='pause']").await;
    eventually("it goes on", async || told().await["state"] == "streaming").await;
    sql("UPDATE documents SET title = 'payload {}'").await;
    eventually("the page says so", async || !browser.text().await.contains("Paused by")).await;
    browser.click("[data-key^='replay']").await;
    browser.shows("None. Every event has come through.").await;

    // By keyboard alone, and on a telephone.
    let reach = "document.querySelector('[data-key=restart]').focus(); return document.activeElement.dataset.key";
    assert_eq!(browser.run(reach).await, "restart");
    let unnamed = "return [...document.querySelectorAll('button, input, a')].filter((node) => !node.textContent.trim() && \
                   !node.labels?.length && !node.ariaLabel).length + document.querySelectorAll('h1').length";
    assert_eq!(browser.run(unnamed).await, 1, "each control has a name, and there is one heading of the page");
    let phone = json!({ "width": 360, "height": 740, "deviceScaleFactor": 1, "mobile": false });
    browser.order("/goog/cdp/execute", json!({ "cmd": "Emulation.setDeviceMetricsOverride", "params": phone })).await;
    for place in [format!("#/p/{name}"), "#/".to_owned()] {
        browser.run(&format!("location.hash = '{place}'")).await;
        eventually("nothing stands out to the side", async || {
            // Without the scroll bar, if there is one.
            let narrow = "const page = document.documentElement; return innerWidth === 360 && page.scrollWidth <= page.clientWidth";
            browser.run(narrow).await == true
        })
        .await;
    }
    let (console, asked) = (browser.console().await, browser.requests().await);
    assert!(console.is_empty(), "{console:?}");
    let own = format!("http://{address}/");
    let strange: Vec<&String> =
        asked.iter().filter(|url| !url.starts_with(&own) && !url.starts_with("about:")).collect();
    assert!(!asked.is_empty() && strange.is_empty(), "{strange:?}");

    // The host is gone, and back: what was seen stays, and says how old it is.
    host.kill();
    browser.shows("The host does not answer").await;
    browser.shows(&name).await;
    host = start();
    browser.shows("Live").await;
    eventually("it streams again", async || told().await["state"] == "streaming").await;
    host.stop().await;
}
