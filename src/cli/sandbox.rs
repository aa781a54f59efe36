//! `bearerd sandbox`: the partner to try things against, by itself.

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use clap::{Args, ValueEnum};
use tokio::signal::unix::{SignalKind, signal};

use super::output::{Failure, print};
use crate::config::Config;
use crate::sandbox::{self, Fault, Sandbox};
use crate::telemetry;

/// What may be set, in place of what the configuration says.
#[derive(Debug, Default, Args)]
pub(super) struct Options {
    /// Where to listen: an address of this machine's own, such as 127.0.0.1:9400
    #[arg(long, value_name = "ADDRESS", value_parser = address)]
    listen: Option<SocketAddr>,

    /// How long an access token lives, such as 30s
    #[arg(long, value_name = "TIME", value_parser = lifetime)]
    access_lifetime: Option<Duration>,

    /// How long a refresh token lives
    #[arg(long, value_name = "TIME", value_parser = lifetime)]
    refresh_lifetime: Option<Duration>,

    /// How long a spent refresh token is still honoured
    #[arg(long, value_name = "TIME", value_parser = time)]
    grace: Option<Duration>,

    /// How long a login or a refresh takes
    #[arg(long, value_name = "TIME", value_parser = time)]
    refresh_delay: Option<Duration>,

    /// How long any other call takes
    #[arg(long, value_name = "TIME", value_parser = time)]
    request_delay: Option<Duration>,

    /// Every so many refresh calls fail; 0 means none
    #[arg(long, value_name = "N")]
    fault_every: Option<u32>,

    /// How they fail
    #[arg(long, value_enum, value_name = "FAULT")]
    fault: Option<FaultName>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum FaultName {
    /// 503 with Retry-After; nothing was done
    Busy,
    /// 500; nothing was done
    Error,
    /// The token is rotated and the answer is lost
    Lost,
    /// 400 in JSON; nothing was done
    Refused,
    /// The token is rotated and the answer is HTML
    Nonsense,
}

/// Runs until SIGINT or SIGTERM.
pub(super) fn run(file: Option<&Path>, options: &Options) -> Result<(), Failure> {
    let config = options.over(configured(file)?);
    let failed = |error: io::Error| Failure::failed(format!("sandbox: {}: {error}", config.listen));
    let sandbox = Sandbox::bind(&config).map_err(failed)?;
    let address = sandbox.local_addr().map_err(failed)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
    runtime.map_err(failed)?.block_on(async {
        // From here on a signal ends the sandbox in good order, so whoever reads what is printed
        // may send one.
        let mut interrupt = signal(SignalKind::interrupt()).map_err(failed)?;
        let mut terminate = signal(SignalKind::terminate()).map_err(failed)?;
        print(&how_to_use(address))?;
        let log = telemetry::Config {
            format: telemetry::Format::Text,
            level: tracing::Level::INFO,
            access: telemetry::Access::Off,
        };
        let _log = telemetry::init(&log);
        let ended = sandbox.run(async {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
        });
        ended.await.map_err(failed)
    })
}

/// `[sandbox]` of the configuration, or the defaults. Only a file that was named must be there.
fn configured(file: Option<&Path>) -> Result<sandbox::Config, Failure> {
    let path = super::path(file);
    if file.is_none() && !path.exists() {
        return Ok(sandbox::Config::default());
    }
    Ok(Config::load(path)?.sandbox.unwrap_or_default())
}

impl Options {
    fn over(&self, config: sandbox::Config) -> sandbox::Config {
        sandbox::Config {
            listen: self.listen.unwrap_or(config.listen),
            access_lifetime: self.access_lifetime.unwrap_or(config.access_lifetime),
            refresh_lifetime: self.refresh_lifetime.unwrap_or(config.refresh_lifetime),
            grace: self.grace.unwrap_or(config.grace),
            refresh_delay: self.refresh_delay.unwrap_or(config.refresh_delay),
            request_delay: self.request_delay.unwrap_or(config.request_delay),
            fault_every: self.fault_every.unwrap_or(config.fault_every),
            fault: self.fault.map_or(config.fault, Fault::from),
        }
    }
}

impl From<FaultName> for Fault {
    fn from(name: FaultName) -> Self {
        match name {
            FaultName::Busy => Self::Busy,
            FaultName::Error => Self::Error,
            FaultName::Lost => Self::Lost,
            FaultName::Refused => Self::Refused,
            FaultName::Nonsense => Self::Nonsense,
        }
    }
}

/// What to put into a configuration. All of its secrets are published constants.
fn how_to_use(address: SocketAddr) -> String {
    format!(
        "\
# A partner to try things against listens on {address}. To use it, put this into a configuration
# file that has no [sandbox], and close the file to others (chmod 640), as for any that holds secrets:

[[partner]]
name = \"trial\"
base_url = \"http://{address}\"
partner_code = \"{code}\"
encryption_key = \"{key}\"
refresh_token = \"{seed}\"

[partner.login]
username = \"{username}\"
password = \"{password}\"
client_id = \"{client_id}\"
client_secret = \"{client_secret}\"

# Its secrets are published. To watch how bearerd copes:
#     curl -X POST http://{address}/sandbox/revoke     makes every access token worthless
#     curl http://{address}/sandbox/stats              counts calls
",
        code = sandbox::PARTNER_CODE,
        key = sandbox::ENCRYPTION_KEY,
        seed = sandbox::seed().expose(),
        username = sandbox::USERNAME,
        password = sandbox::PASSWORD,
        client_id = sandbox::CLIENT_ID,
        client_secret = sandbox::CLIENT_SECRET,
    )
}

fn address(text: &str) -> Result<SocketAddr, &'static str> {
    const EXPECTED: &str = "expected a loopback address and a port, such as 127.0.0.1:9400";
    let address: SocketAddr = text.parse().map_err(|_| EXPECTED)?;
    // Anybody who can reach it can make it say anything.
    if address.ip().to_canonical().is_loopback() { Ok(address) } else { Err(EXPECTED) }
}

