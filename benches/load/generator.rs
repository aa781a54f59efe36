//! The load: one thread over raw sockets, in a closed loop or at a fixed rate.
//!
//! While it runs it serves the partner as well, and never sleeps. The two share a core: a scheduler
//! between them would give it to one for milliseconds while the other has work, which is then found in
//! latencies. And whoever sends to one that sleeps pays for waking it, which on loopback is the gateway,
//! and elsewhere is not.

use std::collections::VecDeque;
use std::io::{self, ErrorKind};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::event::epoll::{self, EventData, EventFlags};

use super::backend::{Backend, Server};
use super::machine::{now, wait};
use super::wire::{self, Got, Message};

/// How long answers that are still out at the end of a run are waited for.
const GRACE: Duration = Duration::from_secs(5);

/// When requests are sent.
#[derive(Clone, Copy)]
pub(crate) enum Pace {
    /// On every connection as soon as the answer before it is there.
    Saturation,
    /// So many a second, whatever the answers do. Latency counts from the moment at which a request
    /// was to be sent, so that one slow answer does not hide the ones that it held up.
    Rate(u32),
}

/// What a run found.
#[derive(Default)]
pub(crate) struct Outcome {
    /// Answered with 200 while the run lasted.
    pub(crate) answered: u64,
    /// Anything else.
    pub(crate) failed: u64,
    pub(crate) took: Duration,
    /// In microseconds; at a fixed rate only.
    pub(crate) latencies: Vec<u32>,
}

impl Outcome {
    /// Answers a second.
    pub(crate) fn throughput(&self) -> f64 {
        self.answered as f64 / self.took.as_secs_f64()
    }
}

/// Connections that stay open from one run to the next.
pub(crate) struct Generator<'a> {
    epoll: OwnedFd,
    request: &'a [u8],
    backend: &'a Backend,
    connections: Vec<Connection>,
    idle: VecDeque<usize>,
    events: Vec<epoll::Event>,
    scratch: Vec<u8>,
}

struct Connection {
    stream: TcpStream,
    message: Message,
    sent: usize,
    /// Since when the answer is owed; none if none is.
    due: Option<Instant>,
    broken: bool,
}

