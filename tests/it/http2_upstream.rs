//! HTTP/2 towards the partner: how it is agreed on, what is said in it, and gRPC from end to end.

use std::future::poll_fn;
use std::io::{self, Read as _, Write as _};
use std::net::{Shutdown, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use bytes::Bytes;
use h2::Reason;
use http::{HeaderMap, HeaderValue, Request as Head};
use rustix::process::{Resource, Rlimit, getrlimit, prlimit};
use socket2::SockRef;

use crate::support::client::Request;
use crate::support::config::Config;
use crate::support::frames::{self, Frames, Said};
use crate::support::gateway::Gateway;
use crate::support::http::Answer;
use crate::support::http2::{Http2Partner, connect, fields, grpc, message, part, runtime, send};
use crate::support::partner::{CODE, Partner};
use crate::support::partner_frames::{self, Field};
use crate::support::raw_peer::RawPeer;
use crate::support::secrets::marked;
use crate::support::vitals::descriptors;
use crate::support::{eventually, noise, sha256};

/// A bearerd that speaks HTTP/2 to `partner`, with one runtime.
fn before(partner: &Http2Partner) -> Gateway {
    Gateway::start(&partner.config().set("partner.http2", true).set("server.threads", 1))
}

#[test]
fn over_tls_the_partner_chooses_and_token_calls_are_http1() {
    for (offered, agreed) in [
        (&["h2", "http/1.1"][..], "h2"),
        (&["http/1.1", "h2"], "http/1.1"),
        (&["http/1.1"], "http/1.1"),
        (&[], ""),
    ] {
        let partner = Http2Partner::offering(offered);
        let gateway = Gateway::start(&partner.config());
        for _ in 0..3 {
            assert_eq!(gateway.post("/x", "body").status, 200);
        }
        let http2 = agreed == "h2";
        assert_eq!(partner.seen().len(), if http2 { 3 } else { 0 }, "{offered:?}");
        assert_eq!(partner.tokens.seen().len(), if http2 { 0 } else { 3 }, "{offered:?}");
        let handshakes = partner.agreed();
        assert_eq!(handshakes[0], if agreed.is_empty() { "" } else { "http/1.1" }, "the token call");
        assert!(handshakes[1..].iter().all(|one| one == agreed), "{handshakes:?}");
    }
}

#[test]
fn a_partner_that_moves_to_another_version_is_followed() {
    let partner = Http2Partner::offering(&["http/1.1"]);
    partner.tokens.on("/last", |x| {
        x.answer(&Answer::new(200, ""))?;
        x.close()
    });
    let config = partner.config().set("server.threads", 1).set("server.idle_timeout", "1s");
    let gateway = Gateway::start(&config);
    assert_eq!(gateway.get("/last").status, 200);
    // By both: a request on a connection whose end nobody has been told of yet is answered 502.
    eventually("closed", || gateway.metric("bearerd_connections", &[("side", "upstream")]) == Some(0.0));
    partner.offer(&["h2", "http/1.1"]);
    assert_eq!(gateway.post("/x", "body").status, 200);
    assert_eq!((partner.tokens.seen().len(), partner.seen().len()), (1, 1));
    eventually("idle and closed", || partner.open_connections() == 0);
    partner.offer(&["http/1.1"]);
    assert_eq!(gateway.post("/x", "body").status, 200);
    assert_eq!((partner.tokens.seen().len(), partner.seen().len()), (2, 1));
}

#[test]
fn http2_can_be_ruled_out_and_required() {
    let partner = Http2Partner::offering(&["h2", "http/1.1"]);
    let gateway = Gateway::start(&partner.config().set("partner.http2", false));
    assert_eq!(gateway.get("/x").status, 200);
    assert_eq!((partner.seen().len(), partner.tokens.seen().len()), (0, 1));

    for offered in [&["http/1.1"][..], &[]] {
        let partner = Http2Partner::offering(offered);
        let gateway = Gateway::start(&partner.config().set("partner.http2", true));
        gateway.get("/x").assert_problem(502);
        assert_eq!((partner.seen().len(), partner.tokens.seen().len()), (0, 0));
    }
    // In clear nobody is asked, and the answer is no HTTP/2: the request has not left.
    let partner = crate::support::partner::Partner::new();
    let gateway = Gateway::start(&crate::support::config::Config::to(&partner).set("partner.http2", true));
    let answer = gateway.get("/x");
    answer.assert_problem(502);
    assert!(answer.text().contains("was not processed"), "{}", answer.text());
    assert!(!partner.seen().iter().any(|seen| seen.target == "/x"));
}

#[test]
fn in_clear_it_is_http1_unless_http2_is_set() {
    let partner = Http2Partner::new();
    let gateway = Gateway::start(&partner.config());
    assert_eq!(gateway.get("/x").status, 200);
    assert_eq!((partner.seen().len(), partner.tokens.seen().len()), (0, 1));
    let partner = Http2Partner::new();
    let gateway = before(&partner);
    assert_eq!(gateway.get("/x").status, 200);
    assert_eq!((partner.seen().len(), partner.tokens.seen().len()), (1, 0));
}

#[test]
fn a_request_is_the_same_but_for_what_http2_says_otherwise() {
    let partner = Http2Partner::new();
    let gateway = Gateway::start(
        &partner.config().set("partner.http2", true).set("partner.headers.x-service-code", marked("service")),
    );
    let request = Request::post("/a%2Fb/c%20d?q=1&q=%E1", "body")
        .with("X-App", "1")
        .with("X-App", "2")
        .with("Connection", "keep-alive, X-Hop")
        .with("X-Hop", "1")
        .with("Keep-Alive", "timeout=5")
        .with("TE", "trailers, deflate")
        .with("Authorization", "Bearer own");
    assert_eq!(gateway.send(&request).status, 200);
    let seen = partner.seen().remove(0);
    assert_eq!(seen.method, "POST");
    assert_eq!(seen.uri, format!("http://{}/a%2Fb/c%20d?q=1&q=%E1", partner.address()));
    let mut names = seen.fields.names();
    names.sort();
    let expected =
        ["authorization", "content-length", "partner-code", "te", "via", "x-app", "x-app", "x-service-code"];
    assert_eq!(names, expected);
    assert_eq!(seen.fields.all("x-app"), ["1", "2"]);
    assert_eq!(seen.fields.all("te"), ["trailers"]);
    assert_eq!(seen.fields.all("content-length"), ["4"]);
    assert_eq!(seen.fields.all("partner-code"), [CODE]);
    assert!(partner.tokens.authorized(&seen.fields), "{seen:?}");
}

#[test]
fn what_an_answer_has_for_this_hop_only_is_not_passed_on() {
    let partner = Http2Partner::new();
    partner.on("/x", |mut call| async move {
        call.begin(200, &[("proxy-authenticate", "Basic"), ("www-authenticate", "Basic")], true);
    });
    let answer = before(&partner).get("/x");
    assert_eq!(answer.fields.get("proxy-authenticate"), None);
    assert_eq!(answer.fields.get("www-authenticate"), Some("Basic"));
}

#[test]
fn every_method_and_length_arrives_and_every_answer_returns() {
    let partner = Http2Partner::new();
    partner.on("/echo", |mut call| async move {
        let body = Bytes::from(call.body().await);
        let head = call.request.method() == http::Method::HEAD;
        let mut answer = call.begin(201, &[("x-kept", "1")], head);
        if !head {
            answer.send_data(body, true).unwrap();
        }
    });
    partner.on("/none", |mut call| async move { drop(call.begin(204, &[], true)) });
    let gateway = before(&partner);
    for method in ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"] {
        let answer = gateway.send(&Request::new(method, "/echo"));
        assert_eq!((answer.status, answer.body.len()), (201, 0), "{method}");
        assert_eq!(answer.fields.all("x-kept"), ["1"]);
    }
    assert_eq!(gateway.get("/none").status, 204);
    assert_eq!(gateway.send(&Request::new("OPTIONS", "*")).status, 200);
    assert!(partner.seen().last().unwrap().uri.ends_with('*'), "{:?}", partner.seen().last());
    for size in [0, 1, 16_384, 65_535, 65_536, 65_537, 1_000_000] {
        let body = noise(size);
        for request in
            [Request::post("/echo", body.clone()), Request::new("POST", "/echo").chunked(body.chunks(4093))]
        {
            let answer = gateway.send(&request);
            assert_eq!((answer.status, sha256(&answer.body)), (201, sha256(&body)), "{size}");
        }
    }
    let lengths: Vec<_> = partner.seen().iter().map(|seen| seen.fields.has("content-length")).collect();
    assert_eq!(lengths[..9], [false; 9], "no length is made up");
    assert_eq!(lengths[9..], [true, false].repeat(7));
    assert_eq!(partner.connections(), 1);
}

