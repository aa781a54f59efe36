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
            block_on(save(&config.store, name, token))?.map_err(|error| explain(&error, config))?;
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

/// Puts `token` into the store, in place of the refresh token there. What else is there stays: the
/// access token goes on serving, and the generation must not go back.
async fn save(config: &store::Config, partner: &str, token: RefreshToken) -> Result<(), StoreError> {
    let store = store::open(config, SystemClock::shared()).await?;
    loop {
        let mut held = store.load(partner).await?.map(|loaded| loaded.record).unwrap_or_default();
        Record::remember_seed(&mut held.seeds, token.digest());
        let before = held.pair();
        held.lineage.push(before);
        let refresh = Some(token.clone());
        let record = Record { refresh, standing: Standing::Unspent, intent: None, ..held };
        match store.save(partner, &record).await {
            // A replica has changed the record in between.
            Err(StoreError::Overtaken) => {}
            done => return done,
        }
    }
}

fn explain(error: &StoreError, config: &Config) -> Failure {
    let failure = Failure::failed(error.to_string());
    match error {
        StoreError::Locked { .. } => failure
            .and(format!("it runs, but nothing listens on {}; was [admin] changed?", config.admin.listen)),
        _ => failure,
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
        assert!(matches!(save(token("new")), Err(StoreError::Locked { .. })));
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
    fn the_token_arrives_as_it_was() {
        let token = RefreshToken::parse("a-._~+/0==").unwrap();
        let json: serde_json::Value = serde_json::from_slice(&json(&token)).unwrap();
        assert_eq!(json, serde_json::json!({"refresh_token": "a-._~+/0=="}));
    }
}
