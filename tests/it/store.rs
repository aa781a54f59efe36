//! The store's directory: one owner, no readers, and what damage does.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};

use crate::support::config::Config;
use crate::support::gateway::Gateway;
use crate::support::partner::Partner;
use crate::support::process;
use crate::support::secrets::{MARKER, STORE_KEY};

#[test]
fn everything_in_the_store_is_the_owners_alone() {
    let partner = Partner::new();
    let gateway = Gateway::before(&partner);
    let mode = |path: &std::path::Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&gateway.dir.file("state")), 0o700);
    for entry in fs::read_dir(gateway.dir.file("state")).unwrap() {
        let path = entry.unwrap().path();
        assert_eq!(mode(&path), 0o600, "{}", path.display());
    }
    assert!(!gateway.dir.records().is_empty());
}

#[test]
fn a_second_bearerd_on_the_same_store_says_so_and_ends() {
    let partner = Partner::new();
    let gateway = Gateway::before(&partner);
    let second = process::run(gateway.dir.path(), &["run", "--config", "config.toml"]);
    assert_eq!(second.code, Some(1), "{}", second.stderr);
    assert!(second.stderr.contains("in use by another bearerd"), "{}", second.stderr);
    assert_eq!(partner.refreshes(), 1);
    assert_eq!(gateway.get("/x").status, 200);
}

#[test]
fn with_a_key_nothing_in_the_store_can_be_read() {
    let partner = Partner::new();
    let config = Config::to(&partner).set("store.key_file", "store.key").with_file("store.key", STORE_KEY);
    let mut gateway = Gateway::start(&config);
    for path in gateway.dir.records() {
        let content = String::from_utf8_lossy(&fs::read(&path).unwrap()).into_owned();
        assert!(!content.contains(MARKER), "{}", path.display());
    }
    gateway.restart();
    gateway.await_ready();
    assert_eq!((partner.refreshes(), gateway.generation()), (1, 1));
}

#[test]
fn s12_a_wrong_key_is_a_clear_error_and_touches_nothing() {
    let partner = Partner::new();
    let config = Config::to(&partner).set("store.key_file", "store.key").with_file("store.key", STORE_KEY);
    let mut gateway = Gateway::start(&config);
    gateway.stop();
    let before: Vec<_> = gateway.dir.records().iter().map(|path| fs::read(path).unwrap()).collect();
    gateway.dir.write("store.key", "ab".repeat(32));
    let ended = gateway.restart_in_vain();
    assert_eq!(ended.code, Some(1), "{}", ended.stderr);
    assert!(ended.stderr.starts_with("bearerd: "), "{}", ended.stderr);
    let after: Vec<_> = gateway.dir.records().iter().map(|path| fs::read(path).unwrap()).collect();
    assert!(before == after);
    gateway.dir.write("store.key", STORE_KEY);
    gateway.restart();
    gateway.await_ready();
    assert_eq!(partner.refreshes(), 1);
}

#[test]
fn s12_the_previous_key_still_opens() {
    let partner = Partner::new();
    let config = Config::to(&partner).set("store.key_file", "store.key").with_file("store.key", STORE_KEY);
    let mut gateway = Gateway::start(&config);
    gateway.stop();
    let config = config
        .set("store.previous_key_file", "old.key")
        .with_file("old.key", STORE_KEY)
        .with_file("store.key", &"ab".repeat(32));
    config.write_to(&gateway.dir);
    gateway.restart();
    gateway.await_ready();
    assert_eq!(partner.refreshes(), 1);
    partner.revoke_access();
    assert_eq!(gateway.get("/x").status, 200);
    gateway.stop();
    config.unset("store.previous_key_file").write_to(&gateway.dir);
    gateway.restart();
    gateway.await_ready();
    assert_eq!((partner.refreshes(), gateway.generation()), (2, 2));
}

#[test]
fn s10_a_damaged_newest_record_leaves_the_one_before_to_serve() {
    let partner = Partner::new();
    let mut gateway = Gateway::before(&partner);
    partner.revoke_access();
    assert_eq!(gateway.get("/x").status, 200);
    gateway.kill9();
    let newest = gateway.dir.records().pop().unwrap();
    let mut content = fs::read(&newest).unwrap();
    let middle = content.len() / 2;
    content[middle] ^= 0x10;
    fs::write(&newest, content).unwrap();
    gateway.restart();
    // The refresh token of the older record may be spent, and here it is; its access token was
    // revoked, so there is nothing left to lose.
    gateway.get("/x");
    assert!(gateway.is_running());
    assert_ne!(gateway.of_partner("state"), "valid");
    let aside = fs::read_dir(gateway.dir.file("state")).unwrap().count();
    assert!(aside >= 2, "the damaged record is kept aside");
}

#[test]
fn s10_where_no_record_is_intact_bearerd_refuses_to_start_and_says_what_to_do() {
    let partner = Partner::new();
    let mut gateway = Gateway::before(&partner);
    gateway.stop();
    for path in gateway.dir.records() {
        let content = fs::read(&path).unwrap();
        fs::write(&path, &content[..content.len() / 2]).unwrap();
    }
    let ended = gateway.restart_in_vain();
    assert_eq!(ended.code, Some(1), "{}", ended.stderr);
    assert!(ended.stderr.contains("state"), "names the file: {}", ended.stderr);
    assert_eq!(partner.refreshes(), 1);
}

#[test]
fn s13_records_that_others_could_read_or_replace_are_refused() {
    let partner = Partner::new();
    let mut gateway = Gateway::before(&partner);
    gateway.stop();
    let newest = gateway.dir.records().pop().unwrap();
    fs::set_permissions(&newest, fs::Permissions::from_mode(0o644)).unwrap();
    let ended = gateway.restart_in_vain();
    assert_eq!(ended.code, Some(1), "{}", ended.stderr);
    assert!(ended.stderr.contains(newest.file_name().unwrap().to_str().unwrap()), "{}", ended.stderr);

    let moved = gateway.dir.file("elsewhere");
    fs::rename(&newest, &moved).unwrap();
    fs::set_permissions(&moved, fs::Permissions::from_mode(0o600)).unwrap();
    symlink(&moved, &newest).unwrap();
    let ended = gateway.restart_in_vain();
    assert_eq!(ended.code, Some(1), "{}", ended.stderr);
    assert_eq!(partner.refreshes(), 1);
}

#[test]
fn s09_a_store_that_cannot_be_made_is_noticed_before_a_token_is_spent() {
    let partner = Partner::new();
    let dir = crate::support::config::Dir::new();
    Config::to(&partner).set("store.path", "blocked/state").with_file("blocked", "a file").write_to(&dir);
    let ended = process::run(dir.path(), &["run", "--config", "config.toml"]);
    assert_eq!(ended.code, Some(1), "{}", ended.stderr);
    assert!(ended.stderr.contains("blocked"), "{}", ended.stderr);
    assert_eq!(partner.refreshes(), 0);
}

#[test]
fn s14_old_records_do_not_pile_up() {
    let partner = Partner::new();
    let gateway = Gateway::start(&Config::to(&partner).with_admin_socket());
    let request = crate::support::client::Request::post("/partners/acme/refresh", "");
    let mut counts = Vec::new();
    for round in 2..=20 {
        gateway.admin(&request);
        gateway.await_generation(round);
        counts.push(gateway.dir.records().len());
    }
    assert_eq!(counts[9], counts[18], "{counts:?}");
    partner.assert_no_spent_token_seen();
}
