//! The one session with the database, kept up for as long as the process runs.
//!
//! Statements of all partners go through it one after the other without waiting for each other's
//! answers, and so do the database's notifications: a replica costs the database one connection. A
//! session that is silent for too long is given up, and the next is begun within half a second.
//!
//! A notification can be lost with a session, so with a new one every row is compared with what is
//! known here, and also when the machine was suspended; and twice a minute the rows that have changed
//! lately ([`Rounds`]).

use std::collections::HashMap;
use std::fmt;
use std::future::poll_fn;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_postgres::AsyncMessage;
use tracing::{error, info};

use super::connect::{Connect, Connection};
use super::migrate;
use super::rounds::{Look, Rounds};
use super::table::Session;
use crate::clock::Clock;
use crate::metrics::StoreMetrics;
use crate::store::StoreError;

/// The pause between two attempts to begin a session; up to as much again is added by chance, so
/// that replicas do not come all at once.
const PAUSE: Duration = Duration::from_millis(250);

/// How many different problems are told while there is no session.
const PROBLEMS: usize = 8;

/// The session, for whoever asks something of the database.
pub(super) struct Link {
    connect: Connect,
    clock: Arc<dyn Clock>,
    session: watch::Sender<Result<Arc<Session>, String>>,
    rows: Mutex<HashMap<String, Known>>,
    metrics: Arc<StoreMetrics>,
}

/// What is known of a partner's row.
#[derive(Debug, Default)]
struct Known {
    revision: Option<i64>,
    /// Something was asked in vain: whoever asked is told when there is a session again.
    failed: bool,
    changes: Arc<Notify>,
}

impl Link {
    /// Begins the first session, and keeps one up for as long as the task lives. That the database
    /// cannot be reached is not an error.
    pub(super) async fn open(
        connect: Connect,
        clock: Arc<dyn Clock>,
    ) -> Result<(Arc<Self>, Task), StoreError> {
        let session = watch::Sender::new(Err("no session yet".to_owned()));
        let metrics = Arc::default();
        let link = Arc::new(Self { connect, clock, session, rows: Mutex::default(), metrics });
        let first = match link.begin().await {
            Err(failure @ StoreError::Database { .. }) => return Err(failure),
            Err(failure) => {
                let _ = link.session.send_replace(Err(problem(&failure)));
                Err(failure)
            }
            Ok(live) => {
                let _ = link.session.send_replace(Ok(Arc::clone(&live.session)));
                Ok(live)
            }
        };
        let keeper = tokio::spawn(keep(Arc::clone(&link), first));
        Ok((link, Task(keeper)))
    }

    /// What an operator calls the database.
    pub(super) fn name(&self) -> String {
        self.connect.database().to_string()
    }

    pub(super) fn metrics(&self) -> Arc<StoreMetrics> {
        Arc::clone(&self.metrics)
    }

    /// Asks something about `partner`'s row.
    pub(super) async fn ask<T>(
        &self,
        ask: impl AsyncFnOnce(&Session) -> Result<T, tokio_postgres::Error>,
        partner: &str,
    ) -> Result<T, StoreError> {
        let session = self.session.borrow().clone();
        let result = match session {
            Ok(session) => match timeout(Connect::ANSWER, ask(&session)).await {
                Ok(answer) => answer.map_err(|error| self.connect.error(&error)),
                Err(_) => {
                    session.given_up.notify_one();
                    Err(self.away("no answer in time".to_owned()))
                }
            },
            Err(problem) => Err(self.away(problem)),
        };
        self.row(partner, |known| known.failed = result.is_err());
        result
    }

    /// `partner`'s row is known at `revision`.
    pub(super) fn knows(&self, partner: &str, revision: i64) {
        self.row(partner, |known| known.revision = Some(revision));
    }

    pub(super) fn changes(&self, partner: &str) -> Arc<Notify> {
        self.row(partner, |known| Arc::clone(&known.changes))
    }

    pub(super) fn error(&self, error: &tokio_postgres::Error) -> StoreError {
        self.connect.error(error)
    }

    fn away(&self, problem: String) -> StoreError {
        StoreError::Unreachable { database: self.connect.database().to_string(), problem }
    }

    fn row<T>(&self, partner: &str, f: impl FnOnce(&mut Known) -> T) -> T {
        let mut rows = self.rows();
        match rows.get_mut(partner) {
            Some(known) => f(known),
            None => f(rows.entry(partner.to_owned()).or_default()),
        }
    }

    fn rows(&self) -> MutexGuard<'_, HashMap<String, Known>> {
        // Sound after a panic: each change of an entry is one assignment.
        self.rows.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn begin(self: &Arc<Self>) -> Result<Live, StoreError> {
        let (client, connection) = self.connect.connect().await?;
        // From here on somebody has to move the bytes.
        let driver = Task(tokio::spawn(drive(connection, Arc::clone(self))));
        migrate::check(&self.connect, &client).await?;
        let session = self.connect.in_time(Session::prepare(client)).await?;
        // In this order: what changes after the rows have been compared is told.
        self.connect.in_time(session.client.batch_execute("LISTEN bearerd_credential")).await?;
        self.compare(&session).await?;
        self.metrics.begun();
        Ok(Live { session: Arc::new(session), driver })
    }

