//! Processes: what they have used, and their end.

use std::fs;
use std::io;
use std::process::Child;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

/// How long a child may take to end when it is asked to.
const FAREWELL: Duration = Duration::from_secs(5);

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

    /// What they have used until now.
    pub(crate) fn used(&self) -> io::Result<Used> {
        let mut all = Used::default();
        for pid in self.pids() {
            all.add(pid)?;
        }
        Ok(all)
    }

    /// The memory that they have resident, in bytes. What they share counts for each.
    pub(crate) fn resident(&self) -> io::Result<u64> {
        self.sum("VmRSS:").map(|kib| kib * 1024)
    }

    /// The most that they have had resident since [`forget_peak`](Self::forget_peak), in bytes.
    pub(crate) fn peak(&self) -> io::Result<u64> {
        self.sum("VmHWM:").map(|kib| kib * 1024)
    }

    /// What is resident now counts as the most that has been.
    pub(crate) fn forget_peak(&self) -> io::Result<()> {
        self.pids().into_iter().try_for_each(|pid| {
            fs::OpenOptions::new()
                .write(true)
                .open(format!("/proc/{pid}/clear_refs"))
                .and_then(|mut file| io::Write::write_all(&mut file, b"5"))
        })
    }

    /// How many threads they have.
    pub(crate) fn threads(&self) -> io::Result<u64> {
        self.sum("Threads:")
    }

    /// It and its children, as they are now.
    fn pids(&self) -> Vec<u32> {
        let pid = self.child.id();
        let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
        std::iter::once(pid).chain(children.split_ascii_whitespace().filter_map(|c| c.parse().ok())).collect()
    }

    fn sum(&self, name: &str) -> io::Result<u64> {
        let mut all = 0;
        for pid in self.pids() {
            let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
            let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default();
            all += line.trim().trim_end_matches(" kB").parse::<u64>().map_err(io::Error::other)?;
        }
        Ok(all)
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

/// Processor time.
#[derive(Clone, Copy, Default)]
pub(crate) struct Used {
    pub(crate) user: Duration,
    pub(crate) system: Duration,
    /// Both together as the scheduler counts it, in nanoseconds; the other two come in ticks.
    exact: Duration,
}

impl Used {
    fn add(&mut self, pid: u32) -> io::Result<()> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
        // The second field is a name in parentheses, which may hold anything; utime and stime are
        // the fields 14 and 15.
        let after = stat.rsplit_once(')').map_or("", |(_, after)| after);
        let mut ticks = after.split_ascii_whitespace().skip(11).map(|field| {
            let ticks = field.parse::<u32>().unwrap_or_default();
            Duration::from_secs(1) * ticks / rustix::param::clock_ticks_per_second() as u32
        });
        self.user += ticks.next().unwrap_or_default();
        self.system += ticks.next().unwrap_or_default();
        for thread in fs::read_dir(format!("/proc/{pid}/task"))? {
            // A thread may have ended meanwhile; without CONFIG_SCHED_INFO there is no such file.
            let text = fs::read_to_string(thread?.path().join("schedstat")).unwrap_or_default();
            let nanos = text.split_ascii_whitespace().next().and_then(|nanos| nanos.parse().ok());
            self.exact += Duration::from_nanos(nanos.unwrap_or_default());
        }
        Ok(())
    }

    /// What was used after `earlier`. The sum is exact where the kernel tells it, and divided as
    /// the ticks are.
    pub(crate) fn since(self, earlier: Self) -> Self {
        let user = self.user.saturating_sub(earlier.user);
        let system = self.system.saturating_sub(earlier.system);
        let exact = self.exact.saturating_sub(earlier.exact);
        let ticks = (user + system).as_secs_f64();
        if exact.is_zero() || ticks == 0.0 {
            return Self { user, system, exact };
        }
        let share = |part: Duration| exact.mul_f64(part.as_secs_f64() / ticks);
        Self { user: share(user), system: share(system), exact }
    }
}
