//! The calls that a token is for. Their answers are made up: enough to see that a request arrived
//! whole.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::routing::{MethodRouter, post};
use bytes::Bytes;
use http::HeaderMap;
use serde_json::{Map, Value, json};

use super::Shared;
use super::wire::{self, Refused};

/// Every such call: where it is, and what it answers to a body.
pub(super) const CALLS: [(&str, Answer); 7] = [
    ("/openapi/v1/services", services),
    ("/openapi/v1/va", virtual_account),
    ("/openapi/v1/transaction/qr/generate", generate_qr),
    ("/openapi/v1/transaction/qr/order/status", order_status),
    ("/openapi/v1/transaction/qr", |asked| transactions("QR", asked)),
    ("/openapi/v1/transaction/card", |asked| transactions("CARD", asked)),
    ("/openapi/v1/transaction/cash", |asked| transactions("CASH", asked)),
];

/// What a call answers to a body, `null` if there was none.
pub(super) type Answer = fn(&Value) -> Value;

/// Serves a call to whoever carries an access token that is honoured.
pub(super) fn serve(answer: Answer) -> MethodRouter<Arc<Shared>> {
    post(async move |State(sandbox): State<Arc<Shared>>, headers: HeaderMap, body: Bytes| {
        let answer = respond(&sandbox, &headers, &body, answer);
        tokio::time::sleep(sandbox.config.request_delay).await;
        answer.map_err(|refused| sandbox.refuse(refused))
    })
}

fn respond(
    sandbox: &Shared,
    headers: &HeaderMap,
    body: &[u8],
    answer: Answer,
) -> Result<Json<Value>, Refused> {
    let token = wire::bearer(headers);
    let now = sandbox.now();
    {
        let mut ledger = sandbox.ledger();
        ledger.stats.requests += 1;
        if !token.is_some_and(|token| ledger.admits(token, now)) {
            return Err(Refused::UNAUTHORIZED);
        }
    }
    let asked = sandbox.open_leniently(body)?;
    sandbox.ledger().stats.served += 1;
    let mut answer = answer(&asked);
    if let Some(id) = asked.get("req_id") {
        answer["req_id"] = id.clone();
    }
    Ok(Json(answer))
}

fn services(_: &Value) -> Value {
    json!({ "services": ["QR", "CARD", "CASH"] })
}

fn virtual_account(asked: &Value) -> Value {
    let mut account = json!({ "va": "SANDBOX00000001", "bin_code": "970000", "status": "ACTIVE" });
    echo(&mut account, asked, &["order_id", "va", "bin_code", "amount"]);
    account
}

fn generate_qr(asked: &Value) -> Value {
    let mut order = json!({ "status": "PENDING" });
    echo(&mut order, asked, &["order_id", "va", "bin_code", "amount"]);
    order["qr_code"] = format!("SANDBOX|{}|{}", order["order_id"], order["amount"]).into();
    order
}

fn order_status(asked: &Value) -> Value {
    let mut order = json!({ "status": "PAID" });
    echo(&mut order, asked, &["order_id"]);
    order
}

/// One page of [`TRANSACTIONS`] made-up transactions.
fn transactions(kind: &str, asked: &Value) -> Value {
    let number = |key: &str| asked.get(key).and_then(Value::as_u64).filter(|&n| n > 0);
    let limit = number("limit").unwrap_or(10).min(100);
    let page = number("page").unwrap_or(1);
    let before = (page - 1).saturating_mul(limit);
    let items: Vec<Value> = (before..before.saturating_add(limit).min(TRANSACTIONS))
        .map(|n| json!({ "order_id": format!("{kind}-{:04}", n + 1), "amount": (n + 1) * 1000, "status": "PAID" }))
        .collect();
    let mut list = json!({ "total": TRANSACTIONS, "page": page, "limit": limit, "items": items });
    echo(&mut list, asked, &["from_date", "to_date"]);
    list
}

/// Repeats those of the fields that were sent.
fn echo(answer: &mut Value, asked: &Value, keys: &[&str]) {
    let none = Map::new();
    let asked = asked.as_object().unwrap_or(&none);
    for &key in keys {
        if let Some(value) = asked.get(key) {
            answer[key] = value.clone();
        }
    }
}

/// How many transactions of each kind there are.
const TRANSACTIONS: u64 = 25;
