//! Where the database is: what `store.url` says.

use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use tokio_postgres::Config;
use tokio_postgres::config::{ChannelBinding, Host, SslMode, TargetSessionAttrs};

/// A database, by the hosts that may have it. One of them takes writes.
///
/// Holds the password. The library's type that it is in is not wiped on drop.
#[derive(Clone, PartialEq, Eq)]
pub struct Database {
    servers: Vec<Server>,
    name: String,
    /// PEM file of the certificate authorities to trust instead of the system's.
    pub ca_file: Option<PathBuf>,
    /// The file that the URL was in. Each session is begun with what is in it by then.
    pub url_file: Option<PathBuf>,
}

/// One host, and all that it takes to begin a session there.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Server {
    /// Has this host and no other.
    pub(super) config: Config,
    /// For messages: `host:port`, or the path of the socket's directory.
    pub(super) address: String,
}

impl Database {
    /// What a URL must be, for messages.
    pub const EXPECTED: &'static str = "a PostgreSQL URL such as postgres://bearerd@db.example:5432/bearerd";

    /// Understands `url`: a `postgres://` URL, or keys and values as libpq has them.
    ///
    /// # Errors
    ///
    /// What was found instead of [`Self::EXPECTED`]. Nothing of the URL is in it.
    pub fn parse(url: &str) -> Result<Self, &'static str> {
        if url.contains("://") && url.matches('@').count() > 1 {
            // The parser ends the password at the first, and takes what follows for the host, which
            // is shown.
            return Err("more than one @; in a user's name or a password write it %40");
        }
        let whole: Config = url.parse().map_err(|_| unreadable(url))?;
        check_session(&whole)?;
        let dbname = whole.get_dbname().ok_or("no database name")?;
        let weak = url.contains("sslmode=disable") || url.contains("sslmode=prefer");
        let servers = servers(&whole, weak)?;
        let addresses: Vec<_> = servers.iter().map(|server| server.address.as_str()).collect();
        let name = format!("{}/{}", addresses.join(","), dbname);
        if name.contains(char::is_control) {
            return Err("a control character");
        }
        Ok(Self { name, servers, ca_file: None, url_file: None })
    }

    /// Whether any of its hosts is spoken to over TLS.
    pub fn uses_tls(&self) -> bool {
        self.servers.iter().any(Server::is_tls)
    }

    /// Whether both are one database, reached in the same way. Where the URL is in a file, user and
    /// password may differ: they are read there again.
    pub fn is_same(&self, other: &Self) -> bool {
        let by_file = self.url_file.is_some()
            && self.url_file == other.url_file
            && self.ca_file == other.ca_file
            && self.is_same_place(other);
        by_file || self == other
    }

    /// Whether both lead to the same place, whoever goes there.
    pub(super) fn is_same_place(&self, other: &Self) -> bool {
        let place = |database: &Self| -> Vec<Server> {
            let servers = database.servers.iter().cloned();
            servers.map(Server::for_nobody).collect()
        };
        self.name == other.name && place(self) == place(other)
    }

    pub(super) fn servers(&self) -> &[Server] {
        &self.servers
    }
}

/// `host:port/name`, as messages have it; several hosts with commas between them.
impl fmt::Display for Database {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

impl fmt::Debug for Database {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Database({:?}, \"...\")", self.name)
    }
}

impl Server {
    pub(super) fn is_tls(&self) -> bool {
        self.config.get_ssl_mode() == SslMode::Require
    }

    /// The same without user and password.
    fn for_nobody(mut self) -> Self {
        self.config.user("").password("");
        self
    }
}

/// Why the library could not read `url`. Its own message may quote a piece of a password.
fn unreadable(url: &str) -> &'static str {
    let says = |key: &str| url.contains(&format!("{key}="));
    if url.contains("sslmode=verify-") {
        return "sslmode=verify-...; say sslmode=require: certificates and names are always verified";
    }
    if says("sslrootcert") {
        return "sslrootcert; say store.ca_file instead";
    }
    if ["sslcert", "sslkey", "sslpassword"].into_iter().any(says) {
        return "a client's certificate, which bearerd has none of; let the server ask for a password";
    }
    if LIBPQ_ONLY.into_iter().any(says) {
        return "a parameter that only libpq has, such as passfile or service; leave it out";
    }
    "one that cannot be read; special characters in a password are written %XX"
}

/// Those that people write into URLs.
const LIBPQ_ONLY: [&str; 9] = [
    "passfile",
    "service",
    "require_auth",
    "gssencmode",
    "krbsrvname",
    "client_encoding",
    "sslcrl",
    "sslsni",
    "ssl_min_protocol_version",
];

