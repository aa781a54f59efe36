//! `[[partner]]`.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use http::HeaderValue;
use toml::Spanned;
use toml::de::DeValue;

use super::context::Context;
use super::credentials::{iv, key, login, sandbox_login, seed};
use super::route::{Taken, header_value, headers, route};
use super::section::Section;
use super::sections::{DAY, MS, SECOND, below};
use super::value::{kind, quoted};
use super::{PartnerConfig, address};
use crate::listener::{self, ListenAddr};
use crate::partner::{self, BaseUrl, Scheme, Versions};
use crate::proxy;
use crate::{admin, credential, sandbox};

/// What a partner's configuration must agree with.
pub(super) struct Around<'a> {
    pub(super) server: &'a listener::Config,
    pub(super) proxy: &'a proxy::Config,
    pub(super) admin: &'a admin::Config,
    pub(super) sandbox: Option<&'a sandbox::Config>,
}

/// Reads every `[[partner]]`, in the order of the file.
pub(super) fn read_all<'c>(
    cx: &'c Context<'c>,
    root: &mut Section<'c, '_>,
    around: &Around<'_>,
) -> Vec<PartnerConfig> {
    let expected = "at least one [[partner]]";
    let tables = match root.take("partner") {
        // Moved out rather than cloned, so that secrets have no second copy.
        Some(DeValue::Array(mut tables)) => tables.iter_mut().map(take).collect(),
        Some(DeValue::Table(_)) => {
            root.wrong("partner", expected, "[partner]");
            return Vec::new();
        }
        Some(other) => {
            root.wrong("partner", expected, kind(&other));
            return Vec::new();
        }
        None => Vec::new(),
    };
    if tables.is_empty() {
        root.wrong("partner", expected, "none");
    }
    let (mut names, mut taken) = (BTreeSet::new(), Taken::default());
    let mut partners = Vec::new();
    for (index, table) in tables.into_iter().enumerate() {
        let line = cx.line(table.span().start);
        match table.into_inner() {
            DeValue::Table(table) => {
                let section = Section::partner(cx, index, line, table);
                if let Some(partner) = read(section, around, &mut names, &taken) {
                    taken.add(index, &partner.name, &partner.route);
                    partners.push(partner);
                }
            }
            other => root.wrong_at(line, "partner", expected, kind(&other)),
        }
    }
    partners
}

fn take<'i>(item: &mut Spanned<DeValue<'i>>) -> Spanned<DeValue<'i>> {
    std::mem::replace(item, Spanned::new(0..0, DeValue::Boolean(false)))
}

/// Reads one partner; `None` if something without which there is none was wrong or missing.
fn read(
    mut s: Section<'_, '_>,
    around: &Around<'_>,
    names: &mut BTreeSet<String>,
    taken: &Taken,
) -> Option<PartnerConfig> {
    let name = name(&mut s, names);
    let builtin = around.sandbox.filter(|_| name.as_deref() == Some("sandbox"));
    let base_url = base_url(&mut s, around, builtin);
    let uses_sandbox =
        matches!((&base_url, around.sandbox), (Some(url), Some(sandbox)) if is_sandbox(url, sandbox));
    let partner_code = partner_code(&mut s, builtin.is_some());
    let key = key(&mut s, builtin.is_some());
    let iv = iv(&mut s);
    let seed = seed(&mut s, builtin.is_some());
    let (mut refresh, _) = s.section("refresh");
    let (policy, repeat_on_5xx) = policy(&mut refresh);
    let connect_timeout = connect_timeout(&mut s, policy.timeout, around.proxy.request_timeout);
    let ca_file = ca_file(&mut s, base_url.as_ref());
    let versions = versions(&mut s, base_url.as_ref(), uses_sandbox);
    let (mut replay, _) = s.section("replay");
    let route = route(&mut s, &mut replay, around.proxy.replay_memory, taken);
    let headers = headers(&mut s);
    let (mut login_section, there) = s.section("login");
    let login = match there {
        true => login(&mut login_section),
        false => builtin.map(|_| sandbox_login()),
    };
    if seed.is_none() && !there && login.is_none() {
        s.remark("no refresh token and no login: needs a token in the store, or `bearerd token import`");
    }
    if !there && login.is_some() {
        login_section.remark("the sandbox's own");
    }
    for section in [s, login_section, refresh, replay] {
        section.finish();
    }
    let endpoint = partner::Config {
        name: name.clone()?,
        base_url: base_url?,
        partner_code: partner_code?,
        headers,
        key: key?,
        iv,
        login,
        connect_timeout,
        timeout: policy.timeout,
        repeat_on_5xx,
        ca_file,
    };
    Some(PartnerConfig { name: name?, seed, endpoint, policy, route, versions, uses_sandbox })
}

fn name(s: &mut Section<'_, '_>, names: &mut BTreeSet<String>) -> Option<String> {
    // It names files, labels of metrics and segments of the admin side's paths.
    const EXPECTED: &str = "1 to 63 of a-z, 0-9 and -, and no - in front";
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    let name = s.text("name", EXPECTED, |text| {
        let fits = (1..=63).contains(&text.len()) && text.bytes().all(plain) && !text.starts_with('-');
        if fits { Ok(text.to_owned()) } else { Err(quoted(text)) }
    });
    s.require("name", EXPECTED);
    let name = name?;
    s.named(&name);
    s.row("name", &name);
    if names.contains(&name) {
        s.wrong("name", "a name that no other partner has", quoted(&name));
    }
    names.insert(name.clone());
    Some(name)
}

