//! Each wrong input and its exact message.

use super::*;

/// `line` in `section`, which is otherwise in order; the message after `c.toml:`.
fn check(section: &str, cases: &[(&str, &str)]) {
    for (line, expected) in cases {
        let text = match section {
            "" => format!("{line}\n{PARTNER}"),
            "[[partner]]" => format!("{PARTNER}{line}\n"),
            section if section.starts_with("[partner") => format!("{PARTNER}{section}\n{line}\n"),
            section => format!("{section}\n{line}\n{PARTNER}"),
        };
        assert_eq!(errors(&text), [format!("c.toml:{expected}")], "for {line}");
    }
}

/// `PARTNER` with the line of `key` replaced by `line`.
fn replaced(key: &str, line: &str) -> String {
    let lines = PARTNER.lines().map(|old| if old.starts_with(&format!("{key} ")) { line } else { old });
    lines.collect::<Vec<_>>().join("\n")
}

fn check_replaced(cases: &[(&str, &str, &str)]) {
    for (key, line, expected) in cases {
        let text = replaced(key, line);
        assert_ne!(text.as_str(), PARTNER.trim_end());
        assert_eq!(errors(&text), [format!("c.toml:{expected}")], "for {line}");
    }
}

#[test]
fn of_the_server() {
    let timeout = "a duration from 1ms to 1h such as \"30s\"";
    let long = "a duration from 1ms to 1day such as \"30s\"";
    check(
        "[server]",
        &[
            ("listen = 8080", "2: server.listen: expected host:port or unix:/path, found 8080"),
            ("listen = \"8080\"", "2: server.listen: expected host:port or unix:/path, found \"8080\""),
            ("listen = \":8080\"", "2: server.listen: expected host:port or unix:/path, found \":8080\""),
            ("listen = \"unix:\"", "2: server.listen: expected host:port or unix:/path, found \"unix:\""),
            (
                "listen = \"127.0.0.1:99999\"",
                "2: server.listen: expected host:port or unix:/path, found \"127.0.0.1:99999\"",
            ),
            (
                "listen = \"localhost:+80\"",
                "2: server.listen: expected host:port or unix:/path, found \"localhost:+80\"",
            ),
            (
                "listen = \"0.0.0.0:8080\"",
                "2: server.listen: expected a loopback address, or allow_anonymous = true, found \"0.0.0.0:8080\"",
            ),
            (
                "listen = \"[::]:8080\"",
                "2: server.listen: expected a loopback address, or allow_anonymous = true, found \"[::]:8080\"",
            ),
            ("threads = 1025", "2: server.threads: expected a whole number from 0 to 1024, found 1025"),
            ("threads = -1", "2: server.threads: expected a whole number from 0 to 1024, found -1"),
            ("threads = \"2\"", "2: server.threads: expected a whole number from 0 to 1024, found \"2\""),
            ("threads = 1.5", "2: server.threads: expected a whole number from 0 to 1024, found 1.5"),
            (
                "max_in_flight = 0",
                "2: server.max_in_flight: expected a whole number from 1 to 1000000, found 0",
            ),
            (
                "max_connections = 0x1000000",
                "2: server.max_connections: expected a whole number from 1 to 1000000, found 0x1000000",
            ),
            ("header_timeout = 30", &format!("2: server.header_timeout: expected {timeout}, found 30")),
            (
                "header_timeout = \"30\"",
                &format!("2: server.header_timeout: expected {timeout}, found \"30\" without a unit"),
            ),
            (
                "header_timeout = \"0s\"",
                &format!("2: server.header_timeout: expected {timeout}, found \"0s\""),
            ),
            (
                "header_timeout = \"-5s\"",
                &format!("2: server.header_timeout: expected {timeout}, found \"-5s\""),
            ),
            ("header_timeout = \"\"", &format!("2: server.header_timeout: expected {timeout}, found \"\"")),
            ("idle_timeout = \"1y\"", &format!("2: server.idle_timeout: expected {long}, found \"1y\"")),
            ("idle_timeout = true", &format!("2: server.idle_timeout: expected {long}, found true")),
            ("idle_timeout = []", &format!("2: server.idle_timeout: expected {long}, found an array")),
            (
                "token_timeout = \"60s\"",
                "2: server.token_timeout: expected less than server.request_timeout (1m), found 1m",
            ),
            (
                "replay_memory = 65536",
                "2: server.replay_memory: expected a size from 0B to 1TiB such as \"64KiB\", found 65536",
            ),
            (
                "replay_memory = \"65536\"",
                "2: server.replay_memory: expected a size from 0B to 1TiB such as \"64KiB\", found \"65536\" without a unit",
            ),
            (
                "replay_memory = \"-1MiB\"",
                "2: server.replay_memory: expected a size from 0B to 1TiB such as \"64KiB\", found \"-1MiB\"",
            ),
            (
                "replay_memory = \"99PiB\"",
                "2: server.replay_memory: expected a size from 0B to 1TiB such as \"64KiB\", found \"99PiB\"",
            ),
            ("allow_browsers = \"yes\"", "2: server.allow_browsers: expected true or false, found \"yes\""),
            ("lisen = \"x\"", "2: server: unknown key \"lisen\"; did you mean \"listen\"?"),
        ],
    );
    let long = format!("listen = \"unix:/{}\"", "x/".repeat(60) + "s");
    check(
        "[server]",
        &[(
            &long,
            "2: server.listen: expected host:port or unix:/path, found a path of 122 bytes, which is more than a socket's 107",
        )],
    );
}

