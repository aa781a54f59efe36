//! What bad input on disk gets: a refusal that names the file and the remedy, and nothing touched.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

use crate::support::config::{Config, Dir};
use crate::support::gateway::Gateway;
use crate::support::partner::Partner;
use crate::support::process;
use crate::support::secrets::STORE_KEY;

/// Everything below a directory: name, mode, owner, what a link points to, and content.
type Snapshot = Vec<(PathBuf, u32, u32, Option<PathBuf>, Vec<u8>)>;

fn snapshot(dir: &Path) -> Snapshot {
    let mut all = Vec::new();
    let mut look = |path: PathBuf| {
        let about = path.symlink_metadata().unwrap();
        let content = if about.is_file() { fs::read(&path).unwrap() } else { Vec::new() };
        all.push((path.clone(), about.mode(), about.uid(), fs::read_link(&path).ok(), content));
    };
    look(dir.to_owned());
    for entry in fs::read_dir(dir).unwrap() {
        look(entry.unwrap().path());
    }
    all.sort();
    all
}

/// A store that a bearerd has used for two generations and left in good order.
struct Used {
    partner: Partner,
    config: Config,
    gateway: Gateway,
}

impl Used {
    fn new(change: impl FnOnce(Config) -> Config) -> Self {
        let partner = Partner::new();
        let config = change(Config::to(&partner));
        let mut gateway = Gateway::start(&config);
        partner.revoke_access();
        assert_eq!(gateway.get("/x").status, 200);
        gateway.stop();
        Self { partner, config, gateway }
    }

    fn dir(&self) -> &Dir {
        &self.gateway.dir
    }

    fn newest(&self) -> PathBuf {
        let mut journals: Vec<_> = fs::read_dir(self.dir().file("state"))
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .filter(|path| path.extension().is_some_and(|e| e == "journal"))
            .collect();
        // The number in the name only grows.
        journals.sort();
        journals.pop().unwrap()
    }

    /// bearerd refuses to start, names `path` and what to do, and leaves everything as it was.
    #[track_caller]
    fn assert_refused(&mut self, what: &str, path: &Path, says: &[&str]) {
        let calls = self.partner.refreshes();
        let state = self.dir().file("state");
        let before = snapshot(&state);
        let ended = self.gateway.restart_in_vain();
        assert_eq!(ended.code, Some(1), "{what}: {}", ended.stderr);
        let lines: Vec<_> = ended.stderr.lines().collect();
        assert_eq!(lines.len(), 1, "{what}: one line: {}", ended.stderr);
        assert!(lines[0].starts_with("bearerd: "), "{what}: {}", lines[0]);
        // As the configuration has it, relative to its own place.
        let named = path.strip_prefix(self.dir().path()).unwrap().to_str().unwrap();
        for part in [format!("{named}: ").as_str()].iter().chain(says) {
            assert!(lines[0].contains(part), "{what}: {part:?} is missing from {}", lines[0]);
        }
        assert!(before == snapshot(&state), "{what}: the store was touched");
        assert_eq!(self.partner.refreshes(), calls, "{what}: no token was spent");
    }

    /// With everything as it should be again, bearerd goes on from where it was.
    fn assert_mended(&mut self) {
        self.gateway.restart();
        self.gateway.await_ready();
        assert_eq!((self.gateway.get("/x").status, self.gateway.generation()), (200, 2));
        assert_eq!(self.partner.refreshes(), 2);
    }
}

#[test]
fn a_journal_without_one_intact_record_is_refused_and_kept() {
    for (what, damage) in [
        ("cut in half", (|content| content.truncate(content.len() / 2)) as fn(&mut Vec<u8>)),
        ("emptied", Vec::clear),
        ("a bit flipped", |content| *content.last_mut().unwrap() ^= 1),
        ("overwritten", |content| content.fill(0)),
        ("grown without measure", |content| content.resize(1 << 20, b' ')),
    ] {
        let mut used = Used::new(|config| config);
        for path in used.dir().records() {
            let mut content = fs::read(&path).unwrap();
            damage(&mut content);
            used.dir().write(path.strip_prefix(used.dir().path()).unwrap().to_str().unwrap(), content);
        }
        let newest = used.newest();
        let says = [
            "partner \"acme\"",
            "damaged, and no older record is intact",
            "restore it from a copy",
            "bearerd token import",
        ];
        used.assert_refused(what, &newest, &says);
    }
}

#[test]
fn the_journal_of_another_partner_is_refused_and_kept() {
    for key in [false, true] {
        let mut used = Used::new(|config| {
            let config = config.set("partner.name", "other");
            if key {
                config.set("store.key_file", "store.key").with_file("store.key", STORE_KEY)
            } else {
                config
            }
        });
        for path in used.dir().records() {
            let name = path.file_name().unwrap().to_str().unwrap().replace("other.", "acme.");
            fs::copy(&path, path.with_file_name(name)).unwrap();
            fs::remove_file(&path).unwrap();
        }
        used.config.clone().set("partner.name", "acme").write_to(used.dir());
        let newest = used.newest();
        used.assert_refused(
            "another partner's",
            &newest,
            &["another partner", "\"other\"", "move it to where it belongs"],
        );
    }
}

