use proptest::prelude::*;

use super::*;
use crate::http1::{Decoded, join};

/// Reads what has come in parts of `step` bytes, and what is left behind the head.
fn read_all(text: &[u8], step: usize) -> Result<Option<(RequestHead, Vec<u8>)>, Unreadable> {
    let mut buffer = Bytes::new();
    let mut parts = text.chunks(step.max(1));
    for part in parts.by_ref() {
        join(&mut buffer, Bytes::copy_from_slice(part));
        if let Some(head) = read(&mut buffer)? {
            let rest: Vec<u8> = parts.flatten().copied().collect();
            return Ok(Some((head, [&buffer[..], &rest[..]].concat())));
        }
    }
    Ok(None)
}

fn request(text: &str) -> Result<RequestHead, Unreadable> {
    read_all(text.as_bytes(), text.len()).map(|found| found.unwrap().0)
}

fn with(fields: &str) -> Result<RequestHead, Unreadable> {
    request(&format!("POST /x HTTP/1.1\r\nHost: a\r\n{fields}\r\n\r\n"))
}

fn body_of(mut head: RequestHead, rest: Vec<u8>) -> Vec<u8> {
    let (mut rest, mut body) = (Bytes::from(rest), Vec::new());
    while let Ok(Decoded::Frame(frame)) = head.decoder.decode(&mut rest) {
        body.extend_from_slice(frame.data_ref().unwrap());
    }
    body
}

#[test]
fn a_head_is_read_however_it_is_cut() {
    let text = b"\r\n\n\r\nPOST /a%20b?c=%2f HTTP/1.1\r\nHost: a.test\r\nX-Id: 1\r\nx-id: \t2 \r\n\
                 Content-Length: 5\r\n\r\nhello, and more";
    for step in 1..=text.len() {
        let (head, rest) = read_all(text, step).unwrap().unwrap();
        let request = &head.head;
        assert_eq!((&request.method, request.version), (&Method::POST, Version::HTTP_11));
        assert_eq!(request.uri, "/a%20b?c=%2f");
        assert_eq!(request.headers.get_all("x-id").iter().collect::<Vec<_>>(), ["1", "2"]);
        assert_eq!(request.headers.len(), 4);
        assert!(head.facts.persistent && !head.facts.http10 && !head.facts.head && !head.expects);
        assert_eq!(rest, b"hello, and more", "{step}");
        assert_eq!(body_of(head, rest), b"hello");
    }
}

#[test]
fn the_next_request_is_left_where_it_is() {
    let text = b"GET /1 HTTP/1.1\r\nhost: a\r\n\r\nHEAD /2 HTTP/1.1\r\nhost: a\r\n\r\n";
    let (first, rest) = read_all(text, text.len()).unwrap().unwrap();
    assert!(first.decoder.has_ended() && !first.facts.head);
    let (second, rest) = read_all(&rest, rest.len()).unwrap().unwrap();
    assert_eq!((second.head.uri.path(), second.facts.head, rest.len()), ("/2", true, 0));
}

#[test]
fn a_body_ends_as_its_fields_say_or_there_is_none() {
    assert!(with("X: y").unwrap().decoder.has_ended());
    assert!(with("Content-Length: 0").unwrap().decoder.has_ended());
    let length = |fields| with(fields).unwrap().decoder.size_hint().exact();
    assert_eq!(length("Content-Length: 7"), Some(7));
    assert_eq!(length("Content-Length: 9223372036854775807"), Some(u64::MAX >> 1));
    assert_eq!(length("Content-Length: 7\r\nContent-Length: 07"), Some(7));
    assert_eq!(length("Transfer-Encoding: chunked"), None);
    assert_eq!(length("Transfer-Encoding: ChunKed\r\nContent-Length: 7"), None);
    // What comes before the last coding is for the proxy to refuse.
    assert_eq!(length("Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked"), None);
    for bad in [
        "Content-Length: 1\r\nContent-Length: 2",
        "Content-Length: +1",
        "Content-Length: 1, 1",
        "Content-Length:",
        "Content-Length: 9223372036854775808",
        "Content-Length: 18446744073709551615",
        "Content-Length: 18446744073709551616",
        "Content-Length: x\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: chunked\r\nContent-Length: x",
        "Transfer-Encoding: chunked, gzip",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: gzip",
        "Transfer-Encoding: xchunked",
        "Transfer-Encoding:",
    ] {
        assert!(matches!(with(bad), Err(Unreadable::Malformed(_))), "{bad}");
    }
    let old = request("POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n");
    assert!(matches!(old, Err(Unreadable::Malformed(_))));
}

