//! The sections that are there once: `[server]`, `[admin]`, `[log]`, `[store]`, `[sandbox]`.

use std::num::NonZeroUsize;
use std::time::Duration;

use super::context::Context;
use super::section::Section;
use super::value::quoted;
use super::{PartnerConfig, address, partner, secret, store as store_section};
use crate::listener::{self, ListenAddr};
use crate::{admin, proxy, sandbox, store, telemetry};

/// Everything that a file holds. Its parts count only if no problem was reported.
pub(super) struct Read {
    pub(super) listener: listener::Config,
    pub(super) proxy: proxy::Config,
    pub(super) admin: admin::Config,
    pub(super) log: telemetry::Config,
    pub(super) store: store::Config,
    pub(super) sandbox: Option<sandbox::Config>,
    pub(super) partners: Vec<PartnerConfig>,
}

/// Reads every section, and checks what concerns more than one.
pub(super) fn read<'c>(cx: &'c Context<'c>, root: &mut Section<'c, '_>) -> Read {
    let (listener, proxy) = server(root);
    let admin = admin(root, &listener);
    let log = log(root);
    let store = store_section::read(cx, root);
    let sandbox = sandbox(root, &listener, &admin);
    let around =
        partner::Around { server: &listener, proxy: &proxy, admin: &admin, sandbox: sandbox.as_ref() };
    let partners = partner::read_all(cx, root, &around);
    Read { listener, proxy, admin, log, store, sandbox, partners }
}

pub(super) const MS: Duration = Duration::from_millis(1);
pub(super) const SECOND: Duration = Duration::from_secs(1);
pub(super) const HOUR: Duration = Duration::from_secs(3600);
pub(super) const DAY: Duration = Duration::from_secs(24 * 3600);

/// `default` where that is less than `ceiling`, else half of the ceiling: so an operator who lowers
/// one timeout need not lower those that must be shorter.
pub(super) fn below(default: Duration, ceiling: Duration) -> Duration {
    if default < ceiling { default } else { ceiling / 2 }
}

fn server(root: &mut Section<'_, '_>) -> (listener::Config, proxy::Config) {
    const MAX_THREADS: u32 = 1024;
    const MAX_MANY: u32 = 1_000_000;
    const MAX_MEMORY: usize = 1 << 40;
    let (mut s, _) = root.section("server");
    let listen = listen(&mut s, 8080);
    let threads = s.count("threads", 0..=MAX_THREADS, 0);
    let threads = usize::try_from(threads).ok().and_then(NonZeroUsize::new).unwrap_or_else(|| {
        let cores = std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
        s.row("threads", format_args!("{cores} (one per core)"));
        cores
    });
    let max_connections = s.count("max_connections", 1..=MAX_MANY, 10_000) as usize;
    let max_in_flight = s.count("max_in_flight", 1..=MAX_MANY, 10_000) as usize;
    let header_timeout = s.duration("header_timeout", MS..=HOUR, 30 * SECOND);
    let request_timeout = s.duration("request_timeout", MS..=DAY, 60 * SECOND);
    let idle_timeout = s.duration("idle_timeout", MS..=DAY, 60 * SECOND);
    let token_timeout = s.duration("token_timeout", MS..=HOUR, below(15 * SECOND, request_timeout));
    if token_timeout >= request_timeout {
        // Else a request that waits for a token in vain would be answered 504 instead of 503.
        let show = humantime::format_duration;
        let expected = format!("less than server.request_timeout ({})", show(request_timeout));
        s.wrong("token_timeout", expected, show(token_timeout));
    }
    let drain_delay = s.duration("drain_delay", Duration::ZERO..=HOUR, Duration::ZERO);
    let drain_timeout = s.duration("drain_timeout", Duration::ZERO..=HOUR, 30 * SECOND);
    let replay_memory = s.size("replay_memory", MAX_MEMORY, 64 << 20);
    let allow_anonymous = s.flag("allow_anonymous", false);
    if !allow_anonymous && !address::is_local(&listen) {
        s.wrong("listen", "a loopback address, or allow_anonymous = true", quoted(&listen.to_string()));
    }
    let allow_browsers = s.flag("allow_browsers", false);
    s.finish();
    (
        listener::Config {
            listen,
            threads,
            max_connections,
            header_timeout,
            idle_timeout,
            drain_delay,
            drain_timeout,
        },
        proxy::Config {
            max_in_flight,
            request_timeout,
            token_timeout,
            idle_timeout,
            replay_memory,
            allow_browsers,
        },
    )
}

