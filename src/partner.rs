//! The partner's token endpoint: login and refresh on the wire.
//!
//! [`TokenEndpoint::refresh`] and [`TokenEndpoint::login`] never fail; each ends in an [`Outcome`]
//! that says what is known of the call, because what may follow depends on nothing else.

mod answer;
mod connect;
mod endpoint;
pub mod envelope;
mod origin;
pub mod reason;

use std::fmt;
use std::time::Duration;

use http::{HeaderName, HeaderValue};
use secrecy::{ExposeSecret, SecretString};

pub use self::connect::{ConnectError, Connected, Connector, ConnectorError, Phase, Transport, Versions};
pub use self::endpoint::HttpEndpoint;
pub use self::origin::{BaseUrl, BaseUrlError, Scheme};
use crate::clock::Moment;
use crate::store::BoxFuture;
use crate::token::{AccessToken, Digest, RefreshToken};

/// The path of the login call, below the base URL's own path.
pub const LOGIN_PATH: &str = "/openapi/v1/auth/login";
/// The path of the refresh call, below the base URL's own path.
pub const REFRESH_PATH: &str = "/openapi/v1/auth/refresh";
/// How much of an answer is read, in bytes.
pub const MAX_ANSWER: usize = 64 * 1024;

/// What it takes to speak with one partner's token endpoint.
#[derive(Clone)]
pub struct Config {
    /// The partner's configured name, for logs.
    pub name: String,
    /// Where the partner is.
    pub base_url: BaseUrl,
    /// The value of `Partner-Code`.
    pub partner_code: HeaderValue,
    /// Static headers that go on every request, login and refresh included.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// The key that seals request bodies.
    pub key: envelope::EnvelopeKey,
    /// Where the initialisation vector comes from.
    pub iv: envelope::Iv,
    /// How to start over, if that is configured.
    pub login: Option<Login>,
    /// The time for TCP and TLS together.
    pub connect_timeout: Duration,
    /// The time for the whole call, connecting included.
    pub timeout: Duration,
    /// Whether a 500 says that nothing was done.
    pub repeat_on_5xx: bool,
    /// PEM file of the certificate authorities to trust instead of the system's.
    pub ca_file: Option<std::path::PathBuf>,
}

impl fmt::Debug for Config {
    /// Shows static headers by name only: their values may be secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Config")
            .field("name", &self.name)
            .field("base_url", &self.base_url)
            .field("partner_code", &self.partner_code)
            .field("headers", &self.headers.iter().map(|(name, _)| name).collect::<Vec<_>>())
            .field("key", &self.key)
            .field("iv", &self.iv)
            .field("login", &self.login)
            .field("connect_timeout", &self.connect_timeout)
            .field("timeout", &self.timeout)
            .field("repeat_on_5xx", &self.repeat_on_5xx)
            .field("ca_file", &self.ca_file)
            .finish()
    }
}

/// The secrets of a login.
#[derive(Clone)]
pub struct Login {
    /// The user's name.
    pub username: String,
    /// The user's password.
    pub password: SecretString,
    /// The client's identifier.
    pub client_id: String,
    /// The client's secret.
    pub client_secret: SecretString,
}

impl Login {
    /// Names these secrets without giving them away. Passwords can be guessed, so the envelope key,
    /// which cannot, goes into the digest.
    pub fn digest(&self, key: &envelope::EnvelopeKey) -> Digest {
        Digest::of(&[
            key.bytes(),
            self.username.as_bytes(),
            self.password.expose_secret().as_bytes(),
            self.client_id.as_bytes(),
            self.client_secret.expose_secret().as_bytes(),
        ])
    }
}

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Login(\"...\")")
    }
}

/// Gets tokens. Implemented over HTTP by [`HttpEndpoint`] and by the simulation.
pub trait TokenEndpoint: Send + Sync {
    /// Presents `token`, which the partner will have spent if it processes the call. Sends nothing
    /// after `by`.
    fn refresh<'a>(&'a self, token: &'a RefreshToken, by: Moment) -> BoxFuture<'a, Outcome>;

    /// Starts over with the configured login; [`Outcome::Refused`] if there is none. Sends nothing after
    /// `by`.
    fn login(&self, by: Moment) -> BoxFuture<'_, Outcome>;
}

/// What is known of a call when it has ended.
#[derive(Debug)]
pub enum Outcome {
    /// The partner answered 200 with a usable access token.
    Renewed(TokenSet),
    /// Not one byte of the request was sent.
    NotSent(Cause),
    /// The partner, or something in front of it, says that it did not process the call.
    Busy {
        /// `Retry-After`, if the answer had one: at most 60 s.
        retry_after: Option<Duration>,
        /// What it said.
        cause: Cause,
    },
    /// The partner refuses the refresh token or the login.
    Refused(Cause),
    /// Sent in whole or in part, and no usable answer: the refresh token may be spent.
    Unknown(Cause),
}

/// What the partner gave.
#[derive(Debug, Clone)]
pub struct TokenSet {
    /// The new access token.
    pub access: AccessToken,
    /// Its lifetime, from `expires_in` or the token's own `exp`; `None` if neither was usable.
    pub lifetime: Option<Duration>,
    /// The new refresh token; `None` means that the one that was presented stays (RFC 6749 section 6),
    /// and after a login that there is none.
    pub refresh: Option<RefreshToken>,
}

/// Why a call did not end in a token set: a fixed word for metrics and for people, never the
/// partner's text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cause {
    /// One of the words of [`reason`].
    pub reason: &'static str,
    /// The status code of the answer, if there was one.
    pub status: Option<u16>,
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.status {
            Some(status) => write!(f, "{} (status {status})", self.reason),
            None => f.write_str(self.reason),
        }
    }
}
