//! Header rules: what a proxy must take away, what bearerd sets, and what is not carried at all.

use http::Version;
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
pub(super) struct Found<'a> {
    /// What goes on.
    pub(super) fields: Vec<(&'a HeaderName, &'a HeaderValue)>,
    /// `Host`; the last one, if there are several.
    pub(super) host: Option<&'a HeaderValue>,
    /// There is a second one.
    pub(super) hosts: bool,
    /// A length was told.
    pub(super) length: bool,
    /// The body is chunked.
    pub(super) chunked: bool,
    /// The body is in a coding that nobody here undoes, or in more than one.
    pub(super) unknown_coding: bool,
    /// Something else is expected than `100-continue`.
    pub(super) unknown_expectation: bool,
    /// A browser marked the request as one that a page, and not its user, caused.
    pub(super) from_a_page: bool,
    /// The request has been through this process.
    pub(super) looped: bool,
    /// Trailers are declared.
    pub(super) declares_trailers: bool,
    /// The client takes trailers.
    pub(super) trailers: bool,
    /// The client wants another protocol on this connection.
    pub(super) upgrade: Option<&'a HeaderValue>,
    /// A field asks for another path than the one that is checked.
    forbidden: bool,
    /// A name is a spelling, with underscores, of one that bearerd sets or reads.
    underscore: bool,
    /// Some name has an underscore.
    underscores: bool,
    /// What `Connection` names.
    named: Vec<HeaderName>,
}

impl<'a> Found<'a> {
    /// Looks through a request's header. `our_via` is what this process calls itself.
    pub(super) fn in_header(headers: &'a HeaderMap, version: Version, our_via: &str) -> Self {
        let mut found = Self { fields: Vec::with_capacity(headers.len() + 8), ..Self::default() };
        let (mut upgrade, mut upgrades) = (None, false);
        for (name, value) in headers {
            match name.as_str() {
                "host" => found.hosts |= found.host.replace(value).is_some(),
                "content-length" => found.length = true,
                "transfer-encoding" => {
                    let known = value.as_bytes().trim_ascii().eq_ignore_ascii_case(b"chunked");
                    found.unknown_coding |= found.chunked || !known;
                    found.chunked = true;
                }
                "expect" => {
                    let known = value.as_bytes().trim_ascii().eq_ignore_ascii_case(b"100-continue");
                    found.unknown_expectation |= !known;
                }
                "te" => found.trailers |= takes_trailers(value),
                "upgrade" => upgrade = upgrade.or(Some(value)),
                text => match rule_by_name(text) {
                    Rule::Drop => {}
                    Rule::Forbid => found.forbidden = true,
                    Rule::Connection => {
                        for option in tokens(value) {
                            upgrades |= option.eq_ignore_ascii_case("upgrade");
                            found.named.extend(another_field(option));
                        }
                    }
                    Rule::Keep => {
                        found.note(text, value, our_via);
                        found.fields.push((name, value));
                    }
                },
            }
        }
        // RFC 9110 section 7.8: an Upgrade in HTTP/1.0 is to be ignored.
        if upgrades && version == Version::HTTP_11 {
            found.upgrade = upgrade.filter(|value| !is_http(value));
        }
        found
    }

    /// Notes what a field that goes on says to bearerd as well.
    fn note(&mut self, name: &str, value: &HeaderValue, our_via: &str) {
        match name {
            "via" => {
                let mut hops = tokens(value);
                self.looped |= hops.any(|hop| hop.split_ascii_whitespace().nth(1) == Some(our_via));
            }
            "origin" => self.from_a_page = true,
            "sec-fetch-site" => self.from_a_page |= value.as_bytes() != b"none",
            "trailer" => self.declares_trailers = true,
            _ if name.contains('_') => {
                self.underscores = true;
                // To many servers Partner_Code and Partner-Code are one field (CGI made them so).
                self.underscore |= is_managed(&name.replace('_', "-"));
            }
            _ => {}
        }
    }

    /// Takes away the partner's own fields, `managed`, in lower case, and those that are for this hop
    /// because the client says so. An error if there is a field that is not carried at all.
    pub(super) fn without(&mut self, managed: &[HeaderName]) -> Result<(), Problem> {
        if self.forbidden {
            return Err(Problem::Rewrite);
        }
        let spells_one = |(name, _): &(&HeaderName, _)| {
            let text = name.as_str();
            text.contains('_') && is_one_of(managed, &text.replace('_', "-"))
        };
        if self.underscore || self.underscores && self.fields.iter().any(spells_one) {
            return Err(Problem::Underscore);
        }
        self.fields.retain(|(name, _)| !managed.contains(name));
        // What names a field of ours is harmless: ours are set after these are gone.
        if self.named.is_empty() {
            return Ok(());
        }
        // There may be more of these than of fields.
        self.named.sort_unstable_by(|one, other| one.as_str().cmp(other.as_str()));
        let named = |name: &HeaderName| {
            self.named.binary_search_by(|other| other.as_str().cmp(name.as_str())).is_ok()
        };
        self.declares_trailers &= !named(&header::TRAILER);
        self.fields.retain(|(name, _)| !named(name));
        Ok(())
    }