#[test]
fn of_the_other_sections() {
    check(
        "[admin]",
        &[
            (
                "listen = \"127.0.0.1:8080\"",
                "2: admin.listen: expected another address than server.listen (127.0.0.1:8080), found \"127.0.0.1:8080\"",
            ),
            (
                "listen = \"0.0.0.0:8080\"",
                "2: admin.listen: expected another address than server.listen (127.0.0.1:8080), found \"0.0.0.0:8080\"",
            ),
            (
                "token = \"\"",
                "2: admin.token: expected a token of letters, digits and -._~+/ with = only at the end, found an empty value",
            ),
        ],
    );
    check(
        "[log]",
        &[
            ("format = \"xml\"", "2: log.format: expected \"json\" or \"text\", found \"xml\""),
            (
                "level = \"INFO\"",
                "2: log.level: expected \"trace\", \"debug\", \"info\", \"warn\" or \"error\", found \"INFO\"",
            ),
            ("access = false", "2: log.access: expected \"off\", \"errors\" or \"all\", found false"),
        ],
    );
    check(
        "[store]",
        &[
            ("kind = \"redis\"", "2: store.kind: expected \"file\" or \"postgres\", found \"redis\""),
            ("path = \"\"", "2: store.path: expected a directory, found \"\""),
            ("url = \"postgres://marked\"", "2: store.url: expected no url for kind \"file\", found one"),
            ("previous_key_env = \"KEY\"", "2: store.previous_key: expected store.key beside it, found none"),
            ("key = \"abc\"", "2: store.key: expected 64 hex digits, found 3"),
        ],
    );
    of_a_database();
    check(
        "",
        &[
            ("server = 5", "1: server: expected a table, found an integer"),
            ("[[admin]]", "1: admin: expected a table, found an array"),
            ("[servr]", "1: unknown key \"servr\"; did you mean \"server\"?"),
            ("[completely.different]", "1: unknown key \"completely\""),
        ],
    );
    assert_eq!(errors(""), ["c.toml:1: partner: expected at least one [[partner]], found none"]);
    assert_eq!(
        errors("\n[partner]\nname = \"a\""),
        ["c.toml:2: partner: expected at least one [[partner]], found [partner]"]
    );
    assert_eq!(
        errors("partner = [1]"),
        ["c.toml:1: partner: expected at least one [[partner]], found an integer"]
    );
}

#[test]
fn of_the_sandbox() {
    let sandbox = |line: &str| errors(&format!("[sandbox]\n{line}\n[[partner]]\nname = \"sandbox\"\n"));
    for (line, expected) in [
        ("listen = \"0.0.0.0:9400\"", "listen: expected a loopback address, found \"0.0.0.0:9400\""),
        ("listen = \"unix:/x\"", "listen: expected host:port, found \"unix:/x\""),
        (
            "listen = \"127.0.0.1:9901\"",
            "listen: expected another address than admin.listen (127.0.0.1:9901), found \"127.0.0.1:9901\"",
        ),
        (
            "access_lifetime = \"1ms\"",
            "access_lifetime: expected a duration from 1s to 30days such as \"30s\", found \"1ms\"",
        ),
        (
            "fault = \"none\"",
            "fault: expected \"busy\", \"error\", \"lost\", \"refused\" or \"nonsense\", found \"none\"",
        ),
    ] {
        assert_eq!(sandbox(line), [format!("c.toml:2: sandbox.{expected}")]);
    }
    assert_eq!(
        errors("[sandbox]\n[[partner]]\nname = \"sandbox\"\nhttp2 = true\n"),
        [
            "c.toml:4: partner \"sandbox\": http2: expected false, because the sandbox speaks HTTP/1.1, found true"
        ]
    );
    assert_eq!(
        errors(&format!("[sandbox]\n{PARTNER}")),
        [
            "c.toml:4: partner \"acme\": base_url: expected http://127.0.0.1:9400, because there is a [sandbox], found \"https://api.acme.example\""
        ]
    );
}