/// What is asked for of a session, and cannot be had.
fn check_session(whole: &Config) -> Result<(), &'static str> {
    if whole.get_target_session_attrs() == TargetSessionAttrs::ReadOnly {
        return Err("target_session_attrs=read-only; bearerd writes, so leave it out");
    }
    if whole.get_channel_binding() == ChannelBinding::Require {
        return Err("channel_binding=require; leave it out: the server is known by its verified certificate");
    }
    Ok(())
}

/// The hosts, each on its own. Where the URL does not say, TLS is used with those that are not on
/// this machine; `weak` is whether it says that TLS is not needed.
fn servers(whole: &Config, weak: bool) -> Result<Vec<Server>, &'static str> {
    let (hosts, addresses, ports) = (whole.get_hosts(), whole.get_hostaddrs(), whole.get_ports());
    let count = hosts.len().max(addresses.len());
    if count == 0 {
        return Err("no host; for a socket on this machine say host=/run/postgresql");
    }
    if !hosts.is_empty() && !addresses.is_empty() && hosts.len() != addresses.len() {
        return Err("as many host as hostaddr only");
    }
    if ports.len() > 1 && ports.len() != count {
        return Err("another number of ports than of hosts");
    }
    let server = |i: usize| {
        let port = ports.get(i).or_else(|| ports.first()).copied().unwrap_or(5432);
        server(whole, hosts.get(i), addresses.get(i).copied(), port, weak)
    };
    (0..count).map(server).collect()
}

fn server(
    whole: &Config,
    host: Option<&Host>,
    address: Option<IpAddr>,
    port: u16,
    weak: bool,
) -> Result<Server, &'static str> {
    let mut config = session(whole);
    config.port(port);
    if let Some(Host::Unix(dir)) = host {
        // PostgreSQL has no TLS on a socket of this machine, and needs none.
        config.host_path(dir).ssl_mode(SslMode::Disable);
        let address = format!("{}:{port}", dir.display());
        return Ok(Server { config, address });
    }
    let name = match (host, address) {
        (Some(Host::Tcp(name)), _) => name.clone(),
        (_, Some(address)) => address.to_string(),
        _ => return Err("no host"),
    };
    if !is_host(&name) {
        return Err("a host with a character that no host's name has");
    }
    // What is verified is the name, so there always is one.
    config.host(&name);
    if let Some(address) = address {
        config.hostaddr(address);
    }
    let local = address.or_else(|| name.parse().ok()).map_or(name == "localhost", is_loopback);
    let tls = whole.get_ssl_mode() == SslMode::Require || !local;
    if tls && weak {
        return Err("sslmode=disable or prefer towards another machine; say sslmode=require");
    }
    config.ssl_mode(if tls { SslMode::Require } else { SslMode::Disable });
    let address = if name.contains(':') { format!("[{name}]:{port}") } else { format!("{name}:{port}") };
    Ok(Server { config, address })
}

/// Everything about a session but its host.
fn session(whole: &Config) -> Config {
    let mut config = Config::new();
    if let Some(user) = whole.get_user() {
        config.user(user);
    }
    if let Some(password) = whole.get_password() {
        config.password(password);
    }
    if let Some(dbname) = whole.get_dbname() {
        config.dbname(dbname);
    }
    if let Some(options) = whole.get_options() {
        config.options(options);
    }
    config
        .application_name("bearerd")
        .ssl_negotiation(whole.get_ssl_negotiation())
        .channel_binding(ChannelBinding::Disable)
        // A name may have several addresses, and the one that swallows packets must leave the next
        // its turn within the time for all of it.
        .connect_timeout(Duration::from_secs(1))
        .tcp_user_timeout(Duration::from_secs(5))
        .keepalives_idle(Duration::from_secs(5))
        .keepalives_interval(Duration::from_secs(2))
        .keepalives_retries(2);
    config
}

fn is_loopback(address: IpAddr) -> bool {
    address.to_canonical().is_loopback()
}

