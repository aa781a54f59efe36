//! The machine: its clock, its cores, and what a reader of the results must know of it.

use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::process::Command;
use std::time::{Duration, Instant, SystemTime};

use rustix::event::epoll;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

#[expect(clippy::disallowed_methods, reason = "a benchmark measures the time that passes")]
pub(crate) fn now() -> Instant {
    Instant::now()
}

/// Which core is whose.
#[derive(Clone, Copy)]
pub(crate) struct Cores {
    /// What is measured runs here, alone.
    pub(crate) gateway: usize,
    /// The load and the backend run here.
    pub(crate) load: usize,
    /// How many there are.
    count: usize,
}

impl Cores {
    /// The first and the last that this process may use.
    pub(crate) fn find() -> io::Result<Self> {
        let all = sched_getaffinity(None)?;
        let cores: Vec<usize> = (0..CpuSet::MAX_CPU).filter(|&core| all.is_set(core)).collect();
        let (Some(&gateway), Some(&load)) = (cores.first(), cores.last()) else {
            return Err(io::Error::other("no core to run on"));
        };
        Ok(Self { gateway, load, count: cores.len() })
    }
}

/// From now on this thread, and what it starts, runs on `core` only.
pub(crate) fn pin(core: usize) -> io::Result<()> {
    let mut one = CpuSet::new();
    one.set(core);
    Ok(sched_setaffinity(None, &one)?)
}

/// Waits for what `epoll` tells of, at most so long. `events` is room for it.
pub(crate) fn wait(epoll: &OwnedFd, events: &mut Vec<epoll::Event>, time: Duration) -> io::Result<()> {
    events.clear();
    let time = time.try_into().map_err(io::Error::other)?;
    match epoll::wait(epoll, rustix::buffer::spare_capacity(events), Some(&time)) {
        Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Of all that is started from now on, as `deploy/bearerd.service` has it; or as many as are allowed.
const DESCRIPTORS: u64 = 65_536;

/// Raises the limit of descriptors.
pub(crate) fn raise_descriptors() {
    let allowed = getrlimit(Resource::Nofile).maximum;
    let wanted = Rlimit { current: Some(DESCRIPTORS), maximum: allowed.map(|most| most.max(DESCRIPTORS)) };
    if setrlimit(Resource::Nofile, wanted).is_err() {
        let _as_before = setrlimit(Resource::Nofile, Rlimit { current: allowed, maximum: allowed });
    }
}

/// Where and when results were measured, and on which commit.
pub(crate) fn describe(cores: Cores) -> String {
    let cores = cores.count;
    let kernel = read_line("/proc/sys/kernel/osrelease", "");
    let model = read_line("/proc/cpuinfo", "model name");
    let descriptors = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    let (commit, date) = (commit(), date());
    format!("commit {commit}, {date}, {model}, {cores} cores, {descriptors} descriptors, Linux {kernel}")
}

/// What follows `name` and a colon in the file; the first line if the name is empty.
fn read_line(path: &str, name: &str) -> String {
    let text = fs::read_to_string(path).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix(name)).unwrap_or("unknown");
    line.trim_start_matches([':', ' ', '\t']).to_owned()
}

fn commit() -> String {
    let git = |arguments: &[&str]| {
        let output = Command::new("git").args(arguments).output().ok()?;
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    let Some(head) = git(&["rev-parse", "--short=12", "HEAD"]) else { return "unknown".to_owned() };
    match git(&["status", "--porcelain", "--", "src", "benches", "Cargo.toml", "Cargo.lock"]).as_deref() {
        Some("") => head,
        _ => format!("{head} and changes to it"),
    }
}

#[expect(clippy::disallowed_methods, reason = "the date at which it was measured")]
fn date() -> String {
    let now = humantime::format_rfc3339_seconds(SystemTime::now()).to_string();
    now.split('T').next().unwrap_or_default().to_owned()
}
