//! What can be written in many ways, and the one way in which it goes on.

use super::{Case, Form, get, post};

pub(super) fn cases() -> Vec<Case> {
    [lines(), fields(), targets(), absolute()].into_iter().flatten().collect()
}

fn lines() -> Vec<Case> {
    let form = || Form::get().with("x-a", "1");
    vec![
        Case::carried("bare LFs", form(), "GET /x HTTP/1.1\nHost: a.test\nX-A: 1\n\n"),
        Case::carried("bare LFs here and there", form(), "GET /x HTTP/1.1\r\nHost: a.test\nX-A: 1\r\n\n"),
        Case::carried(
            "a bare LF behind the request line",
            form(),
            "GET /x HTTP/1.1\nHost: a.test\r\nX-A: 1\r\n\r\n",
        ),
        Case::carried("a bare LF between two fields", form(), get("X: y\nX-A: 1")),
        Case::carried("an empty line first", form(), "\r\n".to_owned() + &get("X-A: 1")),
        Case::carried("three empty lines first", form(), "\r\n\r\n\r\n".to_owned() + &get("X-A: 1")),
        Case::carried("an empty line of a bare LF first", form(), "\n".to_owned() + &get("X-A: 1")),
        Case::carried(
            "a coding behind a bare LF counts",
            Form::chunked("abc"),
            post("X: y\nTransfer-Encoding: chunked", "3\r\nabc\r\n0\r\n\r\n"),
        ),
        Case::carried(
            "a length behind a bare LF counts",
            Form::post("abc"),
            post("X: y\nContent-Length: 3", "abc"),
        ),
        Case::carried(
            "a body behind bare LFs",
            Form::post("\n\n\r\n"),
            "POST /x HTTP/1.1\nHost: a.test\nContent-Length: 4\n\n\n\n\r\n",
        ),
    ]
}

fn fields() -> Vec<Case> {
    let one = |line: &str, value: &'static str| (get(line), Form::get().with("x-a", value));
    let cases = [
        ("no space before a value", one("X-A:1", "1")),
        ("spaces around a value", one("X-A:   1   ", "1")),
        ("tabs around a value", one("X-A:\t1\t", "1")),
        ("spaces and tabs within a value", one("X-A: 1 \t 2", "1 \t 2")),
        ("an empty value", one("X-A:", "")),
        ("a value of spaces", one("X-A:     ", "")),
        ("a name in capitals", one("X-A: 1", "1")),
        ("a name in small letters", one("x-a: 1", "1")),
        ("a colon in a value", one("X-A: a:b: c", "a:b: c")),
        ("a value of one colon", one("X-A::", ":")),
        ("quotes in a value", one("X-A: \"a\\\"b\"", "\"a\\\"b\"")),
        ("an encoded line in a value", one("X-A: a%0d%0aX-B: 1", "a%0d%0aX-B: 1")),
    ];
    let mut cases: Vec<_> =
        cases.into_iter().map(|(name, (sent, form))| Case::carried(name, form, sent)).collect();
    cases.extend([
        Case::carried(
            "bytes beyond ASCII in a value",
            Form::get().with("x-a", "caf\u{e9}\u{ff}"),
            b"GET /x HTTP/1.1\r\nHost: a.test\r\nX-A: caf\xe9\xff\r\n\r\n".as_slice(),
        ),
        Case::carried(
            "one name three times",
            Form::get().with("x-a", "1").with("x-a", "2, 3").with("x-a", ""),
            get("X-A: 1\r\nx-a: 2, 3\r\nX-a:"),
        ),
        Case::carried(
            "cookies in two fields",
            Form::get().with("cookie", "a=1").with("cookie", "b=2"),
            get("Cookie: a=1\r\nCookie: b=2"),
        ),
        Case::carried("a name with an underscore", Form::get().with("x_legacy", "1"), get("X_Legacy: 1")),
        Case::carried(
            "a name with every kind of character",
            Form::get().with("!#$%&'*+.^_`|~1", "1"),
            get("!#$%&'*+.^_`|~1: 1"),
        ),
        Case::carried("a name of one digit", Form::get().with("0", "1"), get("0: 1")),
        Case::carried("a field named like a part of HTTP/2", Form::get().with("path", "/y"), get("path: /y")),
        Case::refused("a field named like a pseudo-header", 400, get(":path: /y")),
    ]);
    cases
}

