//! The calls that only look.

use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::PathRejection;
use axum::extract::{FromRequestParts, Path, State};
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use http::request::Parts;
use serde::Serialize;

use super::view::{PartnerView, StatusView, StoreView, state_at};
use super::{Admin, Partner, Problem};
use crate::clock::Moment;
use crate::credential;
use crate::metrics::CONTENT_TYPE as OPENMETRICS;

/// `GET /livez`
pub(super) async fn alive() -> &'static str {
    "ok\n"
}

/// `GET /readyz`
pub(super) async fn ready(State(admin): State<Arc<Admin>>) -> Readiness {
    let partners = admin.partners();
    readiness(&admin, &partners)
}

/// `GET /readyz/{name}`
pub(super) async fn partner_ready(State(admin): State<Arc<Admin>>, Named(partner): Named) -> Readiness {
    readiness(&admin, &[partner])
}

/// `GET /metrics`
pub(super) async fn metrics(State(admin): State<Arc<Admin>>) -> impl IntoResponse {
    ([(CONTENT_TYPE, OPENMETRICS)], admin.metrics.encode())
}

/// `GET /status`
pub(super) async fn status(State(admin): State<Arc<Admin>>) -> impl IntoResponse {
    let partners = admin.partners();
    let partners = partners.iter().map(|partner| admin.view(partner)).collect();
    let store = admin.metrics.store_connected().map(|connected| StoreView { connected });
    let view = StatusView { version: admin.version.clone(), draining: admin.is_draining(), store, partners };
    ([(CACHE_CONTROL, "no-store")], Json(view))
}

/// The partner that the path names.
pub(super) struct Named(pub(super) Partner);

impl FromRequestParts<Arc<Admin>> for Named {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, admin: &Arc<Admin>) -> Result<Self, Problem> {
        let name: Result<Path<String>, PathRejection> = Path::from_request_parts(parts, admin).await;
        let Path(name) = name.map_err(|_| Problem::UnknownPartner)?;
        let partners = admin.partners();
        let partner = partners.iter().find(|(known, _)| *known == name);
        partner.cloned().map(Self).ok_or(Problem::UnknownPartner)
    }
}

impl Admin {
    /// The partners; none while bearerd starts.
    fn partners(&self) -> Arc<Vec<Partner>> {
        self.partners.load_full().unwrap_or_default()
    }

    /// How the partner's credential stands now.
    pub(super) fn view(&self, (name, handle): &Partner) -> PartnerView {
        PartnerView::of(name, &handle.status(), &*self.clock)
    }
}

/// Whether requests can be served, and if not, why.
#[derive(Serialize)]
pub(super) struct Readiness {
    ready: bool,
    reasons: Vec<Reason>,
}

/// One reason not to be ready.
#[derive(Serialize)]
struct Reason {
    /// Whose credential it is; null if it is not about one.
    partner: Option<String>,
    state: Option<&'static str>,
    reason: &'static str,
}

impl IntoResponse for Readiness {
    fn into_response(self) -> Response {
        let status = if self.ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
        (status, [(CACHE_CONTROL, "no-store")], Json(self)).into_response()
    }
}

fn readiness(admin: &Admin, partners: &[Partner]) -> Readiness {
    let whole = |reason| Reason { partner: None, state: None, reason };
    let now = admin.clock.now();
    let mut reasons = Vec::new();
    if admin.is_draining() {
        reasons.push(whole("bearerd is draining"));
    }
    if admin.partners.load().is_none() {
        reasons.push(whole("bearerd is starting"));
    }
    reasons.extend(partners.iter().filter_map(|(name, handle)| unready(name, &handle.status(), now)));
    Readiness { ready: reasons.is_empty(), reasons }
}

/// Why a partner's requests cannot be served.
fn unready(name: &str, status: &credential::Status, now: Moment) -> Option<Reason> {
    if status.is_usable(now) {
        return None;
    }
    let state = state_at(status, now);
    let reason = match state {
        credential::State::Starting => "no token has been had yet",
        credential::State::ReauthRequired => "the credential is refused or missing; an operator is needed",
        _ => "the token has expired; bearerd keeps trying",
    };
    Some(Reason { partner: Some(name.to_owned()), state: Some(state.as_str()), reason })
}
