//! bearerd as its users have it: the real binary, on a configuration, in a directory.

use std::path::PathBuf;
use std::process::ExitStatus;
use std::thread;

use rustix::process::{Pid, Signal};
use serde_json::Value;

use super::client::{self, Address, Connection, Request};
use super::config::{Config, Dir};
use super::eventually;
use super::http::Answer;
use super::partner::Partner;
use super::process::{self, Ended, Process};
use super::secrets;

/// A bearerd. When it is dropped, everything that it printed is searched for secrets.
pub(crate) struct Gateway {
    pub(crate) dir: Dir,
    process: Process,
    proxy: Address,
    admin: Address,
    /// What the processes before this one printed.
    earlier: String,
}

impl Gateway {
    /// In front of `partner`, with everything as it comes, and ready.
    pub(crate) fn before(partner: &Partner) -> Self {
        Self::start(&Config::to(partner))
    }

    /// With `config`, and ready.
    pub(crate) fn start(config: &Config) -> Self {
        let gateway = Self::spawn(config);
        gateway.await_ready();
        gateway
    }

    /// With `config`, listening but perhaps without a token.
    pub(crate) fn spawn(config: &Config) -> Self {
        let dir = Dir::new();
        config.write_to(&dir);
        Self::spawn_in(dir)
    }

    /// With the `config.toml` that is in `dir`.
    pub(crate) fn spawn_in(dir: Dir) -> Self {
        let (process, proxy, admin) = launch(&dir);
        Self { dir, process, proxy, admin, earlier: String::new() }
    }

    /// Starts again in the same directory, whatever became of the process before.
    pub(crate) fn restart(&mut self) {
        self.process.kill();
        self.earlier.push_str(&self.process.logs());
        (self.process, self.proxy, self.admin) = launch(&self.dir);
    }

    /// Tries to start again in the same directory, where that is expected to fail.
    pub(crate) fn restart_in_vain(&mut self) -> Ended {
        self.process.kill();
        process::run(self.dir.path(), &["run", "--config", "config.toml"])
    }

    pub(crate) fn await_ready(&self) {
        eventually("ready", || self.admin(&Request::get("/readyz")).status == 200);
    }

    pub(crate) fn proxy_addr(&self) -> &Address {
        &self.proxy
    }

    pub(crate) fn admin_addr(&self) -> &Address {
        &self.admin
    }

    pub(crate) fn connect(&self) -> Connection {
        client::connect(&self.proxy)
    }

    /// Sends `request` through the gateway.
    #[track_caller]
    pub(crate) fn send(&self, request: &Request) -> Answer {
        request.send(&self.proxy)
    }

    #[track_caller]
    pub(crate) fn get(&self, target: &str) -> Answer {
        self.send(&Request::get(target))
    }

    #[track_caller]
    pub(crate) fn post(&self, target: &str, body: impl Into<Vec<u8>>) -> Answer {
        self.send(&Request::post(target, body))
    }

    /// Sends `head` and `body` as they are, and reads one answer.
    #[track_caller]
    pub(crate) fn raw(&self, bytes: impl AsRef<[u8]>) -> Answer {
        let mut connection = self.connect();
        // An early answer may meet a sender that has not finished.
        let _refused = connection.send(bytes.as_ref());
        connection.answer("GET").unwrap()
    }

    /// Sends `request` on a thread of its own.
    pub(crate) fn send_aside(&self, request: Request) -> thread::JoinHandle<Answer> {
        let proxy = self.proxy.clone();
        thread::spawn(move || request.send(&proxy))
    }

    /// Sends `request` to the operator's side.
    #[track_caller]
    pub(crate) fn admin(&self, request: &Request) -> Answer {
        request.send(&self.admin)
    }

    pub(crate) fn status(&self) -> Value {
        self.admin(&Request::get("/status")).value()
    }

    /// The member `key` of the first partner in the status.
    pub(crate) fn of_partner(&self, key: &str) -> Value {
        self.status()["partners"][0][key].clone()
    }