#[test]
fn a_401_is_invisible_over_http2_as_well() {
    for partner in [Http2Partner::new(), Http2Partner::offering(&["h2", "http/1.1"])] {
        let gateway = before(&partner);
        for (path, request) in [
            ("/held", Request::post("/held", noise(5000))),
            ("/teed", Request::new("POST", "/teed").chunked(noise(5000).chunks(100))),
        ] {
            let refreshes = partner.tokens.refreshes();
            partner.tokens.revoke_access();
            assert_eq!(gateway.send(&request).status, 200, "{path}");
            assert_eq!(partner.tokens.refreshes(), refreshes + 1);
            let seen: Vec<_> = partner.seen().into_iter().filter(|seen| seen.uri.ends_with(path)).collect();
            assert_eq!(seen.len(), 2, "{path}");
            assert_ne!(seen[0].fields.get("authorization"), seen[1].fields.get("authorization"));
        }
        assert_eq!(partner.connections(), 1);
        partner.tokens.assert_no_spent_token_seen();
    }
}

#[test]
fn s52_a_401_in_the_middle_of_an_upload_resets_the_stream_and_the_request_is_sent_again() {
    let partner = Arc::new(Http2Partner::new());
    let (first, resets) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let reset = Arc::clone(&resets);
    partner.on("/upload", move |mut call| {
        let (again, reset) = (first.fetch_add(1, Ordering::SeqCst) > 0, Arc::clone(&reset));
        async move {
            if again {
                let body = call.body().await;
                return call.begin(200, &[], false).send_data(body.into(), true).unwrap();
            }
            assert_eq!(call.part().await.unwrap(), "first");
            call.begin(401, &[], false).send_data(Bytes::from_static(b"no"), true).unwrap();
            // The upload does not go on, and does not end as if that were all.
            let ended = loop {
                match call.request.body_mut().data().await {
                    Some(Ok(_)) => {}
                    Some(Err(error)) => break error.reason(),
                    None => break None,
                }
            };
            assert_eq!(ended, Some(Reason::CANCEL));
            reset.fetch_add(1, Ordering::SeqCst);
        }
    });
    let gateway = before(&partner);
    runtime().block_on(async {
        let mut requests = connect(gateway.proxy_addr()).await;
        let (response, mut upload) = requests.send_request(grpc("/upload"), false).unwrap();
        upload.send_data(Bytes::from_static(b"first"), false).unwrap();
        eventually("sent again", || partner.seen().len() == 2);
        upload.send_data(Bytes::from_static(b", then the rest"), true).unwrap();
        let response = response.await.unwrap();
        assert_eq!(response.status(), 200);
        let mut body = response.into_body();
        assert_eq!(part(&mut body).await.unwrap(), "first, then the rest");
    });
    eventually("the first stream is reset", || resets.load(Ordering::SeqCst) == 1);
    assert_eq!(partner.connections(), 1);
}

