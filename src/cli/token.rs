//! `bearerd token`: the credential, in the hands of an operator.

mod import;
mod journal;
mod table;

use std::path::PathBuf;

use clap::{Args, Subcommand};
use http::Method;
use serde_json::{Value, json};

use super::client::{Answer, NoAnswer, call};
use super::output::{Failure, print, remark};
use crate::admin::{self, PartnerView, StatusView};
use crate::config::{Config, PartnerConfig};

/// `bearerd token ...`
#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Show how every partner's token stands
    ///
    /// Where no bearerd runs, shows what the store holds. Prints no token.
    #[command(
        verbatim_doc_comment,
        after_help = "\
Example: bearerd token status --partner acme --json

Exit codes: 0 if it was shown, however the token stands; 64 for wrong usage or configuration;
1 if neither bearerd nor the store could be read."
    )]
    Status(Status),

    /// Get a new token now
    ///
    /// Has the bearerd that runs call the partner at once: after a refusal, say, or to see whether
    /// the credential is good. Needs a token in [admin], or its listen on a unix socket.
    #[command(
        verbatim_doc_comment,
        after_help = "\
Example: bearerd token refresh --partner acme

Exit codes: 0 if there is a new token; 64 for wrong usage or configuration; 1 if there is none, or
no bearerd runs."
    )]
    Refresh(Refresh),

    /// Load a new refresh token
    ///
    /// Reads it from a file or from standard input, never from an argument, which every user of
    /// the machine could see. It goes to the bearerd that runs, which presents it at once; where
    /// none runs, into the store. While bearerd runs this needs a token in [admin], or its listen
    /// on a unix socket. To be run as the user that runs bearerd.
    #[command(
        verbatim_doc_comment,
        after_help = "\
Example: bearerd token import --partner acme --file new-token.txt
         pass show acme/refresh-token | bearerd token import --partner acme

Exit codes: 0 if it is loaded and safe on disk; 64 for wrong usage or configuration, and for input
that is not a token; 1 if it could not be loaded."
    )]
    Import(Import),
}

#[derive(Debug, Args)]
pub(super) struct Status {
    /// Only this partner
    #[arg(long, value_name = "NAME")]
    partner: Option<String>,

    /// As JSON, with all there is to know
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
pub(super) struct Refresh {
    /// Whose token; needed if there are several partners
    #[arg(long, value_name = "NAME")]
    partner: Option<String>,
}

#[derive(Debug, Args)]
pub(super) struct Import {
    /// Whose token; needed if there are several partners
    #[arg(long, value_name = "NAME")]
    partner: Option<String>,

    /// The file that holds the refresh token, in one line; - is standard input [default: -]
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
}

/// Carries out `command`.
pub(super) fn run(config: &Config, command: Command) -> Result<(), Failure> {
    match command {
        Command::Status(options) => status(config, &options),
        Command::Refresh(options) => refresh(config, &options),
        Command::Import(options) => import::run(config, &options),
    }
}

fn status(config: &Config, options: &Status) -> Result<(), Failure> {
    let only = options.partner.as_deref();
    let partners: Vec<&PartnerConfig> = match only {
        Some(_) => vec![super::partner(config, only)?],
        None => config.partners.iter().collect(),
    };
    let answer = match call(&config.admin, Method::GET, "/status", None) {
        Ok(answer) => answer,
        Err(NoAnswer::NotRunning) => {
            if !options.json {
                remark(&format!("nothing listens on {}; this is what the store holds", config.admin.listen));
            }
            return journal::show(&config.store, &partners, options.json);
        }
        Err(NoAnswer::Failed(failure)) => return Err(failure),
    };
    let mut status: StatusView = understood(&config.admin, answer)?;
    if let Some(only) = only {
        status.partners.retain(|partner| partner.name == only);
        if status.partners.is_empty() {
            return Err(Failure::failed(
                "the bearerd that runs does not have this partner; it wants a reload",
            ));
        }
    }
    if options.json {
        return print_json(&with_running(json!(status), true));
    }
    if status.store.as_ref().is_some_and(|store| !store.connected) {
        remark("the bearerd that runs has no session with its database; nothing is refreshed until it has");
    }
    print(&table::of(&status.partners))
}

fn refresh(config: &Config, options: &Refresh) -> Result<(), Failure> {
    let partner = super::partner(config, options.partner.as_deref())?;
    let path = format!("/partners/{}/refresh", partner.name);
    let answer = call(&config.admin, Method::POST, &path, None);
    let answer = answer.map_err(|error| error.needed(&config.admin))?;
    let view: PartnerView = understood(&config.admin, answer)?;
    print(&table::of(&[view]))
}

/// What the bearerd that runs says, if it did what it was asked.
fn understood<T: serde::de::DeserializeOwned>(asked: &admin::Config, answer: Answer) -> Result<T, Failure> {
    let Answer { status, body } = answer;
    if status.is_success() {
        return serde_json::from_value(body).map_err(|_| {
            Failure::failed(format!("what listens on {} is not this version of bearerd", asked.listen))
        });
    }
    let said = body["detail"].as_str().unwrap_or("no reason given");
    let failure = Failure::failed(format!("the bearerd that runs: {} ({})", plain(said), status.as_u16()));
    let last = &body["partner"]["last_refresh"];
    Err(match last["outcome"].as_str() {
        None => failure,
        Some(outcome) => {
            let reason = last["reason"].as_str().unwrap_or(outcome);
            let status =
                last["status"].as_u64().map(|status| format!(", status {status}")).unwrap_or_default();
            failure.and(format!(
                "the last call to the partner: {}: {}{status}",
                plain(outcome),
                plain(reason)
            ))
        }
    })
}

/// Text from elsewhere, without what could play tricks on a terminal.
fn plain(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(300).collect()
}

fn with_running(mut json: Value, running: bool) -> Value {
    json["running"] = running.into();
    json
}

fn print_json(json: &Value) -> Result<(), Failure> {
    print(&format!("{json:#}\n"))
}

#[cfg(test)]
mod tests {
    use http::StatusCode;

    use super::*;
    use crate::listener::ListenAddr;

    fn told(status: u16, body: Value) -> String {
        let asked = admin::Config { listen: ListenAddr::Unix("/run/admin".into()), token: None };
        let answer = Answer { status: StatusCode::from_u16(status).unwrap(), body };
        understood::<PartnerView>(&asked, answer).unwrap_err().text()
    }

    #[test]
    fn what_the_operators_side_refuses_is_passed_on() {
        let refused = json!({"detail": "Not \u{1b}[2Jenabled.", "status": 404});
        assert_eq!(told(404, refused), "1 the bearerd that runs: Not [2Jenabled. (404)");
        let last = json!({"outcome": "busy", "reason": "not_json", "status": 429});
        let no_token = json!({"detail": "No.", "partner": {"last_refresh": last}});
        assert_eq!(
            told(502, no_token),
            "1 the bearerd that runs: No. (502)\nthe last call to the partner: busy: not_json, status 429"
        );
        assert_eq!(told(500, Value::Null), "1 the bearerd that runs: no reason given (500)");
        let other = "1 what listens on unix:/run/admin is not this version of bearerd";
        assert_eq!(told(200, json!({"hello": 1})), other);
    }
}
