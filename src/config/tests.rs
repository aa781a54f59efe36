//! What a configuration means, what is said of a wrong one, and what is never said.

mod leaks;
mod messages;

use std::env::VarError;
use std::fs::File;
use std::io::Write;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

use secrecy::ExposeSecret;

use super::*;
use crate::listener::ListenAddr;
use crate::partner::envelope::Iv;
use crate::proxy::HostPattern;
use crate::store::Kind;

const KEY: &str = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";

/// A partner that is complete, without sections of its own.
const PARTNER: &str = "[[partner]]\nname = \"acme\"\nbase_url = \"https://api.acme.example\"\n\
                       partner_code = \"ACME\"\nencryption_key_env = \"KEY\"\n";

fn source(text: &str) -> Source {
    Source { path: PathBuf::from("c.toml"), text: Zeroizing::new(text.to_owned()), mode: 0o640 }
}

fn env(name: &str) -> Result<String, VarError> {
    match name {
        "KEY" => Ok(KEY.to_owned()),
        "TOKEN" => Ok("seed-from-env".to_owned()),
        _ => Err(VarError::NotPresent),
    }
}

fn resolve(text: &str) -> Result<Config, Errors> {
    Config::resolve_in(&source(text), &env)
}

fn good(text: &str) -> Config {
    resolve(text).unwrap_or_else(|errors| panic!("{errors}\nin\n{text}"))
}

fn errors(text: &str) -> Vec<String> {
    match resolve(text) {
        Ok(_) => panic!("no error in\n{text}"),
        Err(errors) => errors.messages().map(ToOwned::to_owned).collect(),
    }
}

/// A directory with these files.
fn directory(files: &[(&str, &[u8])]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for (name, content) in files {
        File::create(dir.path().join(name)).unwrap().write_all(content).unwrap();
    }
    dir
}

fn chmod(path: &Path, mode: u32) {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
}

#[test]
fn what_is_spoken_is_shown_as_it_comes_to() {
    let in_clear = PARTNER.replace("https://api.acme.example", "http://127.0.0.1:1");
    for (text, line, versions, shown) in [
        (PARTNER, "", Versions::Either, "as the partner chooses"),
        (PARTNER, "http2 = true", Versions::Http2, "true"),
        (PARTNER, "http2 = false", Versions::Http1, "false"),
        (&in_clear, "", Versions::Http1, "false"),
        (&in_clear, "http2 = true", Versions::Http2, "true"),
        (&in_clear, "http2 = false", Versions::Http1, "false"),
    ] {
        let config = good(&format!("{text}{line}\n"));
        assert_eq!(config.partners[0].versions, versions, "{line}");
        let listing = config.show();
        let row = listing.lines().find(|row| row.trim_start().starts_with("http2 ")).unwrap();
        assert!(row.ends_with(&format!("  {shown}")), "{row}");
    }
}

