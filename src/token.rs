//! The tokens, as types that cannot leak.
//!
//! A value that reached one of these types matches RFC 6750's `b64token`, so it can become a header
//! value without a check, and it is wiped when its last copy goes. None of them implements
//! `Display` or `Serialize`; `Debug` prints `"..."`. What the HTTP and TLS libraries hold in their
//! own buffers while a message is on its way is out of reach and is not wiped.

use std::fmt;

use bytes::Bytes;
use http::HeaderValue;
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

/// The longest token taken, in bytes. Servers commonly refuse header fields beyond 8 to 16 KiB.
pub const MAX_TOKEN_LEN: usize = 16 * 1024;

/// Counts the access tokens that a partner's credential has had; it only ever grows.
///
/// Generation 0 is a credential that has not had one yet. A request remembers the generation it was
/// sent with, because a 401 is evidence against that generation and no other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Generation(pub u64);

impl Generation {
    /// The generation after this one.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

impl fmt::Display for Generation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// An access token, held as the ready-made value of an `Authorization` header: `Bearer <token>`,
/// marked sensitive.
#[derive(Clone)]
pub struct AccessToken {
    header: HeaderValue,
}

impl AccessToken {
    const SCHEME: &str = "Bearer ";

    /// Takes a token that matches `b64token` (RFC 6750 section 2.1) and is at most
    /// [`MAX_TOKEN_LEN`] bytes long.
    pub fn parse(token: &str) -> Result<Self, NotAToken> {
        check_b64token(token)?;
        let mut value = Zeroizing::new(Vec::with_capacity(Self::SCHEME.len() + token.len()));
        value.extend_from_slice(Self::SCHEME.as_bytes());
        value.extend_from_slice(token.as_bytes());
        let mut header = HeaderValue::from_maybe_shared(Bytes::from_owner(value)).map_err(|_| NotAToken)?;
        header.set_sensitive(true);
        Ok(Self { header })
    }

    /// The value of the `Authorization` header. A clone shares the bytes.
    pub fn header(&self) -> &HeaderValue {
        &self.header
    }

    /// The bare token, for the store and for comparison.
    pub fn expose(&self) -> &str {
        // `parse` put a check on every byte, so the value is ASCII and begins with the scheme.
        std::str::from_utf8(&self.header.as_bytes()[Self::SCHEME.len()..]).unwrap_or_default()
    }
}

impl fmt::Debug for AccessToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AccessToken(\"...\")")
    }
}

/// A refresh token. Every refresh spends it, so it is worth more than any access token.
#[derive(Clone)]
pub struct RefreshToken(Zeroizing<String>);

impl RefreshToken {
    /// Takes a token that matches `b64token` (RFC 6750 section 2.1) and is at most
    /// [`MAX_TOKEN_LEN`] bytes long.
    pub fn parse(token: &str) -> Result<Self, NotAToken> {
        check_b64token(token)?;
        Ok(Self(Zeroizing::new(token.to_owned())))
    }

    /// The token itself, for the refresh call and the store.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Names this token without giving it away.
    pub fn digest(&self) -> Digest {
        Digest::of(&[self.0.as_bytes()])
    }
}

impl fmt::Debug for RefreshToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RefreshToken(\"...\")")
    }
}

/// A SHA-256 digest that stands for a secret where the secret itself must not be written, as in an
/// intent.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Digest(pub [u8; 32]);

impl Digest {
    /// The digest of the parts, each preceded by its length so that no two lists of parts collide.
    pub fn of(parts: &[&[u8]]) -> Self {
        let mut hash = Sha256::new();
        for part in parts {
            hash.update((part.len() as u64).to_be_bytes());
            hash.update(part);
        }
        Self(hash.finalize().into())
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Digest({}...)", const_hex::encode(&self.0[..4]))
    }
}

/// The text is empty, too long, or holds a byte that `b64token` does not allow. Says nothing of the
/// text.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("not a bearer token: expected 1 to 16384 letters, digits and -._~+/ with = only at the end")]
pub struct NotAToken;

/// `b64token = 1*( ALPHA / DIGIT / "-" / "." / "_" / "~" / "+" / "/" ) *"="`
fn check_b64token(token: &str) -> Result<(), NotAToken> {
    let body = token.trim_end_matches('=');
    let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_' | b'~' | b'+' | b'/');
    if body.is_empty() || token.len() > MAX_TOKEN_LEN || !body.bytes().all(allowed) {
        return Err(NotAToken);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_b64token_becomes_a_token() {
        for good in ["a", "eyJhbGciOiJSUzI1NiJ9.e30.c2ln", "a-._~+/0==", &"x".repeat(MAX_TOKEN_LEN)] {
            assert_eq!(AccessToken::parse(good).unwrap().expose(), good);
            assert_eq!(RefreshToken::parse(good).unwrap().expose(), good);
        }
        let long = "x".repeat(MAX_TOKEN_LEN + 1);
        for bad in ["", "=", "a=b", "a b", "a\r\nX: y", "a\0", "a\n", "\u{e9}", "a,b", "\"a\"", &long] {
            assert_eq!(AccessToken::parse(bad).unwrap_err(), NotAToken, "{bad:?}");
            assert_eq!(RefreshToken::parse(bad).unwrap_err(), NotAToken, "{bad:?}");
        }
    }

    #[test]
    fn the_header_is_ready_made_and_sensitive() {
        let token = AccessToken::parse("abc").unwrap();
        assert_eq!(token.header(), "Bearer abc");
        assert!(token.header().is_sensitive());
    }

    #[test]
    fn debug_shows_no_token() {
        let access = AccessToken::parse("marked").unwrap();
        let refresh = RefreshToken::parse("marked").unwrap();
        assert!(
            !format!("{access:?} {refresh:?} {:?} {:?}", access.header(), refresh.digest())
                .contains("marked")
        );
    }

    #[test]
    fn digests_of_different_lists_differ() {
        assert_ne!(Digest::of(&[b"ab", b"c"]), Digest::of(&[b"a", b"bc"]));
    }
}
