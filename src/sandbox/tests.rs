//! The sandbox as a caller sees it, on a clock that the test owns.

use std::sync::atomic::{AtomicU64, Ordering};

use axum::body::Body;
use http::{Request, header};
use http_body_util::BodyExt as _;
use serde_json::{Value, json};
use tower::ServiceExt as _;

use super::*;
use crate::clock::{Moment, UnixMillis};
use crate::partner::envelope::{self, Iv};

#[tokio::test]
async fn a_refresh_spends_its_token_and_gives_the_next_pair() {
    let sandbox = Fixture::new(config());
    let first = sandbox.refresh(seed().expose()).await.granted();
    assert_eq!(first["token_type"], "Bearer");
    assert_eq!(first["expires_in"], 60);
    assert_eq!(first["refresh_expires_in"], 3600);
    assert_eq!(sandbox.call(text(&first, "access_token")).await.status, 200);

    let second = sandbox.refresh(text(&first, "refresh_token")).await.granted();
    assert_ne!(first["refresh_token"], second["refresh_token"]);
    assert_ne!(first["access_token"], second["access_token"]);
    assert_eq!(sandbox.call(text(&second, "access_token")).await.status, 200);
    let claims = Claims::verify(text(&second, "refresh_token"), token::Usage::Refresh).unwrap();
    assert_eq!((claims.family, claims.generation), (Claims::SEED.family, 2));
}

#[tokio::test]
async fn presenting_a_spent_token_revokes_its_family_and_no_other() {
    let sandbox = Fixture::new(config());
    let other = sandbox.login().await.granted();
    let pair = sandbox.refresh(seed().expose()).await.granted();

    let reused = sandbox.refresh(seed().expose()).await;
    assert_eq!((reused.status, &reused.body["error"]), (400, &json!("invalid_grant")));
    assert_eq!(sandbox.call(text(&pair, "access_token")).await.status, 401);
    assert_eq!(sandbox.refresh(text(&pair, "refresh_token")).await.status, 400);
    assert_eq!(sandbox.call(text(&other, "access_token")).await.status, 200);
    sandbox.refresh(text(&other, "refresh_token")).await.granted();

    let stats = sandbox.stats().await;
    assert_eq!(stats["reuse_detected"], 1);
    assert_eq!((&stats["refreshes"], &stats["refusals"]), (&json!(2), &json!(2)));
}

#[tokio::test]
async fn within_its_grace_a_spent_token_gives_another_pair() {
    let sandbox = Fixture::new(Config { grace: Duration::from_secs(5), ..config() });
    let first = sandbox.refresh(seed().expose()).await.granted();
    sandbox.pass(4999);
    let again = sandbox.refresh(seed().expose()).await.granted();
    assert_ne!(first["refresh_token"], again["refresh_token"]);
    assert_eq!(sandbox.call(text(&first, "access_token")).await.status, 200);
    assert_eq!(sandbox.stats().await["graced"], 1);

    sandbox.pass(1);
    assert_eq!(sandbox.refresh(seed().expose()).await.status, 400);
    assert_eq!(sandbox.call(text(&again, "access_token")).await.status, 401);
}

#[tokio::test]
async fn a_restarted_sandbox_honours_the_tokens_of_the_one_before() {
    let before = Fixture::new(config());
    let pair = before.refresh(seed().expose()).await.granted();

    let after = Fixture::new(config());
    assert_eq!(after.call(text(&pair, "access_token")).await.status, 200);
    after.refresh(text(&pair, "refresh_token")).await.granted();
    assert_eq!(after.refresh(text(&pair, "refresh_token")).await.status, 400);
}

#[tokio::test]
async fn tokens_expire() {
    let sandbox = Fixture::new(config());
    sandbox.pass(1); // Not on a whole second: what was promised is rounded up.
    let pair = sandbox.refresh(seed().expose()).await.granted();
    sandbox.pass(60_000);
    assert_eq!(sandbox.call(text(&pair, "access_token")).await.status, 200);
    sandbox.pass(999);
    let late = sandbox.call(text(&pair, "access_token")).await;
    assert_eq!((late.status, late.challenge.as_deref()), (401, Some("Bearer error=\"invalid_token\"")));

    sandbox.pass(3_600_000);
    let dead = sandbox.refresh(text(&pair, "refresh_token")).await;
    assert_eq!((dead.status, &dead.body["error"]), (400, &json!("invalid_grant")));
    assert_eq!(sandbox.stats().await["reuse_detected"], 0);
}