#[test]
fn defaults_are_those_of_the_manual() {
    let config = good(PARTNER);
    assert_eq!(config.listener.listen, ListenAddr::Tcp(([127, 0, 0, 1], 8080).into()));
    assert_eq!(config.listener.threads, std::thread::available_parallelism().unwrap());
    assert_eq!(config.listener.max_connections, 10_000);
    assert_eq!(config.listener.header_timeout, Duration::from_secs(30));
    assert_eq!(config.listener.idle_timeout, Duration::from_secs(60));
    assert_eq!(config.listener.drain_delay, Duration::ZERO);
    assert_eq!(config.listener.drain_timeout, Duration::from_secs(30));
    assert_eq!(config.proxy.max_in_flight, 10_000);
    assert_eq!(config.proxy.request_timeout, Duration::from_secs(60));
    assert_eq!(config.proxy.token_timeout, Duration::from_secs(15));
    assert_eq!(config.proxy.idle_timeout, Duration::from_secs(60));
    assert_eq!(config.proxy.replay_memory, 64 * 1024 * 1024);
    assert!(!config.proxy.allow_browsers);
    assert_eq!(config.admin.listen, ListenAddr::Tcp(([127, 0, 0, 1], 9901).into()));
    assert!(config.admin.token.is_none());
    assert_eq!(config.log.format, telemetry::Format::Json);
    assert_eq!(config.log.level, tracing::Level::INFO);
    assert_eq!(config.log.access, telemetry::Access::Errors);
    assert_eq!(config.store.path, Path::new("state"));
    assert!(config.store.key.is_none() && config.store.previous_key.is_none());
    assert!(config.sandbox.is_none() && config.secret_files.is_empty());

    let [partner] = &config.partners[..] else { panic!("one partner") };
    assert_eq!(partner.name, "acme");
    assert_eq!(partner.endpoint.name, "acme");
    assert_eq!(partner.endpoint.base_url.to_string(), "https://api.acme.example");
    assert_eq!(partner.endpoint.partner_code, "ACME");
    assert_eq!(partner.endpoint.iv, Iv::Prefix);
    assert_eq!(partner.endpoint.connect_timeout, Duration::from_secs(5));
    assert_eq!(partner.versions, Versions::Either);
    assert_eq!(partner.endpoint.timeout, Duration::from_secs(10));
    assert!(partner.endpoint.repeat_on_5xx && partner.endpoint.headers.is_empty());
    assert!(partner.endpoint.ca_file.is_none() && partner.endpoint.login.is_none());
    assert_eq!(partner.policy.ahead, Duration::from_secs(300));
    assert_eq!(partner.policy.timeout, Duration::from_secs(10));
    assert_eq!(partner.policy.grace, Duration::ZERO);
    assert_eq!(partner.policy.default_lifetime, Duration::from_secs(600));
    assert_eq!(partner.route.path_prefix, "/");
    assert_eq!(partner.route.replay_limit, 64 * 1024);
    assert!(partner.route.hosts.is_empty() && partner.seed.is_none() && !partner.uses_sandbox);
}

