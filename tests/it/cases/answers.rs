//! Answers of the partner, byte by byte: each reaches the client as what it is, or as a 502, or
//! visibly broken off; and nothing of it is served to whoever comes next.

use std::io::ErrorKind;
use std::sync::Arc;

use super::SMUGGLED;
use super::answers_table::cases;
use crate::support::client::Request;
use crate::support::gateway::Gateway;
use crate::support::http::{Answer, chunk};
use crate::support::recorder::{Recorder, Reply, echo};
use crate::support::rest::Watched;
use crate::support::trial::in_hand;

/// What the partner sends, and what the client makes of it.
pub(super) struct Case {
    pub(super) name: &'static str,
    pub(super) method: &'static str,
    pub(super) answer: Vec<u8>,
    /// The partner closes behind its answer.
    pub(super) closes: bool,
    pub(super) arrives: Arrives,
}

/// How an answer reaches the client.
pub(super) enum Arrives {
    /// Whole, with this status and body, with the fields of the first list, and none of the second.
    Whole(u16, &'static str, Vec<(&'static str, &'static str)>, Vec<&'static str>),
    /// Not; the client gets a 502.
    BadGateway,
    /// In part, so that the client can tell.
    Broken,
}

impl Case {
    pub(super) fn whole(
        name: &'static str,
        status: u16,
        body: &'static str,
        answer: impl Into<Vec<u8>>,
    ) -> Self {
        let arrives = Arrives::Whole(status, body, Vec::new(), Vec::new());
        Self { name, method: "GET", answer: answer.into(), closes: false, arrives }
    }

    pub(super) fn bad(name: &'static str, answer: impl Into<Vec<u8>>) -> Self {
        Self { arrives: Arrives::BadGateway, ..Self::whole(name, 0, "", answer) }
    }

    pub(super) fn broken(name: &'static str, answer: impl Into<Vec<u8>>) -> Self {
        Self { arrives: Arrives::Broken, ..Self::whole(name, 0, "", answer) }
    }

    #[must_use]
    pub(super) fn to(mut self, method: &'static str) -> Self {
        self.method = method;
        self
    }

    #[must_use]
    pub(super) fn closed(mut self) -> Self {
        self.closes = true;
        self
    }

    #[must_use]
    pub(super) fn with(mut self, name: &'static str, value: &'static str) -> Self {
        if let Arrives::Whole(_, _, with, _) = &mut self.arrives {
            with.push((name, value));
        }
        self
    }

    #[must_use]
    pub(super) fn without(mut self, name: &'static str) -> Self {
        if let Arrives::Whole(_, _, _, without) = &mut self.arrives {
            without.push(name);
        }
        self
    }
}

/// One runtime, and so one pool from which the next request takes a connection.
fn stand(cases: &Arc<Vec<Case>>) -> (Recorder, Gateway) {
    let table = Arc::clone(cases);
    let recorder = Recorder::answering(move |arrival| {
        let case = arrival.target.strip_prefix("/case/").map(|index| &table[index.parse::<usize>().unwrap()]);
        arrival.complete.then(|| match case {
            Some(case) => Reply { bytes: case.answer.clone(), close: case.closes },
            None => Reply { bytes: echo(arrival), close: false },
        })
    });
    let gateway = in_hand(recorder.address(), |config| {
        config.set("server.threads", 1).set("log.level", "info").set("log.access", "off")
    });
    (recorder, gateway)
}

#[test]
fn an_answer_arrives_as_what_it_is_or_not_at_all() {
    let cases = Arc::new(cases());
    let (recorder, gateway) = stand(&cases);
    let mut failures = Vec::new();
    for (index, case) in cases.iter().enumerate() {
        failures.extend(try_case(&gateway, index, case).err().map(|why| format!("{}: {why}", case.name)));
        // Two, for the case that one connection is used up by what is left.
        for probe in 0..2 {
            let answer = gateway.get("/probe");
            if answer.status != 200 || answer.fields.all("x-seen") != ["GET /probe"] {
                failures
                    .push(format!("{}: request {probe} after it was answered with {answer:?}", case.name));
            }
        }
    }
    assert!(failures.is_empty(), "{} of {}:\n{}", failures.len(), cases.len(), failures.join("\n"));
    assert_eq!(recorder.count(), 3 * cases.len(), "none was sent again");
}

