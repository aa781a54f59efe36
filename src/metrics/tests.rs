//! The exposition as a scraper reads it.

use std::time::Duration;

use super::*;

/// One sample: its name, its labels in order, its value.
#[derive(Debug)]
struct Sample {
    name: String,
    labels: BTreeMap<String, String>,
    value: f64,
}

/// What a scrape returned.
struct Scrape {
    /// The type of each family.
    types: BTreeMap<String, String>,
    samples: Vec<Sample>,
}

impl Scrape {
    /// A strict reader of the OpenMetrics text format, as far as it is used here.
    fn of(metrics: &Metrics) -> Self {
        let text = metrics.encode();
        let body = text.strip_suffix("# EOF\n").expect("the end is marked");
        let mut scrape = Self { types: BTreeMap::new(), samples: Vec::new() };
        let mut family = String::new();
        for line in body.lines() {
            if let Some(line) = line.strip_prefix("# HELP ") {
                assert!(line.split_once(' ').is_some_and(|(_, help)| help.ends_with('.')), "{line}");
            } else if let Some(line) = line.strip_prefix("# TYPE ") {
                let (name, kind) = line.split_once(' ').unwrap();
                assert!(scrape.types.insert(name.into(), kind.into()).is_none(), "{name} occurs twice");
                family = name.into();
            } else {
                assert!(!line.starts_with('#'), "{line}");
                let sample = Self::sample(line);
                let suffix = sample.name.strip_prefix(&family).expect("a sample follows its family");
                let allowed: &[&str] = match scrape.types[&family].as_str() {
                    "counter" => &["_total"],
                    "gauge" => &[""],
                    "info" => &["_info"],
                    "histogram" => &["_bucket", "_sum", "_count"],
                    other => panic!("type {other}"),
                };
                assert!(allowed.contains(&suffix), "{line}");
                scrape.samples.push(sample);
            }
        }
        scrape
    }

    fn sample(line: &str) -> Sample {
        let (series, value) = line.rsplit_once(' ').unwrap();
        let (name, labels) = match series.split_once('{') {
            Some((name, rest)) => (name, rest.strip_suffix('}').unwrap()),
            None => (series, ""),
        };
        let labels = labels
            .split(',')
            .filter(|label| !label.is_empty())
            .map(|label| label.split_once('=').unwrap())
            .map(|(key, value)| {
                let value = value.strip_prefix('"').and_then(|value| value.strip_suffix('"')).unwrap();
                (key.to_owned(), value.to_owned())
            })
            .collect();
        Sample { name: name.to_owned(), labels, value: value.parse().unwrap() }
    }

    /// The one sample of this name that has at least these labels.
    fn value(&self, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
        let mut found = self.samples.iter().filter(|sample| {
            let has = |(key, value): &(&str, &str)| sample.labels.get(*key).is_some_and(|v| v == value);
            sample.name == name && labels.iter().all(has)
        });
        let first = found.next();
        assert!(found.next().is_none(), "{name} with {labels:?} is not one series");
        first.map(|sample| sample.value)
    }
}

/// Every metric has happened at least once.
fn everything() -> Arc<Metrics> {
    let metrics = Metrics::new("1.2.3");
    let credential = metrics.credential("acme");
    credential.set_state("valid");
    credential.set_generation(7);
    credential.set_expiration(Some(1_700_000_000.5));
    credential.set_refreshed(1_699_999_000.0);
    credential.refresh_ended("renewed", Duration::from_millis(30));
    credential.refresh_failed("timeout");
    let shard = metrics.shard();
    let exchange = shard.partner("acme");
    exchange.server(200, Duration::from_millis(3));
    exchange.client(200, Duration::from_millis(2));
    exchange.replay(ReplayResult::Accepted);
    metrics.watch_store(Arc::default());
    metrics
}

