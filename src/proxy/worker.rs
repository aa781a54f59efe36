//! One runtime's proxy: its view of the routes, and the life of a request.

use std::cell::{Cell, OnceCell, RefCell};
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::task::{Context, Poll};
use std::time::Duration;

use arc_swap::ArcSwap;
use arc_swap::cache::Cache;
use bytes::Bytes;
use http::header::{self, HeaderValue};
use http::request::Parts;
use http::{HeaderMap, Request, Response, StatusCode, Version};
use http_body::Body;
use hyper_util::rt::TokioIo;
use tokio::time::{Instant, sleep_until};
use tracing::debug;

use super::admit::{MaxForwards, admit, max_forwards};
use super::exchange::{Exchange, ExchangeMetricsOf, InFlight, Record, ResponseBody};
use super::headers::{Found, join_cookies};
use super::local::{Local, Table};
use super::panics::caught;
use super::path::{canonical, is_auth_call};
use super::replay::{Limits, Replay, ReplayMemory};
use super::respond::Problem;
use super::route::Routes;
use super::tunnel::Tunnel;
use crate::clock::Clock;
use crate::http1::{self, Head};
use crate::incoming::{Incoming, Streamed};
use crate::metrics::{self, Shard};
use crate::telemetry::Tracing;
use crate::upstream::{Answer, AnswerBody, Framing, Outgoing, Progress};

/// What the proxies of all runtimes share.
pub struct Shared {
    routes: Arc<ArcSwap<Table>>,
    in_flight: Arc<AtomicUsize>,
    memory: Arc<ReplayMemory>,
    pub(super) clock: Arc<dyn Clock>,
    tracing: Option<Arc<Tracing>>,
    /// What this process calls itself in `Via`: unlike every other, so that a loop is seen.
    via: String,
}

impl Shared {
    /// Shared state that begins with `routes`. Spans go to `tracing` if there is one.
    pub fn new(routes: Routes, clock: Arc<dyn Clock>, tracing: Option<Arc<Tracing>>) -> Arc<Self> {
        Arc::new(Self {
            routes: Arc::new(ArcSwap::from_pointee(Table::new(routes))),
            in_flight: Arc::default(),
            memory: ReplayMemory::new(),
            clock,
            tracing,
            via: format!("bearerd-{:08x}", fastrand::u32(..)),
        })
    }

    /// Exchanges that begin from now on follow `routes`; those under way finish as they began.
    pub fn reload(&self, routes: Routes) {
        self.routes.store(Arc::new(Table::new(routes)));
    }
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").finish_non_exhaustive()
    }
}

/// The proxy of one runtime, which must be a current-thread one that can spawn local tasks. A clone
/// is the same proxy.
#[derive(Clone)]
pub struct Proxy(Rc<Worker>);

struct Worker {
    shared: Arc<Shared>,
    shard: Arc<Shard>,
    nobody: Rc<ExchangeMetricsOf>,
    view: RefCell<View>,
    via: HeaderValue,
}

/// The routes as this runtime last saw them, with everything that is its own.
struct View {
    cache: Cache<Arc<ArcSwap<Table>>, Arc<Table>>,
    seen: Rc<Local>,
}

impl Proxy {
    /// A proxy that counts in `shard`.
    pub fn new(shared: Arc<Shared>, shard: Arc<Shard>) -> Self {
        let nobody = Rc::new(ExchangeMetricsOf {
            partner: metrics::NO_PARTNER.into(),
            counters: shard.partner(metrics::NO_PARTNER),
        });
        let via = format!("1.1 {}", shared.via);
        let via = HeaderValue::try_from(via).unwrap_or_else(|_| HeaderValue::from_static("1.1 bearerd"));
        let mut cache = Cache::new(Arc::clone(&shared.routes));
        let seen = Rc::new(Local::new(Arc::clone(cache.load())));
        Self(Rc::new(Worker { shared, shard, nobody, view: RefCell::new(View { cache, seen }), via }))
    }

    /// How long a request that begins now may take, from its header to the head of its answer.
    pub fn request_timeout(&self) -> Duration {
        self.0.local().config().request_timeout
    }