#[test]
fn a_connection_is_kept_unless_something_speaks_against_it() {
    for (text, persistent) in [
        ("GET / HTTP/1.1\r\n\r\n", true),
        ("GET / HTTP/1.1\r\nConnection: x, CLOSE\r\n\r\n", false),
        ("GET / HTTP/1.1\r\nConnection: close\r\nConnection: keep-alive\r\n\r\n", false),
        ("GET / HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", false),
        ("GET / HTTP/1.0\r\n\r\n", false),
        ("GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n", true),
        ("GET / HTTP/1.0\r\nConnection: keep-alive, close\r\n\r\n", false),
    ] {
        assert_eq!(request(text).unwrap().facts.persistent, persistent, "{text:?}");
    }
}

#[test]
fn a_client_is_told_to_go_on_only_if_it_waits_for_it() {
    let expects = |text| request(text).unwrap().expects;
    assert!(expects("POST / HTTP/1.1\r\nExpect: 100-Continue\r\nContent-Length: 1\r\n\r\n"));
    assert!(!expects("POST / HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 0\r\n\r\n"));
    assert!(!expects("POST / HTTP/1.1\r\nExpect: 100-continue, x\r\nContent-Length: 1\r\n\r\n"));
    assert!(!expects("POST / HTTP/1.0\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\n"));
    assert!(with("TE: gzip, trailers").unwrap().facts.trailers);
    assert!(!with("TE: trailersx").unwrap().facts.trailers);
}

#[test]
fn heads_have_bounds() {
    let fields = |count: usize| "X: y\r\n".repeat(count);
    assert!(request(&format!("GET / HTTP/1.1\r\n{}\r\n", fields(MAX_FIELDS))).is_ok());
    let many = request(&format!("GET / HTTP/1.1\r\n{}\r\n", fields(MAX_FIELDS + 1)));
    assert_eq!(many.unwrap_err(), Unreadable::TooLarge);
    let long = |length: usize| request(&format!("GET /{} HTTP/1.1\r\n\r\n", "x".repeat(length - 1)));
    assert!(long(MAX_TARGET).is_ok());
    assert_eq!(long(MAX_TARGET + 1).unwrap_err(), Unreadable::TargetTooLong);
}

#[test]
fn what_is_not_to_the_letter_is_refused() {
    for bad in [
        "GET / HTTP/2.0\r\n\r\n",
        "GET / HTTP/1.2\r\n\r\n",
        "GET /\r\n\r\n",
        "GET  / HTTP/1.1\r\n\r\n",
        " GET / HTTP/1.1\r\n\r\n",
        "GET / HTTP/1.1\rX: y\r\n\r\n",
        "GET / HTTP/1.1\r\nX : y\r\n\r\n",
        "GET / HTTP/1.1\r\n X: y\r\n\r\n",
        "GET / HTTP/1.1\r\nX: y\r\n folded\r\n\r\n",
        "GET / HTTP/1.1\r\nX: a\0b\r\n\r\n",
        "GET / HTTP/1.1\r\n: y\r\n\r\n",
        "G\0T / HTTP/1.1\r\n\r\n",
        "GET /\0 HTTP/1.1\r\n\r\n",
    ] {
        assert!(matches!(read_all(bad.as_bytes(), bad.len()), Err(Unreadable::Malformed(_))), "{bad:?}");
    }
}

proptest! {
    #[test]
    fn nothing_makes_it_panic_and_cuts_change_nothing(
        bytes in proptest::collection::vec(
            prop_oneof![Just(b'\r'), Just(b'\n'), Just(b':'), Just(b' '), Just(b'a'), any::<u8>()], 0..80),
        step in 1_usize..9,
    ) {
        let text = [&b"GET / HTTP/1.1\r\nA"[..], &bytes, b"\r\n\r\n"].concat();
        let shown = |found: Result<Option<(RequestHead, Vec<u8>)>, Unreadable>| match found {
            Ok(Some((head, rest))) => Ok(Some((format!("{:?}", head.head), rest))),
            Ok(None) => Ok(None),
            Err(_) => Err(()),
        };
        prop_assert_eq!(shown(read_all(&text, text.len())), shown(read_all(&text, step)));
    }
}