#[test]
fn every_name_of_the_design_is_shown_and_has_its_labels() {
    let scrape = Scrape::of(&everything());
    let expected: &[(&str, &str, &[&str])] = &[
        ("bearerd_token_expiration_timestamp_seconds", "gauge", &["partner"]),
        ("bearerd_token_refresh_timestamp_seconds", "gauge", &["partner"]),
        ("bearerd_token_refreshes_total", "counter", &["partner", "result"]),
        ("bearerd_token_refresh_failures_total", "counter", &["partner", "reason"]),
        ("bearerd_token_refresh_duration_seconds", "histogram", &["partner"]),
        ("bearerd_token_generation", "gauge", &["partner"]),
        ("bearerd_token_persisted", "gauge", &["partner"]),
        ("bearerd_credential_state", "gauge", &["partner", "state"]),
        ("bearerd_replays_total", "counter", &["partner", "result"]),
        ("bearerd_http_server_request_duration_seconds", "histogram", &["code", "partner"]),
        ("bearerd_http_client_request_duration_seconds", "histogram", &["code", "partner"]),
        ("bearerd_connections", "gauge", &["side"]),
        ("bearerd_build_info", "info", &["version"]),
        ("bearerd_log_lines_dropped_total", "counter", &[]),
        ("bearerd_store_connected", "gauge", &[]),
        ("bearerd_store_sessions_total", "counter", &[]),
        ("process_cpu_seconds_total", "counter", &[]),
        ("process_resident_memory_bytes", "gauge", &[]),
        ("process_virtual_memory_bytes", "gauge", &[]),
        ("process_open_fds", "gauge", &[]),
        ("process_max_fds", "gauge", &[]),
        ("process_start_time_seconds", "gauge", &[]),
    ];
    for (name, kind, labels) in expected {
        let (family, sample) = match *kind {
            "counter" => (name.strip_suffix("_total").unwrap(), (*name).to_owned()),
            "info" => (name.strip_suffix("_info").unwrap(), (*name).to_owned()),
            "histogram" => (*name, format!("{name}_count")),
            _ => (*name, (*name).to_owned()),
        };
        assert_eq!(scrape.types.get(family).map(String::as_str), Some(*kind), "{name}");
        let sample = scrape.samples.iter().find(|s| s.name == sample).expect(name);
        assert!(sample.labels.keys().eq(labels.iter()), "{sample:?}");
    }
    assert_eq!(scrape.types.len(), expected.len(), "{:?}", scrape.types);
}

#[test]
fn the_session_with_the_database_is_shown_where_there_is_to_be_one() {
    let metrics = Metrics::new("1.2.3");
    let shown = |name: &str| Scrape::of(&metrics).value(name, &[]);
    assert_eq!((shown("bearerd_store_connected"), metrics.store_connected()), (None, None));
    let store = Arc::new(StoreMetrics::default());
    metrics.watch_store(Arc::clone(&store));
    assert_eq!((shown("bearerd_store_connected"), metrics.store_connected()), (Some(0.0), Some(false)));
    store.begun();
    assert_eq!((shown("bearerd_store_connected"), metrics.store_connected()), (Some(1.0), Some(true)));
    store.ended();
    store.begun();
    store.ended();
    assert_eq!(shown("bearerd_store_connected"), Some(0.0));
    assert_eq!(shown("bearerd_store_sessions_total"), Some(2.0));
}

#[test]
fn values_are_those_that_were_set() {
    let metrics = everything();
    let credential = metrics.credential("acme");
    credential.set_persisted(false);
    metrics.watch_dropped_lines(|| 5);
    let scrape = Scrape::of(&metrics);
    let acme = &[("partner", "acme")];
    assert_eq!(scrape.value("bearerd_build_info", &[("version", "1.2.3")]), Some(1.0));
    assert_eq!(scrape.value("bearerd_token_expiration_timestamp_seconds", acme), Some(1_700_000_000.5));
    assert_eq!(scrape.value("bearerd_token_refresh_timestamp_seconds", acme), Some(1_699_999_000.0));
    assert_eq!(scrape.value("bearerd_token_generation", acme), Some(7.0));
    assert_eq!(scrape.value("bearerd_token_persisted", acme), Some(0.0));
    assert_eq!(scrape.value("bearerd_log_lines_dropped_total", &[]), Some(5.0));
    assert_eq!(scrape.value("bearerd_token_refresh_duration_seconds_sum", acme), Some(0.03));
    let refreshes = |result| scrape.value("bearerd_token_refreshes_total", &[("result", result)]);
    assert_eq!(refreshes("renewed"), Some(1.0));
    assert_eq!(refreshes("unknown"), Some(0.0), "a counter is shown before its first increase");
    assert_eq!(scrape.value("bearerd_token_refresh_failures_total", &[("reason", "timeout")]), Some(1.0));
    let replays = |result| scrape.value("bearerd_replays_total", &[("result", result)]);
    assert_eq!((replays("accepted"), replays("budget")), (Some(1.0), Some(0.0)));
}