#[test]
fn grpc_unary_calls_end_with_their_trailers() {
    let partner = Http2Partner::new();
    partner.on("/pkg.Service/Unary", |mut call| async move {
        assert_eq!(call.fields().all("te"), ["trailers"]);
        let body = call.body().await;
        let mut answer = call.begin(200, &[("content-type", "application/grpc")], false);
        answer.send_data(body.into(), false).unwrap();
        let mut trailers = HeaderMap::new();
        trailers.insert("grpc-status", HeaderValue::from_static("0"));
        trailers.insert("grpc-message", HeaderValue::from_static("done"));
        answer.send_trailers(trailers).unwrap();
    });
    partner.on("/pkg.Service/Refuses", |mut call| async move {
        let fields = [("content-type", "application/grpc"), ("grpc-status", "7")];
        drop(call.begin(200, &fields, true));
    });
    let gateway = before(&partner);
    runtime().block_on(async {
        let mut requests = connect(gateway.proxy_addr()).await;
        let (response, mut upload) = requests.send_request(grpc("/pkg.Service/Unary"), false).unwrap();
        upload.send_data(message(b"hello"), true).unwrap();
        let response = response.await.unwrap();
        assert_eq!(response.status(), 200);
        assert_eq!(fields(response.headers()).all("content-type"), ["application/grpc"]);
        let mut body = response.into_body();
        assert_eq!(part(&mut body).await.unwrap(), message(b"hello"));
        assert!(part(&mut body).await.is_none());
        let trailers = body.trailers().await.unwrap().unwrap();
        let trailers = fields(&trailers);
        assert_eq!((trailers.all("grpc-status"), trailers.all("grpc-message")), (vec!["0"], vec!["done"]));

        // An answer of trailers only.
        let (response, mut upload) = requests.send_request(grpc("/pkg.Service/Refuses"), false).unwrap();
        // The answer may be there before the request is.
        let _refused = upload.send_data(message(b"hello"), true);
        let response = response.await.unwrap();
        let names = fields(response.headers());
        assert_eq!((names.all("grpc-status"), names.has("content-length")), (vec!["7"], false));
        assert!(response.body().is_end_stream(), "it is the only frame");
    });
}

