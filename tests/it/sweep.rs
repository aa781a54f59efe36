//! bearerd is killed before every system call of a refresh, one after the other, and started again.
//!
//! How it is known that none was left out: a refresh runs on two kinds of threads, those that call the
//! partner and those that write to disk. A first refresh is watched to learn which system calls each
//! kind makes. Then, for each kind and each call by its name, the n-th is the last that the process
//! makes, from n = 1 until a refresh is through although n was waited for. strace counts each thread
//! for itself; the place of every kill among all calls of that name is therefore read from the log,
//! and the places must be 1 to as many as the refresh that went through has made.

use std::collections::BTreeSet;
use std::os::unix::process::ExitStatusExt as _;
use std::time::Duration;

use serde_json::json;

use crate::support::client::Request;
use crate::support::config::Config;
use crate::support::eventually;
use crate::support::gateway::Gateway;
use crate::support::partner::Partner;
use crate::support::strace::{self, Call, Strace};

#[test]
fn s01_s02_s03_s05_s06_s11_killed_at_any_system_call_nothing_is_lost_where_the_partner_has_a_grace() {
    let figures = Sweep::new(Policy::Grace).run();
    assert_eq!(figures.lost, 0);
    assert!(figures.presented_again > 0, "no kill left a token that was spent");
}

#[test]
fn s01_s02_s03_s05_s06_s11_killed_at_any_system_call_nothing_is_lost_where_a_login_is_configured() {
    let figures = Sweep::new(Policy::Login).run();
    assert_eq!(figures.lost, 0);
    assert!(figures.logins > 0, "no kill left a token that was perhaps spent");
}

#[test]
fn s01_s02_s03_s05_s06_s11_killed_at_any_system_call_without_grace_or_login_what_is_lost_is_reported() {
    let figures = Sweep::new(Policy::Neither).run();
    assert!(figures.lost > 0, "a kill between the partner's commit and ours must lose the token");
    assert!(figures.lost < figures.killed / 2, "{figures:?}");
}

/// What is left to a bearerd that does not know whether its refresh token is spent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Policy {
    Grace,
    Login,
    Neither,
}

#[derive(Debug, Default)]
struct Figures {
    /// System calls killed at.
    killed: usize,
    /// Refreshes that were watched to their end.
    through: usize,
    /// Spent tokens that the partner's grace took.
    presented_again: usize,
    logins: usize,
    /// Times that only an operator could help.
    lost: usize,
}

struct Sweep {
    policy: Policy,
    partner: Partner,
    gateway: Gateway,
    figures: Figures,
    attempts: usize,
}

/// A kind of thread that takes part in a refresh.
#[derive(Clone, Copy, Debug)]
enum Side {
    Partner,
    Disk,
}

/// A refresh that was watched.
struct Watched {
    killed: bool,
    /// Of all threads of the kind, in the order in which they began.
    calls: Vec<Call>,
    /// The threads that were to be killed at.
    targets: Vec<u32>,
}

impl Sweep {
    fn new(policy: Policy) -> Self {
        let partner = Partner::new();
        // So that the thread that wrote the intent is idle again when the pair is to be written.
        partner.refresh_delay(Duration::from_millis(20));
        let config = Config::to(&partner).with_admin_socket().set("log.level", "info");
        let config = match policy {
            Policy::Grace => {
                partner.grace(Duration::from_secs(3600));
                config.set("partner.refresh.grace", "1h")
            }
            Policy::Login => config.with_login(),
            Policy::Neither => config,
        };
        let gateway = Gateway::start(&config);
        let mut sweep = Self { policy, partner, gateway, figures: Figures::default(), attempts: 0 };
        // From the fourth record on each save removes one, so that every refresh makes the same calls.
        while sweep.gateway.generation() < 3 {
            assert!(sweep.refresh(), "bearerd ended by itself");
        }
        sweep
    }

