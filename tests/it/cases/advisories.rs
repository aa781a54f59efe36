//! The bytes that made other servers and proxies disagree. Each case is named after its advisory.

use super::{Case, Ending, Form, How, SMUGGLED, chunked, get, post};

pub(super) fn cases() -> Vec<Case> {
    [heads(), lengths(), codings(), chunks(), bodies()].into_iter().flatten().collect()
}

fn heads() -> Vec<Case> {
    vec![
        Case::refused("CVE-2023-25725: a field without a name hides those below", 400, {
            post(": x\r\nContent-Length: 40", SMUGGLED)
        }),
        Case::refused("CVE-2019-16869: a space before the colon of a coding", 400, {
            post("Transfer-Encoding : chunked\r\nContent-Length: 5", "0\r\n\r\n")
        }),
        Case::refused(
            "CVE-2019-20444: a field without a colon",
            400,
            post("Content-Length 5\r\nX: y", "0\r\n\r\n"),
        ),
        Case::refused("CVE-2021-22959: a space before a colon", 400, post("Content-Length : 5", "hello")),
        Case::refused("CVE-2024-27982: a space before a length", 400, {
            format!("POST /x HTTP/1.1\r\nHost: a.test\r\n Content-Length: 40\r\n\r\n{SMUGGLED}")
        }),
        Case::refused("CVE-2023-30589: lines that end in CR", 400, {
            get("X: y\r\rGET /smuggled HTTP/1.1\rHost: a.test")
        }),
        Case::refused("CVE-2025-23167: a head that ends in CRLF, CR and a byte", 400, {
            format!("GET /x HTTP/1.1\r\nHost: a.test\r\n\rX{SMUGGLED}")
        }),
        Case::refused("CVE-2019-18802: a Host with what Envoy left on it", 400, {
            "GET /x HTTP/1.1\r\nHost: a.test\0\r\n\r\n"
        }),
        Case::carried("CVE-2019-18802: a Host with spaces behind it", Form::get(), {
            "GET /x HTTP/1.1\r\nHost: a.test  \t \r\n\r\n"
        }),
        Case::refused("CVE-2019-9900: NUL in a value", 400, get("X-Role: user\0admin")),
        Case::refused(
            "CVE-2019-9901: a path to normalise",
            400,
            "GET /public/..%2fadmin HTTP/1.1\r\nHost: a.test\r\n\r\n",
        ),
        Case::refused("CVE-2021-40346: a length in a name whose size wraps", 400, {
            post(
                &format!("Content-Length0{}:\r\nContent-Length: 20\r\nContent-Length: 0", "a".repeat(255)),
                SMUGGLED,
            )
        }),
        Case::refused("CVE-2017-7656: HTTP/0.9 behind a space", 400, "GET /x \r\n\r\n"),
        Case::refused("CVE-2023-49081: a version with more in it", 400, {
            "GET /x HTTP/1.1\0 HTTP/1.1\r\nHost: a.test\r\n\r\n"
        }),
        Case::carried(
            "CVE-2023-25690: CRLF in a path, encoded",
            Form::new("GET", "/a%20HTTP/1.1%0d%0aHost:%20b%0d%0a%0d%0aGET%20/smuggled"),
            {
                "GET /a%20HTTP/1.1%0d%0aHost:%20b%0d%0a%0d%0aGET%20/smuggled HTTP/1.1\r\nHost: a.test\r\n\r\n"
            },
        ),
        Case::refused(
            "a Host that a front would not see",
            400,
            "GET /x HTTP/1.1\r\nHost: a.test\r\nX: y\r\n Host: b.test\r\n\r\n",
        ),
        Case::refused(
            "a length that a front would not see",
            400,
            post("X: y\r\n Content-Length: 40", SMUGGLED),
        ),
        Case::carried("GHSA-qwrf-gfpj-qvj6: a Host in brackets is not routed by", Form::get(), {
            "GET /x HTTP/1.1\r\nHost: [::ffff:169.254.169.254]\r\n\r\n"
        }),
    ]
}

