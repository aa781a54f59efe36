//! Names that do not resolve, or not to where the partner is.

use serde_json::json;

use crate::support::client::Request;
use crate::support::config::Config;
use crate::support::eventually;
use crate::support::gateway::Gateway;
use crate::support::partner::Partner;
use crate::support::secrets::marked;
use crate::support::trial::import;

/// What a name that nobody has ends in: `dns` from a resolver that knows, or, where none answers,
/// the time limit.
const UNRESOLVED: [&str; 2] = ["dns", "connect_timeout"];

fn at(partner: &Partner, host: &str) -> Config {
    Config::to(partner)
        .set("partner.base_url", format!("http://{host}:{}", partner.address().port()))
        .set("partner.allow_plaintext", true)
        .set("partner.connect_timeout", "2s")
        .set("server.token_timeout", "1s")
        .with_admin_socket()
}

#[test]
fn s47_a_name_that_nobody_has_is_looked_up_again_within_bounds() {
    let partner = Partner::new();
    let gateway = Gateway::spawn(&at(&partner, "partner.invalid"));
    let unsent = || {
        let count = gateway.metric("bearerd_token_refreshes_total", &[("result", "not_sent")]);
        count.unwrap_or_default()
    };
    eventually("it is tried again", || unsent() >= 2.0);
    let requests: Vec<_> = (0..50).map(|_| gateway.send_aside(Request::get("/x"))).collect();
    for request in requests {
        let answer = request.join().unwrap();
        answer.assert_problem(503);
        assert!(answer.fields.has("retry-after"), "waiting may help");
    }
    // Doubling from half a second, of which at most half is taken off: far fewer than requests.
    assert!(unsent() <= 10.0, "{} attempts", unsent());
    let acme = gateway.status()["partners"][0].clone();
    let reason = acme["last_refresh"]["reason"].as_str().unwrap();
    assert!(UNRESOLVED.contains(&reason), "{reason}");
    assert_eq!((&acme["state"], &acme["last_refresh"]["outcome"]), (&json!("expired"), &json!("not_sent")));
    assert_eq!((partner.refreshes(), partner.seen().len()), (0, 0));
}

#[test]
fn s47_a_request_to_a_name_that_nobody_has_is_a_502_that_was_not_sent() {
    let partner = Partner::new();
    let gateway = Gateway::spawn(&at(&partner, "partner.invalid"));
    let pair = json!({
        "refresh_token": marked("of-an-operator"), "access_token": marked("in-hand"), "expires_in": 3600,
    });
    assert_eq!(gateway.admin(&import(&pair)).status, 200);
    let answer = gateway.post("/x", "{\"amount\":1}");
    answer.assert_problem(502);
    let source = answer.fields.get("proxy-status").unwrap();
    assert!(["dns_error", "connection_timeout"].iter().any(|word| source.ends_with(word)), "{source}");
    assert!(answer.text().contains("was not processed"), "{}", answer.text());
}

#[test]
fn s47_every_address_of_a_name_is_tried() {
    // `localhost` often means ::1 too, where nobody listens.
    let partner = Partner::new();
    let gateway = Gateway::start(&at(&partner, "localhost"));
    assert_eq!((gateway.get("/x").status, partner.refreshes()), (200, 1));
    let host = format!("localhost:{}", partner.address().port());
    assert_eq!(partner.only().fields.all("host"), [host]);
}

#[test]
fn s47_a_partner_that_moves_is_found_when_the_configuration_says_where() {
    let (first, second) = (Partner::new(), Partner::new());
    let gateway = Gateway::start(&at(&first, "localhost"));
    assert_eq!(gateway.get("/x").status, 200);
    let seed = second.seed();
    gateway.reload(&at(&second, "localhost").with_file("acme.seed", &seed));
    // The access token is the first one's, which the second does not take; nor does it take the
    // refresh token. A seed that was never presented is then taken up.
    eventually("the second partner serves", || gateway.get("/x").status == 200 && !second.seen().is_empty());
    let before = first.seen().len();
    assert_eq!(gateway.get("/x").status, 200);
    assert_eq!((first.seen().len(), first.refreshes(), second.refreshes()), (before, 1, 2));
}