    /// Puts `value` in the place of the field `name`.
    pub(super) fn replace(&mut self, name: &HeaderName, value: &'a HeaderValue) {
        for field in self.fields.iter_mut().filter(|field| field.0 == name) {
            field.1 = value;
        }
    }
}

fn takes_trailers(te: &HeaderValue) -> bool {
    let coding = |token: &str| token.split(';').next().unwrap_or_default().trim().to_owned();
    tokens(te).any(|token| coding(token).eq_ignore_ascii_case("trailers"))
}

/// The field that an option of `Connection` names, if it is not one that never goes on.
fn another_field(option: &str) -> Option<HeaderName> {
    const OWN: [&str; 4] = ["keep-alive", "close", "te", "upgrade"];
    if OWN.iter().any(|own| option.eq_ignore_ascii_case(own)) {
        return None;
    }
    HeaderName::from_bytes(option.as_bytes()).ok()
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

/// Puts the crumbs together again that HTTP/2 may make of a cookie (RFC 9113 section 8.2.3): to
/// HTTP/1.1 they would be several fields, of which some servers read one.
pub(super) fn join_cookies(headers: &mut HeaderMap) {
    let crumbs: Vec<&[u8]> = headers.get_all(header::COOKIE).iter().map(HeaderValue::as_bytes).collect();
    if crumbs.len() > 1
        && let Ok(whole) = HeaderValue::from_bytes(&crumbs.join(&b"; "[..]))
    {
        headers.insert(header::COOKIE, whole);
    }
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
        let headers = map(fields);
        let managed = [HeaderName::from_static("partner-code"), HeaderName::from_static("x-service-code")];
        let mut found = found(&headers);
        found.without(&managed).unwrap();
        found.fields.iter().map(|(name, _)| name.to_string()).collect()
    }

    fn found(headers: &HeaderMap) -> Found<'_> {
        Found::in_header(headers, Version::HTTP_11, "bearerd-1")
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
            let refused = matches!(found(&headers).without(&managed), Err(Problem::Underscore));
            assert_eq!(refused, name != "authorization_", "{name}");
        }
    }

    #[test]
    fn connection_may_name_more_fields_than_there_are() {
        let all = (0..20_000).rev().map(|n| format!("x-{n}")).collect::<Vec<_>>().join(",");
        let fields = [("connection", &*all), ("accept", "*/*"), ("x-500", "1"), ("x-20001", "1")];
        assert_eq!(carried(&fields), ["accept", "x-20001"]);
    }

    #[test]
    fn a_path_rewrite_is_refused() {
        for name in ["x-original-url", "x-rewrite-url"] {
            assert!(matches!(found(&map(&[(name, "/")])).without(&[]), Err(Problem::Rewrite)));
        }
    }

    #[test]
    fn an_upgrade_needs_both_fields_and_is_never_to_h2c() {
        let upgrade = |fields: &[(&str, &str)]| found(&map(fields)).upgrade.cloned();
        assert_eq!(upgrade(&[("connection", "Upgrade"), ("upgrade", "websocket")]).unwrap(), "websocket");
        assert!(upgrade(&[("upgrade", "websocket")]).is_none());
        for http in ["h2c", "websocket, H2C", "HTTP/2.0", "TLS/1.0", "h2c, \u{e9}"] {
            assert!(upgrade(&[("connection", "upgrade"), ("upgrade", http)]).is_none(), "{http}");
        }
    }

    #[test]
    fn an_upgrade_in_http_1_0_is_ignored() {
        let headers = map(&[("connection", "upgrade"), ("upgrade", "websocket")]);
        assert!(Found::in_header(&headers, Version::HTTP_10, "").upgrade.is_none());
    }

    #[test]
    fn what_the_header_says_of_the_message_is_found() {
        let headers = map(&[
            ("host", "a"),
            ("host", "b"),
            ("content-length", "1"),
            ("transfer-encoding", "chunked"),
            ("te", "deflate, trailers;q=1"),
            ("trailer", "x-sum"),
            ("expect", "100-Continue"),
            ("via", "1.1 other, 1.1 bearerd-1 (x)"),
            ("sec-fetch-site", "cross-site"),
        ]);
        let found = found(&headers);
        assert_eq!((found.host.unwrap(), found.hosts), (&HeaderValue::from_static("b"), true));
        assert!(found.length && found.chunked && !found.unknown_coding && !found.unknown_expectation);
        assert!(found.trailers && found.declares_trailers && found.looped && found.from_a_page);
    }

    #[test]
    fn codings_other_than_chunked_once_are_found() {
        for codings in [&["gzip, chunked"][..], &["gzip"], &["gzip", "chunked"], &["chunked", "chunked"]] {
            let codings: Vec<_> = codings.iter().map(|coding| ("transfer-encoding", *coding)).collect();
            assert!(found(&map(&codings)).unknown_coding, "{codings:?}");
        }
        assert!(!found(&map(&[("transfer-encoding", " Chunked ")])).unknown_coding);
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
