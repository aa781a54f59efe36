//! Which header fields go on, which stay, and which end the request.

use crate::support::client::Request;
use crate::support::config::Config;
use crate::support::gateway::Gateway;
use crate::support::http::Answer;
use crate::support::http2::{connect, part, runtime};
use crate::support::partner::{CODE, Partner, REFRESH};
use crate::support::secrets::marked;

#[test]
fn s64_credentials_from_the_client_never_reach_the_partner() {
    let partner = Partner::new();
    let gateway = Gateway::before(&partner);
    let mine = format!("Bearer {}", marked("client"));
    let request = Request::get("/x")
        .with("Authorization", &mine)
        .with("authorization", "Basic dTpw")
        .with("Partner-Code", "OTHER")
        .with("PARTNER-CODE", "ANOTHER")
        .with("Proxy-Authorization", &mine);
    assert_eq!(gateway.send(&request).status, 200);
    let seen = partner.only();
    assert!(partner.authorized(&seen.fields), "exactly one Authorization, and bearerd's own");
    assert_eq!(seen.fields.all("partner-code"), [CODE]);
    assert!(!seen.fields.has("proxy-authorization"));
}

/// What a field may be called by those who hope that somebody takes it for another.
fn spellings(name: &str) -> Vec<String> {
    let mut spellings = vec![name.to_owned(), name.to_uppercase(), name.to_lowercase()];
    let odd = |(at, c): (usize, char)| if at % 2 == 0 { c.to_ascii_uppercase() } else { c };
    spellings.push(name.to_lowercase().chars().enumerate().map(odd).collect());
    // Each hyphen may be an underscore.
    let hyphens: Vec<_> = name.match_indices('-').map(|(at, _)| at).collect();
    for choice in 1..1 << hyphens.len() {
        let mut bytes = name.as_bytes().to_vec();
        for (_, at) in hyphens.iter().enumerate().filter(|(bit, _)| choice >> bit & 1 == 1) {
            bytes[*at] = b'_';
        }
        let underscored = String::from_utf8(bytes).unwrap();
        spellings.extend([underscored.to_lowercase(), underscored]);
    }
    spellings
}

#[test]
fn s64_no_spelling_of_a_managed_field_reaches_the_partner_from_anywhere() {
    let partner = Partner::new();
    let config = Config::to(&partner).set("partner.headers.x-service-code", "static");
    let gateway = Gateway::start(&config);
    let managed = ["Authorization", "Proxy-Authorization", "Partner-Code", "X-Service-Code"];
    let mine = "Bearer mine";
    let (mut carried, mut refused) = (0, 0);
    for spelling in managed.iter().flat_map(|name| spellings(name)) {
        for (what, request) in [
            ("once", Request::get("/x").with(&spelling, mine)),
            ("twice", Request::get("/x").with(&spelling, mine).with(&spelling, mine)),
            ("named by Connection", Request::get("/x").with("Connection", &spelling).with(&spelling, mine)),
            ("with a body", Request::post("/x", "abc").with(&spelling, mine)),
        ] {
            let answer = gateway.send(&request);
            // With an underscore it is refused, because some servers would take it for the other.
            if spelling.contains('_') {
                answer.assert_problem(400);
                refused += 1;
            } else {
                assert_eq!(answer.status, 200, "{spelling} {what}: {answer:?}");
                carried += 1;
            }
        }
        let trailers = Request::new("POST", "/x").with("Trailer", &spelling).chunked([&b"abc"[..]]);
        assert_eq!(gateway.send(&trailers.trailer(&spelling, mine)).status, 200, "{spelling} in a trailer");
        carried += 1;
    }
    let seen = partner.seen();
    assert_eq!(seen.len(), carried, "{refused} were refused");
    assert!(refused > 0);
    for seen in seen {
        assert!(partner.authorized(&seen.fields), "{:?}", seen.fields);
        assert_eq!(seen.fields.all("partner-code"), [CODE]);
        assert_eq!(seen.fields.all("x-service-code"), ["static"]);
        let all = seen.fields.0.iter().chain(&seen.trailers.0);
        assert_eq!(all.filter(|(_, value)| value == mine).count(), 0, "{seen:?}");
    }
}

#[test]
fn s65_cookies_and_challenges_of_the_partner_reach_the_client_as_they_are() {
    let partner = Partner::new();
    let cookies = ["session=1; Path=/; HttpOnly", "theme=dark", "session=1; Path=/; HttpOnly"];
    let challenges = ["Bearer realm=\"partner\", error=\"insufficient_scope\"", "Basic realm=\"x\""];
    for (path, status) in [("/ok", 200), ("/denied", 403), ("/refused", 401)] {
        let mut answer = Answer::new(status, "what the partner said").with("Authentication-Info", "a=b");
        for cookie in cookies {
            answer = answer.with("Set-Cookie", cookie);
        }
        for challenge in challenges {
            answer = answer.with("WWW-Authenticate", challenge);
        }
        partner.on(path, move |x| x.answer(&answer));
    }
    let gateway = Gateway::before(&partner);
    for (path, status) in [("/ok", 200), ("/denied", 403), ("/refused", 401)] {
        let answer = gateway.get(path);
        assert_eq!((answer.status, answer.text().as_str()), (status, "what the partner said"));
        assert_eq!(answer.fields.all("set-cookie"), cookies, "{path}");
        assert_eq!(answer.fields.all("www-authenticate"), challenges, "{path}");
        assert_eq!(answer.fields.all("authentication-info"), ["a=b"], "{path}");
    }
    // bearerd keeps no cookies: the next client has none.
    assert_eq!(gateway.get("/ok").status, 200);
    assert!(partner.seen().iter().all(|seen| !seen.fields.has("cookie")));
}

