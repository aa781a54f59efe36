//! What is no HTTP/1.1, or not quite.

use super::{Case, Form, How, SMUGGLED, get};

pub(super) fn cases() -> Vec<Case> {
    [request_lines(), targets(), names(), values(), lines(), strangers(), bounds()]
        .into_iter()
        .flatten()
        .collect()
}

fn request_lines() -> Vec<Case> {
    let line = |line: &str| format!("{line}\r\nHost: a.test\r\n\r\n");
    vec![
        Case::refused("HTTP/0.9", 400, "GET /x\r\n\r\n"),
        Case::refused("HTTP/0.9 with fields", 400, line("GET /x")),
        Case::refused("a method alone", 400, "GET\r\n\r\n"),
        Case::refused("no target", 400, line("GET HTTP/1.1")),
        Case::refused("no method", 400, line("/x HTTP/1.1")),
        Case::refused("two spaces before the target", 400, line("GET  /x HTTP/1.1")),
        Case::refused("two spaces before the version", 400, line("GET /x  HTTP/1.1")),
        Case::refused("tabs in place of spaces", 400, line("GET\t/x\tHTTP/1.1")),
        Case::refused("a space before the method", 400, line(" GET /x HTTP/1.1")),
        Case::refused("a space behind the version", 400, line("GET /x HTTP/1.1 ")),
        Case::refused("a word behind the version", 400, line("GET /x HTTP/1.1 more")),
        Case::refused("a space in the target", 400, line("GET /x y HTTP/1.1")),
        Case::refused("a bare CR behind the method", 400, line("GET\r/x HTTP/1.1")),
        Case::refused("a bare CR behind the version", 400, "GET /x HTTP/1.1\rHost: a.test\r\n\r\n"),
        Case::refused("NUL in the method", 400, line("G\0T /x HTTP/1.1")),
        Case::refused("a bracket in the method", 400, line("G[T /x HTTP/1.1")),
        Case::refused("a colon in the method", 400, line("GET: /x HTTP/1.1")),
        Case::refused("a letter beyond ASCII in the method", 400, line("G\u{c9}T /x HTTP/1.1")),
        Case::refused("a version in small letters", 400, line("GET /x http/1.1")),
        Case::refused("HTTP/1.2", 400, line("GET /x HTTP/1.2")),
        Case::refused("HTTP/2.0", 400, line("GET /x HTTP/2.0")),
        Case::refused("HTTP/2", 400, line("GET /x HTTP/2")),
        Case::refused("HTTP/3.0", 400, line("GET /x HTTP/3.0")),
        Case::refused("HTTP/11", 400, line("GET /x HTTP/11")),
        Case::refused("HTTP/1.", 400, line("GET /x HTTP/1.")),
        Case::refused("HTTP/1", 400, line("GET /x HTTP/1")),
        Case::refused("HTTP/01.1", 400, line("GET /x HTTP/01.1")),
        Case::refused("HTTP/1.01", 400, line("GET /x HTTP/1.01")),
        Case::refused("HTTP/1.1.1", 400, line("GET /x HTTP/1.1.1")),
        Case::refused("HTTP/-1.1", 400, line("GET /x HTTP/-1.1")),
        Case::refused("HTTPS/1.1", 400, line("GET /x HTTPS/1.1")),
        Case::refused("HTTP 1.1", 400, line("GET /x HTTP 1.1")),
        Case::refused("ICAP/1.0", 400, line("GET /x ICAP/1.0")),
        Case::refused("a version beyond ASCII", 400, line("GET /x HTTP/1.\u{661}")),
    ]
}

