//! The configuration: `config.toml` in, a validated [`Config`] out, or every error at once.
//!
//! [`Source::read`] takes the file into memory, [`Config::resolve`] makes sense of it. Resolving
//! reads the secrets anew each time, so after a secret file has changed the same source is resolved
//! again. What a message may quote is decided in one place, `value::quoted`; the value of a secret
//! key is never quoted at all.

mod address;
mod context;
mod credentials;
mod errors;
mod partner;
mod route;
mod secret;
mod section;
mod sections;
mod show;
mod store;
#[cfg(test)]
mod tests;
mod value;

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use toml::de::DeTable;
use zeroize::Zeroizing;

use self::context::{Context, Env};
pub use self::errors::Errors;
use self::section::Section;
use crate::partner::Versions;
use crate::token::RefreshToken;
use crate::{admin, credential, listener, partner as endpoint, proxy, sandbox, telemetry};

/// A configuration that has been understood whole. Every part is the configuration of one module.
#[derive(Debug, Clone)]
pub struct Config {
    /// `[server]`, what concerns sockets.
    pub listener: listener::Config,
    /// `[server]`, what concerns exchanges.
    pub proxy: proxy::Config,
    /// `[admin]`.
    pub admin: admin::Config,
    /// `[log]`.
    pub log: telemetry::Config,
    /// `[store]`.
    pub store: crate::store::Config,
    /// Every `[[partner]]`, in the order of the file.
    pub partners: Vec<PartnerConfig>,
    /// `[sandbox]`.
    pub sandbox: Option<sandbox::Config>,
    /// The files that `_file` keys name, `ca_file` included, to be watched for changes. Each once.
    pub secret_files: Vec<PathBuf>,
    /// Every key with its value in force, for [`Config::show`]. Holds no secret.
    listing: show::Listing,
}

impl Config {
    /// Reads and resolves the file at `path`.
    pub fn load(path: impl Into<PathBuf>) -> Result<Self, Errors> {
        Self::resolve(&Source::read(path)?)
    }

    /// Makes sense of `source` and reads the secrets that it names, from files and the environment.
    ///
    /// A TOML syntax error stands alone; all other errors are found at once.
    pub fn resolve(source: &Source) -> Result<Self, Errors> {
        Self::resolve_in(source, &|name| std::env::var(name))
    }

    /// Resolves in the given environment.
    fn resolve_in(source: &Source, env: Env<'_>) -> Result<Self, Errors> {
        let tree = DeTable::parse(&source.text).map_err(|error| Errors::syntax(source, &error))?;
        let cx = Context::new(source, env);
        let mut root = Section::root(&cx, tree.into_inner());
        let read = sections::read(&cx, &mut root);
        root.finish();
        let (secret_files, listing) = cx.finish()?;
        Ok(Self {
            listener: read.listener,
            proxy: read.proxy,
            admin: read.admin,
            log: read.log,
            store: read.store,
            partners: read.partners,
            sandbox: read.sandbox,
            secret_files,
            listing,
        })
    }

    /// Makes sense of where the records of `source` are, and of nothing else in it: for who works on the
    /// database alone, and may have no partner's secrets and no key.
    pub fn resolve_store(source: &Source) -> Result<crate::store::Kind, Errors> {
        let tree = DeTable::parse(&source.text).map_err(|error| Errors::syntax(source, &error))?;
        let env = |name: &str| std::env::var(name);
        let cx = Context::new(source, &env);
        let kind = store::read_kind(&mut Section::root(&cx, tree.into_inner()));
        cx.finish()?;
        Ok(kind)
    }

    /// Every key with its value in force, defaults included, one per line. Secrets are masked, with
    /// a word on where each came from.
    pub fn show(&self) -> String {
        self.listing.to_string()
    }

    /// Takes the partners out, for whoever runs them. The rest is kept for as long as bearerd runs,
    /// and is small however many they are: what is only there to be shown goes, too.
    pub fn take_partners(&mut self) -> Vec<PartnerConfig> {
        self.listing = show::Listing::default();
        std::mem::take(&mut self.partners)
    }
}

/// One `[[partner]]`.
#[derive(Debug, Clone)]
pub struct PartnerConfig {
    /// `name`: letters a to z, digits and hyphens.
    pub name: String,
    /// The refresh token to begin with.
    pub seed: Option<RefreshToken>,
    /// How to reach its token endpoint; the data path uses its base URL and headers too.
    pub endpoint: endpoint::Config,
    /// When to refresh, and what to make of silence.
    pub policy: credential::Policy,
    /// Which requests are for it, and how they are carried.
    pub route: proxy::RouteConfig,
    /// Which versions of HTTP its requests go out in. Token calls are HTTP/1.1, whatever this says.
    pub versions: Versions,
    /// Whether `base_url` is the sandbox's. If `sandbox.listen` has port 0, so has `base_url`, and
    /// whoever binds the sandbox must put the real port in.
    pub uses_sandbox: bool,
}

/// A configuration file in memory. Wiped on drop.
#[derive(Clone)]
pub struct Source {
    path: PathBuf,
    text: Zeroizing<String>,
    /// The file's permission bits: whether it may hold a secret by value depends on them.
    mode: u32,
}

impl Source {
    /// The largest configuration file taken, in bytes: more than ten thousand partners with all that
    /// can be said of each.
    pub const MAX: usize = 16 * 1024 * 1024;

    /// Reads the file at `path`. It must be UTF-8 and at most [`Source::MAX`] bytes long.
    pub fn read(path: impl Into<PathBuf>) -> Result<Self, Errors> {
        let path = path.into();
        let bare = |what: &dyn std::fmt::Display| Errors::bare(&path, what);
        let file = File::open(&path).map_err(|error| bare(&format_args!("cannot open: {error}")))?;
        let meta = file.metadata().map_err(|error| bare(&format_args!("cannot read: {error}")))?;
        // Room for the whole file, so that no copy of it is left behind by growing.
        let len = usize::try_from(meta.len()).unwrap_or(usize::MAX).min(Self::MAX);
        let mut bytes = Zeroizing::new(Vec::with_capacity(len + 1));
        let limit = Self::MAX as u64 + 1;
        file.take(limit)
            .read_to_end(&mut bytes)
            .map_err(|error| bare(&format_args!("cannot read: {error}")))?;
        if bytes.len() > Self::MAX {
            return Err(bare(&"expected at most 16 MiB, found more"));
        }
        let text = std::str::from_utf8(&bytes).map_err(|_| bare(&"expected UTF-8, found other bytes"))?;
        Ok(Self { text: Zeroizing::new(text.to_owned()), mode: meta.permissions().mode() & 0o7777, path })
    }

    /// The path as it was given.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The directory that relative paths in the file are relative to; empty for the current one.
    pub fn dir(&self) -> &Path {
        self.path.parent().unwrap_or_else(|| Path::new(""))
    }
}

impl std::fmt::Debug for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Source({:?}, \"...\")", self.path)
    }
}