#[test]
fn trailers_of_a_request_arrive() {
    let partner = Http2Partner::new();
    partner.on("/x", |mut call| async move {
        let body = call.body().await;
        let trailers = call.request.body_mut().trailers().await.unwrap().unwrap();
        assert_eq!(fields(&trailers).0, [("x-sum".to_owned(), "7".to_owned())]);
        call.begin(200, &[], false).send_data(body.into(), true).unwrap();
    });
    let gateway = before(&partner);
    let request = Request::new("POST", "/x").with("Trailer", "X-Sum").chunked([&b"abc"[..]]);
    let answer = gateway.send(&request.trailer("X-Sum", "7").trailer("Partner-Code", "other"));
    assert_eq!((answer.status, answer.text().as_str()), (200, "abc"));
}

#[test]
fn grpc_streams_go_both_ways_at_once() {
    let partner = Http2Partner::new();
    partner.on("/pkg.Service/Chat", |mut call| async move {
        // The head goes out before anything has come.
        let mut answer = call.begin(200, &[("content-type", "application/grpc")], false);
        while let Some(part) = call.part().await {
            answer.send_data(part, false).unwrap();
        }
        let mut trailers = HeaderMap::new();
        trailers.insert("grpc-status", HeaderValue::from_static("0"));
        answer.send_trailers(trailers).unwrap();
    });
    let gateway = before(&partner);
    runtime().block_on(async {
        let mut requests = connect(gateway.proxy_addr()).await;
        let (response, mut upload) = requests.send_request(grpc("/pkg.Service/Chat"), false).unwrap();
        let mut body = response.await.unwrap().into_body();
        for round in 0..100 {
            let said = message(format!("message {round}").as_bytes());
            upload.send_data(said.clone(), false).unwrap();
            assert_eq!(part(&mut body).await.unwrap(), said);
        }
        upload.send_data(Bytes::new(), true).unwrap();
        assert!(part(&mut body).await.is_none());
        assert_eq!(fields(&body.trailers().await.unwrap().unwrap()).all("grpc-status"), ["0"]);
    });
}

#[test]
fn many_exchanges_share_one_connection() {
    let partner = Http2Partner::new();
    let waiting = Arc::new(tokio::sync::Barrier::new(80));
    partner.on("/wait", move |call| {
        let waiting = Arc::clone(&waiting);
        async move {
            // Nobody is answered before all have come.
            waiting.wait().await;
            call.answer(200, b"ok").await;
        }
    });
    let gateway = before(&partner);
    let clients: Vec<_> = (0..80).map(|_| gateway.send_aside(Request::get("/wait"))).collect();
    for client in clients {
        assert_eq!(client.join().unwrap().status, 200);
    }
    assert_eq!((partner.connections(), partner.seen().len()), (1, 80));
    assert_eq!(gateway.metric("bearerd_connections", &[("side", "upstream")]), Some(1.0));
}

#[test]
fn a_partner_never_has_more_exchanges_on_a_connection_than_it_wants() {
    let partner = Http2Partner::new();
    partner.max_streams(3);
    let waiting = Arc::new(tokio::sync::Barrier::new(20));
    let under_way: Arc<[AtomicUsize; 64]> = Arc::new(std::array::from_fn(|_| AtomicUsize::new(0)));
    partner.on("/wait", move |call| {
        let (waiting, under_way) = (Arc::clone(&waiting), Arc::clone(&under_way));
        async move {
            let count = &under_way[call.connection];
            assert!(count.fetch_add(1, Ordering::SeqCst) < 3);
            waiting.wait().await;
            count.fetch_sub(1, Ordering::SeqCst);
            call.answer(200, b"ok").await;
        }
    });
    let gateway = before(&partner);
    let clients: Vec<_> = (0..20).map(|_| gateway.send_aside(Request::get("/wait"))).collect();
    for client in clients {
        assert_eq!(client.join().unwrap().status, 200);
    }
    assert_eq!(partner.seen().len(), 20);
    assert_eq!(partner.connections(), 7, "as many as are needed");
}