impl<'a> Generator<'a> {
    /// To something in front of `backend`.
    pub(crate) fn connect(
        addr: SocketAddr,
        count: usize,
        request: &'a [u8],
        backend: &'a Backend,
    ) -> io::Result<Self> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let mut connections = Vec::with_capacity(count);
        for at in 0..count {
            let stream = TcpStream::connect_timeout(&addr, Duration::from_secs(5))?;
            stream.set_nonblocking(true)?;
            stream.set_nodelay(true)?;
            epoll::add(&epoll, &stream, EventData::new_u64(at as u64), EventFlags::IN)?;
            let message = Message::default();
            connections.push(Connection { stream, message, sent: 0, due: None, broken: false });
        }
        let (idle, events) = ((0..count).collect(), Vec::with_capacity(1024));
        Ok(Self { epoll, request, backend, connections, idle, events, scratch: vec![0; 64 * 1024] })
    }

    pub(crate) fn run(&mut self, pace: Pace, time: Duration) -> io::Result<Outcome> {
        let mut server = self.backend.take_over();
        let begun = now();
        let end = begun + time;
        let mut outcome = Outcome::default();
        let mut schedule = match pace {
            Pace::Saturation => None,
            Pace::Rate(rate) => {
                let period = Duration::from_secs(1) / rate.max(1);
                outcome.latencies.reserve((time.as_secs_f64() * f64::from(rate)) as usize + 1);
                Some((begun, period))
            }
        };
        loop {
            let at = now();
            if at >= end {
                break;
            }
            match &mut schedule {
                None => {
                    while let Some(connection) = self.idle.pop_front() {
                        self.send(connection, now(), &mut outcome)?;
                    }
                }
                Some((due, period)) => {
                    while *due <= at
                        && let Some(connection) = self.idle.pop_front()
                    {
                        self.send(connection, *due, &mut outcome)?;
                        *due += *period;
                    }
                }
            }
            self.turn(&mut server, schedule.is_some(), &mut outcome)?;
        }
        outcome.took = begun.elapsed();
        if let Some((due, period)) = schedule {
            // What was due and could not be sent is late by at least as much as it is now.
            let mut due = due;
            while due < end {
                outcome.latencies.push(micros(end - due));
                due += period;
            }
        }
        // Answers that come after the end are part of the latency, not of the throughput.
        let in_time = outcome.answered;
        self.drain(&mut server, schedule.is_some(), &mut outcome)?;
        outcome.answered = in_time;
        Ok(outcome)
    }

    /// One request on every connection, on at most `at_once` of them at the same time.
    pub(crate) fn each_once(&mut self, at_once: usize) -> io::Result<Outcome> {
        let mut server = self.backend.take_over();
        let begun = now();
        let mut outcome = Outcome::default();
        let mut unused: Vec<usize> = std::mem::take(&mut self.idle).into();
        while !unused.is_empty() {
            let batch = unused.split_off(unused.len().saturating_sub(at_once));
            for connection in batch {
                self.send(connection, now(), &mut outcome)?;
            }
            self.drain(&mut server, false, &mut outcome)?;
        }
        outcome.took = begun.elapsed();
        Ok(outcome)
    }

    /// Waits for the answers that are still out.
    fn drain(&mut self, server: &mut Server, latencies: bool, outcome: &mut Outcome) -> io::Result<()> {
        let end = now() + GRACE;
        while self.connections.iter().any(|connection| connection.due.is_some()) {
            if now() >= end {
                return Err(self.overdue());
            }
            self.turn(server, latencies, outcome)?;
        }
        Ok(())
    }

    fn overdue(&self) -> io::Error {
        let owed = self.connections.iter().filter(|connection| connection.due.is_some());
        let (whole, part): (Vec<_>, Vec<_>) = owed.partition(|c| c.sent == self.request.len());
        let (whole, part) = (whole.len(), part.len());
        let text = format!("{whole} answers did not come, and {part} requests could not be sent whole");
        io::Error::new(ErrorKind::TimedOut, text)
    }

    /// Takes what has come, here and at the partner, if anything has.
    fn turn(&mut self, server: &mut Server, latencies: bool, outcome: &mut Outcome) -> io::Result<()> {
        let mut events = std::mem::take(&mut self.events);
        wait(server.epoll(), &mut events, Duration::ZERO)?;
        server.serve(&events)?;
        wait(&self.epoll, &mut events, Duration::ZERO)?;
        for event in &events {
            let (at, flags) = (event.data.u64() as usize, event.flags);
            if flags.contains(EventFlags::OUT) {
                self.write(at, outcome)?;
            }
            if flags.intersects(EventFlags::IN | EventFlags::HUP | EventFlags::ERR) {
                self.read(at, latencies, outcome)?;
            }
        }
        self.events = events;
        Ok(())
    }

    fn send(&mut self, at: usize, due: Instant, outcome: &mut Outcome) -> io::Result<()> {
        let connection = &mut self.connections[at];
        connection.due = Some(due);
        connection.sent = 0;
        self.write(at, outcome)
    }

    fn write(&mut self, at: usize, outcome: &mut Outcome) -> io::Result<()> {
        let connection = &mut self.connections[at];
        if connection.broken || connection.due.is_none() {
            return Ok(());
        }
        let before = connection.sent;
        match wire::write(&connection.stream, self.request, before) {
            Ok(sent) => {
                connection.sent = sent;
                let whole = sent == self.request.len();
                // Only a request that did not go at once asks to be told when more would go.
                if !whole || before > 0 {
                    let flags = if whole { EventFlags::IN } else { EventFlags::IN | EventFlags::OUT };
                    epoll::modify(&self.epoll, &connection.stream, EventData::new_u64(at as u64), flags)?;
                }
                Ok(())
            }
            Err(_) => self.lose(at, outcome),
        }
    }

    fn read(&mut self, at: usize, latencies: bool, outcome: &mut Outcome) -> io::Result<()> {
        let connection = &mut self.connections[at];
        if connection.broken {
            return Ok(());
        }
        match connection.message.read(&connection.stream, &mut self.scratch) {
            Ok(Got::Part) => return Ok(()),
            Ok(Got::Whole) if connection.sent == self.request.len() => {}
            Ok(Got::Whole | Got::End) | Err(_) => return self.lose(at, outcome),
        }
        let Some(due) = connection.due.take() else { return self.lose(at, outcome) };
        if connection.message.head().starts_with(b"HTTP/1.1 200 ") {
            outcome.answered += 1;
        } else {
            outcome.failed += 1;
        }
        if latencies {
            outcome.latencies.push(micros(due.elapsed()));
        }
        self.idle.push_back(at);
        Ok(())
    }

    /// The connection is of no more use; the run goes on without it.
    fn lose(&mut self, at: usize, outcome: &mut Outcome) -> io::Result<()> {
        let connection = &mut self.connections[at];
        outcome.failed += 1;
        connection.broken = true;
        connection.due = None;
        self.idle.retain(|&idle| idle != at);
        epoll::delete(&self.epoll, &connection.stream)?;
        if self.connections.iter().all(|connection| connection.broken) {
            return Err(io::Error::new(ErrorKind::ConnectionReset, "every connection was closed"));
        }
        Ok(())
    }
}

fn micros(time: Duration) -> u32 {
    u32::try_from(time.as_micros()).unwrap_or(u32::MAX)
}
