use std::cell::Cell;

use super::*;
use crate::http1::Decoded;
use crate::upstream::Progress;

/// Reads what has come in parts of `step` bytes.
fn read_all(text: &[u8], step: usize, method: &Method) -> Result<(Option<AnswerHead>, Bytes), ExchangeError> {
    let mut buffer = Bytes::new();
    let mut parts = text.chunks(step.max(1));
    for part in parts.by_ref() {
        if let Some(found) = read(&mut buffer, Bytes::copy_from_slice(part), method)? {
            let rest: Vec<u8> = parts.flatten().copied().collect();
            return Ok((Some(found), [&buffer[..], &rest[..]].concat().into()));
        }
    }
    Ok((None, buffer))
}

fn answer(text: &str) -> Result<AnswerHead, ExchangeError> {
    read_all(text.as_bytes(), text.len(), &Method::GET).map(|(found, _)| found.unwrap())
}

fn reason(found: &AnswerHead) -> Option<&[u8]> {
    found.head.extensions.get::<ReasonPhrase>().map(ReasonPhrase::as_bytes)
}

fn body_of(mut found: AnswerHead, rest: &Bytes) -> Vec<u8> {
    let (mut rest, mut body) = (rest.clone(), Vec::new());
    while let Ok(Decoded::Frame(frame)) = found.decoder.decode(&mut rest) {
        body.extend_from_slice(frame.data_ref().unwrap());
    }
    body
}

#[test]
fn a_request_is_written_as_it_is() {
    let (accept, star) = (header::ACCEPT, HeaderValue::from_static("*/*"));
    let (host, token) = (HeaderValue::from_static("partner:8443"), HeaderValue::from_static("Bearer t"));
    let request = Outgoing {
        method: &Method::POST,
        target: "/a%20b?c=%2f",
        authority: &host,
        fields: &[(&accept, &star), (&accept, &star)],
        framing: Framing::Length(5),
        trailers: true,
        upgrade: None,
        progress: &Cell::new(Progress::Waiting),
    };
    let written = |request| {
        let mut outbox = Outbox::default();
        write(&request, &token, &mut outbox);
        String::from_utf8(outbox.into_bytes()).unwrap()
    };
    let start = "POST /a%20b?c=%2f HTTP/1.1\r\nhost: partner:8443\r\nauthorization: Bearer t\r\n\
                 accept: */*\r\naccept: */*\r\n";
    let with_length = format!("{start}content-length: 5\r\nte: trailers\r\nconnection: te\r\n\r\n");
    assert_eq!(written(request), with_length);
    let upgrade = HeaderValue::from_static("websocket");
    let upgrading = Outgoing { framing: Framing::Chunked, upgrade: Some(&upgrade), ..request };
    let chunked = "transfer-encoding: chunked\r\nupgrade: websocket\r\nconnection: upgrade\r\n\r\n";
    assert_eq!(written(upgrading), format!("{start}{chunked}"));
    let plain = Outgoing { framing: Framing::None, trailers: false, ..request };
    assert_eq!(written(plain), format!("{start}\r\n"));
}

#[test]
fn a_head_is_read_however_it_is_cut() {
    let text = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n\
                 HTTP/1.1 201 Made\r\nX-Id: 1\r\nx-id: 2\r\nContent-Length: 5\r\n\r\nhello, and more";
    for step in 1..=text.len() {
        let (found, rest) = read_all(text, step, &Method::GET).unwrap();
        let found = found.unwrap();
        assert_eq!(found.head.status, StatusCode::CREATED);
        assert_eq!(reason(&found).unwrap(), b"Made");
        assert_eq!(found.head.headers.get_all("x-id").iter().collect::<Vec<_>>(), ["1", "2"]);
        assert!(found.persistent && found.head.headers.get("link").is_none());
        assert_eq!(&rest[..], b"hello, and more", "{step}");
        assert_eq!(body_of(found, &rest), b"hello");
    }
}

#[test]
fn the_end_of_a_body_is_told_by_the_first_rule_that_fits() {
    for (method, text, body, persistent) in [
        (Method::GET, "HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nabcdef", "abc", true),
        (Method::GET, "HTTP/1.1 200 OK\r\ncontent-length: 3\r\ncontent-length: 3\r\n\r\nabcdef", "abc", true),
        (
            Method::GET,
            "HTTP/1.1 200 OK\r\ntransfer-encoding: Chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
            "abc",
            true,
        ),
        (
            Method::GET,
            "HTTP/1.1 200 OK\r\ncontent-length: 9\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
            "abc",
            false,
        ),
        (Method::GET, "HTTP/1.1 200 OK\r\n\r\nabcdef", "abcdef", false),
        (Method::GET, "HTTP/1.0 200 OK\r\ncontent-length: 3\r\n\r\nabc", "abc", false),
        (Method::GET, "HTTP/1.1 200 OK\r\nconnection: x, Close\r\ncontent-length: 0\r\n\r\n", "", false),
        (Method::HEAD, "HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nabc", "", true),
        (Method::HEAD, "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nabc", "", true),
        (Method::GET, "HTTP/1.1 204 No Content\r\ncontent-length: 3\r\n\r\nabc", "", true),
        (Method::GET, "HTTP/1.1 304 Not Modified\r\ncontent-length: 3\r\n\r\nabc", "", true),
        (Method::GET, "HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\n\r\nabc", "", true),
    ] {
        let (found, rest) = read_all(text.as_bytes(), text.len(), &method).unwrap();
        let found = found.unwrap();
        assert_eq!(found.persistent, persistent, "{text}");
        assert!(found.head.headers.get_all("content-length").iter().count() <= 1, "{text}");
        assert_eq!(String::from_utf8_lossy(&body_of(found, &rest)), body, "{text}");
    }
}