    fn run(mut self) -> Figures {
        for side in [Side::Disk, Side::Partner] {
            let Watched { killed: false, calls, .. } = self.watch(side, 0, &[]) else {
                panic!("killed by nobody")
            };
            let names: BTreeSet<_> = calls
                .into_iter()
                .filter(|call| !call.is_wake_up() && !IDLE.contains(&&*call.name))
                .map(|call| call.name)
                .collect();
            let expected: &[&str] = match side {
                Side::Disk => &["openat", "write", "fsync", "close", "renameat", "unlinkat"],
                Side::Partner => &["socket", "connect", "sendto", "recvfrom", "close"],
            };
            for name in expected {
                assert!(names.contains(*name), "{side:?} makes no {name}: {names:?}");
            }
            for name in names {
                self.sweep(side, &name);
            }
        }
        // The token that the last kill left is good.
        assert!(self.refresh(), "bearerd ended by itself");
        let Self { policy, figures, partner, gateway: _alive, .. } = self;
        if policy != Policy::Neither {
            partner.assert_no_spent_token_seen();
        }
        let recovered = figures.killed - figures.lost;
        println!(
            "{policy:?}: recovered by itself after {recovered} of {} kills; {figures:?}",
            figures.killed
        );
        figures
    }

    /// Kills at each call of `name`, as the head of this file tells.
    fn sweep(&mut self, side: Side, name: &str) {
        let mut places = BTreeSet::new();
        let counts = |call: &&Call| call.name == name && !call.is_wake_up();
        // More than one pass only if the threads of a kind shared the work, so that a count of its own
        // did not reach every call of each.
        for pass in 0..PASSES {
            let mut count = 1;
            let made = loop {
                let watched = self.watch(side, pass, &[&format!("{name}:signal=KILL:when={count}")]);
                let calls = &watched.calls;
                let last = strace::nth_of_a_thread(calls, &watched.targets, name, count);
                if !watched.killed {
                    assert!(last.is_none(), "{last:?} did not kill");
                    break calls.iter().filter(counts).count();
                }
                let last = last.unwrap_or_else(|| panic!("killed elsewhere: {calls:#?}"));
                if !last.is_wake_up() {
                    let earlier = calls.iter().take_while(|call| !std::ptr::eq(*call, last));
                    places.insert(earlier.filter(counts).count() + 1);
                }
                self.recover();
                count += 1;
            };
            if (1..=made).all(|place| places.contains(&place)) {
                println!("{:?}, {side:?}: killed at each of {} {name}", self.policy, places.len());
                return;
            }
        }
        panic!("{side:?}: {name} was killed at {places:?} only");
    }

    /// Has the token refreshed while the threads of `side` are watched. In the first pass `inject` is
    /// for all of them, later for one at a time.
    fn watch(&mut self, side: Side, pass: usize, inject: &[&str]) -> Watched {
        for _ in 0..2 * PASSES {
            let control = strace::control_threads(self.gateway.pid());
            let threads = match side {
                Side::Partner => control.workers,
                Side::Disk => control.blocking,
            };
            if threads.is_empty() {
                // They end when they are idle for long; this makes one.
                assert!(self.refresh(), "bearerd ended by itself");
                continue;
            }
            if matches!(side, Side::Disk) && threads.len() > 1 {
                // One thread, and one count reaches every call. More come from work that follows work
                // at once, as after a start in the middle of a refresh; this start finds nothing to do.
                self.gateway.restart();
                self.gateway.await_state("valid");
                continue;
            }
            let one = pass % threads.len();
            let (targets, others): (Vec<u32>, Vec<u32>) =
                threads.iter().partition(|thread| pass == 0 || **thread == threads[one]);
            let log = |name: &str| self.gateway.dir.file(name);
            let Some(strace) = Strace::attach(&targets, inject, &log("strace")) else { continue };
            let beside = match &others[..] {
                [] => None,
                others => match Strace::attach(others, &[], &log("strace.others")) {
                    None => continue,
                    attached => attached,
                },
            };
            let killed = !self.refresh();
            let end = if killed { Strace::outlived } else { Strace::detach };
            if killed {
                self.figures.killed += 1;
                assert_eq!(self.gateway.wait_exit().signal(), Some(9));
            }
            let mut calls = end(strace);
            calls.extend(beside.map(end).unwrap_or_default());
            calls.sort_by(|a, b| a.at.total_cmp(&b.at));
            let whole = match side {
                Side::Disk => calls.iter().filter(|call| call.name == "renameat").count() == 2,
                Side::Partner => calls.iter().any(|call| call.name == "connect"),
            };
            // If not, a part of the work went to a thread that did not exist when strace attached.
            if killed || whole {
                self.figures.through += usize::from(!killed);
                return Watched { killed, calls, targets };
            }
        }
        panic!("strace cannot see a whole refresh");
    }

