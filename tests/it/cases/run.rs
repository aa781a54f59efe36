//! What a case is tried on, and how.

use std::io::{ErrorKind, Write as _};
use std::net::Shutdown;

use super::{Case, Ending, Form, How};
use crate::support::client::{Connection, Request, Stream};
use crate::support::eventually;
use crate::support::gateway::Gateway;
use crate::support::http::Answer;
use crate::support::recorder::{Arrival, Recorder};
use crate::support::rest::Watched;
use crate::support::secrets::marked;
use crate::support::trial::{in_hand, token_in_hand};

/// A gateway with one runtime, and so with one pool of connections, and the partner behind it.
pub(super) struct Stand {
    recorder: Recorder,
    gateway: Gateway,
}

/// What becomes of a connection after an answer.
enum Next {
    Answer(Answer),
    Closed,
}

impl Stand {
    pub(super) fn new() -> Self {
        let recorder = Recorder::new();
        let gateway = in_hand(recorder.address(), |config| {
            let config = config.set("server.threads", 1).set("log.level", "info").set("log.access", "off");
            let config = config.set("server.header_timeout", "3s");
            config.set("partner.headers.x-service-code", marked("service"))
        });
        Self { recorder, gateway }
    }

    /// Sends the case, and then a request that must be served for what it is: on the same
    /// connection if that is still open, else on another.
    pub(super) fn try_case(&self, case: &Case, how: How) -> Result<(), String> {
        let before = self.recorder.count();
        let mut client = self.gateway.connect();
        self.send(&mut client, case, how, before);
        for form in &case.carried {
            match next(&mut client, form.method)? {
                Next::Closed => return Err(format!("closed before {} was answered", form.method)),
                Next::Answer(answer) => form.is_answered_by(&answer)?,
            }
        }
        let open = match case.ending {
            Ending::Open => true,
            Ending::Closed => match next(&mut client, "GET")? {
                Next::Closed => false,
                Next::Answer(answer) => return Err(format!("one answer more: {answer:?}")),
            },
            Ending::Refused(_) | Ending::Cut | Ending::Answered(_) => match next(&mut client, "GET")? {
                Next::Answer(answer) => case.ending.is(&answer)?,
                Next::Closed if matches!(case.ending, Ending::Answered(_)) => {
                    return Err("closed without an answer".to_owned());
                }
                Next::Closed => false,
            },
        };
        let probed = if open { self.probe(&mut client)? } else { false };
        if !probed {
            if case.ending == Ending::Open {
                return Err("the connection was closed".to_owned());
            }
            if !self.probe(&mut self.gateway.connect())? {
                return Err("no new connection is served".to_owned());
            }
        }
        self.compare(case, how, before)
    }

    /// Sends the case. One that is refused early may not be taken whole.
    fn send(&self, client: &mut Connection, case: &Case, how: How, before: usize) {
        let origin = self.recorder.address().to_string();
        let sent = replace(&case.sent, b"{origin}", origin.as_bytes());
        let Stream::Tcp(mut stream) = client.io.try_clone().unwrap() else { panic!("the tests use TCP") };
        match how {
            How::Whole => drop(client.send(&sent)),
            How::HalfClosed => {
                let _refused = client.send(&sent);
                let _gone = stream.shutdown(Shutdown::Write);
            }
            How::SplitAt(at) => {
                // "{origin}" is longer when it has been filled in, so the last bytes go together.
                client.send(&sent[..at]).unwrap();
                Watched::named(self.gateway.pid(), "worker-0").await_rest();
                let _refused = client.send(&sent[at..]);
            }
            How::HeadFirst => {
                let end = sent.windows(4).position(|window| window == b"\r\n\r\n").unwrap() + 4;
                client.send(&sent[..end]).unwrap();
                eventually("the head is there", || self.recorder.count() > before);
                let _refused = client.send(&sent[end..]);
                let _gone = stream.shutdown(Shutdown::Write);
            }
            How::ByteByByte => {
                let worker = Watched::named(self.gateway.pid(), "worker-0");
                for byte in sent {
                    if stream.write_all(&[byte]).is_err() {
                        return;
                    }
                    worker.await_rest();
                }
            }
        }
    }

    /// Whether a request on the connection is served for what it is; an error if it is served for
    /// something else.
    fn probe(&self, client: &mut Connection) -> Result<bool, String> {
        let _refused = client.send(&Request::get("/probe").to_bytes());
        match next(client, "GET")? {
            Next::Closed => Ok(false),
            Next::Answer(answer) if answer.fields.all("x-seen") == ["GET /probe"] => Ok(true),
            Next::Answer(answer) => Err(format!("the next request was answered with {answer:?}")),
        }
    }

    #[track_caller]
    fn arrived_since(&self, before: usize) -> Vec<Arrival> {
        let open = || self.gateway.metric("bearerd_connections", &[("side", "upstream")]).unwrap_or_default();
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it is a small count")]
        self.recorder.settled_since(before, || open() as usize)
    }