fn targets() -> Vec<Case> {
    let target = |target: &str| format!("GET {target} HTTP/1.1\r\nHost: a.test\r\n\r\n");
    vec![
        Case::refused("NUL in the target", 400, target("/a\0b")),
        Case::refused("a control character in the target", 400, target("/a\x01b")),
        Case::refused("DEL in the target", 400, target("/a\x7fb")),
        Case::refused("a bare CR in the target", 400, target("/a\rb")),
        Case::refused("a tab in the target", 400, target("/a\tb")),
        Case::refused("a target that is a word", 400, target("x")),
        Case::refused("a target that is a query", 400, target("?a=b")),
        Case::refused("a target that is a fragment", 400, target("#a")),
        Case::refused("a target that is an authority", 400, target("a.test:80")),
        Case::refused("a target with a scheme alone", 400, target("http://")),
        Case::refused("a target with a scheme and a path", 400, target("http:///x")),
        Case::refused("a target with a broken scheme", 400, target("ht*tp://a.test/x")),
        Case::refused("a target with another scheme", 400, target("ftp://{origin}/x")),
        Case::refused("a target that is a file", 400, target("file:///etc/passwd")),
        Case::refused("a target with one slash behind its scheme", 400, target("http:/{origin}/x")),
        Case::refused("a target with a user", 400, target("http://u@{origin}/x")),
        Case::refused("a target with a user and a password", 400, target("http://u:p@{origin}/x")),
        Case::refused("a target with an empty user", 400, target("http://@{origin}/x")),
        Case::refused("a target with a port that is none", 400, target("http://127.0.0.1:x/x")),
        Case::refused("a target with a port beyond 16 bits", 400, target("http://127.0.0.1:99999/x")),
        Case::refused("a target with a backslash for a slash", 400, target("http:\\\\{origin}\\x")),
        Case::refused("a target with a broken address", 400, target("http://[::1/x")),
        Case::refused("dot segments", 400, target("/a/../b")),
        Case::refused("a dot segment at the end", 400, target("/a/..")),
        Case::refused("a dot segment alone", 400, target("/..")),
        Case::refused("a single dot at the end", 400, target("/a/.")),
        Case::refused("a single dot, encoded", 400, target("/a/%2E/b")),
        Case::refused("a single dot", 400, target("/a/./b")),
        Case::refused("an encoded dot segment", 400, target("/a/%2e%2e/b")),
        Case::refused("a half encoded dot segment", 400, target("/a/.%2E/b")),
        Case::refused("a dot segment encoded twice", 400, target("/a/%252e%252e/b")),
        Case::refused("a dot segment behind an encoded slash", 400, target("/a/..%2fb")),
        Case::refused("a dot segment with a parameter", 400, target("/a/..;x=y/b")),
        Case::refused("a backslash in the path", 400, target("/a\\b")),
        Case::refused("an encoded backslash", 400, target("/a%5cb")),
        Case::refused("an encoded NUL", 400, target("/a%00b")),
        Case::refused("an encoded NUL, encoded again", 400, target("/a%2500b")),
        Case::refused("half an encoded byte", 400, target("/a%4")),
        Case::refused("a percent sign alone", 400, target("/%")),
        Case::refused("an encoded byte that is none", 400, target("/%zz")),
        Case::refused("dot segments of an absolute form", 400, target("http://{origin}/a/../b")),
    ]
}

fn names() -> Vec<Case> {
    vec![
        Case::refused("a field without a name", 400, get(": x")),
        Case::refused("a line without a colon", 400, get("no colon here")),
        Case::refused("a space in a name", 400, get("X Y: 1")),
        Case::refused("a space before a colon", 400, get("X : 1")),
        Case::refused("a tab before a colon", 400, get("X\t: 1")),
        Case::refused("NUL in a name", 400, get("X\0: 1")),
        Case::refused("DEL in a name", 400, get("X\x7f: 1")),
        Case::refused("a control character in a name", 400, get("X\x01: 1")),
        Case::refused("a bare CR in a name", 400, get("X\r: 1")),
        Case::refused("a letter beyond ASCII in a name", 400, get("X\u{e9}: 1")),
        Case::refused("brackets in a name", 400, get("(X): 1")),
        Case::refused("an at sign in a name", 400, get("X@Y: 1")),
        Case::refused("a slash in a name", 400, get("X/Y: 1")),
        Case::refused("quotes in a name", 400, get("\"X\": 1")),
        Case::refused("an equals sign in a name", 400, get("X=Y: 1")),
        Case::refused("a comma in a name", 400, get("X,Y: 1")),
    ]
}

fn values() -> Vec<Case> {
    vec![
        Case::refused("NUL in a value", 400, get("X: a\0b")),
        Case::refused("a bare CR in a value", 400, get("X: a\rb")),
        Case::refused("a bare CR at the end of a value", 400, get("X: a\r\r\nY: b")),
        Case::refused("a bare CR at the beginning of a value", 400, get("X:\ra")),
        Case::refused("DEL in a value", 400, get("X: a\x7fb")),
        Case::refused("a bell in a value", 400, get("X: a\x07b")),
        Case::refused("a vertical tab in a value", 400, get("X: a\x0bb")),
        Case::refused("an escape in a value", 400, get("X: a\x1b[0mb")),
        Case::refused("a folded value", 400, get("X: a\r\n b")),
        Case::refused("a value folded with a tab", 400, get("X: a\r\n\tb")),
        Case::refused("a value folded into an empty line", 400, get("X: a\r\n ")),
        Case::refused(
            "a fold below the request line",
            400,
            "GET /x HTTP/1.1\r\n X: y\r\nHost: a.test\r\n\r\n",
        ),
        Case::refused(
            "a Host below the request line, folded",
            400,
            "GET /x HTTP/1.1\r\n Host: a.test\r\n\r\n",
        ),
    ]
}

