//! The same again and again.

use crate::support::client::Request;
use crate::support::config::Config;
use crate::support::eventually;
use crate::support::gateway::Gateway;
use crate::support::partner::Partner;
use crate::support::vitals::{descriptors, resident};

const ROUNDS: usize = 25;
const WARM: usize = 5;

/// A round of everything that happens every day, and some that should not.
fn round(number: usize, partner: &Partner, gateway: &Gateway) {
    let mut client = gateway.connect();
    let long = vec![b'x'; 200 * 1024];
    for n in 0..100 {
        for request in [
            Request::get("/x?a=b"),
            Request::post("/x", "{\"amount\":1}"),
            Request::new("PUT", "/x").chunked([&b"abc"[..], b"def"]),
            Request::new("HEAD", "/x"),
        ] {
            assert_eq!(client.exchange(&request).status, 200);
        }
        if n % 10 == 0 {
            assert_eq!(client.exchange(&Request::post("/x", long.clone())).status, 200);
            assert_eq!(gateway.get(&format!("/{n}/../x")).status, 400);
            assert_eq!(gateway.post("/openapi/v1/auth/refresh", "{}").status, 403);
            let mut gone = gateway.connect();
            gone.send(b"POST /x HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n")
                .unwrap();
            gone.hang_up();
        }
    }
    let generation = gateway.generation();
    // Not every refresh may be one that a 401 asks for: of those there is a budget.
    if number.is_multiple_of(4) {
        partner.revoke_access();
        assert_eq!(client.exchange(&Request::post("/x", "{\"amount\":1}")).status, 200);
    } else {
        assert_eq!(gateway.admin(&Request::post("/partners/acme/refresh", "")).status, 200);
    }
    assert_eq!(gateway.generation(), generation + 1);
}

#[test]
fn s63_rounds_of_requests_and_refreshes_leave_nothing_behind() {
    let partner = Partner::new();
    let config = Config::to(&partner).with_admin_socket();
    let gateway = Gateway::start(&config.set("log.level", "info").set("log.access", "off"));
    let mut taken = Vec::new();
    for number in 0..ROUNDS {
        round(number, &partner, &gateway);
        eventually("all have gone", || {
            gateway.metric("bearerd_connections", &[("side", "client")]) == Some(0.0)
        });
        taken.push((resident(gateway.pid()), descriptors(gateway.pid())));
    }
    println!("{:?}", taken.iter().map(|(memory, open)| (memory / 1024, *open)).collect::<Vec<_>>());
    let ((warm, _), (last, open)) = (taken[WARM], taken[ROUNDS - 1]);
    assert!(last < warm + (4 << 20), "{last} bytes after {warm}");
    let most = taken[..=WARM].iter().map(|(_, open)| *open).max().unwrap();
    assert!(open <= most + 4, "{open} descriptors after {most}");
    assert_eq!(partner.refreshes(), 1 + ROUNDS);
    partner.assert_no_spent_token_seen();
}
