//! `config.toml` of a test, and the directory it lies in.

use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use tempfile::TempDir;
use toml::{Table, Value};

use super::partner::{CODE, Partner};
use super::postgres::Database;
use super::secrets::{ENVELOPE_KEY, STORE_KEY, marked};

/// A directory in which bearerd runs. Every file in it is the owner's alone.
pub(crate) struct Dir(TempDir);

impl Dir {
    pub(crate) fn new() -> Self {
        Self(TempDir::new().unwrap())
    }

    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.path().join(name)
    }

    /// Writes `name` with mode 0600, in place of what was there.
    pub(crate) fn write(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.file(name);
        let mut file =
            OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&path).unwrap();
        file.write_all(content.as_ref()).unwrap();
        path
    }

    /// The files of the store that hold records, the one written last at the end.
    pub(crate) fn records(&self) -> Vec<PathBuf> {
        let mut files: Vec<_> = fs::read_dir(self.file("state"))
            .unwrap()
            .map(Result::unwrap)
            .filter(|entry| entry.metadata().unwrap().len() > 0)
            .map(|entry| (entry.metadata().unwrap().modified().unwrap(), entry.path()))
            .collect();
        files.sort();
        files.into_iter().map(|(_, path)| path).collect()
    }
}

/// A configuration by key; what no test cares about has a default here.
#[derive(Clone)]
pub(crate) struct Config {
    root: Table,
    partners: Vec<Table>,
    files: Vec<(String, String)>,
}

impl Config {
    /// One partner, `acme`, which answers on every host and path. The log is at its most talkative.
    pub(crate) fn to(partner: &Partner) -> Self {
        Self { root: Table::new(), partners: Vec::new(), files: Vec::new() }
            .set("server.listen", "127.0.0.1:0")
            .set("server.threads", 2)
            .set("admin.listen", "127.0.0.1:0")
            .set("log.format", "json")
            .set("log.level", "trace")
            .set("store.path", "state")
            .and("acme", partner)
    }

    /// One more partner. What follows about `partner.` is about this one.
    #[must_use]
    pub(crate) fn and(mut self, name: &str, partner: &Partner) -> Self {
        self.partners.push(Table::new());
        let config = self
            .set("partner.name", name)
            .set("partner.base_url", partner.base_url())
            .set("partner.partner_code", CODE)
            .set("partner.encryption_key", ENVELOPE_KEY)
            .set("partner.refresh_token_file", format!("{name}.seed"))
            .with_file(&format!("{name}.seed"), &partner.seed());
        match partner.ca() {
            None => config,
            Some(pem) => {
                config.set("partner.ca_file", format!("{name}.pem")).with_file(&format!("{name}.pem"), pem)
            }
        }
    }

    /// Sets the key at `path`, such as `server.threads`; `partner.` is the last partner. In a text,
    /// `{dir}` stands for the directory.
    #[must_use]
    pub(crate) fn set(mut self, path: &str, value: impl Into<Value>) -> Self {
        let (table, key) = self.table(path);
        table.insert(key.to_owned(), value.into());
        self
    }

    /// The operator's side on a Unix socket, where calls that change something need no token.
    #[must_use]
    pub(crate) fn with_admin_socket(self) -> Self {
        self.set("admin.listen", "unix:{dir}/admin.sock")
    }

    /// Leaves out the key at `path`.
    #[must_use]
    pub(crate) fn unset(mut self, path: &str) -> Self {
        let (table, key) = self.table(path);
        table.remove(key);
        self
    }

    /// The secrets of a login that the partner takes.
    #[must_use]
    pub(crate) fn with_login(self) -> Self {
        self.set("partner.login.username", "merchant")
            .set("partner.login.client_id", "client")
            .set("partner.login.password_file", "password")
            .set("partner.login.client_secret_file", "client-secret")
            .with_file("password", &marked("password"))
            .with_file("client-secret", &marked("client-secret"))
    }

    /// The store in `database`, under a key.
    #[must_use]
    pub(crate) fn with_database(self, database: &Database) -> Self {
        self.with_database_url(&database.url())
    }

    /// The store in the database at `url`, under a key.
    #[must_use]
    pub(crate) fn with_database_url(self, url: &str) -> Self {
        self.set("store.kind", "postgres")
            .set("store.key", STORE_KEY)
            .set("store.url_file", "url")
            .with_file("url", url)
    }

    /// A file beside the configuration.
    #[must_use]
    pub(crate) fn with_file(mut self, name: &str, content: &str) -> Self {
        self.files.push((name.to_owned(), content.to_owned()));
        self
    }

    /// Writes everything to `dir`, and returns where the configuration lies.
    pub(crate) fn write_to(&self, dir: &Dir) -> PathBuf {
        for (name, content) in &self.files {
            dir.write(name, content);
        }
        self.write_without_files(dir)
    }

    /// Writes the configuration alone, for a directory whose other files are as they should be.
    pub(crate) fn write_without_files(&self, dir: &Dir) -> PathBuf {
        let mut root = self.root.clone();
        root.insert("partner".to_owned(), self.partners.clone().into());
        let text = toml::to_string(&root).unwrap();
        dir.write("config.toml", text.replace("{dir}", dir.path().to_str().unwrap()))
    }

    fn table<'k>(&mut self, path: &'k str) -> (&mut Table, &'k str) {
        let (sections, key) = path.rsplit_once('.').unwrap();
        let (mut table, sections) = match sections.strip_prefix("partner") {
            Some(rest) => (self.partners.last_mut().unwrap(), rest.trim_start_matches('.')),
            None => (&mut self.root, sections),
        };
        for section in sections.split('.').filter(|section| !section.is_empty()) {
            table = table
                .entry(section.to_owned())
                .or_insert_with(|| Table::new().into())
                .as_table_mut()
                .unwrap();
        }
        (table, key)
    }
}
