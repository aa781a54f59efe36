//! Envoy, without request ids and statistics, and with circuit breakers that never open.

use std::net::SocketAddr;

use super::{AUTHORITY, Setting};
use crate::backend::{PARTNER_CODE, access_token};
use crate::socket::HOST;

pub(super) const ARGUMENTS: &[&str] =
    &["--concurrency", "1", "--disable-hot-restart", "-l", "error", "--config-path"];

pub(super) fn config(addr: SocketAddr, setting: &Setting<'_>) -> String {
    let (ip, port) = (addr.ip(), addr.port());
    let (backend_ip, backend_port) = (setting.backend.ip(), setting.backend.port());
    let codec = if setting.http2 { "HTTP2" } else { "HTTP1" };
    let set = |name: &str, value: &str| {
        format!(
            r#"{{ append_action: OVERWRITE_IF_EXISTS_OR_ADD, header: {{ key: {name}, value: "{value}" }} }}"#
        )
    };
    let token = set("Authorization", &format!("Bearer {}", access_token(0)));
    let code = set("Partner-Code", PARTNER_CODE);
    let tls = match setting.authority {
        None => String::new(),
        Some(_) => tls(),
    };
    format!(
        r#"
stats_config: {{ stats_matcher: {{ reject_all: true }} }}
static_resources:
  listeners:
  - name: clients
    address: {{ socket_address: {{ address: {ip}, port_value: {port} }} }}
    tcp_backlog_size: 1024
    filter_chains:
    - filters:
      - name: envoy.filters.network.http_connection_manager
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: clients
          codec_type: {codec}
          generate_request_id: false
          route_config:
            virtual_hosts:
            - name: all
              domains: ["*"]
              request_headers_to_add:
              - {token}
              - {code}
              routes:
              - match: {{ prefix: "/" }}
                route: {{ cluster: partner }}
          http_filters:
          - name: envoy.filters.http.router
            typed_config:
              "@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router
              dynamic_stats: false
              suppress_envoy_headers: true
  clusters:
  - name: partner
    type: STATIC
    connect_timeout: 5s
    circuit_breakers:
      thresholds:
      - {{ max_connections: 8192, max_pending_requests: 8192, max_requests: 8192, max_retries: 8192 }}
    load_assignment:
      cluster_name: partner
      endpoints:
      - lb_endpoints:
        - endpoint:
            address: {{ socket_address: {{ address: {backend_ip}, port_value: {backend_port} }} }}
{tls}"#
    )
}

fn tls() -> String {
    format!(
        r#"
    transport_socket:
      name: envoy.transport_sockets.tls
      typed_config:
        "@type": type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext
        sni: {HOST}
        common_tls_context:
          tls_params: {{ tls_minimum_protocol_version: TLSv1_3, tls_maximum_protocol_version: TLSv1_3 }}
          validation_context:
            trusted_ca: {{ filename: {AUTHORITY} }}
            match_typed_subject_alt_names:
            - {{ san_type: DNS, matcher: {{ exact: {HOST} }} }}
"#
    )
}