#[test]
fn s12_a_journal_under_another_key_or_none_is_refused_and_kept() {
    let sealed = |config: Config| config.set("store.key_file", "store.key").with_file("store.key", STORE_KEY);
    let mut used = Used::new(sealed);
    let newest = used.newest();
    used.dir().write("store.key", "ab".repeat(32));
    let says = ["sealed under another key", "store.key or store.previous_key", "bearerd token import"];
    used.assert_refused("another key", &newest, &says);
    used.config.clone().unset("store.key_file").write_to(used.dir());
    let says = ["sealed, and no store.key is configured", "configure the key it was sealed with"];
    used.assert_refused("no key", &newest, &says);
    used.config.write_to(used.dir());
    used.assert_mended();
}

#[test]
fn a_journal_of_a_later_version_is_refused_and_kept() {
    let mut used = Used::new(|config| config);
    let newest = used.newest();
    let content = fs::read(&newest).unwrap();
    let later = [b"bearerd-journal 2 ".to_vec(), b"whatever comes then\n".to_vec()].concat();
    let name = newest.strip_prefix(used.dir().path()).unwrap().to_str().unwrap().to_owned();
    used.dir().write(&name, later);
    // The record before it is intact, and must not stand in for the only live token.
    used.assert_refused("a later version", &newest, &["written by a newer bearerd", "run that version"]);
    used.dir().write(&name, content);
    used.assert_mended();
}

#[test]
fn s13_what_others_may_read_or_write_is_refused_and_kept() {
    let mut used = Used::new(|config| config);
    let (newest, state) = (used.newest(), used.dir().file("state"));
    let lock = used.dir().file("state/lock");
    let oldest =
        fs::read_dir(&state).unwrap().map(|entry| entry.unwrap().path()).filter(|p| *p != lock).min();
    for (path, mode, right) in [
        (&newest, 0o644, 0o600),
        (&newest, 0o620, 0o600),
        (&oldest.unwrap(), 0o604, 0o600),
        (&lock, 0o640, 0o600),
        (&state, 0o755, 0o700),
        (&state, 0o710, 0o700),
    ] {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
        let problem = format!("others have access to it (mode {mode:04o})");
        let named = path.strip_prefix(used.dir().path()).unwrap();
        let remedy = format!("chmod {right:o} {}", named.display());
        used.assert_refused(&format!("mode {mode:o}"), path, &[&problem, &remedy]);
        fs::set_permissions(path, fs::Permissions::from_mode(right)).unwrap();
    }
    used.assert_mended();
}

#[test]
fn s13_what_belongs_to_another_user_is_refused_and_kept() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("only root can give a file away: nothing was tested");
        return;
    }
    let mut used = Used::new(|config| config);
    let (newest, state) = (used.newest(), used.dir().file("state"));
    for path in [&newest, &state] {
        std::os::unix::fs::chown(path, Some(65534), None).unwrap();
        used.assert_refused("another user's", path, &["belongs to user 65534", "chown 0 "]);
        std::os::unix::fs::chown(path, Some(0), None).unwrap();
    }
    used.assert_mended();
}

#[test]
fn s13_symbolic_links_and_other_things_are_refused_and_kept() {
    let mut used = Used::new(|config| config);
    let (newest, state) = (used.newest(), used.dir().file("state"));
    let elsewhere = used.dir().file("elsewhere");

    fs::copy(&newest, &elsewhere).unwrap();
    fs::remove_file(&newest).unwrap();
    symlink(&elsewhere, &newest).unwrap();
    let target = fs::read(&elsewhere).unwrap();
    used.assert_refused("a link", &newest, &["is a symbolic link", "remove the link"]);
    assert!(fs::read(&elsewhere).unwrap() == target, "nor was what it points to");

    fs::remove_file(&newest).unwrap();
    fs::create_dir(&newest).unwrap();
    used.assert_refused("a directory", &newest, &["is not a regular file", "move it away"]);
    fs::remove_dir(&newest).unwrap();
    fs::copy(&elsewhere, &newest).unwrap();

    let moved = used.dir().file("moved");
    process_mv(&state, &moved);
    symlink(&moved, &state).unwrap();
    used.assert_refused("a link to the directory", &state, &["is a symbolic link", "set store.path"]);
    fs::remove_file(&state).unwrap();
    process_mv(&moved, &state);
    used.assert_mended();
}

/// Moves a directory. Not `fs::rename`, which is for the store alone.
fn process_mv(from: &Path, to: &Path) {
    assert!(std::process::Command::new("mv").args([from, to]).status().unwrap().success());
}

#[test]
fn a_seed_file_may_end_in_a_newline_and_must_hold_one_token() {
    let partner = Partner::new();
    let seed = partner.seed();
    for (what, content) in [
        ("empty", String::new()),
        ("a newline alone", "\n".to_owned()),
        ("two lines", format!("{seed}\n{seed}\n")),
        ("an empty line in front", format!("\n{seed}")),
        ("a space within", format!("{seed} x")),
        ("no token", "caf\u{e9}".to_owned()),
    ] {
        let dir = Dir::new();
        Config::to(&partner).with_file("acme.seed", &content).write_to(&dir);
        let ended = process::run(dir.path(), &["run", "--config", "config.toml"]);
        assert_eq!(ended.code, Some(64), "{what}: {}", ended.stderr);
        assert!(ended.stderr.contains("refresh_token"), "{what}: {}", ended.stderr);
        assert!(!dir.file("state").exists(), "{what}");
    }
    assert_eq!(partner.refreshes(), 0);
    let gateway = Gateway::start(&Config::to(&partner).with_file("acme.seed", &format!("{seed}\n")));
    assert_eq!((gateway.get("/x").status, partner.refreshes()), (200, 1));
}
