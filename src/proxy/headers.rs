//! Header rules: what a proxy must take away, what bearerd sets, and what is not carried at all.

use http::header::{self, HeaderMap, HeaderName, HeaderValue};

use super::respond::Problem;

/// What is to be done with a field of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Rule {
    /// It goes on.
    Keep,
    /// It is for this hop only, a credential, or tells of the client what the partner need not
    /// know.
    Drop,
    /// It is for this hop, and says what else is.
    Connection,
    /// It asks a server to serve another path than the one that was checked.
    Forbid,
}

/// What a request's header says to a proxy, found in one pass over it.
#[derive(Debug, Default)]
pub(super) struct Found {
    drop: Vec<HeaderName>,
    /// The client takes trailers.
    pub(super) trailers: bool,
    /// The client wants another protocol on this connection.
    pub(super) upgrade: Option<HeaderValue>,
}

/// Looks through a request's header. `managed` are the partner's own fields, in lower case.
pub(super) fn examine(headers: &HeaderMap, managed: &[HeaderName]) -> Result<Found, Problem> {
    let mut found = Found::default();
    let mut upgrade = false;
    for (name, value) in headers {
        match rule(name, managed)? {
            Rule::Keep => {}
            Rule::Drop => found.drop.push(name.clone()),
            Rule::Forbid => return Err(Problem::Rewrite),
            Rule::Connection => {
                found.drop.push(name.clone());
                for token in tokens(value) {
                    upgrade |= token.eq_ignore_ascii_case("upgrade");
                    // What names a field of ours is harmless: ours are set after these are gone.
                    if let Ok(name) = HeaderName::from_bytes(token.as_bytes()) {
                        found.drop.push(name);
                    }
                }
            }
        }
    }
    found.trailers = headers
        .get_all(header::TE)
        .iter()
        .flat_map(tokens)
        .any(|token| token.split(';').next().unwrap_or_default().trim().eq_ignore_ascii_case("trailers"));
    if upgrade {
        found.upgrade = headers.get(header::UPGRADE).filter(|value| !is_http(value)).cloned();
    }
    Ok(found)
}

/// Whether an Upgrade asks, or may ask, for HTTP on the same connection, in clear or not: nobody
/// would check the requests on it.
fn is_http(upgrade: &HeaderValue) -> bool {
    let Ok(protocols) = upgrade.to_str() else { return true };
    let names = protocols.split(',').map(|protocol| protocol.split('/').next().unwrap_or_default().trim());
    names
        .into_iter()
        .any(|name| ["h2c", "h2", "http", "tls"].iter().any(|http| name.eq_ignore_ascii_case(http)))
}

/// Takes away what [`examine`] found.
pub(super) fn strip(headers: &mut HeaderMap, found: &Found) {
    for name in &found.drop {
        headers.remove(name);
    }
}

/// The body of an answer is in a coding that nobody here undoes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct UnknownCoding;

/// Takes from an answer's header what was for the hop from the partner only.
pub(super) fn strip_answer(headers: &mut HeaderMap) -> Result<(), UnknownCoding> {
    // Most answers have one or two such fields, so looking at each name once costs less than looking
    // for each of them.
    let mut drop = Vec::new();
    let mut codings = 0;
    for (name, value) in &*headers {
        match name.as_str() {
            "connection" => {
                drop.push(name.clone());
                drop.extend(tokens(value).filter_map(|name| HeaderName::from_bytes(name.as_bytes()).ok()));
            }
            "transfer-encoding" => {
                codings += 1;
                if codings > 1 || !value.as_bytes().trim_ascii().eq_ignore_ascii_case(b"chunked") {
                    return Err(UnknownCoding);
                }
                // RFC 9112 section 6.3: with both, the length is not to be believed.
                drop.extend([header::TRANSFER_ENCODING, header::CONTENT_LENGTH]);
            }
            "keep-alive"
            | "proxy-connection"
            | "proxy-authenticate"
            | "proxy-authorization"
            | "upgrade"
            | "te" => drop.push(name.clone()),
            _ => {}
        }
    }
    for name in drop {
        headers.remove(name);
    }
    Ok(())
}