#[test]
fn what_could_be_read_in_two_ways_is_no_answer() {
    let long = format!("HTTP/1.1 200 OK\r\nx: {}", "a".repeat(MAX_HEAD));
    let many = format!("HTTP/1.1 200 OK\r\n{}\r\n", "a: b\r\n".repeat(MAX_FIELDS + 1));
    for bad in [
        "HTTP/1.1 200 OK\r\ncontent-length: 3\r\ncontent-length: 4\r\n\r\n",
        "HTTP/1.1 200 OK\r\ncontent-length: 3, 3\r\n\r\n",
        "HTTP/1.1 200 OK\r\ncontent-length: +3\r\n\r\n",
        "HTTP/1.1 200 OK\r\ncontent-length: -3\r\n\r\n",
        "HTTP/1.1 200 OK\r\ncontent-length: 0x3\r\n\r\n",
        "HTTP/1.1 200 OK\r\ncontent-length:\r\n\r\n",
        "HTTP/1.1 200 OK\r\ncontent-length: 99999999999999999999\r\n\r\n",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: gzip, chunked\r\n\r\n",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: identity\r\n\r\n",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n\r\n",
        "HTTP/1.0 200 OK\r\ntransfer-encoding: chunked\r\n\r\n",
        "HTTP/1.1 200 OK\r\ntransfer-encoding : chunked\r\n\r\n",
        "HTTP/1.1 200 OK\r\n folded: 1\r\n\r\n",
        "HTTP/1.1 200 OK\r\na: b\r\n folded\r\n\r\n",
        "HTTP/1.1 200 OK\r\na: b\0c\r\n\r\n",
        "HTTP/1.1 200 OK\r\na: b\rc\r\n\r\n",
        "HTTP/1.1 200 OK\r\n: b\r\n\r\n",
        "HTTP/1.1 099 No\r\n\r\n",
        "HTTP/1.1 20 No\r\n\r\n",
        "HTTP/1.2 200 OK\r\n\r\n",
        "HTTP/2.0 200 OK\r\n\r\n",
        "ICY 200 OK\r\n\r\n",
        "SSH-2.0-x\r\n",
        "<html>",
        &long,
        &many,
    ] {
        assert!(matches!(answer_of(bad), Err(ExchangeError::Malformed(_))), "{bad:.80}");
    }
}

/// As [`answer`], where it may not be whole.
fn answer_of(text: &str) -> Result<Option<AnswerHead>, ExchangeError> {
    read_all(text.as_bytes(), 40_000, &Method::GET).map(|(found, _)| found)
}

#[test]
fn what_was_for_the_hop_does_not_go_on() {
    let found = answer(
        "HTTP/1.1 200 OK\r\nconnection: close, X-Hop\r\nx-hop: 1\r\ntransfer-encoding: chunked\r\n\
         content-length: 5\r\nproxy-authenticate: Basic\r\nproxy-connection: x\r\nkeep-alive: timeout=5\r\n\
         upgrade: h2c\r\nte: trailers\r\nwww-authenticate: Bearer\r\nset-cookie: a\r\nset-cookie: b\r\n\r\n",
    );
    let found = found.unwrap();
    let mut left: Vec<_> =
        found.head.headers.iter().map(|(name, value)| (name.as_str(), value.as_bytes())).collect();
    left.sort_unstable();
    let expected = [("set-cookie", &b"a"[..]), ("set-cookie", b"b"), ("www-authenticate", b"Bearer")];
    assert_eq!(left, expected);
    assert!(!found.persistent);
    let agreed = answer("HTTP/1.1 101 Yes\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n").unwrap();
    assert_eq!(agreed.head.headers.get("upgrade").unwrap(), "websocket");
}

#[test]
fn a_usual_reason_is_not_kept() {
    assert!(reason(&answer("HTTP/1.1 200 OK\r\n\r\n").unwrap()).is_none());
    assert_eq!(reason(&answer("HTTP/1.1 200 Fine\r\n\r\n").unwrap()).unwrap(), b"Fine");
    assert_eq!(reason(&answer("HTTP/1.1 200\r\n\r\n").unwrap()).unwrap(), b"");
}