#[test]
fn of_a_partner() {
    let name = "1 to 63 of a-z, 0-9 and -, and no - in front";
    let url = "http:// or https://, a host, and perhaps a port and a path";
    let code = "1 to 256 visible ASCII characters";
    check_replaced(&[
        ("name", "name = \"\"", &format!("2: partner #1: name: expected {name}, found \"\"")),
        ("name", "name = \"Acme\"", &format!("2: partner #1: name: expected {name}, found \"Acme\"")),
        ("name", "name = \"-a\"", &format!("2: partner #1: name: expected {name}, found \"-a\"")),
        ("name", "name = \"../a\"", &format!("2: partner #1: name: expected {name}, found \"../a\"")),
        ("name", "", &format!("1: partner #1: name: expected {name}, found nothing")),
        ("base_url", "", &format!("1: partner \"acme\": base_url: expected {url}, found nothing")),
        (
            "base_url",
            "base_url = \"api.example\"",
            &format!("3: partner \"acme\": base_url: expected {url}, found \"api.example\""),
        ),
        (
            "base_url",
            "base_url = \"ftp://a\"",
            &format!("3: partner \"acme\": base_url: expected {url}, found \"ftp://a\""),
        ),
        (
            "base_url",
            "base_url = \"https://u:marked@a\"",
            &format!(
                "3: partner \"acme\": base_url: expected {url}, found a user name or password in the URL"
            ),
        ),
        (
            "base_url",
            "base_url = \"https://a/?k=marked\"",
            &format!("3: partner \"acme\": base_url: expected {url}, found a query in the URL"),
        ),
        (
            "base_url",
            "base_url = \"https://a/#marked\"",
            &format!("3: partner \"acme\": base_url: expected {url}, found a fragment in the URL"),
        ),
        (
            "base_url",
            "base_url = \"http://a\"",
            "3: partner \"acme\": base_url: expected https://, or allow_plaintext = true, found \"http://a\"",
        ),
        (
            "base_url",
            "base_url = \"https://a:0\"",
            "3: partner \"acme\": base_url: expected a port from 1 to 65535, found \"https://a:0\"",
        ),
        (
            "base_url",
            "base_url = \"http://localhost:8080\"",
            "3: partner \"acme\": base_url: expected the partner, found bearerd's own server.listen (127.0.0.1:8080)",
        ),
        ("partner_code", "", &format!("1: partner \"acme\": partner_code: expected {code}, found nothing")),
        (
            "partner_code",
            "partner_code = \"\"",
            &format!("4: partner \"acme\": partner_code: expected {code}, found an empty value"),
        ),
        (
            "partner_code",
            "partner_code = \"a\\r\\nb: c\"",
            &format!("4: partner \"acme\": partner_code: expected {code}, found a line break"),
        ),
        (
            "partner_code",
            "partner_code = \"\\u00e9\"",
            &format!(
                "4: partner \"acme\": partner_code: expected {code}, found a character that is not visible ASCII"
            ),
        ),
        (
            "partner_code",
            "partner_code = 12",
            &format!("4: partner \"acme\": partner_code: expected {code}, found 12"),
        ),
    ]);
    check(
        "[[partner]]",
        &[
            (
                "iv = \"none\"",
                "6: partner \"acme\": iv: expected \"prefix\" or 32 hex digits, found 4 characters",
            ),
            ("auth_calls = \"allow\"", "6: partner \"acme\": auth_calls: expected \"deny\", found \"allow\""),
            (
                "connect_timeout = \"10s\"",
                "6: partner \"acme\": connect_timeout: expected less than refresh.timeout (10s), found 10s",
            ),
            ("http2 = \"h2c\"", "6: partner \"acme\": http2: expected true or false, found \"h2c\""),
            (
                "refresh_tokn = \"marked\"",
                "6: partner \"acme\": unknown key \"refresh_tokn\"; did you mean \"refresh_token\"?",
            ),
            (
                "refresh_token_fil = \"x\"",
                "6: partner \"acme\": unknown key \"refresh_token_fil\"; did you mean \"refresh_token_file\"?",
            ),
            ("eyJhbGciOiJub25lIn0 = 1", "6: partner \"acme\": unknown key \"...\" (19 characters)"),
            (
                "ca_file = \"nowhere.pem\"",
                "6: partner \"acme\": ca_file: expected a readable PEM file with a certificate, found \"nowhere.pem\": No such file or directory (os error 2)",
            ),
        ],
    );
    check(
        "[partner.refresh]",
        &[
            (
                "grace = \"-1s\"",
                "7: partner \"acme\": refresh.grace: expected a duration from 0s to 1day such as \"30s\", found \"-1s\"",
            ),
            (
                "timout = \"1s\"",
                "7: partner \"acme\": refresh: unknown key \"timout\"; did you mean \"timeout\"?",
            ),
            (
                "timeout = \"6m\"",
                "7: partner \"acme\": refresh.timeout: expected a duration from 1ms to 5m such as \"30s\", found \"6m\"",
            ),
            (
                "default_lifetime = \"0s\"",
                "7: partner \"acme\": refresh.default_lifetime: expected a duration from 1s to 30days such as \"30s\", found \"0s\"",
            ),
        ],
    );
    check(
        "[partner.replay]",
        &[(
            "limit = \"1GiB\"",
            "7: partner \"acme\": replay.limit: expected at most server.replay_memory (64MiB), found 1GiB",
        )],
    );
}

