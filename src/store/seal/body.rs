//! The JSON body of a record of version 1.
//!
//! The secret types do not implement `Serialize`, so the shape on disk is a set of structs of its
//! own that borrow. Reading borrows too: a token has no character that JSON escapes, so no copy of
//! it is made that would not be wiped.
//!
//! Fields that are unknown are passed over, and all that a record may do without may be missing: an
//! older bearerd reads what a newer one of the same record version wrote, and the other way round.

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use zeroize::Zeroizing;

use crate::clock::UnixMillis;
use crate::store::{Intent, Record, SavedAccess, Standing};
use crate::token::{AccessToken, Digest, Generation, RefreshToken};

/// The most that [`write()`] appends, so that the buffer never moves and leaves a copy behind.
pub(super) fn size_bound(record: &Record) -> usize {
    const FIXED: usize = 1024;
    const DIGEST: usize = 2 * 32 + r#""","#.len();
    FIXED
        + record.access.as_ref().map_or(0, |access| access.token.expose().len())
        + record.refresh.as_ref().map_or(0, |refresh| refresh.expose().len())
        + (record.seeds.len() + record.lineage.len()) * DIGEST
}

/// Appends the body of `record`.
pub(super) fn write(record: &Record, out: &mut Zeroizing<Vec<u8>>) {
    let (capacity, start) = (out.capacity(), out.len());
    let written = serde_json::to_writer(&mut **out, &Body::from(record));
    // A Vec takes every write, and the body has neither maps nor floats.
    debug_assert!(written.is_ok());
    debug_assert!(out.len() - start <= size_bound(record) && out.capacity() == capacity);
}

/// The record in `body`, which must be of this generation.
pub(super) fn read(body: &[u8], generation: Generation) -> Option<Record> {
    let body: Body<'_> = serde_json::from_slice(body).ok()?;
    if body.generation != generation.0 {
        return None;
    }
    Some(Record {
        generation,
        access: body.access.map(SavedAccess::try_from).transpose().ok()?,
        refresh: body.refresh.map(RefreshToken::parse).transpose().ok()?,
        standing: body.standing.into(),
        intent: body.intent.map(Intent::from),
        seeds: body.seeds.into_iter().map(|seed| seed.0).collect(),
        login_refused: body.login_refused.map(|digest| digest.0),
        lineage: body.lineage.into_iter().map(|pair| pair.0).collect(),
    })
}

#[derive(Serialize, Deserialize)]
struct Body<'a> {
    generation: u64,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    access: Option<Access<'a>>,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    refresh: Option<&'a str>,
    /// Not optional: a record that does not say whether its token is spent must not be taken to say
    /// no.
    standing: Spending,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    intent: Option<Call>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    seeds: Vec<Hex>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    login_refused: Option<Hex>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    lineage: Vec<Hex>,
}

impl<'a> From<&'a Record> for Body<'a> {
    fn from(record: &'a Record) -> Self {
        Self {
            generation: record.generation.0,
            access: record.access.as_ref().map(|access| Access {
                token: access.token.expose(),
                obtained_at: access.obtained_at,
                expires_at: access.expires_at,
            }),
            refresh: record.refresh.as_ref().map(RefreshToken::expose),
            standing: match record.standing {
                Standing::Unspent => Spending::Unspent,
                Standing::PerhapsSpent { since } => Spending::PerhapsSpent { since },
                Standing::Refused => Spending::Refused,
            },
            intent: record.intent.map(|intent| Call {
                generation: intent.generation.0,
                parent: Hex(intent.parent),
                owner: intent.owner,
                written_at: intent.written_at,
                deadline: intent.deadline,
            }),
            seeds: record.seeds.iter().copied().map(Hex).collect(),
            login_refused: record.login_refused.map(Hex),
            lineage: record.lineage.iter().map(Hex).collect(),
        }
    }
}

#[derive(Serialize, Deserialize)]
struct Access<'a> {
    token: &'a str,
    obtained_at: UnixMillis,
    expires_at: UnixMillis,
}

impl TryFrom<Access<'_>> for SavedAccess {
    type Error = crate::token::NotAToken;

    fn try_from(access: Access<'_>) -> Result<Self, Self::Error> {
        Ok(Self {
            token: AccessToken::parse(access.token)?,
            obtained_at: access.obtained_at,
            expires_at: access.expires_at,
        })
    }
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Spending {
    Unspent,
    PerhapsSpent { since: UnixMillis },
    Refused,
}

impl From<Spending> for Standing {
    fn from(spent: Spending) -> Self {
        match spent {
            Spending::Unspent => Self::Unspent,
            Spending::PerhapsSpent { since } => Self::PerhapsSpent { since },
            Spending::Refused => Self::Refused,
        }
    }
}

#[derive(Serialize, Deserialize)]
struct Call {
    generation: u64,
    parent: Hex,
    owner: u64,
    written_at: UnixMillis,
    deadline: UnixMillis,
}

impl From<Call> for Intent {
    fn from(call: Call) -> Self {
        Self {
            generation: Generation(call.generation),
            parent: call.parent.0,
            owner: call.owner,
            written_at: call.written_at,
            deadline: call.deadline,
        }
    }
}

/// A digest as 64 hexadecimal digits.
struct Hex(Digest);

impl Serialize for Hex {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(const_hex::Buffer::<32>::new().const_format(&self.0.0).as_str())
    }
}

impl<'de> Deserialize<'de> for Hex {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <&str>::deserialize(deserializer)?;
        let bytes = const_hex::decode_to_array(text).map_err(|_| de::Error::custom("not a digest"))?;
        Ok(Self(Digest(bytes)))
    }
}
