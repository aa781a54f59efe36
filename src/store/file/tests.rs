//! Failures are had by naming the action that fails, since root passes every permission bit.
#![allow(clippy::disallowed_methods, reason = "here the files are harmed on purpose")]

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, chown, symlink};
use std::time::Duration;

use tempfile::TempDir;

use super::*;
use crate::store::Kind;
use crate::store::testing::{key, record, shown};

/// A directory for a store, in one of its own.
struct Place {
    root: TempDir,
    config: Config,
}

impl Place {
    fn new() -> Self {
        let root = TempDir::new().unwrap();
        let config =
            Config { kind: Kind::File, path: root.path().join("state"), key: None, previous_key: None };
        Self { root, config }
    }

    fn open(&self) -> FileStore {
        FileStore::open(&self.config).unwrap()
    }

    /// Opens it once the last save of the store before is done: it holds the lock until then.
    fn open_when_free(&self) -> FileStore {
        loop {
            match FileStore::open(&self.config) {
                Err(StoreError::Locked { .. }) => std::thread::yield_now(),
                opened => break opened.unwrap(),
            }
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.config.path.join(name)
    }

    /// Saves records of these generations of `acme`, in this order.
    fn filled(generations: impl IntoIterator<Item = u64>) -> Self {
        let place = Self::new();
        place.fill(generations);
        place
    }

    fn fill(&self, generations: impl IntoIterator<Item = u64>) {
        let store = self.open();
        for generation in generations {
            save(&store, generation).unwrap();
        }
    }

    fn names(&self) -> Vec<String> {
        let mut names: Vec<_> = fs::read_dir(&self.config.path)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    fn contents(&self) -> Vec<(String, Vec<u8>)> {
        self.names().into_iter().map(|name| (name.clone(), fs::read(self.path(&name)).unwrap())).collect()
    }

    /// What `peek` and then `load` say, which must be the same.
    fn loaded(&self) -> Result<Option<(u64, bool)>, String> {
        let brief = |found: Result<Option<Loaded>, StoreError>| {
            found
                .map(|loaded| loaded.map(|l| (l.record.generation.0, l.newer_damaged)))
                .map_err(|error| error.to_string())
        };
        let before = self.contents();
        let peeked = brief(FileStore::peek(&self.config, "acme"));
        assert_eq!(self.contents(), before, "to peek changes nothing");
        let loaded = brief(load(&self.open()));
        assert_eq!(peeked, loaded);
        loaded
    }

    /// `loaded`, when it must be a refusal that leaves every byte where it was.
    fn refused(&self) -> String {
        let before = self.contents();
        let error = self.loaded().unwrap_err();
        assert_eq!(self.contents(), before);
        error
    }

    fn flip(&self, name: &str) {
        let mut content = fs::read(self.path(name)).unwrap();
        let middle = content.len() / 2;
        content[middle] ^= 1;
        fs::write(self.path(name), content).unwrap();
    }
}

fn run<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(work)
}

fn save(store: &FileStore, generation: u64) -> Result<(), StoreError> {
    run(store.save("acme", &record(generation)))
}

fn load(store: &FileStore) -> Result<Option<Loaded>, StoreError> {
    run(store.load("acme"))
}

fn journal(number: u64) -> String {
    format!("acme.{number:016x}.journal")
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

#[test]
fn what_was_saved_is_loaded_with_and_without_a_key() {
    for key in [None, Some(key(1))] {
        let mut place = Place::new();
        place.config.key = key;
        place.open();
        assert_eq!(place.loaded(), Ok(None));
        place.fill([7]);
        let loaded = load(&place.open()).unwrap().unwrap();
        assert_eq!(shown(&loaded.record), shown(&record(7)));
        assert!(!loaded.newer_damaged);
    }
}

#[test]
fn partners_do_not_see_each_other() {
    let place = Place::new();
    let store = place.open();
    run(store.save("acme", &record(1))).unwrap();
    run(store.save("acme-2", &record(2))).unwrap();
    assert_eq!(run(store.load("acme")).unwrap().unwrap().record.generation.0, 1);
    assert_eq!(run(store.load("acme-2")).unwrap().unwrap().record.generation.0, 2);
    assert!(run(store.load("acm")).unwrap().is_none());
}

#[test]
fn a_name_cannot_leave_the_directory() {
    let place = Place::new();
    let store = place.open();
    for name in ["", "..", "../acme", "/acme", "a.b", "Acme", "a\0"] {
        assert!(run(store.save(name, &record(1))).is_err(), "{name:?}");
        assert!(run(store.load(name)).is_err(), "{name:?}");
        assert!(FileStore::peek(&place.config, name).is_err(), "{name:?}");
    }
    assert_eq!(place.names(), ["lock"]);
}

#[test]
fn directories_are_made_0700_and_files_0600() {
    let mut place = Place::new();
    place.config.path = place.root.path().join("a/b/state/");
    place.fill([1]);
    for made in ["a", "a/b", "a/b/state"] {
        assert_eq!(mode(&place.root.path().join(made)), 0o700, "{made}");
    }
    for name in ["lock", &journal(1)] {
        assert_eq!(mode(&place.path(name)), 0o600, "{name}");
    }
    assert_eq!(place.names(), [&journal(1), "lock"]);
}

#[test]
fn to_peek_makes_no_directory() {
    let place = Place::new();
    assert!(FileStore::peek(&place.config, "acme").unwrap().is_none());
    assert!(!place.config.path.exists());
}

#[test]
fn a_directory_in_use_is_locked_until_its_store_is_dropped() {
    let place = Place::filled([1]);
    let store = place.open();
    let error = FileStore::open(&place.config).unwrap_err();
    assert!(matches!(&error, StoreError::Locked { path } if *path == place.path("lock")), "{error}");
    assert!(FileStore::peek(&place.config, "acme").unwrap().is_some());
    drop(store);
    place.open();
}

#[test]
fn s10_leftovers_of_a_crash_are_removed_and_never_read() {
    let place = Place::filled([1]);
    let stranger = "notes.tmp";
    for name in ["acme.00000000000000ff.tmp", "other.0000000000000001.tmp", "probe", "probe.tmp", stranger] {
        fs::write(place.path(name), fs::read(place.path(&journal(1))).unwrap()).unwrap();
    }
    assert_eq!(place.loaded(), Ok(Some((1, false))));
    assert_eq!(place.names(), [&journal(1), "lock", stranger]);
}

#[test]
fn s10_a_damaged_newest_record_gives_way_to_the_older_and_is_kept_aside() {
    for key in [None, Some(key(1))] {
        let mut place = Place::new();
        place.config.key = key;
        place.fill(1..=3);
        let harmed: [&dyn Fn(&Path); 4] = [
            &|_| place.flip(&journal(3)),
            &|path| fs::write(path, "").unwrap(),
            &|path| fs::write(path, vec![b'x'; 300 * 1024]).unwrap(),
            &|path| fs::File::options().write(true).open(path).unwrap().set_len(90).unwrap(),
        ];
        for harm in harmed {
            harm(&place.path(&journal(3)));
            let bytes = fs::read(place.path(&journal(3))).unwrap();
            assert_eq!(place.loaded(), Ok(Some((2, true))));
            let aside = format!("{}.damaged", journal(3));
            assert_eq!(place.names(), [&journal(1), &journal(2), &aside, "lock"]);
            assert_eq!(fs::read(place.path(&aside)).unwrap(), bytes);
            fs::rename(place.path(&aside), place.path(&journal(3))).unwrap();
        }
    }
}

#[test]
fn s10_damage_is_reported_until_a_save_has_made_up_for_it() {
    let place = Place::filled(1..=3);
    place.flip(&journal(3));
    place.flip(&journal(2));
    // The process dies after the first load, before it can write down that the token may be spent.
    assert_eq!(place.loaded(), Ok(Some((1, true))));
    assert_eq!(place.loaded(), Ok(Some((1, true))));
    place.fill([4]);
    assert_eq!(place.loaded(), Ok(Some((4, false))));
    assert!(place.names().contains(&journal(4)), "a number set aside is not taken again");
}

#[test]
fn s10_without_an_intact_record_the_store_is_unusable_and_untouched() {
    let place = Place::filled(1..=3);
    for number in 1..=3 {
        place.flip(&journal(number));
    }
    let error = place.refused();
    assert!(error.contains(&format!("{}: damaged", place.path(&journal(3)).display())), "{error}");
    assert!(error.contains("bearerd token import"), "{error}");
}

#[test]
fn s12_under_a_wrong_key_the_store_is_unusable_and_untouched() {
    let mut place = Place::new();
    place.config.key = Some(key(1));
    place.fill(1..=3);
    place.config.key = Some(key(2));
    place.config.previous_key = Some(key(3));
    let error = place.refused();
    assert!(error.contains("sealed under another key, or damaged"), "{error}");
    assert!(error.contains(&journal(3)) && error.contains("store.previous_key"), "{error}");

    place.config.key = None;
    place.config.previous_key = None;
    let error = place.refused();
    assert!(error.contains("sealed, and no store.key is configured"), "{error}");
}

#[test]
fn s12_a_previous_key_is_read_and_the_next_save_uses_the_new_one() {
    let mut place = Place::new();
    place.config.key = Some(key(1));
    place.fill([1]);
    place.config.key = Some(key(2));
    place.config.previous_key = Some(key(1));
    assert_eq!(place.loaded(), Ok(Some((1, false))));
    place.fill([2]);
    place.config.previous_key = None;
    assert_eq!(place.loaded(), Ok(Some((2, false))));
}

#[test]
fn s12_a_first_key_reads_records_in_clear_and_seals_the_next() {
    let mut place = Place::filled([1]);
    place.config.key = Some(key(1));
    assert_eq!(place.loaded(), Ok(Some((1, false))));
    place.fill([2]);
    assert!(fs::read(place.path(&journal(2))).unwrap().starts_with(b"bearerd-journal 1 aes-256-gcm acme 2 "));
}

#[test]
fn s12_an_older_record_does_not_stand_in_for_one_under_another_key() {
    let mut place = Place::new();
    place.config.key = Some(key(1));
    place.fill([1]);
    place.config.key = Some(key(2));
    place.fill([2]);
    // The key was changed back, and the newer key is not configured: record 2 holds the live token.
    place.config.key = Some(key(1));
    assert!(place.refused().contains(&journal(2)));
    place.config.previous_key = Some(key(2));
    assert_eq!(place.loaded(), Ok(Some((2, false))));
}

#[test]
fn s27_an_older_record_does_not_stand_in_for_one_of_a_newer_version() {
    let place = Place::filled(1..=2);
    fs::write(place.path(&journal(3)), "bearerd-journal 2 something else").unwrap();
    set_mode(&place.path(&journal(3)), 0o600);
    let error = place.refused();
    assert!(error.contains("written by a newer bearerd"), "{error}");
}

#[test]
fn the_file_of_another_partner_is_not_taken() {
    let place = Place::filled([1]);
    let other = "other.0000000000000001.journal";
    fs::copy(place.path(&journal(1)), place.path(other)).unwrap();
    let error = FileStore::peek(&place.config, "other").unwrap_err().to_string();
    assert!(error.contains(other) && error.contains("another partner, \"acme\""), "{error}");
}

#[test]
fn s13_files_that_others_can_read_are_refused() {
    // Any of them: an older record and one set aside hold tokens as well.
    let aside = format!("{}.damaged", journal(3));
    for name in [&journal(2), &journal(1), &aside] {
        let place = Place::filled(1..=2);
        fs::copy(place.path(&journal(1)), place.path(&aside)).unwrap();
        set_mode(&place.path(name), 0o644);
        let error = place.refused();
        assert!(error.contains(&format!("chmod 600 {}", place.path(name).display())), "{error}");
        assert_eq!(mode(&place.path(name)), 0o644);
    }
}

#[test]
fn s13_symbolic_links_are_refused() {
    let place = Place::filled([1]);
    fs::rename(place.path(&journal(1)), place.root.path().join("moved")).unwrap();
    symlink(place.root.path().join("moved"), place.path(&journal(1))).unwrap();
    let error = place.refused();
    assert!(error.contains(&journal(1)) && error.contains("remove the link"), "{error}");

    for end in ["", "/", "/."] {
        let mut place = Place::filled([1]);
        let link = place.root.path().join("link");
        symlink(&place.config.path, &link).unwrap();
        place.config.path = PathBuf::from(format!("{}{end}", link.display()));
        let error = FileStore::open(&place.config).unwrap_err();
        assert!(matches!(error, StoreError::Unsafe { .. }), "{error}");
        assert!(FileStore::peek(&place.config, "acme").is_err());
    }
}

#[test]
fn s13_what_is_no_file_is_refused() {
    let place = Place::filled([1]);
    fs::create_dir(place.path(&journal(2))).unwrap();
    let error = load(&place.open()).unwrap_err();
    assert!(matches!(error, StoreError::Unsafe { .. }), "{error}");

    let place = Place::new();
    fs::write(&place.config.path, "").unwrap();
    assert!(matches!(FileStore::open(&place.config), Err(StoreError::Unsafe { .. })));
}

#[test]
fn s13_a_directory_or_a_lock_that_others_can_use_is_refused() {
    let place = Place::filled([1]);
    for (path, wrong, right) in [(&place.config.path, 0o755, 0o700), (&place.path("lock"), 0o644, 0o600)] {
        set_mode(path, wrong);
        let error = FileStore::open(&place.config).unwrap_err().to_string();
        assert!(error.contains(&format!("chmod {right:o} {}", path.display())), "{error}");
        assert_eq!(mode(path), wrong);
        set_mode(path, right);
    }
    place.open();
}

#[test]
fn s13_what_belongs_to_another_user_is_refused() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("skipped: only root can give a file to another user");
        return;
    }
    let place = Place::filled([1]);
    chown(place.path(&journal(1)), Some(65534), None).unwrap();
    let error = place.refused();
    assert!(error.contains("belongs to user 65534") && error.contains(&journal(1)), "{error}");

