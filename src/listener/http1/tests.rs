use std::pin::pin;
use std::task::Waker;

use http::{Request, Response};
use http_body::{Body, Frame};
use http_body_util::BodyExt as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};
use tokio::time::Instant;

use super::super::activity::Activity;
use super::super::turnstile::Place;
use super::*;
use crate::incoming::Incoming;

/// A connection and the client's end of it.
fn wire() -> (Rc<Wire<DuplexStream>>, DuplexStream) {
    wire_among(&Rc::new(Common::new()))
}

fn wire_among(common: &Rc<Common>) -> (Rc<Wire<DuplexStream>>, DuplexStream) {
    let (near, far) = tokio::io::duplex(256 * 1024);
    let wire = Wire::new(near, Bytes::new(), Rc::new(Activity::new()), Rc::clone(common));
    (Rc::new(wire), far)
}

async fn next(wire: &Rc<Wire<DuplexStream>>) -> Option<(Request<Incoming>, Facts)> {
    let request = poll_fn(|cx| wire.poll_request(cx)).await.unwrap()?;
    Some((Request::from_parts(request.head.into_parts(), request.body), request.facts))
}

async fn path(wire: &Rc<Wire<DuplexStream>>) -> Option<String> {
    Some(next(wire).await?.0.uri().path().to_owned())
}

/// Answers with an empty body; whether the connection could be used again.
async fn answer(wire: &Wire<DuplexStream>, facts: Facts) -> bool {
    let (head, ()) = Response::new(()).into_parts();
    let mut answering = wire.begin_answer(&head, &SizeHint::with_exact(0), facts, false);
    let mut body = http_body_util::Empty::<Bytes>::new();
    poll_fn(|cx| wire.poll_answer(&mut answering, &mut body, cx)).await.unwrap();
    poll_fn(|cx| Poll::Ready(wire.end_message(cx))).await && answering.is_persistent()
}

/// What the client has got by now.
async fn received(client: &mut DuplexStream) -> String {
    let mut all = Vec::with_capacity(4096);
    let mut read = pin!(client.read_buf(&mut all));
    let _ = poll_fn(|cx| Poll::Ready(read.as_mut().poll(cx).is_ready())).await;
    String::from_utf8(all).unwrap()
}

const POST: &str = "POST /1 HTTP/1.1\r\nhost: a\r\n";
const GET: &str = "GET /2 HTTP/1.1\r\nhost: a\r\n\r\n";

#[tokio::test]
async fn the_next_request_is_read_when_the_body_before_it_has_been() {
    for body in
        ["content-length: 5\r\n\r\nhello", "transfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"]
    {
        let (wire, mut client) = wire();
        client.write_all(format!("{POST}{body}{GET}").as_bytes()).await.unwrap();
        let (request, facts) = next(&wire).await.unwrap();
        assert_eq!(request.into_body().collect().await.unwrap().to_bytes(), "hello");
        assert!(answer(&wire, facts).await);
        assert_eq!(path(&wire).await.unwrap(), "/2");
    }
}

#[tokio::test]
async fn a_body_that_nobody_reads_is_passed_over_if_all_of_it_is_there() {
    let (wire, mut client) = wire();
    client.write_all(format!("{POST}content-length: 50000\r\n\r\n").as_bytes()).await.unwrap();
    let (request, facts) = next(&wire).await.unwrap();
    client.write_all(&[b'x'; 50_000]).await.unwrap();
    client.write_all(GET.as_bytes()).await.unwrap();
    assert!(answer(&wire, facts).await);
    assert_eq!(path(&wire).await.unwrap(), "/2");
    // Whoever still holds it is not given what is another's, nor an end.
    assert!(request.into_body().collect().await.is_err());
}

#[tokio::test]
async fn what_follows_a_body_that_was_not_read_to_its_end_is_no_request() {
    let long = "x".repeat(100_000);
    for rest in [
        format!("content-length: 10\r\n\r\n{}", &GET[..9]),
        format!("transfer-encoding: chunked\r\n\r\nz\r\n{GET}"),
        format!("content-length: 100000\r\n\r\n{long}{GET}"),
        format!("expect: 100-continue\r\ncontent-length: 5\r\n\r\n{GET}"),
    ] {
        let (wire, mut client) = wire();
        client.write_all(format!("{POST}{rest}").as_bytes()).await.unwrap();
        let (request, facts) = next(&wire).await.unwrap();
        assert!(!answer(&wire, facts).await, "{}", &rest[..30]);
        drop(request);
    }
}

#[tokio::test]
async fn a_client_that_expects_it_is_told_to_go_on_when_its_body_is_wanted() {
    let (wire, mut client) = wire();
    let head = format!("{POST}expect: 100-continue\r\ncontent-length: 5\r\n\r\n");
    client.write_all(head.as_bytes()).await.unwrap();
    let (request, facts) = next(&wire).await.unwrap();
    assert_eq!(received(&mut client).await, "");
    let mut body = request.into_body();
    let mut collected = pin!(async { (&mut body).collect().await.unwrap().to_bytes() });
    assert!(poll_fn(|cx| Poll::Ready(collected.as_mut().poll(cx).is_pending())).await);
    assert_eq!(received(&mut client).await, "HTTP/1.1 100 Continue\r\n\r\n");
    client.write_all(b"hello").await.unwrap();
    assert_eq!(collected.await, "hello");
    assert!(answer(&wire, facts).await);
    assert!(received(&mut client).await.starts_with("HTTP/1.1 200 OK\r\n"));
}

