//! The log and traces.
//!
//! Lines go to standard output through a bounded queue and a thread of its own. A reader that
//! stalls costs lines, which are counted, and never a request.
//!
//! What always holds: libraries print what passes through them, headers and frames included, at
//! `debug` and `trace`. Therefore only bearerd's own lines follow the configured level below
//! `info`; those of every other crate end at `info`. A line is one line, whatever is in its fields.

mod access;
mod harden;
mod lines;
mod panics;
mod trace;

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::mpsc;
use std::time::Duration;

use tracing_appender::non_blocking::{ErrorCounter, NonBlocking, NonBlockingBuilder, WorkerGuard};

pub use self::access::{ACCESS_TARGET, AccessLine, access_line};
pub use self::harden::{harden, raise_descriptor_limit};
use self::lines::Settings;
pub use self::trace::{ExchangeSpan, Tracing, trace_id_of};

/// The section `[log]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// How a line looks.
    pub format: Format,
    /// The least severe level that is written, for bearerd itself; libraries are capped at `info`.
    /// The lines of [`access_line`] do not depend on it, only on `access`.
    pub level: tracing::Level,
    /// Which exchanges get a line.
    pub access: Access,
}

/// How a line of the log looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// One JSON object a line.
    Json,
    /// For people.
    Text,
}

/// Which exchanges get a line in the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// None.
    Off,
    /// Those that ended in a status of 400 or above, or broke off.
    Errors,
    /// Every one.
    All,
}

impl Access {
    /// Whether an exchange that ended in `status`, or broke off if that is 0, gets a line.
    pub fn wants(self, status: u16) -> bool {
        match self {
            Self::Off => false,
            Self::Errors => status == 0 || status >= 400,
            Self::All => true,
        }
    }
}

/// Starts the log and takes over the report of panics. To be called once, and before any thread
/// that logs.
///
/// If the program that embeds bearerd has set a subscriber of its own, lines go there and this
/// configuration has no effect on them, but for `access`.
pub fn init(config: &Config) -> Guard {
    let guard = Guard::new(config, io::stdout());
    let lines = lines::subscriber(Arc::clone(&guard.handle.settings), guard.writer.clone());
    let _ = tracing::subscriber::set_global_default(lines);
    panics::report_to_log();
    guard
}

/// Which exchanges get a line, as last configured.
pub fn access() -> Access {
    match ACCESS.load(Ordering::Relaxed) {
        0 => Access::Off,
        1 => Access::Errors,
        _ => Access::All,
    }
}

/// Process-wide, because every runtime asks for every exchange. As [`Access`] counts.
static ACCESS: AtomicU8 = AtomicU8::new(Access::Errors as u8);

/// Writes out what is still queued when it is dropped, but waits no longer than two seconds for a
/// reader that has stalled.
#[derive(Debug)]
#[must_use = "the log ends when this is dropped"]
pub struct Guard {
    handle: Handle,
    writer: NonBlocking,
    worker: Option<WorkerGuard>,
}

impl Guard {
    /// How many lines may wait for the reader: some megabytes at most.
    const QUEUED_LINES: usize = 8192;

    fn new(config: &Config, to: impl io::Write + Send + 'static) -> Self {
        let (writer, worker) = NonBlockingBuilder::default()
            .lossy(true)
            .buffered_lines_limit(Self::QUEUED_LINES)
            .thread_name("log")
            // The worker flushes whenever its queue is empty.
            .finish(io::BufWriter::with_capacity(64 * 1024, to));
        let handle = Handle { settings: Arc::default(), dropped: writer.error_counter() };
        handle.apply(config);
        Self { handle, writer, worker: Some(worker) }
    }

    /// A handle on the running log.
    pub fn handle(&self) -> Handle {
        self.handle.clone()
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        // The worker's own guard prints to standard output if its queue is full, which would wait
        // for the stalled reader without end. So that happens on a thread that the exit need not
        // wait for.
        let worker = self.worker.take();
        let (done, ended) = mpsc::sync_channel(1);
        let flush = move || {
            drop(worker);
            let _ = done.send(());
        };
        if std::thread::Builder::new().name("log-flush".into()).spawn(flush).is_ok() {
            let _ = ended.recv_timeout(Duration::from_secs(2));
        }
    }
}

/// Changes and watches the running log.
#[derive(Debug, Clone)]
pub struct Handle {
    settings: Arc<Settings>,
    dropped: ErrorCounter,
}

impl Handle {
    /// Takes over all of `config`.
    pub fn apply(&self, config: &Config) {
        self.settings.set_json(config.format == Format::Json);
        self.set_level(config.level);
        ACCESS.store(config.access as u8, Ordering::Relaxed);
    }

    /// From now on `level` is the least severe one that is written.
    pub fn set_level(&self, level: tracing::Level) {
        self.settings.set_level(level);
    }

    /// How many lines were dropped because the reader of standard output was too slow.
    pub fn dropped_lines(&self) -> u64 {
        self.dropped.dropped_lines() as u64
    }
}

#[cfg(test)]
mod tests;
