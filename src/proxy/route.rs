//! Which partner a request is for.

use std::collections::HashMap;
use std::sync::Arc;

use http::header::{HeaderName, HeaderValue};

use super::admit::Target;
use super::path::has_prefix;
use super::{Config, HostPattern, RouteConfig};
use crate::credential::RefreshHandle;
use crate::partner::{BaseUrl, Connector};

/// A partner, as the data path sees it.
#[derive(Debug)]
pub struct Partner {
    /// Its configured name.
    pub name: String,
    /// Where its requests go.
    pub base_url: BaseUrl,
    /// The value of `Partner-Code`.
    pub partner_code: HeaderValue,
    /// Static headers that go on every request.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// Which requests are for it.
    pub route: RouteConfig,
    /// Its credential.
    pub credential: Arc<RefreshHandle>,
    /// Makes connections to it.
    pub connector: Arc<Connector>,
}

/// All that a reload may replace on the data path.
#[derive(Debug)]
pub struct Routes {
    /// What concerns exchanges.
    pub config: Config,
    /// The partners, in the order of the configuration.
    pub partners: Vec<Arc<Partner>>,
}

/// Finds partners: by host, then by the longest path prefix.
#[derive(Debug)]
pub(super) struct Index {
    /// Partners that name hosts, by host in lower case.
    by_host: HashMap<Box<str>, Vec<Entry>>,
    /// Partners that take any host, longest prefix first.
    any_host: Vec<Entry>,
    /// Every partner by the host of its base URL, for requests in absolute form.
    by_base: HashMap<Box<str>, Vec<Entry>>,
}

#[derive(Debug, Clone)]
struct Entry {
    port: Option<u16>,
    prefix: Box<str>,
    partner: usize,
}

impl Index {
    pub(super) fn new(partners: &[Arc<Partner>]) -> Self {
        let mut index = Self { by_host: HashMap::new(), any_host: Vec::new(), by_base: HashMap::new() };
        for (at, partner) in partners.iter().enumerate() {
            let entry = |port| Entry { port, prefix: partner.route.path_prefix.as_str().into(), partner: at };
            for HostPattern { host, port } in &partner.route.hosts {
                index.by_host.entry(host.as_str().into()).or_default().push(entry(*port));
            }
            if partner.route.hosts.is_empty() {
                index.any_host.push(entry(None));
            }
            let base = partner.base_url.host();
            let host = if base.contains(':') { format!("[{base}]") } else { base.to_owned() };
            index.by_base.entry(host.into()).or_default().push(entry(Some(partner.base_url.port())));
        }
        for entries in index.by_host.values_mut().chain(index.by_base.values_mut()) {
            longest_first(entries);
        }
        longest_first(&mut index.any_host);
        index
    }

    /// The position of the partner that a request to `target` with the canonical `path` is for.
    pub(super) fn find(&self, target: &Target<'_>, path: &[u8]) -> Option<usize> {
        let Target { host, port, absolute } = *target;
        let fits = |entry: &&Entry, port: Option<u16>| {
            entry.port.is_none_or(|wanted| port == Some(wanted)) && has_prefix(path, &entry.prefix)
        };
        // A request in absolute form names a host for good; any other may name bearerd itself.
        if self.by_host.is_empty() && absolute.is_none() {
            return self.any_host.iter().find(|entry| fits(entry, None)).map(|entry| entry.partner);
        }
        let host = host.to_ascii_lowercase();
        let host = host.strip_suffix('.').unwrap_or(&host);
        let by_host = self.by_host.get(host).into_iter().flatten();
        let mut found = by_host.filter(|entry| fits(entry, port.or(absolute))).max_by_key(|e| e.prefix.len());
        match absolute {
            None => {
                let any = self.any_host.iter().find(|entry| fits(entry, None));
                // A partner that names the host goes before one that takes any.
                found = found.or(any);
            }
            Some(default) => {
                // An application that knows the partner as http://host means the one at base_url,
                // even where that is https://host: both default ports stand for it.
                let same_port = |entry: &&Entry| {
                    let port = port.unwrap_or(default);
                    entry.port == Some(port) || (port == default && matches!(entry.port, Some(80 | 443)))
                };
                let by_base = self.by_base.get(host).into_iter().flatten();
                let base = by_base.filter(same_port).filter(|e| has_prefix(path, &e.prefix));
                found = found.or_else(|| base.max_by_key(|e| e.prefix.len()));
            }
        }
        found.map(|entry| entry.partner)
    }
}

fn longest_first(entries: &mut [Entry]) {
    entries.sort_by_key(|entry| std::cmp::Reverse(entry.prefix.len()));
}