#[test]
fn static_headers_go_on_every_request_in_place_of_the_clients() {
    let partner = Partner::new();
    let config = Config::to(&partner).set("partner.headers.x-service-code", marked("service"));
    let gateway = Gateway::start(&config);
    assert_eq!(gateway.send(&Request::get("/x").with("X-Service-Code", "mine")).status, 200);
    assert_eq!(partner.only().fields.all("x-service-code"), [marked("service")]);
    assert_eq!(partner.refresh_call(0).fields.all("x-service-code"), [marked("service")]);
    assert_eq!(partner.refresh_call(0).target, REFRESH);
}

#[test]
fn hop_by_hop_fields_stay_here_in_both_directions() {
    let partner = Partner::new();
    partner.on("/hop", |x| {
        let answer = Answer::new(200, "x")
            .with("Connection", "X-Private, close")
            .with("X-Private", "1")
            .with("Keep-Alive", "timeout=5")
            .with("Proxy-Authenticate", "Basic")
            .with("Proxy-Connection", "keep-alive")
            .with("Upgrade", "h2c")
            .with("X-Public", "2");
        x.answer(&answer)
    });
    let gateway = Gateway::before(&partner);
    let request = Request::get("/hop")
        .with("Connection", "X-First, keep-alive")
        .with("Connection", "x-second")
        .with("X-First", "1")
        .with("X-Second", "2")
        .with("X-Third", "3")
        .with("Keep-Alive", "timeout=5")
        .with("Proxy-Connection", "keep-alive")
        .with("TE", "trailers");
    let mut client = gateway.connect();
    let answer = client.exchange(&request);
    let seen = partner.only();
    for name in ["x-first", "x-second", "keep-alive", "proxy-connection", "upgrade"] {
        assert!(!seen.fields.has(name), "{name} went on: {:?}", seen.fields);
    }
    assert_eq!(seen.fields.all("x-third"), ["3"]);
    for name in ["x-private", "keep-alive", "proxy-authenticate", "proxy-connection", "upgrade"] {
        assert!(!answer.fields.has(name), "{name} came back: {:?}", answer.fields);
    }
    assert_eq!(answer.fields.all("x-public"), ["2"]);
    // The partner's `close` is about the partner's connection.
    assert_eq!(client.exchange(&Request::get("/next")).status, 200);
}

#[test]
fn connection_cannot_take_away_what_bearerd_sets() {
    let partner = Partner::new();
    let gateway = Gateway::before(&partner);
    let request = Request::post("/x", "abc")
        .with("Connection", "Authorization, Partner-Code, Host, Content-Length, Via, Transfer-Encoding");
    assert_eq!(gateway.send(&request).status, 200);
    let seen = partner.only();
    assert!(partner.authorized(&seen.fields));
    assert_eq!(seen.fields.all("partner-code"), [CODE]);
    assert_eq!(seen.fields.all("host"), [partner.address().to_string()]);
    assert_eq!(seen.fields.all("via").len(), 1);
    assert_eq!(seen.body, b"abc");
}

#[test]
fn where_the_client_is_does_not_concern_the_partner() {
    let partner = Partner::new();
    let gateway = Gateway::before(&partner);
    let request = Request::get("/x")
        .with("Forwarded", "for=10.0.0.1")
        .with("X-Forwarded-For", "10.0.0.1")
        .with("X-Forwarded-Host", "internal")
        .with("X-Forwarded-Proto", "http")
        .with("X-Request-Id", "42");
    assert_eq!(gateway.send(&request).status, 200);
    let seen = partner.only();
    let told: Vec<_> = seen.fields.names().into_iter().filter(|name| name.contains("forwarded")).collect();
    assert_eq!(told, [""; 0]);
    assert_eq!(seen.fields.all("x-request-id"), ["42"]);
}

#[test]
fn via_is_added_and_a_request_that_comes_round_is_a_508() {
    let partner = Partner::new();
    let gateway = Gateway::before(&partner);
    assert_eq!(gateway.send(&Request::get("/x").with("Via", "1.1 front")).status, 200);
    let via = partner.only().fields.all("via").join(", ");
    assert!(via.starts_with("1.1 front, 1.1 ") && via.len() > "1.1 front, 1.1 ".len(), "{via}");
    gateway.send(&Request::get("/x").with("Via", &via)).assert_problem(508);
    assert_eq!(partner.seen().len(), 1);
}

