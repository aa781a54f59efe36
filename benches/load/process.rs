//! Processes: where they run, what they have used, and their end.

use std::fs;
use std::io;
use std::process::Child;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// How long a child may take to end when it is asked to.
const FAREWELL: Duration = Duration::from_secs(5);

/// The cores that this process may run on.
pub(crate) fn cores() -> io::Result<Vec<usize>> {
    let all = sched_getaffinity(None)?;
    Ok((0..CpuSet::MAX_CPU).filter(|&core| all.is_set(core)).collect())
}

/// From now on this thread, and what it starts, runs on `core` only.
pub(crate) fn pin(core: usize) -> io::Result<()> {
    let mut one = CpuSet::new();
    one.set(core);
    Ok(sched_setaffinity(None, &one)?)
}

/// What processes have used until now.
#[derive(Clone, Copy, Default)]
pub(crate) struct Used {
    pub(crate) user: Duration,
    pub(crate) system: Duration,
}

impl Used {
    /// The processes together.
    pub(crate) fn by(pids: &[u32]) -> io::Result<Self> {
        let mut all = Self::default();
        for pid in pids {
            let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
            // The second field is a name in parentheses, which may hold anything; utime and stime
            // are the fields 14 and 15.
            let after = stat.rsplit_once(')').map_or("", |(_, after)| after);
            let mut ticks = after.split_ascii_whitespace().skip(11).map(|field| {
                let ticks = field.parse::<u32>().unwrap_or_default();
                Duration::from_secs(1) * ticks / rustix::param::clock_ticks_per_second() as u32
            });
            all.user += ticks.next().unwrap_or_default();
            all.system += ticks.next().unwrap_or_default();
        }
        Ok(all)
    }

    pub(crate) fn since(self, earlier: Self) -> Self {
        Self { user: self.user - earlier.user, system: self.system - earlier.system }
    }
}

/// The memory that the processes have resident, in bytes. What they share counts for each.
pub(crate) fn resident(pids: &[u32]) -> io::Result<u64> {
    let mut all = 0;
    for pid in pids {
        let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or_default();
        let kib = line.trim().trim_end_matches(" kB").parse::<u64>();
        all += kib.map_err(io::Error::other)? * 1024;
    }
    Ok(all)
}

/// A child process and its own children; ended when dropped.
pub(crate) struct Running {
    child: Child,
}

impl Running {
    pub(crate) fn new(child: Child) -> Self {
        Self { child }
    }

    /// Whether it has ended by itself.
    pub(crate) fn has_ended(&mut self) -> bool {
        !matches!(self.child.try_wait(), Ok(None))
    }

    /// It and its children, as they are now.
    pub(crate) fn pids(&self) -> Vec<u32> {
        let pid = self.child.id();
        let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
        std::iter::once(pid).chain(children.split_ascii_whitespace().filter_map(|c| c.parse().ok())).collect()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if !self.has_ended()
            && let Some(pid) = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw)
        {
            let _ = kill_process(pid, Signal::TERM);
        }
        for _ in 0..FAREWELL.as_millis() / 10 {
            if self.has_ended() {
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
