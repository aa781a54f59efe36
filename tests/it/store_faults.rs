//! A disk that is full, broken or read-only, under the real binary.

use std::collections::HashSet;
use std::fs;
use std::path::Path;

use crate::support::client::Request;
use crate::support::config::{Config, Dir};
use crate::support::eventually;
use crate::support::gateway::Gateway;
use crate::support::partner::Partner;
use crate::support::process;
use crate::support::strace::{Call, Strace};
use crate::support::tmpfs::Tmpfs;

/// The token in use is refused from now on, and a client finds out.
fn refresh(gateway: &Gateway, partner: &Partner) {
    partner.revoke_access();
    assert_eq!(gateway.get("/x").status, 200);
}

/// From now on, until it is detached, the system calls in `inject` fail.
fn attach(gateway: &Gateway, inject: &str) -> Strace {
    Strace::attach_all(gateway.pid(), &[inject], &gateway.dir.file("strace"))
}

fn persisted(gateway: &Gateway) -> Option<f64> {
    gateway.metric("bearerd_token_persisted", &[("partner", "acme")])
}

fn failed_saves(gateway: &Gateway) -> usize {
    let failed = |line: &&serde_json::Value| line["message"] == "the credential could not be saved";
    gateway.log_lines().iter().filter(failed).count()
}

/// The records in `dir`, by name.
fn records(dir: &Path) -> Vec<(String, Vec<u8>)> {
    let mut records: Vec<_> = fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "journal"))
        .map(|path| (path.file_name().unwrap().to_str().unwrap().to_owned(), fs::read(&path).unwrap()))
        .collect();
    records.sort();
    records
}

/// The pair of generation `generation` is in memory only, serves, and is shown as not saved.
#[track_caller]
fn assert_served_from_memory(gateway: &Gateway, partner: &Partner, generation: u64) {
    gateway.await_state("degraded");
    assert_eq!(gateway.of_partner("persisted"), false);
    assert_eq!((persisted(gateway), gateway.generation()), (Some(0.0), generation));
    assert_eq!(gateway.get("/x").status, 200);
    eventually("saving is tried again and again", || failed_saves(gateway) >= 4);
    partner.assert_no_spent_token_seen();
}

/// The pair is saved without anybody's help, and a restart goes on with it.
#[track_caller]
fn assert_saved_by_itself(gateway: &mut Gateway, partner: &Partner, generation: u64) {
    let refreshes = partner.refreshes();
    gateway.await_state("valid");
    assert_eq!((persisted(gateway), gateway.generation()), (Some(1.0), generation));
    gateway.kill9();
    gateway.restart();
    gateway.await_ready();
    assert_eq!((gateway.get("/x").status, gateway.generation()), (200, generation));
    assert_eq!(partner.refreshes(), refreshes);
    refresh(gateway, partner);
    assert_eq!(gateway.generation(), generation + 1);
    partner.assert_no_spent_token_seen();
}

#[test]
fn s07_on_a_full_disk_the_pair_serves_from_memory_until_there_is_room() {
    let partner = Partner::new();
    let disk = Tmpfs::new("64k");
    let config = Config::to(&partner).with_admin_socket().set("store.path", disk.path().to_str().unwrap());
    let mut gateway = Gateway::start(&config);
    disk.fill();
    let before = records(disk.path());
    refresh(&gateway, &partner);
    assert_served_from_memory(&gateway, &partner, 2);
    assert_eq!(records(disk.path()), before, "what was saved is untouched");
    disk.make_room();
    assert_saved_by_itself(&mut gateway, &partner, 2);
}

#[test]
fn s07_on_a_full_disk_nothing_is_spent_while_the_access_token_is_good() {
    let partner = Partner::new();
    let disk = Tmpfs::new("64k");
    let config = Config::to(&partner).with_admin_socket().set("store.path", disk.path().to_str().unwrap());
    let mut gateway = Gateway::start(&config);
    disk.fill();
    gateway.admin(&Request::post("/partners/acme/refresh", ""));
    gateway.await_state("degraded");
    assert_eq!((gateway.get("/x").status, partner.refreshes()), (200, 1));
    assert_eq!(persisted(&gateway), Some(1.0), "the pair in use is the one that was saved");
    disk.make_room();
    // The operator's refresh is made now.
    gateway.await_generation(2);
    assert_saved_by_itself(&mut gateway, &partner, 2);
}

