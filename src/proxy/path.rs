//! One canonical form of a path, on which requests are routed and refused.
//!
//! Servers disagree on what `%2e%2e`, `//`, `;a=b` or `\` mean in a path. What goes to the partner
//! is what came in, byte for byte; what bearerd decides on is the reading below, and a path that
//! could be read in two ways which matter is not carried at all.

use std::borrow::Cow;

use crate::partner::{LOGIN_PATH, REFRESH_PATH};

/// How often a path is decoded to see what it would be to a server that decodes too often.
const MAX_DECODES: usize = 3;

const AUTH_CALLS: [&str; 2] = [LOGIN_PATH, REFRESH_PATH];

/// The path is ambiguous or broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct BadPath;

/// The canonical form of `path`: percent-decoded once, slashes merged, an encoded slash counted as
/// one. That of a login or refresh call, in any spelling, is the call's own path.
///
/// Refuses dot segments, with or without parameters, a backslash and NUL, however often they are
/// encoded, and broken percent-encoding.
pub(super) fn canonical(path: &str) -> Result<Cow<'_, [u8]>, BadPath> {
    if is_plain(path.as_bytes()) {
        return Ok(Cow::Borrowed(path.as_bytes()));
    }
    check(path.as_bytes())?;
    let (once, broken) = decode(path.as_bytes());
    if broken {
        return Err(BadPath);
    }
    let mut deeper = once.clone();
    for _ in 0..MAX_DECODES {
        check(&deeper)?;
        let (next, _) = decode(&deeper);
        if next == deeper {
            break;
        }
        deeper = next;
    }
    if let Some(call) = auth_call(path.as_bytes(), MAX_DECODES + 1) {
        return Ok(Cow::Borrowed(call.as_bytes()));
    }
    Ok(Cow::Owned(merge_slashes(&once)))
}

/// Whether a canonical path is one of the partner's login and refresh calls.
pub(super) fn is_auth_call(canonical: &[u8]) -> bool {
    let path = canonical.strip_suffix(b"/").unwrap_or(canonical);
    AUTH_CALLS.iter().any(|call| path.eq_ignore_ascii_case(call.as_bytes()))
}

/// Whether `prefix` (see [`RouteConfig::path_prefix`](super::RouteConfig)) covers whole segments of
/// `canonical`.
pub(super) fn has_prefix(canonical: &[u8], prefix: &str) -> bool {
    // The root covers everything, `*` too.
    prefix == "/"
        || canonical.strip_prefix(prefix.as_bytes()).is_some_and(|rest| rest.is_empty() || rest[0] == b'/')
}

/// Most paths: nothing in it needs decoding, merging or refusing, nor has a second spelling but for
/// letter case and a slash at the end.
fn is_plain(path: &[u8]) -> bool {
    const PLAIN: [bool; 256] = {
        let mut plain = [false; 256];
        let mut byte = 0x21;
        while byte < 0x7f {
            plain[byte as usize] = !matches!(byte, b'%' | b'\\' | b';' | b'?' | b'#');
            byte += 1;
        }
        plain
    };
    let mut before = 0;
    path.iter().all(|&byte| {
        let begins_a_segment = std::mem::replace(&mut before, byte) == b'/';
        PLAIN[usize::from(byte)] && !(begins_a_segment && matches!(byte, b'/' | b'.'))
    })
}

fn check(path: &[u8]) -> Result<(), BadPath> {
    let dots = |segment: &[u8]| {
        let name = segment.split(|b| matches!(b, b';' | b'?' | b'#')).next().unwrap_or_default();
        name == b"." || name == b".."
    };
    if path.iter().any(|b| matches!(b, b'\\' | 0)) || path.split(|&b| b == b'/').any(dots) {
        return Err(BadPath);
    }
    Ok(())
}

/// Percent-decodes, and says whether a percent sign was not followed by two hexadecimal digits.
/// Such a one stands for itself, as it does to many servers: it must not hide what comes after it.
fn decode(path: &[u8]) -> (Vec<u8>, bool) {
    let mut decoded = Vec::with_capacity(path.len());
    let mut broken = false;
    let mut rest = path;
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        let mut escaped = [byte];
        if byte == b'%' {
            match after.split_first_chunk::<2>() {
                Some((digits, after)) if const_hex::decode_to_slice(digits, &mut escaped).is_ok() => {
                    rest = after;
                }
                _ => broken = true,
            }
        }
        decoded.push(escaped[0]);
    }
    (decoded, broken)
}

fn merge_slashes(path: &[u8]) -> Vec<u8> {
    let mut merged = path.to_vec();
    merged.dedup_by(|a, b| *a == b'/' && *b == b'/');
    merged
}

/// The login or refresh call that some server would take `path` for. Servers differ in how often
/// they decode, here at most `decodes` times, and in whether they look for parameters and a query
/// before or after that: a slash may be part of a parameter to one and end it to another.
fn auth_call(path: &[u8], decodes: usize) -> Option<&'static str> {
    let before_query = path.split(|b| matches!(b, b'?' | b'#')).next().unwrap_or_default();
    for reading in [path, before_query] {
        let plain = plain_spelling(reading);
        if let Some(call) = AUTH_CALLS.into_iter().find(|call| plain == call.as_bytes()) {
            return Some(call);
        }
    }
    let decodes = decodes.checked_sub(1)?;
    let bare = without_parameters(path);
    let again = |reading: &[u8]| Some(decode(reading).0).filter(|next| next != reading);
    let found = again(path).and_then(|next| auth_call(&next, decodes));
    found.or_else(|| {
        let next = again(&bare).filter(|_| bare != path)?;
        auth_call(&next, decodes)
    })
}

