//! `bearerd token import`.

use std::io::{self, IsTerminal as _};

use http::Method;
use zeroize::Zeroizing;

use super::{Import, understood};
use crate::admin::PartnerView;
use crate::cli::block_on;
use crate::cli::client::{NoAnswer, call};
use crate::cli::input;
use crate::cli::output::{Failure, print, remark};
use crate::clock::SystemClock;
use crate::config::Config;
use crate::store::{self, Record, Standing, StoreError};
use crate::token::{MAX_TOKEN_LEN, RefreshToken};

/// Loads a refresh token into the bearerd that runs, or else into the store.
pub(super) fn run(config: &Config, options: &Import) -> Result<(), Failure> {
    let partner = super::super::partner(config, options.partner.as_deref())?;
    let name = &partner.name;
    if options.file.as_deref().is_none_or(|file| file.as_os_str() == "-") && io::stdin().is_terminal() {
        remark("type or paste the refresh token, which will be seen here, then Enter and Ctrl-D");
    }
    // With room for a line break.
    let given = input::read(options.file.as_deref(), MAX_TOKEN_LEN + 2)?;
    let token = RefreshToken::parse(input::one_line(&given)?)
        .map_err(|error| Failure::usage(format!("what was read is {error}")))?;

    let path = format!("/partners/{name}/token");
    match call(&config.admin, Method::PUT, &path, Some(json(&token))) {
        Ok(answer) => {
            let _: PartnerView = understood(&config.admin, answer)?;
            print(&format!("partner \"{name}\": loaded into the bearerd that runs, which presents it now\n"))
        }
        Err(NoAnswer::NotRunning) => {
            block_on(save(&config.store, name, token))?.map_err(|failed| explain(&failed, config))?;
            let store = &config.store;
            print(&format!("partner \"{name}\": no bearerd runs; saved in {store} for the next one\n"))
        }
        Err(NoAnswer::Failed(failure)) => Err(failure),
    }
}

/// A token needs no escapes in JSON.
fn json(token: &RefreshToken) -> Zeroizing<Vec<u8>> {
    let parts = ["{\"refresh_token\":\"", token.expose(), "\"}"];
    let mut json = Zeroizing::new(Vec::with_capacity(parts.iter().map(|part| part.len()).sum()));
    for part in parts {
        json.extend_from_slice(part.as_bytes());
    }
    json
}

/// Why a token is not in the store.
#[derive(Debug)]
enum NotSaved {
    /// The store could not be opened or read. Nothing was changed.
    Untouched(StoreError),
    /// It was loaded before, and the store holds a good one that has come after it.
    Followed,
    /// The store could not take it, or did and could not say so.
    Failed(StoreError),
    /// The same of a database; whether the token is in the journal of this process's own.
    Shared(StoreError, bool),
}

/// Puts `token` into the store, in place of the refresh token there. What else is there stays: the
/// access token goes on serving, and the generation must not go back.
async fn save(config: &store::Config, partner: &str, token: RefreshToken) -> Result<(), NotSaved> {
    let store = store::open(config, SystemClock::shared()).await.map_err(NotSaved::Untouched)?;
    loop {
        let loaded = store.load(partner).await.map_err(NotSaved::Untouched)?;
        let mut held = loaded.map(|loaded| loaded.record).unwrap_or_default();
        if store.shared().is_some() && has_followed(&held, &token) {
            return Err(NotSaved::Followed);
        }
        Record::remember_seed(&mut held.seeds, token.digest());
        let before = held.pair();
        held.lineage.push(before);
        let refresh = Some(token.clone());
        let record = Record { refresh, standing: Standing::Unspent, intent: None, ..held };
        let failure = match store.save(partner, &record).await {
            Ok(()) => return Ok(()),
            // A replica has changed the record in between.
            Err(StoreError::Overtaken) => continue,
            Err(failure) => failure,
        };
        let Some(shared) = store.shared() else { return Err(NotSaved::Failed(failure)) };
        let journal = shared.recall(partner).await.ok().flatten();
        let in_journal = journal.is_some_and(|journal| journal.record.pair() == record.pair());
        return Err(NotSaved::Shared(failure, in_journal));
    }
}

/// Whether what is `held` has come after `token`. Where a database took the token and its answer was
/// lost, whoever loads it once more would have a spent one presented.
fn has_followed(held: &Record, token: &RefreshToken) -> bool {
    held.standing == Standing::Unspent && Record::has_come_of(token, held.refresh.as_ref(), &held.seeds)
}

