//! A body of which all is there.

use std::collections::VecDeque;

use bytes::Bytes;

/// What is left of it.
#[derive(Debug, Clone)]
pub(in crate::proxy) enum Whole {
    /// As most bodies come, because the list that the others need takes two allocations.
    InOne(Bytes),
    InPieces(VecDeque<Bytes>),
}

impl Whole {
    pub(super) fn len(&self) -> u64 {
        match self {
            Self::InOne(piece) => piece.len() as u64,
            Self::InPieces(pieces) => pieces.iter().map(|piece| piece.len() as u64).sum(),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        match self {
            Self::InOne(piece) => piece.is_empty(),
            Self::InPieces(pieces) => pieces.is_empty(),
        }
    }

    /// The next piece.
    pub(super) fn take(&mut self) -> Option<Bytes> {
        match self {
            Self::InOne(piece) => Some(std::mem::take(piece)).filter(|piece| !piece.is_empty()),
            Self::InPieces(pieces) => pieces.pop_front(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_is_the_same_in_one_piece_and_in_several() {
        let pieces = VecDeque::from([Bytes::from_static(b"ab"), Bytes::from_static(b"c")]);
        for mut body in [Whole::InOne(Bytes::from_static(b"abc")), Whole::InPieces(pieces)] {
            // Of a copy everything is left, however much has been taken of the other.
            let mut again = body.clone();
            for body in [&mut body, &mut again] {
                assert!(body.len() == 3 && !body.is_empty());
                let taken: Vec<u8> = std::iter::from_fn(|| body.take()).flatten().collect();
                assert_eq!(taken, b"abc");
                assert_eq!((body.len(), body.is_empty(), body.take()), (0, true, None));
            }
        }
    }

    #[test]
    fn of_an_empty_body_there_is_no_piece() {
        let mut body = Whole::InOne(Bytes::new());
        assert!(body.is_empty() && body.take().is_none());
    }
}