#[test]
fn of_routes() {
    let prefix = "6: partner \"acme\": path_prefix: expected a path such as \"/payments\", without escapes, . and .., found";
    for wrong in ["", "a", "//", "/a//b", "/./a", "/a/..", "/a%2fb", "/a b", "/a?b", "/\u{e9}"] {
        let text = format!("{PARTNER}path_prefix = \"{wrong}\"");
        assert_eq!(errors(&text), [format!("c.toml:{prefix} \"{wrong}\"")]);
    }
    let host =
        "partner \"acme\": hosts: expected a host such as \"api.example.com\", and perhaps a port, found";
    for wrong in
        ["", "https://a", "a/b", "a.", ".a", "a:", "a:0", "a:70000", "*.a", "::1", "[::1", "[x]", "[::1]:"]
    {
        let text = format!("{PARTNER}hosts = [\n  \"fine\",\n  \"{wrong}\",\n]");
        assert_eq!(errors(&text), [format!("c.toml:8: {host} \"{wrong}\"")]);
    }
    check(
        "[[partner]]",
        &[
            (
                "hosts = \"a\"",
                "6: partner \"acme\": hosts: expected a list of hosts such as [\"api.example.com\"], found \"a\"",
            ),
            (
                "hosts = [1]",
                "6: partner \"acme\": hosts: expected a host such as \"api.example.com\", and perhaps a port, found 1",
            ),
        ],
    );
    let second = PARTNER.replace("acme", "beta");
    assert_eq!(
        errors(&format!("{PARTNER}{second}")),
        [
            "c.toml:6: partner \"beta\": hosts: expected hosts and path_prefix to differ from those of partner \"acme\", found the same"
        ]
    );
    let same = format!(
        "hosts = [\"h\"]\npath_prefix = \"/p\"\n{second}hosts = [\"g\", \"H\"]\npath_prefix = \"/p/\"\n"
    );
    assert_eq!(
        errors(&format!("{PARTNER}{same}")),
        [
            "c.toml:14: partner \"beta\": path_prefix: expected hosts and path_prefix to differ from those of partner \"acme\", found the same"
        ]
    );
    // Of several that it meets, the first is named; one on the same host by another way is not met.
    let named = |name: &str, rest: &str| format!("{}{rest}\n", PARTNER.replace("acme", name));
    let (one, two) = (named("one", "hosts = [\"g\"]"), named("two", "hosts = [\"h\", \"h:1\"]"));
    let both = named("both", "hosts = [\"h:1\", \"g\"]");
    let neither = named("neither", "hosts = [\"g:1\", \"h:2\"]") + &named("any", "");
    assert_eq!(
        errors(&format!("{one}{two}{both}{neither}")),
        [
            "c.toml:18: partner \"both\": hosts: expected hosts and path_prefix to differ from those of partner \"one\", found the same"
        ]
    );
    assert_eq!(
        errors(&format!("{PARTNER}{PARTNER}path_prefix = \"/2\"")),
        ["c.toml:7: partner \"acme\": name: expected a name that no other partner has, found \"acme\""]
    );
    good(&format!("{PARTNER}hosts = [\"h\"]\n{second}"));
}