fn explain(failed: &NotSaved, config: &Config) -> Failure {
    let path = config.store.path.display();
    match failed {
        NotSaved::Untouched(error @ StoreError::Locked { .. }) => Failure::failed(error.to_string())
            .and(format!("it runs, but nothing listens on {}; was [admin] changed?", config.admin.listen)),
        NotSaved::Untouched(error) => {
            Failure::failed(error.to_string()).and("the token was not loaded, and nothing was changed")
        }
        NotSaved::Followed => Failure::failed(format!(
            "this token was loaded before, and {} holds a good one that has come after it; nothing was changed",
            config.store
        )),
        NotSaved::Failed(error) => Failure::failed(error.to_string()),
        NotSaved::Shared(error, true) => Failure::failed(error.to_string())
            .and(format!(
                "the token is in the journal in {path} and perhaps in the database: keep token and journal"
            ))
            .and(
                "load it again when the database can be used, which does no harm if it is there already; or \
                 start a bearerd on this journal, which stores it by itself",
            ),
        NotSaved::Shared(error, false) => Failure::failed(error.to_string())
            .and(format!("the token is perhaps in the database, and not in the journal in {path}: keep it"))
            .and("load it again when the database can be used, which does no harm if it is there already"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::UnixMillis;
    use crate::store::{FileStore, Intent, SavedAccess, Store as _};
    use crate::token::{AccessToken, Digest, Generation};

    #[test]
    fn only_the_refresh_token_of_a_record_is_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let config = store::Config {
            kind: store::Kind::File,
            path: dir.path().join("state"),
            key: None,
            previous_key: None,
        };
        let token = |text: &str| RefreshToken::parse(text).unwrap();
        let save = |token| block_on(save(&config, "acme", token)).unwrap();
        save(token("first")).unwrap();
        let first = FileStore::peek(&config, "acme").unwrap().unwrap().record;
        assert_eq!((first.generation, first.refresh.unwrap().expose()), (Generation(0), "first"));

        let record = Record {
            generation: Generation(7),
            access: Some(SavedAccess {
                token: AccessToken::parse("access").unwrap(),
                obtained_at: UnixMillis(1),
                expires_at: UnixMillis(2),
            }),
            refresh: Some(token("spent")),
            standing: Standing::Refused,
            intent: Some(Intent {
                generation: Generation(7),
                parent: token("spent").digest(),
                owner: 1,
                written_at: UnixMillis(1),
                deadline: UnixMillis(2),
            }),
            seeds: vec![Digest([1; 32])],
            login_refused: Some(Digest([2; 32])),
            ..Record::default()
        };
        let store = FileStore::open(&config).unwrap();
        block_on(store.save("acme", &record)).unwrap().unwrap();
        assert!(matches!(save(token("new")), Err(NotSaved::Untouched(StoreError::Locked { .. }))));
        drop(store);

        save(token("new")).unwrap();
        let held = FileStore::peek(&config, "acme").unwrap().unwrap().record;
        assert_eq!(held.refresh.unwrap().expose(), "new");
        assert_eq!(held.access.unwrap().token.expose(), "access");
        assert_eq!((held.standing, held.intent), (Standing::Unspent, None));
        assert_eq!(held.generation, record.generation);
        let seeds = [Digest([1; 32]), token("new").digest()];
        assert_eq!(held.seeds, seeds, "the same token in the configuration is no new seed");
        assert_eq!(held.login_refused, record.login_refused);
    }

    #[test]
    fn a_token_that_a_good_one_has_followed_is_not_loaded_again() {
        let token = |text: &str| RefreshToken::parse(text).unwrap();
        let held = |refresh: &str, standing| Record {
            refresh: Some(token(refresh)),
            standing,
            seeds: vec![token("first").digest(), token("other").digest()],
            ..Record::default()
        };
        assert!(has_followed(&held("second", Standing::Unspent), &token("first")));
        assert!(!has_followed(&held("other", Standing::Unspent), &token("first")), "an operator goes back");
        assert!(!has_followed(&held("first", Standing::Unspent), &token("first")));
        assert!(!has_followed(&held("second", Standing::Unspent), &token("third")));
        let since = UnixMillis(1);
        for standing in [Standing::PerhapsSpent { since }, Standing::Refused] {
            assert!(!has_followed(&held("second", standing), &token("first")), "{standing:?}");
        }
        assert!(!has_followed(
            &Record { refresh: None, ..held("second", Standing::Unspent) },
            &token("first")
        ));
    }

    #[test]
    fn the_token_arrives_as_it_was() {
        let token = RefreshToken::parse("a-._~+/0==").unwrap();
        let json: serde_json::Value = serde_json::from_slice(&json(&token)).unwrap();
        assert_eq!(json, serde_json::json!({"refresh_token": "a-._~+/0=="}));
    }
}
