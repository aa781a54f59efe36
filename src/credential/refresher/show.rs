//! What a refresher shows of itself: the token in use, its status, metrics and log.

use tracing::{debug, info, warn};

use super::Refresher;
use crate::clock::Moment;
use crate::credential::cell::Token;
use crate::credential::schedule::{self, Decision};
use crate::credential::status::{LastCall, Status};
use crate::partner::{Cause, Outcome};

impl Refresher {
    /// Puts the access token that is held in use. Whoever calls this publishes the status next, without
    /// an await in between: that is what wakes those who wait for the token.
    pub(super) fn publish_token(&mut self) {
        let Some(access) = &self.credential.access else { return };
        let token = Token {
            generation: self.credential.generation,
            access: access.token.clone(),
            doubtful_from: schedule::dying_at(access, &self.settings.policy),
            expires_at: access.expires_at,
        };
        self.cell.publish(token);
    }

    pub(super) fn publish_status(&mut self, decision: Decision) {
        let now = self.clock.now();
        let access = self.credential.access.as_ref();
        let status = Status {
            state: self.credential.state(now),
            // What is held may have no access token, when an operator has loaded it into another replica;
            // then the one before goes on serving.
            generation: self.cell.load().map_or(self.credential.generation, |token| token.generation),
            expires_at: access.map(|access| access.expires_at),
            persisted: !self.credential.unsaved,
            last: self.last,
            next_at: match decision {
                Decision::Sleep(until) => until,
                _ => now,
            },
        };
        let expires_at = status.expires_at.map(|at| self.clock.wall_at(at).as_secs_f64());
        self.metrics.set_state(status.state.as_str());
        self.metrics.set_generation(status.generation.0);
        self.metrics.set_expiration(expires_at);
        self.metrics.set_persisted(status.persisted);
        let before = self.status.borrow().state;
        if before != status.state {
            info!(partner = &*self.name, from = before.as_str(), to = status.state.as_str(), "state");
        }
        self.status.send_if_modified(|shown| {
            let changed = *shown != status;
            *shown = status;
            changed
        });
    }

    pub(super) fn account_for(&mut self, call: &'static str, outcome: &Outcome, sent_at: Moment) {
        let took = self.clock.now().since(sent_at);
        let (result, cause): (_, Option<Cause>) = match outcome {
            Outcome::Renewed(_) => ("renewed", None),
            Outcome::NotSent(cause) => ("not_sent", Some(*cause)),
            Outcome::Busy { cause, .. } => ("busy", Some(*cause)),
            Outcome::Refused(cause) => ("refused", Some(*cause)),
            Outcome::Unknown(cause) => ("unknown", Some(*cause)),
        };
        self.last = Some(LastCall { at: self.clock.wall(), outcome: result, cause });
        self.metrics.refresh_ended(result, took);
        match cause {
            None => debug!(partner = &*self.name, call, ?took, "the call succeeded"),
            Some(cause) => {
                self.metrics.refresh_failed(cause.reason);
                warn!(partner = &*self.name, call, outcome = result, %cause, ?took, "the call brought no token");
            }
        }
    }
}