#[test]
fn s08_a_file_whose_sync_failed_is_given_up_for_a_new_one() {
    let partner = Partner::new();
    let mut gateway = Gateway::start(&Config::to(&partner).with_admin_socket());
    let strace = attach(&gateway, "fsync:error=EIO");
    refresh(&gateway, &partner);
    assert_served_from_memory(&gateway, &partner, 2);
    let calls = strace.detach();
    let failed: Vec<_> =
        calls.iter().filter(|call| call.name == "fsync" && call.text.contains("EIO")).collect();
    assert!(failed.len() >= 4, "{calls:#?}");
    assert_no_file_is_synced_twice(&calls);
    assert_saved_by_itself(&mut gateway, &partner, 2);
}

#[test]
fn s08_a_directory_whose_sync_failed_is_a_failed_save() {
    let partner = Partner::new();
    let mut gateway = Gateway::start(&Config::to(&partner).with_admin_socket());
    // Each second one of a thread is the directory's.
    let strace = attach(&gateway, "fsync:error=EIO:when=2+2");
    refresh(&gateway, &partner);
    assert_served_from_memory(&gateway, &partner, 2);
    let calls = strace.detach();
    let failed: Vec<_> =
        calls.iter().filter(|call| call.name == "fsync" && call.text.contains("EIO")).collect();
    assert!(failed.len() >= 4, "{calls:#?}");
    assert!(failed.iter().all(|call| !call.text.contains(".tmp>")), "{failed:#?}");
    assert_no_file_is_synced_twice(&calls);
    assert_saved_by_itself(&mut gateway, &partner, 2);
}

/// A file is made anew for every save (O_EXCL) and its number is never taken twice, so its name stands
/// for its descriptor.
#[track_caller]
fn assert_no_file_is_synced_twice(calls: &[Call]) {
    let mut synced = HashSet::new();
    for call in calls.iter().filter(|call| call.name == "fsync" && call.text.contains(".tmp>")) {
        let file = call.text.split(['<', '>']).nth(1).unwrap();
        assert!(synced.insert(file), "{file} is synced twice: {calls:#?}");
    }
    assert!(synced.len() >= 4, "{calls:#?}");
}

#[test]
fn s09_a_store_that_becomes_read_only_is_as_a_full_one() {
    // A real remount is refused while the lock is open for writing.
    for inject in ["openat:error=EROFS", "renameat:error=EROFS"] {
        let partner = Partner::new();
        let mut gateway = Gateway::start(&Config::to(&partner).with_admin_socket());
        let before = records(&gateway.dir.file("state"));
        let strace = attach(&gateway, inject);
        refresh(&gateway, &partner);
        assert_served_from_memory(&gateway, &partner, 2);
        assert_eq!(records(&gateway.dir.file("state")), before, "what was saved is untouched");
        assert!(gateway.logs().contains("Read-only file system"), "{}", gateway.logs());
        strace.detach();
        assert_saved_by_itself(&mut gateway, &partner, 2);
    }
}

#[test]
fn s09_a_read_only_store_is_noticed_at_start_before_a_token_is_spent() {
    let partner = Partner::new();
    let disk = Tmpfs::new("64k");
    let path = disk.path().to_str().unwrap().to_owned();
    let dir = Dir::new();
    Config::to(&partner).set("store.path", path.as_str()).write_to(&dir);
    disk.make_read_only();
    let ended = process::run(dir.path(), &["run", "--config", "config.toml"]);
    assert_eq!(ended.code, Some(1), "{}", ended.stderr);
    assert!(ended.stderr.contains(&path) && ended.stderr.contains("Read-only"), "{}", ended.stderr);
    assert_eq!(partner.refreshes(), 0);
}

#[test]
fn s09_a_store_that_is_read_only_after_a_restart_keeps_what_it_holds() {
    let partner = Partner::new();
    let disk = Tmpfs::new("64k");
    let path = disk.path().to_str().unwrap().to_owned();
    let mut gateway = Gateway::start(&Config::to(&partner).set("store.path", path.as_str()));
    gateway.stop();
    let before = records(disk.path());
    disk.make_read_only();
    let ended = gateway.restart_in_vain();
    assert_eq!(ended.code, Some(1), "{}", ended.stderr);
    assert!(ended.stderr.contains(&path) && ended.stderr.contains("Read-only"), "{}", ended.stderr);
    assert_eq!(records(disk.path()), before);
    disk.make_writable();
    gateway.restart();
    gateway.await_ready();
    assert_eq!((partner.refreshes(), gateway.generation()), (1, 1));
}
