//! The partners that are running: a refresher each, and what the data path knows of it.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use tokio::sync::watch;
use tokio::task::JoinHandle;
use tracing::info;

use crate::clock::Clock;
use crate::config::{Config, PartnerConfig};
use crate::credential::{RefreshHandle, Refresher, Settings, StartError, Stop};
use crate::metrics::Metrics;
use crate::partner::{Connector, HttpEndpoint};
use crate::proxy::{self, Routes};
use crate::store::Store;

/// The running partners, by name.
pub(super) struct Partners {
    store: Arc<dyn Store>,
    clock: Arc<dyn Clock>,
    metrics: Arc<Metrics>,
    running: BTreeMap<String, Running>,
    /// Refreshers of partners that were taken out, by name, and may still be in a call.
    leaving: BTreeMap<String, JoinHandle<()>>,
}

struct Running {
    handle: Arc<RefreshHandle>,
    settings: watch::Sender<Settings>,
    stop: Stop,
    task: JoinHandle<()>,
}

/// A configuration of which every part that can fail has been made.
pub(super) struct Prepared {
    config: proxy::Config,
    partners: Vec<(PartnerConfig, Settings, Connector)>,
}

impl Partners {
    pub(super) fn new(store: Arc<dyn Store>, clock: Arc<dyn Clock>, metrics: Arc<Metrics>) -> Self {
        Self { store, clock, metrics, running: BTreeMap::new(), leaving: BTreeMap::new() }
    }

    /// Makes what may fail, and changes nothing but that it takes the partners out of `config`. Reads
    /// certificate authorities, so it blocks.
    pub(super) fn prepare(&self, config: &mut Config) -> Result<Prepared, Vec<String>> {
        let configured = config.take_partners();
        let mut partners = Vec::with_capacity(configured.len());
        let mut errors = Vec::new();
        for partner in configured {
            match self.prepare_one(&partner) {
                Ok((settings, connector)) => partners.push((partner, settings, connector)),
                Err(error) => errors.push(format!("partner \"{}\": {error}", partner.name)),
            }
        }
        if errors.is_empty() { Ok(Prepared { config: config.proxy.clone(), partners }) } else { Err(errors) }
    }

    fn prepare_one(
        &self,
        partner: &PartnerConfig,
    ) -> Result<(Settings, Connector), crate::partner::ConnectorError> {
        let endpoint = &partner.endpoint;
        let connector = Connector::new(
            &endpoint.base_url,
            endpoint.connect_timeout,
            endpoint.ca_file.as_deref(),
            partner.versions,
        )?;
        let settings = Settings {
            login: endpoint.login.as_ref().map(|login| login.digest(&endpoint.key)),
            seed: partner.seed.clone(),
            policy: partner.policy.clone(),
            endpoint: Arc::new(HttpEndpoint::new(endpoint.clone(), Arc::clone(&self.clock))?),
        };
        Ok((settings, connector))
    }

    /// Takes up what was prepared: new partners are loaded from the store, those that stay get
    /// their new settings, those that are gone end. On an error everything is as it was.
    pub(super) async fn apply(&mut self, prepared: Prepared) -> Result<Routes, Vec<String>> {
        // All of them begin before one is waited for: the store has much in common for them to do.
        let mut loading = Vec::new();
        for (partner, settings, _) in &prepared.partners {
            if !self.running.contains_key(&partner.name) {
                let before = self.leaving.remove(&partner.name);
                let load = self.load(partner.name.clone(), settings.clone(), before);
                loading.push((partner.name.clone(), tokio::spawn(load)));
            }
        }
        let mut loaded = Vec::with_capacity(loading.len());
        let mut errors = Vec::new();
        for (name, loading) in loading {
            match loading.await {
                Ok(Ok(new)) => loaded.push((name, new)),
                Ok(Err(error)) => errors.push(error.to_string()),
                Err(error) => errors.push(format!("partner \"{name}\": {error}")),
            }
        }
        if !errors.is_empty() {
            return Err(errors);
        }
        for (order, (name, (mut refresher, handle, settings, stop))) in (0..).zip(loaded) {
            refresher.start_in_turn(order);
            let task = tokio::spawn(refresher.run());
            self.running.insert(name, Running { handle, settings, stop, task });
        }
        let mut routes = Vec::with_capacity(prepared.partners.len());
        for (partner, settings, connector) in prepared.partners {
            let Some(running) = self.running.get(&partner.name) else { continue };
            running.settings.send_replace(settings);
            routes.push(Arc::new(proxy::Partner {
                name: partner.name,
                base_url: partner.endpoint.base_url,
                partner_code: partner.endpoint.partner_code,
                headers: partner.endpoint.headers,
                route: partner.route,
                credential: Arc::clone(&running.handle),
                connector: Arc::new(connector),
            }));
        }
        let names: HashSet<&str> = routes.iter().map(|partner| partner.name.as_str()).collect();
        self.retire(|name| names.contains(name)).await;
        Ok(Routes { config: prepared.config, partners: routes })
    }

    /// The handles of all partners, by name.
    pub(super) fn handles(&self) -> Vec<(String, Arc<RefreshHandle>)> {
        self.running.iter().map(|(name, running)| (name.clone(), Arc::clone(&running.handle))).collect()
    }

    /// Ends every refresher, and waits until what it was doing is done and durable.
    pub(super) async fn stop(mut self) {
        self.retire(|_| false).await;
        for task in self.leaving.into_values() {
            let _ = task.await;
        }
    }

    async fn retire(&mut self, keep: impl Fn(&str) -> bool) {
        let names: Vec<String> = self.running.keys().filter(|name| !keep(name)).cloned().collect();
        for name in names {
            if let Some(running) = self.running.remove(&name) {
                running.stop.stop().await;
                self.leaving.insert(name, running.task);
            }
        }
        self.leaving.retain(|_, task| !task.is_finished());
        self.metrics.retain(|name| self.running.contains_key(name));
    }

    /// Loads a partner, once the refresher that it had `before` has ended: two of them would not know of
    /// each other, and could spend the same token.
    fn load(
        &self,
        name: String,
        settings: Settings,
        before: Option<JoinHandle<()>>,
    ) -> impl Future<Output = Result<Loaded, StartError>> + use<> {
        let (settings, settings_seen) = watch::channel(settings);
        let metrics = self.metrics.credential(&name);
        let (store, clock) = (Arc::clone(&self.store), Arc::clone(&self.clock));
        async move {
            if let Some(before) = before.filter(|before| !before.is_finished()) {
                info!(partner = name, "it was taken out a moment ago: waiting for the end of its call");
                let _ = before.await;
            }
            let rng = fastrand::Rng::new();
            let loaded = Refresher::load(&name, settings_seen, store, clock, metrics, rng);
            let (refresher, handle, stop) = loaded.await?;
            Ok((refresher, handle, settings, stop))
        }
    }
}

type Loaded = (Refresher, Arc<RefreshHandle>, watch::Sender<Settings>, Stop);
