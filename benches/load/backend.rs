//! The partner: cheap and constant, one thread over raw sockets.

use std::io::{self, ErrorKind};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use bearerd::partner::REFRESH_PATH;
use rustix::event::epoll;
use socket2::{Domain, Socket, Type};

use super::wire::{self, Got, Message};

/// What every answer but those to bearerd's own calls holds.
const ANSWER: &str = r#"{"id":"0b5f6a7c-3f0e-4b9e-9d55-1d6a3f1f6a11","status":"active"}"#;
const WRONG: &[u8] = b"HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\n\r\n";

/// The path on which it is looked whether the request carries what a gateway must set.
pub(crate) const CHECK_PATH: &str = "/check";
/// The value of `Partner-Code`.
pub(crate) const PARTNER_CODE: &str = "BENCH";

/// How many connections it takes at most.
const MAX_CONNECTIONS: usize = 4096;
const LISTENER: u64 = u64::MAX;

/// The access token that it gives and expects: 1 KiB.
pub(crate) fn access_token() -> String {
    "bench-access-token_".chars().cycle().take(1024).collect()
}

/// The running partner; ends when dropped.
pub(crate) struct Backend {
    addr: SocketAddr,
    ended: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Backend {
    /// Its thread runs where the calling one may run.
    pub(crate) fn start() -> io::Result<Self> {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
        socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into())?;
        socket.listen(1024)?;
        let listener = TcpListener::from(socket);
        listener.set_nonblocking(true)?;
        let addr = listener.local_addr()?;
        let ended = Arc::new(AtomicBool::new(false));
        let mut server = Server::new(listener)?;
        let seen = Arc::clone(&ended);
        let run = move || {
            let mut events = Vec::with_capacity(1024);
            while !seen.load(Ordering::Relaxed) {
                if let Err(error) = server.turn(&mut events) {
                    eprintln!("load: the backend has ended: {error}");
                    return;
                }
            }
        };
        Ok(Self { addr, ended, thread: Some(std::thread::spawn(run)) })
    }

    pub(crate) fn addr(&self) -> SocketAddr {
        self.addr
    }
}

impl Drop for Backend {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

struct Server {
    epoll: std::os::fd::OwnedFd,
    listener: TcpListener,
    connections: Vec<Option<(TcpStream, Message)>>,
    free: Vec<usize>,
    scratch: Vec<u8>,
    answer: Vec<u8>,
    token_set: Vec<u8>,
    expected: Vec<u8>,
}

impl Server {
    fn new(listener: TcpListener) -> io::Result<Self> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        epoll::add(&epoll, &listener, epoll::EventData::new_u64(LISTENER), epoll::EventFlags::IN)?;
        let token = access_token();
        let body = format!(
            r#"{{"access_token":"{token}","refresh_token":"next","token_type":"Bearer","expires_in":86400}}"#
        );
        Ok(Self {
            epoll,
            listener,
            connections: Vec::new(),
            free: Vec::new(),
            scratch: vec![0; 256 * 1024],
            answer: json(ANSWER),
            token_set: json(&body),
            expected: format!(": Bearer {token}\r\n").into(),
        })
    }

    fn turn(&mut self, events: &mut Vec<epoll::Event>) -> io::Result<()> {
        events.clear();
        let timeout = Duration::from_millis(100).try_into().map_err(io::Error::other)?;
        match epoll::wait(&self.epoll, rustix::buffer::spare_capacity(events), Some(&timeout)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        for event in events {
            match event.data.u64() {
                LISTENER => self.accept()?,
                at => self.serve(at as usize),
            }
        }
        Ok(())
    }

    fn accept(&mut self) -> io::Result<()> {
        loop {
            let stream = match self.listener.accept() {
                Ok((stream, _)) => stream,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == ErrorKind::ConnectionAborted => continue,
                Err(error) => return Err(error),
            };
            stream.set_nonblocking(true)?;
            stream.set_nodelay(true)?;
            let at = self.free.pop().unwrap_or_else(|| {
                self.connections.push(None);
                self.connections.len() - 1
            });
            if at < MAX_CONNECTIONS {
                epoll::add(
                    &self.epoll,
                    &stream,
                    epoll::EventData::new_u64(at as u64),
                    epoll::EventFlags::IN,
                )?;
                self.connections[at] = Some((stream, Message::default()));
            }
        }
    }

    /// Answers the request that has come, if it is whole. What went wrong closes the connection.
    fn serve(&mut self, at: usize) {
        let Some((stream, message)) = &mut self.connections[at] else { return };
        let stays = match message.read(&mut *stream, &mut self.scratch) {
            Ok(Got::Part) => true,
            Ok(Got::Whole) => {
                let head = message.head();
                let path = head.split(|&byte| byte == b' ').nth(1).unwrap_or_default();
                let answer = if path == REFRESH_PATH.as_bytes() {
                    &self.token_set
                } else if path == CHECK_PATH.as_bytes() && !is_complete(head, &self.expected) {
                    WRONG
                } else {
                    &self.answer
                };
                // It is small, and the one before it has been read.
                matches!(wire::write(&mut *stream, answer, 0), Ok(sent) if sent == answer.len())
            }
            Ok(Got::End) | Err(_) => false,
        };
        if !stays {
            self.connections[at] = None;
            self.free.push(at);
        }
    }
}

fn json(body: &str) -> Vec<u8> {
    let length = body.len();
    format!("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}")
        .into()
}

/// Whether a request carries the token and the partner code, once each.
fn is_complete(head: &[u8], token: &[u8]) -> bool {
    let head = String::from_utf8_lossy(head);
    let token = String::from_utf8_lossy(token);
    let code = format!("partner-code: {PARTNER_CODE}\r\n").to_ascii_lowercase();
    head.matches(&*token).count() == 1 && head.to_ascii_lowercase().matches(&code).count() == 1
}