    for path in [place.path("lock"), place.config.path.clone()] {
        chown(&path, Some(65534), None).unwrap();
        let error = FileStore::open(&place.config).unwrap_err();
        assert!(matches!(&error, StoreError::Unsafe { path: named, .. } if *named == path), "{error}");
    }
}

#[test]
fn s14_a_hundred_saves_leave_three_files() {
    let place = Place::filled(1..=100);
    assert_eq!(place.names(), [&journal(98), &journal(99), &journal(100), "lock"]);
    assert_eq!(place.loaded(), Ok(Some((100, false))));
}

#[test]
fn s14_at_most_eight_damaged_records_are_kept_and_they_are_the_newest() {
    let place = Place::new();
    place.fill([0]);
    for number in 2..=12 {
        fs::write(place.path(&journal(number)), "").unwrap();
        set_mode(&place.path(&journal(number)), 0o600);
    }
    assert_eq!(place.loaded(), Ok(Some((0, true))));
    let asides: Vec<_> = place.names().into_iter().filter(|name| name.ends_with(".damaged")).collect();
    assert_eq!(asides, (5..=12).map(|number| format!("{}.damaged", journal(number))).collect::<Vec<_>>());
}

#[test]
fn s08_a_save_that_fails_at_any_step_leaves_the_earlier_record_and_nothing_else() {
    for step in ["list", "create", "write", "sync", "rename"] {
        let place = Place::filled([1]);
        let store = place.open();
        store.shared.dir.failing.lock().unwrap().push(step);
        assert!(save(&store, 2).is_err(), "{step}");
        assert_eq!(place.names(), [&journal(1), "lock"], "{step}");
        store.shared.dir.failing.lock().unwrap().clear();
        assert_eq!(load(&store).unwrap().unwrap().record.generation.0, 1, "{step}");
        // A new file under a new number, if the number had been tried.
        save(&store, 3).unwrap();
        let tried = if step == "list" { 2 } else { 3 };
        assert_eq!(place.names(), [&journal(1), &journal(tried), "lock"], "{step}");
    }
}