fn lengths() -> Vec<Case> {
    vec![
        Case::refused("CVE-2023-40225: an empty length", 400, post("Content-Length:", SMUGGLED)),
        Case::refused("CVE-2023-40225: an empty length before another", 400, {
            post("Content-Length:\r\nContent-Length: 40", SMUGGLED)
        }),
        Case::refused("CVE-2023-40225: an empty length behind another", 400, {
            post("Content-Length: 40\r\nContent-Length:", SMUGGLED)
        }),
        Case::refused(
            "CVE-2023-40225: an empty length in a list",
            400,
            post("Content-Length: 40,", SMUGGLED),
        ),
        Case::refused("CVE-2021-32715: a length with a plus", 400, post("Content-Length: +5", "hello")),
        Case::refused("CVE-2022-42252: a length that is none", 400, post("Content-Length: 5x", "hello")),
        Case::refused("CVE-2017-7658: two lengths, the first of 0", 400, {
            post("Content-Length: 0\r\nContent-Length: 40", SMUGGLED)
        }),
        Case::refused("CVE-2019-16792: a length twice, once behind a comma", 400, {
            post("Content-Length: 0, 40", SMUGGLED)
        }),
        Case::refused(
            "CVE-2018-7159: a length with a space in it",
            400,
            post("Content-Length: 4 0", SMUGGLED),
        ),
        Case::refused(
            "CVE-2023-40175: a length of nothing but a sign",
            400,
            post("Content-Length: -", SMUGGLED),
        ),
    ]
}

fn codings() -> Vec<Case> {
    let coding = |field: &str| post(&format!("Content-Length: 5\r\n{field}"), "0\r\n\r\n");
    vec![
        Case::refused(
            "CVE-2019-18277: a vertical tab before chunked",
            0,
            coding("Transfer-Encoding: \x0bchunked"),
        ),
        Case::refused(
            "CVE-2022-32213: a coding that ends in chunked",
            0,
            coding("Transfer-Encoding: chunkedchunked"),
        ),
        Case::refused(
            "CVE-2022-32215: a coding of two lines",
            400,
            coding("Transfer-Encoding: chunked\r\n , identity"),
        ),
        Case::refused("CVE-2021-21299: chunked is not the last", 0, {
            coding("Transfer-Encoding: chunked\r\nTransfer-Encoding: x")
        }),
        Case::refused(
            "CVE-2021-33037: identity behind chunked",
            0,
            coding("Transfer-Encoding: chunked, identity"),
        ),
        Case::refused("CVE-2024-1135: a coding in a list that names others", 0, {
            coding("Transfer-Encoding: chunked,gzip")
        }),
        Case::refused("CVE-2024-6827: a coding that is unknown", 0, coding("Transfer-Encoding: chunky")),
        Case::refused(
            "CVE-2019-16786: a coding in letters of its own",
            0,
            coding("Transfer-Encoding: chunked, chunked"),
        ),
        Case::refused(
            "CVE-2020-7238: white space before a coding",
            400,
            coding("X:\r\n\tTransfer-Encoding: chunked"),
        ),
        Case::refused(
            "CVE-2021-37148: a coding that no one checked",
            0,
            coding("Transfer-Encoding: \"chunked\""),
        ),
        Case::last("CVE-2019-20372: a coding beats a length", Form::chunked("").without("content-length"), {
            post("Content-Length: 40\r\nTransfer-Encoding: chunked", &format!("0\r\n\r\n{SMUGGLED}"))
        }),
    ]
}

