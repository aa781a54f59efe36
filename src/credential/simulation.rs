//! The refresher that ships, against everything that can go wrong: seeded, on a paused clock.
//!
//! A seed decides every delay, every fault and the point of every crash. The store forgets what was
//! not synced; the partner rotates, notices reuse, grants some grace, and loses requests and answers;
//! tokens are revoked, clocks are set, and clients come, see 401s and go. After every step this must
//! hold:
//!
//! - one call is in flight, and nothing but a crash cuts it off;
//! - no call is made whose intent is not durable, unless nothing is left to lose;
//! - no refresh token that may be spent is presented but by the policy;
//! - no token is published that is not durable, unless the status says so;
//! - no expired token is attached;
//! - a login that was refused is not tried again.
//!
//! At the end, when the faults are over, there is a valid token wherever the partner allowed that, and
//! wherever it did not, the state says that an operator is needed, and the operator can help.
//!
//! `make simulate SEEDS=100000` runs many seeds. `BEARERD_SEED=17 cargo test --lib simulation --
//! --nocapture` runs the one that failed, and tells its story.

mod clients;
mod disk;
mod partner;
mod policy;
mod story;
mod world;

use self::story::simulate;
use super::seeds;

/// How many seeds are run unless `BEARERD_SEEDS` says otherwise.
const SEEDS: u64 = 500;

#[test]
fn simulation() {
    seeds::run(SEEDS, simulate);
}

#[test]
fn a_seed_replays_exactly() {
    seeds::replay(50, simulate);
}