/// In lower case, without parameters, white space around segments, and a trailing slash.
fn plain_spelling(path: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(path.len());
    for segment in without_parameters(path).split(|&b| b == b'/') {
        let name = segment.trim_ascii();
        if !name.is_empty() {
            plain.push(b'/');
            plain.extend(name.iter().map(u8::to_ascii_lowercase));
        }
    }
    plain
}

fn without_parameters(path: &[u8]) -> Vec<u8> {
    let names = path.split(|&b| b == b'/').map(|segment| segment.split(|&b| b == b';').next());
    names.map(Option::unwrap_or_default).collect::<Vec<_>>().join(&b'/')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plain_path_is_its_own_canonical_form() {
        for path in ["/", "/openapi/v1/va", "/a.b/c..d/e.", "/a/", "/a:b@c~!$&'()*+,=-_", "*"] {
            assert!(matches!(canonical(path), Ok(Cow::Borrowed(same)) if same == path.as_bytes()), "{path}");
        }
    }

    #[test]
    fn encodings_and_slashes_are_folded() {
        for (path, want) in [
            ("/%6fpenapi", "/openapi"),
            ("//a///b", "/a/b"),
            ("/a%2Fb", "/a/b"),
            ("/a%2F/b", "/a/b"),
            ("/a;p=1/b", "/a;p=1/b"),
            ("/100%25", "/100%"),
            ("/.hidden", "/.hidden"),
            ("/%c3%a9", "/\u{e9}"),
        ] {
            assert_eq!(canonical(path).unwrap(), want.as_bytes(), "{path}");
        }
    }

    #[test]
    fn what_can_be_read_in_two_ways_is_refused() {
        for path in [
            "/a/../b",
            "/a/./b",
            "/..",
            "/.",
            "/a/%2e%2e/b",
            "/a/.%2E/b",
            "/a/%252e%252e/b",
            "/a%2f..%2fb",
            "/a/..;x=1/b",
            "/a/..%3bx/b",
            "/a\\b",
            "/a%5cb",
            "/a%255cb",
            "/a%00b",
            "/a%2500b",
            "/a%",
            "/a%2",
            "/a%zz",
            "/a/..%3fx",
            "/a/..%23",
        ] {
            assert_eq!(canonical(path), Err(BadPath), "{path}");
        }
    }

    #[test]
    fn login_and_refresh_are_known_in_every_spelling() {
        for path in [
            "/openapi/v1/auth/login",
            "/openapi/v1/auth/refresh",
            "/OpenAPI/V1/Auth/Refresh",
            "/openapi/v1/auth/refresh/",
            "/openapi/v1/auth/refresh//",
            "//openapi/v1//auth/refresh",
            "/openapi/v1/auth/refresh;a=b",
            "/openapi;x/v1/auth;y=1/refresh",
            "/openapi/v1/auth/%72efresh",
            "/openapi/v1/auth/%2572efresh",
            "/openapi/v1/auth%2Frefresh",
            "/openapi/v1/auth%252Frefresh",
            "/openapi/v1/auth/refresh%20",
            "/openapi/v1/auth/refresh%3Ba",
            "/openapi/v1/auth/refresh%3F",
            "/openapi/v1/auth/refresh%3F/x",
            "/openapi/v1/auth/LOGIN%2f",
        ] {
            assert!(is_auth_call(&canonical(path).unwrap()), "{path}");
        }
        for path in ["/openapi/v1/auth", "/openapi/v1/auth/refreshed", "/x/openapi/v1/auth/login", "/"] {
            assert!(!is_auth_call(&canonical(path).unwrap()), "{path}");
        }
    }

    #[test]
    fn a_percent_sign_that_is_no_escape_hides_nothing_behind_it() {
        for path in ["/%25/%252e%252e/a", "/%25zz/%252e/a", "/a%25b%255cc%25g", "/%25%00", "/%25g%2500"] {
            assert_eq!(canonical(path), Err(BadPath), "{path}");
        }
        for path in ["/openapi/v1/auth/%2572efresh;%25", "/openapi/v1/auth/login%252f%3b%25zz"] {
            assert!(is_auth_call(&canonical(path).unwrap()), "{path}");
        }
        assert_eq!(canonical("/100%25/%25/a").unwrap(), b"/100%/%/a".as_slice());
    }

    #[test]
    fn a_slash_in_parameters_does_not_hide_a_login() {
        for path in [
            "/openapi/v1/auth/login;%2fx",
            "/openapi/v1/au%74h/login;%2fx",
            "/openapi;%2f/v1/auth/refresh;a=%2Fb/",
            "/openapi;%2f/v1/au%2574h/login%3b%252fx",
        ] {
            assert!(is_auth_call(&canonical(path).unwrap()), "{path}");
        }
        assert_eq!(canonical("/a;u=%2fb").unwrap(), b"/a;u=/b".as_slice());
    }

    #[test]
    fn a_prefix_covers_whole_segments() {
        for (path, prefix, covered) in [
            ("/a/b", "/a", true),
            ("/a", "/a", true),
            ("/ab", "/a", false),
            ("/a/b", "/", true),
            ("/", "/a", false),
            ("*", "/", true),
            ("*", "/a", false),
        ] {
            assert_eq!(has_prefix(path.as_bytes(), prefix), covered, "{path} {prefix}");
        }
    }
}
