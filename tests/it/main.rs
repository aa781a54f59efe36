//! The real binary, between a scripted partner and clients that send exact bytes.
//!
//! Names are facts. A test that covers a scenario of the project's list carries its number.

#![expect(clippy::unwrap_used, reason = "a failure in a helper is a failed test")]
#![expect(
    clippy::disallowed_methods,
    reason = "the process under test is watched from outside, on the system's clock"
)]

mod aborts;
mod admin;
mod bad_store;
mod cases;
mod cli;
mod crash;
mod descriptors;
mod drain;
mod examples;
mod gateway;
mod gateway_load;
mod h2_floods;
mod hardened;
mod harness;
mod headers;
mod hostile;
mod hostile_answers;
mod hostile_calls;
mod hostile_names;
mod hostile_tls;
mod http2_limits;
mod http2_resend;
mod http2_upstream;
mod kept;
mod outcomes;
mod overload;
mod panics;
mod postgres_operators;
mod postgres_start;
mod replay;
mod replay_budget;
mod replicas;
mod replicas_chaos;
mod replicas_commit;
mod replicas_network;
mod replicas_sql;
mod replicas_store;
mod reuse;
mod rotation;
mod routing;
mod secret_types;
mod slow;
mod soak;
mod stale;
mod store;
mod store_faults;
mod support;
mod sweep;
mod tunnel;
mod upload;
mod wire;