#[test]
fn a_long_body_passes_in_both_directions_under_flow_control() {
    let partner = Http2Partner::offering(&["h2", "http/1.1"]);
    partner.on("/echo", |mut call| async move {
        let body = Bytes::from(call.body().await);
        let mut answer = call.begin(200, &[], false);
        send(&mut answer, body, &AtomicUsize::new(0)).await;
        answer.send_data(Bytes::new(), true).unwrap();
    });
    let gateway = Gateway::start(&partner.config().set("log.level", "info"));
    let body = noise(8 * 1024 * 1024);
    for request in
        [Request::post("/echo", body.clone()), Request::new("POST", "/echo").chunked(body.chunks(50_000))]
    {
        let answer = gateway.send(&request);
        assert_eq!((answer.status, sha256(&answer.body)), (200, sha256(&body)));
    }
}

/// What lies between the two ends: windows, and buffers that are full.
const BETWEEN: usize = 2 * 1024 * 1024;

/// Gives the other side every occasion to run ahead.
async fn linger() {
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
}

#[test]
fn nobody_sends_further_ahead_than_the_other_one_reads() {
    let partner = Http2Partner::new();
    let (sent, received) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (sending, receiving) = (Arc::clone(&sent), Arc::clone(&received));
    partner.on("/down", move |mut call| {
        let sent = Arc::clone(&sending);
        async move {
            let mut answer = call.begin(200, &[], false);
            send(&mut answer, Bytes::from(vec![0; 4 * BETWEEN]), &sent).await;
            answer.send_data(Bytes::new(), true).unwrap();
        }
    });
    partner.on("/up", move |mut call| {
        let received = Arc::clone(&receiving);
        async move {
            while let Some(part) = call.part().await {
                linger().await;
                received.fetch_add(part.len(), Ordering::SeqCst);
            }
            call.answer(200, b"ok").await;
        }
    });
    let gateway = Gateway::start(&partner.config().set("partner.http2", true).set("log.level", "info"));
    runtime().block_on(async {
        let mut requests = connect(gateway.proxy_addr()).await;
        let (response, _) = requests.send_request(grpc("/down"), true).unwrap();
        let mut body = response.await.unwrap().into_body();
        let mut read = 0;
        while let Some(part) = part(&mut body).await {
            let ahead = sent.load(Ordering::SeqCst) - read;
            assert!(ahead <= BETWEEN, "{ahead} bytes ahead of {read}");
            linger().await;
            read += part.len();
        }
        assert_eq!(read, 4 * BETWEEN);

        let (response, mut upload) = requests.send_request(grpc("/up"), false).unwrap();
        let data = Bytes::from(vec![0; 4 * BETWEEN]);
        let (mut left, mut gone) = (data.clone(), 0);
        while !left.is_empty() {
            upload.reserve_capacity(left.len());
            let room = poll_fn(|cx| upload.poll_capacity(cx)).await.unwrap().unwrap();
            let piece = left.split_to(room.min(left.len()));
            gone += piece.len();
            upload.send_data(piece, false).unwrap();
            let ahead = gone - received.load(Ordering::SeqCst);
            assert!(ahead <= BETWEEN, "{ahead} bytes ahead");
        }
        upload.send_data(Bytes::new(), true).unwrap();
        assert_eq!(response.await.unwrap().status(), 200);
        assert_eq!(received.load(Ordering::SeqCst), data.len());
    });
}

/// Streams of one client that takes no byte of any body, for `path`; their heads have come.
fn paused(gateway: &Gateway, path: &str, count: u32) -> Frames {
    let mut client = Frames::connect(gateway.proxy_addr().tcp());
    let no_window = [0, 4, 0, 0, 0, 0];
    client.send(&frames::frame(frames::SETTINGS, 0, 0, &no_window)).unwrap();
    let head = [(":method", "GET"), (":scheme", "http"), (":authority", "a.test"), (":path", path)];
    let ends = frames::END_HEADERS | frames::END_STREAM;
    for stream in 0..count {
        client.send(&frames::frame(frames::HEADERS, ends, 2 * stream + 1, &frames::block(&head))).unwrap();
    }
    for _ in 0..count {
        let said = client.next().unwrap();
        assert!(matches!(said, Said::Status(_, 200)), "{said:?}");
    }
    client
}

#[test]
fn s59_clients_that_do_not_read_keep_no_other_from_its_answer() {
    const WINDOW: usize = 64 * 1024;
    let partner = Http2Partner::new();
    let sent = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&sent);
    partner.on("/large", move |mut call| {
        let sent = Arc::clone(&counted);
        async move {
            let mut stream = call.begin(200, &[], false);
            send(&mut stream, vec![b'x'; 2 * WINDOW].into(), &sent).await;
        }
    });
    let gateway = before(&partner);
    const PAUSED: usize = 50;
    let _client = paused(&gateway, "/large", PAUSED as u32);
    eventually("each could send what it may", || sent.load(Ordering::SeqCst) >= PAUSED * WINDOW);
    assert_eq!(gateway.post("/x", "abc").status, 200);
    assert_eq!(partner.connections(), 1);
}

