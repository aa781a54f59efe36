//! Login and refresh.
//!
//! A call is decided when it arrives and answered after the configured delay, as a partner behind a
//! slow line does it. A caller that gives up in between has spent its token all the same.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::response::{Html, IntoResponse, Response};
use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use serde::Deserialize;

use super::ledger::{Refusal, TokenSet};
use super::wire::{self, Refused};
use super::{CLIENT_ID, CLIENT_SECRET, Fault, PASSWORD, Shared, USERNAME};

/// `POST /openapi/v1/auth/login`
pub(super) async fn login(
    State(sandbox): State<Arc<Shared>>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Json<TokenSet>, Response> {
    let answer = decide_login(&sandbox, &headers, &body);
    tokio::time::sleep(sandbox.config.refresh_delay).await;
    answer.map(Json).map_err(|refused| sandbox.refuse(refused))
}

fn decide_login(sandbox: &Shared, headers: &HeaderMap, body: &[u8]) -> Result<TokenSet, Refused> {
    wire::without_token(headers)?;
    let login: LoginCall = sandbox.open(body)?;
    let given = [&login.username, &login.password, &login.client_id, &login.client_secret];
    if given != [USERNAME, PASSWORD, CLIENT_ID, CLIENT_SECRET] {
        sandbox.ledger().stats.refusals += 1;
        return Err(Refused::invalid_grant("the login is not the sandbox's"));
    }
    Ok(sandbox.ledger().login(sandbox.now()))
}

/// `POST /openapi/v1/auth/refresh`
pub(super) async fn refresh(State(sandbox): State<Arc<Shared>>, headers: HeaderMap, body: Bytes) -> Response {
    let answer = decide_refresh(&sandbox, &headers, &body);
    tokio::time::sleep(sandbox.config.refresh_delay).await;
    answer.unwrap_or_else(|refused| sandbox.refuse(refused))
}

fn decide_refresh(sandbox: &Shared, headers: &HeaderMap, body: &[u8]) -> Result<Response, Refused> {
    wire::without_token(headers)?;
    let call: RefreshCall = sandbox.open(body)?;
    let mut ledger = sandbox.ledger();
    let fault = ledger.refresh_call();
    match fault {
        Some(Fault::Busy) => return Err(Refused::BUSY),
        Some(Fault::Error) => return Err(Refused::new(StatusCode::INTERNAL_SERVER_ERROR, "error")),
        Some(Fault::Refused) => return Err(Refused::invalid_grant("a fault, as configured")),
        Some(Fault::Lost | Fault::Nonsense) | None => {}
    }
    let pair = ledger.refresh(&call.refresh_token, sandbox.now()).map_err(refused)?;
    Ok(match fault {
        Some(Fault::Lost) => wire::cut(),
        Some(_) => Html("<!doctype html><title>Welcome</title>").into_response(),
        None => Json(pair).into_response(),
    })
}

fn refused(refusal: Refusal) -> Refused {
    Refused::invalid_grant(match refusal {
        Refusal::Unknown => "not a refresh token of the sandbox's",
        Refusal::Expired => "the refresh token has expired",
        Refusal::Revoked => "the refresh token's family is revoked",
        Refusal::Reused => {
            tracing::warn!(side = "sandbox", "a spent refresh token was presented: its family is revoked");
            "the refresh token is spent; its family is revoked"
        }
    })
}

#[derive(Deserialize)]
struct LoginCall {
    username: String,
    password: String,
    client_id: String,
    client_secret: String,
}

#[derive(Deserialize)]
struct RefreshCall {
    refresh_token: String,
}
