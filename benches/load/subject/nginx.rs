//! nginx. Bodies of 64 KiB stay in memory, and no connection is closed after so many requests.

use std::net::SocketAddr;

use super::{AUTHORITY, Setting};
use crate::backend::{PARTNER_CODE, access_token};
use crate::socket::HOST;

pub(super) const ARGUMENTS: &[&str] = &["-p", ".", "-e", "stderr", "-c"];

pub(super) fn config(addr: SocketAddr, setting: &Setting<'_>) -> String {
    let (token, backend) = (access_token(0), setting.backend);
    let http2 = if setting.http2 { " http2" } else { "" };
    // TLS 1.3 is not among what it offers by itself.
    let (scheme, tls) = match setting.authority {
        None => ("http", String::new()),
        Some(_) => (
            "https",
            format!(
                "proxy_ssl_verify on; proxy_ssl_trusted_certificate {AUTHORITY}; proxy_ssl_name {HOST}; \
                 proxy_ssl_server_name on; proxy_ssl_protocols TLSv1.3;"
            ),
        ),
    };
    format!(
        r#"
daemon off;
worker_processes 1;
pid nginx.pid;
events {{ worker_connections 8192; }}
http {{
    access_log off;
    client_body_temp_path client_body;
    proxy_temp_path proxy;
    fastcgi_temp_path fastcgi;
    uwsgi_temp_path uwsgi;
    scgi_temp_path scgi;
    keepalive_requests 1000000000;
    keepalive_timeout 10m;
    client_max_body_size 0;
    client_body_buffer_size 128k;
    upstream backend {{
        server {backend};
        keepalive 1024;
        keepalive_requests 1000000000;
        keepalive_timeout 10m;
    }}
    server {{
        listen {addr} backlog=1024{http2};
        location / {{
            proxy_pass {scheme}://backend;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_set_header Authorization "Bearer {token}";
            proxy_set_header Partner-Code "{PARTNER_CODE}";
            {tls}
        }}
    }}
}}
"#
    )
}
