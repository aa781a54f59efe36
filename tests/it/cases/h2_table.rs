//! What a client may send over HTTP/2.

use super::SMUGGLED;
use super::h2::{Case, request};
use crate::support::frames::*;

pub(super) fn cases() -> Vec<Case> {
    [carried(), fields(), pseudo_fields(), lengths(), frames(), streams()].into_iter().flatten().collect()
}

/// `fields` as the whole of a request on stream 1.
fn whole(fields: &[(&str, &str)]) -> Vec<u8> {
    frame(HEADERS, END_HEADERS | END_STREAM, 1, &block(fields))
}

/// `GET /x` and these fields.
fn get(fields: &[(&str, &str)]) -> Vec<u8> {
    whole(&[&request("GET", "/x"), fields].concat())
}

/// The head of `POST /x` with these fields, on stream 1.
fn post(fields: &[(&str, &str)]) -> Vec<u8> {
    frame(HEADERS, END_HEADERS, 1, &block(&[&request("POST", "/x"), fields].concat()))
}

fn data(bytes: &str) -> Vec<u8> {
    frame(DATA, 0, 1, bytes.as_bytes())
}

fn last(bytes: &str) -> Vec<u8> {
    frame(DATA, END_STREAM, 1, bytes.as_bytes())
}

fn carried() -> Vec<Case> {
    let head = block(&request("GET", "/x"));
    let trailers = |fields: &[(&str, &str)]| frame(HEADERS, END_HEADERS | END_STREAM, 1, &block(fields));
    let x = |name: &'static str, sent: Vec<u8>| Case::carried(name, sent, "GET", "/x");
    let posted = |name: &'static str, sent: Vec<u8>| Case::carried(name, sent, "POST", "/x");
    vec![
        x("a GET", get(&[])),
        x("fields of its own", get(&[("x-a", "1"), ("x-b", "")])).with("x-a", "1").with("x-b", ""),
        x("a head in pieces", {
            let pieces: Vec<_> = head.chunks(10).collect();
            let mut sent = frame(HEADERS, END_STREAM, 1, pieces[0]);
            for piece in &pieces[1..pieces.len() - 1] {
                sent.extend(frame(CONTINUATION, 0, 1, piece));
            }
            sent.extend(frame(CONTINUATION, END_HEADERS, 1, pieces[pieces.len() - 1]));
            sent
        }),
        x(
            "a padded head",
            frame(HEADERS, END_HEADERS | END_STREAM | PADDED, 1, &[&[3][..], &head, &[0; 3]].concat()),
        ),
        x("a frame of an unknown type first", [frame(0xee, 0xff, 0, b"what"), get(&[])].concat()),
        x("a priority first", [frame(PRIORITY, 0, 1, &[0, 0, 0, 0, 1]), get(&[])].concat()),
        x("te of trailers", get(&[("te", "trailers")])).with("te", "trailers"),
        x("cookies in crumbs", get(&[("cookie", "a=1"), ("cookie", "b=2"), ("cookie", "c=3")]))
            .with("cookie", "a=1; b=2; c=3"),
        x("credentials", get(&[("authorization", "Bearer stolen"), ("partner-code", "X")])),
        x("a host beside the authority", get(&[("host", "a.test")])),
        x("a host in place of the authority", {
            whole(&[(":method", "GET"), (":scheme", "http"), (":path", "/x"), ("host", "a.test")])
        }),
        x("an authority and another host", get(&[("host", "evil.test")])),
        posted("a body", [post(&[("content-length", "3")]), last("abc")].concat())
            .body("abc")
            .with("content-length", "3"),
        posted("a body without a length", [post(&[]), data("ab"), last("c")].concat())
            .body("abc")
            .with("transfer-encoding", "chunked"),
        posted("a body that is a request", [post(&[]), last(SMUGGLED)].concat()).body(SMUGGLED),
        posted("a body that looks like chunks", [post(&[]), last("0\r\n\r\n")].concat()).body("0\r\n\r\n"),
        posted("a padded body", [post(&[]), frame(DATA, END_STREAM | PADDED, 1, b"\x02abc\0\0")].concat())
            .body("abc"),
        posted("a body with empty pieces", [post(&[]), data(""), data("abc"), data(""), last("")].concat())
            .body("abc"),
        posted("trailers", [post(&[]), data("abc"), trailers(&[("x-sum", "1")])].concat()).body("abc"),
        posted(
            "credentials in trailers",
            [post(&[("trailer", "authorization")]), data("abc"), trailers(&[("authorization", "x")])]
                .concat(),
        )
        .body("abc"),
        posted(
            "a pseudo-header in trailers goes no further",
            [post(&[("trailer", "x")]), data("abc"), trailers(&[(":path", "/smuggled")])].concat(),
        )
        .body("abc"),
        x("an empty scheme counts for nothing", {
            whole(&[(":method", "GET"), (":scheme", ""), (":authority", "a.test"), (":path", "/x")])
        }),
        posted(
            "a length in trailers",
            [post(&[]), data("abc"), trailers(&[("content-length", "9")])].concat(),
        )
        .body("abc"),
        Case::carried("OPTIONS of the whole server", whole(&request("OPTIONS", "*")), "OPTIONS", "*"),
        Case::carried(
            "a path that looks like an authority",
            whole(&request("GET", "//evil.test/x")),
            "GET",
            "//evil.test/x",
        ),
        Case::carried(
            "an encoded line in a path",
            whole(&request("GET", "/a%0d%0aX:%20y")),
            "GET",
            "/a%0d%0aX:%20y",
        ),
    ]
}

