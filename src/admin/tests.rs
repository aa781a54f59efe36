//! The calls, mostly without a socket: the router is asked directly.

mod partner;
mod sockets;

use std::collections::HashSet;
use std::sync::atomic::Ordering;
use std::time::Duration;

use axum::body::Body;
use http::{Method, Request, StatusCode};
use http_body_util::BodyExt as _;
use serde_json::{Value, json};
use tower::ServiceExt as _;

use self::partner::{Partner, TestClock};
use super::*;
use crate::metrics;
use crate::partner::{Cause, Outcome, reason};

/// The operator's side of a bearerd with the partners `acme`, which has a token, and `blank`, which
/// has nothing.
struct Fixture {
    admin: Arc<Admin>,
    clock: Arc<TestClock>,
    acme: Partner,
    blank: Partner,
    reloads: mpsc::Receiver<ReloadRequest>,
}

impl Fixture {
    async fn new() -> Self {
        let clock = Arc::<TestClock>::default();
        let metrics = Metrics::new("1.2.3");
        let acme = Partner::start("acme", Some("marked-seed"), Arc::clone(&clock), &metrics).await;
        let blank = Partner::start("blank", None, Arc::clone(&clock), &metrics).await;
        let (reload, reloads) = mpsc::channel(1);
        let admin = Admin::new("1.2.3", metrics, Arc::clone(&clock) as _, reload);
        admin.set_partners(vec![
            ("acme".to_owned(), Arc::clone(&acme.handle)),
            ("blank".to_owned(), Arc::clone(&blank.handle)),
        ]);
        Self { admin, clock, acme, blank, reloads }
    }

    /// The same without `blank`.
    async fn ready() -> Self {
        let fixture = Self::new().await;
        fixture.admin.set_partners(vec![("acme".to_owned(), Arc::clone(&fixture.acme.handle))]);
        fixture
    }

    async fn send(&self, door: Door, request: Request<Body>) -> Answer {
        let response = Arc::clone(&self.admin).router(door).oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        let text = String::from_utf8(body.to_vec()).unwrap();
        assert!(!text.contains("marked"), "{text}");
        let json: Value = serde_json::from_str(&text).unwrap_or_default();
        if parts.status.as_u16() >= 400 && !json["status"].is_null() {
            assert_eq!(parts.headers["content-type"], "application/problem+json");
            assert_eq!(json["status"], parts.status.as_u16());
        }
        Answer { status: parts.status, headers: parts.headers, text, json }
    }

    async fn get(&self, path: &str) -> Answer {
        self.send(Door::Tcp, request(Method::GET, path, &[], "")).await
    }

    async fn put_token(&self, body: impl Into<Body>) -> Answer {
        let path = "/partners/acme/token";
        self.send(Door::Unix, request(Method::PUT, path, &[JSON], body)).await
    }
}

struct Answer {
    status: StatusCode,
    headers: http::HeaderMap,
    text: String,
    json: Value,
}

const JSON: (&str, &str) = ("content-type", "application/json");

const CHANGING: [(Method, &str); 3] = [
    (Method::POST, "/partners/acme/refresh"),
    (Method::PUT, "/partners/acme/token"),
    (Method::POST, "/reload"),
];

const LOOKING: [&str; 5] = ["/livez", "/readyz", "/readyz/acme", "/metrics", "/status"];

fn request(method: Method, path: &str, headers: &[(&str, &str)], body: impl Into<Body>) -> Request<Body> {
    let request = Request::builder().method(method).uri(path);
    let request = headers.iter().fold(request, |request, (name, value)| request.header(*name, *value));
    request.body(body.into()).unwrap()
}