fn chunks() -> Vec<Case> {
    let hidden = |line: &str| chunked(&format!("{line}\r\n0\r\n\r\n{SMUGGLED}"));
    vec![
        Case::cut("CVE-2025-22871: a bare LF ends the line of a chunk", chunked("3\nabc\r\n0\r\n\r\n")),
        Case::cut("CVE-2025-22871: a bare LF in an extension", hidden("3;a\nabc")),
        Case::cut("CVE-2025-58056: a bare LF behind an extension", hidden("2;\nxx")),
        Case::cut(
            "CVE-2021-32714: the size of a chunk wraps",
            chunked("fffffffffffffff3\r\nabc\r\n0\r\n\r\n"),
        )
        .sent(How::HalfClosed),
        Case::cut(
            "CVE-2021-32714: the size of a chunk is longer than 64 bits",
            chunked("f0000000000000003\r\nabc\r\n0\r\n\r\n"),
        ),
        Case::cut(
            "CVE-2017-7657: the size of a chunk in many digits",
            chunked("100000003000000003\r\nabc\r\n0\r\n\r\n"),
        ),
        Case::cut(
            "CVE-2022-24801: the size of a chunk in C's hexadecimal",
            chunked("0x3\r\nabc\r\n0\r\n\r\n"),
        ),
        Case::cut("CVE-2022-24801: the size of a chunk with a sign", chunked("+3\r\nabc\r\n0\r\n\r\n")),
        Case::cut("CVE-2025-43859: the end of a chunk is not looked at", hidden("3\r\nabcXX")),
        Case::cut("CVE-2021-22960: an extension that is none", chunked("3 x\r\nabc\r\n0\r\n\r\n")),
        Case::cut("CVE-2024-21647: extensions without end", chunked(&format!("3;{}", "a".repeat(100 << 10)))),
        Case::cut(
            "TERM.EXT: what ends the line for one is an extension for another",
            hidden("2;\n\nxx\r\n2f"),
        ),
        Case::cut("TERM.EXT with a bare CR", hidden("2;\rxx")),
        Case::cut("TERM.SPILL: what ends the data of a chunk spills over", hidden("3\r\nabc2f")),
        Case::cut("ONE.TWO: one byte ends a chunk", hidden("3\r\nabc\n2f")),
        Case::cut("ZERO.TWO: no byte ends a chunk", hidden("3\r\nabc0")),
        Case::cut(
            "CVE-2025-53643: a trailer that is none",
            chunked("0\r\nGET /smuggled HTTP/1.1\r\nHost: a.test\r\n\r\n"),
        ),
        Case::carried("CVE-2023-46589: a trailer that is a request's head", Form::chunked(""), {
            chunked("0\r\nHost: b.test\r\nContent-Length: 40\r\n\r\n")
        }),
    ]
}

/// Bodies that are left over when the answer comes early.
fn bodies() -> Vec<Case> {
    let refused = |fields: &str, body: &str| {
        format!("POST /openapi/v1/auth/login HTTP/1.1\r\nHost: a.test\r\n{fields}\r\n\r\n{body}")
    };
    let length = format!("Content-Length: {}", SMUGGLED.len());
    let padded = format!("{SMUGGLED}{}", " ".repeat(100 << 10));
    vec![
        Case::refused("RUSTSEC-2025-0037: a body that nobody read", 403, refused(&length, SMUGGLED)),
        Case::refused("RUSTSEC-2025-0037: chunks that nobody read", 403, {
            refused("Transfer-Encoding: chunked", &format!("{:x}\r\n{SMUGGLED}\r\n0\r\n\r\n", SMUGGLED.len()))
        }),
        Case::refused("RUSTSEC-2025-0037: a long body that nobody read", 0, {
            refused(&format!("Content-Length: {}", padded.len()), &padded)
        }),
        Case::refused("CVE-2022-22720: a body behind an error", 400, {
            format!("POST /../x HTTP/1.1\r\nHost: a.test\r\n{length}\r\n\r\n{SMUGGLED}")
        }),
        Case::carried("CVE-2025-4366: a body of a GET", Form::get().sized(SMUGGLED), get(&length) + SMUGGLED),
        Case::carried(
            "0.CL: a length that a front would not see behind an expectation",
            Form::get().sized(SMUGGLED).invited(),
            get(&format!("Expect: 100-continue\r\n{length}")) + SMUGGLED,
        ),
        Case::refused(
            "0.CL: an expectation in two words",
            417,
            get(&format!("Expect: y 100-continue\r\n{length}")) + SMUGGLED,
        ),
        Case::refused("0.CL: an expectation behind a bare LF", 400, {
            get(&format!("Expect:\n 100-continue\r\n{length}")) + SMUGGLED
        }),
        Case::new(
            "CL.0: a length that a back would not see",
            post(&length, SMUGGLED) + "X\r\n\r\n",
            vec![Form::post(SMUGGLED)],
            Ending::Refused(400),
        ),
        Case::last("an upgrade to h2c whose body is a request", Form::post("").without("upgrade"), {
            post(
                "Connection: close, Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\nContent-Length: 0",
                SMUGGLED,
            )
        }),
    ]
}