    pub(crate) fn generation(&self) -> u64 {
        self.of_partner("generation").as_u64().unwrap()
    }

    pub(crate) fn await_generation(&self, generation: u64) {
        eventually(&format!("generation {generation}"), || self.generation() >= generation);
    }

    pub(crate) fn await_state(&self, state: &str) {
        eventually(&format!("state {state}"), || self.of_partner("state") == state);
    }

    /// The sum of the samples of `name` that have all of `labels`; `None` if there is none.
    pub(crate) fn metric(&self, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
        let text = self.admin(&Request::get("/metrics")).text();
        text.lines()
            .filter_map(|line| line.split_once(['{', ' ']).filter(|(n, _)| *n == name).map(|_| line))
            .filter(|line| labels.iter().all(|(key, value)| line.contains(&format!("{key}=\"{value}\""))))
            .filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok())
            .reduce(|a, b| a + b)
    }

    pub(crate) fn pid(&self) -> Pid {
        self.process.pid()
    }

    /// Stops the process where it is; what arrives meanwhile it finds all at once.
    pub(crate) fn pause(&self) {
        self.process.signal(Signal::STOP);
        // A thread goes on until the signal has reached it.
        let tasks = format!("/proc/{}/task", self.pid().as_raw_nonzero());
        let stopped = |task: std::io::Result<std::fs::DirEntry>| {
            let stat = std::fs::read_to_string(task.unwrap().path().join("stat")).unwrap();
            stat.rsplit_once(") ").unwrap().1.starts_with('T')
        };
        eventually("stopped", || std::fs::read_dir(&tasks).unwrap().all(stopped));
    }

    pub(crate) fn resume(&self) {
        self.process.signal(Signal::CONT);
    }

    pub(crate) fn sigterm(&self) {
        self.process.signal(Signal::TERM);
    }

    /// Puts `config` in place of the configuration, and has it read again.
    pub(crate) fn reload(&self, config: &Config) {
        config.write_to(&self.dir);
        self.process.signal(Signal::HUP);
    }

    pub(crate) fn kill9(&mut self) {
        self.process.kill();
    }

    pub(crate) fn is_running(&mut self) -> bool {
        self.process.is_running()
    }

    #[track_caller]
    pub(crate) fn wait_exit(&mut self) -> ExitStatus {
        self.process.wait()
    }

    /// SIGTERM, and an orderly end.
    #[track_caller]
    pub(crate) fn stop(&mut self) {
        self.sigterm();
        let status = self.wait_exit();
        assert_eq!(status.code(), Some(0), "{}", self.logs());
    }

    /// Everything printed so far, by earlier processes in this directory as well.
    pub(crate) fn logs(&self) -> String {
        format!("{}{}", self.earlier, self.process.logs())
    }

    /// The lines of the log of the process that is running.
    pub(crate) fn log_lines(&self) -> Vec<Value> {
        self.process.lines()
    }

    #[track_caller]
    pub(crate) fn assert_no_secret_leaked(&self) {
        secrets::assert_none_in("the log", &self.logs());
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("=== bearerd printed ===\n{}=== end ===", self.logs());
            return;
        }
        self.process.kill();
        self.assert_no_secret_leaked();
    }
}

/// The addresses on which a bearerd with `config` would listen are known only once it does.
fn launch(dir: &Dir) -> (Process, Address, Address) {
    let config: PathBuf = dir.file("config.toml");
    let mut process = Process::spawn(dir.path(), &["run", "--config", config.to_str().unwrap()]);
    let mut sides = (None, None);
    eventually("listening", || {
        let running = process.is_running();
        let lines = process.lines();
        let side = |side: &str| {
            let line = lines.iter().find(|line| line["message"] == "listening" && line["side"] == side)?;
            line["address"].as_str().map(Address::parse)
        };
        sides = (side("proxy"), side("admin"));
        let known = sides.0.is_some() && sides.1.is_some();
        assert!(known || running, "bearerd ended before it listened:\n{}", process.logs());
        known
    });
    (process, sides.0.unwrap(), sides.1.unwrap())
}