#[test]
fn of_headers() {
    let managed = "authorization Host content-length connection transfer-encoding Partner-Code te trailer upgrade \
                   proxy-authorization proxy-x via keep-alive expect";
    for name in managed.split(' ') {
        let text = format!("{PARTNER}headers = {{ {name} = \"marked\" }}");
        let expected = format!(
            "c.toml:6: partner \"acme\": headers: expected only headers that bearerd does not set itself, found \"{name}\""
        );
        assert_eq!(errors(&text), [expected]);
    }
    check(
        "[partner.headers]",
        &[
            (
                "\"a b\" = \"marked\"",
                "7: partner \"acme\": headers: expected names of headers, found \"a b\"",
            ),
            ("x = 1", "7: partner \"acme\": headers.x: expected visible ASCII characters, found an integer"),
            (
                "x = \"mar\\nked\"",
                "7: partner \"acme\": headers.x: expected visible ASCII characters, found a line break",
            ),
            (
                "x = \"\"",
                "7: partner \"acme\": headers.x: expected visible ASCII characters, found an empty value",
            ),
            (
                "X-A = \"1\"\nx-a = \"2\"",
                "8: partner \"acme\": headers: expected every header once, found \"x-a\" again",
            ),
        ],
    );
    check(
        "[[partner]]",
        &[("headers = []", "6: partner \"acme\": headers: expected a table, found an array")],
    );
}

#[test]
fn of_secrets() {
    let token = "a token of letters, digits and -._~+/ with = only at the end";
    check(
        "[[partner]]",
        &[
            (
                "refresh_token = \"\"",
                &format!("6: partner \"acme\": refresh_token: expected {token}, found an empty value"),
            ),
            (
                "refresh_token = \"a\\nb\"",
                &format!("6: partner \"acme\": refresh_token: expected {token}, found a line break"),
            ),
            (
                "refresh_token = \" a\"",
                &format!(
                    "6: partner \"acme\": refresh_token: expected {token}, found a space at its beginning or end"
                ),
            ),
            (
                "refresh_token = \"a,b c\"",
                &format!(
                    "6: partner \"acme\": refresh_token: expected {token}, found 5 characters, 2 of them not allowed"
                ),
            ),
            ("refresh_token = 17", "6: partner \"acme\": refresh_token: expected a string, found an integer"),
            (
                "refresh_token_file = 17",
                "6: partner \"acme\": refresh_token_file: expected a path, found an integer",
            ),
            (
                "refresh_token_file = \"\"",
                "6: partner \"acme\": refresh_token_file: expected a path, found \"\"",
            ),
            (
                "refresh_token_file = \"none\"",
                "6: partner \"acme\": refresh_token_file: expected a readable text file, found \"none\": No such file or directory (os error 2)",
            ),
            (
                "refresh_token_env = \"NONE\"",
                "6: partner \"acme\": refresh_token_env: expected the name of an environment variable that is set, found \"NONE\", which is not",
            ),
            (
                "refresh_token_env = \"A=B\"",
                "6: partner \"acme\": refresh_token_env: expected the name of an environment variable that is set, found \"A=B\"",
            ),
            (
                "refresh_token = \"a\"\nrefresh_token_env = \"TOKEN\"",
                "7: partner \"acme\": refresh_token: expected only one of refresh_token, refresh_token_file and refresh_token_env, found 2 of them",
            ),
        ],
    );
    let short = &KEY[2..];
    check_replaced(&[
        (
            "encryption_key_env",
            &format!("encryption_key = \"{short}\""),
            "5: partner \"acme\": encryption_key: expected 64 hex digits, found 62",
        ),
        (
            "encryption_key_env",
            &format!("encryption_key = \"0x{KEY}\""),
            "5: partner \"acme\": encryption_key: expected 64 hex digits, found 66 characters, 1 of them not hex digits",
        ),
        (
            "encryption_key_env",
            "encryption_key_env = \"TOKEN\"",
            "5: partner \"acme\": encryption_key_env: expected 64 hex digits in \"TOKEN\", found 13 characters, 8 of them not hex digits",
        ),
        (
            "encryption_key_env",
            "",
            "1: partner \"acme\": encryption_key: expected 64 hex digits, found none of encryption_key, encryption_key_file and encryption_key_env",
        ),
    ]);
    assert_eq!(
        errors(&format!("{PARTNER}[partner.login]\nusername = \"\"\npassword_env = \"NONE\"\n")),
        [
            "c.toml:6: partner \"acme\": login.client_id: expected a text without control characters, found nothing",
            "c.toml:6: partner \"acme\": login.client_secret: expected a text without control characters, found none of client_secret, client_secret_file and client_secret_env",
            "c.toml:7: partner \"acme\": login.username: expected a text without control characters, found an empty value",
            "c.toml:8: partner \"acme\": login.password_env: expected the name of an environment variable that is set, found \"NONE\", which is not",
        ]
    );
}