#[test]
fn every_key_is_understood() {
    let dir = directory(&[
        ("token", b"seed-from-file\r\n"),
        ("password", b"pass word\n"),
        ("ca.pem", b"-----BEGIN CERTIFICATE-----\n"),
    ]);
    let text = format!(
        r#"
[server]
listen = "unix:run/bearerd.sock"
threads = 3
max_connections = 1
max_in_flight = 2
header_timeout = "1s"
request_timeout = "1m 30s"
idle_timeout = "5m"
token_timeout = "2s"
drain_delay = "3s"
drain_timeout = "0s"
replay_memory = "1MiB"
allow_anonymous = true
allow_browsers = true
[admin]
listen = "[::]:9901"
token = "let-me-in"
[log]
format = "text"
level = "debug"
access = "off"
[store]
kind = "file"
path = "/var/lib/bearerd"
key = "{KEY}"
previous_key_env = "KEY"
[[partner]]
name = "a-1"
base_url = "https://[2001:db8::1]:8443/base"
partner_code = "A 1"
encryption_key = "{KEY}"
iv = "000102030405060708090A0B0C0D0E0F"
refresh_token_file = "token"
hosts = ["API.Example.com", "[2001:DB8::1]:80", "api_2:8080"]
path_prefix = "/a/b/"
auth_calls = "deny"
headers = {{ X-Service-Code = "one two" }}
ca_file = "ca.pem"
connect_timeout = "1s"
http2 = true
allow_plaintext = true
[partner.login]
username = "user"
password_file = "password"
client_id = "client"
client_secret = "s\u0065cret"
[partner.refresh]
ahead = "1m"
timeout = "2s"
grace = "30s"
repeat_on_5xx = false
default_lifetime = "1h"
[partner.replay]
limit = "0"
"#
    );
    let mut source = source(&text);
    source.path = dir.path().join("c.toml");
    let config = Config::resolve_in(&source, &env).unwrap_or_else(|errors| panic!("{errors}"));

    assert_eq!(config.listener.listen, ListenAddr::Unix(dir.path().join("run/bearerd.sock")));
    assert_eq!(config.listener.threads, NonZeroUsize::new(3).unwrap());
    assert_eq!(config.proxy.request_timeout, Duration::from_secs(90));
    assert_eq!(config.admin.token.unwrap().expose_secret(), "let-me-in");
    assert_eq!(config.store.path, Path::new("/var/lib/bearerd"));
    assert!(config.store.key.is_some() && config.store.previous_key.is_some());
    let partner = &config.partners[0];
    assert_eq!(partner.seed.as_ref().unwrap().expose(), "seed-from-file");
    assert_eq!(partner.endpoint.base_url.authority(), "[2001:db8::1]:8443");
    assert_eq!(partner.endpoint.iv, Iv::Fixed(std::array::from_fn(|i| i as u8)));
    assert_eq!(partner.endpoint.headers, [("x-service-code".parse().unwrap(), "one two".parse().unwrap())]);
    assert!(partner.endpoint.headers[0].1.is_sensitive());
    assert_eq!(partner.endpoint.ca_file.as_deref(), Some(dir.path().join("ca.pem").as_path()));
    let login = partner.endpoint.login.as_ref().unwrap();
    assert_eq!((login.username.as_str(), login.client_id.as_str()), ("user", "client"));
    assert_eq!(login.password.expose_secret(), "pass word");
    assert_eq!(login.client_secret.expose_secret(), "secret");
    let hosts: Vec<String> = partner.route.hosts.iter().map(HostPattern::to_string).collect();
    assert_eq!(hosts, ["api.example.com", "[2001:db8::1]:80", "api_2:8080"]);
    assert_eq!(partner.versions, Versions::Http2);
    assert_eq!(partner.route.path_prefix, "/a/b");
    assert_eq!(partner.route.replay_limit, 0);
    let files: Vec<_> = ["token", "ca.pem", "password"].map(|name| dir.path().join(name)).into();
    assert_eq!(config.secret_files, files);
}

#[test]
fn a_database_is_understood() {
    let dir = directory(&[
        ("url", b"postgres://bearerd:pass%20word@one,two:6432/tokens\n"),
        ("ca.pem", b"-----BEGIN CERTIFICATE-----\n"),
    ]);
    let mut source = source(&format!(
        "[store]\nkind = \"postgres\"\nkey = \"{KEY}\"\nurl_file = \"url\"\nca_file = \"ca.pem\"\n{PARTNER}"
    ));
    source.path = dir.path().join("c.toml");
    let config = Config::resolve_in(&source, &env).unwrap_or_else(|errors| panic!("{errors}"));
    let Kind::Postgres(database) = &config.store.kind else { panic!("{config:?}") };
    assert_eq!(database.to_string(), "one:5432,two:6432/tokens");
    assert!(database.uses_tls());
    assert_eq!(database.ca_file.as_deref(), Some(dir.path().join("ca.pem").as_path()));
    assert_eq!(database.url_file.as_deref(), Some(dir.path().join("url").as_path()));
    assert_eq!(config.store.path, dir.path().join("state"));
    let files: Vec<_> = ["url", "ca.pem"].map(|name| dir.path().join(name)).into();
    assert_eq!(config.secret_files, files);
    let shown = config.show();
    for line in ["kind              postgres", "# one:5432,two:6432/tokens, over TLS"] {
        assert!(shown.contains(line), "{shown}");
    }
    assert!(!format!("{shown}{config:?}").contains("word"), "{shown}");
}

