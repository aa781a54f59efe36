//! What is known of a refresh token.

use crate::clock::Moment;

/// What is known of a refresh token that is held.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Standing {
    /// Never presented, or only in calls that were provably not processed.
    #[default]
    Unspent,
    /// Presented at `since` in a call whose outcome is unknown.
    PerhapsSpent {
        /// When it was first presented.
        since: Moment,
    },
    /// The partner refused it.
    Refused {
        /// When it may be tried once more.
        again_at: Moment,
    },
}

impl Standing {
    /// How much is known.
    pub(super) fn certainty(self) -> u8 {
        match self {
            Self::Unspent => 0,
            Self::PerhapsSpent { .. } => 1,
            Self::Refused { .. } => 2,
        }
    }

    /// How it stands after a call at `at` whose outcome is unknown. Grace counts from the first such.
    pub(super) fn perhaps_spent(self, at: Moment) -> Self {
        match self {
            Self::PerhapsSpent { since } => Self::PerhapsSpent { since },
            Self::Unspent | Self::Refused { .. } => Self::PerhapsSpent { since: at },
        }
    }
}