/// Takes from a request's trailers everything that belongs into a header only, or is a credential,
/// or one of the partner's own fields, `managed`.
pub(super) fn strip_trailers(trailers: &mut HeaderMap, managed: &[HeaderName]) {
    let bad: Vec<HeaderName> = trailers
        .keys()
        .filter(|name| {
            let plain = name.as_str().replace('_', "-");
            is_managed(&plain) || is_one_of(managed, &plain)
        })
        .cloned()
        .collect();
    for name in bad {
        trailers.remove(name);
    }
}

/// The comma-separated members of a field value that is text.
pub(super) fn tokens(value: &HeaderValue) -> impl Iterator<Item = &str> {
    // One member that is not text does not hide the others.
    let members = value.as_bytes().split(|&b| b == b',');
    members
        .filter_map(|token| std::str::from_utf8(token).ok())
        .map(str::trim)
        .filter(|token| !token.is_empty())
}

/// Whether bearerd sets or reads a field itself, so that a client's own must not reach the partner.
pub fn is_managed(name: &str) -> bool {
    is_credential(name) || is_framing(name) || rule_by_name(name) != Rule::Keep
}

fn is_credential(name: &str) -> bool {
    matches!(name, "authorization" | "proxy-authorization" | "partner-code")
}

fn is_framing(name: &str) -> bool {
    matches!(
        name,
        "host" | "content-length" | "transfer-encoding" | "via" | "trailer" | "expect" | "max-forwards"
    )
}

fn rule(name: &HeaderName, managed: &[HeaderName]) -> Result<Rule, Problem> {
    let text = name.as_str();
    if text.contains('_') {
        // To many servers Partner_Code and Partner-Code are one field (CGI made them so).
        let plain = text.replace('_', "-");
        if is_managed(&plain) || is_one_of(managed, &plain) {
            return Err(Problem::Underscore);
        }
    }
    if managed.contains(name) {
        return Ok(Rule::Drop);
    }
    Ok(rule_by_name(text))
}

/// Whether `plain`, which has no underscores, is a spelling of one of `managed`.
fn is_one_of(managed: &[HeaderName], plain: &str) -> bool {
    managed.iter().any(|name| name.as_str().replace('_', "-") == plain)
}

