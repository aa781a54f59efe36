//! Addresses: where bearerd listens, where the partner is, and which requests are for it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs};
use std::path::{Path, PathBuf};

use super::value::quoted;
use crate::listener::ListenAddr;
use crate::partner::BaseUrl;
use crate::proxy::HostPattern;

pub(super) const LISTEN: &str = "host:port or unix:/path";
pub(super) const LISTEN_TCP: &str = "host:port";
pub(super) const BASE_URL: &str = "http:// or https://, a host, and perhaps a port and a path";
pub(super) const HOST: &str = "a host such as \"api.example.com\", and perhaps a port";
pub(super) const PREFIX: &str = "a path such as \"/payments\", without escapes, . and ..";

/// `host:port`, or `unix:` and a path, which may be relative to the file's directory.
pub(super) fn listen(text: &str, join: impl FnOnce(&str) -> PathBuf) -> Result<ListenAddr, String> {
    match text.strip_prefix("unix:") {
        Some(path) => unix(path, join),
        None => tcp(text).map(ListenAddr::Tcp),
    }
}

fn unix(path: &str, join: impl FnOnce(&str) -> PathBuf) -> Result<ListenAddr, String> {
    // What the kernel's address structure holds, without the byte that ends it.
    const MAX: usize = 107;
    if path.is_empty() || path.ends_with('/') || path.contains(char::is_control) {
        return Err(quoted(&format!("unix:{path}")));
    }
    let path = join(path);
    match path.as_os_str().len() {
        len if len > MAX => Err(format!("a path of {len} bytes, which is more than a socket's {MAX}")),
        _ => Ok(ListenAddr::Unix(path)),
    }
}

/// `host:port`. A name is resolved now, `localhost` to 127.0.0.1 without asking anybody.
pub(super) fn tcp(text: &str) -> Result<SocketAddr, String> {
    if let Ok(address) = text.parse() {
        return Ok(address);
    }
    let (host, port) = text.rsplit_once(':').ok_or_else(|| quoted(text))?;
    let port: u16 = parse_port(port).ok_or_else(|| quoted(text))?;
    if host == "localhost" {
        return Ok((Ipv4Addr::LOCALHOST, port).into());
    }
    check_name(host).map_err(|_| quoted(text))?;
    let resolved = (host, port).to_socket_addrs().ok().and_then(|mut found| found.next());
    resolved.ok_or_else(|| format!("{}, a name that cannot be resolved", quoted(text)))
}

/// Whether only this machine can reach it.
pub(super) fn is_local(address: &ListenAddr) -> bool {
    match address {
        ListenAddr::Tcp(address) => address.ip().to_canonical().is_loopback(),
        ListenAddr::Unix(_) => true,
    }
}

/// Whether both cannot be bound at the same time.
pub(super) fn collide(one: &ListenAddr, other: &ListenAddr) -> bool {
    match (one, other) {
        (ListenAddr::Tcp(one), ListenAddr::Tcp(other)) => {
            let any = one.ip().is_unspecified() || other.ip().is_unspecified();
            one.port() == other.port() && one.port() != 0 && (any || one.ip() == other.ip())
        }
        (one, other) => one == other,
    }
}

/// `base_url`. What may hold a secret (user information, a query) is refused without being quoted.
pub(super) fn base_url(text: &str) -> Result<BaseUrl, String> {
    for (mark, what) in [('@', "a user name or password"), ('?', "a query"), ('#', "a fragment")] {
        if text.contains(mark) {
            return Err(format!("{what} in the URL"));
        }
    }
    BaseUrl::parse(text).map_err(|_| quoted(text))
}

/// Whether a connection to `url` would end at `address`.
pub(super) fn leads_to(url: &BaseUrl, address: &ListenAddr) -> bool {
    let ListenAddr::Tcp(address) = address else { return false };
    let ip = match url.host() {
        "localhost" => IpAddr::V4(Ipv4Addr::LOCALHOST),
        host => match host.parse() {
            Ok(ip) => ip,
            Err(_) => return false,
        },
    };
    let here = address.ip();
    url.port() == address.port() && (ip == here || here.is_unspecified() && ip.is_loopback())
}

/// A host as in a `Host` header, in any case: a name, an IPv4 address, or an IPv6 address in
/// brackets.
pub(super) fn host(text: &str) -> Result<HostPattern, String> {
    if text.contains('@') {
        return Err("a user name or password".to_owned());
    }
    let wrong = || quoted(text);
    let bracketed = text.strip_prefix('[').map(|rest| rest.split_once(']').ok_or_else(wrong)).transpose()?;
    if let Some((address, rest)) = bracketed {
        let address: Ipv6Addr = address.parse().map_err(|_| wrong())?;
        let port = match rest {
            "" => None,
            rest => Some(
                rest.strip_prefix(':').and_then(parse_port).filter(|port| *port != 0).ok_or_else(wrong)?,
            ),
        };
        return Ok(HostPattern { host: format!("[{address}]"), port });
    }
    let (name, port) = match text.split_once(':') {
        Some((name, port)) => (name, Some(parse_port(port).filter(|port| *port != 0).ok_or_else(wrong)?)),
        None => (text, None),
    };
    check_name(name).map_err(|()| wrong())?;
    Ok(HostPattern { host: name.to_ascii_lowercase(), port })
}

/// A prefix of whole segments. One slash at the end makes no difference and is taken off.
pub(super) fn path_prefix(text: &str) -> Result<String, String> {
    let wrong = || quoted(text);
    let segments = text.strip_prefix('/').ok_or_else(wrong)?;
    let segments = segments.strip_suffix('/').unwrap_or(segments);
    if segments.is_empty() {
        return if text == "/" { Ok(text.to_owned()) } else { Err(wrong()) };
    }
    // What RFC 3986 section 3.3 allows in a segment, without escapes, which have many spellings.
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:@".contains(&b);
    for segment in segments.split('/') {
        if segment.is_empty() || segment == "." || segment == ".." || !segment.bytes().all(plain) {
            return Err(wrong());
        }
    }
    Ok(format!("/{segments}"))
}

/// A file that `key` names, as messages and the listing have it.
pub(super) fn is_path(text: &str) -> Result<&Path, String> {
    if text.is_empty() || text.contains(char::is_control) {
        return Err(quoted(text));
    }
    Ok(Path::new(text))
}

/// Digits only: `parse` alone would take a sign.
fn parse_port(text: &str) -> Option<u16> {
    text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse().ok())?
}

/// A host name as DNS and container networks have them: labels of 1 to 63 letters, digits, - and _,
/// without the dot at the end that a `Host` header never has.
fn check_name(name: &str) -> Result<(), ()> {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
    let label = |label: &str| (1..=63).contains(&label.len()) && label.bytes().all(plain);
    if name.len() <= 253 && name.split('.').all(label) { Ok(()) } else { Err(()) }
}
