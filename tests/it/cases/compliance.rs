//! What RFC 9110 and RFC 9112 say of a proxy.

use super::{Case, Ending, Form, How, SMUGGLED, get, post};

pub(super) fn cases() -> Vec<Case> {
    [hosts(), methods(), hops(), expectations(), versions(), managed()].into_iter().flatten().collect()
}

fn hosts() -> Vec<Case> {
    let host = |lines: &str| format!("GET /x HTTP/1.1\r\n{lines}\r\n");
    let ours = |form: Form| form.with("x-kept", "1");
    vec![
        Case::refused("no Host", 400, host("")),
        Case::refused("no Host but other fields", 400, host("X: y\r\n")),
        Case::refused("an empty Host", 400, host("Host:\r\n")),
        Case::refused("a Host of spaces", 400, host("Host:   \r\n")),
        Case::refused("two Hosts", 400, host("Host: a.test\r\nHost: b.test\r\n")),
        Case::refused("the same Host twice", 400, host("Host: a.test\r\nHost: a.test\r\n")),
        Case::refused("a second Host in other letters", 400, host("Host: a.test\r\nhOST: b.test\r\n")),
        Case::refused("two Hosts apart", 400, host("Host: a.test\r\nX: y\r\nHost: b.test\r\n")),
        Case::refused("an empty Host and another", 400, host("Host:\r\nHost: b.test\r\n")),
        Case::refused("a Host with a space before its colon", 400, host("Host : a.test\r\n")),
        Case::refused("a list of Hosts", 400, host("Host: a.test, b.test\r\n")),
        // One name, by RFC 3986. It stays here, and no configured host matches it.
        Case::carried("a Host with a comma in its name", Form::get(), host("Host: a.test,b.test\r\n")),
        Case::refused("a Host with a path", 400, host("Host: a.test/x\r\n")),
        Case::refused("a Host with a query", 400, host("Host: a.test?x\r\n")),
        Case::refused("a Host with a fragment", 400, host("Host: a.test#x\r\n")),
        Case::refused("a Host with a scheme", 400, host("Host: http://a.test\r\n")),
        Case::refused("a Host with a user", 400, host("Host: u@a.test\r\n")),
        Case::refused("a Host with a user and a password", 400, host("Host: u:p@a.test\r\n")),
        Case::refused("a Host with a space", 400, host("Host: a b\r\n")),
        Case::refused("a Host with a tab", 400, host("Host: a\tb\r\n")),
        Case::refused("a Host with a backslash", 400, host("Host: a\\b\r\n")),
        Case::refused("a Host with a port that is none", 400, host("Host: a.test:x\r\n")),
        Case::refused("a Host with a port beyond 16 bits", 400, host("Host: a.test:65536\r\n")),
        Case::refused("a Host with a negative port", 400, host("Host: a.test:-1\r\n")),
        Case::refused("a Host with two ports", 400, host("Host: a.test:1:2\r\n")),
        Case::refused("a Host with half an address", 400, host("Host: [::1\r\n")),
        Case::refused("a Host with a bracket behind", 400, host("Host: a.test]\r\n")),
        Case::refused("a Host beyond ASCII", 400, host("Host: caf\u{e9}.test\r\n")),
        Case::carried("a Host and a port", ours(Form::get()), host("Host: a.test:8080\r\nX-Kept: 1\r\n")),
        Case::carried(
            "a Host that is an address",
            ours(Form::get()),
            host("Host: [::1]:8080\r\nX-Kept: 1\r\n"),
        ),
        Case::carried("a Host behind other fields", ours(Form::get()), host("X-Kept: 1\r\nHost: a.test\r\n")),
        Case::carried(
            "an absolute form",
            Form::get(),
            "GET http://{origin}/x HTTP/1.1\r\nHost: {origin}\r\n\r\n",
        ),
        Case::carried(
            "an absolute form and another Host",
            Form::get(),
            "GET http://{origin}/x HTTP/1.1\r\nHost: evil.test\r\n\r\n",
        ),
        Case::refused("an absolute form and no Host", 400, "GET http://{origin}/x HTTP/1.1\r\n\r\n"),
        Case::refused(
            "an absolute form and an empty Host",
            400,
            "GET http://{origin}/x HTTP/1.1\r\nHost:\r\n\r\n",
        ),
        Case::refused(
            "an absolute form and two Hosts",
            400,
            "GET http://{origin}/x HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        ),
        Case::refused(
            "an absolute form for a stranger",
            403,
            "GET http://evil.test/x HTTP/1.1\r\nHost: a.test\r\n\r\n",
        ),
        Case::refused(
            "an absolute form for a stranger, and the partner for a Host",
            403,
            "GET http://evil.test/x HTTP/1.1\r\nHost: {origin}\r\n\r\n",
        ),
    ]
}

fn methods() -> Vec<Case> {
    let method = |method: &str| format!("{method} /x HTTP/1.1\r\nHost: a.test\r\n\r\n");
    let connect = |target: &str| format!("CONNECT {target} HTTP/1.1\r\nHost: a.test\r\n\r\n{SMUGGLED}");
    vec![
        Case::carried("an unknown method", Form::new("BREW", "/x"), method("BREW")),
        Case::carried("a method of one letter", Form::new("X", "/x"), method("X")),
        Case::carried(
            "a method of every kind of character",
            Form::new("M-!#$%&'*+.^_`|~", "/x"),
            method("M-!#$%&'*+.^_`|~"),
        ),
        Case::carried("a method in small letters is another", Form::new("get", "/x"), method("get")),
        Case::carried("HEAD", Form::new("HEAD", "/x"), method("HEAD")),
        Case::carried("PURGE", Form::new("PURGE", "/x"), method("PURGE")),
        Case::carried(
            "OPTIONS of the whole server",
            Form::new("OPTIONS", "*"),
            "OPTIONS * HTTP/1.1\r\nHost: a.test\r\n\r\n",
        ),
        Case::refused("GET of the whole server", 400, "GET * HTTP/1.1\r\nHost: a.test\r\n\r\n"),
        Case::refused(
            "OPTIONS of the whole server and more",
            400,
            "OPTIONS *x HTTP/1.1\r\nHost: a.test\r\n\r\n",
        ),
        Case::refused("TRACE", 405, method("TRACE")),
        Case::refused("TRACE in small letters", 405, method("trace")),
        Case::refused("CONNECT", 405, "CONNECT a.test:443 HTTP/1.1\r\nHost: a.test:443\r\n\r\n"),
        Case::refused("CONNECT with a path", 405, connect("/x")),
        Case::refused("CONNECT to the partner", 405, connect("{origin}")),
        Case::refused(
            "CONNECT in small letters",
            405,
            "connect a.test:443 HTTP/1.1\r\nHost: a.test:443\r\n\r\n",
        ),
        Case::new(
            "Max-Forwards of 0 is answered here",
            "OPTIONS /x HTTP/1.1\r\nHost: a.test\r\nMax-Forwards: 0\r\n\r\n",
            Vec::new(),
            Ending::Answered(200),
        ),
        Case::carried(
            "Max-Forwards of 1 is one less",
            Form::new("OPTIONS", "/x").with("max-forwards", "0"),
            "OPTIONS /x HTTP/1.1\r\nHost: a.test\r\nMax-Forwards: 1\r\n\r\n",
        ),
        Case::carried("Max-Forwards of a GET", Form::get().with("max-forwards", "0"), get("Max-Forwards: 0")),
        Case::refused(
            "Max-Forwards that is no number",
            400,
            "OPTIONS /x HTTP/1.1\r\nHost: a.test\r\nMax-Forwards: x\r\n\r\n",
        ),
        Case::refused(
            "Max-Forwards below 0",
            400,
            "OPTIONS /x HTTP/1.1\r\nHost: a.test\r\nMax-Forwards: -1\r\n\r\n",
        ),
    ]
}

/// Fields for this hop only.
fn hops() -> Vec<Case> {
    let h2c = "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__";
    vec![
        Case::carried(
            "fields that Connection names",
            Form::get().without("connection").without("x-one").without("x-two").with("x-three", "3"),
            get("Connection: X-One\r\nConnection: keep-alive, x-two\r\nX-One: 1\r\nX-Two: 2\r\nX-Three: 3"),
        ),
        Case::carried(
            "Connection that names the length",
            Form::post("abc"),
            post("Connection: Content-Length\r\nContent-Length: 3", "abc"),
        ),
        Case::carried(
            "Connection that names the coding",
            Form::chunked("abc"),
            post("Connection: Transfer-Encoding\r\nTransfer-Encoding: chunked", "3\r\nabc\r\n0\r\n\r\n"),
        ),
        Case::carried(
            "Connection that names what bearerd sets",
            Form::get(),
            get("Connection: Host, Authorization, Partner-Code, X-Service-Code, Via"),
        ),
        Case::carried(
            "Connection that names itself",
            Form::get().without("connection"),
            get("Connection: Connection"),
        ),
        Case::carried("Connection without a value", Form::get().without("connection"), get("Connection:")),
        Case::carried("Connection of commas", Form::get().without("connection"), get("Connection: ,, ,")),
        Case::carried("Connection that is no token", Form::get(), get("Connection: \u{e9}, (x), a b")),
        Case::carried(
            "Connection of a thousand names",
            Form::get(),
            get(&format!("Connection: {}", "x,".repeat(1000))),
        ),
        Case::carried(
            "Keep-Alive",
            Form::get(),
            get("Connection: keep-alive\r\nKeep-Alive: timeout=5, max=1000"),
        ),
        Case::carried("Proxy-Connection", Form::get(), get("Proxy-Connection: close")),
        Case::carried(
            "TE of trailers",
            Form::get().with("te", "trailers").with("connection", "te"),
            get("Connection: TE\r\nTE: trailers"),
        ),
        Case::carried(
            "TE of a coding",
            Form::get().without("te").without("connection"),
            get("Connection: TE\r\nTE: gzip;q=1.0"),
        ),
        Case::carried("an upgrade to h2c", Form::get().without("upgrade").without("connection"), get(h2c)),
        Case::carried(
            "an upgrade to h2c and more",
            Form::get().without("upgrade"),
            get("Connection: upgrade\r\nUpgrade: websocket, h2c"),
        ),
        Case::carried(
            "an upgrade that Connection does not name",
            Form::get().without("upgrade"),
            get("Upgrade: websocket"),
        ),
        Case::last("Connection: close", Form::get().without("connection"), get("Connection: close")),
        Case::last(
            "Connection: close among others",
            Form::get(),
            get("Connection: X-One, CLOSE, te\r\nX-One: 1"),
        ),
        Case::last(
            "Connection: close and keep-alive",
            Form::get(),
            get("Connection: close\r\nConnection: keep-alive"),
        ),
    ]
}

fn expectations() -> Vec<Case> {
    let expect = |fields: &str| post(&format!("{fields}\r\nContent-Length: 3"), "abc");
    vec![
        Case::carried(
            "100-continue without waiting",
            Form::post("abc").invited(),
            expect("Expect: 100-continue"),
        ),
        Case::carried("100-Continue", Form::post("abc").invited(), expect("Expect: 100-Continue")),
        Case::carried(
            "100-continue twice",
            Form::post("abc").invited(),
            expect("Expect: 100-continue\r\nExpect: 100-continue"),
        ),
        Case::carried("100-continue of a GET without a body", Form::get(), get("Expect: 100-continue")),
        Case::carried(
            "100-continue of a GET with a length of 0",
            Form::get().sized(""),
            get("Expect: 100-continue\r\nContent-Length: 0"),
        ),
        Case::refused("another expectation", 417, expect("Expect: miracle")),
        Case::refused("100-continue and another", 417, expect("Expect: 100-continue, miracle")),
        Case::refused("another and 100-continue", 417, expect("Expect: miracle\r\nExpect: 100-continue")),
        Case::refused("100-continue behind a word", 417, expect("Expect: y 100-continue")),
        Case::refused("100-continue with a parameter", 417, expect("Expect: 100-continue;x=y")),
        Case::refused("100-continue in quotes", 417, expect("Expect: \"100-continue\"")),
        Case::refused("100-continue of two lines", 400, expect("Expect:\r\n 100-continue")),
        Case::refused("an empty expectation", 417, expect("Expect:")),
        Case::refused("an expectation whose body is a request", 417, {
            post(&format!("Expect: x\r\nContent-Length: {}", SMUGGLED.len()), SMUGGLED)
        }),
        Case::refused("an expectation with chunks that hold a request", 417, {
            let body = format!("{:x}\r\n{SMUGGLED}\r\n0\r\n\r\n", SMUGGLED.len());
            post("Expect: x\r\nTransfer-Encoding: chunked", &body)
        }),
    ]
}

fn versions() -> Vec<Case> {
    let old = |line: &str, rest: &str| format!("{line} HTTP/1.0\r\nHost: a.test\r\n{rest}");
    vec![
        Case::last("HTTP/1.0", Form::get(), old("GET /x", "\r\n")),
        Case::last("HTTP/1.0 without a Host", Form::get(), "GET /x HTTP/1.0\r\n\r\n"),
        Case::last("HTTP/1.0 with a body", Form::post("abc"), old("POST /x", "Content-Length: 3\r\n\r\nabc")),
        Case::last("HTTP/1.0 with a request behind", Form::get(), old("GET /x", &format!("\r\n{SMUGGLED}"))),
        Case::carried(
            "HTTP/1.0 that stays",
            Form::get().without("connection"),
            old("GET /x", "Connection: keep-alive\r\n\r\n"),
        ),
        Case::last(
            "HTTP/1.0 that asks for an upgrade",
            Form::get().without("upgrade"),
            old("GET /x", "Connection: upgrade\r\nUpgrade: websocket\r\n\r\n"),
        ),
        Case::refused("HTTP/1.0 with two Hosts", 400, old("GET /x", "Host: b.test\r\n\r\n")),
        Case::carried(
            "a request whose bytes come one by one",
            Form::chunked("abc").with("x-one", "1"),
            post("X-One: 1\r\nTransfer-Encoding: chunked", "1\r\na\r\n2;x=y\r\nbc\r\n0\r\n\r\n"),
        )
        .sent(How::ByteByByte),
        Case::carried(
            "a length whose bytes come one by one",
            Form::post("abc"),
            post("Content-Length: 3", "abc"),
        )
        .sent(How::ByteByByte),
        Case::refused("a refusal whose bytes come one by one", 400, get("X : 1")).sent(How::ByteByByte),
    ]
}

/// What bearerd sets itself.
fn managed() -> Vec<Case> {
    vec![
        Case::carried("Authorization", Form::get(), get("Authorization: Bearer stolen")),
        Case::carried("Authorization twice", Form::get(), get("Authorization: a b\r\nAUTHORIZATION: c d")),
        Case::carried("Partner-Code", Form::get(), get("Partner-Code: OTHER\r\nPARTNER-CODE: ANOTHER")),
        Case::carried("Proxy-Authorization", Form::get(), get("Proxy-Authorization: Basic dTpw")),
        Case::carried("where the client is", Form::get().without("forwarded").without("x-forwarded-for"), {
            get("Forwarded: for=10.0.0.1\r\nX-Forwarded-For: 10.0.0.1")
        }),
        Case::refused("Authorization with an underscore", 400, get("Proxy_Authorization: Bearer x")),
        Case::refused("Partner_Code", 400, get("Partner_Code: X")),
        Case::refused("X_Service_Code", 400, get("X_Service_Code: X")),
        Case::refused("a rewritten path", 403, get("X-Original-URL: /openapi/v1/auth/refresh")),
        Case::refused("a rewritten path, the other way", 403, get("X-Rewrite-URL: /openapi/v1/auth/refresh")),
        Case::refused("a request of a page", 403, get("Origin: https://evil.test")),
        Case::refused("a refresh call", 403, {
            "POST /openapi/v1/auth/refresh HTTP/1.1\r\nHost: a.test\r\nContent-Length: 2\r\n\r\n{}"
        }),
        Case::refused("a refresh call whose body is a request", 403, {
            let length = SMUGGLED.len();
            format!(
                "POST /openapi/v1/auth/refresh HTTP/1.1\r\nHost: a.test\r\nContent-Length: {length}\r\n\r\n{SMUGGLED}"
            )
        }),
    ]
}
