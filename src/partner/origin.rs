//! Where a partner is: `base_url`, parsed once and strictly.
//!
//! What reached a [`BaseUrl`] has one reading only: no userinfo, no query, no fragment, no dot
//! segment in any spelling, so that whatever is put behind its path stays below it.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The scheme of a base URL.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Scheme {
    /// In clear.
    Http,
    /// Over TLS.
    Https,
}

impl Scheme {
    /// The scheme as it is written, without `://`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
        }
    }

    /// The port that is meant if none is given (RFC 9110 sections 4.2.1 and 4.2.2).
    pub fn default_port(self) -> u16 {
        match self {
            Self::Http => 80,
            Self::Https => 443,
        }
    }
}

/// A base URL: scheme, host, port and the path that goes in front of every request's.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct BaseUrl {
    scheme: Scheme,
    host: String,
    port: u16,
    path: String,
}

impl BaseUrl {
    /// Takes `http://` or `https://`, a host, perhaps a port, perhaps a path; nothing else.
    ///
    /// The host is a DNS name (with underscores tolerated, without a dot at the end), an IPv4
    /// address or an IPv6 address in brackets. Port 0 is taken, for a server whose port is known
    /// only once it listens: see [`with_port`](Self::with_port). A slash at the end of the path is
    /// removed.
    ///
    /// # Errors
    ///
    /// Fixed texts that hold nothing of `url`, which may hold a password.
    pub fn parse(url: &str) -> Result<Self, BaseUrlError> {
        if !url.bytes().all(|b| b.is_ascii_graphic()) {
            return Err(BaseUrlError::Character);
        }
        let (scheme, rest) = url.split_once("://").ok_or(BaseUrlError::Scheme)?;
        let scheme = match scheme {
            s if s.eq_ignore_ascii_case("http") => Scheme::Http,
            s if s.eq_ignore_ascii_case("https") => Scheme::Https,
            _ => return Err(BaseUrlError::Scheme),
        };
        // Userinfo first: what follows must not describe a text that may be a password.
        let authority_end = rest.find(['/', '?', '#', '\\']).unwrap_or(rest.len());
        let (authority, path) = rest.split_at(authority_end);
        if authority.contains('@') {
            return Err(BaseUrlError::Userinfo);
        }
        if path.contains(['?', '#']) {
            return Err(BaseUrlError::QueryOrFragment);
        }
        let (host, port) = split_port(authority)?;
        Ok(Self {
            scheme,
            host: parse_host(host)?,
            port: port.map(parse_port).transpose()?.unwrap_or_else(|| scheme.default_port()),
            path: parse_path(path)?,
        })
    }

    /// The same place on another port.
    #[must_use]
    pub fn with_port(mut self, port: u16) -> Self {
        self.port = port;
        self
    }

    /// The scheme.
    pub fn scheme(&self) -> Scheme {
        self.scheme
    }

    /// The host in lower case, an IPv6 address without brackets.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The port, the scheme's own if none was given.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The path in front of every request's: empty, or begins with a slash and does not end in one.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The value of `Host`: the host, an IPv6 address in brackets, and the port unless it is the
    /// scheme's own (RFC 9110 section 7.2).
    pub fn authority(&self) -> String {
        let (open, close) = if self.host.contains(':') { ("[", "]") } else { ("", "") };
        if self.port == self.scheme.default_port() {
            format!("{open}{}{close}", self.host)
        } else {
            format!("{open}{}{close}:{}", self.host, self.port)
        }
    }

    /// Whether the host is a loopback address or exactly `localhost`.
    pub fn is_loopback(&self) -> bool {
        match self.host.parse::<IpAddr>() {
            Ok(address) => address.to_canonical().is_loopback(),
            Err(_) => self.host == "localhost",
        }
    }
}

impl fmt::Display for BaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}{}", self.scheme.as_str(), self.authority(), self.path)
    }
}