#[tokio::test]
async fn ready_is_when_every_partner_holds_a_usable_token() {
    let fixture = Fixture::new().await;
    let answer = fixture.get("/readyz").await;
    assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(
        answer.json,
        json!({"ready": false, "reasons": [{
            "partner": "blank",
            "state": "reauth_required",
            "reason": "the credential is refused or missing; an operator is needed",
        }]})
    );
    assert_eq!(fixture.get("/readyz/acme").await.json, json!({"ready": true, "reasons": []}));
    assert_eq!(fixture.get("/readyz/blank").await.status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(fixture.get("/readyz/nobody").await.status, StatusCode::NOT_FOUND);

    let fixture = Fixture::ready().await;
    assert_eq!(fixture.get("/readyz").await.status, StatusCode::OK);
    fixture.clock.advance(Duration::from_secs(600));
    let answer = fixture.get("/readyz").await;
    assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(answer.json["reasons"][0]["state"], "expired");
}

#[tokio::test]
async fn a_bearerd_that_starts_or_drains_is_alive_and_not_ready() {
    let fixture = Fixture::ready().await;
    fixture.admin.partners.store(None);
    let answer = fixture.get("/readyz").await;
    assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(
        answer.json["reasons"],
        json!([{"partner": null, "state": null, "reason": "bearerd is starting"}])
    );

    let fixture = Fixture::ready().await;
    fixture.admin.start_draining();
    for path in ["/readyz", "/readyz/acme"] {
        let answer = fixture.get(path).await;
        assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(answer.json["reasons"][0]["reason"], "bearerd is draining");
    }
    assert_eq!(fixture.get("/livez").await.status, StatusCode::OK);
    assert_eq!(fixture.get("/status").await.json["draining"], true);
}

#[tokio::test]
async fn the_status_shows_every_partner_and_no_secret() {
    let fixture = Fixture::new().await;
    fixture.clock.advance(Duration::from_secs(100));
    let mut status = fixture.get("/status").await.json;
    // Half of 5 % of jitter is in it.
    assert!(status["partners"][0]["next_attempt_at"].take().is_string());
    assert_eq!(
        status,
        json!({
            "version": "1.2.3",
            "draining": false,
            "store": null,
            "partners": [
                {
                    "name": "acme",
                    "state": "valid",
                    "generation": 1,
                    "expires_at": "2026-01-02T03:14:05.678Z",
                    "expires_in": 500,
                    "persisted": true,
                    "last_refresh": {
                        "at": "2026-01-02T03:04:05.678Z",
                        "outcome": "renewed",
                        "reason": null,
                        "status": null,
                    },
                    "next_attempt_at": null,
                },
                {
                    "name": "blank",
                    "state": "reauth_required",
                    "generation": 0,
                    "expires_at": null,
                    "expires_in": null,
                    "persisted": true,
                    "last_refresh": null,
                    "next_attempt_at": null,
                },
            ],
        })
    );
}

#[tokio::test]
async fn metrics_are_openmetrics() {
    let fixture = Fixture::new().await;
    let answer = fixture.get("/metrics").await;
    assert_eq!(answer.headers["content-type"], metrics::CONTENT_TYPE);
    assert!(answer.text.contains("bearerd_token_generation{partner=\"acme\"} 1"), "{}", answer.text);
}

#[tokio::test]
async fn an_operators_refresh_says_what_came_of_it() {
    let fixture = Fixture::new().await;
    let refresh = async |name: &str| {
        let path = format!("/partners/{name}/refresh");
        fixture.send(Door::Unix, request(Method::POST, &path, &[], "")).await
    };

    let answer = refresh("acme").await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.text);
    assert_eq!(answer.json["generation"], 2);

    // Else this call could not be told from the one before.
    fixture.clock.advance(Duration::from_millis(1));
    let cause = Cause { reason: reason::BUSY, status: Some(503) };
    fixture.acme.endpoint.answers.lock().unwrap().push_back(Outcome::Busy { retry_after: None, cause });
    let answer = refresh("acme").await;
    assert_eq!(answer.status, StatusCode::BAD_GATEWAY, "{}", answer.text);
    assert_eq!(answer.json["partner"]["generation"], 2);
    let last = &answer.json["partner"]["last_refresh"];
    assert_eq!(
        (&last["outcome"], &last["reason"], &last["status"]),
        (&json!("busy"), &json!("busy"), &json!(503))
    );

    // It has no refresh token, so there is nothing to call with.
    let answer = refresh("blank").await;
    assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE, "{}", answer.text);
    assert_eq!(answer.json["partner"]["state"], "reauth_required");
    assert_eq!(refresh("nobody").await.status, StatusCode::NOT_FOUND);
    assert_eq!(refresh("%ff").await.status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn a_loaded_pair_is_durable_and_in_use() {
    let fixture = Fixture::new().await;
    let pair = json!({"refresh_token": "marked-new", "access_token": "marked-access", "expires_in": 60});
    let answer = fixture.put_token(pair.to_string()).await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.text);
    assert_eq!((&answer.json["generation"], &answer.json["expires_in"]), (&json!(2), &json!(60)));
    assert_eq!(fixture.acme.store.refresh_token(), "marked-new");
    assert_eq!(fixture.acme.handle.cell().load().unwrap().access.expose(), "marked-access");

    // A refresh token alone is presented at once.
    let path = "/partners/blank/token";
    let alone = json!({"refresh_token": "marked-alone"}).to_string();
    let answer = fixture.send(Door::Unix, request(Method::PUT, path, &[JSON], alone)).await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.text);
    let deadline = tokio::time::Instant::now() + Duration::from_secs(10);
    assert!(fixture.blank.handle.usable(deadline).await.is_ok());
}

