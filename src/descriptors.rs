//! Who may have how many of the process's descriptors.
//!
//! Clients must not get the last one: without any an operator could not be answered, no token be
//! refreshed and nothing be saved. So what the process has itself and a reserve come off the limit,
//! and the rest is shared out:
//!
//! | of the rest | for | beyond it |
//! |---|---|---|
//! | 1/3 | connections of clients | they wait in the system's backlog |
//! | 2/3 | connections to partners, of which idle 1/3 of the rest | 503; an idle one is closed |
//!
//! A client with one request at a time therefore always finds room for a connection to its partner,
//! whatever others have left idle, and room to leave it idle; only the streams of HTTP/2 can be too
//! many.
//!
//! All of it is the process's because the limit is. The limit is read whenever somebody connects: an
//! operator may change it at any time.
//!
//! The reserve is for operators, half of it, and for refresh calls, the store's files and the export
//! of traces. More refresh calls at once than it has room for, of very many partners under a low
//! limit, are tried again as if the partner were away. A sandbox in process lives on the reserve too.

use std::cell::Cell;
use std::io;
use std::marker::PhantomData;
use std::sync::atomic::{AtomicUsize, Ordering};

use rustix::io::Errno;
use rustix::process::{Resource, getrlimit};

/// What the process has open when nobody is connected.
static OWN: AtomicUsize = AtomicUsize::new(64);
/// Over how many runtimes idle connections are spread.
static THREADS: AtomicUsize = AtomicUsize::new(1);
/// The connections to partners.
static TO_PARTNERS: AtomicUsize = AtomicUsize::new(0);
/// How many of them may be idle in one runtime, as of the last look at the limit: this is asked for
/// in every exchange, and the system only when somebody connects.
static IDLE_EACH: AtomicUsize = AtomicUsize::new(usize::MAX);

/// What a runtime opens for itself, and the client that it may take at the same moment as another
/// takes the last place.
const PER_THREAD: usize = 6;

thread_local! {
    /// The idle connections to partners of this thread's runtime.
    static IDLE: Cell<usize> = const { Cell::new(0) };
}

/// Takes what is open now, and what `threads` runtimes will open, for what the process needs itself.
/// For when everything is bound and nobody is connected.
pub fn settle(threads: usize) {
    // Where it cannot be read, the guess that was there before stays.
    if let Ok(open) = std::fs::read_dir("/proc/self/fd") {
        OWN.store(open.count() + PER_THREAD * threads, Ordering::Relaxed);
    }
    THREADS.store(threads.max(1), Ordering::Relaxed);
}

/// The limit in force.
pub fn limit() -> usize {
    getrlimit(Resource::Nofile).current.and_then(|limit| usize::try_from(limit).ok()).unwrap_or(usize::MAX)
}

/// How many connections clients may have.
pub fn for_clients() -> usize {
    Shares::now().clients
}

/// How many connections operators may have.
pub fn for_operators() -> usize {
    Shares::now().operators
}

/// Whether something failed because no descriptor was left, here or in the whole system.
pub fn ran_out(error: &io::Error) -> bool {
    [Errno::MFILE, Errno::NFILE].iter().any(|errno| error.raw_os_error() == Some(errno.raw_os_error()))
}

/// Room for one connection to a partner, which gives it back when it is closed.
#[derive(Debug)]
pub struct Place(());

impl Place {
    /// `None` if there are as many as there may be.
    pub fn take() -> Option<Self> {
        let shares = Shares::now();
        IDLE_EACH.store(shares.idle_each(THREADS.load(Ordering::Relaxed)), Ordering::Relaxed);
        let place = Self(());
        (TO_PARTNERS.fetch_add(1, Ordering::Relaxed) < shares.partners).then_some(place)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        TO_PARTNERS.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Leave for one connection of this thread's to be idle.
#[derive(Debug)]
pub struct IdlePlace(PhantomData<*const ()>);

impl IdlePlace {
    /// `None` if as many are idle as may be.
    pub fn take() -> Option<Self> {
        let idle = IDLE.get();
        (idle < IDLE_EACH.load(Ordering::Relaxed)).then(|| {
            IDLE.set(idle + 1);
            Self(PhantomData)
        })
    }
}

impl Drop for IdlePlace {
    fn drop(&mut self) {
        IDLE.set(IDLE.get() - 1);
    }
}

/// How a limit is shared out.
#[derive(Debug, PartialEq, Eq)]
struct Shares {
    operators: usize,
    clients: usize,
    partners: usize,
    idle: usize,
}

impl Shares {
    fn now() -> Self {
        Self::of(limit(), OWN.load(Ordering::Relaxed))
    }

    /// How many may be idle in each of so many runtimes, less the client that each may take at the same
    /// moment as another takes the last place.
    fn idle_each(&self, threads: usize) -> usize {
        (self.idle / threads).saturating_sub(1)
    }

    fn of(limit: usize, own: usize) -> Self {
        let reserve = (limit / 8).clamp(32, 1024);
        let rest = limit.saturating_sub(own).saturating_sub(reserve);
        // Under a limit that leaves nothing, one of each is still worth trying.
        let third = rest / 3;
        Self { operators: reserve / 2, clients: third.max(1), partners: (2 * third).max(1), idle: third }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_shared_out_is_never_more_than_there_is_and_every_client_finds_its_partner() {
        for own in [10, 40, 200] {
            for limit in (own + 64..5000).chain([20_000, 65_536, 1 << 20, usize::MAX]) {
                let shares = Shares::of(limit, own);
                let Shares { operators, clients, partners, idle } = shares;
                let taken = own + 2 * operators + clients + partners;
                assert!(taken <= limit || (clients, partners) == (1, 1), "{taken} of {limit}");
                assert!(clients + idle <= partners || clients == 1, "{clients} and {idle} idle: {partners}");
                assert!(idle >= clients, "{clients}, of which {idle} leave a connection");
                for threads in [1, 2, 7] {
                    let (most, idle) = (clients + threads - 1, threads * shares.idle_each(threads));
                    assert!(most + idle <= partners || idle == 0, "{most} and {idle} idle: {partners}");
                }
                assert!(operators >= 16);
            }
        }
    }

    #[test]
    fn a_limit_that_leaves_nothing_leaves_one_of_each() {
        for limit in [0, 1, 40, 72] {
            let Shares { clients, partners, idle, .. } = Shares::of(limit, 40);
            assert_eq!((clients, partners, idle), (1, 1, 0));
        }
    }

    #[test]
    fn the_lack_of_a_descriptor_is_told_from_other_errors() {
        assert!(ran_out(&Errno::MFILE.into()) && ran_out(&Errno::NFILE.into()));
        assert!(!ran_out(&Errno::CONNREFUSED.into()) && !ran_out(&io::ErrorKind::Other.into()));
    }
}