    /// Finds the rows that are not as they are known here.
    async fn compare(&self, session: &Session) -> Result<(), StoreError> {
        let names: Vec<String> = self.rows().keys().cloned().collect();
        let rows = self.connect.in_time(session.revisions(&names)).await?;
        let found: HashMap<String, i64> = rows.into_iter().collect();
        for (partner, known) in self.rows().iter() {
            if known.revision != found.get(partner).copied() {
                known.changes.notify_one();
            }
        }
        Ok(())
    }

    /// Looks at the rows that have changed lately.
    async fn review(&self, session: &Session) -> Result<(), StoreError> {
        for (partner, revision) in self.connect.in_time(session.recent()).await? {
            self.told(&partner, revision);
        }
        Ok(())
    }

    /// `partner`'s row is said to be, or to have been, at `revision`.
    fn told(&self, partner: &str, revision: i64) {
        if let Some(known) = self.rows().get(partner)
            && known.revision.is_none_or(|known| known < revision)
        {
            known.changes.notify_one();
        }
    }

    /// There is a session again, for those who have asked in vain.
    fn wake_who_failed(&self) {
        for known in self.rows().values_mut().filter(|known| known.failed) {
            known.failed = false;
            known.changes.notify_one();
        }
    }
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Link").field(&self.connect).finish()
    }
}

/// A session, and the task that moves its bytes.
struct Live {
    session: Arc<Session>,
    driver: Task,
}

/// A task that ends when this is dropped.
#[derive(Debug)]
pub(super) struct Task(JoinHandle<()>);

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Keeps a session up; `first` is how the first attempt went.
async fn keep(link: Arc<Link>, first: Result<Live, StoreError>) {
    let database = link.connect.database().to_string();
    let mut next = Some(first);
    let mut said: Vec<String> = Vec::new();
    loop {
        let begun = match next.take() {
            Some(begun) => begun,
            None => link.begin().await,
        };
        let problem = match begun {
            Ok(mut live) => {
                info!(database, "connected");
                said.clear();
                let _ = link.session.send_replace(Ok(Arc::clone(&live.session)));
                link.wake_who_failed();
                attend(&link, &mut live).await
            }
            Err(failure) => problem(&failure),
        };
        link.metrics.ended();
        // Each once: a session that has ended says less than why the next cannot be begun.
        if said.len() < PROBLEMS && !said.contains(&problem) {
            error!(
                database,
                problem, "the database cannot be used; what is held is served, and nothing is refreshed"
            );
            said.push(problem.clone());
        }
        let _ = link.session.send_replace(Err(problem));
        tokio::time::sleep(PAUSE + PAUSE.mul_f64(fastrand::f64())).await;
    }
}

/// Looks after a session until it has ended; why it has.
async fn attend(link: &Link, live: &mut Live) -> String {
    let mut rounds = Rounds::new(&link.clock);
    loop {
        let look = tokio::select! {
            _ = &mut live.driver.0 => return "the session has ended".to_owned(),
            () = live.session.given_up.notified() => return "no answer in time".to_owned(),
            look = rounds.next() => look,
        };
        let looked = match look {
            Look::Lately => link.review(&live.session).await,
            Look::All => link.compare(&live.session).await,
        };
        if let Err(failure) = looked {
            return problem(&failure);
        }
    }
}

/// What is wrong, without which database it is wrong with.
fn problem(failure: &StoreError) -> String {
    match failure {
        StoreError::Unreachable { problem, .. } => problem.clone(),
        StoreError::Database { problem, remedy, .. } => format!("{problem}; {remedy}"),
        other => other.to_string(),
    }
}

/// Moves a session's bytes, and hears what the database says unasked.
async fn drive(mut connection: Connection, link: Arc<Link>) {
    while let Some(Ok(message)) = poll_fn(|cx| connection.poll_message(cx)).await {
        let AsyncMessage::Notification(said) = message else { continue };
        hear(&link, said.payload());
    }
}

/// `partner revision`, or `partner revision milliseconds` if a call is under way and must be over by
/// then.
fn hear(link: &Arc<Link>, payload: &str) {
    let mut words = payload.split(' ');
    let (Some(partner), Some(Ok(revision))) = (words.next(), words.next().map(str::parse)) else { return };
    let Some(over) = words.next().and_then(|millis| millis.parse().ok()).map(Duration::from_millis) else {
        return link.told(partner, revision);
    };
    // Its owner tells how it ended. If it does not, it has died over it.
    let (link, partner) = (Arc::downgrade(link), partner.to_owned());
    tokio::spawn(async move {
        tokio::time::sleep(over).await;
        if let Some(link) = link.upgrade() {
            link.told(&partner, revision);
        }
    });
}
