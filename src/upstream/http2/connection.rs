//! A connection, its task, and its streams.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use h2::client::{Builder, ResponseFuture, SendRequest};
use h2::{Ping, PingPong, Reason, SendStream};
use http::Request;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep, timeout};

use super::wire::{Watched, Wire};
use crate::descriptors::IdlePlace;
use crate::partner::{ConnectError, Transport};
use crate::upstream::{Counted, ExchangeError};

/// How many streams a connection carries at once, if the partner does not want fewer.
const MAX_STREAMS: usize = 100;

/// How many exchanges are given up on a connection, until no more begin on it. The library remembers all
/// of them, for as long as the connection lives: what the partner still sends for one that it has
/// forgotten it takes for an error, and for 1,024 of these it ends the connection, under whatever else is
/// under way on it.
const GIVEN_UP: usize = 400;

/// How many empty frames of data the partner may send: with the next one the library ends the connection,
/// under whatever is under way on it. Each exchange may meet one more, and when half of them have come no
/// more begin.
const EMPTY_FRAMES: usize = 100;

/// What the partner may send before it is read, on a stream and on all of them together, in bytes: a
/// client that does not read must not keep the others from their answers.
const STREAM_WINDOW: u32 = 64 * 1024;
const CONNECTION_WINDOW: u32 = MAX_STREAMS as u32 * STREAM_WINDOW;
/// What small frames may take beyond what is in them before they are read, in bytes, each 256 less its
/// length. Frames of 52 bytes or more cannot exceed it; the connection ends when it is exceeded.
const FRAMING: usize = 4 * CONNECTION_WINDOW as usize;
/// How much of a request may wait to leave before no more of it is taken, in bytes.
const SEND_BUFFER: usize = 64 * 1024;
/// The longest header of an answer, in bytes.
const MAX_HEADER: u32 = 128 * 1024;

/// How often it is looked whether a connection with exchanges on it is silent.
const LOOK: Duration = Duration::from_secs(20);
/// After how many looks a connection that is still silent is asked again.
const LOOKS_UNTIL_AGAIN: u32 = 15;
/// How often one that is still silent is asked sooner, because more exchanges have begun on it. No more,
/// because there are partners that take the fourth ping in five minutes of silence for an attack.
const SOONER: u32 = 2;
/// How long the answer to a ping may take.
const PONG: Duration = Duration::from_secs(15);

/// A connection that carries many exchanges. It says goodbye and closes when this and the last of
/// them are gone.
pub(in crate::upstream) struct Connection {
    /// `None` if it is to be closed.
    requests: RefCell<Option<SendRequest<Bytes>>>,
    wire: Rc<Wire>,
    state: Rc<State>,
    /// Tells whoever waits for a stream that one has ended.
    room: Rc<Notify>,
}

struct State {
    /// How many are open.
    streams: Cell<usize>,
    /// Grows with every one that is opened.
    opened: Cell<u64>,
    /// How many have ended before their answers had.
    given_up: Cell<usize>,
    /// Since when there has been none, if there is none.
    idle_since: Cell<Instant>,
    /// Held while there is none.
    idle_place: Cell<Option<IdlePlace>>,
    /// Its task has ended.
    over: Cell<bool>,
    /// Why, if the connection broke.
    broken: Cell<Option<io::Error>>,
}

impl Default for State {
    fn default() -> Self {
        Self {
            streams: Cell::default(),
            opened: Cell::default(),
            given_up: Cell::default(),
            idle_since: Cell::new(Instant::now()),
            // It is made for an exchange that is about to begin.
            idle_place: Cell::default(),
            over: Cell::default(),
            broken: Cell::default(),
        }
    }
}

impl Connection {
    /// Begins HTTP/2 on `io`, and waits until the partner has said how much it takes: what it says
    /// comes first (RFC 9113 section 3.4), and exchanges that it does not want it would refuse.
    /// Dropping the future closes the connection.
    pub(super) async fn begin(
        io: Transport,
        counted: Counted,
        room: Rc<Notify>,
    ) -> Result<Self, ConnectError> {
        let (wire, state) = (Rc::<Wire>::default(), Rc::<State>::default());
        let io = Watched::new(io, Rc::clone(&wire));
        let (requests, mut connection) = builder().handshake::<_, Bytes>(io).await.map_err(broken)?;
        let pings = connection.ping_pong();
        let alive = keep_alive(Rc::clone(&wire), Rc::clone(&state), pings);
        let (its_state, its_wire, its_room) = (Rc::clone(&state), Rc::clone(&wire), Rc::clone(&room));
        tokio::task::spawn_local(async move {
            let mut last = None;
            let ended = poll_fn(|cx| {
                let ended = Pin::new(&mut connection).poll(cx);
                // Where there is more room, or no longer any to wait for.
                let wants = Some((connection.max_concurrent_send_streams(), its_wire.last_stream()));
                if std::mem::replace(&mut last, wants) != wants {
                    its_room.notify_waiters();
                }
                ended
            });
            tokio::select! {
                // The exchanges on it learn what went wrong, and know better what it means.
                ended = ended => its_state.broken.set(ended.err().and_then(h2::Error::into_io)),
                () = alive => {}
            }
            drop(connection);
            its_state.over.set(true);
            its_wire.end();
            its_room.notify_waiters();
            drop(counted);
        });
        let connection = Self { requests: RefCell::new(Some(requests)), wire, state, room };
        connection.wire.begun().await;
        if !connection.state.over.get() {
            return Ok(connection);
        }
        // What came was the end, or is no HTTP/2, unless the connection broke.
        Err(connection.state.broken.take().map_or(ConnectError::NoHttp2, ConnectError::Tcp))
    }

