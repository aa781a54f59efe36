//! What is measured: bearerd, its peers, and nothing at all in between.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use tempfile::TempDir;

use super::backend::{CHECK_PATH, PARTNER_CODE, access_token};
use super::process::{self, Running, Used};
use super::wire::{Got, Message};
use super::workload::request;

/// How long a subject may take until it answers.
const START: Duration = Duration::from_secs(10);

/// Something that carries requests to the backend.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Subject {
    /// The generator speaks with the backend: what no gateway can be faster than.
    Direct,
    /// The program that this crate builds.
    Bearerd,
    /// nginx, which does the same work.
    Nginx,
}

impl Subject {
    const ALL: [Self; 3] = [Self::Direct, Self::Bearerd, Self::Nginx];

    /// Those that can be had here; says which cannot.
    pub(crate) fn available() -> Vec<Self> {
        Self::ALL
            .into_iter()
            .filter(|subject| {
                let there = subject.program().is_none_or(is_on_path);
                if !there {
                    eprintln!("load: {} is left out: there is no such command", subject.name());
                }
                there
            })
            .collect()
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::Bearerd => "bearerd",
            Self::Nginx => "nginx",
        }
    }

    fn program(self) -> Option<&'static str> {
        match self {
            Self::Direct => None,
            Self::Bearerd => Some(env!("CARGO_BIN_EXE_bearerd")),
            Self::Nginx => Some("nginx"),
        }
    }

    /// Starts it on `core`, in front of `backend`, and sees to it that it does its work.
    pub(crate) fn start(self, backend: SocketAddr, core: usize, back_to: usize) -> io::Result<Started> {
        let Some(program) = self.program() else {
            return Ok(Started { addr: backend, process: None });
        };
        let dir = TempDir::new()?;
        let addr = free_addr()?;
        let (config, arguments): (String, &[&str]) = match self {
            Self::Nginx => (nginx_config(addr, backend), &["-p", ".", "-e", "stderr", "-c"]),
            _ => (bearerd_config(addr, backend)?, &["run", "--config"]),
        };
        let path = dir.path().join("config");
        write_private(&path, &config)?;
        let log = File::create(dir.path().join("log"))?;
        let mut command = Command::new(program);
        command.args(arguments).arg(&path).current_dir(dir.path());
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        // A child runs where its parent did when it was made.
        process::pin(core)?;
        let child = command.spawn();
        process::pin(back_to)?;
        let mut started = Started { addr, process: Some((Running::new(child?), dir)) };
        started.check().inspect_err(|_| started.show_log())?;
        Ok(started)
    }
}

/// A subject that runs; ended when dropped.
pub(crate) struct Started {
    pub(crate) addr: SocketAddr,
    process: Option<(Running, TempDir)>,
}

impl Started {
    /// What its processes have used until now; none where there is none.
    pub(crate) fn used(&self) -> io::Result<Option<Used>> {
        self.process.as_ref().map(|(running, _)| Used::by(&running.pids())).transpose()
    }

    /// The memory that its processes have resident, in bytes.
    pub(crate) fn resident(&self) -> io::Result<Option<u64>> {
        self.process.as_ref().map(|(running, _)| process::resident(&running.pids())).transpose()
    }

    /// Waits until a request comes back with 200, which the backend gives only if token and partner
    /// code are on it.
    fn check(&mut self) -> io::Result<()> {
        let mut last = io::Error::from(io::ErrorKind::TimedOut);
        for _ in 0..START.as_millis() / 20 {
            if self.process.as_mut().is_some_and(|(running, _)| running.has_ended()) {
                return Err(io::Error::other("it has ended by itself"));
            }
            match ask(self.addr) {
                Ok(head) if head.starts_with(b"HTTP/1.1 200 ") => return Ok(()),
                Ok(head) => last = io::Error::other(String::from_utf8_lossy(&head).into_owned()),
                Err(error) => last = error,
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Err(last)
    }

    fn show_log(&self) {
        if let Some((_, dir)) = &self.process
            && let Ok(log) = std::fs::read_to_string(dir.path().join("log"))
        {
            eprint!("{log}");
        }
    }
}

/// One request on a connection of its own; the head of the answer.
fn ask(addr: SocketAddr) -> io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect_timeout(&addr, START)?;
    stream.set_read_timeout(Some(START))?;
    stream.write_all(&request(CHECK_PATH, 0))?;
    let mut message = Message::default();
    match message.read(&stream, &mut [0; 4096])? {
        Got::Whole => Ok(message.head().to_vec()),
        Got::Part | Got::End => Err(io::ErrorKind::UnexpectedEof.into()),
    }
}

fn is_on_path(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    Path::new(program).is_file() || std::env::split_paths(&path).any(|dir| dir.join(program).is_file())
}

fn free_addr() -> io::Result<SocketAddr> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()
}

/// bearerd refuses a file that holds secrets and that others may read.
fn write_private(path: &Path, text: &str) -> io::Result<()> {
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?.write_all(text.as_bytes())
}

fn bearerd_config(addr: SocketAddr, backend: SocketAddr) -> io::Result<String> {
    let admin = free_addr()?;
    let key = "5a".repeat(32);
    Ok(format!(
        r#"
[server]
listen = "{addr}"
threads = 1
[admin]
listen = "{admin}"
[log]
access = "off"
[store]
path = "state"
[[partner]]
name = "bench"
base_url = "http://{backend}"
partner_code = "{PARTNER_CODE}"
encryption_key = "{key}"
refresh_token = "seed"
"#
    ))
}

/// The same work: both fields set, whatever the client sent, and connections kept on both sides.
fn nginx_config(addr: SocketAddr, backend: SocketAddr) -> String {
    let token = access_token();
    format!(
        r#"
daemon off;
worker_processes 1;
pid nginx.pid;
events {{ worker_connections 8192; }}
http {{
    access_log off;
    client_body_temp_path client_body;
    proxy_temp_path proxy;
    fastcgi_temp_path fastcgi;
    uwsgi_temp_path uwsgi;
    scgi_temp_path scgi;
    keepalive_requests 1000000000;
    client_max_body_size 0;
    client_body_buffer_size 128k;
    upstream backend {{
        server {backend};
        keepalive 1024;
        keepalive_requests 1000000000;
    }}
    server {{
        listen {addr} backlog=1024;
        location / {{
            proxy_pass http://backend;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_set_header Authorization "Bearer {token}";
            proxy_set_header Partner-Code "{PARTNER_CODE}";
        }}
    }}
}}
"#
    )
}
