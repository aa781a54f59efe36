//! Whether a thread of a process has done all it had to do, and waits.

use std::fs;
use std::thread;
use std::time::Instant;

use rustix::process::Pid;

use super::DEADLINE;

/// A thread of another process, watched from outside.
pub(crate) struct Watched(String);

impl Watched {
    /// The thread of `pid` that is called `name`.
    #[track_caller]
    pub(crate) fn named(pid: Pid, name: &str) -> Self {
        let tasks = fs::read_dir(format!("/proc/{}/task", pid.as_raw_nonzero())).unwrap();
        let mut tasks = tasks.map(|task| task.unwrap().path());
        let is_it = |task: &std::path::PathBuf| fs::read_to_string(task.join("comm")).unwrap().trim() == name;
        Self(tasks.find(is_it).unwrap().join("stat").to_str().unwrap().to_owned())
    }

    /// Waits until it sleeps. What was written to it before on this machine has woken it, so by then it
    /// has read that.
    #[track_caller]
    pub(crate) fn await_rest(&self) {
        let give_up = Instant::now() + DEADLINE;
        // There may be one wait for each byte, so it is not one with pauses.
        while !self.sleeps() {
            assert!(Instant::now() < give_up, "it does not come to rest");
            thread::yield_now();
        }
    }

    fn sleeps(&self) -> bool {
        // The state follows the name, which is in brackets.
        fs::read_to_string(&self.0).unwrap().rsplit_once(") ").unwrap().1.starts_with('S')
    }
}
