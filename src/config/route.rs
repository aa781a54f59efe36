//! Which requests are for a partner, and what is put on them.

use std::collections::HashMap;

use http::{HeaderName, HeaderValue};
use toml::de::DeValue;

use super::address;
use super::section::Section;
use super::value::{kind, quoted, shape, shown, size_shown};
use crate::proxy::{self, HostPattern};

/// Which partner, by its number, has which path prefix on which host; `None` stands for any host.
///
/// Kept, because to compare every partner with every other takes seconds where there are thousands.
#[derive(Default)]
pub(super) struct Taken(HashMap<(Option<HostPattern>, String), (usize, String)>);

impl Taken {
    /// The requests of `route` are for the `index`th partner from now on.
    pub(super) fn add(&mut self, index: usize, name: &str, route: &proxy::RouteConfig) {
        for way in ways(&route.hosts, &route.path_prefix) {
            self.0.entry(way).or_insert_with(|| (index, name.to_owned()));
        }
    }

    /// The name of the first partner for which a request to one of `hosts` may be, too.
    fn by(&self, hosts: &[HostPattern], path_prefix: &str) -> Option<&str> {
        let taken = ways(hosts, path_prefix).filter_map(|way| self.0.get(&way));
        taken.min().map(|(_, name)| name.as_str())
    }
}

/// Each of `hosts`, or any, with the prefix.
fn ways<'a>(
    hosts: &'a [HostPattern],
    path_prefix: &'a str,
) -> impl Iterator<Item = (Option<HostPattern>, String)> + 'a {
    let any = hosts.is_empty().then_some(None);
    any.into_iter().chain(hosts.iter().cloned().map(Some)).map(|host| (host, path_prefix.to_owned()))
}

/// `hosts`, `path_prefix` and `[partner.replay]`, which must tell this partner from earlier ones.
pub(super) fn route(
    s: &mut Section<'_, '_>,
    replay: &mut Section<'_, '_>,
    memory: usize,
    taken: &Taken,
) -> proxy::RouteConfig {
    const MAX_LIMIT: usize = 1 << 30;
    let hosts = hosts(s);
    let path_prefix = s.text("path_prefix", address::PREFIX, address::path_prefix);
    let path_prefix = path_prefix.unwrap_or_else(|| "/".to_owned());
    s.row("path_prefix", &path_prefix);
    s.choice("auth_calls", "deny", &[("deny", ())]);
    if let Some(other) = taken.by(&hosts, &path_prefix) {
        let key = if s.given("path_prefix") { "path_prefix" } else { "hosts" };
        let expected = format!("hosts and path_prefix to differ from those of partner \"{other}\"");
        s.wrong(key, expected, "the same");
    }
    let replay_limit = replay.size("limit", MAX_LIMIT, memory.min(64 << 10));
    if replay_limit > memory {
        let expected = format!("at most server.replay_memory ({})", size_shown(memory));
        replay.wrong("limit", expected, size_shown(replay_limit));
    }
    proxy::RouteConfig { hosts, path_prefix, replay_limit }
}

fn hosts(s: &mut Section<'_, '_>) -> Vec<HostPattern> {
    let mut hosts: Vec<HostPattern> = Vec::new();
    match s.take("hosts") {
        None => {}
        Some(DeValue::Array(items)) => {
            for item in items.iter() {
                let host = match item.get_ref() {
                    DeValue::String(text) => address::host(text),
                    other => Err(shown(other)),
                };
                match host {
                    Ok(host) if hosts.contains(&host) => {}
                    Ok(host) => hosts.push(host),
                    Err(found) => s.wrong_at(s.cx.line(item.span().start), "hosts", address::HOST, found),
                }
            }
        }
        Some(other) => s.wrong("hosts", "a list of hosts such as [\"api.example.com\"]", shown(&other)),
    }
    let list: Vec<String> = hosts.iter().map(ToString::to_string).collect();
    s.row("hosts", if list.is_empty() { "any".to_owned() } else { list.join(", ") });
    hosts
}

/// `headers`, in the order of the file.
pub(super) fn headers(s: &mut Section<'_, '_>) -> Vec<(HeaderName, HeaderValue)> {
    const MAX: usize = 8 * 1024;
    let (mut table, _) = s.section("headers");
    let mut headers: Vec<(HeaderName, HeaderValue)> = Vec::new();
    for (key, line, value) in table.take_rest() {
        let Ok(name) = HeaderName::from_bytes(key.as_bytes()) else {
            s.wrong_at(line, "headers", "names of headers", quoted(&key));
            continue;
        };
        if is_managed(&name) {
            s.wrong_at(line, "headers", "only headers that bearerd does not set itself", quoted(&key));
            continue;
        }
        if headers.iter().any(|(known, _)| *known == name) {
            s.wrong_at(line, "headers", "every header once", format!("{} again", quoted(&key)));
            continue;
        }
        let value = match &value {
            DeValue::String(text) => header_value(text, MAX),
            other => Err(kind(other).to_owned()),
        };
        match value {
            Ok(mut value) => {
                value.set_sensitive(true);
                s.row(&format!("headers.{}", quoted(&key).trim_matches('"')), "\"...\"");
                headers.push((name, value));
            }
            Err(found) => {
                let key = format!("headers.{}", quoted(&key).trim_matches('"'));
                s.wrong_at(line, &key, "visible ASCII characters", found);
            }
        }
    }
    headers
}

/// A value that goes on the wire as it is. Says nothing of it but its shape.
pub(super) fn header_value(text: &str, max: usize) -> Result<HeaderValue, String> {
    let visible = |b: u8| (b' '..=b'~').contains(&b);
    let odd = text.bytes().filter(|b| !visible(*b)).count();
    let found = shape(text);
    if !found.ends_with("characters") || text.len() > max {
        return Err(found);
    }
    if odd > 0 {
        return Err("a character that is not visible ASCII".to_owned());
    }
    HeaderValue::from_str(text).map_err(|_| found)
}

/// Headers that bearerd sets, removes or passes on by rules of its own.
fn is_managed(name: &HeaderName) -> bool {
    const MANAGED: [&str; 12] = [
        "authorization",
        "connection",
        "content-length",
        "expect",
        "host",
        "keep-alive",
        "partner-code",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
        "via",
    ];
    MANAGED.contains(&name.as_str()) || name.as_str().starts_with("proxy-")
}