#[test]
fn s11_after_a_failed_sync_of_the_directory_either_record_is_complete_and_none_was_deleted() {
    let place = Place::filled(1..=3);
    let store = place.open();
    store.shared.dir.failing.lock().unwrap().push("sync the directory");
    assert!(save(&store, 4).is_err());
    assert_eq!(place.names(), [&journal(1), &journal(2), &journal(3), &journal(4), "lock"]);
    store.shared.dir.failing.lock().unwrap().clear();
    drop(store);
    assert_eq!(place.loaded(), Ok(Some((4, false))));
    fs::remove_file(place.path(&journal(4))).unwrap();
    assert_eq!(place.loaded(), Ok(Some((3, false))));
}

#[test]
fn s11_a_crash_at_any_step_of_a_save_leaves_a_complete_record() {
    // As a crash: what the step had done stays, and nothing is cleaned up.
    for step in ["create", "write", "sync", "rename", "sync the directory"] {
        let place = Place::filled([1]);
        let store = place.open();
        store.shared.dir.failing.lock().unwrap().extend([step, "remove"]);
        assert!(save(&store, 2).is_err(), "{step}");
        drop(store);
        let expected = if step == "sync the directory" { 2 } else { 1 };
        assert_eq!(place.loaded(), Ok(Some((expected, false))), "{step}");
        assert!(!place.names().iter().any(|name| name.ends_with(".tmp")), "{step}");
    }
}