fn targets() -> Vec<Case> {
    let same = |name: &'static str, target: &'static str| {
        let sent = format!("GET {target} HTTP/1.1\r\nHost: a.test\r\n\r\n");
        Case::carried(name, Form::new("GET", target), sent)
    };
    vec![
        same("the root", "/"),
        same("slashes in a row", "/a//b///c"),
        same("a path that looks like an authority", "//evil.test/x"),
        same("a path that looks like an address", "/http://evil.test/x"),
        same("an encoded slash", "/a%2Fb%2fc"),
        same("an encoded letter", "/%41%62"),
        same("encoded letters beyond ASCII", "/caf%C3%A9"),
        same("an encoded question mark", "/a%3Fb"),
        same("an encoded hash", "/a%23b"),
        same("an encoded space", "/a%20b"),
        same("an encoded CRLF", "/a%0d%0aX:%20y"),
        same("a plus", "/a+b"),
        same("parameters", "/a;v=1/b;w"),
        same("dots that are no segments", "/a..b/.c/..d/e."),
        same("three dots", "/..."),
        same("a trailing slash", "/a/"),
        same("an empty query", "/a?"),
        same("two question marks", "/a?b?c"),
        same("dot segments in a query", "/a?b=/../c"),
        same("a slash and an at sign", "/@evil.test/"),
        same("a colon", "/a:b"),
        same("broken encoding in a query", "/a?%zz&%"),
        same("a backslash in a query", "/a?b=\\c"),
        same("brackets in a query", "/a?b[]=1&c={d}|e^f`g"),
        same("an apostrophe in a query", "/a?b='c'"),
        Case::carried(
            "a fragment stays here",
            Form::new("GET", "/a"),
            "GET /a#b HTTP/1.1\r\nHost: a.test\r\n\r\n",
        ),
        Case::carried(
            "a fragment behind a query stays here",
            Form::new("GET", "/a?b"),
            "GET /a?b#c?d HTTP/1.1\r\nHost: a.test\r\n\r\n",
        ),
        Case::carried(
            "bytes beyond ASCII in a path",
            Form::new("GET", "/caf\u{c3}\u{a9}"),
            b"GET /caf\xc3\xa9 HTTP/1.1\r\nHost: a.test\r\n\r\n".as_slice(),
        ),
    ]
}

fn absolute() -> Vec<Case> {
    let absolute = |name: &'static str, url: &str, target: &'static str| {
        Case::carried(name, Form::new("GET", target), format!("GET {url} HTTP/1.1\r\nHost: a.test\r\n\r\n"))
    };
    vec![
        absolute("an absolute form without a path", "http://{origin}", "/"),
        absolute("an absolute form with a query alone", "http://{origin}?a=b", "/?a=b"),
        absolute("an absolute form with a scheme in capitals", "HTTP://{origin}/x", "/x"),
        absolute("an absolute form with slashes in a row", "http://{origin}//x", "//x"),
        absolute(
            "an absolute form in an absolute form",
            "http://{origin}/http://evil.test/",
            "/http://evil.test/",
        ),
        absolute("an absolute form with a fragment", "http://{origin}/x#y", "/x"),
        Case::carried(
            "OPTIONS of a whole server in absolute form",
            Form::new("OPTIONS", "/"),
            "OPTIONS http://{origin}/ HTTP/1.1\r\nHost: a.test\r\n\r\n",
        ),
    ]
}
