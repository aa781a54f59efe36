//! HTTP/2 frame by frame: what has no meaning, or would have another one in HTTP/1.1, goes no
//! further.

use super::h2_table::cases;
use crate::support::frames::{END_HEADERS, END_STREAM, Frames, HEADERS, Said, block, frame};
use crate::support::gateway::Gateway;
use crate::support::recorder::{Arrival, Recorder};
use crate::support::trial::{in_hand, token_in_hand};

/// What a client sends on a connection that has been opened, and what becomes of it.
pub(super) struct Case {
    pub(super) name: &'static str,
    pub(super) sent: Vec<u8>,
    pub(super) ends: Ends,
}

pub(super) enum Ends {
    /// The partner sees this request: method, target, body, and these fields.
    Carried(&'static str, &'static str, Vec<u8>, Vec<(&'static str, &'static str)>),
    /// The stream is reset or answered with an error; the connection goes on.
    Stream,
    /// The connection ends.
    Connection,
    /// One of the two, and the partner may have seen a message that has no end.
    Cut,
}

impl Case {
    pub(super) fn carried(
        name: &'static str,
        sent: impl Into<Vec<u8>>,
        method: &'static str,
        target: &'static str,
    ) -> Self {
        Self { name, sent: sent.into(), ends: Ends::Carried(method, target, Vec::new(), Vec::new()) }
    }

    #[must_use]
    pub(super) fn body(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        if let Ends::Carried(_, _, body, _) = &mut self.ends {
            *body = bytes.into();
        }
        self
    }

    #[must_use]
    pub(super) fn with(mut self, name: &'static str, value: &'static str) -> Self {
        if let Ends::Carried(_, _, _, with) = &mut self.ends {
            with.push((name, value));
        }
        self
    }

    pub(super) fn stream(name: &'static str, sent: impl Into<Vec<u8>>) -> Self {
        Self { name, sent: sent.into(), ends: Ends::Stream }
    }

    pub(super) fn connection(name: &'static str, sent: impl Into<Vec<u8>>) -> Self {
        Self { name, sent: sent.into(), ends: Ends::Connection }
    }

    pub(super) fn cut(name: &'static str, sent: impl Into<Vec<u8>>) -> Self {
        Self { name, sent: sent.into(), ends: Ends::Cut }
    }
}

/// Sent after every case: on a connection that goes on, streams must still be told apart.
const PROBE: u32 = 0x0101;

struct Stand {
    recorder: Recorder,
    gateway: Gateway,
}

#[test]
fn http_2_is_carried_in_one_form_or_ends_where_it_is_wrong() {
    let recorder = Recorder::new();
    let gateway = in_hand(recorder.address(), |config| {
        config.set("server.threads", 1).set("log.level", "info").set("log.access", "off")
    });
    let stand = Stand { recorder, gateway };
    let cases = cases();
    let failures: Vec<_> = cases
        .iter()
        .filter_map(|case| stand.try_case(case).err().map(|why| format!("{}: {why}", case.name)))
        .collect();
    assert!(failures.is_empty(), "{} of {}:\n{}", failures.len(), cases.len(), failures.join("\n"));
    let arrived = stand.arrived_since(0);
    let probes = arrived.iter().filter(|arrival| arrival.target == "/probe").count();
    assert_eq!(probes, cases.len(), "each case ends in a request that is served");
    assert!(arrived.iter().all(|arrival| arrival.target != "/smuggled"));
}

impl Stand {
    fn try_case(&self, case: &Case) -> Result<(), String> {
        let before = self.recorder.count();
        let address = self.gateway.proxy_addr().tcp();
        let mut client = Frames::connect(address);
        let _refused = client.send(&case.sent);
        let first = answer(&mut client)?;
        match (&case.ends, &first) {
            (Ends::Carried(method, target, ..), Ended::Answered(200, text))
                if *text == format!("{method} {target}") => {}
            (Ends::Stream | Ends::Cut, Ended::Answered(400..600, _) | Ended::Reset) => {}
            (Ends::Connection | Ends::Cut, Ended::Closed) => {}
            _ => return Err(format!("it ended as {first:?}")),
        }
        let gone = matches!(first, Ended::Closed);
        if gone {
            client = Frames::connect(address);
        }
        let head = request("GET", "/probe");
        let _refused = client.send(&frame(HEADERS, END_HEADERS | END_STREAM, PROBE, &block(&head)));
        let probe = answer(&mut client)?;
        if probe != Ended::Answered(200, "GET /probe".to_owned()) {
            return Err(format!("{first:?}, and the next request ended as {probe:?}"));
        }
        self.compare(case, before)
    }

    #[track_caller]
    fn arrived_since(&self, before: usize) -> Vec<Arrival> {
        let open = || self.gateway.metric("bearerd_connections", &[("side", "upstream")]).unwrap_or_default();
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it is a small count")]
        self.recorder.settled_since(before, || open() as usize)
    }

    fn compare(&self, case: &Case, before: usize) -> Result<(), String> {
        let mut arrived = self.arrived_since(before);
        let show = |arrival: &Arrival| format!("{} ({:?})", arrival.raw.escape_ascii(), arrival.faults);
        let all: Vec<_> = arrived.iter().map(show).collect();
        let bearer = format!("Bearer {}", token_in_hand());
        let odd = |arrival: &Arrival| {
            !arrival.faults.is_empty() || arrival.fields.all("authorization") != [bearer.as_str()]
        };
        let cut = arrived.iter().filter(|arrival| !arrival.complete).count();
        if arrived.iter().any(odd) || cut > usize::from(matches!(case.ends, Ends::Cut)) {
            return Err(format!("there arrived {all:?}"));
        }
        arrived.retain(|arrival| arrival.complete && arrival.target != "/probe");
        let is_it = match (&case.ends, &arrived[..]) {
            (Ends::Carried(method, target, body, with), [one]) => {
                (one.method.as_str(), one.target.as_str(), &one.body) == (method, target, body)
                    && with.iter().all(|(name, value)| one.fields.all(name) == [*value])
            }
            (Ends::Carried(..), _) => false,
            (_, rest) => rest.is_empty(),
        };
        if is_it { Ok(()) } else { Err(format!("there arrived {all:?}")) }
    }
}

/// The pseudo-header fields of a request.
pub(super) fn request<'a>(method: &'a str, path: &'a str) -> Vec<(&'a str, &'a str)> {
    vec![(":method", method), (":scheme", "http"), (":authority", "a.test"), (":path", path)]
}

/// How a stream ended.
#[derive(Debug, PartialEq, Eq)]
enum Ended {
    Answered(u16, String),
    Reset,
    Closed,
}

/// Reads to the end of the stream that something is said of next, or of the connection.
fn answer(client: &mut Frames) -> Result<Ended, String> {
    let mut answered = None;
    loop {
        match client.next().map_err(|error| format!("neither an answer nor an end: {error}"))? {
            Said::Status(_, status) => answered = Some(status),
            // Every answer here has a body, and it comes in one piece.
            Said::Data(_, data) => {
                return Ok(Ended::Answered(answered.unwrap(), data.into_iter().map(char::from).collect()));
            }
            Said::Reset(..) if answered.is_none() => return Ok(Ended::Reset),
            // Without an error a body that nobody wants is refused.
            Said::Reset(..) => {}
            Said::GoAway(_) | Said::Closed => return Ok(Ended::Closed),
        }
    }
}
