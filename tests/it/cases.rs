//! HTTP byte by byte: each case is either refused, or reaches the partner in one form that can
//! be read in one way only; and nothing that follows is taken for a request unless it is one.
//!
//! A case is a line in a table, and there is a table for each kind.

mod advisories;
mod answers;
mod answers_table;
mod compliance;
mod framing;
mod h2;
mod h2_table;
mod malformed;
mod normalisation;
mod run;

use self::run::Stand;
use crate::support::http::Fields;
use crate::support::recorder::Delimited;

/// Makes a test of every table, so that no table is left out.
macro_rules! kinds {
    ($($table:ident => $fact:ident,)*) => {
        const KINDS: &[(&str, fn() -> Vec<Case>)] = &[$((stringify!($table), $table::cases)),*];

        $(
            #[test]
            fn $fact() {
                all_hold($table::cases());
            }
        )*
    };
}

kinds! {
    compliance => what_the_standard_says_of_a_proxy_holds,
    framing => a_message_ends_where_the_partner_finds_its_end_too,
    malformed => what_is_no_http_is_refused,
    normalisation => what_can_be_written_in_many_ways_goes_on_in_one,
    advisories => what_has_broken_other_proxies_does_not_break_this_one,
}

/// Runs every case on one gateway with one runtime, and so with one pool of connections.
#[track_caller]
fn all_hold(cases: Vec<Case>) {
    let stand = Stand::new();
    let (mut runs, mut failures) = (0, Vec::new());
    for case in &cases {
        // What is noticed only in the body is tried with the head on its way, too.
        let head_first = (case.ending == Ending::Cut).then_some(How::HeadFirst);
        for how in std::iter::once(case.how).chain(head_first) {
            runs += 1;
            failures
                .extend(stand.try_case(case, how).err().map(|why| format!("{}: {how:?}: {why}", case.name)));
        }
    }
    assert!(failures.is_empty(), "{} of {runs}:\n{}", failures.len(), failures.join("\n"));
    stand.end(runs);
}

#[test]
fn a_message_is_the_same_wherever_it_is_split() {
    let stand = Stand::new();
    let picked = [
        "a request behind chunks",
        "a trailer that was announced",
        "three empty lines first",
        "100-continue without waiting",
        "an absolute form and another Host",
        "a request behind a length",
        "two lengths",
        "two other bytes behind the data",
        "a space before the colon of a trailer",
        "a coding that ends sooner, and a length",
    ];
    let all = KINDS.iter().flat_map(|(_, cases)| cases());
    let cases: Vec<_> = all.filter(|case| picked.contains(&case.name)).collect();
    assert_eq!(cases.len(), picked.len());
    let (mut runs, mut failures) = (0, Vec::new());
    for case in &cases {
        for at in 1..case.sent.len() {
            runs += 1;
            let failed = stand.try_case(case, How::SplitAt(at)).err();
            failures.extend(failed.map(|why| format!("{}, split at {at}: {why}", case.name)));
        }
    }
    assert!(failures.is_empty(), "{} of {runs}:\n{}", failures.len(), failures.join("\n"));
    stand.end(runs);
}

#[test]
fn every_kind_has_cases_and_every_case_a_name_of_its_own() {
    let mut names = Vec::new();
    for (kind, cases) in KINDS {
        let cases = cases();
        println!("{kind}: {} cases", cases.len());
        assert!(!cases.is_empty(), "{kind}");
        names.extend(cases.into_iter().map(|case| case.name.to_owned()));
    }
    for (kind, cases) in [
        ("answers", answers_table::cases().into_iter().map(|case| case.name).collect::<Vec<_>>()),
        ("h2", h2_table::cases().into_iter().map(|case| case.name).collect()),
    ] {
        println!("{kind}: {} cases", cases.len());
        assert!(!cases.is_empty(), "{kind}");
        // Of another table the name may be the same.
        names.extend(cases.into_iter().map(|name| format!("{kind}: {name}")));
    }
    println!("in all: {} cases", names.len());
    let all = names.len();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), all);
}

/// What a client sends, and what becomes of it.
struct Case {
    name: &'static str,
    sent: Vec<u8>,
    how: How,
    /// The requests that reach the partner, in order.
    carried: Vec<Form>,
    ending: Ending,
}

/// How a case is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum How {
    /// At once; then the client waits.
    Whole,
    /// At once; then the client sends nothing more.
    HalfClosed,
    /// Each byte by itself.
    ByteByByte,
    /// So many bytes; and the rest when they have been read.
    SplitAt(usize),
    /// The head; and the rest once the partner has it. Then the client sends nothing more.
    HeadFirst,
}

