//! Taking up a changed configuration without dropping a request.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tracing::{error, info};

use super::SandboxAddr;
use super::partners::{Partners, Prepared};
use crate::config::{Config, Errors, Source};
use crate::proxy::Shared;
use crate::telemetry;

/// How often the files that hold secrets are looked at.
pub(super) const WATCH: Duration = Duration::from_secs(5);

/// Reads configurations, and puts them in place of the one that runs.
pub(super) struct Reloader {
    source: Source,
    config: Config,
    sandbox: SandboxAddr,
    log: telemetry::Handle,
    shared: Option<Arc<Shared>>,
    secrets: Fingerprint,
}

/// A configuration that has been understood, and not taken up yet.
pub(super) struct Next {
    source: Source,
    config: Config,
    secrets: Fingerprint,
}

impl Reloader {
    pub(super) fn new(
        source: Source,
        mut config: Config,
        sandbox: SandboxAddr,
        log: telemetry::Handle,
    ) -> Self {
        let secrets = Fingerprint::of(&config);
        point_at_sandbox(&mut config, sandbox);
        Self { source, config, sandbox, log, shared: None, secrets }
    }

    /// The configuration that runs, but for its partners.
    pub(super) fn config(&self) -> &Config {
        &self.config
    }

    /// The data path that is to follow.
    pub(super) fn set_shared(&mut self, shared: Arc<Shared>) {
        self.shared = Some(shared);
    }

    /// Prepares the configuration that bearerd was started with.
    pub(super) fn prepare_first(&mut self, partners: &Partners) -> Result<Prepared, Vec<String>> {
        partners.prepare(&mut self.config)
    }

    /// Reads the file anew.
    pub(super) fn read(&self) -> Result<Next, Vec<String>> {
        let source = Source::read(self.source.path()).map_err(|errors| messages(&errors))?;
        self.resolve(source)
    }

    /// What the configuration says now, if a file that holds a secret has changed since it was
    /// read. The configuration file itself is not read: it changes only when somebody says so.
    pub(super) fn changed_secrets(&mut self) -> Option<Next> {
        let now = Fingerprint::of(&self.config);
        if now == self.secrets {
            return None;
        }
        // Whatever comes of it, the same files are not tried again until they change again.
        self.secrets = now;
        match self.resolve(self.source.clone()) {
            Ok(next) => {
                info!("a secret file has changed");
                Some(next)
            }
            Err(messages) => {
                for message in messages {
                    error!("{message}");
                }
                error!("a secret file has changed and cannot be used; what it held before stays in use");
                None
            }
        }
    }

    fn resolve(&self, source: Source) -> Result<Next, Vec<String>> {
        let config = Config::resolve(&source).map_err(|errors| messages(&errors))?;
        let secrets = Fingerprint::of(&config);
        let mut next = Next { source, config, secrets };
        let fixed = self.fixed(&next.config);
        if !fixed.is_empty() {
            return Err(fixed);
        }
        point_at_sandbox(&mut next.config, self.sandbox);
        Ok(next)
    }

    /// What cannot change while bearerd runs, and is different in `next`.
    fn fixed(&self, next: &Config) -> Vec<String> {
        let (old, new) = (&self.config, next);
        [
            ("server.listen", old.listener.listen == new.listener.listen),
            ("server.threads", old.listener.threads == new.listener.threads),
            ("admin.listen", old.admin.listen == new.admin.listen),
            ("store", old.store.is_same(&new.store)),
            ("sandbox", old.sandbox == new.sandbox),
        ]
        .into_iter()
        .filter(|(_, same)| !same)
        .map(|(key, _)| {
            format!("{}: {key} cannot change while bearerd runs; restart it", self.source.path().display())
        })
        .collect()
    }

    /// Puts `next` in place, whole or not at all.
    pub(super) async fn apply(&mut self, mut next: Next, partners: &mut Partners) -> Result<(), Vec<String>> {
        let prepared = partners.prepare(&mut next.config)?;
        let routes = partners.apply(prepared).await?;
        if let Some(shared) = &self.shared {
            shared.reload(routes);
        }
        self.log.apply(&next.config.log);
        self.source = next.source;
        self.config = next.config;
        self.secrets = next.secrets;
        Ok(())
    }
}

fn messages(errors: &Errors) -> Vec<String> {
    errors.messages().map(ToOwned::to_owned).collect()
}

/// A sandbox on port 0 is where the system put it.
fn point_at_sandbox(config: &mut Config, sandbox: SandboxAddr) {
    let Some(addr) = sandbox else { return };
    for partner in config.partners.iter_mut().filter(|partner| partner.uses_sandbox) {
        partner.endpoint.base_url = partner.endpoint.base_url.clone().with_port(addr.port());
    }
}

/// What tells whether the files that hold secrets have changed. Links are followed, because
/// Kubernetes changes a secret by moving a link.
#[derive(Debug, PartialEq, Eq)]
struct Fingerprint(Vec<(PathBuf, Option<Looks>)>);

/// How a file looks without reading it.
#[derive(Debug, PartialEq, Eq)]
struct Looks {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
}

impl Fingerprint {
    fn of(config: &Config) -> Self {
        let look = |path: &PathBuf| {
            let looks = fs::metadata(path).ok().map(|m| Looks {
                device: m.dev(),
                inode: m.ino(),
                size: m.size(),
                modified: (m.mtime(), m.mtime_nsec()),
            });
            (path.clone(), looks)
        };
        Self(config.secret_files.iter().map(look).collect())
    }
}