#[tokio::test]
async fn only_an_access_token_of_the_sandboxs_opens_a_call() {
    let sandbox = Fixture::new(config());
    let pair = sandbox.login().await.granted();
    let access = text(&pair, "access_token");
    assert_eq!(sandbox.send(post("/openapi/v1/services")).await.status, 401);
    assert_eq!(sandbox.call("abc").await.status, 401);
    assert_eq!(sandbox.call(text(&pair, "refresh_token")).await.status, 401);
    assert_eq!(sandbox.call(seed().expose()).await.status, 401);
    let twice = post("/openapi/v1/services")
        .header(header::AUTHORIZATION, format!("Bearer {access}"))
        .header(header::AUTHORIZATION, format!("Bearer {access}"));
    assert_eq!(sandbox.send(twice).await.status, 401);
    let scheme = post("/openapi/v1/services").header(header::AUTHORIZATION, format!("bearer {access}"));
    assert_eq!(sandbox.send(scheme).await.status, 200);
    assert_eq!(sandbox.stats().await["unauthorized"], 5);
}

#[tokio::test]
async fn every_call_needs_the_partner_code_once() {
    let sandbox = Fixture::new(config());
    for path in [LOGIN_PATH, REFRESH_PATH, "/openapi/v1/va", "/nowhere"] {
        let bare = Request::post(path);
        assert_eq!(sandbox.send(bare).await.status, 400, "{path}");
        let foreign = Request::post(path).header("Partner-Code", "ACME");
        assert_eq!(sandbox.send(foreign).await.status, 403, "{path}");
        let twice = post(path).header("Partner-Code", PARTNER_CODE);
        let twice = sandbox.send(twice).await;
        assert_eq!((twice.status, &twice.body["error"]), (400, &json!("invalid_request")), "{path}");
    }
    assert_eq!(sandbox.stats().await["malformed"], 12);
}

#[tokio::test]
async fn a_login_or_refresh_that_carries_a_token_is_refused_and_spends_nothing() {
    let sandbox = Fixture::new(config());
    for path in [LOGIN_PATH, REFRESH_PATH] {
        let body = sealed(&json!({ "refresh_token": seed().expose() }));
        let request = post(path).header(header::AUTHORIZATION, "Bearer abc").body(body).unwrap();
        assert_eq!(sandbox.answer(request).await.status, 400, "{path}");
    }
    sandbox.refresh(seed().expose()).await.granted();
}

#[tokio::test]
async fn login_and_refresh_bodies_must_be_envelopes_that_open() {
    let sandbox = Fixture::new(config());
    let plain = json!({ "refresh_token": seed().expose() }).to_string();
    let broken = json!({ "data": "00".repeat(48) }).to_string();
    for body in [plain, broken, String::new(), sealed(&json!({ "refresh_token": 1 }))] {
        for path in [LOGIN_PATH, REFRESH_PATH] {
            let request = post(path).body(body.clone()).unwrap();
            assert_eq!(sandbox.answer(request).await.status, 400, "{path} {body}");
        }
    }
    assert_eq!(sandbox.stats().await["refresh_calls"], 0);
}

#[tokio::test]
async fn a_login_with_other_secrets_is_refused() {
    let sandbox = Fixture::new(config());
    let login = json!({ "username": USERNAME, "password": "guess", "client_id": CLIENT_ID,
        "client_secret": CLIENT_SECRET });
    let refused = sandbox.answer(post(LOGIN_PATH).body(sealed(&login)).unwrap()).await;
    assert_eq!((refused.status, &refused.body["error"]), (400, &json!("invalid_grant")));
}

#[tokio::test]
async fn revoking_ends_access_tokens_and_no_refresh_token() {
    let sandbox = Fixture::new(config());
    let earlier = Fixture::new(config()).login().await.granted();
    let pair = sandbox.login().await.granted();
    assert_eq!(sandbox.send(Request::post("/sandbox/revoke")).await.status, 204);
    assert_eq!(sandbox.call(text(&earlier, "access_token")).await.status, 401);
    assert_eq!(sandbox.call(text(&pair, "access_token")).await.status, 401);
    let next = sandbox.refresh(text(&pair, "refresh_token")).await.granted();
    assert_eq!(sandbox.call(text(&next, "access_token")).await.status, 200);
}