fn base_url(
    s: &mut Section<'_, '_>,
    around: &Around<'_>,
    builtin: Option<&sandbox::Config>,
) -> Option<BaseUrl> {
    let given = s.text("base_url", address::BASE_URL, address::base_url);
    let own = builtin.filter(|_| !s.given("base_url"));
    let own = own.and_then(|sandbox| BaseUrl::parse(&format!("http://{}", sandbox.listen)).ok());
    if own.is_none() {
        s.require("base_url", address::BASE_URL);
    }
    let url = given.or(own);
    s.row("base_url", url.as_ref().map(BaseUrl::to_string).unwrap_or_default());
    let allow_plaintext = s.flag("allow_plaintext", false);
    let url = url?;
    let found = || quoted(&url.to_string());
    if let Some(sandbox) = around.sandbox {
        if !is_sandbox(&url, sandbox) {
            let expected = format!("http://{}, because there is a [sandbox]", sandbox.listen);
            s.wrong("base_url", expected, found());
        }
        return Some(url);
    }
    if url.port() == 0 {
        s.wrong("base_url", "a port from 1 to 65535", found());
    }
    if url.scheme() == Scheme::Http && !url.is_loopback() && !allow_plaintext {
        s.wrong("base_url", "https://, or allow_plaintext = true", found());
    }
    for (key, listen) in [("server.listen", &around.server.listen), ("admin.listen", &around.admin.listen)] {
        if address::leads_to(&url, listen) {
            s.wrong("base_url", "the partner", format!("bearerd's own {key} ({listen})"));
        }
    }
    Some(url)
}

fn is_sandbox(url: &BaseUrl, sandbox: &sandbox::Config) -> bool {
    url.scheme() == Scheme::Http && address::leads_to(url, &ListenAddr::Tcp(sandbox.listen))
}

fn partner_code(s: &mut Section<'_, '_>, builtin: bool) -> Option<HeaderValue> {
    const EXPECTED: &str = "1 to 256 visible ASCII characters";
    const MAX: usize = 256;
    let code = s.text("partner_code", EXPECTED, |text| header_value(text, MAX));
    let code = match code {
        None if builtin && !s.given("partner_code") => Some(HeaderValue::from_static(sandbox::PARTNER_CODE)),
        code => code,
    };
    if code.is_none() {
        s.require("partner_code", EXPECTED);
    }
    let shown = code.as_ref().and_then(|code| code.to_str().ok()).unwrap_or_default().to_owned();
    s.row("partner_code", shown);
    code
}

/// `[partner.refresh]`: the policy, and `repeat_on_5xx`.
fn policy(s: &mut Section<'_, '_>) -> (credential::Policy, bool) {
    const MAX_TIMEOUT: Duration = Duration::from_secs(300);
    // What every lifetime is clamped to.
    const MAX_LIFETIME: Duration = Duration::from_secs(30 * 24 * 3600);
    let ahead = s.duration("ahead", Duration::ZERO..=DAY, 300 * SECOND);
    let timeout = s.duration("timeout", MS..=MAX_TIMEOUT, 10 * SECOND);
    let grace = s.duration("grace", Duration::ZERO..=DAY, Duration::ZERO);
    let repeat_on_5xx = s.flag("repeat_on_5xx", true);
    let default_lifetime = s.duration("default_lifetime", SECOND..=MAX_LIFETIME, 600 * SECOND);
    (credential::Policy { ahead, timeout, grace, default_lifetime }, repeat_on_5xx)
}

fn connect_timeout(s: &mut Section<'_, '_>, refresh: Duration, request: Duration) -> Duration {
    const MAX: Duration = Duration::from_secs(60);
    let default = below(5 * SECOND, refresh.min(request));
    let timeout = s.duration("connect_timeout", MS..=MAX, default);
    // It is a part of both, and would never be reached.
    for (name, whole) in [("refresh.timeout", refresh), ("server.request_timeout", request)] {
        if timeout >= whole {
            let show = humantime::format_duration;
            s.wrong("connect_timeout", format!("less than {name} ({})", show(whole)), show(timeout));
        }
    }
    timeout
}

/// `http2`: without it the partner chooses, where there is a way to choose.
fn versions(s: &mut Section<'_, '_>, url: Option<&BaseUrl>, sandbox: bool) -> Versions {
    let given = s.flag_if_given("http2");
    if sandbox && given == Some(true) {
        s.wrong("http2", "false, because the sandbox speaks HTTP/1.1", true);
    }
    let in_clear = url.is_some_and(|url| url.scheme() == Scheme::Http);
    let (versions, shown) = match given {
        Some(true) => (Versions::Http2, "true"),
        None if !in_clear => (Versions::Either, "as the partner chooses"),
        _ => (Versions::Http1, "false"),
    };
    s.row("http2", shown);
    versions
}

fn ca_file(s: &mut Section<'_, '_>, url: Option<&BaseUrl>) -> Option<PathBuf> {
    let path = s.ca_file()?;
    if url.is_some_and(|url| url.scheme() == Scheme::Http) {
        s.wrong("ca_file", "it only with https://", "base_url with http://");
    }
    Some(path)
}