/// Why a text is not a base URL: always the configuration's fault. The texts hold nothing of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BaseUrlError {
    /// White space, a control character, or anything beyond ASCII.
    #[error("expected printable ASCII without spaces; write an international name in its xn-- form")]
    Character,
    /// Something else than `http://` or `https://` at the front.
    #[error("expected http:// or https:// at the front")]
    Scheme,
    /// A user name or password in front of the host.
    #[error("no user name or password may stand in front of the host")]
    Userinfo,
    /// A query or a fragment.
    #[error("neither a query (?) nor a fragment (#) may follow the path")]
    QueryOrFragment,
    /// The host is missing, or is neither a DNS name nor an address.
    #[error("expected a host: a DNS name, an IPv4 address, or an IPv6 address in brackets")]
    Host,
    /// The port is not a number from 0 to 65535.
    #[error("expected a port from 1 to 65535 after the colon")]
    Port,
    /// The path holds what different servers read differently.
    #[error(
        "expected a path without empty, . or .. segments, backslashes, encoded slashes or broken percent-encoding"
    )]
    Path,
}

/// Parts host and port; an IPv6 address keeps its brackets.
fn split_port(authority: &str) -> Result<(&str, Option<&str>), BaseUrlError> {
    if !authority.starts_with('[') {
        return Ok(match authority.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (authority, None),
        });
    }
    let end = authority.find(']').ok_or(BaseUrlError::Host)? + 1;
    match authority.split_at(end) {
        (host, "") => Ok((host, None)),
        (host, rest) => Ok((host, Some(rest.strip_prefix(':').ok_or(BaseUrlError::Host)?))),
    }
}

fn parse_host(host: &str) -> Result<String, BaseUrlError> {
    if let Some(address) = host.strip_prefix('[').and_then(|h| h.strip_suffix(']')) {
        let address: Ipv6Addr = address.parse().map_err(|_| BaseUrlError::Host)?;
        return Ok(address.to_string());
    }
    // What ends in a number is an address and nothing else: resolvers read `127.1` and `0x7f.1` as
    // one.
    let last = host.rsplit('.').next().unwrap_or_default();
    let hexadecimal = last.strip_prefix("0x").or_else(|| last.strip_prefix("0X"));
    let numeric = last.bytes().all(|b| b.is_ascii_digit())
        || hexadecimal.is_some_and(|digits| digits.bytes().all(|b| b.is_ascii_hexdigit()));
    if numeric {
        let address: Ipv4Addr = host.parse().map_err(|_| BaseUrlError::Host)?;
        return Ok(address.to_string());
    }
    if host.len() > 253 || !host.split('.').all(is_label) {
        return Err(BaseUrlError::Host);
    }
    Ok(host.to_ascii_lowercase())
}

/// RFC 1123 section 2.1, and underscores, which inner names often have.
fn is_label(label: &str) -> bool {
    (1..=63).contains(&label.len())
        && !label.starts_with('-')
        && !label.ends_with('-')
        && label.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
}

fn parse_port(port: &str) -> Result<u16, BaseUrlError> {
    // `u16::from_str` would take a plus sign.
    if !port.bytes().all(|b| b.is_ascii_digit()) {
        return Err(BaseUrlError::Port);
    }
    port.parse().map_err(|_| BaseUrlError::Port)
}

fn parse_path(path: &str) -> Result<String, BaseUrlError> {
    let path = path.strip_suffix('/').unwrap_or(path);
    if path.is_empty() {
        return Ok(String::new());
    }
    let segments = path.strip_prefix('/').ok_or(BaseUrlError::Path)?;
    if segments.split('/').all(is_segment) { Ok(path.to_owned()) } else { Err(BaseUrlError::Path) }
}