fn listen(s: &mut Section<'_, '_>, port: u16) -> ListenAddr {
    let cx = s.cx;
    let listen = s
        .text("listen", address::LISTEN, |text| address::listen(text, |path| cx.path(path)))
        .unwrap_or_else(|| ListenAddr::Tcp(([127, 0, 0, 1], port).into()));
    s.row("listen", &listen);
    listen
}

fn admin(root: &mut Section<'_, '_>, server: &listener::Config) -> admin::Config {
    let (mut s, _) = root.section("admin");
    let listen = listen(&mut s, 9901);
    check_apart(&s, &listen, "server.listen", &server.listen);
    let token = s.secret("token", secret::TOKEN, secret::admin_token);
    if token.is_none() && matches!(listen, ListenAddr::Tcp(_)) {
        s.remark("without a token nothing can be changed through this address");
    }
    s.finish();
    admin::Config { listen, token }
}

/// Reports `listen` if it cannot be bound beside `other`.
fn check_apart(s: &Section<'_, '_>, listen: &ListenAddr, name: &str, other: &ListenAddr) {
    if address::collide(listen, other) {
        let expected = format!("another address than {name} ({other})");
        s.wrong("listen", expected, quoted(&listen.to_string()));
    }
}

fn log(root: &mut Section<'_, '_>) -> telemetry::Config {
    use telemetry::{Access, Format};
    use tracing::Level;

    let (mut s, _) = root.section("log");
    let format = s.choice("format", "json", &[("json", Format::Json), ("text", Format::Text)]);
    let levels = [
        ("trace", Level::TRACE),
        ("debug", Level::DEBUG),
        ("info", Level::INFO),
        ("warn", Level::WARN),
        ("error", Level::ERROR),
    ];
    let level = s.choice("level", "info", &levels);
    let accesses = [("off", Access::Off), ("errors", Access::Errors), ("all", Access::All)];
    let access = s.choice("access", "errors", &accesses);
    s.finish();
    telemetry::Config {
        format: format.unwrap_or(Format::Json),
        level: level.unwrap_or(Level::INFO),
        access: access.unwrap_or(Access::Errors),
    }
}

fn sandbox(
    root: &mut Section<'_, '_>,
    server: &listener::Config,
    admin: &admin::Config,
) -> Option<sandbox::Config> {
    use sandbox::Fault;

    const MAX_DELAY: Duration = Duration::from_secs(600);
    const MAX_EVERY: u32 = 1_000_000;
    const MONTH: Duration = Duration::from_secs(30 * 24 * 3600);
    let (mut s, there) = root.section("sandbox");
    if !there {
        return None;
    }
    let default = sandbox::Config::default();
    let listen = s.text("listen", address::LISTEN_TCP, address::tcp);
    let listen = listen.unwrap_or(default.listen);
    s.row("listen", listen);
    let bound = ListenAddr::Tcp(listen);
    if !address::is_local(&bound) {
        s.wrong("listen", "a loopback address", quoted(&listen.to_string()));
    }
    check_apart(&s, &bound, "server.listen", &server.listen);
    check_apart(&s, &bound, "admin.listen", &admin.listen);
    // The wire has whole seconds for lifetimes.
    let access_lifetime = s.duration("access_lifetime", SECOND..=MONTH, default.access_lifetime);
    let refresh_lifetime = s.duration("refresh_lifetime", SECOND..=12 * MONTH, default.refresh_lifetime);
    let grace = s.duration("grace", Duration::ZERO..=DAY, default.grace);
    let refresh_delay = s.duration("refresh_delay", Duration::ZERO..=MAX_DELAY, default.refresh_delay);
    let request_delay = s.duration("request_delay", Duration::ZERO..=MAX_DELAY, default.request_delay);
    let fault_every = s.count("fault_every", 0..=MAX_EVERY, default.fault_every);
    let faults = [
        ("busy", Fault::Busy),
        ("error", Fault::Error),
        ("lost", Fault::Lost),
        ("refused", Fault::Refused),
        ("nonsense", Fault::Nonsense),
    ];
    let fault = s.choice("fault", "busy", &faults).unwrap_or(default.fault);
    s.finish();
    Some(sandbox::Config {
        listen,
        access_lifetime,
        refresh_lifetime,
        grace,
        refresh_delay,
        request_delay,
        fault_every,
        fault,
    })
}