#[tokio::test]
async fn faults_that_do_nothing_leave_the_token_good() {
    for (fault, status) in [(Fault::Busy, 503), (Fault::Error, 500), (Fault::Refused, 400)] {
        let sandbox = Fixture::new(Config { fault_every: 2, fault, ..config() });
        let pair = sandbox.refresh(seed().expose()).await.granted();
        let faulty = sandbox.refresh(text(&pair, "refresh_token")).await;
        assert_eq!(faulty.status, status);
        assert_eq!(faulty.retry_after.is_some(), fault == Fault::Busy);
        sandbox.refresh(text(&pair, "refresh_token")).await.granted();
        assert_eq!(sandbox.stats().await["faults"], 1);
    }
}

#[tokio::test]
async fn faults_that_lose_the_answer_spend_the_token() {
    for fault in [Fault::Lost, Fault::Nonsense] {
        let sandbox = Fixture::new(Config { fault_every: 1, fault, ..config() });
        let refresh = sandbox.refresh(seed().expose()).await;
        assert_eq!(refresh.cut, fault == Fault::Lost);
        assert_eq!((refresh.status, &refresh.body), (200, &Value::Null));
        assert_eq!(sandbox.refresh(seed().expose()).await.status, 400);
        assert_eq!(sandbox.stats().await["reuse_detected"], 1);
    }
}

#[tokio::test]
async fn bodies_of_other_calls_may_be_sealed_or_plain_or_absent() {
    let sandbox = Fixture::new(config());
    let pair = sandbox.login().await.granted();
    let bearer = format!("Bearer {}", text(&pair, "access_token"));
    let order = json!({ "req_id": "r1", "order_id": "o1", "va": "1", "bin_code": "970000", "amount": 5 });
    let generate = async |body: String| {
        let request = post("/openapi/v1/transaction/qr/generate").header(header::AUTHORIZATION, &bearer);
        sandbox.answer(request.body(body).unwrap()).await
    };
    for body in [sealed(&order), order.to_string()] {
        let answer = generate(body).await.granted();
        for key in ["req_id", "order_id", "va", "bin_code", "amount"] {
            assert_eq!(answer[key], order[key]);
        }
    }
    generate(String::new()).await.granted();
    for body in ["{", "{\"data\":\"00\"}"] {
        assert_eq!(generate(body.into()).await.status, 400, "{body}");
    }
}

#[tokio::test]
async fn lists_honour_limit_and_page() {
    let list = |asked: Value| calls::CALLS[6].1(&asked);
    assert_eq!(list(Value::Null)["items"].as_array().unwrap().len(), 10);
    assert_eq!(list(json!({ "limit": 20, "page": 2 }))["items"].as_array().unwrap().len(), 5);
    assert_eq!(list(json!({ "limit": 20, "page": 2 }))["items"][0]["order_id"], "CASH-0021");
    assert_eq!(list(json!({ "limit": u64::MAX, "page": u64::MAX }))["items"], json!([]));
    assert_eq!(list(json!({ "from_date": "2024-01-01 00:00:00" }))["from_date"], "2024-01-01 00:00:00");
}

#[tokio::test]
async fn unknown_paths_and_methods_are_refused_in_json() {
    let sandbox = Fixture::new(config());
    let nowhere = sandbox.send(post("/openapi/v1/nowhere")).await;
    assert_eq!((nowhere.status, &nowhere.body["error"]), (404, &json!("not_found")));
    for path in [REFRESH_PATH, "/openapi/v1/va"] {
        let get = sandbox.send(Request::get(path).header("Partner-Code", PARTNER_CODE)).await;
        assert_eq!((get.status, &get.body["error"]), (405, &json!("method_not_allowed")));
    }
}

#[tokio::test(start_paused = true)]
async fn a_caller_that_gives_up_has_spent_its_token() {
    let sandbox = Fixture::new(Config { refresh_delay: Duration::from_secs(5), ..config() });
    let seed = seed();
    let call = sandbox.refresh(seed.expose());
    tokio::time::timeout(Duration::from_secs(1), call).await.err().unwrap();
    assert_eq!(sandbox.stats().await["refreshes"], 1);
    assert_eq!(sandbox.refresh(seed.expose()).await.status, 400);
}