#[test]
fn s59_small_pieces_that_a_client_does_not_read_end_no_connection() {
    const PIECES: usize = 2000;
    let partner = Http2Partner::new();
    let sent = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&sent);
    partner.on("/events", move |mut call| {
        let sent = Arc::clone(&counted);
        async move {
            let mut stream = call.begin(200, &[], false);
            for _ in 0..PIECES {
                send(&mut stream, Bytes::from_static(b"data: an event of thirty bytes"), &sent).await;
                tokio::task::yield_now().await;
            }
            call.reset().await;
        }
    });
    let gateway = before(&partner);
    let mut client = paused(&gateway, "/events", 4);
    eventually("all has been sent", || sent.load(Ordering::SeqCst) == 4 * PIECES * 30);
    assert_eq!(gateway.post("/x", "abc").status, 200);
    assert_eq!(partner.connections(), 1);
    // What has been held is there.
    let window = 100_u32.to_be_bytes();
    client.send(&frames::frame(frames::WINDOW_UPDATE, 0, 1, &window)).unwrap();
    let said = client.next().unwrap();
    assert!(matches!(&said, Said::Data(1, data) if data.starts_with(b"data: an event")), "{said:?}");
}

#[test]
fn s59_uploads_that_nobody_takes_yet_keep_no_other_waiting() {
    const WINDOW: usize = 64 * 1024;
    const UPLOADS: usize = 50;
    let partner = Partner::new();
    // Without a token nobody takes the bodies, whose length is not known.
    let gate = partner.hold_refreshes();
    let gateway = Gateway::spawn(&Config::to(&partner).set("server.token_timeout", "30s"));
    gate.await_arrivals(1);
    let (sent, runtime) = (Arc::new(AtomicUsize::new(0)), runtime());
    let mut client = runtime.block_on(connect(gateway.proxy_addr()));
    let uploads: Vec<_> = (0..UPLOADS)
        .map(|_| {
            let head = Head::post("http://a.test/x").body(()).unwrap();
            let (answer, mut stream) = client.send_request(head, false).unwrap();
            let sent = Arc::clone(&sent);
            runtime.spawn(async move {
                assert!(send(&mut stream, vec![b'x'; 2 * WINDOW].into(), &sent).await);
                stream.send_data(Bytes::new(), true).unwrap();
                answer.await.unwrap().status()
            })
        })
        .collect();
    eventually("each could send what it may", || sent.load(Ordering::SeqCst) >= UPLOADS * WINDOW);
    gate.open();
    for upload in uploads {
        assert_eq!(runtime.block_on(upload).unwrap(), 200);
    }
    assert!(partner.seen_at("/x").iter().all(|seen| seen.body.len() == 2 * WINDOW));
}

#[test]
fn a_connection_that_is_reset_at_once_is_told_so_and_not_waited_for() {
    let tokens = Partner::new();
    let address = tokens.address();
    let peer = RawPeer::doing(move |stream| {
        let mut first = [0; 3];
        if stream.read_exact(&mut first).is_err() || &first == b"PRI" {
            return SockRef::from(&*stream).set_linger(Some(Duration::ZERO)).unwrap();
        }
        // A token call, which is in HTTP/1.1.
        let mut onward = TcpStream::connect(address).unwrap();
        onward.write_all(&first).unwrap();
        let (mut back, mut to) = (onward.try_clone().unwrap(), stream.try_clone().unwrap());
        let answers = thread::spawn(move || io::copy(&mut back, &mut to));
        let _ = io::copy(stream, &mut onward);
        let _ = onward.shutdown(Shutdown::Both);
        let _ = answers.join();
    });
    let config = Config::to(&tokens).set("partner.base_url", format!("http://{}", peer.address()));
    let gateway = Gateway::start(&config.set("partner.http2", true));
    let answer = gateway.get("/x");
    answer.assert_problem(502);
    assert_eq!(answer.fields.get("proxy-status"), Some("bearerd; error=connection_refused"));
}

