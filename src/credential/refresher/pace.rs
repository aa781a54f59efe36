//! How refreshers that start together are kept apart.

use std::time::Duration;

use super::Refresher;
use crate::credential::standing::Standing;

/// How far apart the first calls of partners are that start together. All at once they would be a
/// burst that other processes, the partners' machine and the disk feel, and pairs would wait to be
/// saved behind the intents of others. It is a pace and no limit: no partner waits for another's
/// answer.
const PACE: Duration = Duration::from_millis(1);

impl Refresher {
    /// Has the first call, if one is due at the start, wait for the turn of this partner, which is
    /// the `order`th of those that start together, from 0. Not one that follows a call whose end is
    /// not known: the partner's grace does not wait.
    pub fn start_in_turn(&mut self, order: u32) {
        if self.credential.standing == Standing::Unspent {
            self.credential.not_before = self.clock.now() + PACE * order;
        }
    }
}