/// A `segment-nz` of RFC 3986 section 3.3 that every server reads alike: decoded, it is no dot
/// segment and holds no slash, backslash, percent sign (which a second decoding would take up) or
/// control.
fn is_segment(segment: &str) -> bool {
    let mut decoded = Vec::with_capacity(segment.len());
    let mut bytes = segment.bytes();
    while let Some(byte) = bytes.next() {
        if byte == b'%' {
            let digit = |b: Option<u8>| b.and_then(|b| char::from(b).to_digit(16));
            let (Some(high), Some(low)) = (digit(bytes.next()), digit(bytes.next())) else {
                return false;
            };
            // Two hexadecimal digits fit.
            let byte = (high * 16 + low) as u8;
            if matches!(byte, b'/' | b'\\' | b'%' | 0x7f) || byte < 0x20 {
                return false;
            }
            decoded.push(byte);
        } else if byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:@".contains(&byte) {
            decoded.push(byte);
        } else {
            return false;
        }
    }
    !decoded.is_empty() && decoded != b"." && decoded != b".."
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_a_base_url() {
        for (given, host, port, path, authority, shown) in [
            ("https://a.example", "a.example", 443, "", "a.example", "https://a.example"),
            ("HTTPS://A.Example/", "a.example", 443, "", "a.example", "https://a.example"),
            ("https://a.example:443/x/", "a.example", 443, "/x", "a.example", "https://a.example/x"),
            ("http://a_b-c:8080/x/y", "a_b-c", 8080, "/x/y", "a_b-c:8080", "http://a_b-c:8080/x/y"),
            ("http://127.0.0.1:0", "127.0.0.1", 0, "", "127.0.0.1:0", "http://127.0.0.1:0"),
            ("http://[::1]", "::1", 80, "", "[::1]", "http://[::1]"),
            ("https://[0:0::1]:80", "::1", 80, "", "[::1]:80", "https://[::1]:80"),
            ("https://a/%C3%A9/b@c", "a", 443, "/%C3%A9/b@c", "a", "https://a/%C3%A9/b@c"),
            ("https://1a.1b/...", "1a.1b", 443, "/...", "1a.1b", "https://1a.1b/..."),
        ] {
            let url = BaseUrl::parse(given).unwrap();
            assert_eq!((url.host(), url.port(), url.path()), (host, port, path), "{given}");
            assert_eq!((url.authority().as_str(), url.to_string().as_str()), (authority, shown), "{given}");
            assert_eq!(BaseUrl::parse(&url.to_string()).unwrap(), url, "{given}");
        }
    }

    #[test]
    fn what_is_not() {
        use BaseUrlError::{Character, Host, Path, Port, QueryOrFragment, Scheme, Userinfo};
        for (given, error) in [
            ("", Scheme),
            ("a.example", Scheme),
            ("ftp://a", Scheme),
            ("http:/a", Scheme),
            (" http://a", Character),
            ("http://\u{e9}", Character),
            ("http://a/\n", Character),
            ("http://", Host),
            ("http:///a", Host),
            ("http://:80", Host),
            ("http://a..b", Host),
            ("http://a.", Host),
            ("http://-a", Host),
            ("http://a%2eb", Host),
            ("http://127.1", Host),
            ("http://127.0.0.01", Host),
            ("http://0x7f.0x1", Host),
            ("http://2130706433", Host),
            ("http://[::1", Host),
            ("http://[a]", Host),
            ("http://[fe80::1%25eth0]", Host),
            ("http://[::1]x", Host),
            ("http://::1", Host),
            ("http://a:", Port),
            ("http://a:65536", Port),
            ("http://a:+80", Port),
            ("http://a:80:90", Port),
            ("http://u:secret@a", Userinfo),
            ("http://u:secret@a?b", Userinfo),
            ("http://@a", Userinfo),
            ("http://a?b", QueryOrFragment),
            ("http://a/b?", QueryOrFragment),
            ("http://a/#", QueryOrFragment),
            ("http://a//", Path),
            ("http://a/b//c", Path),
            ("http://a/.", Path),
            ("http://a/../b", Path),
            ("http://a/%2E%2e/b", Path),
            ("http://a/.%2e", Path),
            ("http://a/b%2fc", Path),
            ("http://a/b%5Cc", Path),
            ("http://a/%252e%252e", Path),
            ("http://a/%00", Path),
            ("http://a\\b", Path),
            ("http://a/b\\c", Path),
            ("http://a/%", Path),
            ("http://a/%4", Path),
            ("http://a/%zz", Path),
            ("http://a/\"", Path),
        ] {
            let got = BaseUrl::parse(given).unwrap_err();
            assert_eq!(got, error, "{given}");
            assert!(!format!("{got} {got:?}").contains("secret"));
        }
    }

    #[test]
    fn what_is_loopback() {
        for (given, loopback) in [
            ("http://localhost", true),
            ("http://LOCALHOST:1", true),
            ("http://127.8.8.8", true),
            ("http://[::1]", true),
            ("http://[::ffff:127.0.0.1]", true),
            ("http://localhost.example", false),
            ("http://a.localhost", false),
            ("http://10.0.0.1", false),
            ("http://0.0.0.0", false),
            ("http://[::]", false),
        ] {
            assert_eq!(BaseUrl::parse(given).unwrap().is_loopback(), loopback, "{given}");
        }
    }

    #[test]
    fn the_port_can_be_set_once_it_is_known() {
        let url = BaseUrl::parse("http://127.0.0.1:0/x").unwrap().with_port(81);
        assert_eq!(url.to_string(), "http://127.0.0.1:81/x");
    }
}
