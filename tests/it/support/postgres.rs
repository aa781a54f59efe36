//! PostgreSQL as Debian has it: a server of the test's own, in a directory of its own.
//!
//! Nothing of it is left behind, however the test ends: a process beside it waits for that.

use std::fs::{self, File};
use std::net::TcpListener;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;
use tokio_postgres::{NoTls, SimpleQueryMessage};

use super::secrets::marked;
use super::tls::Authority;
use super::{eventually, sha256};

/// A server. It ends with the test.
pub(crate) struct Postgres {
    /// Below it are `data`, the server's directory, and its socket.
    dir: PathBuf,
    port: u16,
    server: Option<Child>,
    authority: Authority,
    databases: AtomicU32,
    guard: Guard,
    /// Keeps the port from other tests while the server is stopped.
    _port: File,
}

/// How a server is stopped.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Stop {
    /// Sessions are ended, and all is written.
    Fast,
    /// As in a crash that the server itself notices; the next start recovers.
    Immediate,
}

/// A database of the test's own, with two roles at it: `migrator`, which owns it, and `bearerd`,
/// which may connect.
#[derive(Clone)]
pub(crate) struct Database {
    pub(crate) name: String,
    port: u16,
    sockets: PathBuf,
}

impl Postgres {
    /// A server that takes connections, over TLS from who asks for it.
    pub(crate) fn start() -> Self {
        Self::start_with("ssl = on")
    }

    /// A server that has no TLS.
    pub(crate) fn start_without_tls() -> Self {
        Self::start_with("ssl = off")
    }

    fn start_with(settings: &str) -> Self {
        let dir = private_dir().keep();
        let guard = Guard::of(&dir);
        let copied = Command::new("cp").arg("-a").arg(template()).arg(dir.join("data")).status();
        assert!(copied.unwrap().success(), "the template cannot be copied");
        let (port, lock) = free_port();
        let authority = Authority::named("the database's");
        let (certificate, key) = authority.certifies(&["127.0.0.1"]);
        let data = dir.join("data");
        give(&data.join("server.crt"), &certificate);
        give(&data.join("server.key"), &key);
        give(&data.join("pg_hba.conf"), "local all all trust\nhost all all 127.0.0.1/32 scram-sha-256\n");
        give(
            &data.join("postgresql.auto.conf"),
            &format!(
                "{settings}\nport = {port}\nlisten_addresses = '127.0.0.1'\n\
                 unix_socket_directories = '{}'\n\
                 dynamic_shared_memory_type = mmap\n\
                 fsync = on\nmax_connections = 200\nshared_buffers = '16MB'\nmax_wal_size = '32MB'\n\
                 log_min_messages = info\nlog_connections = on\n",
                dir.display()
            ),
        );
        let mut postgres =
            Self { dir, port, server: None, authority, databases: AtomicU32::new(0), guard, _port: lock };
        postgres.start_again();
        let password = |role: &str| format!("CREATE ROLE {role} LOGIN PASSWORD '{}'", marked(role));
        postgres.sql(&format!("{}; {}", password("migrator"), password("bearerd")));
        postgres
    }

    /// A new, empty database.
    pub(crate) fn database(&self) -> Database {
        let name = format!("test{}", self.databases.fetch_add(1, Ordering::Relaxed));
        self.sql(&format!("CREATE DATABASE {name} OWNER migrator"));
        Database { name, port: self.port, sockets: self.dir.clone() }
    }

    /// The authority that has certified the server, in PEM.
    pub(crate) fn ca(&self) -> String {
        self.authority.pem()
    }

    /// Where all of it is.
    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// Runs `statements` as the superuser, in no test's database.
    pub(crate) fn sql(&self, statements: &str) -> Vec<Vec<Option<String>>> {
        query(&self.dir, self.port, "postgres", statements)
    }

    /// Starts a server that was stopped or killed, on the same port, and waits until it takes
    /// connections.
    pub(crate) fn start_again(&mut self) {
        assert!(self.server.is_none(), "it runs");
        // Those of a server that was killed must be gone: they hold its memory.
        eventually("the processes before gone", || self.processes().is_empty());
        let log = File::options().create(true).append(true).open(self.dir.join("log")).unwrap();
        let data = self.dir.join("data");
        let server = unprivileged(&bin().join("postgres"))
            .arg("-D")
            .arg(&data)
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        let pid = server.id().to_string();
        self.server = Some(server);
        eventually("PostgreSQL takes connections", || {
            let ended = self.server.as_mut().unwrap().try_wait().unwrap();
            assert!(ended.is_none(), "PostgreSQL has ended: {}", self.log());
            // Its first line says whose it is, the eighth how that stands.
            let about = fs::read_to_string(data.join("postmaster.pid")).unwrap_or_default();
            let (whose, how) = (about.lines().next(), about.lines().nth(7));
            whose == Some(pid.as_str()) && how.is_some_and(|how| how.trim() == "ready")
        });
    }

