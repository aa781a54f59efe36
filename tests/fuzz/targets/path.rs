//! Paths: whatever a server might read in one, bearerd has seen it there.
#![no_main]

use bearerd_fuzz::login::{decode, might_climb, might_log_in};
use http::uri::PathAndQuery;
use libfuzzer_sys::fuzz_target;

pub(crate) use bearerd::partner;

/// The product's own file: what is in it is private to the module that it is part of there.
#[path = "../../../src/proxy"]
mod proxy {
    mod path;

    /// The canonical form, and whether it is a login or refresh.
    pub(crate) fn read(path: &str) -> Option<(Vec<u8>, bool)> {
        let canonical = path::canonical(path).ok()?;
        let is_auth_call = path::is_auth_call(&canonical);
        Some((canonical.into_owned(), is_auth_call))
    }

    pub(crate) fn has_prefix(canonical: &[u8], prefix: &str) -> bool {
        path::has_prefix(canonical, prefix)
    }
}

fuzz_target!(|input: &[u8]| {
    // What the HTTP library would not take for a path does not come this far.
    let Ok(target) = PathAndQuery::try_from(input) else { return };
    let path = target.path();
    let Some((canonical, is_auth_call)) = proxy::read(path) else { return };
    let shown = canonical.escape_ascii();
    assert!(!might_climb(path.as_bytes()), "carried as {shown}");
    assert!(is_auth_call || !might_log_in(path.as_bytes()), "carried as {shown}");

    if !is_auth_call {
        is_canonical(path, &canonical);
    }
    covers_whole_segments(&canonical);
    every_spelling_is_the_same_call(path, is_auth_call);
});

fn is_canonical(path: &str, canonical: &[u8]) {
    assert!(!canonical.windows(2).any(|two| two == b"//"));
    let mut decoded = decode(path.as_bytes());
    decoded.dedup_by(|a, b| *a == b'/' && *b == b'/');
    assert_eq!(canonical, decoded);
    if let Ok(text) = std::str::from_utf8(canonical)
        && !text.contains('%')
    {
        let (again, _) = proxy::read(text).expect("a canonical form without escapes is carried");
        assert_eq!(again, canonical);
    }
}

fn covers_whole_segments(canonical: &[u8]) {
    for prefix in ["/", "/a", "/openapi/v1"] {
        let whole = [prefix.as_bytes(), b"/"].concat();
        let covered = prefix == "/" || canonical == prefix.as_bytes() || canonical.starts_with(&whole);
        assert_eq!(proxy::has_prefix(canonical, prefix), covered, "{prefix}");
    }
}

/// What is refused cannot be had carried by writing it in another way.
fn every_spelling_is_the_same_call(path: &str, is_auth_call: bool) {
    let at = path.len() / 2;
    let (front, back) = path.as_bytes().split_at(at);
    let escaped = match back.split_first() {
        // Within an escape this would break it.
        // An escaped slash may be part of parameters, and what was behind it a segment no longer.
        Some((b'/' | b'%', _)) | None => path.to_owned(),
        Some((byte, rest)) if !ends_within_an_escape(front) && byte.is_ascii() => {
            format!("{}%{byte:02x}{}", &path[..at], str::from_utf8(rest).unwrap())
        }
        Some(_) => path.to_owned(),
    };
    for same in [path.to_ascii_uppercase(), path.to_ascii_lowercase(), format!("{path}/"), format!("/{path}")]
    {
        let (_, still) = proxy::read(&same).unwrap_or_else(|| panic!("{same} is not carried"));
        assert_eq!(still, is_auth_call, "{same}");
    }
    // Escaping all of it once more may be once too often to be carried or refused alike, and
    // escaping what ends parameters may end the likeness. But neither makes a call of what is none,
    // or hides one.
    let once_more: String = path.bytes().map(|byte| format!("%{byte:02X}")).collect();
    for other in [escaped, once_more] {
        if let Some((_, still)) = proxy::read(&other) {
            assert!(still || !might_log_in(other.as_bytes()), "{other}");
            assert!(!still || is_auth_call, "{other}");
        }
    }
}

fn ends_within_an_escape(front: &[u8]) -> bool {
    front.iter().rev().take(2).any(|&byte| byte == b'%')
}