#[tokio::test]
async fn a_client_that_has_its_answer_is_not_told_to_go_on() {
    let (wire, mut client) = wire();
    let head = format!("{POST}expect: 100-continue\r\ncontent-length: 5\r\n\r\n");
    client.write_all(head.as_bytes()).await.unwrap();
    let (request, facts) = next(&wire).await.unwrap();
    assert!(!answer(&wire, facts).await);
    let answer = received(&mut client).await;
    assert!(
        answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.contains("connection: close\r\n"),
        "{answer}"
    );
    assert!(request.into_body().collect().await.is_err());
    assert_eq!(received(&mut client).await, "");
}

#[tokio::test(start_paused = true)]
async fn the_last_words_are_heard_until_silence_falls() {
    let second = Duration::from_secs(1);
    let (wire, mut client) = wire();
    let speak = async move {
        for _ in 0..4 {
            tokio::time::sleep(second).await;
            client.write_all(b"and another thing").await.unwrap();
        }
        client
    };
    let begun = Instant::now();
    let (_client, ()) = tokio::join!(speak, last_words(&wire));
    assert_eq!(begun.elapsed(), 4 * second + SILENCE);
    let (wire, client) = self::wire();
    drop(client);
    last_words(&wire).await;
    assert_eq!(begun.elapsed(), 4 * second + SILENCE);
}

#[tokio::test(start_paused = true)]
async fn an_empty_line_is_no_beginning_of_a_request() {
    let activity = Rc::new(Activity::new());
    let (near, mut client) = tokio::io::duplex(64);
    let wire = Rc::new(Wire::new(near, Bytes::new(), Rc::clone(&activity), Rc::new(Common::new())));
    // The time for the first one begins with the connection.
    drop(activity.begin(false, Instant::now()));
    for begins in [false, true] {
        client.write_all(if begins { b"\r\nG" } else { b"\r\n" }).await.unwrap();
        assert!(poll_fn(|cx| Poll::Ready(wire.poll_request(cx).is_pending())).await);
        assert_eq!(activity.reads_header(), begins);
    }
}

#[tokio::test]
async fn a_body_breaks_off_with_its_connection() {
    let (wire, mut client) = wire();
    client.write_all(format!("{POST}content-length: 5\r\n\r\nhell").as_bytes()).await.unwrap();
    let (request, _) = next(&wire).await.unwrap();
    let mut body = request.into_body();
    assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), "hell");
    // Another task reads it, and is told.
    let local = tokio::task::LocalSet::new();
    let told = local.spawn_local(async move { body.frame().await.unwrap().is_err() });
    local.run_until(tokio::task::yield_now()).await;
    drop(wire);
    assert!(local.run_until(told).await.unwrap());
}

#[tokio::test]
async fn the_client_is_gone_when_it_sends_no_more() {
    let (wire, mut client) = wire();
    client.write_all(GET.as_bytes()).await.unwrap();
    let _request = next(&wire).await.unwrap();
    assert!(poll_fn(|cx| Poll::Ready(wire.poll_gone(cx).is_pending())).await);
    client.shutdown().await.unwrap();
    poll_fn(|cx| wire.poll_gone(cx)).await;
}

#[tokio::test]
async fn half_a_head_is_no_request_and_a_connection_that_parts_takes_what_has_begun() {
    let (wire_1, mut client) = wire();
    client.write_all(b"GET / HT").await.unwrap();
    client.shutdown().await.unwrap();
    assert!(next(&wire_1).await.is_none());
    for (before, after, taken) in [("", "", None), ("", GET, Some("/2")), (&GET[..3], &GET[3..], Some("/2"))]
    {
        let (wire, mut client) = wire();
        client.write_all(before.as_bytes()).await.unwrap();
        assert!(poll_fn(|cx| Poll::Ready(wire.poll_request(cx).is_pending())).await);
        client.write_all(after.as_bytes()).await.unwrap();
        wire.part();
        assert_eq!(path(&wire).await.as_deref(), taken);
    }
}

#[tokio::test(flavor = "local")]
async fn a_request_that_waits_for_those_before_it_is_taken_though_its_connection_parts() {
    let common = Rc::new(Common::new());
    let (wire, mut client) = wire_among(&common);
    let mut cx = Context::from_waker(Waker::noop());
    assert!(wire.poll_request(&mut cx).is_pending());
    while common.turnstile.poll_pass(&mut Place::Outside, &mut cx).is_ready() {}
    client.write_all(GET.as_bytes()).await.unwrap();
    assert!(wire.poll_request(&mut cx).is_pending());
    wire.part();
    assert!(wire.poll_request(&mut cx).is_pending());
    assert_eq!(path(&wire).await.as_deref(), Some("/2"));
}

struct Broken {
    begun: bool,
}

impl Body for Broken {
    type Data = Bytes;
    type Error = ();

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, ()>>> {
        Poll::Ready(Some(match std::mem::replace(&mut self.begun, true) {
            false => Ok(Frame::data(Bytes::from_static(b"hello"))),
            true => Err(()),
        }))
    }
}

#[tokio::test]
async fn an_answer_that_breaks_off_is_sent_as_far_as_it_came() {
    let (wire, mut client) = wire();
    client.write_all(GET.as_bytes()).await.unwrap();
    let (_, facts) = next(&wire).await.unwrap();
    let (head, ()) = Response::new(()).into_parts();
    let mut answering = wire.begin_answer(&head, &SizeHint::default(), facts, false);
    let mut body = Broken { begun: false };
    assert!(poll_fn(|cx| wire.poll_answer(&mut answering, &mut body, cx)).await.is_err());
    let got = received(&mut client).await;
    assert!(got.starts_with("HTTP/1.1 200 OK\r\n") && got.ends_with("\r\n\r\n5\r\nhello\r\n"), "{got}");
}