    /// Stops the server in an orderly way.
    pub(crate) fn stop(&mut self, how: Stop) {
        let mut server = self.server.take().unwrap();
        let signal = match how {
            Stop::Fast => Signal::INT,
            Stop::Immediate => Signal::QUIT,
        };
        kill_process(Pid::from_child(&server), signal).unwrap();
        eventually("PostgreSQL has stopped", || server.try_wait().unwrap().is_some());
    }

    /// Stops it and starts it again.
    pub(crate) fn restart(&mut self, how: Stop) {
        self.stop(how);
        self.start_again();
    }

    /// Kills the server's first process; the others notice.
    pub(crate) fn kill9(&mut self) {
        let mut server = self.server.take().unwrap();
        server.kill().unwrap();
        server.wait().unwrap();
    }

    /// Stops all of its processes where they are: connections are taken, and nothing is answered.
    pub(crate) fn pause(&self) {
        // The first one first, or else it would make new ones.
        let first = Pid::from_child(self.server.as_ref().unwrap());
        kill_process(first, Signal::STOP).unwrap();
        self.signal_all(Signal::STOP);
    }

    pub(crate) fn resume(&self) {
        self.signal_all(Signal::CONT);
    }

    /// What the server has logged.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.dir.join("log")).unwrap_or_default()
    }

    fn signal_all(&self, signal: Signal) {
        for process in self.processes() {
            // One may have ended meanwhile.
            let _gone = kill_process(process, signal);
        }
    }

    /// Those of this server: they alone have its directory as their own.
    fn processes(&self) -> Vec<Pid> {
        let data = self.dir.join("data");
        let ours =
            |entry: &fs::DirEntry| fs::read_link(entry.path().join("cwd")).is_ok_and(|cwd| cwd == data);
        let number = |entry: fs::DirEntry| entry.file_name().to_str()?.parse().ok().and_then(Pid::from_raw);
        fs::read_dir("/proc").unwrap().filter_map(Result::ok).filter(ours).filter_map(number).collect()
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("=== PostgreSQL logged ===\n{}=== end ===", self.log());
        }
        self.guard.end();
        if let Some(mut server) = self.server.take() {
            let _killed = server.wait();
        }
    }
}

impl Database {
    /// For bearerd, in clear.
    pub(crate) fn url(&self) -> String {
        self.url_of("bearerd", &marked("bearerd"))
    }

    /// For `bearerd store migrate`.
    pub(crate) fn owner_url(&self) -> String {
        self.url_of("migrator", &marked("migrator"))
    }

    pub(crate) fn url_of(&self, role: &str, password: &str) -> String {
        format!("postgres://{role}:{password}@127.0.0.1:{}/{}", self.port, self.name)
    }

    /// Through the socket, where nobody asks for a password.
    pub(crate) fn socket_url(&self, role: &str) -> String {
        format!("host={} port={} dbname={} user={role}", self.sockets.display(), self.port, self.name)
    }

    /// As messages have it.
    pub(crate) fn shown(&self) -> String {
        format!("127.0.0.1:{}/{}", self.port, self.name)
    }

    /// Runs `statements` as the superuser. The rows, as text, of the last one that has any.
    pub(crate) fn sql(&self, statements: &str) -> Vec<Vec<Option<String>>> {
        query(&self.sockets, self.port, &self.name, statements)
    }

    /// The one value that `statement` gives.
    #[track_caller]
    pub(crate) fn value(&self, statement: &str) -> Option<String> {
        let mut rows = self.sql(statement);
        assert!(rows.len() == 1 && rows[0].len() == 1, "{statement}: {rows:?}");
        rows.remove(0).remove(0)
    }

    /// What the documentation says that bearerd's role needs.
    pub(crate) fn grant(&self) {
        self.sql(
            "GRANT SELECT, INSERT, UPDATE ON bearerd_credential TO bearerd; \
             GRANT SELECT ON bearerd_migration TO bearerd",
        );
    }
}

fn query(sockets: &Path, port: u16, database: &str, statements: &str) -> Vec<Vec<Option<String>>> {
    let mut config = tokio_postgres::Config::new();
    config.host_path(sockets).port(port).user(SUPERUSER).dbname(database);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let (client, connection) = config.connect(NoTls).await.unwrap();
        let session = tokio::spawn(connection);
        let mut rows = Vec::new();
        for message in client.simple_query(statements).await.unwrap_or_else(|e| panic!("{statements}: {e:?}"))
        {
            match message {
                SimpleQueryMessage::RowDescription(_) => rows.clear(),
                SimpleQueryMessage::Row(row) => {
                    rows.push((0..row.len()).map(|column| row.get(column).map(str::to_owned)).collect());
                }
                _ => {}
            }
        }
        drop(client);
        session.await.unwrap().unwrap();
        rows
    })
}

/// Waits beside the test for its end, however that comes, and then kills what is left and removes
/// the directory.
struct Guard {
    child: Child,
    /// Closed by the system when the test's process ends.
    alive: Option<ChildStdin>,
}

impl Guard {
    fn of(dir: &Path) -> Self {
        let mut child = Command::new("sh")
            .args(["-c", CLEAN_UP, "guard"])
            .arg(dir)
            // Whoever kills the test kills its process group.
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let alive = child.stdin.take();
        Self { child, alive }
    }