#[test]
fn s55_a_client_that_gives_up_gives_up_its_stream_at_the_partner() {
    let partner = Http2Partner::new();
    let resets = Arc::new(AtomicUsize::new(0));
    for path in ["/before", "/during"] {
        let resets = Arc::clone(&resets);
        partner.on(path, move |mut call| {
            let resets = Arc::clone(&resets);
            async move {
                if call.request.uri().path() == "/before" {
                    assert_eq!(call.reset().await, Some(Reason::CANCEL));
                } else {
                    let mut answer = call.begin(200, &[], false);
                    answer.send_data(Bytes::from_static(b"so far"), false).unwrap();
                    let reason = poll_fn(|cx| answer.poll_reset(cx)).await;
                    assert_eq!(reason.unwrap(), Reason::CANCEL);
                }
                resets.fetch_add(1, Ordering::SeqCst);
            }
        });
    }
    let gateway = before(&partner);
    runtime().block_on(async {
        let mut requests = connect(gateway.proxy_addr()).await;
        for (round, (path, ends)) in
            [("/before", true), ("/before", false), ("/during", true), ("/during", false)]
                .into_iter()
                .enumerate()
        {
            let (response, mut upload) = requests.send_request(grpc(path), ends).unwrap();
            eventually("it has arrived", || partner.seen().len() > round);
            if path == "/during" {
                let mut body = response.await.unwrap().into_body();
                assert_eq!(part(&mut body).await.unwrap(), "so far");
            }
            upload.send_reset(Reason::CANCEL);
            eventually("the partner knows", || resets.load(Ordering::SeqCst) > round);
        }
    });
    // Other exchanges are not touched, and use the same connection.
    assert_eq!(gateway.get("/x").status, 200);
    assert_eq!(partner.connections(), 1);
}

#[test]
fn s56_exchanges_over_http2_are_finished_in_a_drain() {
    let partner = Http2Partner::new();
    let go_on = Arc::new(tokio::sync::Notify::new());
    let may = Arc::clone(&go_on);
    partner.on("/slow", move |mut call| {
        let may = Arc::clone(&may);
        async move {
            let mut answer = call.begin(200, &[], false);
            answer.send_data(Bytes::from_static(b"first"), false).unwrap();
            may.notified().await;
            answer.send_data(Bytes::from_static(b", then the rest"), true).unwrap();
        }
    });
    let mut gateway = before(&partner);
    let slow = gateway.send_aside(Request::get("/slow"));
    eventually("it is under way", || partner.seen().len() == 1);
    gateway.sigterm();
    eventually("no new connections", || std::net::TcpStream::connect(gateway.proxy_addr().tcp()).is_err());
    go_on.notify_one();
    let answer = slow.join().unwrap();
    assert_eq!((answer.status, answer.text().as_str()), (200, "first, then the rest"));
    assert_eq!(gateway.wait_exit().code(), Some(0));
}

#[test]
fn a_connection_that_nobody_uses_is_closed() {
    let partner = Http2Partner::new();
    let config = partner.config().set("partner.http2", true).set("server.idle_timeout", "1s");
    let gateway = Gateway::start(&config.set("server.threads", 1));
    assert_eq!(gateway.get("/x").status, 200);
    assert_eq!(partner.open_connections(), 1);
    eventually("closed", || partner.open_connections() == 0);
    eventually("and not counted", || {
        gateway.metric("bearerd_connections", &[("side", "upstream")]) == Some(0.0)
    });
    assert_eq!(gateway.get("/x").status, 200);
    assert_eq!(partner.connections(), 2);
}

/// Under a limit on descriptors that leaves no room for idle connections.
#[test]
fn s58_a_connection_that_may_not_be_idle_is_closed_after_its_last_exchange() {
    let partner = Http2Partner::new();
    let gateway = before(&partner);
    // What is open and the reserve: what is left over is too little.
    let current = descriptors(gateway.pid()) as u64 + 32;
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    let limit = Rlimit { current: Some(current), maximum };
    prlimit(Some(gateway.pid()), Resource::Nofile, limit).unwrap();
    let mut client = gateway.connect();
    for round in 1..=3 {
        assert_eq!(client.exchange(&Request::get("/x")).status, 200);
        assert_eq!(partner.connections(), round);
        eventually("closed, and its place given back", || {
            gateway.metric("bearerd_connections", &[("side", "upstream")]) == Some(0.0)
        });
    }
}