    /// Everything that reached the partner since, against what should have.
    fn compare(&self, case: &Case, how: How, before: usize) -> Result<(), String> {
        let mut arrived = self.arrived_since(before);
        let show = |arrival: &Arrival| format!("{} ({:?})", arrival.raw.escape_ascii(), arrival.faults);
        if let Some(odd) = arrived.iter().find(|arrival| !arrival.faults.is_empty()) {
            return Err(format!("the partner cannot be sure how to read {}", show(odd)));
        }
        let bearer = format!("Bearer {}", token_in_hand());
        let ours = |arrival: &&Arrival| arrival.fields.all("authorization") != [bearer.as_str()];
        if let Some(odd) = arrived.iter().find(ours) {
            return Err(format!("not with the token: {}", show(odd)));
        }
        let cut = arrived.iter().filter(|arrival| !arrival.complete).count();
        let (least, most) = (how == How::HeadFirst, case.ending == Ending::Cut);
        if !(usize::from(least)..=usize::from(most)).contains(&cut) {
            return Err(format!(
                "{cut} messages were cut: {:?}",
                arrived.iter().map(show).collect::<Vec<_>>()
            ));
        }
        arrived.retain(|arrival| arrival.complete);
        let probe = arrived.pop().filter(|arrival| arrival.target == "/probe").map(|arrival| arrival.body);
        if probe.as_deref() != Some(b"") || arrived.len() != case.carried.len() {
            return Err(format!("there arrived {:?}", arrived.iter().map(show).collect::<Vec<_>>()));
        }
        case.carried.iter().zip(&arrived).try_for_each(|(form, arrival)| form.is(arrival))
    }

    /// Nothing that was still on its way arrives after all, and nothing is left open.
    #[track_caller]
    pub(super) fn end(self, cases: usize) {
        eventually("no connection to a client is left", || {
            self.gateway.metric("bearerd_connections", &[("side", "client")]) == Some(0.0)
        });
        let arrived = self.arrived_since(0);
        let probes = arrived.iter().filter(|arrival| arrival.target == "/probe").count();
        assert_eq!(probes, cases, "each case ends in a request that is served");
        assert!(arrived.iter().all(|arrival| arrival.target != "/smuggled"));
    }
}

/// The next answer, or the end of the connection, which a server may also reset.
fn next(client: &mut Connection, method: &str) -> Result<Next, String> {
    match client.answer(method) {
        Ok(answer) => Ok(Next::Answer(answer)),
        Err(error)
            if matches!(
                error.kind(),
                ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset | ErrorKind::BrokenPipe
            ) =>
        {
            Ok(Next::Closed)
        }
        Err(error) => Err(format!("neither an answer nor an end: {error}")),
    }
}

impl Ending {
    /// Whether this is the answer, and if so whether the connection may still be open.
    fn is(self, answer: &Answer) -> Result<bool, String> {
        let (least, most) = match self {
            Self::Refused(0) | Self::Cut => (400, 599),
            Self::Refused(status) | Self::Answered(status) => (status, status),
            Self::Open | Self::Closed => return Err(format!("one answer more: {answer:?}")),
        };
        if !(least..=most).contains(&answer.status) || answer.fields.has("x-seen") {
            return Err(format!("answered with {answer:?}"));
        }
        Ok(answer.fields.get("connection") != Some("close"))
    }
}

impl Form {
    fn is_answered_by(&self, answer: &Answer) -> Result<(), String> {
        let expected = format!("{} {}", self.method, self.target);
        let informational: &[u16] = if self.invited { &[100] } else { &[] };
        if answer.status == 200
            && answer.fields.all("x-seen") == [expected.as_str()]
            && answer.informational == informational
        {
            return Ok(());
        }
        Err(format!("{expected} was answered with {answer:?}"))
    }

    fn is(&self, arrival: &Arrival) -> Result<(), String> {
        let line = (arrival.method.as_str(), arrival.target.as_str(), arrival.delimited);
        let fields = |(name, _): &(&str, &str)| {
            let wanted: Vec<_> = self.with.iter().filter(|(n, _)| n == name).map(|(_, v)| *v).collect();
            arrival.fields.all(name) == wanted
        };
        if line == (self.method, self.target, self.delimited)
            && arrival.body == self.body
            && self.with.iter().all(fields)
            && !self.without.iter().any(|name| arrival.fields.has(name))
            && arrival.trailers == self.trailers
        {
            return Ok(());
        }
        Err(format!("{} is not {self:?}", arrival.raw.escape_ascii()))
    }
}

fn replace(bytes: &[u8], what: &[u8], with: &[u8]) -> Vec<u8> {
    let mut replaced = Vec::with_capacity(bytes.len());
    let mut rest = bytes;
    while let Some(at) = rest.windows(what.len()).position(|window| window == what) {
        replaced.extend_from_slice(&rest[..at]);
        replaced.extend_from_slice(with);
        rest = &rest[at + what.len()..];
    }
    replaced.extend_from_slice(rest);
    replaced
}