#[test]
fn of_secret_files() {
    let dir = directory(&[
        ("empty", b""),
        ("newline", b"\n"),
        ("two", b"marked\nmarked\n"),
        ("bytes", b"\xff\xfe"),
        ("big", &vec![b'a'; 64 * 1024 + 1]),
    ]);
    for (name, key_expected, found) in [
        ("empty", true, "an empty value"),
        ("newline", true, "an empty value"),
        ("two", true, "a line break"),
        ("bytes", false, "not UTF-8"),
        ("big", false, "more than 64 KiB"),
        (".", false, "a directory"),
    ] {
        let path = dir.path().join(name);
        let shown = format!("{path:?}");
        let message = match key_expected {
            true => format!(
                "expected a token of letters, digits and -._~+/ with = only at the end in {shown}, found {found}"
            ),
            false => format!("expected a readable text file, found {shown}: {found}"),
        };
        let text = format!("{PARTNER}refresh_token_file = {shown}");
        assert_eq!(errors(&text), [format!("c.toml:6: partner \"acme\": refresh_token_file: {message}")]);
    }
}

#[test]
fn all_come_at_once_in_the_order_of_the_lines() {
    let text = "[[partner]]\nbase_url = \"x\"\n[log]\nlevel = 1\n[[partner]]\nname = \"b\"\nname_2 = 1\n[server]\nthreads = -1\n";
    let errors = errors(text);
    let lines: Vec<&str> = errors.iter().map(|message| message.split(':').nth(1).unwrap()).collect();
    assert_eq!(lines, ["1", "1", "1", "2", "4", "5", "5", "5", "7", "9"], "{errors:#?}");
}

#[test]
fn of_syntax_stand_alone_and_quote_nothing() {
    for (text, expected) in [
        (
            "[server]\nthreads = -1\nkey = marked marked\n",
            "3:7: string values must be quoted, expected literal string",
        ),
        ("a = 1\na = \"marked\"", "2:1: duplicate key"),
        ("[admin]\n[admin]", "2:2: duplicate key"),
        ("marked", "1:7: key with no value, expected `=`"),
    ] {
        assert_eq!(errors(text), [format!("c.toml:{expected}")]);
    }
}

/// As `check`, in a `[store]` of kind `postgres` whose key and URL are in order.
fn of_a_database() {
    let url = "expected a PostgreSQL URL such as postgres://bearerd@db.example:5432/bearerd, found";
    let key =
        "expected 64 hex digits, which kind \"postgres\" needs, found none of key, key_file and key_env";
    let good = "url = \"postgres://u:marked@db.example/b\"\n";
    for (lines, expected) in [
        (good.to_owned(), format!("1: store.key: {key}")),
        (
            "key_env = \"KEY\"\nurl = \"postgres://marked\"\n".to_owned(),
            format!("4: store.url: {url} no database name"),
        ),
        ("key_env = \"KEY\"\n".to_owned(), format!("1: store.url: {url} none of url, url_file and url_env")),
        (
            "key_env = \"KEY\"\nurl = \"postgres://u:marked@h/b?sslmode=disable\"\n".to_owned(),
            format!(
                "4: store.url: {url} sslmode=disable or prefer towards another machine; say sslmode=require"
            ),
        ),
        (
            format!("key_env = \"KEY\"\n{good}ca_file = \"/nonexistent\"\n"),
            "5: store.ca_file: expected a readable PEM file with a certificate, found \"/nonexistent\": \
             No such file or directory (os error 2)"
                .to_owned(),
        ),
    ] {
        let text = format!("[store]\nkind = \"postgres\"\n{lines}{PARTNER}");
        assert_eq!(errors(&text), [format!("c.toml:{expected}")], "for {lines}");
    }
}
