//! Which token pair came from which.
//!
//! Replicas agree on a credential by its lineage, not by who held a lease or whose generation is
//! higher: a pair may take the place of one that it descends from, and of no other. So a replica
//! that comes late with a pair can still hand it in, as long as nothing else has taken its parent's
//! place, and two pairs that came from one parent cannot follow each other.

use std::collections::VecDeque;

use crate::token::{AccessToken, Digest, RefreshToken};

/// Names a token pair without giving it away. Of a pair whose refresh token does not rotate, the
/// access token tells the generations apart.
pub(crate) fn pair(refresh: Option<&RefreshToken>, access: Option<&AccessToken>) -> Digest {
    let refresh = refresh.map_or("", RefreshToken::expose);
    Digest::of(&[refresh.as_bytes(), access.map_or("", AccessToken::expose).as_bytes()])
}

/// The names of the last pairs that a pair descends from, oldest first.
///
/// One ancestor would do, if a database never lost anything. More are kept so that after the loss of
/// several commits it is still known that what the database has gone back to is an ancestor.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Lineage(VecDeque<Digest>);

impl Lineage {
    /// How many ancestors are kept.
    pub const KEPT: usize = 16;

    /// Names of pairs, oldest first.
    pub fn iter(&self) -> impl Iterator<Item = Digest> + '_ {
        self.0.iter().copied()
    }

    /// Whether `pair` is an ancestor.
    pub fn contains(&self, pair: &Digest) -> bool {
        self.0.contains(pair)
    }

    /// The pair that came right before.
    pub fn parent(&self) -> Option<Digest> {
        self.0.back().copied()
    }

    /// How many ancestors are known.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether none is known.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// `pair` has a successor now.
    pub fn push(&mut self, pair: Digest) {
        self.0.retain(|known| *known != pair);
        self.0.push_back(pair);
        if self.0.len() > Self::KEPT {
            self.0.pop_front();
        }
    }

    /// Takes in the ancestors of `other`, in whose place the pair comes; of both, the last are kept.
    pub fn join(&mut self, other: &Self) {
        let own = std::mem::take(&mut self.0);
        for age in (0..Self::KEPT).rev() {
            let of = |pairs: &VecDeque<Digest>| pairs.iter().rev().nth(age).copied();
            of(&other.0).into_iter().chain(of(&own)).for_each(|pair| self.push(pair));
        }
    }
}

impl FromIterator<Digest> for Lineage {
    fn from_iter<I: IntoIterator<Item = Digest>>(pairs: I) -> Self {
        let mut lineage = Self::default();
        pairs.into_iter().for_each(|pair| lineage.push(pair));
        lineage
    }
}

/// How what a store holds stands to what a process holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kinship {
    /// The same pair.
    Same,
    /// An ancestor: the store is behind.
    Ancestor,
    /// A descendant: the process is behind.
    Descendant,
    /// Neither came from the other, or too long ago to tell.
    Stranger,
}

/// How the pair `held` in a store, with its lineage, stands to `own`.
pub(crate) fn kinship(held: (&Digest, &Lineage), own: (&Digest, &Lineage)) -> Kinship {
    if held.0 == own.0 {
        Kinship::Same
    } else if held.1.contains(own.0) {
        // First: with tokens that come back, each can be found in the other's lineage, and then the
        // store counts.
        Kinship::Descendant
    } else if own.1.contains(held.0) {
        Kinship::Ancestor
    } else {
        Kinship::Stranger
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digest(n: u8) -> Digest {
        Digest([n; 32])
    }

    #[test]
    fn the_last_ancestors_are_kept_and_each_once() {
        let mut lineage: Lineage = (0..20).map(digest).collect();
        assert_eq!(lineage.len(), Lineage::KEPT);
        assert!(!lineage.contains(&digest(3)) && lineage.contains(&digest(4)));
        lineage.push(digest(10));
        assert_eq!(lineage.parent(), Some(digest(10)));
        assert_eq!(lineage.len(), Lineage::KEPT);
    }

    #[test]
    fn of_two_lineages_the_last_ancestors_of_both_are_kept() {
        let mut own: Lineage = (0..20).map(digest).collect();
        own.join(&(50..53).map(digest).collect());
        assert_eq!((own.len(), own.parent()), (Lineage::KEPT, Some(digest(19))));
        assert!([50, 51, 52, 7, 19].map(digest).iter().all(|pair| own.contains(pair)));
        own.join(&(60..90).map(digest).collect());
        assert_eq!(own.iter().filter(|pair| pair.0[0] >= 60).count(), Lineage::KEPT / 2);
        let mut none = Lineage::default();
        none.join(&own);
        assert_eq!(none, own);
    }

    #[test]
    fn kinship_tells_who_is_behind() {
        let (old, new): (Lineage, Lineage) =
            ([0].map(digest).into_iter().collect(), [0, 1].map(digest).into_iter().collect());
        let kin = |held: (u8, &Lineage), own: (u8, &Lineage)| {
            kinship((&digest(held.0), held.1), (&digest(own.0), own.1))
        };
        assert_eq!(kin((1, &old), (1, &old)), Kinship::Same);
        assert_eq!(kin((1, &old), (2, &new)), Kinship::Ancestor);
        assert_eq!(kin((2, &new), (1, &old)), Kinship::Descendant);
        assert_eq!(kin((2, &new), (3, &new)), Kinship::Stranger);
    }

    #[test]
    fn pairs_are_told_apart_by_either_token() {
        let refresh = |text| RefreshToken::parse(text).unwrap();
        let access = |text| AccessToken::parse(text).unwrap();
        let one = pair(Some(&refresh("r")), Some(&access("a")));
        assert_ne!(one, pair(Some(&refresh("r")), Some(&access("b"))));
        assert_ne!(one, pair(Some(&refresh("s")), Some(&access("a"))));
        assert_ne!(one, pair(Some(&refresh("ra")), None));
    }
}