fn fields() -> Vec<Case> {
    let one = |name: &'static str, field: (&str, &str)| Case::stream(name, get(&[field]));
    // What cannot be a field at all takes the connection with it.
    let spoilt = |name: &'static str, field: (&str, &str)| Case::connection(name, get(&[field]));
    vec![
        one("connection", ("connection", "close")),
        one("keep-alive", ("keep-alive", "timeout=5")),
        one("proxy-connection", ("proxy-connection", "keep-alive")),
        one("transfer-encoding", ("transfer-encoding", "chunked")),
        one("upgrade", ("upgrade", "websocket")),
        one("te of a coding", ("te", "gzip")),
        one("te of trailers and more", ("te", "trailers, gzip")),
        spoilt("a name in capitals", ("X-A", "1")),
        spoilt("a name with one capital", ("x-A", "1")),
        spoilt("no name", ("", "1")),
        spoilt("a space in a name", ("x a", "1")),
        spoilt("a colon in a name", ("x:a", "1")),
        spoilt("CRLF in a name", ("x: 1\r\ny", "1")),
        spoilt("NUL in a name", ("x\0", "1")),
        spoilt("a byte beyond ASCII in a name", ("x\u{e9}", "1")),
        spoilt("CRLF in a value", ("x", "1\r\ntransfer-encoding: chunked")),
        spoilt("CR in a value", ("x", "1\r2")),
        spoilt("LF in a value", ("x", "1\n2")),
        spoilt("NUL in a value", ("x", "1\x002")),
        spoilt("DEL in a value", ("x", "1\x7f")),
        one("a second host", ("host", "a.test, b.test")),
        one("a managed name with an underscore", ("partner_code", "X")),
        one("a length with an underscore", ("content_length", "3")),
        one("an unknown expectation", ("expect", "miracle")),
        one("a rewritten path", ("x-original-url", "/openapi/v1/auth/refresh")),
        one("a request of a page", ("origin", "https://evil.test")),
        Case::stream("two hosts", get(&[("host", "a.test"), ("host", "b.test")])),
        Case::connection("more fields than the bound", get(&vec![("x", "1"); 2000])),
        Case::stream("a refresh call", whole(&request("POST", "/openapi/v1/auth/refresh"))),
        Case::stream(
            "a refresh call in other letters",
            whole(&request("POST", "/OpenAPI/v1/%61uth/refresh/")),
        ),
        Case::stream("TRACE", whole(&request("TRACE", "/x"))),
    ]
}

