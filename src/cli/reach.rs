//! `Reach`: how a command reaches the host that it asks: through the sockets of this user's hosts, or through TCP with a token.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use serde_json::Value;

use super::complain;
use crate::api::{self, Answer, Place};
use crate::error::{Error, Fault, Result};

#[derive(Clone, Debug, clap::Args)]
pub(super) struct Reach {
    /// The socket of the host that is asked, if it is not where sockets of this user's hosts are.
    #[arg(long, value_name = "PATH", conflicts_with = "api")]
    pub(super) socket: Option<PathBuf>,
    /// Asks the host at this address, such as 127.0.0.1:7433, and not those of this user here.
    #[arg(long, value_name = "ADDRESS")]
    api: Option<String>,
    /// The file of a token that the host at `--api` knows.
    #[arg(long, value_name = "FILE", requires = "api")]
    token_file: Option<PathBuf>,
}

impl Reach {
    /// The places that are asked; `usual` if none was typed.
    ///
    /// # Errors
    /// `Environment` if the token's file cannot be read.
    pub(super) fn places(&self, usual: impl FnOnce() -> Vec<PathBuf>) -> Result<Vec<Place>> {
        if let Some(address) = &self.api {
            let token = self.token_file.as_deref().map(read_token).transpose()?;
            return Ok(vec![Place::Tcp { address: address.clone(), token }]);
        }
        let sockets = self.socket.clone().map_or_else(usual, |socket| vec![socket]);
        Ok(sockets.into_iter().map(Place::Unix).collect())
    }

    /// All that hosts answer to a question, each with its place. What goes wrong with one is said.
    pub(super) async fn ask_all(&self, places: &[Place], path: &str) -> Vec<(Place, Value)> {
        let mut answers = Vec::new();
        for place in places {
            match api::ask(place, path, None).await.and_then(|answer| answer.map(good).transpose()) {
                Ok(answer) => answers.extend(answer.map(|answer| (place.clone(), answer))),
                Err(error) => complain(&error),
            }
        }
        answers
    }

    /// The one host that runs a pipeline.
    ///
    /// # Errors
    /// `Environment` if no host answers, `Config` if none of those that do runs it, or several do.
    pub(super) async fn host_of(&self, pipeline: &str) -> Result<Place> {
        let answers = self.ask_all(&self.places(api::sockets)?, "/api/v1/status").await;
        if answers.is_empty() {
            return Err(self.nobody());
        }
        let names = |status: &Value| -> Vec<String> {
            let pipelines = status["pipelines"].as_array().into_iter().flatten();
            pipelines.filter_map(|told| told["name"].as_str().map(str::to_owned)).collect()
        };
        let runs = answers.iter().filter(|(_, status)| names(status).iter().any(|name| name == pipeline));
        match runs.map(|(place, _)| place).collect::<Vec<_>>()[..] {
            [place] => Ok(place.clone()),
            [] => {
                let known: Vec<String> = answers.iter().flat_map(|(_, status)| names(status)).collect();
                let what = format!("no host that was asked runs a pipeline `{pipeline}`");
                let help = if known.is_empty() {
                    "it runs none".to_owned()
                } else {
                    format!("they run: {}", known.join(", "))
                };
                Err(Error::new(Fault::Config, what).help(help))
            }
            _ => {
                let places: Vec<String> =
                    answers.iter().map(|(place, _)| format!("`--socket {}`", place.shown())).collect();
                let what = format!("several hosts run a pipeline `{pipeline}`");
                Err(Error::new(Fault::Config, what).help(format!("add one of {}", places.join(", "))))
            }
        }
    }

    /// The only host that there is.
    ///
    /// # Errors
    /// `Environment` if no host answers, `Config` if there are several.
    pub(super) async fn only_host(&self) -> Result<Place> {
        let answers = self.ask_all(&self.places(api::sockets)?, "/api/v1/status").await;
        match answers.as_slice() {
            [] => Err(self.nobody()),
            [(place, _)] => Ok(place.clone()),
            _ => {
                let places: Vec<String> =
                    answers.iter().map(|(place, _)| format!("`--socket {}`", place.shown())).collect();
                let what = "several hosts of this user run on this machine";
                Err(Error::new(Fault::Config, what).help(format!("add one of {}", places.join(", "))))
            }
        }
    }

    /// The error for whoever finds no host.
    pub(super) fn nobody(&self) -> Error {
        let (what, help) = match &self.api {
            Some(address) => (
                format!("no host answers at {address}"),
                "start it with `--api ADDRESS`, or look at `api.listen` of its host file; what it said stands above".to_owned(),
            ),
            None => (
                "no host of this user runs on this machine".to_owned(),
                "start one: `pgstream-host run pipeline.yaml`; `pgstream-host status pipeline.yaml` asks the database. One that runs \
                 as a service has its socket in its `RuntimeDirectory`: name it with `--socket`"
                    .to_owned(),
            ),
        };
        Error::new(Fault::Environment, what).help(help)
    }
}

/// Asks a host to do something. An exit code if it would not, which has been said then.
///
/// # Errors
/// Those of asking.
pub(super) async fn order(place: &Place, path: &str, order: &Value) -> Result<std::result::Result<Value, ExitCode>> {
    let Some(answer) = api::ask(place, path, Some(order)).await? else {
        let what = format!("the host at `{}` has gone away", place.shown());
        return Err(Error::new(Fault::Environment, what).help("`pgstream-host status` says what runs"));
    };
    let conflicts = answer.status == 409;
    match good(answer) {
        Ok(body) => Ok(Ok(body)),
        Err(error) if conflicts => {
            complain(&error);
            Ok(Err(ExitCode::FAILURE))
        }
        Err(error) => Err(error),
    }
}

/// The body of an answer, if it is one to what was asked.
fn good(Answer { status, body }: Answer) -> Result<Value> {
    if (200..300).contains(&status) {
        return Ok(body);
    }
    let text = |key: &str| body["error"][key].as_str().map(str::to_owned);
    let fault = match status {
        400 | 401 | 403 | 404 | 409 | 421 | 422 => Fault::Config,
        _ => Fault::Environment,
    };
    let error = Error::new(fault, text("message").unwrap_or_else(|| format!("the host answered {status}")));
    Err(match text("help") {
        Some(help) => error.help(help),
        None => error,
    })
}

fn read_token(file: &Path) -> Result<String> {
    let text = std::fs::read_to_string(file).map_err(|cause| {
        Error::new(Fault::Environment, format!("the token file `{}` cannot be read", file.display()))
            .because(cause)
            .help(
                "it is the file that the host was given as `--api-token`, or that `api.tokens` of its host file names",
            )
    })?;
    Ok(text.trim().to_owned())
}