#[test]
fn a_save_is_durable_even_if_old_records_cannot_be_removed() {
    let place = Place::filled(1..=3);
    let store = place.open();
    store.shared.dir.failing.lock().unwrap().push("remove");
    save(&store, 4).unwrap();
    assert_eq!(place.names().len(), 5);
    store.shared.dir.failing.lock().unwrap().clear();
    save(&store, 5).unwrap();
    assert_eq!(place.names(), [&journal(3), &journal(4), &journal(5), "lock"]);
}

#[test]
fn a_damaged_record_that_cannot_be_set_aside_is_passed_over_all_the_same() {
    let place = Place::filled(1..=2);
    place.flip(&journal(2));
    let store = place.open();
    store.shared.dir.failing.lock().unwrap().push("rename");
    let loaded = load(&store).unwrap().unwrap();
    assert_eq!((loaded.record.generation.0, loaded.newer_damaged), (1, true));
    assert_eq!(place.names(), [&journal(1), &journal(2), "lock"]);
}

#[test]
fn s07_a_save_into_a_directory_that_is_gone_fails() {
    let place = Place::filled([1]);
    let store = place.open();
    fs::remove_dir_all(&place.config.path).unwrap();
    assert!(matches!(save(&store, 2), Err(StoreError::Io { .. })));
}