#[test]
fn a_database_is_understood_without_what_else_the_file_needs() {
    let elsewhere = "\"/no/such/file\"";
    let store =
        format!("kind = \"postgres\"\nkey_file = {elsewhere}\nprevious_key_env = \"NOT_SET\"\npath = 1");
    let partner = format!("[[partner]]\nname = \"acme\"\nencryption_key_file = {elsewhere}\nodd = 1\n");
    let text = format!("[store]\n{store}\nurl = \"postgres://u@h/b\"\n{partner}");
    let kind = |text: &str| Config::resolve_store(&source(text));
    let Ok(Kind::Postgres(database)) = kind(&text) else { panic!("{text}") };
    assert_eq!(database.to_string(), "h:5432/b");
    let alone = "[store]\nkind = \"postgres\"\nurl = \"postgres://u@h/b\"\n";
    assert!(matches!(kind(alone), Ok(Kind::Postgres(_))));
    assert!(matches!(kind(PARTNER), Ok(Kind::File)));
    for (text, found) in [
        ("[store]\nkind = \"postgres\"\n", "none of url, url_file and url_env"),
        ("[store]\nkind = \"postgres\"\nurl = \"postgres://h\"\n", "no database name"),
        ("[store]\nkind = \"postgres\"\nulr = \"postgres://u@h/b\"\n", "did you mean \"url\"?"),
        ("[store]\nkind = \"mysql\"\n", "\"mysql\""),
        ("[store\n", "c.toml:1:"),
    ] {
        let errors = kind(text).unwrap_err().to_string();
        assert!(errors.contains(found), "{text}: {errors}");
    }
}

#[test]
fn the_file_at_the_root_of_the_repository_is_right() {
    let config = good(include_str!("../../config.toml"));
    assert_eq!(config.partners.len(), 1);

    assert!(config.partners[0].uses_sandbox && config.sandbox.is_some());
    assert!(Config::load(concat!(env!("CARGO_MANIFEST_DIR"), "/config.toml")).is_ok());
}

#[test]
fn the_example_in_it_is_right_too() {
    // Every line of the example is commented out with "# "; prose begins with other words.
    let text = include_str!("../../config.toml");
    let example = text.split_once("# A real partner").unwrap().1;
    let keys = example.lines().filter_map(|line| line.strip_prefix("# "));
    let keys: Vec<&str> = keys.skip_while(|line| *line != "[[partner]]").collect();
    let found = errors(&keys.join("\n"));
    assert!(
        found.iter().all(|message| message.contains("_file: expected a readable text file")),
        "{found:#?}"
    );
    assert_eq!(found.len(), 4, "{found:#?}");
}

#[test]
fn the_sandbox_partner_needs_nothing_but_its_name() {
    let config = good("[sandbox]\nlisten = \"[::1]:0\"\n[[partner]]\nname = \"sandbox\"\n");
    let partner = &config.partners[0];
    assert!(partner.uses_sandbox);
    assert_eq!(partner.endpoint.base_url.to_string(), "http://[::1]:0");
    assert_eq!(partner.endpoint.partner_code, sandbox::PARTNER_CODE);
    assert_eq!(partner.seed.as_ref().unwrap().digest(), sandbox::seed().digest());
    assert_eq!(partner.endpoint.login.as_ref().unwrap().username, sandbox::USERNAME);
}

#[test]
fn a_second_partner_may_use_the_sandbox_too() {
    let second = PARTNER.replace("https://api.acme.example", "http://localhost:9400");
    let config =
        good(&format!("[sandbox]\n[[partner]]\nname = \"sandbox\"\n{second}path_prefix = \"/two\"\n"));
    assert!(config.partners.iter().all(|partner| partner.uses_sandbox));
}

#[test]
fn shorter_timeouts_shorten_the_defaults_that_depend_on_them() {
    let config = good(&format!("[server]\nrequest_timeout = \"4s\"\nreplay_memory = \"1KiB\"\n{PARTNER}"));
    assert_eq!(config.proxy.token_timeout, Duration::from_secs(2));
    assert_eq!(config.partners[0].endpoint.connect_timeout, Duration::from_secs(2));
    assert_eq!(config.partners[0].route.replay_limit, 1024);
}

