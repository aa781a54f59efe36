//! `[store]`.

use std::path::PathBuf;

use super::context::Context;
use super::section::Section;
use super::{address, secret};
use crate::store::postgres::Database;
use crate::store::{self, Kind};

pub(super) fn read<'c>(cx: &'c Context<'c>, root: &mut Section<'c, '_>) -> store::Config {
    let (mut s, _) = root.section("store");
    let postgres = is_postgres(&mut s);
    let path = s.text("path", "a directory", |text| address::is_path(text).map(|_| cx.path(text)));
    let path = path.unwrap_or_else(|| cx.path("state"));
    s.row("path", path.display());
    let key = s.secret("key", secret::HEX_KEY, secret::store_key);
    let previous_key = s.secret("previous_key", secret::HEX_KEY, secret::store_key);
    if !s.given("key") {
        if s.given("previous_key") {
            s.wrong("previous_key", "store.key beside it", "none");
        }
        if !postgres {
            s.remark("without a key the tokens in this directory are not encrypted");
        }
    }
    if postgres {
        s.require_secret("key", "64 hex digits, which kind \"postgres\" needs");
    }
    let kind = kind(&mut s, postgres);
    s.finish();
    store::Config { kind, path, key, previous_key }
}

/// Where the records are, and nothing of how they are kept: keys are not read, and may be missing.
pub(super) fn read_kind(root: &mut Section<'_, '_>) -> Kind {
    let (mut s, _) = root.section("store");
    let postgres = is_postgres(&mut s);
    for key in ["key", "previous_key"] {
        for key in [key, &format!("{key}_file"), &format!("{key}_env")] {
            s.take(key);
        }
    }
    s.take("path");
    let kind = kind(&mut s, postgres);
    s.finish();
    kind
}

fn is_postgres(s: &mut Section<'_, '_>) -> bool {
    s.choice("kind", "file", &[("file", false), ("postgres", true)]).unwrap_or(false)
}

fn kind(s: &mut Section<'_, '_>, postgres: bool) -> Kind {
    let url = s.secret_and_file("url", Database::EXPECTED, |text| match postgres {
        // Nothing is said of a URL that should not be there.
        false => Ok(None),
        true => Database::parse(text).map(Some).map_err(str::to_owned),
    });
    let url = url.and_then(|(database, url_file)| {
        let mut database = database?;
        database.url_file = url_file;
        Some(database)
    });
    let ca_file = s.ca_file();
    match postgres {
        false => file(s),
        true => database(s, url, ca_file),
    }
}

/// Nothing of a database.
fn file(s: &Section<'_, '_>) -> Kind {
    for key in ["url", "ca_file"] {
        if s.given(key) {
            s.wrong(key, format_args!("no {key} for kind \"file\""), "one");
        }
    }
    Kind::File
}

fn database(s: &mut Section<'_, '_>, url: Option<Database>, ca_file: Option<PathBuf>) -> Kind {
    s.require_secret("url", Database::EXPECTED);
    // What stands in for a wrong one counts for nothing, because it was reported.
    let Some(mut database) = url else { return Kind::File };
    if ca_file.is_some() && !database.uses_tls() {
        s.wrong("ca_file", "it only where TLS is used (sslmode=require, or another machine)", "neither");
    }
    let tls = if database.uses_tls() { ", over TLS" } else { ", in clear on this machine" };
    s.remark(&format!("{database}{tls}"));
    database.ca_file = ca_file;
    Kind::Postgres(database)
}