#[test]
fn underscore_spellings_of_what_bearerd_manages_are_refused() {
    let partner = Partner::new();
    let gateway = Gateway::start(&Config::to(&partner).set("partner.headers.x-service-code", "static"));
    for name in [
        "Partner_Code",
        "partner_code",
        "Content_Length",
        "Transfer_Encoding",
        "Proxy_Authorization",
        "X_Service_Code",
        "X-Service_Code",
    ] {
        gateway.send(&Request::get("/x").with(name, "1")).assert_problem(400);
    }
    assert_eq!(partner.seen().len(), 0);
    assert_eq!(gateway.send(&Request::get("/x").with("legacy_name", "1")).status, 200);
    assert_eq!(partner.only().fields.all("legacy_name"), ["1"]);
}

#[test]
fn a_field_that_is_configured_with_underscores_is_bearerds_in_every_spelling() {
    let partner = Partner::new();
    let gateway = Gateway::start(&Config::to(&partner).set("partner.headers.x_service_code", "ours"));
    assert_eq!(gateway.send(&Request::get("/x").with("X-Service-Code", "theirs")).status, 200);
    for name in ["x_service_code", "X-Service_Code"] {
        gateway.send(&Request::get("/x").with(name, "theirs")).assert_problem(400);
    }
    let seen = partner.only();
    assert_eq!(seen.fields.all("x_service_code"), ["ours"]);
    assert!(!seen.fields.has("x-service-code"));
}

#[test]
fn what_is_for_one_hop_does_not_come_back_in_trailers() {
    let partner = Partner::new();
    let bad = [
        "Connection: close",
        "Content-Length: 3",
        "Keep-Alive: 1",
        "Proxy-Authenticate: Basic",
        "TE: x",
        "Trailer: x",
        "Transfer-Encoding: gzip",
        "Upgrade: x",
    ];
    let names: Vec<&str> = bad.iter().map(|field| field.split(':').next().unwrap()).collect();
    let announced = format!("{}, X-Sum", names.join(", "));
    let trailers = format!("0\r\n{}\r\nX-Sum: 1\r\n\r\n", bad.join("\r\n"));
    partner.on("/x", move |x| {
        x.begin_chunked(200, &[("Trailer", &announced)])?;
        x.chunk(b"all")?;
        x.raw(trailers.as_bytes())
    });
    let gateway = Gateway::before(&partner);
    let answer = gateway.send(&Request::get("/x").with("TE", "trailers").with("Connection", "te"));
    assert_eq!(answer.text(), "all");
    assert_eq!(answer.trailers.names(), ["x-sum"]);
    let runtime = runtime();
    runtime.block_on(async {
        let mut requests = connect(gateway.proxy_addr()).await;
        let head = http::Request::get("http://app.test/x").header("te", "trailers").body(()).unwrap();
        let (answer, _) = requests.send_request(head, true).unwrap();
        let mut body = answer.await.unwrap().into_body();
        assert_eq!(part(&mut body).await.unwrap(), "all");
        assert!(part(&mut body).await.is_none());
        let trailers = body.trailers().await.unwrap().unwrap();
        assert_eq!(trailers.keys().collect::<Vec<_>>(), ["x-sum"]);
    });
}

#[test]
fn what_a_web_page_could_send_is_refused_unless_allowed() {
    let partner = Partner::new();
    let from_pages = [
        Request::get("/x").with("Origin", "https://evil.test"),
        Request::get("/x").with("Origin", "null"),
        Request::post("/x", "a=b").with("Sec-Fetch-Site", "cross-site"),
        Request::get("/x").with("Sec-Fetch-Site", "same-origin"),
        Request::get("/x").with("Sec-Fetch-Site", "same-site"),
    ];
    let gateway = Gateway::before(&partner);
    for request in &from_pages {
        gateway.send(request).assert_problem(403);
    }
    assert_eq!(partner.seen().len(), 0);
    assert_eq!(gateway.send(&Request::get("/x").with("Sec-Fetch-Site", "none")).status, 200);
    let gateway = Gateway::start(&Config::to(&partner).set("server.allow_browsers", true).with_login());
    for request in &from_pages {
        assert_eq!(gateway.send(request).status, 200);
    }
}

#[test]
fn paths_for_rewriting_servers_are_refused() {
    let partner = Partner::new();
    let gateway = Gateway::before(&partner);
    for name in ["X-Original-URL", "X-Rewrite-URL"] {
        let answer = gateway.send(&Request::get("/x").with(name, REFRESH));
        assert!(matches!(answer.status, 400 | 403), "{name}: {answer:?}");
        answer.assert_problem(answer.status);
    }
    assert_eq!(partner.seen().len(), 0);
}

#[test]
fn the_trace_context_of_the_client_goes_on() {
    let partner = Partner::new();
    let gateway = Gateway::before(&partner);
    let trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    assert_eq!(gateway.send(&Request::get("/x").with("traceparent", trace)).status, 200);
    let seen = partner.only();
    let [passed] = seen.fields.all("traceparent")[..] else { panic!("{:?}", seen.fields) };
    assert!(passed.starts_with("00-0af7651916cd43dd8448eb211c80319c-"), "{passed}");
}