#[test]
fn an_answer_that_does_not_keep_to_its_length_is_cut_off() {
    let partner = Http2Partner::new();
    for (path, body) in [("/short", &b"12345"[..]), ("/long", b"12345678901")] {
        partner.on(path, move |mut call| async move {
            let mut answer = call.begin(200, &[("content-length", "10")], false);
            answer.send_data(Bytes::from_static(body), true).unwrap();
        });
    }
    partner.on("/none", |mut call| async move {
        drop(call.begin(200, &[("content-length", "10")], true));
    });
    partner.on("/twice", |mut call| async move {
        let fields = [("content-length", "2"), ("content-length", "2")];
        call.begin(200, &fields, false).send_data(Bytes::from_static(b"ok"), true).unwrap();
    });
    partner.on("/two", |mut call| async move {
        let fields = [("content-length", "2"), ("content-length", "3")];
        drop(call.begin(200, &fields, false));
    });
    let gateway = before(&partner);
    assert_eq!(gateway.get("/twice").fields.all("content-length"), ["2"]);
    gateway.get("/two").assert_problem(502);
    for path in ["/short", "/long"] {
        let mut client = gateway.connect();
        client.send(&Request::get(path).to_bytes()).unwrap();
        let answer = client.answer("GET");
        // Whether the fault was seen before the head went out or after it.
        assert!(answer.as_ref().map_or(true, |answer| answer.status == 502), "{path}: {answer:?}");
    }
    gateway.get("/none").assert_problem(502);
    assert_eq!(partner.seen().len(), 5, "nothing is sent twice");
}

#[test]
fn an_upgrade_goes_over_http1_if_the_partner_may_be_spoken_to_in_that() {
    let upgrade = || Request::get("/ws").with("Connection", "Upgrade").with("Upgrade", "websocket");
    let partner = Http2Partner::offering(&["h2", "http/1.1"]);
    partner.tokens.on("/ws", |x| {
        x.raw(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n")?;
        let mut said = [0; 5];
        std::io::Read::read_exact(&mut x.wire.io, &mut said)?;
        x.raw(&said)
    });
    let gateway = Gateway::start(&partner.config().set("server.threads", 1));
    assert_eq!(gateway.get("/x").status, 200);
    let mut client = gateway.connect();
    client.send(&upgrade().to_bytes()).unwrap();
    assert_eq!(client.head().unwrap().unwrap().word(1), "101");
    client.send(b"hello").unwrap();
    let mut hello = [0; 5];
    std::io::Read::read_exact(&mut client.io, &mut hello).unwrap();
    assert_eq!(&hello, b"hello");
    assert_eq!(gateway.get("/x").status, 200);
    assert_eq!((partner.seen().len(), partner.connections()), (2, 1), "the rest goes on in HTTP/2");

    // There is no such thing in HTTP/2: the asking is left out.
    let partner = Http2Partner::offering(&["h2", "http/1.1"]);
    let gateway = before(&partner);
    assert_eq!(gateway.send(&upgrade()).status, 200);
    let seen = partner.seen().remove(0);
    assert!(!seen.fields.has("upgrade") && !seen.fields.has("connection"), "{seen:?}");
}

#[test]
fn secrets_are_never_remembered_by_header_compression() {
    let blocks: Arc<std::sync::Mutex<Vec<Vec<u8>>>> = Arc::default();
    let seen = Arc::clone(&blocks);
    let partner = Http2Partner::scripted(move |mut frames| {
        loop {
            let header = frames.request()?;
            seen.lock().unwrap().push(header.payload);
            frames.answer(header.stream, b"ok")?;
        }
    });
    let config = partner.config().set("partner.headers.x-service-code", marked("service"));
    let gateway = Gateway::start(&config.set("partner.http2", true).set("server.threads", 1));
    for _ in 0..2 {
        assert_eq!(gateway.send(&Request::get("/x").with("X-App", "1")).status, 200);
    }
    // The number of `authorization` in the static table.
    const AUTHORIZATION: usize = 23;
    for block in blocks.lock().unwrap().iter() {
        let fields = partner_frames::fields(block);
        let never: Vec<_> = fields.iter().filter(|field| matches!(field, Field::Never(_))).collect();
        assert_eq!(never.len(), 2, "the token and the configured secret: {fields:?}");
        assert!(never.contains(&&Field::Never(AUTHORIZATION)), "{fields:?}");
    }
    // What is no secret is compressed the second time, so the block was read aright.
    let remembered = |at: usize| {
        let block = &blocks.lock().unwrap()[at];
        partner_frames::fields(block).iter().filter(|field| matches!(field, Field::Remembered(_))).count()
    };
    assert!(remembered(0) > 0 && remembered(1) < remembered(0));
}

#[test]
fn http2_in_and_out_carries_a_whole_url() {
    let partner = Http2Partner::new();
    let gateway = before(&partner);
    runtime().block_on(async {
        let mut requests = connect(gateway.proxy_addr()).await;
        let head = Head::get("http://app.test/a?b=c").body(()).unwrap();
        let (response, _) = requests.send_request(head, true).unwrap();
        assert_eq!(response.await.unwrap().status(), 200);
    });
    assert_eq!(partner.seen()[0].uri, format!("http://{}/a?b=c", partner.address()));
}