    /// The life of a request. `started` is when it began to be served, `deadline` when the head of its
    /// answer must be there; `due` becomes ready then.
    pub async fn handle(
        &self,
        head: Head<Parts>,
        body: Incoming,
        started: Instant,
        deadline: Instant,
        due: impl Future<Output = ()>,
    ) -> Answer<ResponseBody> {
        let local = self.0.local();
        let record = Record::new(started, deadline, Rc::clone(&self.0.nobody));
        let mut exchange = Box::new(Exchange { head, record, progress: Cell::new(Progress::Coming) });
        let result = {
            let carried = pin!(self.0.carry(&local, &mut exchange, body));
            let (mut carried, mut due) = (pin!(caught(carried)), pin!(due));
            // By hand, because `select!` would move the result from place to place.
            poll_fn(|cx| match carried.as_mut().poll(cx) {
                Poll::Pending => due.as_mut().poll(cx).map(|()| Err(Problem::Deadline)),
                result => result,
            })
            .await
        };
        match result {
            Ok(Carried::Answer(answer)) => {
                exchange.record.status = answer.status().as_u16();
                answer.map(|body| ResponseBody::answer(body, exchange))
            }
            Ok(Carried::Own(answer)) => own(answer, exchange),
            Ok(Carried::Switched(answer)) => {
                exchange.record.status = answer.status().as_u16();
                answer.map(|tunnel| ResponseBody::tunnel(tunnel, exchange))
            }
            Err(problem) => {
                let problem = problem.after(exchange.progress.get());
                exchange.record.problem = Some(problem.as_str());
                own(problem.response().into(), exchange)
            }
        }
    }

    /// Closes upstream connections that have been idle for too long, and frees what this runtime has not
    /// needed for a while; to be called now and then.
    pub fn sweep(&self) {
        http1::sweep();
        for partner in self.0.local().partners.iter().filter_map(OnceCell::get) {
            partner.authorizer.upstream.sweep();
        }
    }
}

impl std::fmt::Debug for Proxy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Proxy").finish_non_exhaustive()
    }
}

/// For those who put bearerd into a server of their own.
impl tower::Service<Request<hyper::body::Incoming>> for Proxy {
    type Response = Response<ResponseBody>;
    type Error = std::convert::Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>>>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, mut request: Request<hyper::body::Incoming>) -> Self::Future {
        let proxy = self.clone();
        Box::pin(async move {
            let client = hyper::upgrade::on(&mut request);
            let started = Instant::now();
            let deadline = started + proxy.request_timeout();
            let (head, body) = request.into_parts();
            let body = match head.version {
                Version::HTTP_2 => Incoming::Http2(Streamed::new(body)),
                _ => Incoming::Library(body),
            };
            let answer = proxy.handle(head.into(), body, started, deadline, sleep_until(deadline)).await;
            if answer.status() != StatusCode::SWITCHING_PROTOCOLS {
                return Ok(answer.into());
            }
            let Answer { head, body } = answer;
            if let Some(tunnel) = body.into_tunnel() {
                tokio::task::spawn_local(async move {
                    match client.await {
                        Ok(client) => tunnel.carry(TokioIo::new(client)).await,
                        Err(error) => debug!(%error, "an upgrade was agreed on and did not happen"),
                    }
                });
            }
            Ok(Answer { head, body: ResponseBody::none() }.into())
        })
    }
}

/// How a request ended that met no problem.
enum Carried {
    Answer(Answer<AnswerBody>),
    Own(Answer<Bytes>),
    /// In a box, because it is rare and would make every result larger.
    Switched(Answer<Box<Tunnel>>),
}

impl Worker {
    /// The routes as they are now. A request keeps the ones that it began with.
    fn local(&self) -> Rc<Local> {
        let mut view = self.view.borrow_mut();
        let View { cache, seen } = &mut *view;
        let table = cache.load();
        if !Arc::ptr_eq(table, &seen.table) {
            *seen = Rc::new(Local::new(Arc::clone(table)));
        }
        Rc::clone(seen)
    }

