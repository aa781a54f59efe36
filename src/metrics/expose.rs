//! Every family of metrics: its name, its help and where its values come from.
//!
//! Names are written without the prefix `bearerd_`, and those of counters without `_total`; the
//! encoder adds both. Units are part of the name.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;

use super::exchange::{CLASSES, ExchangeTotals};
use super::histogram::Totals;
use super::{CREDENTIAL_STATES, CredentialMetrics, Inner, ReplayResult, Side, lock};

impl Collector for Inner {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut families = Families(encoder);
        self.process_wide(&mut families)?;
        self.store(&mut families)?;
        self.credentials(&mut families)?;
        self.exchanges(&mut families)
    }
}

impl Inner {
    fn process_wide(&self, families: &mut Families<'_>) -> fmt::Result {
        families
            .open("build", "Which version this is.", MetricType::Info)?
            .encode_info(&[("version", self.version.as_str())])?;
        let dropped = self.dropped_lines.get().map_or(0, |read| read());
        let help = "Lines of the log dropped because the reader of standard output was too slow.";
        counter(&mut families.open("log_lines_dropped", help, MetricType::Counter)?, dropped)?;

        let mut family = families.open("connections", "Open connections.", MetricType::Gauge)?;
        let shards = lock(&self.shards);
        for side in Side::ALL {
            let open: i64 = shards.iter().map(|shard| shard.open(side)).sum();
            family.encode_family(&[("side", side.as_str())])?.encode_gauge(&open)?;
        }
        Ok(())
    }

    fn store(&self, families: &mut Families<'_>) -> fmt::Result {
        let Some(store) = self.store.get() else { return Ok(()) };
        let help = "1 while there is a session with the database, 0 while nothing can be read or written.";
        let connected = u32::from(store.is_connected());
        families.open("store_connected", help, MetricType::Gauge)?.encode_gauge(&connected)?;
        let help = "Sessions with the database that were begun.";
        counter(&mut families.open("store_sessions", help, MetricType::Counter)?, store.sessions())
    }

    fn credentials(&self, families: &mut Families<'_>) -> fmt::Result {
        let credentials = lock(&self.credentials).clone();

        let help = "1 for the state that the credential is in, 0 for the others.";
        let mut family = families.open("credential_state", help, MetricType::Gauge)?;
        for (name, credential) in &credentials {
            let current = credential.state();
            for state in CREDENTIAL_STATES {
                let labels = [("partner", &**name), ("state", state)];
                family.encode_family(&labels)?.encode_gauge(&u32::from(state == current))?;
            }
        }

        let mut gauge = |name, help, value: &dyn Fn(&CredentialMetrics) -> Option<f64>| {
            let mut family = families.open(name, help, MetricType::Gauge)?;
            credentials.iter().try_for_each(|(name, credential)| match value(credential) {
                Some(value) => family.encode_family(&[("partner", &**name)])?.encode_gauge(&value),
                None => Ok(()),
            })
        };
        let help = "The generation of the access token that is held; each new token is one more.";
        gauge("token_generation", help, &|credential| Some(credential.generation() as f64))?;
        let help = "1 if the token pair that is held is in the store, 0 if it would be lost.";
        gauge("token_persisted", help, &|credential| Some(f64::from(credential.persisted())))?;
        let help = "When the access token that is held expires, since 1970.";
        gauge("token_expiration_timestamp_seconds", help, &CredentialMetrics::expiration)?;
        let help = "When the last new token arrived, since 1970.";
        gauge("token_refresh_timestamp_seconds", help, &CredentialMetrics::refreshed)?;

        let help = "Refresh and login calls, by how they ended.";
        let mut family = families.open("token_refreshes", help, MetricType::Counter)?;
        for (name, credential) in &credentials {
            for (result, count) in credential.refreshes() {
                counter(&mut family.encode_family(&[("partner", &**name), ("result", result)])?, count)?;
            }
        }
        let help = "Refresh and login calls that brought no token, by reason.";
        let mut family = families.open("token_refresh_failures", help, MetricType::Counter)?;
        for (name, credential) in &credentials {
            for (reason, count) in credential.failures() {
                counter(&mut family.encode_family(&[("partner", &**name), ("reason", reason)])?, count)?;
            }
        }
        let help = "How long refresh and login calls took.";
        let mut family = families.open("token_refresh_duration_seconds", help, MetricType::Histogram)?;
        for (name, credential) in &credentials {
            let mut totals = Totals::default();
            totals.add(&credential.duration);
            histogram(&mut family.encode_family(&[("partner", &**name)])?, &totals)?;
        }
        Ok(())
    }

    fn exchanges(&self, families: &mut Families<'_>) -> fmt::Result {
        let mut partners: BTreeMap<Box<str>, ExchangeTotals> = BTreeMap::new();
        for shard in lock(&self.shards).iter() {
            for (name, exchange) in shard.partners() {
                partners.entry(name).or_default().add(&exchange);
            }
        }

        let help = "Requests that a partner answered with 401, by what became of them.";
        let mut family = families.open("replays", help, MetricType::Counter)?;
        // A partner that has had no request yet is not among those of a shard.
        let credentials = lock(&self.credentials);
        let names: BTreeSet<&str> = credentials.keys().chain(partners.keys()).map(|name| &**name).collect();
        for name in names.into_iter().filter(|name| *name != super::NO_PARTNER) {
            let replays = partners.get(name).map(|totals| totals.replays).unwrap_or_default();
            for (result, count) in ReplayResult::ALL.iter().zip(replays) {
                let labels = [("partner", name), ("result", result.as_str())];
                counter(&mut family.encode_family(&labels)?, count)?;
            }
        }
        drop(credentials);

        let mut by_class = |name, help, side: fn(&ExchangeTotals) -> &[Totals; CLASSES.len()]| {
            let mut family = families.open(name, help, MetricType::Histogram)?;
            for (name, totals) in &partners {
                for (code, totals) in CLASSES.iter().zip(side(totals)).filter(|(_, t)| t.count() > 0) {
                    let labels = [("partner", &**name), ("code", code)];
                    histogram(&mut family.encode_family(&labels)?, totals)?;
                }
            }
            Ok(())
        };
        let help = "How long exchanges with applications took, by class of the answer's status.";
        by_class("http_server_request_duration_seconds", help, |totals| &totals.server)?;
        let help = "How long exchanges with partners took, by class of the answer's status.";
        by_class("http_client_request_duration_seconds", help, |totals| &totals.client)
    }
}

/// Opens one family after the other.
struct Families<'a>(DescriptorEncoder<'a>);

impl Families<'_> {
    fn open<'s>(
        &'s mut self,
        name: &'s str,
        help: &str,
        kind: MetricType,
    ) -> Result<MetricEncoder<'s>, fmt::Error> {
        self.0.encode_descriptor(name, help, None, kind)
    }
}

fn counter(encoder: &mut MetricEncoder<'_>, count: u64) -> fmt::Result {
    encoder.encode_counter::<NoLabelSet, u64, u64>(&count, None)
}

fn histogram(encoder: &mut MetricEncoder<'_>, totals: &Totals) -> fmt::Result {
    encoder.encode_histogram::<NoLabelSet>(totals.seconds(), totals.count(), &totals.buckets(), None)
}
