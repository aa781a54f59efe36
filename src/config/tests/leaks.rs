//! No secret comes out, whatever is wrong with it and wherever it stands.

use proptest::prelude::*;

use super::*;

const MARK: &str = "MaRkEd";

/// Everything that this text makes bearerd say.
fn said(text: &str, env: Env<'_>) -> String {
    let source = source(text);
    let outcome = match Config::resolve_in(&source, env) {
        Ok(config) => format!("{config:?}\n{}", config.show()),
        Err(errors) => format!("{errors}\n{errors:?}"),
    };
    format!("{outcome}\n{source:?}")
}

fn assert_silent(text: &str, env: Env<'_>) {
    let said = said(text, env);
    assert!(!said.contains(MARK), "{said}\nfor\n{text}");
}

/// The secret keys with the section each is in.
const SECRETS: [(&str, &str); 8] = [
    ("[[partner]]", "encryption_key"),
    ("[[partner]]", "refresh_token"),
    ("[partner.login]", "password"),
    ("[partner.login]", "client_secret"),
    ("[store]", "key"),
    ("[store]", "previous_key"),
    ("[store]", "url"),
    ("[admin]", "token"),
];

fn in_section(section: &str, line: &str) -> String {
    let login = "username = \"u\"\nclient_id = \"c\"\n";
    match section {
        "[[partner]]" => PARTNER.replace("encryption_key_env = \"KEY\"\n", "") + line,
        "[partner.login]" => format!("{PARTNER}{section}\n{login}{line}"),
        section => format!("{section}\n{line}\n{PARTNER}"),
    }
}

#[test]
fn a_secret_in_any_shape_is_not_quoted() {
    let long = MARK.repeat(5000);
    let values = [
        format!("\"{MARK}\""),
        format!("\"{MARK} {MARK}\""),
        format!("\"{MARK}\\n{MARK}\""),
        format!("\"\\u0020{MARK}\\t\""),
        format!("\"\"\"\n{MARK}\n\"\"\""),
        format!("'{long}'"),
        format!("[\"{MARK}\"]"),
        format!("{{ {MARK} = \"{MARK}\" }}"),
        MARK.to_owned(),
        format!("\"{MARK}"),
        format!("\"{MARK}\" {MARK}"),
        format!("\"\\{MARK}\""),
        format!("0{MARK}"),
        format!("1979-{MARK}"),
    ];
    for (section, key) in SECRETS {
        for value in &values {
            assert_silent(&in_section(section, &format!("{key} = {value}\n")), &env);
            assert_silent(&in_section(section, &format!("x{key} = {value}\n")), &env);
            assert_silent(&in_section(section, &format!("{key} {value}\n")), &env);
        }
    }
}

#[test]
fn a_secret_from_a_file_or_a_variable_is_not_quoted() {
    let bytes = format!("\u{0}{MARK}").into_bytes();
    let dir = directory(&[
        ("plain", MARK.as_bytes()),
        ("lines", format!("{MARK}\n{MARK}\n").as_bytes()),
        ("bytes", &[bytes.as_slice(), b"\xff"].concat()),
        ("control", &bytes),
    ]);
    for (section, key) in SECRETS {
        for name in ["plain", "lines", "bytes", "control"] {
            let line = format!("{key}_file = {:?}\n", dir.path().join(name));
            assert_silent(&in_section(section, &line), &env);
        }
        for value in [MARK.to_owned(), format!("{MARK} {MARK}\n"), format!("{MARK}\u{0}")] {
            let line = format!("{key}_env = \"SECRET\"\n");
            let marked = move |_: &str| Ok(value.clone());
            assert_silent(&in_section(section, &line), &marked);
        }
    }
}