#[test]
fn a_record_too_long_to_be_read_again_is_not_saved() {
    let place = Place::filled([1]);
    let store = place.open();
    let mut long = record(2);
    long.seeds = vec![crate::token::Digest([0; 32]); 5000];
    assert!(run(store.save("acme", &long)).is_err());
    assert_eq!(load(&store).unwrap().unwrap().record.generation.0, 1);
}

#[test]
fn file_numbers_that_are_used_up_are_an_error_and_not_a_panic() {
    let place = Place::filled([1]);
    fs::rename(place.path(&journal(1)), place.path(&journal(u64::MAX))).unwrap();
    let store = place.open();
    assert!(save(&store, 2).is_err());
    assert_eq!(load(&store).unwrap().unwrap().record.generation.0, 1);
}

#[test]
fn a_save_goes_on_when_its_caller_goes_away() {
    let place = Place::filled([1]);
    let store = place.open();
    let two = record(2);
    // One poll starts it.
    run(async {
        let mut saving = store.save("acme", &two);
        std::future::poll_fn(|context| {
            let _ = saving.as_mut().poll(context);
            std::task::Poll::Ready(())
        })
        .await;
    });
    drop(store);
    let store = place.open_when_free();
    assert_eq!(load(&store).unwrap().unwrap().record.generation.0, 2);
}

