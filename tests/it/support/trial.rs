//! Token calls that end badly, one after the other, under one running bearerd; and one without any.

use std::net::SocketAddr;

use serde_json::{Value, json};

use super::client::Request;
use super::config::Config;
use super::eventually;
use super::gateway::Gateway;
use super::issuer::Refresh;
use super::partner::Partner;
use super::secrets::marked;

/// A gateway with a token, in front of a partner whose refresh calls are about to go wrong.
pub(crate) struct Trial {
    pub(crate) partner: Partner,
    pub(crate) gateway: Gateway,
}

/// How a token call ended, as `/status` tells it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Ending {
    pub(crate) outcome: String,
    pub(crate) reason: Option<String>,
    pub(crate) status: Option<u64>,
}

impl Ending {
    pub(crate) fn of(partner: &Value) -> Self {
        let last = &partner["last_refresh"];
        Self {
            outcome: last["outcome"].as_str().unwrap_or_default().to_owned(),
            reason: last["reason"].as_str().map(str::to_owned),
            status: last["status"].as_u64(),
        }
    }

    /// Outcome and reason.
    pub(crate) fn words(&self) -> (&str, &str) {
        (&self.outcome, self.reason.as_deref().unwrap_or_default())
    }
}

impl Trial {
    pub(crate) fn new() -> Self {
        Self::with(|config| config)
    }

    pub(crate) fn with(change: impl FnOnce(Config) -> Config) -> Self {
        let partner = Partner::new();
        let config = Config::to(&partner).set("server.token_timeout", "1s").with_admin_socket();
        let gateway = Gateway::start(&change(config));
        Self { partner, gateway }
    }

    /// An operator asks for a refresh, which goes as `script` says; returns the partner's part of
    /// the status when the call has ended.
    #[track_caller]
    pub(crate) fn call(&self, script: Refresh) -> Value {
        self.partner.script_refresh(script);
        let before = self.partner.refreshes();
        let answer = self.gateway.admin(&Request::post("/partners/acme/refresh", ""));
        assert_eq!(self.partner.refreshes(), before + 1, "{answer:?}");
        match answer.status {
            200 => answer.value(),
            502 => answer.value()["partner"].clone(),
            _ => panic!("{answer:?}"),
        }
    }

    /// As [`Trial::call`], for one that may have been processed and brings no token: nothing is
    /// lost by it that an operator could not give back, and nothing is tried blindly.
    #[track_caller]
    pub(crate) fn unknown(&self, what: &str, script: Refresh) -> Ending {
        let generation = self.gateway.generation();
        let counted = |name, label| self.gateway.metric(name, &[label]).unwrap_or_default();
        let unknown = || counted("bearerd_token_refreshes_total", ("result", "unknown"));
        let before = unknown();
        let after = self.call(script);
        let ending = Ending::of(&after);
        assert_eq!(ending.outcome, "unknown", "{what}: {after}");
        assert_eq!(
            (&after["state"], &after["generation"]),
            (&json!("degraded"), &json!(generation)),
            "{what}"
        );
        assert_eq!(after["persisted"], true, "{what}: what is held is what is on disk");
        assert_eq!(unknown(), before + 1.0, "{what}");
        let reason = ending.reason.as_deref().unwrap();
        let by_reason = counted("bearerd_token_refresh_failures_total", ("reason", reason));
        assert!(by_reason >= 1.0, "{what}: {reason}");
        let calls = self.partner.refreshes();
        assert_eq!(self.gateway.get("/x").status, 200, "{what}: the token that is held goes on serving");
        assert_eq!(self.gateway.admin(&Request::get("/readyz")).status, 200, "{what}");
        assert_eq!(self.partner.refreshes(), calls, "{what}: no second call");
        self.partner.assert_no_spent_token_seen();
        ending
    }

    /// An operator loads a refresh token, and it is used.
    #[track_caller]
    pub(crate) fn heal(&self) {
        let generation = self.gateway.generation();
        let token = self.partner.fresh_refresh_token();
        let answer = self.gateway.admin(&import(&json!({"refresh_token": token})));
        assert_eq!(answer.status, 200, "{answer:?}");
        eventually("the token that was loaded has been presented", || {
            let last = self.partner.refresh_calls().pop();
            last.and_then(|call| call.opened).is_some_and(|opened| opened["refresh_token"] == token)
        });
        self.gateway.await_generation(generation + 1);
        self.gateway.await_state("valid");
    }
}

/// The call with which an operator loads a pair.
pub(crate) fn import(pair: &Value) -> Request {
    Request::new("PUT", "/partners/acme/token")
        .with("Content-Type", "application/json")
        .body(pair.to_string())
}

/// The access token of a gateway that has one [in hand](in_hand).
pub(crate) fn token_in_hand() -> String {
    marked("in-hand")
}

/// A gateway with a token that an operator loaded, in front of a peer that has no token endpoint.
pub(crate) fn in_hand(peer: SocketAddr, change: impl FnOnce(Config) -> Config) -> Gateway {
    let config = Config::to(&Partner::new())
        .set("partner.base_url", format!("http://{peer}"))
        .unset("partner.refresh_token_file")
        .with_admin_socket();
    let gateway = Gateway::spawn(&change(config));
    let pair = json!({
        "refresh_token": marked("of-an-operator"), "access_token": token_in_hand(), "expires_in": 3600,
    });
    assert_eq!(gateway.admin(&import(&pair)).status, 200);
    gateway
}