#[test]
fn what_is_not_known_is_not_shown() {
    let metrics = Metrics::new("1");
    metrics.credential("acme").set_expiration(None);
    let scrape = Scrape::of(&metrics);
    assert_eq!(scrape.value("bearerd_token_expiration_timestamp_seconds", &[]), None);
    assert_eq!(scrape.value("bearerd_token_refresh_timestamp_seconds", &[]), None);
    assert_eq!(scrape.value("bearerd_token_persisted", &[]), Some(1.0));
}

#[test]
fn a_credential_is_in_exactly_one_state() {
    let metrics = Metrics::new("1");
    let credential = metrics.credential("acme");
    for state in CREDENTIAL_STATES {
        credential.set_state(state);
        let scrape = Scrape::of(&metrics);
        for other in CREDENTIAL_STATES {
            let value = scrape.value("bearerd_credential_state", &[("partner", "acme"), ("state", other)]);
            assert_eq!(value, Some(if other == state { 1.0 } else { 0.0 }), "{other} in {state}");
        }
    }
}

#[test]
fn a_scrape_adds_the_shards_up() {
    let metrics = Metrics::new("1");
    let (one, two) = (metrics.shard(), metrics.shard());
    one.partner("acme").server(204, Duration::from_millis(1));
    two.partner("acme").server(200, Duration::from_secs(1));
    two.partner("acme").server(0, Duration::from_secs(1));
    two.partner(NO_PARTNER).server(404, Duration::ZERO);
    one.partner("acme").replay(ReplayResult::Held);
    two.partner("acme").replay(ReplayResult::Held);
    let guards = [one.connected(Side::Client), two.connected(Side::Client), two.connected(Side::Upstream)];

    let scrape = Scrape::of(&metrics);
    let server = "bearerd_http_server_request_duration_seconds";
    let count =
        |partner, code| scrape.value(&format!("{server}_count"), &[("partner", partner), ("code", code)]);
    assert_eq!(count("acme", "2xx"), Some(2.0));
    assert_eq!(count("acme", "none"), Some(1.0));
    assert_eq!(count("acme", "5xx"), None);
    assert_eq!(count("", "4xx"), Some(1.0));
    let acme = [("partner", "acme"), ("code", "2xx")];
    assert_eq!(scrape.value(&format!("{server}_sum"), &acme), Some(1.001));
    let bucket = |le| scrape.value(&format!("{server}_bucket"), &[acme[0], acme[1], ("le", le)]);
    assert_eq!(
        ["0.0005", "0.001", "0.5", "1.0", "60.0", "+Inf"].map(bucket),
        [0.0, 1.0, 1.0, 2.0, 2.0, 2.0].map(Some)
    );
    assert_eq!(scrape.value("bearerd_replays_total", &[("result", "held")]), Some(2.0));
    assert_eq!(scrape.value("bearerd_replays_total", &[("result", "held"), ("partner", "")]), None);
    let open = |scrape: &Scrape, side| scrape.value("bearerd_connections", &[("side", side)]);
    assert_eq!((open(&scrape, "client"), open(&scrape, "upstream")), (Some(2.0), Some(1.0)));
    drop(guards);
    let scrape = Scrape::of(&metrics);
    assert_eq!((open(&scrape, "client"), open(&scrape, "upstream")), (Some(0.0), Some(0.0)));
}

