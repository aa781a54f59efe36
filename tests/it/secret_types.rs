//! Every type that holds a secret is formatted, and shows none.

use std::time::Duration;

use bearerd::clock::{Moment, UnixMillis};
use bearerd::config::{Config, Source};
use bearerd::credential::{Access, Credential, Pair, Token, TokenCell};
use bearerd::partner::envelope::EnvelopeKey;
use bearerd::partner::{Login, Outcome, TokenSet};
use bearerd::store::postgres::{Connect, Database};
use bearerd::store::{Kind, Loaded, Record, SavedAccess, StoreKey};
use bearerd::token::{AccessToken, Generation, RefreshToken};
use secrecy::SecretString;

use crate::support::config::{Config as Builder, Dir};
use crate::support::partner::Partner;
use crate::support::secrets::{assert_none_in, marked};

const SECRET: &str = "MARKEDSECRETthatnobodymaysee";
const KEY: &str = "5ec2e75ec2e75ec2e75ec2e75ec2e75ec2e75ec2e75ec2e75ec2e75ec2e75ec2";

#[test]
fn no_secret_type_shows_its_secret() {
    let access = AccessToken::parse(SECRET).unwrap();
    let refresh = RefreshToken::parse(SECRET).unwrap();
    let secret = || SecretString::from(SECRET);
    let login = Login {
        username: SECRET.into(),
        password: secret(),
        client_id: SECRET.into(),
        client_secret: secret(),
    };
    let token = Token {
        generation: Generation(1),
        access: access.clone(),
        doubtful_from: Moment::NEVER,
        expires_at: Moment::NEVER,
    };
    let set = TokenSet { access: access.clone(), lifetime: None, refresh: Some(refresh.clone()) };
    let record = Record {
        access: Some(SavedAccess {
            token: access.clone(),
            obtained_at: UnixMillis(0),
            expires_at: UnixMillis(1),
        }),
        refresh: Some(refresh.clone()),
        ..Record::default()
    };
    let credential = Credential {
        access: Some(Access {
            token: access.clone(),
            obtained_at: Moment::default(),
            refresh_at: Moment::NEVER,
            expires_at: Moment::NEVER,
        }),
        refresh: Some(refresh.clone()),
        ..Credential::default()
    };
    let pair = Pair { refresh: refresh.clone(), access: Some((access.clone(), Duration::from_secs(1))) };
    let admin = bearerd::admin::Config {
        listen: bearerd::listener::ListenAddr::Unix("admin.sock".into()),
        token: Some(secret()),
    };
    for shown in [
        format!("{access:?} {:?} {refresh:?} {:?}", access.header(), refresh.digest()),
        format!("{:?} {:?}", EnvelopeKey::from_hex(KEY), StoreKey::from_hex(KEY)),
        format!("{login:?} {token:?} {:?} {:?}", TokenCell::new(), TokenCell::new().reader()),
        format!("{set:?} {:?} {pair:?}", Outcome::Renewed(set.clone())),
        format!("{record:?} {:?}", Loaded { record: record.clone(), ..Loaded::default() }),
        format!("{credential:?} {admin:?} {admin:#?}"),
    ] {
        assert!(!shown.contains(SECRET) && !shown.contains(&KEY[..8]), "{shown}");
        assert!(!shown.is_empty());
    }
}

#[test]
fn a_database_shows_where_it_is_and_no_more() {
    for url in [
        format!("postgres://{SECRET}:{SECRET}@db.example/tokens?options=-c%20a%3D{SECRET}"),
        format!("host=db.example dbname=tokens user={SECRET} password={SECRET}"),
        format!("postgres://bearerd:{SECRET}@localhost/tokens"),
    ] {
        let database = Database::parse(&url).unwrap();
        let connect = Connect::new(&database).unwrap();
        let kind = Kind::Postgres(database.clone());
        let shown = format!("{database} {database:?} {database:#?} {connect:?} {connect:#?} {kind:?}");
        assert!(!shown.contains(SECRET) && shown.contains(":5432/tokens"), "{shown}");
    }
    for url in [
        format!("postgres://bearerd:pass@{SECRET}@db.example/tokens"),
        format!("postgres://bearerd:{SECRET}"),
        format!("postgres://db.example/tokens?{SECRET}=1"),
        format!("postgres://db.example/tokens?sslmode={SECRET}"),
        format!("host=db.example dbname=tokens password={SECRET} {SECRET}"),
        SECRET.to_owned(),
    ] {
        assert!(!Database::parse(&url).unwrap_err().contains(SECRET));
    }
}

#[test]
fn a_configuration_shows_none_of_its_secrets() {
    let dir = Dir::new();
    let path = Builder::to(&Partner::new())
        .with_login()
        .set("partner.headers.x-service-code", marked("header"))
        .with_database_url(&format!("postgres://bearerd:{}@127.0.0.1/tokens", marked("database")))
        .set("admin.token", marked("admin"))
        .write_to(&dir);
    let source = Source::read(path).unwrap();
    let config = Config::resolve(&source).unwrap();
    assert_none_in("Debug", &format!("{source:?} {config:?} {config:#?}"));
    assert_none_in("show", &config.show());
}
