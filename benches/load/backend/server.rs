//! Its sockets.

use std::io::{self, ErrorKind};
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use rustix::event::epoll::{self, EventData, EventFlags};
use tokio_rustls::rustls::ServerConfig;

use super::answers::{Answers, Reply};
use crate::socket::Socket;
use crate::wire::{self, Got, Message};

/// How many connections it takes at most.
const MAX_CONNECTIONS: usize = 16_384;
const LISTENER: u64 = u64::MAX;

pub(crate) struct Server {
    epoll: Arc<OwnedFd>,
    listener: TcpListener,
    tls: Option<Arc<ServerConfig>>,
    connections: Vec<Option<(Socket, Message)>>,
    free: Vec<usize>,
    scratch: Vec<u8>,
    answers: Answers,
}

impl Server {
    pub(super) fn new(
        listener: TcpListener,
        tls: Option<Arc<ServerConfig>>,
        answers: Answers,
    ) -> io::Result<Self> {
        listener.set_nonblocking(true)?;
        let epoll = Arc::new(epoll::create(epoll::CreateFlags::CLOEXEC)?);
        epoll::add(&epoll, &listener, EventData::new_u64(LISTENER), EventFlags::IN)?;
        Ok(Self {
            epoll,
            listener,
            tls,
            connections: Vec::new(),
            free: Vec::new(),
            scratch: vec![0; 256 * 1024],
            answers,
        })
    }

    /// Tells what has come; readable when something has.
    pub(crate) fn epoll(&self) -> &Arc<OwnedFd> {
        &self.epoll
    }

    /// How long nothing is due.
    pub(crate) fn wait(&self) -> Duration {
        self.answers.wait()
    }

    /// Serves what has come, and answers what was held back and is due.
    pub(crate) fn serve(&mut self, events: &[epoll::Event]) -> io::Result<()> {
        for event in events {
            match event.data.u64() {
                LISTENER => self.accept()?,
                at => self.answer(at as usize),
            }
        }
        for (at, answer) in self.answers.due() {
            if let Some((socket, _)) = &mut self.connections[at]
                && !send(socket, &answer)
            {
                self.close(at);
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
            let at = self.free.pop().unwrap_or_else(|| {
                self.connections.push(None);
                self.connections.len() - 1
            });
            self.answers.connected();
            if at < MAX_CONNECTIONS {
                let socket = Socket::accepted(stream, self.tls.as_ref())?;
                epoll::add(&self.epoll, socket.tcp(), EventData::new_u64(at as u64), EventFlags::IN)?;
                self.connections[at] = Some((socket, Message::default()));
            }
        }
    }

    /// Answers the request that has come, if it is whole. What went wrong closes the connection.
    fn answer(&mut self, at: usize) {
        let Some((socket, message)) = &mut self.connections[at] else { return };
        let stays = match message.read(&mut *socket, &mut self.scratch) {
            Ok(Got::Part) => true,
            Ok(Got::Whole) => match self.answers.to(message, at) {
                Reply::Now(answer) => send(socket, answer),
                Reply::Later => true,
            },
            Ok(Got::End) | Err(_) => false,
        };
        if !stays {
            self.close(at);
        }
    }

    fn close(&mut self, at: usize) {
        self.connections[at] = None;
        self.free.push(at);
    }
}

/// An answer is small, and the one before it has been read: it goes at once or never.
fn send(socket: &mut Socket, answer: &[u8]) -> bool {
    matches!(wire::write(socket, answer, 0), Ok(sent) if sent == answer.len())
}
