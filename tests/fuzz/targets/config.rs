//! Configuration: it is understood or refused, each message is a line that says where, and no secret
//! is in any of them.
//!
//! The input is the file. Beside it are files with secrets, which it may name. If it begins with
//! `# open`, others may read it.
#![no_main]

use std::cell::RefCell;
use std::fs::{DirBuilder, File, Permissions};
use std::io::Write;
use std::net::SocketAddr;
use std::os::unix::fs::{DirBuilderExt, FileExt, PermissionsExt};
use std::path::{Path, PathBuf};

use bearerd::config::Config;
use bearerd::listener::ListenAddr;
use bearerd::partner::Scheme;
use bearerd::store::Kind;
use bearerd::store::postgres::Database;
use libfuzzer_sys::{Corpus, fuzz_target};
use toml::de::{DeTable, DeValue};
use toml::{Table, Value};

/// What the fuzzer may put into a secret, and what then must not be in any text.
const MARK: &str = "MaRkEd";

fuzz_target!(|input: &[u8]| -> Corpus {
    let text = std::str::from_utf8(input).ok();
    let tree = text.and_then(|text| DeTable::parse(text).ok()).map(|tree| plain(tree.get_ref()));
    if tree.as_ref().is_some_and(asks_for_names) {
        return Corpus::Reject;
    }
    let open = input.starts_with(b"# open");
    let path = FILES.with_borrow_mut(|files| files.put(input, open));
    let outcome = Config::load(&path);
    let said = match &outcome {
        Ok(config) => {
            let tree = tree.as_ref().expect("what is no TOML is no configuration");
            is_sound(config, tree);
            assert!(!open || !holds_a_secret(tree), "others may read the secret in it");
            let shown = config.show();
            assert!(shown.lines().all(|line| !line.contains(char::is_control)), "{shown:?}");
            assert_eq!(Config::load(&path).unwrap().show(), shown);
            format!("{config:?}\n{shown}")
        }
        Err(errors) => {
            let messages: Vec<&str> = errors.messages().collect();
            say_where(&messages, &path, text, tree.is_some());
            format!("{errors}\n{errors:?}")
        }
    };
    if !tree.as_ref().is_some_and(may_show_the_mark) {
        assert!(!said.contains(MARK), "{said}");
    }
    Corpus::Keep
});

thread_local! {
    static FILES: RefCell<Files> = RefCell::new(Files::new());
}

/// The directory that configurations are read from.
struct Files {
    path: PathBuf,
    file: File,
}

impl Files {
    fn new() -> Self {
        let name = format!("config-{}", std::process::id());
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("target").join(name);
        DirBuilder::new().recursive(true).mode(0o700).create(&dir).unwrap();
        for (name, text) in [
            ("token", format!("{MARK}.token\n")),
            ("key", "00112233445566778899aabbccddeeff".repeat(2)),
            ("odd", format!("{MARK}\n\0{MARK}")),
        ] {
            File::create(dir.join(name)).unwrap().write_all(text.as_bytes()).unwrap();
        }
        let path = dir.join("c.toml");
        Self { file: File::create(&path).unwrap(), path }
    }

    fn put(&mut self, text: &[u8], open: bool) -> PathBuf {
        // Cut to its length afterwards: a file that was emptied would be flushed to the disk.
        self.file.write_all_at(text, 0).unwrap();
        self.file.set_len(text.len() as u64).unwrap();
        self.file.set_permissions(Permissions::from_mode(if open { 0o644 } else { 0o600 })).unwrap();
        self.path.clone()
    }
}

/// The same tree in plain values, of which numbers and dates matter to nobody here.
fn plain(table: &DeTable<'_>) -> Table {
    fn value(given: &DeValue<'_>) -> Value {
        match given {
            DeValue::String(text) => Value::String(text.to_string()),
            DeValue::Boolean(flag) => Value::Boolean(*flag),
            DeValue::Integer(_) | DeValue::Float(_) => Value::Integer(0),
            DeValue::Datetime(time) => Value::Datetime(*time),
            DeValue::Array(items) => Value::Array(items.iter().map(|item| value(item.get_ref())).collect()),
            DeValue::Table(table) => Value::Table(plain(table)),
        }
    }
    table.iter().map(|(key, item)| (key.get_ref().to_string(), value(item.get_ref()))).collect()
}

