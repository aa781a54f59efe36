//! What the store holds, where no bearerd runs. Takes no lock and changes nothing.

use serde_json::json;

use super::table::table;
use super::{print_json, with_running};
use crate::admin::rfc3339;
use crate::cli::block_on;
use crate::cli::output::{Failure, print};
use crate::clock::SystemClock;
use crate::config::PartnerConfig;
use crate::store::{self, Loaded, Standing};

/// Shows what the store holds of `partners`.
pub(super) fn show(config: &store::Config, partners: &[&PartnerConfig], json: bool) -> Result<(), Failure> {
    let names: Vec<&str> = partners.iter().map(|partner| &*partner.name).collect();
    let found = block_on(store::peek(config, &names, SystemClock::shared()))?
        .map_err(|error| Failure::failed(error.to_string()))?;
    let rows: Vec<Row> =
        names.iter().zip(&found).map(|(name, loaded)| Row::of(name, loaded.as_ref())).collect();
    if json {
        return print_json(&with_running(json!({ "partners": rows }), false));
    }
    let dash = || "-".to_owned();
    print(&table(
        ["PARTNER", "GENERATION", "EXPIRES AT", "REFRESH TOKEN"],
        rows.into_iter().map(|row| {
            let generation = row.generation.map_or_else(dash, |generation| generation.to_string());
            [row.name, generation, row.expires_at.unwrap_or_else(dash), row.refresh_token.to_owned()]
        }),
    ))
}

#[derive(serde::Serialize)]
struct Row {
    name: String,
    /// Null if the store holds nothing of this partner.
    generation: Option<u64>,
    /// When the access token expires; null if there is none.
    expires_at: Option<String>,
    /// Whether a refresh token is there, and what is known of it.
    refresh_token: &'static str,
}

impl Row {
    fn of(name: &str, loaded: Option<&Loaded>) -> Self {
        let record = loaded.map(|loaded| &loaded.record);
        let access = record.and_then(|record| record.access.as_ref());
        Self {
            name: name.to_owned(),
            generation: record.map(|record| record.generation.0),
            expires_at: access.and_then(|access| rfc3339(access.expires_at)),
            refresh_token: loaded.map_or("none", standing),
        }
    }
}

fn standing(loaded: &Loaded) -> &'static str {
    let record = &loaded.record;
    match record.standing {
        _ if record.refresh.is_none() => "none",
        Standing::Refused => "refused",
        // The next start treats all of these alike.
        Standing::PerhapsSpent { .. } => "perhaps_spent",
        Standing::Unspent if record.intent.is_some() || loaded.newer_damaged => "perhaps_spent",
        Standing::Unspent => "unspent",
    }
}
