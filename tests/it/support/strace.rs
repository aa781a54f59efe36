//! System calls of a running process: watched, failed, or the last that it makes.

use std::collections::HashMap;
use std::fs;
use std::io::{BufRead as _, BufReader, ErrorKind, Read as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};

/// An strace that is attached to some threads, and to no thread that is made later.
pub(crate) struct Strace {
    child: Child,
    threads: Vec<u32>,
    log: PathBuf,
}

/// One system call, from the log.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    /// When it began, in seconds since 1970.
    pub(crate) at: f64,
    pub(crate) thread: u32,
    pub(crate) name: String,
    /// What stands between the name and the end of the line.
    pub(crate) text: String,
}

impl Call {
    /// Whether it does no more than to wake another thread. How often that is needed is chance.
    pub(crate) fn is_wake_up(&self) -> bool {
        self.text.split(',').next().is_some_and(|descriptor| descriptor.contains("[eventfd]"))
    }
}

impl Strace {
    /// Attaches to `threads`, and returns when every later call of theirs is seen. `inject` are
    /// expressions such as `fsync:error=EIO:when=1`. A count is one thread's own. `None` if one of the
    /// threads has ended.
    #[track_caller]
    pub(crate) fn attach(threads: &[u32], inject: &[&str], log: &Path) -> Option<Self> {
        let mut command = Command::new("strace");
        command.arg("-y").arg("-ttt").arg("-s").arg("24").arg("-o").arg(log);
        command.args(inject.iter().map(|expression| match *expression {
            "-f" => "-f".to_owned(),
            expression => format!("--inject={expression}"),
        }));
        command.args(threads.iter().flat_map(|thread| ["-p".to_owned(), thread.to_string()]));
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child =
            command.spawn().unwrap_or_else(|e| panic!("strace: {e}; `tests/setup.sh test` installs it"));
        let mut said = BufReader::new(child.stderr.take().unwrap());
        let mut strace = Self { child, threads: threads.to_vec(), log: log.to_owned() };
        let (mut all, mut attached) = (String::new(), 0);
        while attached < threads.len() {
            let mut line = String::new();
            let ended = said.read_line(&mut line).unwrap() == 0;
            all.push_str(&line);
            attached += usize::from(line.contains(" attached"));
            if ended || line.contains("ptrace(") {
                let _gone = strace.child.kill();
                let _rest = said.read_to_string(&mut all);
                if all.contains("No such process") {
                    return None;
                }
                panic!("strace cannot attach; {NEEDS}:\n{all}");
            }
        }
        // What it says at the end must not fill the pipe.
        std::thread::spawn(move || std::io::copy(&mut said, &mut std::io::sink()));
        Some(strace)
    }

    /// Attaches to every thread of `pid`, those that are made later included.
    #[track_caller]
    pub(crate) fn attach_all(pid: Pid, inject: &[&str], log: &Path) -> Self {
        let process = u32::try_from(pid.as_raw_nonzero().get()).unwrap();
        let expressions: Vec<_> = std::iter::once("-f").chain(inject.iter().copied()).collect();
        Self::attach(&[process], &expressions, log).unwrap()
    }

    /// Lets go of the threads, and returns what they did.
    pub(crate) fn detach(mut self) -> Vec<Call> {
        kill_process(Pid::from_child(&self.child), Signal::TERM).unwrap();
        self.child.wait().unwrap();
        self.calls()
    }

    /// Waits until none of the threads is left, and returns what they did.
    pub(crate) fn outlived(mut self) -> Vec<Call> {
        super::eventually("strace ended", || self.child.try_wait().unwrap().is_some());
        self.calls()
    }

    /// The calls in the log, in the order in which they began.
    fn calls(&self) -> Vec<Call> {
        let text = String::from_utf8_lossy(&fs::read(&self.log).unwrap()).into_owned();
        let mut calls: Vec<Call> = Vec::new();
        for line in text.lines().filter_map(|line| Line::parse(line, self.threads[0])) {
            match line.says.split_once('(') {
                Some((name, text)) if is_name(name) => {
                    let (name, text) = (name.to_owned(), text.to_owned());
                    calls.push(Call { at: line.at, thread: line.thread, name, text });
                }
                // Another thread's call came between the two halves of this one's.
                _ => {
                    let begun = calls.iter_mut().rfind(|call| call.thread == line.thread);
                    if let (Some(end), Some(begun)) = (resumed(line.says), begun) {
                        let half = begun.text.trim_end_matches(UNFINISHED).len();
                        begun.text.truncate(half);
                        begun.text.push_str(end);
                    }
                }
            }
        }
        calls
    }
}

