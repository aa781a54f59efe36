//! One canonical form of a path, on which requests are routed and refused.
//!
//! Servers disagree on what `%2e%2e`, `//`, `;a=b` or `\` mean in a path. What goes to the partner
//! is what came in, byte for byte; what bearerd decides on is the reading below, and a path that
//! could be read in two ways which matter is not carried at all.

use std::borrow::Cow;

use crate::partner::{LOGIN_PATH, REFRESH_PATH};

/// How often a path is decoded to see what it would be to a server that decodes too often.
const MAX_DECODES: usize = 3;

/// The path is ambiguous or broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct BadPath;

/// The canonical form of `path`: percent-decoded once, slashes merged, an encoded slash counted as
/// one.
///
/// Refuses dot segments, with or without parameters, a backslash and NUL, however often they are
/// encoded, and broken percent-encoding.
pub(super) fn canonical(path: &str) -> Result<Cow<'_, [u8]>, BadPath> {
    if is_plain(path.as_bytes()) {
        return Ok(Cow::Borrowed(path.as_bytes()));
    }
    check(path.as_bytes())?;
    let once = decode(path.as_bytes()).ok_or(BadPath)?;
    let mut deeper = once.clone();
    for _ in 0..MAX_DECODES {
        check(&deeper)?;
        // What does not decode again is text that holds a percent sign.
        match decode(&deeper) {
            Some(next) if next != deeper => deeper = next,
            _ => break,
        }
    }
    Ok(Cow::Owned(merge_slashes(&once)))
}

/// Whether a canonical path is one of the partner's login and refresh calls, in any spelling:
/// letter case, parameters, a trailing slash, or encoded once more.
pub(super) fn is_auth_call(canonical: &Cow<'_, [u8]>) -> bool {
    if let Cow::Borrowed(plain) = canonical {
        // Letter case and a slash at the end are all that a plain path leaves open.
        let path = plain.strip_suffix(b"/").unwrap_or(plain);
        return [LOGIN_PATH, REFRESH_PATH].iter().any(|call| path.eq_ignore_ascii_case(call.as_bytes()));
    }
    let is_one = |path: &[u8]| {
        let plain = plain_spelling(path);
        plain == LOGIN_PATH.as_bytes() || plain == REFRESH_PATH.as_bytes()
    };
    let mut path = Cow::Borrowed(&**canonical);
    for _ in 0..MAX_DECODES {
        if is_one(&path) {
            return true;
        }
        match decode(&path) {
            Some(next) if next != *path => path = Cow::Owned(merge_slashes(&next)),
            _ => return false,
        }
    }
    is_one(&path)
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
        let name = segment.split(|&b| b == b';').next().unwrap_or_default();
        name == b"." || name == b".."
    };
    if path.iter().any(|b| matches!(b, b'\\' | 0)) || path.split(|&b| b == b'/').any(dots) {
        return Err(BadPath);
    }
    Ok(())
}

/// Percent-decodes; `None` if a percent sign is not followed by two hexadecimal digits.
fn decode(path: &[u8]) -> Option<Vec<u8>> {
    let mut decoded = Vec::with_capacity(path.len());
    let mut rest = path;
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        if byte == b'%' {
            let (digits, after) = rest.split_first_chunk::<2>()?;
            let mut byte = [0];
            const_hex::decode_to_slice(digits, &mut byte).ok()?;
            decoded.push(byte[0]);
            rest = after;
        } else {
            decoded.push(byte);
        }
    }
    Some(decoded)
}

fn merge_slashes(path: &[u8]) -> Vec<u8> {
    let mut merged = path.to_vec();
    merged.dedup_by(|a, b| *a == b'/' && *b == b'/');
    merged
}

/// In lower case, without parameters, white space around segments, and a trailing slash.
fn plain_spelling(path: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(path.len());
    for segment in path.split(|&b| b == b'/') {
        let name =
            segment.split(|&b| matches!(b, b';' | b'?' | b'#')).next().unwrap_or_default().trim_ascii();
        if !name.is_empty() {
            plain.push(b'/');
            plain.extend(name.iter().map(u8::to_ascii_lowercase));
        }
    }
    plain
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
            "/openapi/v1/auth/LOGIN%2f",
        ] {
            assert!(is_auth_call(&canonical(path).unwrap()), "{path}");
        }
        for path in ["/openapi/v1/auth", "/openapi/v1/auth/refreshed", "/x/openapi/v1/auth/login", "/"] {
            assert!(!is_auth_call(&canonical(path).unwrap()), "{path}");
        }
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