fn rule_by_name(name: &str) -> Rule {
    match name {
        "connection" => Rule::Connection,
        "keep-alive"
        | "proxy-connection"
        | "te"
        | "transfer-encoding"
        | "upgrade"
        | "http2-settings"
        | "proxy-authorization"
        | "proxy-authenticate"
        | "authorization"
        | "partner-code"
        | "expect"
        | "forwarded"
        | "x-real-ip" => Rule::Drop,
        "x-original-url" | "x-rewrite-url" => Rule::Forbid,
        _ if name.starts_with("x-forwarded-") => Rule::Drop,
        _ => Rule::Keep,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(fields: &[(&str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(HeaderName::from_bytes(name.as_bytes()).unwrap(), value.parse().unwrap());
        }
        headers
    }

    fn carried(fields: &[(&str, &str)]) -> Vec<String> {
        let mut headers = map(fields);
        let managed = [HeaderName::from_static("partner-code"), HeaderName::from_static("x-service-code")];
        let found = examine(&headers, &managed).unwrap();
        strip(&mut headers, &found);
        headers.keys().map(ToString::to_string).collect()
    }

    #[test]
    fn s64_credentials_and_hop_by_hop_fields_do_not_go_on() {
        let left = carried(&[
            ("accept", "*/*"),
            ("authorization", "Bearer x"),
            ("proxy-authorization", "Basic x"),
            ("partner-code", "X"),
            ("x-service-code", "X"),
            ("connection", "keep-alive, X-Private"),
            ("connection", "X-Other"),
            ("x-private", "1"),
            ("x-other", "1"),
            ("keep-alive", "timeout=5"),
            ("te", "trailers"),
            ("upgrade", "websocket"),
            ("expect", "100-continue"),
            ("x-forwarded-for", "10.0.0.1"),
            ("forwarded", "for=10.0.0.1"),
            ("x-real-ip", "10.0.0.1"),
            ("x_legacy_name", "1"),
        ]);
        assert_eq!(left, ["accept", "x_legacy_name"]);
    }

    #[test]
    fn a_spelling_with_underscores_of_a_managed_field_is_refused() {
        for name in
            ["content_length", "partner_code", "transfer_encoding", "authorization_", "x_service_code"]
        {
            let headers = map(&[(name, "1")]);
            let managed = [HeaderName::from_static("x-service-code")];
            let refused = matches!(examine(&headers, &managed), Err(Problem::Underscore));
            assert_eq!(refused, name != "authorization_", "{name}");
        }
    }

    #[test]
    fn a_path_rewrite_is_refused() {
        for name in ["x-original-url", "x-rewrite-url"] {
            assert!(matches!(examine(&map(&[(name, "/")]), &[]), Err(Problem::Rewrite)));
        }
    }

    #[test]
    fn an_upgrade_needs_both_fields_and_is_never_to_h2c() {
        let upgrade = |fields: &[(&str, &str)]| examine(&map(fields), &[]).unwrap().upgrade;
        assert_eq!(upgrade(&[("connection", "Upgrade"), ("upgrade", "websocket")]).unwrap(), "websocket");
        assert!(upgrade(&[("upgrade", "websocket")]).is_none());
        for http in ["h2c", "websocket, H2C", "HTTP/2.0", "TLS/1.0", "h2c, \u{e9}"] {
            assert!(upgrade(&[("connection", "upgrade"), ("upgrade", http)]).is_none(), "{http}");
        }
    }

    #[test]
    fn an_answer_loses_what_was_for_the_hop() {
        let mut headers = map(&[
            ("connection", "close, X-Hop"),
            ("x-hop", "1"),
            ("transfer-encoding", "chunked"),
            ("content-length", "5"),
            ("proxy-authenticate", "Basic"),
            ("keep-alive", "timeout=5"),
            ("www-authenticate", "Bearer"),
        ]);
        strip_answer(&mut headers).unwrap();
        assert_eq!(headers.keys().collect::<Vec<_>>(), ["www-authenticate"]);
    }

    #[test]
    fn an_answer_in_a_coding_that_is_not_undone_here_is_not_passed_on() {
        for codings in [&["gzip, chunked"][..], &["gzip"], &["gzip", "chunked"]] {
            let codings: Vec<_> = codings.iter().map(|coding| ("transfer-encoding", *coding)).collect();
            assert_eq!(strip_answer(&mut map(&codings)), Err(UnknownCoding), "{codings:?}");
        }
    }

    #[test]
    fn a_member_that_is_not_text_hides_no_other() {
        let value = HeaderValue::from_bytes(b"1.1 a (caf\xe9), 1.1 b").unwrap();
        assert_eq!(tokens(&value).collect::<Vec<_>>(), ["1.1 b"]);
    }

    #[test]
    fn trailers_carry_no_credentials_and_no_framing() {
        let mut trailers = map(&[
            ("authorization", "x"),
            ("partner_code", "x"),
            ("host", "x"),
            ("x-service-code", "x"),
            ("x_service_code", "x"),
            ("x-sum", "1"),
        ]);
        strip_trailers(&mut trailers, &[HeaderName::from_static("x-service-code")]);
        assert_eq!(trailers.keys().collect::<Vec<_>>(), ["x-sum"]);
    }
}