impl Drop for Strace {
    fn drop(&mut self) {
        let _gone = self.child.kill();
        let _gone = self.child.wait();
    }
}

/// The threads of a bearerd's control runtime, and those of its store.
pub(crate) struct Control {
    /// These run the refresher and its call.
    pub(crate) workers: Vec<u32>,
    /// These wait for work that blocks, most of it the store's.
    pub(crate) blocking: Vec<u32>,
}

/// Tells these threads apart by what they wait in, once all of them wait. There may be
/// none of the second kind: they end after ten idle seconds.
#[track_caller]
pub(crate) fn control_threads(pid: Pid) -> Control {
    let mut found = None;
    super::eventually("two workers at rest", || {
        let mut control = Control { workers: Vec::new(), blocking: Vec::new() };
        for task in fs::read_dir(format!("/proc/{}/task", pid.as_raw_nonzero())).unwrap() {
            let task = task.unwrap().path();
            // A thread may end meanwhile.
            let read = |name: &str| match fs::read_to_string(task.join(name)) {
                Err(e) if e.kind() == ErrorKind::PermissionDenied => {
                    panic!("{name} of a thread: {e}; {NEEDS}")
                }
                read => read.unwrap_or_default(),
            };
            if !matches!(read("comm").trim_end(), "control" | "store") {
                continue;
            }
            let thread = task.file_name().unwrap().to_str().unwrap().parse().unwrap();
            let call = read("syscall");
            match call.split_ascii_whitespace().collect::<Vec<_>>()[..] {
                // The number, then the arguments. An idle worker waits for ever, an idle blocking thread
                // until it ends. A wait with a limit that was interrupted goes on under another number.
                [FUTEX | RESTART, _, _, _, timeout, ..] if timeout != "0x0" => control.blocking.push(thread),
                [_, _, _, _, ..] => control.workers.push(thread),
                // Running.
                _ => return false,
            }
        }
        let at_rest = control.workers.len() == 2;
        found = Some(control);
        at_rest
    });
    found.unwrap()
}

const NEEDS: &str = "this test needs ptrace, so run it as root or with CAP_SYS_PTRACE";
/// The numbers of `futex` and `restart_syscall`, as `/proc` shows them.
const FUTEX: &str = if cfg!(target_arch = "x86_64") { "202" } else { "98" };
const RESTART: &str = if cfg!(target_arch = "x86_64") { "219" } else { "128" };

/// The first call that was the `count`th of `name`, from 1, of one of `threads`.
pub(crate) fn nth_of_a_thread<'a>(
    calls: &'a [Call],
    threads: &[u32],
    name: &str,
    count: usize,
) -> Option<&'a Call> {
    let mut made: HashMap<u32, usize> = HashMap::new();
    calls.iter().filter(|call| call.name == name && threads.contains(&call.thread)).find(|call| {
        let made = made.entry(call.thread).or_default();
        *made += 1;
        *made == count
    })
}

/// A line of the log: `[thread] time` and what it says.
struct Line<'a> {
    thread: u32,
    at: f64,
    says: &'a str,
}

impl<'a> Line<'a> {
    /// A log of only one thread does not name it.
    fn parse(line: &'a str, only: u32) -> Option<Self> {
        let (first, rest) = line.split_once(' ')?;
        let (thread, time, says) = match first.parse() {
            Ok(thread) => {
                let (time, says) = rest.trim_start().split_once(' ')?;
                (thread, time, says)
            }
            Err(_) => (only, first, rest),
        };
        Some(Self { thread, at: time.parse().unwrap(), says })
    }
}

fn is_name(text: &str) -> bool {
    text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

/// What stands behind `<... name resumed>`.
fn resumed(says: &str) -> Option<&str> {
    says.strip_prefix("<... ")?.split_once(" resumed>").map(|(_, end)| end)
}

const UNFINISHED: &str = " <unfinished ...>";
