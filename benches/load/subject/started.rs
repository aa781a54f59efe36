//! A subject's process.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use super::AUTHORITY;
use crate::backend::CHECK_PATH;
use crate::h2load;
use crate::machine::{Cores, now, pin};
use crate::process::{Running, Used};
use crate::wire::{Got, Message};
use crate::workload::request;

/// Envoy goes by how the name ends.
const CONFIG: &str = "config.yaml";
/// How long a subject may take until it answers.
const START: Duration = Duration::from_secs(10);
/// What a client sends that thinks it has credentials of its own.
const OTHERS: [&str; 2] = ["Authorization: Bearer of-the-client", "Partner-Code: OF-THE-CLIENT"];

/// How a subject is started.
pub(crate) struct Launch<'a> {
    /// The path of the configuration is its last argument.
    pub(crate) command: Command,
    pub(crate) config: String,
    pub(crate) authority: Option<&'a str>,
    pub(crate) cores: Cores,
}

impl Launch<'_> {
    /// Starts it in a directory of its own. It listens on `addr`, or will.
    pub(crate) fn start(mut self, addr: SocketAddr) -> io::Result<Started> {
        let dir = TempDir::new()?;
        let path = dir.path().join(CONFIG);
        write_private(&path, &self.config)?;
        if let Some(authority) = self.authority {
            write_private(&dir.path().join(AUTHORITY), authority)?;
        }
        self.command.arg(&path).current_dir(dir.path()).stdin(Stdio::null());
        let running = spawn(&mut self.command, &dir, self.cores)?;
        Ok(Started { addr, process: Some((running, dir)), command: Some((self.command, self.cores)) })
    }
}

fn spawn(command: &mut Command, dir: &TempDir, cores: Cores) -> io::Result<Running> {
    let log = File::create(dir.path().join("log"))?;
    command.stdout(log.try_clone()?).stderr(log);
    // A child runs where its parent did when it was made.
    pin(cores.gateway)?;
    let child = command.spawn();
    pin(cores.load)?;
    Ok(Running::new(child?))
}

/// A subject that runs; ended when dropped.
pub(crate) struct Started {
    pub(crate) addr: SocketAddr,
    process: Option<(Running, TempDir)>,
    /// How it was started, and on which cores.
    command: Option<(Command, Cores)>,
}

impl Started {
    /// There is none: `addr` is the backend's.
    pub(super) fn nothing(addr: SocketAddr) -> Self {
        Self { addr, process: None, command: None }
    }

    /// Ends it, and starts it again in the same directory; says when.
    pub(crate) fn restart(self) -> io::Result<(Instant, Self)> {
        let (Some((running, dir)), Some((mut command, cores))) = (self.process, self.command) else {
            return Err(io::Error::other("there is no process"));
        };
        drop(running);
        let begun = now();
        let running = spawn(&mut command, &dir, cores)?;
        let process = Some((running, dir));
        Ok((begun, Self { addr: self.addr, process, command: Some((command, cores)) }))
    }

    /// Its process; none where there is none.
    pub(crate) fn process(&self) -> Option<&Running> {
        self.process.as_ref().map(|(running, _)| running)
    }

    /// What its processes have used until now.
    pub(crate) fn used(&self) -> io::Result<Option<Used>> {
        self.process().map(Running::used).transpose()
    }

    /// The memory that its processes have resident, in bytes.
    pub(crate) fn resident(&self) -> io::Result<u64> {
        self.process().map_or(Ok(0), Running::resident)
    }

    /// Waits until a request comes back with 200, which the backend gives only if token and partner
    /// code are on it, and nothing else in their places.
    pub(crate) fn check(&mut self, http2: bool) -> io::Result<()> {
        let addr = self.addr;
        if self.process.is_none() {
            return Ok(());
        }
        self.wait(START, Duration::from_millis(20), || match http2 {
            true => h2load::one(addr, CHECK_PATH, &OTHERS),
            false => match ask(addr, &request(CHECK_PATH, &OTHERS, 0))?.0 {
                head if head.starts_with("HTTP/1.1 200 ") => Ok(()),
                head => Err(io::Error::other(head.lines().next().unwrap_or_default())),
            },
        })
    }

    /// Waits, at most as long as is given, until `done` is; asks as often as is given.
    pub(crate) fn wait(
        &mut self,
        longest: Duration,
        each: Duration,
        mut done: impl FnMut() -> io::Result<()>,
    ) -> io::Result<()> {
        let end = crate::machine::now() + longest;
        loop {
            if self.process.as_mut().is_some_and(|(running, _)| running.has_ended()) {
                return Err(self.failed("it has ended by itself"));
            }
            match done() {
                Ok(()) => return Ok(()),
                Err(error) if crate::machine::now() > end => return Err(self.failed(&error.to_string())),
                Err(_) => std::thread::sleep(each),
            }
        }
    }

    /// An error that ends with what the subject has last said.
    fn failed(&self, what: &str) -> io::Error {
        let log = self.process.as_ref().map(|(_, dir)| std::fs::read_to_string(dir.path().join("log")));
        let log = log.and_then(Result::ok).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        let last = &lines[lines.len().saturating_sub(3)..];
        io::Error::other(format!("{}\n{}", what.trim_end(), last.join("\n")).trim_end().to_owned())
    }
}

/// One request on a connection of its own; the head of the answer, and how long its body is.
pub(crate) fn ask(addr: SocketAddr, request: &[u8]) -> io::Result<(String, u64)> {
    let stream = TcpStream::connect_timeout(&addr, START)?;
    stream.set_read_timeout(Some(START))?;
    (&stream).write_all(request)?;
    let message = message(&stream)?;
    Ok((String::from_utf8_lossy(message.head()).into_owned(), message.body_len()))
}

/// The message that comes on a connection which blocks.
pub(crate) fn message(stream: &TcpStream) -> io::Result<Message> {
    let mut message = Message::default();
    match message.read(stream, &mut [0; 4096])? {
        Got::Whole => Ok(message),
        Got::Part | Got::End => Err(io::ErrorKind::UnexpectedEof.into()),
    }
}

/// bearerd refuses a file that holds secrets and that others may read.
fn write_private(path: &Path, text: &str) -> io::Result<()> {
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?.write_all(text.as_bytes())
}