    async fn carry(
        &self,
        local: &Local,
        exchange: &mut Exchange,
        body: Incoming,
    ) -> Result<Carried, Problem> {
        let config = local.config();
        let Exchange { head, record, progress } = exchange;
        let in_flight = InFlight::enter(&self.shared.in_flight, config.max_in_flight);
        record.in_flight = Some(in_flight.ok_or(Problem::Overloaded)?);
        self.trace(&mut head.headers, record);
        if head.version == Version::HTTP_2 {
            join_cookies(&mut head.headers);
        }

        let mut found = Found::in_header(&head.headers, head.version, &self.shared.via);
        let target = admit(head, &found, config.allow_browsers)?;
        let path = canonical(head.uri.path()).map_err(|_| {
            Problem::BadRequest("The path has dot segments, a backslash, NUL or broken percent-encoding.")
        })?;
        if is_auth_call(&path) {
            return Err(Problem::AuthCall);
        }
        let at = local.table.index.find(&target, &path).ok_or(Problem::NoPartner)?;
        let partner = local.partner(at, &self.shared, &self.shard);
        record.metrics = Rc::clone(&partner.metrics);
        let forwards = max_forwards(&head.method, &head.headers)?;
        found.without(&partner.managed)?;

        match &forwards {
            MaxForwards::Unlimited => {}
            MaxForwards::Left(left) => found.replace(&header::MAX_FORWARDS, left),
            MaxForwards::Last(answer) => return Ok(Carried::Own(Response::clone(answer).into())),
        }
        found.fields.push((&header::VIA, &self.via));
        found.fields.extend(partner.fields.iter().map(|(name, value)| (name, value)));
        let length = length(&found, &body);
        let outgoing = Outgoing {
            method: &head.method,
            target: &partner.target(&head.uri),
            authority: &partner.host,
            fields: &found.fields,
            framing: framing(&found, length, &body),
            trailers: found.trailers,
            upgrade: found.upgrade,
            progress,
        };
        let limits = || Limits {
            body: partner.partner.route.replay_limit,
            total: config.replay_memory,
            memory: Arc::clone(&self.shared.memory),
            idle_timeout: config.idle_timeout,
            managed: Rc::clone(&partner.managed),
        };
        let mut held = Replay::new(body, length.filter(|_| outgoing.framing != Framing::Chunked), limits);
        let mut answer = partner.authorizer.carry(&outgoing, head.uri.path(), &mut held, record).await?;

        if answer.status() != StatusCode::SWITCHING_PROTOCOLS {
            // The version is a matter of each hop.
            answer.head.version = Version::HTTP_11;
            return Ok(Carried::Answer(answer));
        }
        let asked = found.upgrade.ok_or(Problem::NoAnswer)?;
        let Answer { mut head, body } = answer;
        let upgraded = body.upgrade().ok_or(Problem::NoAnswer)?;
        // The exchange ends with the 101; what it holds of the limit goes on with the tunnel.
        let in_flight = record.in_flight.take();
        let tunnel = Tunnel { partner: upgraded, idle_timeout: config.idle_timeout, _in_flight: in_flight };
        head.headers.entry(header::UPGRADE).or_insert_with(|| asked.clone());
        head.headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
        Ok(Carried::Switched(Answer { head, body: Box::new(tunnel) }))
    }

    /// Makes the exchange part of a trace, if traces are exported.
    fn trace(&self, fields: &mut HeaderMap, record: &mut Record) {
        if let Some(tracing) = &self.shared.tracing {
            let span = tracing.start(fields);
            span.inject(fields);
            record.span = Some(Box::new(span));
        }
    }
}

/// The length that the framing gives the body; `None` if it gives none.
fn length(found: &Found<'_>, body: &Incoming) -> Option<u64> {
    let declared = found.length && !found.chunked;
    if declared || body.is_end_stream() { body.size_hint().exact() } else { None }
}

/// How the partner is told where the body ends.
fn framing(found: &Found<'_>, length: Option<u64>, body: &Incoming) -> Framing {
    match length {
        // Zero is worth saying where it was said: a POST without a length is refused by some.
        Some(0) if !found.length => Framing::None,
        Some(length) if !found.declares_trailers || body.is_end_stream() => Framing::Length(length),
        // Without a length to go by, or with trailers to come.
        _ => Framing::Chunked,
    }
}

/// An answer of bearerd's own.
fn own(answer: Answer<Bytes>, mut exchange: Box<Exchange>) -> Answer<ResponseBody> {
    exchange.record.status = answer.status().as_u16();
    answer.map(|data| ResponseBody::whole(data, exchange))
}
