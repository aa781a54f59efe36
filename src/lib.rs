//! bearerd carries the Bearer token, so that applications need not.
//!
//! An application sends its partner traffic to bearerd in plain HTTP and without credentials.
//! bearerd attaches the current access token and the partner code, forwards over TLS, keeps the
//! token fresh with the partner's refresh call, and when the partner answers 401 all the same, gets
//! a new token and sends the original request again. The application sees one answer and never a
//! token.
//!
//! Two stories tell all of it. Whatever bearerd does is a step of one of them.
//!
//! # The life of a request
//!
//! 1. [`listener::Workers`] accepts it on one of several current-thread runtimes, each with a
//!    socket of its own, holds the connection to its time limits, and reads the request: in HTTP/1.1
//!    with a codec of its own (`listener/http1.rs`), in HTTP/2 with hyper (`listener/version.rs`,
//!    whose tasks `listener/tasks.rs` watches).
//!    Where more has come than it gets through, exchanges under way go first, and the next begin a
//!    few at a time (`listener/turnstile.rs`).
//! 2. [`proxy::Proxy::handle`] counts it, gives it a deadline, and carries it:
//!    - its head is checked (`proxy/admit.rs`), its path brought into one canonical form
//!      (`proxy/path.rs`), and an application's own login or refresh refused;
//!    - its partner is found by host and path ([`proxy::Routes`], `proxy/route.rs`);
//!    - its header loses what is for this hop only and every credential, and gets what bearerd sets
//!      (`proxy/headers.rs`);
//!    - its body is prepared to be sent twice, within limits (`proxy/replay.rs`).
//! 3. `proxy/authorize.rs` takes the token from the [`credential::TokenCell`]: an atomic load and a
//!    clone of a ready-made header value. Without a usable one it waits on the
//!    [`credential::RefreshHandle`].
//! 4. [`upstream::Upstream`] sends it on a pooled connection of the same runtime, in HTTP/1.1
//!    (`upstream/http1.rs`), or on a stream of a shared one in HTTP/2 (`upstream/http2.rs`).
//! 5. An answer other than 401 streams back. On a 401 the request is sent again, once: with the
//!    newer token if there is one already, else with the one that
//!    [`credential::RefreshHandle::refused`] asks the refresher for.
//! 6. What bearerd answers by itself is made in `proxy/respond.rs`. When the last byte of the
//!    answer is out, `proxy/exchange.rs` counts the exchange and writes it to the log.
//!
//! # The life of a token
//!
//! 1. [`credential::Refresher::load`] takes the partner's [`store::Record`] from the
//!    [`store::Store`] and publishes the access token that it holds, so that a restart serves at
//!    once. Of a store that replicas share it takes first what its own journal holds
//!    ([`store::Shared::recall`]) and then what the store does, and goes on with what is ahead.
//! 2. [`credential::decide`], a pure function of credential and time, says what is next: sleep,
//!    refresh, log in, take up the configured seed, or save again.
//! 3. Before a refresh the intent is made durable ([`store::Intent`]): a crash from here on finds
//!    it, and knows that the refresh token may be spent. Where replicas share the store, this is
//!    where they agree on who calls: [`store::Begun`] says go, wait, or look again, and without an
//!    answer no call is made.
//! 4. [`partner::TokenEndpoint`] makes the call, its body sealed by [`partner::envelope`], and says
//!    what is known of it: [`partner::Outcome`].
//! 5. The new pair is made durable, and then published to the cell. Requests that wait see it at
//!    once. In a shared store it takes the place of a pair that it descends from
//!    ([`store::Lineage`]), however late it comes; the other replicas are told and put it in use.
//! 6. The refresher, [`credential::Refresher::run`], sleeps until the next moment, or until a 401,
//!    an operator, a reload or another replica wakes it.
//!
//! Refreshers live on the control runtime, with the store and the [`admin`] side. No request's
//! future ever holds a refresh: a client that goes away cancels nothing.
//!
//! # What always holds
//!
//! - The partner sees one refresh call per token [generation](token::Generation), however many
//!   requests see an expiry or a 401, and however many replicas share its store.
//! - A spent refresh token is not presented again, unless the partner's grace allows it or there is
//!   nothing left to lose.
//! - Where replicas share a store, none calls without its consent, and none while another may still
//!   be calling. A pair that comes late is stored or kept aside, never dropped.
//! - A request is sent twice only after a 401, or when it provably never left or was not processed.
//! - A 401 is evidence against the generation that was sent, never against the current one.
//! - An expired token is never sent knowingly.
//! - No secret is printed: secrets are [types](token) that cannot be, and what libraries would
//!   print of the bytes that pass through them is [cut off](telemetry).
//!
//! # What can go wrong
//!
//! [`failures`] tells, for every point of failure in the two stories, what bearerd does, what an
//! operator sees of it and what there is to do.
//!
//! # Parts
//!
//! [`app`] composes the parts from a [`config::Config`]; [`cli`] is the command line. A module uses
//! those below it in this list and never one above: `cli`, `app`, `config`, `admin`, `listener`,
//! `proxy`, `upstream`, `sandbox`, `credential`, `partner`, `store`, `metrics`, `telemetry`,
//! `incoming`, `http1`, `descriptors`, `trust`, `secret_file`, `token`, `clock`.
//!
//! # Embedding
//!
//! [`proxy::Proxy`] is a tower service. It lives on one current-thread runtime that can spawn local
//! tasks, because nothing on the way of a request is shared between cores but the routes and the
//! token.

pub mod admin;
pub mod app;
pub mod cli;
pub mod clock;
pub mod config;
pub mod credential;
pub mod descriptors;
pub mod failures;
pub mod http1;
pub mod incoming;
pub mod listener;
pub mod metrics;
pub mod partner;
pub mod proxy;
pub mod sandbox;
pub mod secret_file;
pub mod store;
pub mod telemetry;
pub mod token;
pub mod trust;
pub mod upstream;