#[tokio::test]
async fn a_lost_answer_closes_the_connection_without_a_byte() {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    let config = Config { fault_every: 1, fault: Fault::Lost, ..config() };
    let sandbox = Sandbox::bind(&config).unwrap();
    let address = sandbox.local_addr().unwrap();
    let (stop, stopped) = oneshot::channel::<()>();
    let running = tokio::spawn(sandbox.run(async { drop(stopped.await) }));

    let body = sealed(&json!({ "refresh_token": seed().expose() }));
    let mut peer = tokio::net::TcpStream::connect(address).await.unwrap();
    let head = format!(
        "POST {REFRESH_PATH} HTTP/1.1\r\nHost: x\r\nPartner-Code: {PARTNER_CODE}\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    peer.write_all(head.as_bytes()).await.unwrap();
    peer.write_all(body.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    // Closing may reach the peer as an end or as a reset; either is no answer.
    let _ = peer.read_to_end(&mut answer).await;
    assert_eq!(answer, b"");

    // A connection on which nothing is ever asked does not hold the sandbox up.
    let _idle = tokio::net::TcpStream::connect(address).await.unwrap();
    stop.send(()).unwrap();
    running.await.unwrap().unwrap();
}

/// A sandbox, and the clock it goes by.
struct Fixture {
    router: Router,
    clock: Arc<Hand>,
}

impl Fixture {
    fn new(config: Config) -> Self {
        let clock = Arc::new(Hand(AtomicU64::new(0)));
        Self { router: router(config, clock.clone()), clock }
    }

    fn pass(&self, millis: u64) {
        self.clock.0.fetch_add(millis, Ordering::Relaxed);
    }

    async fn refresh(&self, token: &str) -> Answer {
        let body = sealed(&json!({ "refresh_token": token }));
        self.answer(post(REFRESH_PATH).body(body).unwrap()).await
    }

    async fn login(&self) -> Answer {
        let login = json!({ "username": USERNAME, "password": PASSWORD, "client_id": CLIENT_ID,
            "client_secret": CLIENT_SECRET });
        self.answer(post(LOGIN_PATH).body(sealed(&login)).unwrap()).await
    }

    async fn call(&self, access: &str) -> Answer {
        let request = post("/openapi/v1/services").header(header::AUTHORIZATION, format!("Bearer {access}"));
        self.send(request).await
    }

    async fn stats(&self) -> Value {
        self.send(Request::get("/sandbox/stats")).await.granted()
    }

    async fn send(&self, request: http::request::Builder) -> Answer {
        self.answer(request.body(String::new()).unwrap()).await
    }

    async fn answer(&self, request: Request<String>) -> Answer {
        let response = self.router.clone().oneshot(request.map(Body::from)).await.unwrap();
        let header = |name| response.headers().get(name).map(|value| value.to_str().unwrap().to_owned());
        let (challenge, retry_after) = (header(header::WWW_AUTHENTICATE), header(header::RETRY_AFTER));
        let status = response.status().as_u16();
        let body = response.into_body().collect().await.map(http_body_util::Collected::to_bytes);
        Answer {
            status,
            challenge,
            retry_after,
            cut: body.is_err(),
            body: serde_json::from_slice(&body.unwrap_or_default()).unwrap_or_default(),
        }
    }
}

/// What came back; a body that is not JSON is null.
struct Answer {
    status: u16,
    challenge: Option<String>,
    retry_after: Option<String>,
    cut: bool,
    body: Value,
}

impl Answer {
    #[track_caller]
    fn granted(self) -> Value {
        assert_eq!(self.status, 200, "{}", self.body);
        self.body
    }
}

/// A clock that is turned by hand, in milliseconds.
struct Hand(AtomicU64);

impl Clock for Hand {
    fn now(&self) -> Moment {
        Moment(Duration::from_millis(self.0.load(Ordering::Relaxed)))
    }

    fn wall(&self) -> UnixMillis {
        UnixMillis(1_700_000_000_000 + self.0.load(Ordering::Relaxed))
    }
}

fn config() -> Config {
    Config {
        listen: SocketAddr::from(([127, 0, 0, 1], 0)),
        access_lifetime: Duration::from_secs(60),
        refresh_lifetime: Duration::from_secs(3600),
        grace: Duration::ZERO,
        refresh_delay: Duration::ZERO,
        request_delay: Duration::ZERO,
        fault_every: 0,
        fault: Fault::Busy,
    }
}

fn post(path: &str) -> http::request::Builder {
    Request::post(path).header("Partner-Code", PARTNER_CODE)
}

fn sealed(message: &Value) -> String {
    let key = EnvelopeKey::from_hex(ENCRYPTION_KEY).unwrap();
    let data = envelope::seal(&key, Iv::Prefix, message.to_string().as_bytes()).unwrap();
    json!({ "data": data }).to_string()
}

fn text<'a>(answer: &'a Value, key: &str) -> &'a str {
    answer[key].as_str().unwrap()
}