/// Whether it would have the system ask a name server.
fn asks_for_names(tree: &Table) -> bool {
    ["server", "admin", "sandbox"].iter().any(|section| {
        let listen = tree.get(*section).and_then(|section| section.get("listen")).and_then(Value::as_str);
        listen.is_some_and(|listen| {
            let here = ["unix:", "localhost:"].iter().any(|start| listen.starts_with(start));
            !here && listen.contains(':') && listen.parse::<SocketAddr>().is_err()
        })
    })
}

/// Whether the mark is where it may be shown.
fn may_show_the_mark(tree: &Table) -> bool {
    fn shown(value: &Value) -> bool {
        match value {
            Value::Table(table) => may_show_the_mark(table),
            Value::Array(items) => items.iter().any(shown),
            other => {
                other.to_string().contains(MARK) || other.as_str().is_some_and(|text| text.contains(MARK))
            }
        }
    }
    tree.iter().any(|(key, value)| match (key.as_str(), value) {
        (key, _) if key.contains(MARK) => true,
        ("headers", Value::Table(headers)) => headers.keys().any(|name| name.contains(MARK)),
        // Of a database it is shown where it is.
        ("url", Value::String(url)) => {
            Database::parse(url).is_ok_and(|database| database.to_string().contains(MARK))
        }
        (key, _) if SECRETS.contains(&key) => false,
        _ => shown(value),
    })
}

const SECRETS: [&str; 8] =
    ["encryption_key", "refresh_token", "password", "client_secret", "key", "previous_key", "url", "token"];

fn holds_a_secret(tree: &Table) -> bool {
    let has = |table: &Value, keys: &[&str]| keys.iter().any(|key| table.get(key).is_some_and(Value::is_str));
    tree.get("partner").and_then(Value::as_array).into_iter().flatten().any(|partner| {
        has(partner, &["encryption_key", "refresh_token"])
            || partner.get("login").is_some_and(|login| has(login, &["password", "client_secret"]))
    }) || tree.get("store").is_some_and(|store| has(store, &["key", "previous_key", "url"]))
        || tree.get("admin").is_some_and(|admin| has(admin, &["token"]))
}

/// What a configuration must be to be used, read off the file by another reader.
fn is_sound(config: &Config, tree: &Table) {
    let allows = |table: Option<&Value>, key: &str| {
        table.and_then(|table| table.get(key)).and_then(Value::as_bool).unwrap_or(false)
    };
    if let ListenAddr::Tcp(listen) = &config.listener.listen {
        assert!(listen.ip().to_canonical().is_loopback() || allows(tree.get("server"), "allow_anonymous"));
    }
    assert!(config.proxy.token_timeout < config.proxy.request_timeout);
    if let Kind::Postgres(_) = config.store.kind {
        assert!(config.store.key.is_some());
    }
    assert!(!config.partners.is_empty());
    let given = tree["partner"].as_array().unwrap();
    assert_eq!(given.len(), config.partners.len());
    for (partner, given) in config.partners.iter().zip(given) {
        let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        assert!(!partner.name.is_empty() && partner.name.chars().all(plain));
        assert_eq!(config.partners.iter().filter(|other| other.name == partner.name).count(), 1);
        let url = &partner.endpoint.base_url;
        let clear = url.scheme() == Scheme::Http && !url.is_loopback();
        assert!(!clear || allows(Some(given), "allow_plaintext"));
        assert!(partner.route.path_prefix.starts_with('/'));
        assert!(partner.route.replay_limit <= config.proxy.replay_memory);
    }
}

/// Every message is one line, and names a line of the file.
fn say_where(messages: &[&str], path: &Path, text: Option<&str>, is_toml: bool) {
    assert!(!messages.is_empty());
    let mut before = 0;
    for message in messages {
        assert!(!message.contains(char::is_control), "{message:?}");
        let at = message.strip_prefix(path.to_str().unwrap()).and_then(|rest| rest.strip_prefix(':'));
        let at = at.unwrap_or_else(|| panic!("{message}"));
        let Some(text) = text else {
            assert_eq!(at, " expected UTF-8, found other bytes");
            continue;
        };
        let line: usize = at.split(':').next().unwrap().parse().unwrap_or_else(|_| panic!("{message}"));
        assert!((1..=text.split('\n').count()).contains(&line), "{message}");
        assert!(line >= before, "{message}");
        before = line;
    }
    assert!(is_toml || messages.len() == 1, "{messages:?}");
}