fn time(text: &str) -> Result<Duration, &'static str> {
    humantime::parse_duration(text).map_err(|_| "expected a time such as 30s or 1m 30s")
}

fn lifetime(text: &str) -> Result<Duration, &'static str> {
    const LONGEST: Duration = Duration::from_secs(365 * 24 * 3600);
    let range = Duration::from_secs(1)..=LONGEST;
    time(text)
        .and_then(|time| if range.contains(&time) { Ok(time) } else { Err("expected between 1s and 1y") })
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn what_is_printed_is_a_configuration_that_works() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(how_to_use(([127, 0, 0, 1], 9400).into()).as_bytes()).unwrap();
        file.as_file().set_permissions(std::fs::Permissions::from_mode(0o600)).unwrap();
        let config = Config::load(file.path()).unwrap();
        assert_eq!(config.partners.len(), 1);
        assert!(config.partners[0].seed.is_some() && config.partners[0].endpoint.login.is_some());
    }

    #[test]
    fn options_go_before_the_configuration() {
        let options = Options {
            access_lifetime: Some(Duration::from_secs(5)),
            fault: Some(FaultName::Lost),
            ..Options::default()
        };
        let config = options.over(sandbox::Config::default());
        let expected = sandbox::Config {
            access_lifetime: Duration::from_secs(5),
            fault: Fault::Lost,
            ..sandbox::Config::default()
        };
        assert_eq!(config, expected);
    }

    #[test]
    fn only_this_machine_reaches_it() {
        for good in ["127.0.0.1:0", "127.8.9.1:9400", "[::1]:9400"] {
            assert!(address(good).is_ok(), "{good}");
        }
        for bad in ["0.0.0.0:9400", "10.0.0.1:9400", "[::]:1", "127.0.0.1", "9400", "example.com:80"] {
            assert!(address(bad).is_err(), "{bad}");
        }
    }
}