fn pseudo_fields() -> Vec<Case> {
    let method = |name, method| Case::stream(name, whole(&request(method, "/x")));
    let spoilt = |name, method| Case::connection(name, whole(&request(method, "/x")));
    let path = |name, path| Case::stream(name, whole(&request("GET", path)));
    let scheme = |name, scheme| {
        Case::stream(
            name,
            whole(&[(":method", "GET"), (":scheme", scheme), (":authority", "a.test"), (":path", "/x")]),
        )
    };
    let authority = |name, authority| {
        Case::stream(
            name,
            whole(&[(":method", "GET"), (":scheme", "http"), (":authority", authority), (":path", "/x")]),
        )
    };
    vec![
        spoilt("no method", ""),
        spoilt("a method with a space", "GET /smuggled HTTP/1.1"),
        spoilt("a method with a line", "GET / HTTP/1.1\r\nX: y\r\n\r\n"),
        method("CONNECT with a path", "CONNECT"),
        path("an empty path", ""),
        path("a path without a slash", "x"),
        path("an absolute path", "http://evil.test/x"),
        path("a path with a space", "/x HTTP/1.1"),
        path("a path with a line", "/x HTTP/1.1\r\nX: y\r\n\r\n"),
        path("a path with NUL", "/x\0"),
        path("a path with dot segments", "/a/../b"),
        path("a path with a backslash", "/a\\b"),
        path("the whole server of a GET", "*"),
        scheme("a scheme with a host", "http://evil.test/x?"),
        scheme("a scheme with a space", "ht tp"),
        authority("a user", "u:p@a.test"),
        authority("an authority with a path", "a.test/x"),
        authority("an authority with a space", "a b"),
        authority("an authority with a line", "a.test\r\nx: y"),
        authority("an authority with a port that is none", "a.test:x"),
        authority("an authority that is a list", "a.test, b.test"),
        Case::stream("no method at all", whole(&request("GET", "/x")[1..])),
        Case::stream("no path at all", whole(&request("GET", "/x")[..3])),
        Case::stream(
            "no scheme at all",
            whole(&[(":method", "GET"), (":authority", "a.test"), (":path", "/x")]),
        ),
        Case::stream("nothing at all", whole(&[])),
        Case::stream("two methods", get(&[(":method", "POST")])),
        Case::stream("two paths", whole(&[&request("GET", "/x")[..], &[(":path", "/smuggled")]].concat())),
        Case::stream(
            "two authorities",
            whole(&[&[(":authority", "b.test")], &request("GET", "/x")[..]].concat()),
        ),
        Case::stream("two schemes", whole(&[&[(":scheme", "https")], &request("GET", "/x")[..]].concat())),
        Case::stream("a pseudo-header behind a field", get(&[("x", "1"), (":path", "/smuggled")])),
        Case::connection(
            "an unknown pseudo-header",
            whole(&[&[(":foo", "1")], &request("GET", "/x")[..]].concat()),
        ),
        Case::stream("a status", whole(&[&[(":status", "200")], &request("GET", "/x")[..]].concat())),
        Case::stream("CONNECT", whole(&[(":method", "CONNECT"), (":authority", "a.test:443")])),
        Case::stream("CONNECT with a protocol", {
            whole(&[&[(":protocol", "websocket")], &request("CONNECT", "/x")[..]].concat())
        }),
    ]
}

/// What the length says against what comes.
fn lengths() -> Vec<Case> {
    let length = |length: &str| post(&[("content-length", length)]);
    vec![
        Case::cut("less than the length", [length("9"), last("abc")].concat()),
        Case::cut("more than the length", [length("1"), last("abc")].concat()),
        Case::cut("more than a length of 0", [length("0"), last(SMUGGLED)].concat()),
        Case::cut("more than the length, in pieces", [length("3"), data("abc"), last(SMUGGLED)].concat()),
        Case::cut("nothing where the length says something", [length("3"), last("")].concat()),
        Case::stream("a length of what has no body", get(&[("content-length", "3")])),
        Case::stream("a length with a plus", [length("+3"), last("abc")].concat()),
        Case::stream("a negative length", [length("-3"), last("abc")].concat()),
        Case::stream("an empty length", [length(""), last("abc")].concat()),
        Case::stream("a list of lengths", [length("3, 3"), last("abc")].concat()),
        Case::stream("a length beyond 64 bits", [length("18446744073709551619"), last("abc")].concat()),
        Case::cut(
            "two lengths",
            [post(&[("content-length", "3"), ("content-length", "4")]), last("abc")].concat(),
        ),
    ]
}