/// Whether it may be a name or an address. It is shown, so what may be a piece of a password must
/// not pass for one.
fn is_host(name: &str) -> bool {
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.' | b':');
    (1..=253).contains(&name.len()) && name.bytes().all(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(url: &str) -> String {
        let database = Database::parse(url).unwrap_or_else(|found| panic!("{url}: {found}"));
        let tls: Vec<_> = database.servers.iter().map(Server::is_tls).collect();
        format!("{database} {tls:?}")
    }

    #[test]
    fn tls_is_used_beyond_this_machine_and_where_it_is_asked_for() {
        for (url, expected) in [
            ("postgres://u:p@db.example/b", "db.example:5432/b [true]"),
            ("postgresql://u@10.0.0.1:5433/b?sslmode=require", "10.0.0.1:5433/b [true]"),
            ("postgres://u:p@[2001:db8::1]/b", "[2001:db8::1]:5432/b [true]"),
            ("postgres://u:p@127.0.0.2/b", "127.0.0.2:5432/b [false]"),
            ("postgres://u:p@localhost:1/b?sslmode=disable", "localhost:1/b [false]"),
            ("postgres://u:p@[::1]/b?sslmode=prefer", "[::1]:5432/b [false]"),
            ("postgres://u:p@[::ffff:127.0.0.1]/b", "[::ffff:127.0.0.1]:5432/b [false]"),
            ("postgres://u:p@localhost/b?sslmode=require", "localhost:5432/b [true]"),
            ("postgres:///b?host=/run/postgresql", "/run/postgresql:5432/b [false]"),
            ("postgres:///b?host=/run/pg&sslmode=require", "/run/pg:5432/b [false]"),
            ("postgres://u@%2Frun%2Fpg/b", "/run/pg:5432/b [false]"),
            ("postgres://u@one:1,two/b", "one:1,two:5432/b [true, true]"),
            ("host=one,localhost port=6000 dbname=b user=u", "one:6000,localhost:6000/b [true, false]"),
            ("host=db.example hostaddr=127.0.0.1 dbname=b", "db.example:5432/b [false]"),
            ("host=localhost hostaddr=10.0.0.1 dbname=b", "localhost:5432/b [true]"),
            ("hostaddr=10.0.0.1 dbname=b", "10.0.0.1:5432/b [true]"),
            ("postgres://u:p%40s%2Fs@h/b?target_session_attrs=any", "h:5432/b [true]"),
        ] {
            assert_eq!(shown(url), expected, "{url}");
        }
    }

    #[test]
    fn what_cannot_be_used_is_refused_with_the_remedy() {
        for (url, found) in [
            ("", "no database name"),
            ("postgres://h", "no database name"),
            ("postgres:///b", "no host;"),
            ("postgres://u:p@h/b?sslmode=disable", "say sslmode=require"),
            ("postgres://u:p@h/b?sslmode=prefer", "say sslmode=require"),
            ("postgres://u:p@localhost,h/b?sslmode=prefer", "say sslmode=require"),
            ("postgres://u:p@h/b?sslmode=verify-full", "say sslmode=require"),
            ("postgres://u:p@h/b?sslrootcert=/x", "store.ca_file"),
            ("postgres://u:p@h/b?sslkey=/x", "client's certificate"),
            ("postgres://u:p@h/b?passfile=/x", "only libpq"),
            ("postgres://u:p@h/b?channel_binding=require", "leave it out"),
            ("postgres://u:p@h/b?target_session_attrs=read-only", "leave it out"),
            ("host=a,b hostaddr=10.0.0.1 dbname=b", "as many"),
            ("host=a,b,c port=1,2 dbname=b", "number of ports"),
            ("postgres://u:p@ss@h/b", "%40"),
            ("postgres://u:pa(ss/b", "cannot be read"),
            ("postgres://pa(ss/b", "character"),
            ("mysql://u:p@h/b", "cannot be read"),
        ] {
            let refused = Database::parse(url).err().unwrap_or_else(|| panic!("{url} is taken"));
            assert!(refused.contains(found), "{url}: {refused}");
        }
    }

    #[test]
    fn with_a_file_another_user_and_password_are_no_other_database() {
        let database = |url: &str, file: Option<&str>| {
            let parsed = Database::parse(url).unwrap();
            Database { url_file: file.map(PathBuf::from), ..parsed }
        };
        let same =
            |one: &str, other: &str, file: Option<&str>| database(one, file).is_same(&database(other, file));
        let url = "postgres://u:p@h,i/b";
        assert!(same(url, url, None) && same(url, url, Some("url")));
        for other in ["postgres://u:q@h,i/b", "postgres://v:q@h,i/b", "postgres://u@h,i/b"] {
            assert!(same(url, other, Some("url")), "{other}");
            assert!(!same(url, other, None), "{other}");
        }
        for other in [
            "postgres://u:p@h/b",
            "postgres://u:p@h,i/c",
            "postgres://u:p@h,i:1/b",
            "postgres://u:p@h,i/b?options=-csearch_path%3Dc",
            "host=h,i hostaddr=10.0.0.1,10.0.0.2 dbname=b user=u password=p",
        ] {
            assert!(!same(url, other, Some("url")), "{other}");
        }
        assert!(!database(url, Some("one")).is_same(&database(url, Some("other"))));
    }

    #[test]
    fn what_is_shown_holds_neither_user_nor_password() {
        let database = Database::parse("postgres://someone:pass%20word@h/b?options=-c%20a%3Db").unwrap();
        assert_eq!(format!("{database} {database:?}"), "h:5432/b Database(\"h:5432/b\", \"...\")");
    }
}
