//! How a credential stands, as JSON. Holds no secret.

use std::borrow::Cow;
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use crate::clock::{Clock, Moment, UnixMillis};
use crate::credential::{LastCall, State, Status};

/// The answer to `GET /status`.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct StatusView {
    /// Of bearerd.
    pub(crate) version: String,
    /// Whether it is about to end.
    pub(crate) draining: bool,
    /// The database that several bearerds share; null for a store of kind `file`.
    #[serde(default)]
    pub(crate) store: Option<StoreView>,
    /// In the order of the configuration.
    pub(crate) partners: Vec<PartnerView>,
}

/// The session with the database.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct StoreView {
    /// Whether there is one. Without it nothing is refreshed.
    pub(crate) connected: bool,
}

/// One partner's credential.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct PartnerView {
    /// The configured name.
    pub(crate) name: String,
    /// A word of [`State`].
    pub(crate) state: Cow<'static, str>,
    /// How many access tokens there have been.
    pub(crate) generation: u64,
    /// When the access token expires (RFC 3339, UTC); null without one.
    pub(crate) expires_at: Option<String>,
    /// The same in seconds from now, 0 once it has expired.
    pub(crate) expires_in: Option<u64>,
    /// Whether what is held would survive a restart.
    pub(crate) persisted: bool,
    /// The last call to the partner's login or refresh; null before the first.
    pub(crate) last_refresh: Option<LastView>,
    /// When the next is due; null if nothing is planned.
    pub(crate) next_attempt_at: Option<String>,
}

/// The last call to a token endpoint.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct LastView {
    /// When it ended (RFC 3339, UTC).
    pub(crate) at: Option<String>,
    /// `renewed`, `not_sent`, `busy`, `refused` or `unknown`.
    pub(crate) outcome: Cow<'static, str>,
    /// A word for why it brought no token.
    pub(crate) reason: Option<Cow<'static, str>>,
    /// The status code of the answer, if one came and the call brought no token.
    pub(crate) status: Option<u16>,
}

impl PartnerView {
    /// How the credential of the partner `name` stands by `clock`.
    pub(super) fn of(name: &str, status: &Status, clock: &dyn Clock) -> Self {
        let now = clock.now();
        Self {
            name: name.to_owned(),
            state: Cow::Borrowed(state_at(status, now).as_str()),
            generation: status.generation.0,
            expires_at: status.expires_at.and_then(|at| rfc3339_at(at, clock)),
            expires_in: status.expires_at.map(|at| at.since(now).as_secs()),
            persisted: status.persisted,
            last_refresh: status.last.as_ref().map(LastView::of),
            next_attempt_at: rfc3339_at(status.next_at, clock),
        }
    }
}

impl LastView {
    fn of(last: &LastCall) -> Self {
        Self {
            at: rfc3339(last.at),
            outcome: Cow::Borrowed(last.outcome),
            reason: last.cause.map(|cause| Cow::Borrowed(cause.reason)),
            status: last.cause.and_then(|cause| cause.status),
        }
    }
}

/// The state at `now`: a refresher in the middle of a call has not noticed yet that its token
/// expired.
pub(super) fn state_at(status: &Status, now: Moment) -> State {
    match status.state {
        State::Valid | State::Degraded if !status.is_usable(now) => State::Expired,
        state => state,
    }
}

/// A wall time as RFC 3339 in UTC, to the millisecond; `None` beyond the year 9999.
pub(crate) fn rfc3339(time: UnixMillis) -> Option<String> {
    const YEAR_10000: u64 = 253_402_300_800_000;
    let time = (time.0 < YEAR_10000).then_some(time.0)?;
    let time = SystemTime::UNIX_EPOCH + Duration::from_millis(time);
    Some(humantime::format_rfc3339_millis(time).to_string())
}

fn rfc3339_at(moment: Moment, clock: &dyn Clock) -> Option<String> {
    if moment == Moment::NEVER {
        return None;
    }
    rfc3339(clock.wall_at(moment))
}