#[test]
fn a_save_does_not_wait_for_one_of_another_partner() {
    let place = Place::new();
    let store = place.open();
    let acme = store.shared.progress("acme");
    let under_way = acme.lock().unwrap();
    run(store.save("globex", &record(1))).unwrap();
    drop(under_way);
    save(&store, 1).unwrap();
}

#[test]
fn a_pair_is_saved_while_more_intents_than_there_are_threads_wait_for_the_disk() {
    let place = Place::new();
    let store = Arc::new(place.open());
    let names: Vec<_> = (0..100).map(|n| format!("p{n}")).collect();
    let stuck: Vec<_> = names.iter().map(|name| store.shared.progress(name)).collect();
    let stuck: Vec<_> = stuck.iter().map(|progress| progress.lock().unwrap()).collect();
    let (intent, claim) = (record(1), Claim { timeout: Duration::from_secs(10), ordered: false });
    let mut intents: Vec<_> = names.iter().map(|name| store.begin(name, &intent, claim)).collect();
    // One poll has each under way, as far as it comes.
    run(std::future::poll_fn(|context| {
        assert!(intents.iter_mut().all(|intent| intent.as_mut().poll(context).is_pending()));
        std::task::Poll::Ready(())
    }));
    // On a thread of its own, because it might never end.
    let (done, saved) = std::sync::mpsc::channel();
    let other = Arc::clone(&store);
    let saving = std::thread::spawn(move || done.send(run(other.save("globex", &record(2))).is_ok()));
    assert_eq!(saved.recv_timeout(Duration::from_secs(30)), Ok(true));
    saving.join().unwrap().unwrap();
    drop(stuck);
    let begun = run_all(intents);
    assert!(begun.into_iter().all(|begun| matches!(begun, Ok(Begun::Go { .. }))));
    assert_eq!(place.names().len(), names.len() + 2, "theirs, that of globex and the lock");
}

/// Has all of these under way before it waits for any.
fn run_all<T>(works: Vec<BoxFuture<'_, T>>) -> Vec<T> {
    run(async {
        let mut works: Vec<_> = works.into_iter().map(Waiting::On).collect();
        std::future::poll_fn(|context| {
            for work in &mut works {
                if let Waiting::On(future) = work
                    && let std::task::Poll::Ready(result) = future.as_mut().poll(context)
                {
                    *work = Waiting::Done(result);
                }
            }
            match works.iter().all(|work| matches!(work, Waiting::Done(_))) {
                true => std::task::Poll::Ready(()),
                false => std::task::Poll::Pending,
            }
        })
        .await;
        let done = |work| if let Waiting::Done(result) = work { Some(result) } else { None };
        works.into_iter().filter_map(done).collect()
    })
}

enum Waiting<'a, T> {
    On(BoxFuture<'a, T>),
    Done(T),
}

#[test]
fn a_hundred_partners_that_save_at_once_find_what_they_saved() {
    let place = Place::new();
    let names: Vec<_> = (0..100).map(|n| format!("p{n}")).collect();
    let store = place.open();
    for generation in 1..=4 {
        let records: Vec<_> = names.iter().map(|_| record(generation)).collect();
        let saves = names.iter().zip(&records).map(|(name, record)| store.save(name, record)).collect();
        assert!(run_all(saves).iter().all(Result::is_ok));
    }
    drop(store);
    let store = place.open();
    let loaded = run_all(names.iter().map(|name| store.load(name)).collect());
    let generations = loaded.into_iter().map(|loaded| loaded.unwrap().unwrap().record.generation.0);
    assert_eq!(generations.collect::<Vec<_>>(), [4; 100]);
    assert_eq!(place.names().len(), 301, "three of each, and the lock");
}

