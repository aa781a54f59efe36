//! The closed list of words that say why a call did not end in a token set: the label `reason` of
//! `bearerd_token_refresh_failures_total`.

/// The partner's name does not resolve.
pub const DNS: &str = "dns";
/// No address of the partner takes the connection.
pub const CONNECT: &str = "connect";
/// The time for name, TCP and TLS together was over.
pub const CONNECT_TIMEOUT: &str = "connect_timeout";
/// The TLS handshake failed in another way than the next three.
pub const TLS: &str = "tls";
/// The partner's certificate has expired or is not valid yet.
pub const TLS_CERTIFICATE_EXPIRED: &str = "tls_certificate_expired";
/// The partner's certificate is for other names.
pub const TLS_WRONG_HOST: &str = "tls_wrong_host";
/// The issuer of the partner's certificate is not trusted.
pub const TLS_UNKNOWN_ISSUER: &str = "tls_unknown_issuer";
/// The system had no random bytes, so that nothing could be sealed.
pub const ENTROPY: &str = "entropy";
/// No login is configured.
pub const NO_LOGIN: &str = "no_login";
/// The time for the whole call was over.
pub const TIMEOUT: &str = "timeout";
/// The connection ended before the answer did.
pub const CLOSED: &str = "closed";
/// The answer is not HTTP, or not a usable token set.
pub const MALFORMED: &str = "malformed";
/// The answer is longer than [`MAX_ANSWER`](super::MAX_ANSWER), or its header than it may be.
pub const TOO_LARGE: &str = "too_large";
/// The answer is compressed, although that was not asked for.
pub const CONTENT_CODING: &str = "content_coding";
/// The answer is an envelope and does not open.
pub const ENVELOPE: &str = "envelope";
/// The partner refused the refresh token or the login.
pub const REFUSED: &str = "refused";
/// The partner was too busy, or told to try later: 408, 425, 429, 503.
pub const BUSY: &str = "busy";
/// A redirect. None is ever followed.
pub const REDIRECT: &str = "redirect";
/// A 4xx that is not JSON: something in between answered.
pub const NOT_JSON: &str = "not_json";
/// A 5xx other than 503.
pub const SERVER_ERROR: &str = "server_error";
/// A status that answers no such call: 1xx, 2xx other than 200, 600 and above.
pub const STATUS: &str = "status";
/// Besides: it is not the first time that a refresh token which was never presented from here is refused.
pub const USED_ELSEWHERE: &str = "used_elsewhere";

/// All of them, for those who count.
pub const ALL: [&str; 22] = [
    DNS,
    CONNECT,
    CONNECT_TIMEOUT,
    TLS,
    TLS_CERTIFICATE_EXPIRED,
    TLS_WRONG_HOST,
    TLS_UNKNOWN_ISSUER,
    ENTROPY,
    NO_LOGIN,
    TIMEOUT,
    CLOSED,
    MALFORMED,
    TOO_LARGE,
    CONTENT_CODING,
    ENVELOPE,
    REFUSED,
    BUSY,
    REDIRECT,
    NOT_JSON,
    SERVER_ERROR,
    STATUS,
    USED_ELSEWHERE,
];
