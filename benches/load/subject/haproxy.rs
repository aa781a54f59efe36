//! HAProxy. Without room for rewriting it answers 500 to a large body once the token is added.

use std::net::SocketAddr;

use super::{AUTHORITY, Setting};
use crate::backend::{PARTNER_CODE, access_token};
use crate::socket::HOST;

pub(super) const ARGUMENTS: &[&str] = &["-db", "-f"];

pub(super) fn config(addr: SocketAddr, setting: &Setting<'_>) -> String {
    let (token, backend) = (access_token(0), setting.backend);
    let http2 = if setting.http2 { " proto h2" } else { "" };
    let tls = match setting.authority {
        None => String::new(),
        Some(_) => format!(
            " ssl verify required ca-file {AUTHORITY} verifyhost {HOST} sni str({HOST}) ssl-min-ver TLSv1.3"
        ),
    };
    format!(
        r#"
global
    nbthread 1
    maxconn 4096
    tune.maxrewrite 4096
defaults
    mode http
    maxconn 4096
    http-reuse always
    timeout connect 5s
    timeout client 10m
    timeout server 10m
    timeout http-keep-alive 10m
frontend clients
    bind {addr} backlog 1024{http2}
    default_backend partner
backend partner
    http-request set-header Authorization "Bearer {token}"
    http-request set-header Partner-Code "{PARTNER_CODE}"
    server partner {backend} pool-purge-delay 10m{tls}
"#
    )
}