fn try_case(gateway: &Gateway, index: usize, case: &Case) -> Result<(), String> {
    let mut client = gateway.connect();
    client.send(&Request::new(case.method, &format!("/case/{index}")).to_bytes()).unwrap();
    let answer = client.answer(case.method);
    match (&case.arrives, answer) {
        (Arrives::Whole(status, body, with, without), Ok(answer)) => {
            let is = (answer.status, answer.text().as_str()) == (*status, *body)
                && with.iter().all(|(name, value)| answer.fields.all(name) == [*value])
                && !without.iter().any(|name| answer.fields.has(name));
            if is { Ok(()) } else { Err(format!("{answer:?}")) }
        }
        (Arrives::BadGateway, Ok(answer)) => {
            let problem = answer.fields.get("content-type") == Some("application/problem+json");
            if answer.status == 502 && problem { Ok(()) } else { Err(format!("{answer:?}")) }
        }
        (Arrives::Broken, Err(error)) if error.kind() != ErrorKind::WouldBlock => Ok(()),
        (_, got) => Err(format!("{:?}", got.map(|answer: Answer| (answer.status, answer.text())))),
    }
}

#[test]
fn an_answer_before_the_end_of_the_request_confuses_nobody() {
    let recorder = Recorder::answering(|arrival| {
        let begun = arrival.method == "POST" && !arrival.body.is_empty();
        (begun || arrival.complete).then(|| Reply { bytes: echo(arrival), close: false })
    });
    let gateway =
        in_hand(recorder.address(), |config| config.set("server.threads", 1).set("log.level", "info"));
    let smuggled = chunk(SMUGGLED.as_bytes());
    for rest in [[&smuggled[..], b"0\r\n\r\n"].concat(), b"0\r\n\r\n".to_vec(), b"x\r\n".to_vec()] {
        let mut client = gateway.connect();
        let head = "POST /early HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n";
        client.send(&[head.as_bytes(), &smuggled].concat()).unwrap();
        assert_eq!(client.answer("POST").unwrap().fields.all("x-seen"), ["POST /early"]);
        // The answer has come; the rest of the request is still a body.
        let _refused = client.send(&rest);
        let _refused = client.send(&Request::get("/probe").to_bytes());
        match client.answer("GET") {
            Ok(answer) if answer.status == 200 => assert_eq!(answer.fields.all("x-seen"), ["GET /probe"]),
            Ok(answer) => assert_eq!(answer.status, 400),
            Err(closed) => assert_ne!(closed.kind(), ErrorKind::WouldBlock),
        }
        assert_eq!(gateway.get("/probe").fields.all("x-seen"), ["GET /probe"]);
    }
    let targets: Vec<_> = recorder.arrivals().into_iter().map(|arrival| arrival.target).collect();
    assert!(targets.iter().all(|target| ["/early", "/probe"].contains(&target.as_str())), "{targets:?}");
}

#[test]
fn what_comes_on_an_idle_connection_answers_no_request() {
    let cases = Arc::new(vec![Case::whole(
        "first",
        200,
        "first",
        "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nfirst",
    )]);
    let (recorder, gateway) = stand(&cases);
    let late: &[&[u8]] = &[
        b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nlate",
        b"HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\n",
        b"\r\n",
        b"\0",
    ];
    let worker = Watched::named(gateway.pid(), "worker-0");
    for bytes in late {
        assert_eq!(gateway.get("/case/0").text(), "first");
        recorder.send_on_idle(bytes);
        worker.await_rest();
        let answer = gateway.get("/probe");
        assert_eq!(
            answer.fields.all("x-seen"),
            ["GET /probe"],
            "after {:?}",
            bytes.escape_ascii().to_string()
        );
    }
}
