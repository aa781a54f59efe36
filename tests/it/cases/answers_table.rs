//! The answers that a partner may give.

use super::answers::Case;

pub(super) fn cases() -> Vec<Case> {
    [framed(), bodiless(), interim(), lines(), fields(), broken(), bad(), leftovers()]
        .into_iter()
        .flatten()
        .collect()
}

/// A 200 with these fields and this behind its head.
fn ok(fields: &str, rest: &str) -> String {
    format!("HTTP/1.1 200 OK\r\n{fields}\r\n\r\n{rest}")
}

fn chunked(rest: &str) -> String {
    ok("Transfer-Encoding: chunked", rest)
}

fn framed() -> Vec<Case> {
    vec![
        Case::whole("a length", 200, "abc", ok("Content-Length: 3", "abc")).with("content-length", "3"),
        Case::whole("a length of 0", 200, "", ok("Content-Length: 0", "")).with("content-length", "0"),
        Case::whole("the same length twice", 200, "abc", ok("Content-Length: 3\r\nContent-Length: 3", "abc")),
        Case::whole("a length and a close", 200, "abc", ok("Content-Length: 3\r\nConnection: close", "abc"))
            .closed()
            .without("connection"),
        Case::whole(
            "a close that is not done",
            200,
            "abc",
            ok("Content-Length: 3\r\nConnection: close", "abc"),
        ),
        Case::whole("chunks", 200, "abcd", chunked("1\r\na\r\n3\r\nbcd\r\n0\r\n\r\n")),
        Case::whole("no chunks", 200, "", chunked("0\r\n\r\n")),
        Case::whole("chunks with extensions", 200, "abc", chunked("3;a=b\r\nabc\r\n0;c\r\n\r\n")),
        Case::whole("chunks with trailers", 200, "abc", chunked("3\r\nabc\r\n0\r\nX-Sum: 1\r\n\r\n")),
        Case::whole("chunks with framing in the trailers", 200, "abc", {
            let fields = "Transfer-Encoding: chunked\r\nTrailer: Content-Length";
            ok(fields, "3\r\nabc\r\n0\r\nContent-Length: 9\r\n\r\n")
        }),
        Case::whole("a length and chunks", 200, "abc", {
            ok("Content-Length: 5\r\nTransfer-Encoding: chunked", "3\r\nabc\r\n0\r\n\r\n")
        })
        .without("content-length"),
        Case::whole("chunks and a length", 200, "abc", {
            ok("Transfer-Encoding: chunked\r\nContent-Length: 5", "3\r\nabc\r\n0\r\n\r\n")
        })
        .without("content-length"),
        Case::whole("neither a length nor chunks", 200, "abc", ok("X: y", "abc")).closed(),
        Case::whole("neither, and no body", 200, "", ok("X: y", "")).closed(),
        Case::whole("HTTP/1.0 and a length", 200, "abc", "HTTP/1.0 200 OK\r\nContent-Length: 3\r\n\r\nabc")
            .closed(),
        Case::whole("HTTP/1.0 until the close", 200, "abc", "HTTP/1.0 200 OK\r\n\r\nabc").closed(),
        Case::whole("HTTP/1.0 that stays", 200, "abc", {
            "HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 3\r\n\r\nabc"
        })
        .without("connection"),
    ]
}