/// What follows the requests that are carried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ending {
    /// The connection takes another request.
    Open,
    /// The connection is closed.
    Closed,
    /// One answer of bearerd's own: an error with this status, or any if 0, or the connection is
    /// closed without one.
    Refused(u16),
    /// As `Refused`, but the beginning of the message may have reached the partner, which can tell
    /// that it has no end.
    Cut,
    /// One answer of bearerd's own that is no error.
    Answered(u16),
}

/// A request as the partner must see it.
#[derive(Clone, Debug, Default)]
struct Form {
    method: &'static str,
    target: &'static str,
    delimited: Delimited,
    body: &'static [u8],
    with: Vec<(&'static str, &'static str)>,
    without: Vec<&'static str>,
    trailers: Fields,
    /// The client gets `100 Continue` first.
    invited: bool,
}

impl Case {
    fn new(name: &'static str, sent: impl Into<Vec<u8>>, carried: Vec<Form>, ending: Ending) -> Self {
        Self { name, sent: sent.into(), how: How::Whole, carried, ending }
    }

    /// Nothing reaches the partner.
    fn refused(name: &'static str, status: u16, sent: impl Into<Vec<u8>>) -> Self {
        Self::new(name, sent, Vec::new(), Ending::Refused(status))
    }

    /// A message whose end never comes, and never seems to.
    fn cut(name: &'static str, sent: impl Into<Vec<u8>>) -> Self {
        Self::new(name, sent, Vec::new(), Ending::Cut)
    }

    /// One request, after which the connection can be used again.
    fn carried(name: &'static str, form: Form, sent: impl Into<Vec<u8>>) -> Self {
        Self::new(name, sent, vec![form], Ending::Open)
    }

    /// One request, after which the connection is closed.
    fn last(name: &'static str, form: Form, sent: impl Into<Vec<u8>>) -> Self {
        Self::new(name, sent, vec![form], Ending::Closed)
    }

    #[must_use]
    fn then(mut self, form: Form) -> Self {
        self.carried.push(form);
        self
    }

    #[must_use]
    fn sent(mut self, how: How) -> Self {
        self.how = how;
        self
    }
}

impl Form {
    fn new(method: &'static str, target: &'static str) -> Self {
        Self { method, target, ..Self::default() }
    }

    /// `GET /x` without a body.
    fn get() -> Self {
        Self::new("GET", "/x")
    }

    /// `POST /x` with this body, its length given.
    fn post(body: &'static str) -> Self {
        Self { delimited: Delimited::Length, body: body.as_bytes(), ..Self::new("POST", "/x") }
    }

    /// `POST /x` with this body in the chunked coding.
    fn chunked(body: &'static str) -> Self {
        Self { delimited: Delimited::Chunked, ..Self::post(body) }
    }

    #[must_use]
    fn sized(mut self, body: &'static str) -> Self {
        (self.delimited, self.body) = (Delimited::Length, body.as_bytes());
        self
    }

    /// The field `name` has exactly this value, once; or with several calls, these in order.
    #[must_use]
    fn with(mut self, name: &'static str, value: &'static str) -> Self {
        self.with.push((name, value));
        self
    }

    #[must_use]
    fn without(mut self, name: &'static str) -> Self {
        self.without.push(name);
        self
    }

    #[must_use]
    fn trailer(mut self, name: &str, value: &str) -> Self {
        self.trailers.push(name, value);
        self
    }

    #[must_use]
    fn invited(mut self) -> Self {
        self.invited = true;
        self
    }
}

/// `GET /x` with these lines below its Host.
fn get(fields: &str) -> String {
    format!("GET /x HTTP/1.1\r\nHost: a.test\r\n{}\r\n", ended(fields))
}

/// `POST /x` with these lines below its Host, and this after the head.
fn post(fields: &str, body: &str) -> String {
    format!("POST /x HTTP/1.1\r\nHost: a.test\r\n{}\r\n{body}", ended(fields))
}

/// `POST /x` in the chunked coding, with this after the head.
fn chunked(body: &str) -> String {
    post("Transfer-Encoding: chunked", body)
}

fn ended(fields: &str) -> String {
    if fields.is_empty() { String::new() } else { format!("{fields}\r\n") }
}

/// What an attacker would like to see served as a request.
const SMUGGLED: &str = "GET /smuggled HTTP/1.1\r\nHost: a.test\r\n\r\n";