#[tokio::test]
async fn what_is_not_a_pair_changes_nothing_and_is_not_echoed() {
    let fixture = Fixture::new().await;
    let bodies = [
        "",
        "marked",
        "[\"marked\"]",
        "{\"refresh_token\": \"marked\"",
        "{\"refresh_token\": 5}",
        "{\"refresh_token\": \"\"}",
        "{\"refresh_token\": \"marked token\"}",
        "{\"refresh_token\": \"marked\\n\"}",
        "{\"refresh_token\": \"marked\", \"marked\": 1}",
        "{\"refresh_token\": \"marked\", \"refresh_token\": \"marked\"}",
        "{\"access_token\": \"marked\", \"expires_in\": 5}",
        "{\"refresh_token\": \"marked\", \"access_token\": \"marked\"}",
        "{\"refresh_token\": \"marked\", \"access_token\": \"marked token\", \"expires_in\": 5}",
        "{\"refresh_token\": \"marked\", \"access_token\": \"marked\", \"expires_in\": 0}",
        "{\"refresh_token\": \"marked\", \"access_token\": \"marked\", \"expires_in\": -1}",
        "{\"refresh_token\": \"marked\", \"expires_in\": 5}",
    ];
    let mut details = HashSet::new();
    for body in bodies {
        let answer = fixture.put_token(body).await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{body}");
        details.insert(answer.json["detail"].as_str().unwrap().to_owned());
    }
    assert_eq!(details.len(), 3);
    let long = format!("{{\"refresh_token\": \"{}\"}}", "x".repeat(64 * 1024));
    assert_eq!(fixture.put_token(long.clone()).await.status, StatusCode::PAYLOAD_TOO_LARGE);
    let halves = of_unknown_length(long);
    assert_eq!(fixture.put_token(halves).await.status, StatusCode::PAYLOAD_TOO_LARGE);
    assert_eq!(fixture.acme.store.refresh_token(), "marked-refresh-1");
    assert_eq!(fixture.acme.handle.status().generation.0, 1);
}

/// A body of unknown length.
fn of_unknown_length(text: String) -> Body {
    struct Unsized(http_body_util::Full<bytes::Bytes>);
    impl http_body::Body for Unsized {
        type Data = bytes::Bytes;
        type Error = std::convert::Infallible;
        fn poll_frame(
            mut self: std::pin::Pin<&mut Self>,
            cx: &mut std::task::Context<'_>,
        ) -> std::task::Poll<Option<Result<http_body::Frame<Self::Data>, Self::Error>>> {
            std::pin::Pin::new(&mut self.0).poll_frame(cx)
        }
    }
    Body::new(Unsized(http_body_util::Full::from(text)))
}