#[test]
fn a_changed_secret_file_is_seen_by_resolving_again() {
    let dir = directory(&[
        ("token", b"one"),
        ("c.toml", format!("{PARTNER}refresh_token_file = \"link\"").as_bytes()),
    ]);
    std::os::unix::fs::symlink("token", dir.path().join("link")).unwrap();
    let source = Source::read(dir.path().join("c.toml")).unwrap();
    let seed = || {
        let config = Config::resolve_in(&source, &env).unwrap();
        config.partners[0].seed.as_ref().unwrap().expose().to_owned()
    };
    assert_eq!(seed(), "one");
    File::create(dir.path().join("token")).unwrap().write_all(b"two\n").unwrap();
    assert_eq!(seed(), "two");
}

#[test]
fn a_secret_by_value_needs_a_file_that_is_closed_to_others() {
    let by_value = format!("{PARTNER}refresh_token = \"marked\"\n[admin]\ntoken = \"marked\"");
    let dir = directory(&[("c.toml", by_value.as_bytes()), ("plain.toml", PARTNER.as_bytes())]);
    let path = dir.path().join("c.toml");
    let load = |path: &Path| Config::resolve_in(&Source::read(path).unwrap(), &env);
    for mode in [0o644, 0o602, 0o601] {
        chmod(&path, mode);
        let file = path.display();
        let expected = format!(
            "{file}:6: partner \"acme\": refresh_token: expected a file closed to others around a secret, \
             found mode {mode:04o}; chmod 640 {file}"
        );
        assert_eq!(load(&path).unwrap_err().to_string(), expected);
    }
    chmod(&path, 0o640);
    assert!(load(&path).is_ok());
    chmod(&dir.path().join("plain.toml"), 0o644);
    assert!(load(&dir.path().join("plain.toml")).is_ok());
}

#[test]
fn a_file_that_cannot_be_used_at_all_is_named() {
    let dir = directory(&[("bad", b"a = \"\xff\""), ("big", &vec![b'#'; Source::MAX + 1])]);
    for (name, expected) in [
        ("none", "cannot open: No such file or directory (os error 2)"),
        ("bad", "expected UTF-8, found other bytes"),
        ("big", "expected at most 16 MiB, found more"),
        (".", "cannot read: Is a directory (os error 21)"),
    ] {
        let path = dir.path().join(name);
        let found = Source::read(&path).unwrap_err().to_string();
        assert_eq!(found, format!("{}: {expected}", path.display()));
    }
}

#[test]
fn show_lists_every_key_and_masks_every_secret() {
    let shown = good(&format!(
        "{PARTNER}refresh_token = \"marked\"\nheaders = {{ x-code = \"marked\" }}\n[server]\nthreads = 2\n"
    ))
    .show();
    let lines: Vec<String> =
        shown.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
    for expected in [
        "[server]",
        "listen 127.0.0.1:8080",
        "threads 2",
        "replay_memory 64MiB",
        "request_timeout 1m",
        "[[partner]]",
        "partner_code ACME",
        "encryption_key \"...\" (from the variable \"KEY\")",
        "refresh_token \"...\" (in this file)",
        "headers.x-code \"...\"",
        "hosts any",
        "[partner.refresh]",
        "ahead 5m",
        "limit 64KiB",
    ] {
        assert!(lines.iter().any(|line| line == expected), "{expected}\n{shown}");
    }
    assert!(!shown.contains("marked"));
    assert!(!shown.contains("[partner.login]") && !shown.contains("[sandbox]"), "{shown}");
}

#[test]
fn a_partner_without_seed_and_login_is_remarked_upon() {
    assert!(good(PARTNER).show().contains("# no refresh token and no login"));
    let seeded = good(&format!("{PARTNER}refresh_token_env = \"TOKEN\""));
    assert!(!seeded.show().contains("no refresh token"));
    assert_eq!(seeded.partners[0].seed.as_ref().unwrap().expose(), "seed-from-env");
}