#[test]
fn statuses_fall_into_their_classes() {
    let metrics = Metrics::new("1");
    let exchange = metrics.shard().partner("acme");
    let cases = [(100, "1xx"), (299, "2xx"), (304, "3xx"), (499, "4xx"), (599, "5xx"), (0, "none")];
    for (status, _) in cases {
        exchange.client(status, Duration::ZERO);
    }
    exchange.client(600, Duration::ZERO);
    let scrape = Scrape::of(&metrics);
    for (_, code) in cases {
        let value = scrape.value("bearerd_http_client_request_duration_seconds_count", &[("code", code)]);
        assert_eq!(value, Some(if code == "none" { 2.0 } else { 1.0 }), "{code}");
    }
}

#[test]
fn a_removed_partner_disappears_and_the_others_keep_their_numbers() {
    let metrics = Metrics::new("1");
    let shard = metrics.shard();
    for name in ["acme", "globex"] {
        metrics.credential(name).refresh_ended("renewed", Duration::ZERO);
    }
    for name in ["acme", "globex", NO_PARTNER] {
        shard.partner(name).server(200, Duration::ZERO);
    }
    let removed = (metrics.credential("acme"), shard.partner("acme"));
    metrics.retain(|name| name == "globex");
    removed.0.set_generation(9);
    removed.1.server(200, Duration::ZERO);

    let text = metrics.encode();
    assert!(!text.contains("acme"), "{text}");
    let scrape = Scrape::of(&metrics);
    let refreshes = &[("partner", "globex"), ("result", "renewed")];
    assert_eq!(scrape.value("bearerd_token_refreshes_total", refreshes), Some(1.0));
    let count = "bearerd_http_server_request_duration_seconds_count";
    assert_eq!(scrape.value(count, &[("partner", "globex")]), Some(1.0));
    assert_eq!(scrape.value(count, &[("partner", "")]), Some(1.0));
}

#[test]
fn the_same_partner_gets_the_same_numbers() {
    let metrics = Metrics::new("1");
    assert!(Arc::ptr_eq(&metrics.credential("acme"), &metrics.credential("acme")));
    let shard = metrics.shard();
    assert!(Arc::ptr_eq(&shard.partner("acme"), &shard.partner("acme")));
    assert!(!Arc::ptr_eq(&shard.partner("acme"), &metrics.shard().partner("acme")));
}

#[test]
fn concurrent_increments_lose_nothing() {
    const THREADS: usize = 4;
    const EACH: usize = 5_000;
    let metrics = Metrics::new("1");
    let (shard, credential) = (metrics.shard(), metrics.credential("acme"));
    std::thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                let exchange = shard.partner("acme");
                for _ in 0..EACH {
                    exchange.server(200, Duration::from_micros(1));
                    exchange.replay(ReplayResult::NoToken);
                    credential.refresh_ended("busy", Duration::ZERO);
                    drop(shard.connected(Side::Upstream));
                }
            });
        }
        scope.spawn(|| (0..20).for_each(|_| drop(Scrape::of(&metrics))));
    });
    let scrape = Scrape::of(&metrics);
    let all = Some((THREADS * EACH) as f64);
    assert_eq!(scrape.value("bearerd_http_server_request_duration_seconds_count", &[]), all);
    assert_eq!(scrape.value("bearerd_replays_total", &[("result", "no_token")]), all);
    assert_eq!(scrape.value("bearerd_token_refreshes_total", &[("result", "busy")]), all);
    assert_eq!(scrape.value("bearerd_connections", &[("side", "upstream")]), Some(0.0));
}

#[test]
fn the_process_is_described_by_plausible_numbers() {
    let scrape = Scrape::of(&Metrics::new("1"));
    let value = |name| scrape.value(name, &[]).unwrap();
    assert!(value("process_resident_memory_bytes") > 1e5);
    assert!(value("process_virtual_memory_bytes") > value("process_resident_memory_bytes"));
    assert!(value("process_open_fds") >= 3.0);
    assert!(value("process_max_fds") >= value("process_open_fds"));
    assert!(value("process_start_time_seconds") > 1.6e9);
}

#[test]
fn every_replay_result_has_its_own_word_and_counter() {
    for (index, result) in ReplayResult::ALL.into_iter().enumerate() {
        assert_eq!(result as usize, index);
        assert_eq!(ReplayResult::ALL.iter().filter(|r| r.as_str() == result.as_str()).count(), 1);
    }
}