    fn end(&mut self) {
        drop(self.alive.take());
        let _ended = self.child.wait();
    }
}

/// Only processes that have the directory as their own are this server's. Told to stop, they leave no
/// shared memory behind; of one that was killed the last line but one of its file says which.
const CLEAN_UP: &str = r#"
cat >/dev/null
all() {
    for process in $(find /proc/[0-9]*/cwd -maxdepth 0 -lname "$dir/data" 2>/dev/null); do
        process=${process#/proc/}
        kill "$1" "${process%/cwd}" && found=yes
    done
}
dir=$1
all -CONT
all -QUIT
for _ in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do
    found=
    all -0
    [ -n "$found" ] || break
    sleep 0.1
done
found=yes
while [ -n "$found" ]; do
    found=
    all -KILL
done
if [ -e "$dir/data/postmaster.pid" ]; then
    ipcrm -m "$(sed -n '7s/^ *[0-9]* *//p' "$dir/data/postmaster.pid")"
fi
rm -rf "$dir"
"#;

/// A cluster as `initdb` makes it, from which every other is copied: to make one takes a second.
fn template() -> PathBuf {
    let bin = bin();
    let version = Command::new(bin.join("postgres")).arg("--version").output().unwrap().stdout;
    let version = String::from_utf8(version).unwrap();
    let place = Path::new(env!("CARGO_TARGET_TMPDIR"));
    fs::create_dir_all(place).unwrap();
    let recipe = sha256(format!("{version} {INITDB:?}").as_bytes());
    let template = place.join(format!("postgres.{}", &recipe[..16]));
    // Released when it is dropped, or with the process.
    let lock = File::create(place.join("postgres.lock")).unwrap();
    lock.lock().unwrap();
    if !template.exists() {
        let dir = private_dir();
        let data = dir.path().join("data");
        let made = unprivileged(&bin.join("initdb")).arg("-D").arg(&data).args(INITDB).output().unwrap();
        assert!(made.status.success(), "initdb: {}", String::from_utf8_lossy(&made.stderr));
        let half = place.join("postgres.half");
        let _earlier = fs::remove_dir_all(&half);
        assert!(Command::new("cp").arg("-a").arg(&data).arg(&half).status().unwrap().success());
        fs::rename(&half, &template).unwrap();
    }
    template
}

/// A directory of the server's user, in memory where that can be had.
fn private_dir() -> TempDir {
    let shm = Path::new("/dev/shm");
    // A container's may have room for one server only.
    let roomy = rustix::fs::statvfs(shm).is_ok_and(|shm| shm.f_bavail * shm.f_frsize > 1 << 30);
    let dir = if roomy { TempDir::with_prefix_in(PREFIX, shm) } else { TempDir::with_prefix(PREFIX) };
    let dir = dir.unwrap();
    if rustix::process::geteuid().is_root() {
        chown(dir.path(), Some(NOBODY), Some(NOBODY)).unwrap();
    }
    dir
}

/// Writes a file of the server's user.
fn give(path: &Path, content: &str) {
    fs::write(path, content).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
    if rustix::process::geteuid().is_root() {
        chown(path, Some(NOBODY), Some(NOBODY)).unwrap();
    }
}

/// PostgreSQL refuses to run as root.
fn unprivileged(program: &Path) -> Command {
    let mut command = Command::new(program);
    // A path that this user may not enter is none to start from.
    command.current_dir("/").env_clear().env("LC_ALL", "C").env("TZ", "UTC");
    if rustix::process::geteuid().is_root() {
        command.uid(NOBODY).gid(NOBODY);
    }
    command
}

/// The newest there is. Debian puts none of them on anybody's path.
fn bin() -> PathBuf {
    let found = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().filter_map(|entry| {
        let dir = entry.ok()?.path();
        let version: u32 = dir.file_name()?.to_str()?.parse().ok()?;
        let bin = dir.join("bin");
        bin.join("initdb").exists().then_some((version, bin))
    });
    let newest = found.max().map(|(_, bin)| bin);
    newest.unwrap_or_else(|| panic!("PostgreSQL is not there; `tests/setup.sh test` installs it"))
}

/// A port that nobody listens on, and that no other test takes while the file is open. Below those
/// that the system gives to who connects, so that it is still free after a restart.
fn free_port() -> (u16, File) {
    let place = Path::new(env!("CARGO_TARGET_TMPDIR")).join("ports");
    fs::create_dir_all(&place).unwrap();
    loop {
        let port = fastrand::u16(20_000..32_000);
        let lock = File::create(place.join(port.to_string())).unwrap();
        if lock.try_lock().is_ok() && TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return (port, lock);
        }
    }
}

const INITDB: [&str; 8] = [
    "--auth=trust",
    "--username",
    SUPERUSER,
    "--encoding=UTF8",
    "--locale=C",
    "--no-sync",
    "--wal-segsize=1",
    "--no-instructions",
];
const PREFIX: &str = "bearerd-pg-";
/// Trusted on the socket, whose directory is closed to others.
const SUPERUSER: &str = "postgres";
const NOBODY: u32 = 65534;
