//! The calls that change something.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use http_body::Body as _;
use http_body_util::BodyExt as _;
use serde::Deserialize;
use tokio::sync::oneshot;
use tracing::info;
use zeroize::Zeroizing;

use super::probes::Named;
use super::view::PartnerView;
use super::{Admin, Problem};
use crate::credential::{ImportError, Pair};
use crate::token::{AccessToken, RefreshToken};

/// `POST /partners/{name}/refresh`
pub(super) async fn refresh(
    State(admin): State<Arc<Admin>>,
    Named(partner): Named,
) -> Result<Json<PartnerView>, Problem> {
    let (name, handle) = &partner;
    info!(partner = name, "an operator asks for a refresh");
    let before = handle.status();
    let after = handle.refresh().await.ok_or(Problem::Ended)?;
    let view = PartnerView::of(name, &after, &*admin.clock);
    if after.generation > before.generation {
        Ok(Json(view))
    } else if after.last == before.last {
        Err(Problem::NoCall(Box::new(view)))
    } else {
        Err(Problem::NoToken(Box::new(view)))
    }
}

/// `PUT /partners/{name}/token`
pub(super) async fn import(
    State(admin): State<Arc<Admin>>,
    Named(partner): Named,
    body: Body,
) -> Result<Json<PartnerView>, Problem> {
    let body = read(body).await?;
    let pair = pair(&body)?;
    let (name, handle) = &partner;
    match handle.import(pair).await {
        Ok(status) => Ok(Json(PartnerView::of(name, &status, &*admin.clock))),
        Err(ImportError::Store(_)) => Err(Problem::NotSaved),
        Err(ImportError::Followed) => Err(Problem::Followed),
        Err(ImportError::Ended) => Err(Problem::Ended),
    }
}

/// `POST /reload`
pub(super) async fn reload(State(admin): State<Arc<Admin>>) -> Result<&'static str, Problem> {
    info!("an operator asks for a reload");
    let (reply, answer) = oneshot::channel();
    admin.reload.send(reply).await.map_err(|_| Problem::Ended)?;
    let done = answer.await.map_err(|_| Problem::Ended)?;
    done.map(|()| "reloaded\n").map_err(Problem::NotReloaded)
}

/// The body of `PUT /partners/{name}/token`. An unknown key is an error: a misspelt one would
/// otherwise go unnoticed.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Given<'a> {
    #[serde(borrow)]
    refresh_token: Cow<'a, str>,
    #[serde(borrow)]
    access_token: Option<Cow<'a, str>>,
    expires_in: Option<u64>,
}

/// Reads a pair. The parser's own errors quote what they found, so they are not passed on.
fn pair(json: &[u8]) -> Result<Pair, Problem> {
    const SHAPE: &str = "Expected a JSON object with refresh_token, a string, and optionally access_token, \
                         a string, with expires_in, its life in seconds.";
    const NOT_A_TOKEN: &str = "A token is 1 to 16384 letters, digits and -._~+/ with = only at the end.";
    const NO_LIFE: &str = "access_token and a positive expires_in go together.";
    // A derived type would take an array of its fields as well.
    if !json.trim_ascii_start().starts_with(b"{") {
        return Err(Problem::NotAPair(SHAPE));
    }
    let given: Given<'_> = serde_json::from_slice(json).map_err(|_| Problem::NotAPair(SHAPE))?;
    let refresh = RefreshToken::parse(&given.refresh_token).map_err(|_| Problem::NotAPair(NOT_A_TOKEN))?;
    let access = match (&given.access_token, given.expires_in) {
        (Some(access), Some(life @ 1..)) => {
            let access = AccessToken::parse(access).map_err(|_| Problem::NotAPair(NOT_A_TOKEN))?;
            Some((access, Duration::from_secs(life)))
        }
        (None, None) => None,
        _ => return Err(Problem::NotAPair(NO_LIFE)),
    };
    Ok(Pair { refresh, access })
}

/// Reads a body that holds secrets.
async fn read(mut body: Body) -> Result<Zeroizing<Vec<u8>>, Problem> {
    if body.size_hint().lower() > MAX_BODY as u64 {
        return Err(Problem::TooLarge);
    }
    // Room for all of it, so that no copy is left behind by growing.
    let mut bytes = Zeroizing::new(Vec::with_capacity(MAX_BODY));
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame.map_err(|_| Problem::BrokenBody)?.into_data() else { continue };
        if bytes.len() + data.len() > MAX_BODY {
            return Err(Problem::TooLarge);
        }
        bytes.extend_from_slice(&data);
    }
    Ok(bytes)
}

/// Two tokens of the greatest length fit, with room to spare.
const MAX_BODY: usize = 64 * 1024;
