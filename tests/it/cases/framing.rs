//! Where a message ends: lengths, chunks, and both at once.

use super::{Case, Ending, Form, How, SMUGGLED, chunked, get, post};

pub(super) fn cases() -> Vec<Case> {
    [lengths(), codings(), both(), chunks(), trailers(), leftovers()].into_iter().flatten().collect()
}

fn lengths() -> Vec<Case> {
    let length = |value: &str| post(&format!("Content-Length:{value}"), "a");
    vec![
        Case::carried("a length", Form::post("a"), length(" 1")),
        Case::carried("a length without a space", Form::post("a"), length("1")),
        Case::carried("a length between tabs", Form::post("a"), length("\t1\t")),
        Case::carried(
            "a length with zeros in front",
            Form::post("a").with("content-length", "1"),
            length(" 01"),
        ),
        Case::carried(
            "the same length twice",
            Form::post("a"),
            post("Content-Length: 1\r\nContent-Length: 1", "a"),
        ),
        Case::carried("a length of 0", Form::post(""), post("Content-Length: 0", "")),
        Case::carried("no length and no body", Form::new("POST", "/x"), post("", "")),
        Case::carried("a GET with a length of 0", Form::get().sized(""), get("Content-Length: 0")),
        Case::carried("a GET with a body", Form::get().sized("a"), get("Content-Length: 1") + "a"),
        Case::carried(
            "a GET whose body is a request",
            Form::get().sized(SMUGGLED),
            get(&format!("Content-Length: {}", SMUGGLED.len())) + SMUGGLED,
        ),
        Case::carried(
            "a HEAD with a body",
            Form::new("HEAD", "/x").sized("a"),
            "HEAD /x HTTP/1.1\r\nHost: a.test\r\nContent-Length: 1\r\n\r\na",
        ),
        Case::carried(
            "a DELETE with a body",
            Form::new("DELETE", "/x").sized("a"),
            "DELETE /x HTTP/1.1\r\nHost: a.test\r\nContent-Length: 1\r\n\r\na",
        ),
        Case::refused("two lengths", 400, post("Content-Length: 1\r\nContent-Length: 2", "ab")),
        Case::refused(
            "two lengths, the longer first",
            400,
            post("Content-Length: 2\r\nContent-Length: 1", "ab"),
        ),
        Case::refused(
            "two lengths in other letters",
            400,
            post("Content-Length: 1\r\ncontent-length: 2", "ab"),
        ),
        Case::refused("two lengths apart", 400, post("Content-Length: 1\r\nX: y\r\nContent-Length: 0", "a")),
        Case::refused("a list of one length", 400, length(" 1, 1")),
        Case::refused("a list of two lengths", 400, length(" 1, 2")),
        Case::refused("a list that ends in a comma", 400, length(" 1,")),
        Case::refused("a length with a plus", 400, length(" +1")),
        Case::refused("a negative length", 400, length(" -1")),
        Case::refused("minus zero", 400, length(" -0")),
        Case::refused("a length in hexadecimal", 400, length(" 0x1")),
        Case::refused("a length with a fraction", 400, length(" 1.0")),
        Case::refused("a length with an exponent", 400, length(" 1e0")),
        Case::refused("a length in two words", 400, length(" 1 1")),
        Case::refused("a length with an underscore", 400, length(" 1_0")),
        Case::refused("a length in quotes", 400, length(" \"1\"")),
        Case::refused("a length in Arabic digits", 400, length(" \u{661}")),
        Case::refused("a length with a vertical tab", 400, length(" \x0b1")),
        Case::refused("a length with a form feed", 400, length(" 1\x0c")),
        Case::refused("a length with NUL", 400, length(" 1\0")),
        Case::refused("a length that is a word", 400, length(" one")),
        Case::refused("a length beyond 64 bits", 400, length(" 18446744073709551617")),
        Case::refused("a length that wraps to 1", 400, length(" 340282366920938463463374607431768211457")),
        Case::refused("the greatest length of 64 bits", 0, length(" 18446744073709551615"))
            .sent(How::HalfClosed),
        Case::refused("a space before the colon of a length", 400, post("Content-Length : 1", "a")),
        Case::refused("a tab before the colon of a length", 400, post("Content-Length\t: 1", "a")),
        Case::refused("NUL in the name of a length", 400, post("Content-Length\0: 1", "a")),
        Case::refused("a length that is folded", 400, post("Content-Length:\r\n 1", "a")),
        Case::refused("a length with an underscore in its name", 400, post("Content_Length: 1", "a")),
    ]
}