#[test]
fn header_values_and_credentials_in_urls_are_not_quoted() {
    for line in [
        format!("headers = {{ x-a = \"{MARK}\" }}\n"),
        format!("headers = {{ x-a = \"{MARK}\\r\\n\", x-b = [\"{MARK}\"], host = \"{MARK}\" }}\n"),
        format!("[partner.headers]\nx-a = \"\\u00e9{MARK}\"\n"),
    ] {
        assert_silent(&format!("{PARTNER}{line}"), &env);
    }
    for url in [format!("https://u:{MARK}@a"), format!("{MARK}@a"), format!("https://a?{MARK}")] {
        assert_silent(&PARTNER.replace("https://api.acme.example", &url), &env);
    }
    assert_silent(&PARTNER.replace("\"ACME\"", &format!("\"{MARK}\\n\"")), &env);
    assert_silent(&format!("{PARTNER}hosts = [\"u:{MARK}@a\"]"), &env);
}

#[test]
fn a_token_or_a_key_under_the_wrong_key_is_not_quoted() {
    let jwt = format!("eyJhbGciOiJIUzI1NiJ9.{MARK}.{MARK}");
    let key = format!("{}{MARK}", &KEY[..40]);
    for secret in [jwt, key] {
        for line in [
            format!("refresh_token_file = \"{secret}\"\n"),
            format!("encryption_key_file = \"{secret}\"\n"),
            format!("refresh_token_env = \"{secret}\"\n"),
            format!("path_prefix = \"{secret}\"\n"),
            format!("hosts = [\"{secret}/\"]\n"),
            format!("iv = \"{secret}\"\n"),
            format!("\"{secret}\" = 1\n"),
            format!("{secret} = 1\n"),
        ] {
            assert_silent(&format!("{PARTNER}{line}"), &env);
        }
    }
}

/// A file with a mark in every place that takes a secret by value.
fn whole() -> String {
    format!(
        r#"[server]
listen = "127.0.0.1:8080"
token_timeout = "15s"
[admin]
token = "{MARK}"
[store]
kind = "postgres"
key = "{KEY}"
url = "password={MARK} host=db.example dbname=b"
[[partner]]
name = "acme"
base_url = "https://api.acme.example/base"
partner_code = "ACME"
encryption_key = "{KEY}"
refresh_token = "{MARK}.{MARK}="
hosts = ["a.example:80", "b"]
headers = {{ x-code = "{MARK}" }}
[partner.login]
username = "user"
password = "{MARK} {MARK}"
client_id = "id"
client_secret = '{MARK}'
[partner.refresh]
ahead = "5m"
"#
    )
}

#[test]
fn the_file_that_is_mutated_is_right() {
    assert!(good(&whole()).show().contains("acme"));
    assert_silent(&whole(), &env);
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(2000) })]

    /// Mutations keep whole lines' keys in place: a mark that has been moved to a key that is not a
    /// secret's may be quoted.
    #[test]
    fn mutations_never_panic_and_never_leak(
        edits in prop::collection::vec((any::<prop::sample::Index>(), 0..5u8, any::<char>()), 1..6),
    ) {
        let mut text: Vec<char> = whole().chars().collect();
        let protected = |text: &[char], at: usize| {
            // Neither a key nor a line break before a mark is touched: that would give the mark to
            // another key, or make it one.
            let start = text[..at].iter().rposition(|c| *c == '\n').map_or(0, |at| at + 1);
            let end = text[at..].iter().position(|c| *c == '\n').map_or(text.len(), |len| at + len);
            let line: String = text[start..end].iter().collect();
            let value = line.find(['=', '{']).map_or(line.len(), |at| line[..at].chars().count());
            line.contains(MARK) && at - start <= value || text[at] == '\n'
        };
        for (at, kind, with) in edits {
            let at = at.index(text.len());
            if protected(&text, at) || with == '\n' {
                continue;
            }
            match kind {
                0 => text[at] = with,
                1 => text.insert(at, with),
                2 => drop(text.remove(at)),
                3 => text.insert(at, text[at]),
                _ => text[at] = ['"', '\\', '=', '[', '{', '#', '\''][with as usize % 7],
            }
        }
        assert_silent(&text.iter().collect::<String>(), &env);
    }

    #[test]
    fn nothing_that_is_written_panics(text in "[a-z\\[\\]{}=\"'.,#\\n\\\\ 0-9_-]{0,200}") {
        let _ = resolve(&text);
        let _ = resolve(&format!("{PARTNER}{text}"));
    }
}
