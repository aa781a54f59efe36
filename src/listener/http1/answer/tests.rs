use http::{HeaderMap, HeaderValue, Response};

use super::*;

const STAYS: Facts = Facts { http10: false, head: false, trailers: true, persistent: true };

/// What an answer with these fields begins with, without its Date, and the answer.
fn begun(status: u16, fields: &[(&str, &str)], length: Option<u64>, facts: Facts) -> (String, Answering) {
    let mut response = Response::builder().status(status);
    for (name, value) in fields {
        response = response.header(*name, *value);
    }
    let (head, ()) = response.body(()).unwrap().into_parts();
    let hint = length.map_or_else(SizeHint::default, SizeHint::with_exact);
    let mut outbox = Outbox::default();
    let date = (&Date::default(), Instant::now());
    let answering = Answering::begin(&head, &hint, facts, false, date, &mut outbox);
    let text = String::from_utf8(outbox.into_bytes()).unwrap();
    let (lines, dates): (Vec<_>, Vec<_>) =
        text.split_inclusive("\r\n").partition(|line| !line.starts_with("date: "));
    assert_eq!(dates.len(), 1, "{text}");
    (lines.concat(), answering)
}

fn head(status: u16, fields: &[(&str, &str)], length: Option<u64>, facts: Facts) -> String {
    begun(status, fields, length, facts).0
}

#[test]
fn the_end_of_the_body_is_told_in_the_way_that_fits() {
    let old = Facts { http10: true, ..STAYS };
    for (length, facts, text, persistent) in [
        (Some(5), STAYS, "HTTP/1.1 200 OK\r\nx: y\r\ncontent-length: 5\r\n\r\n", true),
        (Some(0), STAYS, "HTTP/1.1 200 OK\r\nx: y\r\ncontent-length: 0\r\n\r\n", true),
        (None, STAYS, "HTTP/1.1 200 OK\r\nx: y\r\ntransfer-encoding: chunked\r\n\r\n", true),
        (
            Some(5),
            old,
            "HTTP/1.0 200 OK\r\nx: y\r\ncontent-length: 5\r\nconnection: keep-alive\r\n\r\n",
            true,
        ),
        (None, old, "HTTP/1.0 200 OK\r\nx: y\r\nconnection: close\r\n\r\n", false),
    ] {
        let (head, answering) = begun(200, &[("x", "y"), ("transfer-encoding", "gzip")], length, facts);
        assert_eq!((head.as_str(), answering.is_persistent()), (text, persistent));
    }
    // What the fields say of it is not believed over what it is.
    let head = head(200, &[("content-length", "7")], Some(5), STAYS);
    assert_eq!(head, "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n");
}

#[test]
fn some_answers_have_no_body_whatever_they_say() {
    let asked = Facts { head: true, ..STAYS };
    let length = ("content-length", "5");
    for (status, facts, fields, hint, text) in [
        (200, asked, &[length][..], Some(0), "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n"),
        (200, asked, &[], Some(0), "HTTP/1.1 200 OK\r\n\r\n"),
        (403, asked, &[], Some(9), "HTTP/1.1 403 Forbidden\r\ncontent-length: 9\r\n\r\n"),
        (200, asked, &[("trailer", "x")], None, "HTTP/1.1 200 OK\r\n\r\n"),
        (204, STAYS, &[length], Some(0), "HTTP/1.1 204 No Content\r\n\r\n"),
        (304, STAYS, &[length], Some(0), "HTTP/1.1 304 Not Modified\r\n\r\n"),
    ] {
        let (head, answering) = begun(status, fields, hint, facts);
        assert_eq!(head, text);
        assert!(!answering.is_open() && !answering.is_broken());
    }
}

#[test]
fn a_connection_is_closed_if_either_side_wants_it() {
    let leaves = Facts { persistent: false, ..STAYS };
    let close = "HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
    assert_eq!(head(200, &[], Some(0), leaves), close);
    assert_eq!(head(200, &[("connection", "x, Close")], Some(0), STAYS), close);
    let fields = [("connection", "upgrade"), ("upgrade", "websocket")];
    let switches = "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n";
    assert_eq!(head(101, &fields, Some(0), STAYS), switches);
}

#[test]
fn a_status_has_the_reason_that_it_came_with() {
    let mut response = Response::new(());
    *response.status_mut() = StatusCode::from_u16(299).unwrap();
    response.extensions_mut().insert(ReasonPhrase::from_static(b"Odd"));
    response.headers_mut().insert(header::DATE, HeaderValue::from_static("today"));
    let mut outbox = Outbox::default();
    let date = (&Date::default(), Instant::now());
    let (head, ()) = response.into_parts();
    Answering::begin(&head, &SizeHint::with_exact(0), STAYS, false, date, &mut outbox);
    let text = "HTTP/1.1 299 Odd\r\ndate: today\r\ncontent-length: 0\r\n\r\n";
    assert_eq!(String::from_utf8(outbox.into_bytes()).unwrap(), text);
    assert_eq!(super::tests::head(299, &[], Some(0), STAYS).lines().next(), Some("HTTP/1.1 299 "));
}

/// What is written for these frames, of which the last one is known to be that if `last`.
fn written(answering: &mut Answering, frames: Vec<Option<Frame<Bytes>>>, last: bool) -> String {
    let mut outbox = Outbox::default();
    let count = frames.len();
    for (number, frame) in frames.into_iter().enumerate() {
        answering.take(frame, last && number + 1 == count, &mut outbox);
    }
    String::from_utf8(outbox.into_bytes()).unwrap()
}

fn data(text: &'static str) -> Option<Frame<Bytes>> {
    Some(Frame::data(Bytes::from_static(text.as_bytes())))
}

fn trailers() -> Option<Frame<Bytes>> {
    let mut trailers = HeaderMap::new();
    trailers.insert("x-sum", HeaderValue::from_static("1"));
    trailers.insert("x-more", HeaderValue::from_static("2"));
    Some(Frame::trailers(trailers))
}

#[test]
fn a_body_of_known_length_is_that_long_or_broken() {
    let mut exact = begun(200, &[], Some(5), STAYS).1;
    assert_eq!(written(&mut exact, vec![data("he"), data(""), data("llo")], false), "hello");
    assert!(!exact.is_open() && !exact.is_broken());
    for frames in [vec![data("hell"), None], vec![data("hello!")]] {
        let mut other = begun(200, &[], Some(5), STAYS).1;
        written(&mut other, frames, false);
        assert!(other.is_broken());
    }
}

#[test]
fn chunks_end_with_the_trailers_that_were_announced_to_who_takes_them() {
    let announces = [("trailer", "X-Sum")];
    let frames = || vec![data("hello"), data(""), trailers()];
    for (fields, facts, end) in [
        (&announces[..], STAYS, "0\r\nx-sum: 1\r\n\r\n"),
        (&[], STAYS, "0\r\n\r\n"),
        (&announces, Facts { trailers: false, ..STAYS }, "0\r\n\r\n"),
    ] {
        let mut answering = begun(200, fields, None, facts).1;
        assert_eq!(written(&mut answering, frames(), false), format!("5\r\nhello\r\n{end}"));
        assert!(!answering.is_open() && !answering.is_broken());
    }
    let mut known = begun(200, &[], None, STAYS).1;
    assert_eq!(written(&mut known, vec![data("hello")], true), "5\r\nhello\r\n0\r\n\r\n");
    assert!(!known.is_open());
    let mut open = begun(200, &[], None, STAYS).1;
    assert_eq!(written(&mut open, vec![data("hello")], false), "5\r\nhello\r\n");
    assert!(open.is_open());
}
