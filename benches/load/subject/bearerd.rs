//! bearerd, as it comes but for its limits.

use std::io;
use std::net::SocketAddr;
use std::process::Command;

use super::{AUTHORITY, Launch, Setting, Started, free_addr};
use crate::backend::PARTNER_CODE;

/// What lets the admin side change something.
pub(crate) const ADMIN_TOKEN: &str = "bench-admin-token";

/// What differs from one workload to the next.
pub(crate) struct Wants {
    pub(crate) admin: SocketAddr,
    /// With more than one, each has its own hosts and partner code.
    pub(crate) partners: usize,
}

/// Starts it; it may not listen yet.
pub(crate) fn start(setting: &Setting<'_>, wants: &Wants) -> io::Result<Started> {
    let addr = free_addr()?;
    let mut command = command();
    command.args(["run", "--config"]);
    let config = config(addr, setting, wants);
    Launch { command, config, authority: setting.authority, cores: setting.cores }.start(addr)
}

pub(super) fn command() -> Command {
    Command::new(env!("CARGO_BIN_EXE_bearerd"))
}

fn config(addr: SocketAddr, setting: &Setting<'_>, wants: &Wants) -> String {
    let admin = wants.admin;
    let mut config = format!(
        r#"
[server]
listen = "{addr}"
threads = 1
max_in_flight = 20000
idle_timeout = "10m"
[admin]
listen = "{admin}"
token = "{ADMIN_TOKEN}"
[log]
access = "off"
[store]
path = "state"
"#
    );
    let (url, key) = (setting.url(), "5a".repeat(32));
    for number in 0..wants.partners {
        let code = if wants.partners == 1 { PARTNER_CODE.to_owned() } else { format!("P{number}") };
        config.push_str(&format!(
            r#"
[[partner]]
name = "p{number}"
base_url = "{url}"
partner_code = "{code}"
encryption_key = "{key}"
refresh_token = "seed-{number}"
"#
        ));
        if wants.partners > 1 {
            config.push_str(&format!("hosts = [\"p{number}.example\"]\n"));
        }
        if setting.authority.is_some() {
            config.push_str(&format!("ca_file = \"{AUTHORITY}\"\n"));
        }
    }
    config
}
