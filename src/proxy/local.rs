//! What one runtime has of the routes and of each partner.

use std::borrow::Cow;
use std::cell::{OnceCell, RefCell};
use std::rc::Rc;
use std::sync::Arc;

use http::header::{HeaderName, HeaderValue};
use http::uri::{PathAndQuery, Uri};

use super::Config;
use super::authorize::Authorizer;
use super::exchange::ExchangeMetricsOf;
use super::route::{Index, Partner, Routes};
use super::worker::Shared;
use crate::metrics::Shard;
use crate::upstream::Upstream;

/// Routes, and what finds a request's partner in them.
pub(super) struct Table {
    pub(super) routes: Routes,
    pub(super) index: Index,
}

impl Table {
    pub(super) fn new(routes: Routes) -> Self {
        Self { index: Index::new(&routes.partners), routes }
    }
}

/// The routes as one runtime uses them.
pub(super) struct Local {
    pub(super) table: Arc<Table>,
    /// Each is made for its first request: there may be thousands, and most runtimes meet few.
    pub(super) partners: Vec<OnceCell<Box<LocalPartner>>>,
}

/// A partner with what one runtime has of it: copies of header values, because clones of a shared
/// one bounce its reference count between cores, a pool, and counters.
pub(super) struct LocalPartner {
    pub(super) partner: Arc<Partner>,
    pub(super) authorizer: Authorizer,
    pub(super) metrics: Rc<ExchangeMetricsOf>,
    pub(super) host: HeaderValue,
    /// Set on every request, `Partner-Code` first.
    pub(super) fields: Vec<(HeaderName, HeaderValue)>,
    /// Their names, and those that are the same to many servers.
    pub(super) managed: Rc<[HeaderName]>,
}

impl Local {
    pub(super) fn new(table: Arc<Table>) -> Self {
        let partners = table.routes.partners.iter().map(|_| OnceCell::new()).collect();
        Self { table, partners }
    }

    pub(super) fn config(&self) -> &Config {
        &self.table.routes.config
    }

    pub(super) fn partner(&self, at: usize, shared: &Arc<Shared>, shard: &Arc<Shard>) -> &LocalPartner {
        let routes = &self.table.routes;
        self.partners[at]
            .get_or_init(|| Box::new(LocalPartner::new(&routes.partners[at], &routes.config, shared, shard)))
    }
}

impl Drop for LocalPartner {
    /// Requests have gone over to other routes.
    fn drop(&mut self) {
        self.authorizer.upstream.retire();
    }
}

impl LocalPartner {
    pub(super) fn new(
        partner: &Arc<Partner>,
        config: &Config,
        shared: &Arc<Shared>,
        shard: &Arc<Shard>,
    ) -> Self {
        let own = |value: &HeaderValue| {
            let mut own = HeaderValue::from_bytes(value.as_bytes()).unwrap_or_else(|_| value.clone());
            own.set_sensitive(value.is_sensitive());
            own
        };
        let code = (HeaderName::from_static("partner-code"), own(&partner.partner_code));
        let fields: Vec<_> =
            std::iter::once(code).chain(partner.headers.iter().map(|(n, v)| (n.clone(), own(v)))).collect();
        // A host and a port make a header value: the configuration was parsed as such.
        let host = HeaderValue::try_from(partner.base_url.authority())
            .unwrap_or_else(|_| HeaderValue::from_static("invalid"));
        let idle = config.idle_timeout;
        Self {
            authorizer: Authorizer {
                credential: Arc::clone(&partner.credential),
                reader: RefCell::new(partner.credential.cell().reader()),
                upstream: Upstream::new(Arc::clone(&partner.connector), idle, Arc::clone(shard)),
                clock: Arc::clone(&shared.clock),
                token_timeout: config.token_timeout,
            },
            metrics: Rc::new(ExchangeMetricsOf {
                partner: partner.name.as_str().into(),
                counters: shard.partner(&partner.name),
            }),
            managed: fields.iter().flat_map(|(name, _)| spellings(name)).collect(),
            fields,
            host,
            partner: Arc::clone(partner),
        }
    }

    /// The request target in origin form: the bytes that came in, behind the base URL's path.
    pub(super) fn target<'a>(&self, uri: &'a Uri) -> Cow<'a, str> {
        let base = self.partner.base_url.path();
        match uri.path_and_query().map_or("/", PathAndQuery::as_str) {
            "*" => Cow::Borrowed("*"),
            // A whole URL may have no path.
            asked if !asked.starts_with('/') => Cow::Owned(format!("{base}/{asked}")),
            asked if base.is_empty() => Cow::Borrowed(asked),
            asked => Cow::Owned(format!("{base}{asked}")),
        }
    }
}

/// `name`, and as it is with hyphens where it has underscores, if it has any.
fn spellings(name: &HeaderName) -> impl Iterator<Item = HeaderName> {
    let plain = name.as_str().contains('_').then(|| name.as_str().replace('_', "-"));
    std::iter::once(name.clone()).chain(plain.and_then(|plain| plain.parse().ok()))
}