    /// Whether more exchanges may begin on it: the partner has not announced its end, and not too many
    /// have been given up.
    pub(super) fn is_open(&self) -> bool {
        let State { over, given_up, .. } = &*self.state;
        !over.get()
            && given_up.get() < GIVEN_UP
            && self.wire.empty_frames() < EMPTY_FRAMES / 2
            && self.wire.last_stream().is_none()
            && self.requests.borrow().is_some()
    }

    /// Whether one more exchange may begin now.
    pub(super) fn has_room(&self) -> bool {
        let left = EMPTY_FRAMES.saturating_sub(self.wire.empty_frames());
        self.state.streams.get() < self.most_streams().min(left)
    }

    /// Whether the partner wants none at all on it now.
    pub(super) fn is_shut(&self) -> bool {
        self.most_streams() == 0
    }

    fn most_streams(&self) -> usize {
        let requests = self.requests.borrow();
        requests.as_ref().map_or(0, SendRequest::current_max_send_streams).min(MAX_STREAMS)
    }

    /// Whether it has been without an exchange for `time`.
    pub(super) fn is_idle_for(&self, time: Duration, now: Instant) -> bool {
        self.state.streams.get() == 0 && now.duration_since(self.state.idle_since.get()) >= time
    }

    /// Begins an exchange. On an error nothing of the request has left.
    pub(in crate::upstream) fn open(
        self: &Rc<Self>,
        request: Request<()>,
        ends: bool,
    ) -> Result<Opened, ExchangeError> {
        let writes = self.wire.writes();
        let requests = self.requests.borrow().clone();
        // One that is to be closed is not in the pool any more.
        let mut requests = requests.ok_or(ExchangeError::Incomplete)?;
        let (response, stream) = requests.send_request(request, ends)?;
        self.state.streams.update(|streams| streams + 1);
        self.state.opened.update(|opened| opened.wrapping_add(1));
        self.state.idle_place.take();
        Ok(Opened { response, stream, slot: Slot { connection: Rc::clone(self), writes, ended: false } })
    }
}

/// A connection that breaks before anything was sent on it.
fn broken(error: h2::Error) -> ConnectError {
    ConnectError::Tcp(error.into_io().unwrap_or_else(|| io::ErrorKind::BrokenPipe.into()))
}

fn builder() -> Builder {
    let mut builder = Builder::new();
    builder
        .enable_push(false)
        // Until the partner has said how many it wants.
        .initial_max_send_streams(MAX_STREAMS)
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .data_frame_budget(FRAMING)
        .max_send_buffer_size(SEND_BUFFER)
        .max_concurrent_reset_streams(GIVEN_UP + MAX_STREAMS)
        .reset_stream_duration(Duration::MAX)
        .max_header_list_size(MAX_HEADER);
    builder
}

/// Ends when the partner does not answer any more. It is asked only while exchanges wait for it and
/// nothing comes.
async fn keep_alive(wire: Rc<Wire>, state: Rc<State>, pings: Option<PingPong>) {
    let Some(mut pings) = pings else { return std::future::pending().await };
    let (mut seen, mut opened, mut silent, mut sooner) = (wire.reads(), 0, 0, 0);
    loop {
        sleep(LOOK).await;
        let waits = wire.reads() == seen && state.streams.get() > 0;
        (silent, sooner) = if waits { (silent + 1, sooner) } else { (0, 0) };
        let again = silent > 1 && sooner < SOONER && state.opened.get() != opened;
        if again || silent % LOOKS_UNTIL_AGAIN == 1 {
            sooner += u32::from(again);
            opened = state.opened.get();
            if !matches!(timeout(PONG, pings.ping(Ping::opaque())).await, Ok(Ok(_))) {
                return;
            }
        }
        seen = wire.reads();
    }
}

/// A stream that a request has been put on.
pub(in crate::upstream) struct Opened {
    pub(super) response: ResponseFuture,
    pub(super) stream: SendStream<Bytes>,
    pub(super) slot: Slot,
}