#[test]
fn partners_that_load_at_once_share_one_listing_and_a_later_load_makes_its_own() {
    let place = Place::filled([1]);
    let store = place.open();
    let listings = || *store.shared.dir.listings.lock().unwrap();
    let before = listings();
    let names = ["acme", "globex", "initech"];
    let loaded = run_all(names.iter().map(|name| store.load(name)).collect());
    assert_eq!(
        loaded.into_iter().map(|loaded| loaded.unwrap().is_some()).collect::<Vec<_>>(),
        [true, false, false]
    );
    assert_eq!(listings(), before + 1);
    // Saves know what is there.
    save(&store, 2).unwrap();
    run(store.save("globex", &record(1))).unwrap();
    assert_eq!(listings(), before + 1);
    // Somebody has put a file there; a load is asked for because there may be something new.
    fs::copy(place.path(&journal(1)), place.path(&journal(9))).unwrap();
    assert_eq!(load(&store).unwrap().unwrap().record.generation.0, 1);
    assert_eq!(listings(), before + 2);
    save(&store, 3).unwrap();
    assert!(place.names().contains(&journal(10)), "{:?}", place.names());
}

#[test]
fn of_two_loads_called_at_once_both_find_the_record() {
    let place = Place::filled([1]);
    let store = place.open();
    let loaded = run_all(vec![store.load("acme"), store.load("acme")]);
    assert!(loaded.into_iter().all(|loaded| loaded.unwrap().is_some()));
}

#[test]
fn a_load_called_before_a_save_and_made_after_it_finds_what_was_saved() {
    let place = Place::filled([1]);
    let store = place.open();
    let two = record(2);
    let (earlier, other) = (store.load("acme"), store.load("globex"));
    // It lists the directory for the one that was called before it too.
    run(other).unwrap();
    run(store.save("acme", &two)).unwrap();
    assert_eq!(run(earlier).unwrap().unwrap().record.generation.0, 2);
}

#[test]
fn a_save_called_earlier_does_not_overwrite_one_called_later() {
    let place = Place::new();
    let store = place.open();
    let (one, two) = (record(1), record(2));
    run(async {
        let earlier = store.save("acme", &one);
        store.save("acme", &two).await.unwrap();
        earlier.await.unwrap();
    });
    assert_eq!(load(&store).unwrap().unwrap().record.generation.0, 2);
    save(&store, 3).unwrap();
    assert_eq!(load(&store).unwrap().unwrap().record.generation.0, 3);
}

#[test]
fn s09_a_store_that_cannot_be_written_is_noticed_by_the_probe() {
    let place = Place::filled([1]);
    let store = place.open();
    for step in ["create", "write", "sync", "rename", "remove", "sync the directory"] {
        *store.shared.dir.failing.lock().unwrap() = vec![step];
        assert!(store.shared.dir.probe().is_err(), "{step}");
        store.shared.dir.failing.lock().unwrap().clear();
        journal::clean(&store.shared.dir).unwrap();
    }
    store.shared.dir.probe().unwrap();
    assert_eq!(place.names(), [&journal(1), "lock"]);
}

#[test]
fn no_error_and_no_debug_shows_a_token_or_a_key() {
    let mut place = Place::new();
    place.config.key = Some(key(0xab));
    place.fill([1]);
    let store = place.open();
    let found = format!("{:?} {store:?} {:?}", load(&store).unwrap(), place.config);
    place.flip(&journal(1));
    let found = format!("{found} {:?}", load(&store).unwrap_err());
    for secret in ["refresh-1", "access-1", "abab", "171, 171"] {
        assert!(!found.contains(secret), "{found}");
    }
}