fn lines() -> Vec<Case> {
    vec![
        Case::refused("only CRs", 400, "GET /x HTTP/1.1\rHost: a.test\r\r"),
        Case::refused("LF before CR", 400, "GET /x HTTP/1.1\n\rHost: a.test\n\r\n\r"),
        Case::refused("a head that ends in LF, CR", 0, "GET /x HTTP/1.1\r\nHost: a.test\n\r")
            .sent(How::HalfClosed),
        Case::refused(
            "a bare CR in place of the empty line",
            400,
            "GET /x HTTP/1.1\r\nHost: a.test\r\n\rX\r\n\r\n",
        ),
        Case::refused("a head that does not end", 0, "GET /x HTTP/1.1\r\nHost: a.test\r\n")
            .sent(How::HalfClosed),
        Case::refused("half a request line", 0, "GET /x HT").sent(How::HalfClosed),
        Case::refused("nothing", 0, "").sent(How::HalfClosed),
        Case::refused("nothing but an empty line", 0, "\r\n").sent(How::HalfClosed),
    ]
}

/// Other protocols.
fn strangers() -> Vec<Case> {
    vec![
        Case::refused("TLS", 400, b"\x16\x03\x01\x00\xa5\x01\x00\x00\xa1\x03\x03\r\n\r\n".as_slice()),
        Case::refused("SSH", 400, "SSH-2.0-OpenSSH_9.6\r\n\r\n"),
        Case::refused("SOCKS 5", 400, b"\x05\x01\x00\r\n\r\n".as_slice()),
        Case::refused("SMTP", 400, "EHLO a.test\r\n\r\n"),
        Case::refused("FTP", 400, "USER anonymous\r\n\r\n"),
        Case::refused("Redis", 400, "*1\r\n$4\r\nPING\r\n\r\n"),
        Case::refused("memcached", 400, "get x\r\n\r\n"),
        Case::refused(
            "FastCGI",
            400,
            b"\x01\x01\x00\x01\x00\x08\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00".as_slice(),
        ),
        Case::refused("an answer", 400, format!("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n{SMUGGLED}")),
        Case::refused("the PROXY protocol", 400, format!("PROXY TCP4 1.2.3.4 5.6.7.8 1 2\r\n{}", get(""))),
        Case::refused(
            "the PROXY protocol in binary",
            400,
            [b"\r\n\r\n\0\r\nQUIT\n\x21\x11\x00\x0c", SMUGGLED.as_bytes()].concat(),
        ),
        Case::refused("UTF-16", 400, get("").bytes().flat_map(|byte| [byte, 0]).collect::<Vec<_>>()),
        Case::refused("a byte order mark", 400, format!("\u{feff}{}", get(""))),
        Case::refused("NULs", 400, vec![0; 64]),
        Case::refused("0xFF", 400, vec![0xff; 64]),
        Case::refused("the beginning of HTTP/2, spoilt", 400, "PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n"),
    ]
}

fn bounds() -> Vec<Case> {
    let fields = |count: usize| ["X: 1"].repeat(count).join("\r\n");
    vec![
        Case::carried("a hundred fields", Form::get(), get(&fields(99))),
        Case::refused("101 fields", 431, get(&fields(100))),
        Case::refused("ten thousand fields", 431, get(&fields(10_000))),
        Case::refused("a value of 200 KiB", 431, get(&format!("X: {}", "x".repeat(200 << 10)))),
        Case::refused("a name of 200 KiB", 431, get(&format!("{}: x", "x".repeat(200 << 10)))),
        Case::refused("a name of 64 KiB", 0, get(&format!("{}: x", "x".repeat(64 << 10)))),
        Case::refused(
            "a target of 70 KiB",
            414,
            format!("GET /{} HTTP/1.1\r\nHost: a.test\r\n\r\n", "x".repeat(70 << 10)),
        ),
        Case::refused(
            "a target of 200 KiB",
            0,
            format!("GET /{} HTTP/1.1\r\nHost: a.test\r\n\r\n", "x".repeat(200 << 10)),
        ),
        Case::refused(
            "a method of 200 KiB",
            0,
            format!("{} /x HTTP/1.1\r\nHost: a.test\r\n\r\n", "G".repeat(200 << 10)),
        ),
        Case::refused("empty lines without end", 0, "\r\n".repeat(100 << 10)).sent(How::HalfClosed),
    ]
}