/// Frames that end the connection.
fn frames() -> Vec<Case> {
    let setting =
        |id: u16, value: u32| frame(SETTINGS, 0, 0, &[&id.to_be_bytes()[..], &value.to_be_bytes()].concat());
    let window = |stream: u32, by: u32| frame(WINDOW_UPDATE, 0, stream, &by.to_be_bytes());
    let head = block(&request("GET", "/x"));
    vec![
        Case::connection("HTTP/1.1 in the middle", SMUGGLED),
        Case::connection("a frame longer than was allowed", frame(DATA, 0, 1, &[0; 20_000])),
        Case::connection("a head on stream 0", frame(HEADERS, END_HEADERS | END_STREAM, 0, &head)),
        Case::connection(
            "a head on a stream of the server's",
            frame(HEADERS, END_HEADERS | END_STREAM, 2, &head),
        ),
        Case::connection("data on stream 0", frame(DATA, 0, 0, b"abc")),
        Case::connection("data on a stream that was not opened", frame(DATA, 0, 1, b"abc")),
        Case::connection("a reset of a stream that was not opened", frame(RST_STREAM, 0, 1, &[0; 4])),
        Case::connection("a reset of stream 0", frame(RST_STREAM, 0, 0, &[0; 4])),
        Case::connection("settings on a stream", frame(SETTINGS, 0, 1, &[])),
        Case::connection("settings of an odd length", frame(SETTINGS, 0, 0, &[0; 5])),
        Case::connection("an acknowledgement with settings", frame(SETTINGS, ACK, 0, &[0; 6])),
        Case::connection("a push that is neither on nor off", setting(2, 2)),
        Case::connection("a first window beyond 31 bits", setting(4, 1 << 31)),
        Case::connection("a frame size below the least", setting(5, 100)),
        Case::connection(
            "a promise of a client",
            frame(PUSH_PROMISE, END_HEADERS, 1, &[&[0, 0, 0, 2], &head[..]].concat()),
        ),
        Case::connection("a ping of an odd length", frame(PING, 0, 0, &[0; 7])),
        Case::connection("a ping on a stream", frame(PING, 0, 1, &[0; 8])),
        Case::connection("a goodbye on a stream", frame(GOAWAY, 0, 1, &[0; 8])),
        Case::connection("a window of nothing", window(0, 0)),
        Case::connection(
            "a window beyond 31 bits",
            [window(0, 0x7fff_ffff), window(0, 0x7fff_ffff)].concat(),
        ),
        Case::connection("a continuation of nothing", frame(CONTINUATION, END_HEADERS, 1, &head)),
        Case::connection("a head that is interrupted", {
            [frame(HEADERS, END_STREAM, 1, &head), frame(PING, 0, 0, &[0; 8])].concat()
        }),
        Case::connection("a head that goes on on another stream", {
            [frame(HEADERS, END_STREAM, 1, &head[..9]), frame(CONTINUATION, END_HEADERS, 3, &head[9..])]
                .concat()
        }),
        Case::connection(
            "an index beyond the tables",
            frame(HEADERS, END_HEADERS | END_STREAM, 1, &[0xff, 0x80, 0x01]),
        ),
        Case::connection("an index of 0", frame(HEADERS, END_HEADERS | END_STREAM, 1, &[0x80])),
        Case::connection("an integer without end", frame(HEADERS, END_HEADERS | END_STREAM, 1, &[0xff; 20])),
        Case::connection("Huffman's code with a wrong end", {
            frame(HEADERS, END_HEADERS | END_STREAM, 1, &[0x00, 0x81, 0x00, 0x81, 0x00])
        }),
        Case::connection(
            "a table larger than was allowed",
            frame(HEADERS, END_HEADERS | END_STREAM, 1, &[0x3f, 0xff, 0xff, 0x03]),
        ),
        Case::connection(
            "a literal that is cut short",
            frame(HEADERS, END_HEADERS | END_STREAM, 1, &[0x00, 0x05, b'a']),
        ),
        Case::connection(
            "padding longer than its frame",
            frame(HEADERS, END_HEADERS | END_STREAM | PADDED, 1, &[200, 0x82]),
        ),
    ]
}

/// Streams that are used again, or out of their order.
fn streams() -> Vec<Case> {
    let head =
        |stream: u32| frame(HEADERS, END_HEADERS | END_STREAM, stream, &block(&request("GET", "/../x")));
    vec![
        Case::cut("a head on a stream that has ended", [get(&[]), get(&[])].concat()),
        Case::cut("data on a stream that has ended", [get(&[]), last("abc")].concat()),
        Case::connection("a stream below one that was opened", [head(5), head(3)].concat()),
        Case::cut("a second head in the middle of a body", [post(&[]), data("abc"), post(&[])].concat()),
        Case::cut("a window of a stream beyond 31 bits", {
            let window = frame(WINDOW_UPDATE, 0, 1, &0x7fff_ffff_u32.to_be_bytes());
            [post(&[]), window.clone(), window].concat()
        }),
        Case::cut(
            "a window of nothing on a stream",
            [post(&[]), frame(WINDOW_UPDATE, 0, 1, &[0; 4])].concat(),
        ),
        Case::cut("a stream that depends on itself", {
            [
                post(&[]),
                frame(PRIORITY, 0, 1, &[0, 0, 0, 1, 0]),
                frame(RST_STREAM, 0, 1, &[0, 0, 0, 8]),
                head(3),
            ]
            .concat()
        }),
    ]
}
