//! Records and keys for the store's tests.

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

use super::{Intent, Lineage, Record, SavedAccess, Standing, StoreKey};
use crate::clock::UnixMillis;
use crate::token::{AccessToken, Digest, Generation, RefreshToken};

/// The key whose bytes are all `byte`.
pub(super) fn key(byte: u8) -> StoreKey {
    StoreKey([byte; 32])
}

/// A record with every field filled, told apart by its generation.
pub(super) fn record(generation: u64) -> Record {
    let refresh = RefreshToken::parse(&format!("refresh-{generation}")).unwrap();
    Record {
        generation: Generation(generation),
        access: Some(SavedAccess {
            token: AccessToken::parse(&format!("access-{generation}")).unwrap(),
            obtained_at: UnixMillis(1),
            expires_at: UnixMillis(600_001),
        }),
        intent: Some(Intent {
            generation: Generation(generation),
            parent: refresh.digest(),
            owner: u64::MAX,
            written_at: UnixMillis(500_000),
            deadline: UnixMillis(510_000),
        }),
        refresh: Some(refresh),
        standing: Standing::PerhapsSpent { since: UnixMillis(500_000) },
        seeds: vec![Digest([1; 32]), Digest([2; 32])],
        login_refused: Some(Digest([3; 32])),
        lineage: [Digest([4; 32]), Digest([5; 32])].into_iter().collect(),
    }
}

/// Everything in a record, for comparison: the tokens have no equality of their own.
pub(super) fn shown(record: &Record) -> String {
    let access = record.access.as_ref().map(|access| access.token.expose());
    let refresh = record.refresh.as_ref().map(RefreshToken::expose);
    let digests: Vec<_> = record
        .seeds
        .iter()
        .chain(&record.login_refused)
        .copied()
        .chain(record.lineage.iter())
        .chain(record.intent.map(|intent| intent.parent))
        .collect();
    let digests: Vec<_> = digests.iter().map(|digest| const_hex::encode(digest.0)).collect();
    format!("{record:?} {access:?} {refresh:?} {digests:?}")
}

/// Any record.
pub(super) fn any_record() -> impl Strategy<Value = Record> {
    let token = || "[A-Za-z0-9._~+/-]{1,300}={0,2}";
    let digest = || any::<[u8; 32]>().prop_map(Digest);
    let millis = || any::<u64>().prop_map(UnixMillis);
    let access = (token(), millis(), millis()).prop_map(|(token, obtained_at, expires_at)| SavedAccess {
        token: AccessToken::parse(&token).unwrap(),
        obtained_at,
        expires_at,
    });
    let refresh = token().prop_map(|token| RefreshToken::parse(&token).unwrap());
    let standing = prop_oneof![
        Just(Standing::Unspent),
        Just(Standing::Refused),
        millis().prop_map(|since| Standing::PerhapsSpent { since }),
    ];
    let intent = (any::<u64>(), digest(), any::<u64>(), millis(), millis()).prop_map(
        |(generation, parent, owner, written_at, deadline)| Intent {
            generation: Generation(generation),
            parent,
            owner,
            written_at,
            deadline,
        },
    );
    (
        any::<u64>().prop_map(Generation),
        option::of(access),
        option::of(refresh),
        standing,
        option::of(intent),
        vec(digest(), 0..=Record::SEEDS),
        option::of(digest()),
        vec(digest(), 0..=Lineage::KEPT),
    )
        .prop_map(|(generation, access, refresh, standing, intent, seeds, login_refused, lineage)| {
            Record {
                generation,
                access,
                refresh,
                standing,
                intent,
                seeds,
                login_refused,
                lineage: lineage.into_iter().collect(),
            }
        })
}
