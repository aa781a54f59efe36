//! A replica in a network of its own, which is taken away: sockets that stay open and carry nothing.

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;

use crate::support::client::Request;
use crate::support::config::Config;
use crate::support::eventually;
use crate::support::fleet::migrate;
use crate::support::gateway::Gateway;
use crate::support::network::Network;
use crate::support::partner::Partner;
use crate::support::postgres::Postgres;
use crate::support::relay::Relay;

/// A replica with everything near, and one that reaches all of it through its own network.
struct Apart {
    network: Network,
    ways: [Relay; 2],
    partner: Partner,
    near: Gateway,
    apart: Arc<Gateway>,
    _postgres: Postgres,
}

impl Apart {
    fn start() -> Self {
        let (network, partner, postgres) = (Network::new(), Partner::new(), Postgres::start());
        let database = postgres.database();
        migrate(&database);
        let way = |to: SocketAddr| {
            let listener = network.run(|| TcpListener::bind("127.0.0.1:0").unwrap());
            Relay::through(listener, to)
        };
        let ways = [way(partner.address()), way(([127, 0, 0, 1], postgres.port()).into())];
        let config = || Config::to(&partner).with_admin_socket().set("partner.refresh.timeout", "60s");
        let near = Gateway::start(&config().with_database(&database));
        let url = database.url().replace(&postgres.port().to_string(), &ways[1].port().to_string());
        let far = config()
            .with_database_url(&url)
            .set("partner.base_url", format!("http://127.0.0.1:{}", ways[0].port()));
        let apart = Arc::new(network.run(move || Gateway::start(&far)));
        Self { network, ways, partner, near, apart, _postgres: postgres }
    }

    fn cut(&self) {
        if !self.network.cut() {
            self.ways.iter().for_each(Relay::cut);
        }
    }

    fn mend(&self) {
        if !self.network.mend() {
            self.ways.iter().for_each(Relay::mend);
        }
    }

    /// Asks the replica apart for a refresh, on a socket that needs no network.
    fn order(&self) -> std::thread::JoinHandle<u16> {
        let admin = self.apart.admin_addr().clone();
        std::thread::spawn(move || Request::post("/partners/acme/refresh", "").send(&admin).status)
    }

    /// Both use `generation`, and it came of so many calls.
    fn assert_agreed(&self, generation: u64) {
        for replica in [&self.near, &self.apart] {
            replica.await_generation(generation);
            replica.await_state("valid");
        }
        let apart = Arc::clone(&self.apart);
        assert_eq!(self.network.run(move || apart.get("/x").status), 200);
        assert_eq!(self.near.get("/x").status, 200);
        assert_eq!(self.partner.refreshes() as u64, generation);
        self.partner.assert_no_spent_token_seen();
    }
}

#[test]
fn s20_a_replica_without_its_network_calls_nobody_and_catches_up_without_a_call() {
    let world = Apart::start();
    world.cut();
    let admin = world.near.admin_addr();
    assert_eq!(Request::post("/partners/acme/refresh", "").send(admin).status, 200);
    world.near.await_generation(2);
    assert_ne!(world.order().join().unwrap(), 0);
    eventually("it sees that the database is gone", || {
        world.apart.metric("bearerd_store_connected", &[]) == Some(0.0)
    });
    assert_eq!(world.apart.of_partner("generation"), 1);
    world.mend();
    world.assert_agreed(2);
}

#[test]
fn s22_a_pair_that_was_on_its_way_when_the_network_went_is_stored_when_it_is_back() {
    let world = Apart::start();
    let gate = world.partner.hold_refreshes();
    let order = world.order();
    gate.await_arrivals(1);
    world.cut();
    gate.open();
    eventually("the partner has answered", || world.partner.refreshes() == 2);
    assert_eq!(world.apart.of_partner("generation"), 1);
    world.mend();
    assert_eq!(order.join().unwrap(), 200);
    world.assert_agreed(2);
}
