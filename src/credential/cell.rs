//! Where requests find the token in use.

use std::fmt;
use std::sync::Arc;

use arc_swap::ArcSwapOption;
use arc_swap::cache::Cache;
use http::HeaderValue;

use crate::clock::Moment;
use crate::token::{AccessToken, Generation};

/// An access token in use.
#[derive(Debug, Clone)]
pub struct Token {
    /// Which of the credential's tokens this is.
    pub generation: Generation,
    /// The token, as a ready-made header value.
    pub access: AccessToken,
    /// From this moment on it is not spent on a request that could not be sent again.
    pub doubtful_from: Moment,
    /// It is not sent from this moment on.
    pub expires_at: Moment,
}

impl Token {
    /// Whether it may be sent at `now`.
    pub fn is_usable(&self, now: Moment) -> bool {
        now < self.expires_at
    }
}

/// The token in use, for any number of readers; written by one [`Refresher`](super::Refresher).
#[derive(Default)]
pub struct TokenCell {
    current: Arc<ArcSwapOption<Token>>,
}

impl TokenCell {
    /// A cell that holds no token yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// The token in use, even if it has expired.
    pub fn load(&self) -> Option<Arc<Token>> {
        self.current.load_full()
    }

    /// A reader for one runtime, which may keep it for as long as it likes.
    pub fn reader(&self) -> TokenReader {
        let mut cache = Cache::new(Arc::clone(&self.current));
        let own = cache.load().as_deref().map(own_copy);
        TokenReader { cache, own }
    }

    /// Puts `token` in use. Generations only grow; an older one is a bug of the caller's.
    pub(super) fn publish(&self, token: Token) {
        debug_assert!(self.load().is_none_or(|held| held.generation <= token.generation));
        self.current.store(Some(Arc::new(token)));
    }
}

impl fmt::Debug for TokenCell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenCell").field("generation", &self.load().map(|token| token.generation)).finish()
    }
}

/// Reads a [`TokenCell`] from one runtime: an atomic load and a comparison, if nothing changed.
///
/// It keeps a copy of its own, because a header value that two cores clone bounces its reference
/// count between their caches.
pub struct TokenReader {
    cache: Cache<Arc<ArcSwapOption<Token>>, Option<Arc<Token>>>,
    own: Option<Token>,
}

impl TokenReader {
    /// The token in use, even if it has expired.
    pub fn load(&mut self) -> Option<&Token> {
        let held = self.cache.load().as_deref();
        let stale = match (held, &self.own) {
            // Of one token it may be learnt that it expires sooner.
            (Some(held), Some(own)) => (held.generation, held.expires_at) != (own.generation, own.expires_at),
            (None, None) => false,
            _ => true,
        };
        if stale {
            self.own = held.map(own_copy);
        }
        self.own.as_ref()
    }

    /// The header value of the token in use, if it may be sent at `now`.
    pub fn usable(&mut self, now: Moment) -> Option<(Generation, HeaderValue)> {
        let token = self.load().filter(|token| token.is_usable(now))?;
        Some((token.generation, token.access.header().clone()))
    }
}

impl fmt::Debug for TokenReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenReader").field("own", &self.own).finish_non_exhaustive()
    }
}

fn own_copy(token: &Token) -> Token {
    // What was parsed once parses again; should it not, sharing the bytes is merely slower.
    let access = AccessToken::parse(token.access.expose()).unwrap_or_else(|_| token.access.clone());
    Token { access, ..token.clone() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(generation: u64) -> Token {
        Token {
            generation: Generation(generation),
            access: AccessToken::parse(&format!("t{generation}")).unwrap(),
            doubtful_from: Moment::NEVER,
            expires_at: Moment::NEVER,
        }
    }

    #[test]
    fn a_reader_sees_what_was_published_last() {
        let cell = TokenCell::new();
        let mut reader = cell.reader();
        assert!(reader.load().is_none());
        for generation in 1..4 {
            cell.publish(token(generation));
            assert_eq!(reader.load().unwrap().generation, Generation(generation));
            let (_, header) = reader.usable(Moment::default()).unwrap();
            assert_eq!(header, format!("Bearer t{generation}"));
            assert!(header.is_sensitive());
        }
    }

    #[test]
    fn an_expired_token_is_not_usable() {
        let cell = TokenCell::new();
        let expires_at = Moment::default() + std::time::Duration::from_secs(5);
        cell.publish(Token { expires_at, ..token(1) });
        let mut reader = cell.reader();
        assert!(reader.usable(expires_at - std::time::Duration::from_nanos(1)).is_some());
        assert!(reader.usable(expires_at).is_none());
    }

    #[test]
    fn a_reader_sees_that_its_token_expires_sooner() {
        let cell = TokenCell::new();
        cell.publish(token(1));
        let mut reader = cell.reader();
        assert!(reader.usable(Moment::default()).is_some());
        cell.publish(Token { expires_at: Moment::default(), ..token(1) });
        assert!(reader.usable(Moment::default()).is_none());
    }
}