fn codings() -> Vec<Case> {
    let coding = |field: &str| post(field, "1\r\na\r\n0\r\n\r\n");
    let value = |value: &str| coding(&format!("Transfer-Encoding:{value}"));
    vec![
        Case::carried("chunked", Form::chunked("a"), value(" chunked")),
        Case::carried("chunked in capitals", Form::chunked("a"), value(" CHUNKED")),
        Case::carried("chunked in mixed letters", Form::chunked("a"), value(" cHuNkEd")),
        Case::carried("chunked without a space", Form::chunked("a"), value("chunked")),
        Case::carried("chunked between tabs", Form::chunked("a"), value("\tchunked\t")),
        Case::carried(
            "chunked under a name in capitals",
            Form::chunked("a"),
            coding("TRANSFER-ENCODING: chunked"),
        ),
        Case::carried(
            "a GET in chunks",
            Form { method: "GET", ..Form::chunked("a") },
            get("Transfer-Encoding: chunked") + "1\r\na\r\n0\r\n\r\n",
        ),
        Case::refused("a coding before chunked", 501, value(" gzip, chunked")),
        Case::refused("identity before chunked", 501, value(" identity, chunked")),
        Case::refused("chunked twice", 501, value(" chunked, chunked")),
        Case::refused(
            "chunked in two fields",
            501,
            coding("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked"),
        ),
        Case::refused(
            "identity, then chunked",
            501,
            coding("Transfer-Encoding: identity\r\nTransfer-Encoding: chunked"),
        ),
        Case::refused(
            "nothing, then chunked",
            501,
            coding("Transfer-Encoding:\r\nTransfer-Encoding: chunked"),
        ),
        Case::refused("a comma before chunked", 501, value(" , chunked")),
        Case::refused(
            "chunked, then identity",
            400,
            coding("Transfer-Encoding: chunked\r\nTransfer-Encoding: identity"),
        ),
        Case::refused("chunked before a coding", 400, value(" chunked, gzip")),
        Case::refused("chunked before identity", 400, value(" chunked, identity")),
        Case::refused("identity", 400, value(" identity")),
        Case::refused("gzip", 400, value(" gzip")),
        Case::refused("a coding without a name", 400, value("")),
        Case::refused("xchunked", 0, value(" xchunked")),
        Case::refused("chunkedx", 400, value(" chunkedx")),
        Case::refused("chunk", 400, value(" chunk")),
        Case::refused("chunked in quotes", 400, value(" \"chunked\"")),
        Case::refused("chunked with a parameter", 400, value(" chunked;q=1")),
        Case::refused("chunked before a comma", 0, value(" chunked,")),
        Case::refused("chunked in two words", 0, value(" x chunked")),
        Case::refused("chunked behind a vertical tab", 400, value(" \x0bchunked")),
        Case::refused("chunked before a vertical tab", 400, value(" chunked\x0b")),
        Case::refused("chunked behind a form feed", 400, value(" \x0cchunked")),
        Case::refused("chunked behind NUL", 400, value(" \0chunked")),
        Case::refused("chunked with NUL in it", 400, value(" chun\0ked")),
        Case::refused("chunked behind a non-breaking space", 0, value(" \u{a0}chunked")),
        Case::refused("chunked with a Kelvin sign", 400, value(" chun\u{212a}ed")),
        Case::refused("chunked behind a bare CR", 400, value(" \rchunked")),
        Case::refused("chunked in a folded line", 400, value("\r\n chunked")),
        Case::refused("a space before the colon of a coding", 400, coding("Transfer-Encoding : chunked")),
        Case::refused("a tab before the colon of a coding", 400, coding("Transfer-Encoding\t: chunked")),
        Case::refused(
            "a vertical tab before the colon of a coding",
            400,
            coding("Transfer-Encoding\x0b: chunked"),
        ),
        Case::refused(
            "a space before the name of a coding",
            400,
            coding("X: y\r\n Transfer-Encoding: chunked"),
        ),
        Case::refused("a coding behind a bare CR", 400, coding("X: y\rTransfer-Encoding: chunked")),
        Case::refused("a coding with an underscore", 400, coding("Transfer_Encoding: chunked")),
        Case::refused(
            "chunked in HTTP/1.0",
            400,
            "POST /x HTTP/1.0\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        ),
        Case::refused(
            "chunked and a length in HTTP/1.0",
            400,
            "POST /x HTTP/1.0\r\nHost: a.test\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        ),
    ]
}

/// The coding counts, the length does not, and the connection is not used again.
fn both() -> Vec<Case> {
    let both = |fields: &str, body: &str| post(fields, body);
    vec![
        Case::last(
            "a length, and a coding that ends sooner",
            Form::chunked(""),
            both("Content-Length: 6\r\nTransfer-Encoding: chunked", "0\r\n\r\nG"),
        ),
        Case::last(
            "a coding that ends sooner, and a length",
            Form::chunked("").without("content-length"),
            both("Transfer-Encoding: chunked\r\nContent-Length: 60", &format!("0\r\n\r\n{SMUGGLED}")),
        ),
        Case::last(
            "a coding that goes on beyond a length",
            Form::chunked(SMUGGLED),
            both(
                "Content-Length: 4\r\nTransfer-Encoding: chunked",
                &format!("{:x}\r\n{SMUGGLED}\r\n0\r\n\r\n", SMUGGLED.len()),
            ),
        ),
        Case::last(
            "a coding and a length of 0",
            Form::chunked("a"),
            both("Content-Length: 0\r\nTransfer-Encoding: chunked", "1\r\na\r\n0\r\n\r\n"),
        ),
        Case::refused(
            "a length and a coding that is none",
            0,
            both("Content-Length: 5\r\nTransfer-Encoding: xchunked", "0\r\n\r\n"),
        ),
        Case::refused(
            "a coding and two lengths",
            0,
            both("Content-Length: 5\r\nContent-Length: 6\r\nTransfer-Encoding: chunked", "0\r\n\r\n"),
        ),
        Case::refused(
            "a coding and a length that is none",
            0,
            both("Content-Length: x\r\nTransfer-Encoding: chunked", "0\r\n\r\n"),
        ),
        Case::refused(
            "a length, and a coding hidden in a fold",
            400,
            both("Content-Length: 5\r\nX: y\r\n\tTransfer-Encoding: chunked", "0\r\n\r\n"),
        ),
        Case::carried(
            "a length, and a coding in a value",
            Form::post("0\r\n\r\n").with("x", "Transfer-Encoding: chunked"),
            both("Content-Length: 5\r\nX: Transfer-Encoding: chunked", "0\r\n\r\n"),
        ),
    ]
}

fn chunks() -> Vec<Case> {
    let sized = |line: &str| chunked(&format!("{line}\r\nabc\r\n0\r\n\r\n"));
    vec![
        Case::carried(
            "three chunks",
            Form::chunked("abcdef"),
            chunked("1\r\na\r\n2\r\nbc\r\n3\r\ndef\r\n0\r\n\r\n"),
        ),
        Case::carried(
            "a size in capitals",
            Form::chunked("abcdefghij"),
            chunked("A\r\nabcdefghij\r\n0\r\n\r\n"),
        ),
        Case::carried("a size with zeros in front", Form::chunked("abc"), sized("0000003")),
        Case::carried("a size before a space", Form::chunked("abc"), sized("3 ")),
        Case::carried("a size before a tab", Form::chunked("abc"), sized("3\t")),
        Case::carried("an extension", Form::chunked("abc"), sized("3;a=b")),
        Case::carried("an extension without a value", Form::chunked("abc"), sized("3;a")),
        Case::carried("an extension in quotes", Form::chunked("abc"), sized("3;a=\"b;c\"")),
        Case::carried("an extension without a name", Form::chunked("abc"), sized("3;")),
        Case::carried("an extension that looks like a size", Form::chunked("abc"), sized("3;5\t")),
        Case::carried("an extension of the last chunk", Form::chunked(""), chunked("0;a=b\r\n\r\n")),
        Case::carried("a last chunk of many zeros", Form::chunked(""), chunked("0000000000000000\r\n\r\n")),
        Case::cut("a size in C's hexadecimal", sized("0x3")),
        Case::cut("a size with a plus", sized("+3")),
        Case::cut("a negative size", sized("-3")),
        Case::cut("minus zero as a size", chunked("-0\r\n\r\n")),
        Case::cut("a size behind a space", sized(" 3")),
        Case::cut("a size with a space in it", sized("0 3")),
        Case::cut("a size with a fraction", sized("3.0")),
        Case::cut("a size with an underscore", sized("0_3")),
        Case::cut("a size that is no number", sized("g")),
        Case::cut("a size with a letter behind it", sized("3g")),
        Case::cut("a size with NUL behind it", sized("3\0")),
        Case::cut("a size with a vertical tab behind it", sized("3\x0b")),
        Case::cut("no size", sized("")),
        Case::cut("an extension in place of a size", sized(";a=b")),
        Case::cut("a comma behind a size", sized("3,a=b")),
        Case::cut("a size beyond 64 bits", sized("10000000000000003")),
        Case::cut("a size that wraps to 3", sized("100000000000000000000000000000003")),
        Case::cut("the greatest size of 64 bits", sized("ffffffffffffffff")).sent(How::HalfClosed),
        Case::cut("a bare LF behind a size", chunked("3\nabc\r\n0\r\n\r\n")),
        Case::cut("a bare CR behind a size", chunked("3\rabc\r\n0\r\n\r\n")),
        Case::cut("two CRs behind a size", chunked("3\r\r\nabc\r\n0\r\n\r\n")),
        Case::cut("a bare LF behind the data", chunked("3\r\nabc\n0\r\n\r\n")),
        Case::cut("a bare CR behind the data", chunked("3\r\nabc\r0\r\n\r\n")),
        Case::cut("nothing behind the data", chunked("3\r\nabc0\r\n\r\n")),
        Case::cut("two other bytes behind the data", chunked("3\r\nabcXX0\r\n\r\n")),
        Case::cut("more data than the size", chunked("3\r\nabcd\r\n0\r\n\r\n")),
        Case::cut("less data than the size", chunked("5\r\nabc\r\n0\r\n\r\n")).sent(How::HalfClosed),
        Case::cut("no last chunk", chunked("3\r\nabc\r\n")).sent(How::HalfClosed),
        Case::cut("a last chunk that does not end", chunked("3\r\nabc\r\n0\r\n")).sent(How::HalfClosed),
        Case::cut("a last chunk between bare LFs", chunked("0\n\n")),
        Case::cut("a bare LF behind the last chunk's line", chunked("0\n\r\n")),
        Case::cut("an extension with a bare LF", chunked(&format!("3;a\nabc\r\n0\r\n\r\n{SMUGGLED}"))),
        Case::cut("an extension with a bare CR", sized("3;a\rX")),
        Case::cut("an extension with CR and more", sized("3;a\r b")),
        Case::cut("extensions of 20 KiB", sized(&format!("3;{}", "a".repeat(20 << 10)))),
        Case::cut(
            "extensions of 20 KiB in all",
            chunked(&format!("1;{}\r\na\r\n", "b".repeat(40)).repeat(600)),
        ),
    ]
}

fn trailers() -> Vec<Case> {
    let with = |declared: &str, trailers: &str| {
        let fields = format!("Transfer-Encoding: chunked\r\nTrailer: {declared}");
        post(&fields, &format!("1\r\na\r\n0\r\n{trailers}\r\n\r\n"))
    };
    vec![
        Case::carried(
            "a trailer that was announced",
            Form::chunked("a").trailer("x-sum", "1"),
            with("X-Sum", "X-Sum: 1"),
        ),
        Case::carried(
            "a trailer that was not announced",
            Form::chunked("a"),
            chunked("1\r\na\r\n0\r\nX-Sum: 1\r\n\r\n"),
        ),
        Case::carried(
            "a length in the trailers",
            Form::chunked("a"),
            with("Content-Length", "Content-Length: 9"),
        ),
        Case::carried(
            "a coding in the trailers",
            Form::chunked("a"),
            with("Transfer-Encoding", "Transfer-Encoding: x"),
        ),
        Case::carried("a host in the trailers", Form::chunked("a"), with("Host", "Host: evil.test")),
        Case::carried(
            "credentials in the trailers",
            Form::chunked("a").trailer("x-sum", "1"),
            with(
                "Authorization, Partner-Code, Partner_Code, X-Service-Code, X-Sum",
                "Authorization: Bearer x\r\nPartner-Code: X\r\nPartner_Code: X\r\nX-Service-Code: X\r\nX-Sum: 1",
            ),
        ),
        Case::cut("a space before the colon of a trailer", with("X", "X : 1")),
        Case::cut("a trailer without a colon", with("X", "X")),
        Case::cut("a trailer without a name", with("X", ": 1")),
        Case::cut("a folded trailer", with("X", "X: 1\r\n 2")),
        Case::cut("NUL in a trailer", with("X", "X: \0")),
        Case::cut("a bare CR in a trailer", with("X", "X: a\rb")),
        Case::cut("trailers of 20 KiB", with("X", &format!("X: {}", "a".repeat(20 << 10)))),
        Case::cut("two hundred trailers", with("X", &["X: 1"; 200].join("\r\n"))),
    ]
}

/// What follows a message on its connection.
fn leftovers() -> Vec<Case> {
    let next = "GET /next HTTP/1.1\r\nHost: a.test\r\n\r\n";
    let second = Form::new("GET", "/next");
    vec![
        Case::carried("two requests at once", Form::get(), get("") + next).then(second.clone()),
        Case::carried(
            "a request behind a length",
            Form::post("abc"),
            post("Content-Length: 3", "abc") + next,
        )
        .then(second.clone()),
        Case::carried("a request behind chunks", Form::chunked("a"), chunked("1\r\na\r\n0\r\n\r\n") + next)
            .then(second.clone()),
        Case::carried("a request behind a length of 0", Form::post(""), post("Content-Length: 0", next))
            .then(second.clone()),
        Case::carried("a CRLF between two requests", Form::get(), get("") + "\r\n" + next).then(second),
        Case::new(
            "a body without a length is the next request",
            post("", "abc\r\n\r\n"),
            vec![Form::new("POST", "/x")],
            Ending::Refused(400),
        ),
        Case::new(
            "a body beyond its length is the next request",
            post("Content-Length: 3", "abc0\r\n\r\n"),
            vec![Form::post("abc")],
            Ending::Refused(400),
        ),
        Case::new(
            "a body beyond its last chunk is the next request",
            chunked("0\r\n\r\nabc\r\n\r\n"),
            vec![Form::chunked("")],
            Ending::Refused(400),
        ),
        Case::new(
            "a request that is refused behind one that is not",
            get("") + "GET /../smuggled HTTP/1.1\r\nHost: a.test\r\n\r\n" + SMUGGLED,
            vec![Form::get()],
            Ending::Refused(400),
        ),
        Case::refused(
            "a request behind one that is malformed",
            400,
            format!("GET /x HTTP/9.9\r\n\r\n{SMUGGLED}"),
        ),
        Case::refused(
            "a request behind one in an unknown coding",
            0,
            post("Transfer-Encoding: gzip", SMUGGLED),
        ),
        Case::refused("a body shorter than its length", 0, post("Content-Length: 9", "abc"))
            .sent(How::HalfClosed),
        Case::last("a request behind a close", Form::get(), get("Connection: close") + SMUGGLED),
    ]
}