    /// Has the token refreshed by a 401 that says nothing about it. False if bearerd died of it.
    fn refresh(&mut self) -> bool {
        self.attempts += 1;
        // A path whose 401s did not go away after a refresh is not heeded for a while.
        let path = format!("/always-401/{}", self.attempts);
        self.partner.on_any(&path, |x| {
            x.body()?;
            x.unauthorized()
        });
        let before = self.partner.refreshes();
        let mut client = self.gateway.connect();
        client.send(&Request::get(&path).to_bytes()).unwrap();
        let Ok(answer) = client.answer("GET") else { return false };
        assert_eq!((answer.status, self.partner.refreshes()), (401, before + 1));
        true
    }

    /// Starts bearerd again after a kill, and sees it recover as its policy has it.
    fn recover(&mut self) {
        // What the dead one had sent has been dealt with.
        eventually("all connections closed", || self.partner.open_connections() == 0);
        let (refreshes, logins) = (self.partner.refreshes(), self.partner.logins());
        let (spent, graced) = (self.partner.spent_presented(), self.partner.graced());
        self.gateway.restart();
        match self.policy {
            Policy::Grace => {
                self.gateway.await_state("valid");
                self.figures.presented_again += self.partner.graced() - graced;
                assert!(self.partner.refreshes() <= refreshes + 1);
            }
            Policy::Login => {
                self.gateway.await_state("valid");
                self.figures.logins += self.partner.logins() - logins;
                assert_eq!(self.partner.refreshes(), refreshes);
            }
            Policy::Neither => {
                let degraded = self.gateway.of_partner("state") == "degraded";
                assert_eq!(self.gateway.get("/x").status, 200, "the access token that is held serves");
                assert_eq!(self.partner.refreshes(), refreshes, "nothing is presented blindly");
                if degraded {
                    self.lose_the_access_token();
                } else {
                    assert_eq!(self.gateway.of_partner("state"), "valid");
                }
                assert!(self.partner.spent_presented() <= spent + 1);
            }
        }
        assert_eq!(self.gateway.get("/x").status, 200);
        if self.policy != Policy::Neither {
            assert_eq!(self.partner.spent_presented(), spent);
        }
    }

    /// Without grace or login: the old refresh token is presented when nothing is left to lose. Either
    /// it is good, or an operator is asked for, and can help.
    fn lose_the_access_token(&mut self) {
        assert_eq!(self.state_metric("degraded"), Some(1.0));
        let logs = self.gateway.logs();
        assert!(logs.contains("ended in the middle of a refresh"), "{logs}");
        let spent = self.partner.spent_presented();
        self.partner.revoke_access();
        let answer = self.gateway.get("/x");
        if answer.status == 200 {
            assert_eq!(self.partner.spent_presented(), spent);
            return;
        }
        self.figures.lost += 1;
        assert_eq!(self.partner.spent_presented(), spent + 1, "refused, and yet not spent");
        assert!([401, 503].contains(&answer.status), "{answer:?}");
        self.gateway.await_state("reauth_required");
        assert_eq!(self.state_metric("reauth_required"), Some(1.0));
        eventually("the log says what to do", || {
            self.gateway.log_lines().iter().any(|line| {
                let message = line["message"].as_str().unwrap_or_default();
                line["level"] == "ERROR" && message.contains("bearerd token import")
            })
        });
        let body = json!({"refresh_token": self.partner.fresh_refresh_token()}).to_string();
        let put =
            Request::new("PUT", "/partners/acme/token").with("Content-Type", "application/json").body(body);
        let answer = self.gateway.admin(&put);
        assert!((200..300).contains(&answer.status), "{answer:?}");
        self.gateway.await_state("valid");
    }

    fn state_metric(&self, state: &str) -> Option<f64> {
        self.gateway.metric("bearerd_credential_state", &[("partner", "acme"), ("state", state)])
    }
}

/// These change nothing: a kill before one is a kill before what comes next.
const IDLE: [&str; 12] = [
    "futex",
    "epoll_wait",
    "epoll_pwait",
    "restart_syscall",
    "sched_yield",
    "mmap",
    "munmap",
    "mprotect",
    "madvise",
    "brk",
    "clock_nanosleep",
    "rt_sigprocmask",
];
/// How often one call is swept before it counts as out of reach.
const PASSES: usize = 9;
