//! The command line.
//!
//! What always holds: every line of an error on standard error begins with `bearerd: `. The exit
//! code is 0 if all went well, 64 for wrong usage and a wrong configuration, 1 for anything else.
//! No secret is taken from an argument, where every user of the machine could read it, and no
//! argument that might be one by mistake is repeated in a message.

mod client;
mod envelope;
mod input;
mod output;
mod sandbox;
mod store;
#[cfg(test)]
mod tests;
mod token;
mod usage;

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use self::output::Failure;
use crate::config::{Config, PartnerConfig, Source};
use crate::{app, telemetry};

/// Runs the command that the process's arguments ask for.
pub fn main() -> ExitCode {
    output::end(run(std::env::args_os()))
}

fn run(arguments: impl IntoIterator<Item = OsString>) -> Result<(), Failure> {
    let cli = match Cli::try_parse_from(arguments) {
        Ok(cli) => cli,
        Err(error) if error.use_stderr() => return Err(usage::explain(&error)),
        Err(help) => return output::help(&help),
    };
    let file = cli.config.as_deref();
    match cli.command.unwrap_or(Command::Run) {
        Command::Run => {
            let source = Source::read(path(file))?;
            let config = Config::resolve(&source)?;
            app::run(source, config).map_err(|error| Failure::failed(error.to_string()))
        }
        Command::Check => output::print(&load(file)?.show()),
        Command::Sandbox(options) => sandbox::run(file, &options),
        Command::Store(command) => {
            keep_memory_private();
            store::run(&Source::read(path(file))?, command)
        }
        Command::Token(command) => {
            keep_memory_private();
            token::run(&load(file)?, command)
        }
        Command::Envelope(command) => {
            keep_memory_private();
            envelope::run(file, command)
        }
    }
}

/// An egress gateway that carries a partner's Bearer token, so that applications need not.
///
/// Applications send their requests to bearerd in plain HTTP and without credentials. bearerd adds
/// the access token, forwards over TLS, keeps the token fresh and, after a 401, sends the request
/// again with a new one.
#[derive(Debug, Parser)]
#[command(name = "bearerd", version, verbatim_doc_comment, after_help = AFTER_HELP)]
struct Cli {
    /// The configuration file [default: config.toml]
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,

    #[command(subcommand)]
    command: Option<Command>,
}

const AFTER_HELP: &str = "\
`bearerd` alone means `bearerd run --config config.toml`.

Exit codes: 0 all went well; 64 wrong usage or configuration; 1 anything else.";

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the gateway
    ///
    /// Runs in the foreground and logs to standard output. SIGTERM and SIGINT let what is in flight
    /// finish and end it; SIGHUP reads the configuration again, which keeps the old one if the new
    /// one is wrong.
    #[command(
        verbatim_doc_comment,
        after_help = "\
Example: bearerd run --config /etc/bearerd/config.toml

Exit codes: 0 after a drain in time; 64 if the configuration is wrong, each error on a line of its
own; 1 if it cannot start or go on (port in use, store damaged or locked), or the drain timed out."
    )]
    Run,

    /// Check a configuration and show what was understood
    ///
    /// Prints every key with its value in force, defaults included and secrets masked, or every
    /// error at once with file, line and key. Reads the secrets that the file names, so it is to be
    /// run as the user that runs bearerd. Contacts nobody and leaves the store alone.
    #[command(
        verbatim_doc_comment,
        after_help = "\
Example: bearerd check --config /etc/bearerd/config.toml

Exit codes: 0 if it can be run; 64 if not."
    )]
    Check,

    /// Run a partner to try things against
    ///
    /// Speaks the partner's wire with published keys, rotates refresh tokens and notices when a
    /// spent one comes back. Takes [sandbox] of the configuration, if there is one, as its
    /// defaults. Prints what to put into a configuration to use it. It guards nothing: never for
    /// real traffic.
    #[command(
        verbatim_doc_comment,
        after_help = "\
Example: bearerd sandbox --access-lifetime 30s --fault lost --fault-every 3

Exit codes: 0 after SIGINT or SIGTERM; 64 for wrong usage or configuration; 1 if it cannot listen."
    )]
    Sandbox(sandbox::Options),

    /// Look after the database that several bearerds share
    ///
    /// For store.kind = "postgres".
    #[command(subcommand, verbatim_doc_comment)]
    Store(store::Command),

    /// Show, refresh or replace a partner's token
    ///
    /// Asks the bearerd that runs, at the address of [admin] in the configuration.
    #[command(subcommand, verbatim_doc_comment)]
    Token(token::Command),

    /// Seal and open the partner's envelopes
    ///
    /// AES-256 in CBC mode, as the partner wants request bodies. To look at recorded traffic or to
    /// make a test request by hand.
    #[command(subcommand, verbatim_doc_comment)]
    Envelope(envelope::Command),
}

fn path(file: Option<&std::path::Path>) -> PathBuf {
    file.map_or_else(|| PathBuf::from(DEFAULT_CONFIG), PathBuf::from)
}

fn load(file: Option<&std::path::Path>) -> Result<Config, Failure> {
    Ok(Config::load(path(file))?)
}

/// The partner called `name`, or the only one.
fn partner<'c>(config: &'c Config, name: Option<&str>) -> Result<&'c PartnerConfig, Failure> {
    let found = match (name, &*config.partners) {
        (None, [only]) => Some(only),
        (None, _) => None,
        (Some(name), partners) => partners.iter().find(|partner| partner.name == name),
    };
    found.ok_or_else(|| {
        let names: Vec<_> = config.partners.iter().map(|partner| partner.name.as_str()).collect();
        Failure::usage(format!("--partner: expected the name of a configured partner: {}", names.join(", ")))
    })
}

/// Waits for what is done on a runtime of its own.
fn block_on<T>(work: impl Future<Output = T>) -> Result<T, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Failure::failed(format!("cannot start a runtime: {error}")))?;
    Ok(runtime.block_on(work))
}

/// Where it cannot be had, an operator's command is no worse than any other program.
fn keep_memory_private() {
    let _ = telemetry::harden();
}

const DEFAULT_CONFIG: &str = "config.toml";