/// Answers that have no body, whatever they say.
fn bodiless() -> Vec<Case> {
    let status = |status: &str, rest: &str| format!("HTTP/1.1 {status}\r\n{rest}");
    vec![
        Case::whole("204", 204, "", status("204 No Content", "\r\n")),
        Case::whole("204 with a length", 204, "", status("204 No Content", "Content-Length: 3\r\n\r\n"))
            .without("content-length"),
        Case::whole("204 with a body", 204, "", status("204 No Content", "Content-Length: 3\r\n\r\nabc")),
        Case::whole("204 with chunks", 204, "", {
            status("204 No Content", "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n")
        })
        .without("transfer-encoding"),
        Case::whole("304", 304, "", status("304 Not Modified", "ETag: \"a\"\r\n\r\n")).with("etag", "\"a\""),
        Case::whole("304 with a length", 304, "", status("304 Not Modified", "Content-Length: 3\r\n\r\n")),
        Case::whole("304 with a body", 304, "", status("304 Not Modified", "Content-Length: 3\r\n\r\nabc")),
        Case::whole("HEAD with a length", 200, "", ok("Content-Length: 3", ""))
            .to("HEAD")
            .with("content-length", "3"),
        Case::whole("HEAD with chunks", 200, "", ok("Transfer-Encoding: chunked", "")).to("HEAD"),
        Case::whole("HEAD with a body", 200, "", ok("Content-Length: 3", "abc")).to("HEAD"),
        Case::whole("HEAD with an answer for a body", 200, "", {
            ok("Content-Length: 38", "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        })
        .to("HEAD"),
    ]
}

fn interim() -> Vec<Case> {
    let then = |interim: &str| interim.to_owned() + &ok("Content-Length: 3", "abc");
    vec![
        Case::whole("100 first", 200, "abc", then("HTTP/1.1 100 Continue\r\n\r\n")),
        Case::whole("103 first", 200, "abc", then("HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n"))
            .without("link"),
        Case::whole("several 1xx first", 200, "abc", then(&"HTTP/1.1 102 Processing\r\n\r\n".repeat(5))),
        Case::whole(
            "1xx with a length",
            200,
            "abc",
            then("HTTP/1.1 103 Early Hints\r\nContent-Length: 9\r\n\r\n"),
        )
        .with("content-length", "3"),
        Case::bad(
            "101 that nobody asked for",
            "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n",
        ),
        Case::bad(
            "101 and an answer",
            "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc",
        ),
        Case::bad("1xx and then nothing", "HTTP/1.1 100 Continue\r\n\r\n").closed(),
    ]
}

fn lines() -> Vec<Case> {
    let line = |line: &str| format!("{line}\r\nContent-Length: 3\r\n\r\nabc");
    vec![
        Case::whole("bare LFs", 200, "abc", "HTTP/1.1 200 OK\nContent-Length: 3\n\nabc"),
        Case::whole("no reason", 200, "abc", line("HTTP/1.1 200 ")),
        Case::whole("no reason and no space", 200, "abc", line("HTTP/1.1 200")),
        Case::whole("a reason of its own", 200, "abc", line("HTTP/1.1 200 All's well (?)")),
        Case::whole("a reason beyond ASCII", 200, "abc", line("HTTP/1.1 200 Gr\u{fc}n")),
        Case::whole("an unknown status", 299, "abc", line("HTTP/1.1 299 Odd")),
        Case::whole("an unknown class", 799, "abc", line("HTTP/1.1 799 Odd")),
        Case::bad("a status of two digits", line("HTTP/1.1 20 OK")),
        Case::bad("a status of four digits", line("HTTP/1.1 2000 OK")),
        Case::bad("a status of letters", line("HTTP/1.1 2OO OK")),
        Case::bad("a negative status", line("HTTP/1.1 -20 OK")),
        Case::bad("a status below 100", line("HTTP/1.1 099 OK")),
        Case::bad("HTTP/2.0", line("HTTP/2.0 200 OK")),
        Case::bad("HTTP/1.2", line("HTTP/1.2 200 OK")),
        Case::bad("HTTP/0.9", "<html>abc</html>\r\n\r\n").closed(),
        Case::bad("ICY", line("ICY 200 OK")),
        Case::bad("a NUL in the reason", line("HTTP/1.1 200 O\0K")),
        Case::bad("a space first", line(" HTTP/1.1 200 OK")),
        Case::bad("a request", "GET / HTTP/1.1\r\nHost: a.test\r\n\r\n"),
        Case::bad("TLS", b"\x15\x03\x01\x00\x02\x02\x0a\r\n\r\n".as_slice()),
    ]
}

fn fields() -> Vec<Case> {
    let field = |field: &str| ok(&format!("{field}\r\nContent-Length: 3"), "abc");
    vec![
        Case::whole("a field behind a bare LF", 200, "abc", field("X-A: 1\nX-B: 2")).with("x-b", "2"),
        Case::whole("an encoded line in a value", 200, "abc", field("Location: /a%0d%0aX-B:%202"))
            .with("location", "/a%0d%0aX-B:%202")
            .without("x-b"),
        Case::whole("bytes beyond ASCII in a value", 200, "abc", {
            b"HTTP/1.1 200 OK\r\nX-A: caf\xe9\r\nContent-Length: 3\r\n\r\nabc".as_slice()
        })
        .with("x-a", "caf\u{e9}"),
        Case::whole("an empty value", 200, "abc", field("X-A:")).with("x-a", ""),
        Case::whole("fields for one hop", 200, "abc", {
            field("Connection: X-A\r\nX-A: 1\r\nKeep-Alive: timeout=5\r\nUpgrade: h2c\r\nProxy-Authenticate: Basic")
        })
        .without("x-a")
        .without("keep-alive")
        .without("upgrade")
        .without("proxy-authenticate"),
        Case::whole("Connection that names the length", 200, "abc", field("Connection: Content-Length")),
        Case::bad("a folded value", field("X-A: 1\r\n 2")),
        Case::bad("a line without a colon", field("X-A")),
        Case::bad("a space before a colon", field("X-A : 1")),
        Case::bad("a field without a name", field(": 1")),
        Case::bad("NUL in a value", field("X-A: a\0b")),
        Case::bad("a bare CR in a value", field("X-A: a\rb")),
        Case::bad("a space in a name", field("X A: 1")),
        Case::bad("two hundred fields", field(&["X-A: 1"; 200].join("\r\n"))),
        Case::bad("a value of a mebibyte", field(&format!("X-A: {}", "a".repeat(1 << 20)))),
    ]
}

/// The head is good, what follows is not.
fn broken() -> Vec<Case> {
    vec![
        Case::broken("a body shorter than its length", ok("Content-Length: 9", "abc")).closed(),
        Case::broken("no last chunk", chunked("3\r\nabc\r\n")).closed(),
        Case::broken("half a chunk", chunked("9\r\nabc")).closed(),
        Case::broken("a last chunk that does not end", chunked("3\r\nabc\r\n0\r\n")).closed(),
        Case::broken("a size that is none", chunked("3\r\nabc\r\nx\r\n")),
        Case::broken("a size in C's hexadecimal", chunked("3\r\nabc\r\n0x3\r\nabc\r\n0\r\n\r\n")),
        Case::broken("a size with a sign", chunked("+3\r\nabc\r\n0\r\n\r\n")),
        Case::broken("a size beyond 64 bits", chunked("10000000000000003\r\nabc\r\n0\r\n\r\n")),
        Case::broken("a bare LF behind a size", chunked("3\nabc\r\n0\r\n\r\n")),
        Case::broken("other bytes behind the data", chunked("3\r\nabcXX0\r\n\r\n")),
        Case::broken("an extension with a bare LF", chunked("3;a\nb\r\nabc\r\n0\r\n\r\n")),
        Case::broken("a trailer that is none", chunked("3\r\nabc\r\n0\r\nX\r\n\r\n")),
    ]
}

fn bad() -> Vec<Case> {
    let length = |value: &str| ok(&format!("Content-Length:{value}"), "abc");
    let coding = |value: &str| ok(&format!("Transfer-Encoding:{value}"), "3\r\nabc\r\n0\r\n\r\n");
    vec![
        Case::bad("two lengths", ok("Content-Length: 3\r\nContent-Length: 4", "abcd")),
        Case::bad("a list of lengths", length(" 3, 4")),
        Case::bad("a length with a plus", length(" +3")),
        Case::bad("a negative length", length(" -3")),
        Case::bad("a length that is a word", length(" three")),
        Case::bad("an empty length", length("")),
        Case::bad("a length beyond 64 bits", length(" 18446744073709551619")),
        Case::bad("a coding that is not undone", coding(" gzip, chunked")),
        Case::bad("a coding that is not undone, until the close", ok("Transfer-Encoding: gzip", "abc"))
            .closed(),
        Case::bad("chunked twice", coding(" chunked, chunked")),
        Case::bad("chunked before another", coding(" chunked, identity")).closed(),
        Case::bad("xchunked", coding(" xchunked")).closed(),
        Case::bad(
            "chunked in two fields",
            ok("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked", "0\r\n\r\n"),
        ),
        Case::bad("chunked behind a vertical tab", coding(" \x0bchunked")).closed(),
        Case::bad(
            "chunked in HTTP/1.0",
            "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
        )
        .closed(),
        Case::bad("nothing", "").closed(),
        Case::bad("half a head", "HTTP/1.1 200 OK\r\nContent-Le").closed(),
    ]
}

/// More than the answer.
fn leftovers() -> Vec<Case> {
    let more = "HTTP/1.1 200 OK\r\nX-Seen: stolen\r\nContent-Length: 6\r\n\r\nstolen";
    vec![
        Case::whole("an answer behind the answer", 200, "abc", ok("Content-Length: 3", "abc") + more),
        Case::whole("an answer behind the last chunk", 200, "abc", chunked("3\r\nabc\r\n0\r\n\r\n") + more),
        Case::whole("an answer behind an empty one", 200, "", ok("Content-Length: 0", "") + more),
        Case::whole("an answer behind a 204", 204, "", format!("HTTP/1.1 204 No Content\r\n\r\n{more}")),
        Case::whole("an answer behind a 304", 304, "", format!("HTTP/1.1 304 Not Modified\r\n\r\n{more}")),
        Case::whole("an answer behind that to a HEAD", 200, "", ok("Content-Length: 3", "") + more)
            .to("HEAD"),
        Case::whole("more than the length", 200, "abc", ok("Content-Length: 3", "abcdef")),
        Case::whole("an empty line behind the answer", 200, "abc", ok("Content-Length: 3", "abc\r\n")),
        Case::whole(
            "half an answer behind the answer",
            200,
            "abc",
            ok("Content-Length: 3", "abcHTTP/1.1 200 OK\r\n"),
        ),
        Case::whole("a hundred answers", 200, "abc", ok("Content-Length: 3", "abc") + &more.repeat(100)),
    ]
}
