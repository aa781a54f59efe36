//! A network of its own for a part of a test, which can be taken away.

use std::process::Command;
use std::sync::mpsc::{self, Sender};
use std::thread;

use rustix::thread::UnshareFlags;

type Job = Box<dyn FnOnce() + Send>;

/// A loopback interface that only those know who were started in it. Where the system does not allow
/// that, it is the one of everybody, and cannot be cut.
pub(crate) struct Network {
    jobs: Sender<Job>,
    own: bool,
}

impl Network {
    pub(crate) fn new() -> Self {
        let (jobs, given) = mpsc::channel::<Job>();
        let (ready, own) = mpsc::channel();
        // Of this thread and what it starts; it ends with the test.
        thread::spawn(move || {
            #[expect(deprecated, reason = "unsafe is what it can do to descriptors, and these stay shared")]
            let own = rustix::thread::unshare(UnshareFlags::NEWNET).is_ok();
            ready.send(own).unwrap();
            given.into_iter().for_each(|job| job());
        });
        let network = Self { jobs, own: own.recv().unwrap() };
        if !network.mend() {
            println!("no network of its own is allowed here");
        }
        network
    }

    /// Does `job` in this network.
    pub(crate) fn run<T: Send + 'static>(&self, job: impl FnOnce() -> T + Send + 'static) -> T {
        let (done, result) = mpsc::channel();
        let job = move || drop(done.send(job()));
        self.jobs.send(Box::new(job)).unwrap();
        result.recv().unwrap()
    }

    /// Whether from here on no packet arrives.
    pub(crate) fn cut(&self) -> bool {
        self.own && self.turn("down")
    }

    /// Whether from here on packets arrive again.
    pub(crate) fn mend(&self) -> bool {
        self.own && self.turn("up")
    }

    fn turn(&self, state: &'static str) -> bool {
        let ended = self.run(move || Command::new("ip").args(["link", "set", "lo", state]).status());
        assert!(ended.unwrap().success(), "lo is not {state}");
        true
    }
}
