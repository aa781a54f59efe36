//! The sandbox's tokens: JWTs (RFC 7519) signed with HS256 (RFC 7515) under a key that everybody
//! knows.
//!
//! A token says by itself whose it is and how long it lives, so a sandbox that has just started
//! honours what an earlier one gave out. It has to: bearerd's journal outlives the process that the
//! sandbox runs in. None of these tokens is a secret, hence plain strings.

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use serde::{Deserialize, Serialize};
use sha2::Sha256;

use crate::clock::UnixMillis;

/// What a token says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Claims {
    /// What it is good for.
    #[serde(rename = "use")]
    pub(super) usage: Usage,
    /// The first refresh token of its line.
    pub(super) family: Id,
    /// How many refreshes lie between it and that one.
    pub(super) generation: u64,
    /// When it was made, in seconds since 1970.
    pub(super) iat: u64,
    /// When it dies, in seconds since 1970; only the seed never does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) exp: Option<u64>,
    /// Its own name.
    pub(super) jti: Id,
}

impl Claims {
    /// What the seed says: generation 0 of the one family that every sandbox knows.
    pub(super) const SEED: Self =
        Self { usage: Usage::Refresh, family: Id::SEED, generation: 0, iat: 0, exp: None, jti: Id::SEED };

    /// The token that says this.
    pub(super) fn sign(&self) -> String {
        let payload = URL_SAFE_NO_PAD.encode(serde_json::json!(self).to_string());
        let signed = format!("{HEADER}.{payload}");
        let signature = mac(&signed).finalize().into_bytes();
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
    }

    /// What `token` says, if a sandbox signed it for this use. Whether it is alive is another
    /// question.
    pub(super) fn verify(token: &str, usage: Usage) -> Option<Self> {
        let (signed, signature) = token.rsplit_once('.')?;
        let (header, payload) = signed.split_once('.')?;
        // One header is ever written, so no other algorithm has to be refused.
        if header != HEADER {
            return None;
        }
        mac(signed).verify_slice(&URL_SAFE_NO_PAD.decode(signature).ok()?).ok()?;
        let claims: Self = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(payload).ok()?).ok()?;
        (claims.usage == usage).then_some(claims)
    }

    /// Whether its time is over.
    pub(super) fn expired(&self, wall: UnixMillis) -> bool {
        self.exp.is_some_and(|exp| wall.0 >= exp.saturating_mul(1000))
    }
}

/// What a token is good for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Usage {
    /// Requests.
    Access,
    /// One refresh.
    Refresh,
}

/// The name of a token or a family: a number drawn when the sandbox started, and a count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(super) struct Id {
    /// Which run of a sandbox made it.
    pub(super) instance: u64,
    /// Its place among all that the run made.
    pub(super) count: u64,
}

impl Id {
    /// The seed's, which no run made.
    const SEED: Self = Self { instance: 0, count: 0 };
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:x}-{:x}", self.instance, self.count)
    }
}

impl From<Id> for String {
    fn from(id: Id) -> Self {
        id.to_string()
    }
}

impl FromStr for Id {
    type Err = NotAnId;

    fn from_str(text: &str) -> Result<Self, NotAnId> {
        let (instance, count) = text.split_once('-').ok_or(NotAnId)?;
        let number = |digits| u64::from_str_radix(digits, 16).map_err(|_| NotAnId);
        Ok(Self { instance: number(instance)?, count: number(count)? })
    }
}

impl TryFrom<String> for Id {
    type Error = NotAnId;

    fn try_from(text: String) -> Result<Self, NotAnId> {
        text.parse()
    }
}

/// The text names no token.
#[derive(Debug, thiserror::Error)]
#[error("not the name of a token")]
pub(super) struct NotAnId;

fn mac(signed: &str) -> Hmac<Sha256> {
    let mut mac = Hmac::<Sha256>::new(SIGNING_KEY.into());
    mac.update(signed.as_bytes());
    mac
}

/// `{"alg":"HS256","typ":"JWT"}`
const HEADER: &str = "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9";

/// Published, so it protects nothing; it tells the sandbox's tokens from other text.
const SIGNING_KEY: &[u8; 64] = b"bearerd sandbox: published signing key, never for real traffic!!";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_says_what_was_signed_and_serves_one_use() {
        let token = Claims::SEED.sign();
        assert_eq!(Claims::verify(&token, Usage::Refresh), Some(Claims::SEED));
        assert_eq!(Claims::verify(&token, Usage::Access), None);
    }

    #[test]
    fn a_token_that_was_changed_anywhere_is_no_token() {
        let token = Claims::SEED.sign();
        for at in 0..token.len() {
            let mut changed = token.clone().into_bytes();
            changed[at] = if changed[at] == b'A' { b'B' } else { b'A' };
            let changed = String::from_utf8(changed).unwrap();
            assert_eq!(Claims::verify(&changed, Usage::Refresh), None, "{changed}");
        }
        for text in ["", ".", "..", "a.b.c", HEADER, &token[..token.len() - 1]] {
            assert_eq!(Claims::verify(text, Usage::Refresh), None, "{text}");
        }
    }

    #[test]
    fn ids_are_written_and_read_back() {
        let id = Id { instance: u64::MAX, count: 10 };
        assert_eq!(id.to_string(), "ffffffffffffffff-a");
        assert_eq!(id.to_string().parse::<Id>().unwrap(), id);
        for bad in ["", "-", "1", "1-", "g-1", "1-1-1"] {
            assert!(bad.parse::<Id>().is_err(), "{bad}");
        }
    }
}