#[tokio::test]
async fn a_pair_that_cannot_be_saved_is_not_taken_up() {
    let fixture = Fixture::new().await;
    fixture.acme.store.broken.store(true, Ordering::SeqCst);
    let answer = fixture.put_token("{\"refresh_token\": \"marked-new\"}").await;
    assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE, "{}", answer.text);
    fixture.acme.store.broken.store(false, Ordering::SeqCst);
    assert_eq!(fixture.acme.store.refresh_token(), "marked-refresh-1");
    assert_eq!(fixture.acme.handle.cell().load().unwrap().access.expose(), "marked-access-1");
}

#[tokio::test]
async fn over_tcp_and_without_a_token_nothing_can_be_changed() {
    let fixture = Fixture::new().await;
    for (method, path) in CHANGING {
        let sent = [JSON, ("authorization", "Bearer guess")];
        let answer = fixture.send(Door::Tcp, request(method, path, &sent, "")).await;
        assert_eq!(answer.status, StatusCode::NOT_FOUND);
        assert!(answer.json["detail"].as_str().unwrap().contains("admin.token_file"));
    }
    assert_eq!(fixture.acme.handle.status().generation.0, 1);
}

#[tokio::test]
async fn over_tcp_the_token_is_needed() {
    let fixture = Fixture::new().await;
    fixture.admin.set_token(Some("marked-admin".into()));
    let refresh = async |headers: &[(&str, &str)]| {
        fixture.send(Door::Tcp, request(Method::POST, "/partners/acme/refresh", headers, "")).await
    };
    let wrong = [
        "",
        "Bearer",
        "Bearer ",
        "marked-admin",
        "Bearer marked-admi",
        "Bearer marked-adminn",
        "Basic marked-admin",
    ];
    for value in wrong {
        let answer = refresh(&[("authorization", value)]).await;
        assert_eq!(answer.status, StatusCode::UNAUTHORIZED, "{value}");
        assert_eq!(answer.headers["www-authenticate"], "Bearer realm=\"bearerd\"");
    }
    let good = ("authorization", "Bearer marked-admin");
    assert_eq!(refresh(&[good, ("authorization", "Bearer other")]).await.status, StatusCode::UNAUTHORIZED);
    assert_eq!(refresh(&[]).await.status, StatusCode::UNAUTHORIZED);
    assert_eq!(fixture.acme.handle.status().generation.0, 1);

    assert_eq!(refresh(&[good]).await.status, StatusCode::OK);
    assert_eq!(refresh(&[("authorization", "bearer  marked-admin")]).await.status, StatusCode::OK);
    fixture.admin.set_token(Some("marked-other".into()));
    assert_eq!(refresh(&[good]).await.status, StatusCode::UNAUTHORIZED);
    fixture.admin.set_token(None);
    assert_eq!(refresh(&[good]).await.status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn what_a_web_page_could_send_is_refused_everywhere() {
    let fixture = Fixture::new().await;
    let looking = LOOKING.map(|path| (Method::GET, path));
    let forged = [
        ("origin", "http://127.0.0.1:9901"),
        ("origin", "null"),
        ("sec-fetch-site", "same-origin"),
        ("sec-fetch-site", "cross-site"),
        ("sec-fetch-site", "\u{e9}"),
    ];
    for (method, path) in looking.into_iter().chain(CHANGING).chain([(Method::GET, "/nowhere")]) {
        for header in forged {
            let request = request(method.clone(), path, &[JSON, header], "");
            let answer = fixture.send(Door::Unix, request).await;
            assert_eq!(answer.status, StatusCode::FORBIDDEN, "{method} {path} {header:?}");
        }
    }
    let typed = request(Method::GET, "/status", &[("sec-fetch-site", "none")], "");
    assert_eq!(fixture.send(Door::Tcp, typed).await.status, StatusCode::OK);
    let mixed = [("sec-fetch-site", "none"), ("sec-fetch-site", "cross-site")];
    let mixed = request(Method::GET, "/status", &mixed, "");
    assert_eq!(fixture.send(Door::Tcp, mixed).await.status, StatusCode::FORBIDDEN);
}

#[tokio::test]
async fn a_body_is_taken_only_as_json() {
    let fixture = Fixture::new().await;
    for (method, path) in CHANGING {
        for kind in ["text/plain", "application/x-www-form-urlencoded", "application/jsonx", ""] {
            let request = request(method.clone(), path, &[("content-type", kind)], "{}");
            assert_eq!(
                fixture.send(Door::Unix, request).await.status,
                StatusCode::FORBIDDEN,
                "{path} {kind}"
            );
        }
        let bare = request(method.clone(), path, &[], "{}");
        assert_eq!(fixture.send(Door::Unix, bare).await.status, StatusCode::FORBIDDEN);
        let twice = request(method, path, &[JSON, ("content-type", "text/plain")], "{}");
        assert_eq!(fixture.send(Door::Unix, twice).await.status, StatusCode::FORBIDDEN);
    }
    let sent = [("content-type", "Application/JSON; charset=utf-8")];
    let request = request(Method::POST, "/partners/acme/refresh", &sent, "{}");
    assert_eq!(fixture.send(Door::Unix, request).await.status, StatusCode::OK);
}

#[tokio::test]
async fn no_other_method_does_anything() {
    let fixture = Fixture::new().await;
    for (method, path) in CHANGING {
        for other in [Method::GET, Method::HEAD, Method::DELETE, Method::PATCH] {
            let answer = fixture.send(Door::Unix, request(other, path, &[], "")).await;
            assert_eq!(answer.status, StatusCode::METHOD_NOT_ALLOWED);
            assert_eq!(answer.headers["allow"], method.as_str());
        }
    }
    for path in LOOKING {
        let answer = fixture.send(Door::Unix, request(Method::POST, path, &[], "")).await;
        assert_eq!(answer.status, StatusCode::METHOD_NOT_ALLOWED);
    }
    assert_eq!(fixture.get("/").await.status, StatusCode::NOT_FOUND);
    assert_eq!(fixture.acme.handle.status().generation.0, 1);
}

#[tokio::test]
async fn a_reload_is_passed_on_and_its_messages_come_back() {
    let mut fixture = Fixture::new().await;
    let mut reloads = std::mem::replace(&mut fixture.reloads, mpsc::channel(1).1);
    let answers = [Ok(()), Err(vec!["config.toml:3: wrong".to_owned()])];
    let reloader = tokio::spawn(async move {
        for answer in answers {
            reloads.recv().await.unwrap().send(answer).unwrap();
        }
    });
    let reload = async || fixture.send(Door::Unix, request(Method::POST, "/reload", &[], "")).await;
    assert_eq!(reload().await.status, StatusCode::OK);
    let answer = reload().await;
    assert_eq!(answer.status, StatusCode::UNPROCESSABLE_ENTITY);
    assert_eq!(answer.json["errors"], json!(["config.toml:3: wrong"]));
    reloader.await.unwrap();
    assert_eq!(reload().await.status, StatusCode::SERVICE_UNAVAILABLE);
}

#[test]
fn times_beyond_the_calendar_are_not_shown() {
    use crate::clock::UnixMillis;
    assert_eq!(view::rfc3339(UnixMillis(0)).unwrap(), "1970-01-01T00:00:00.000Z");
    assert_eq!(view::rfc3339(UnixMillis(253_402_300_799_999)).unwrap(), "9999-12-31T23:59:59.999Z");
    assert_eq!(view::rfc3339(UnixMillis(253_402_300_800_000)), None);
    assert_eq!(view::rfc3339(UnixMillis(u64::MAX)), None);
}