/// An exchange's share of its connection.
pub(super) struct Slot {
    connection: Rc<Connection>,
    /// [`Wire::writes`] before the exchange began.
    writes: u64,
    ended: bool,
}

impl Slot {
    /// All of the request has been sent, and all of its answer has come.
    pub(super) fn end(mut self) {
        self.ended = true;
    }

    /// Whether a request on stream `id`, to which no answer came but `error`, was certainly not
    /// processed. See the documentation of the module above.
    pub(super) fn was_not_processed(&self, id: u32, error: &h2::Error) -> bool {
        let wire = &self.connection.wire;
        let refused = error.is_reset() && error.is_remote();
        refused && error.reason() == Some(Reason::REFUSED_STREAM)
            || wire.last_stream().is_some_and(|last| id > last)
            || wire.writes() == self.writes
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let Connection { state, room, requests, .. } = &*self.connection;
        let left = state.streams.get() - 1;
        state.streams.set(left);
        state.given_up.update(|given_up| given_up + usize::from(!self.ended));
        if left == 0 {
            state.idle_since.set(Instant::now());
            match IdlePlace::take() {
                place @ Some(_) => state.idle_place.set(place),
                // As many are idle as may be.
                None => drop(requests.take()),
            }
        }
        room.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::DuplexStream;

    use super::*;

    /// A connection over a pipe, with `streams` exchanges on it, and whether it is held to be alive
    /// after `time`.
    async fn is_alive_after(time: Duration, streams: usize, near: DuplexStream) -> bool {
        let (wire, state) = (Rc::<Wire>::default(), Rc::<State>::default());
        state.streams.set(streams);
        let io = Watched::new(near, Rc::clone(&wire));
        let (_requests, mut connection) = builder().handshake::<_, Bytes>(io).await.unwrap();
        let pings = connection.ping_pong();
        tokio::select! {
            _ = connection => panic!("the connection ended by itself"),
            () = keep_alive(wire, state, pings) => false,
            () = sleep(time) => true,
        }
    }

    const HOUR: Duration = Duration::from_secs(3600);

    #[tokio::test(start_paused = true)]
    async fn a_partner_that_falls_silent_in_an_exchange_is_given_up() {
        // What is sent fits into the pipe, and nobody reads it.
        let (near, _far) = tokio::io::duplex(1024);
        let begun = Instant::now();
        assert!(!is_alive_after(HOUR, 1, near).await);
        assert_eq!(begun.elapsed(), LOOK + PONG);
        let (near, _far) = tokio::io::duplex(1024);
        assert!(is_alive_after(HOUR, 0, near).await, "nobody waits for it");
    }

    #[tokio::test(start_paused = true)]
    async fn a_partner_that_vanishes_after_a_ping_is_given_up_when_more_is_asked_of_it() {
        let (near, far) = tokio::io::duplex(1024);
        let (wire, state) = (Rc::<Wire>::default(), Rc::<State>::default());
        state.streams.set(1);
        let io = Watched::new(near, Rc::clone(&wire));
        let (_requests, mut connection) = builder().handshake::<_, Bytes>(io).await.unwrap();
        let pings = connection.ping_pong();
        let mut partner = h2::server::handshake(far);
        let answering = async {
            let mut partner = (&mut partner).await.unwrap();
            // It answers the first ping, at the second look, and then it is there no more.
            let _none = timeout(2 * LOOK + PONG, partner.accept()).await;
            std::future::pending::<()>().await;
        };
        let asking = async {
            loop {
                sleep(LOOK + PONG).await;
                state.opened.update(|opened| opened + 1);
            }
        };
        let begun = Instant::now();
        tokio::select! {
            _ = connection => panic!("the connection ended by itself"),
            () = answering => unreachable!(),
            () = asking => unreachable!(),
            () = keep_alive(wire, Rc::clone(&state), pings) => {}
        }
        assert!(begun.elapsed() > 2 * LOOK + PONG && begun.elapsed() <= 5 * LOOK, "{:?}", begun.elapsed());
    }

    #[tokio::test(start_paused = true)]
    async fn a_partner_that_answers_pings_is_asked_at_most_once_in_five_minutes() {
        let (near, far) = tokio::io::duplex(1024);
        let wire = Rc::<Wire>::default();
        let far = Watched::new(far, Rc::clone(&wire));
        let mut partner = h2::server::handshake(far);
        let answering = async {
            let mut partner = (&mut partner).await.unwrap();
            let _ended = partner.accept().await;
        };
        tokio::select! {
            () = answering => panic!("the partner ended by itself"),
            alive = is_alive_after(HOUR, 1, near) => assert!(alive),
        }
        let pings = HOUR.as_secs() / 300;
        // Preface, settings and their acknowledgement.
        assert!((pings..pings + 4).contains(&wire.reads()), "{} reads", wire.reads());
    }
}
