//! Which partner a request is for, and which requests are for none.

use crate::support::client::Request;
use crate::support::config::Config;
use crate::support::gateway::Gateway;
use crate::support::partner::{LOGIN, Partner, REFRESH};
use toml::Value;

fn hosts(names: &[&str]) -> Vec<Value> {
    names.iter().map(|name| Value::from(*name)).collect()
}

#[test]
fn the_host_chooses_the_partner() {
    let (first, second) = (Partner::new(), Partner::new());
    let config = Config::to(&first)
        .set("partner.hosts", hosts(&["first.test", "shared.test:8081"]))
        .and("beta", &second)
        .set("partner.hosts", hosts(&["Second.Test"]));
    let gateway = Gateway::start(&config);
    for (host, path) in [("first.test", "/1"), ("FIRST.test:99", "/2"), ("shared.test:8081", "/3")] {
        assert_eq!(gateway.send(&Request::get(path).host(host)).status, 200, "{host}");
        assert_eq!(first.seen_at(path).len(), 1, "{host}");
    }
    for (host, path) in [("second.test", "/4"), ("second.test:80", "/5")] {
        assert_eq!(gateway.send(&Request::get(path).host(host)).status, 200, "{host}");
        assert_eq!(second.seen_at(path).len(), 1, "{host}");
    }
    for host in ["other.test", "shared.test", "shared.test:8082", "first.test.evil.test", "[first.test]"] {
        let answer = gateway.send(&Request::get("/6").host(host));
        assert!((400..500).contains(&answer.status), "{host}: {answer:?}");
    }
    assert_eq!((first.seen().len(), second.seen().len()), (3, 2));
}

#[test]
fn the_longest_path_prefix_of_whole_segments_chooses_the_partner() {
    let (all, pay, deep) = (Partner::new(), Partner::new(), Partner::new());
    let config = Config::to(&all)
        .and("pay", &pay)
        .set("partner.path_prefix", "/pay")
        .and("deep", &deep)
        .set("partner.path_prefix", "/pay/deep");
    let gateway = Gateway::start(&config);
    for (path, partner) in [
        ("/", &all),
        ("/payments", &all),
        ("/pay", &pay),
        ("/pay/", &pay),
        ("/pay/deeper", &pay),
        ("/%70ay/x", &pay),
        ("//pay/y", &pay),
        ("/pay%2Fz", &pay),
        ("/pay/deep", &deep),
        ("/pay//deep/x", &deep),
    ] {
        assert_eq!(gateway.get(path).status, 200, "{path}");
        assert_eq!(partner.seen_at(path).len(), 1, "{path} is not taken off, and goes to the right partner");
    }
}

#[test]
fn an_absolute_form_is_routed_by_its_authority() {
    let (first, second) = (Partner::new(), Partner::new());
    let config = Config::to(&first)
        .set("partner.hosts", hosts(&["first.test"]))
        .and("beta", &second)
        .set("partner.hosts", hosts(&["second.test"]));
    let gateway = Gateway::start(&config);
    let absolute = |target: &str, host: &str| gateway.send(&Request::get(target).host(host));
    assert_eq!(absolute("http://second.test/a?b=c", "first.test").status, 200, "the authority wins");
    assert_eq!(second.only().target, "/a?b=c");
    assert_eq!(second.only().fields.all("host"), [second.address().to_string()]);
    assert_eq!(absolute(&format!("http://{}/direct", first.address()), "whatever.test").status, 200);
    assert_eq!(first.only().target, "/direct");
}

#[test]
fn an_absolute_form_for_a_stranger_is_refused_even_where_hosts_are_empty() {
    let partner = Partner::new();
    let gateway = Gateway::before(&partner);
    for target in ["http://evil.test/x", "http://169.254.169.254/latest", "https://evil.test/x"] {
        let answer = gateway.send(&Request::get(target));
        assert!((400..500).contains(&answer.status), "{target}: {answer:?}");
        answer.assert_problem(answer.status);
    }
    assert_eq!(partner.seen().len(), 0);
    assert_eq!(gateway.send(&Request::get(&format!("{}/mine", partner.base_url()))).status, 200);
}

#[test]
fn a_path_that_looks_like_an_authority_is_a_path() {
    let partner = Partner::new();
    let gateway = Gateway::before(&partner);
    assert_eq!(gateway.get("//evil.test/x").status, 200);
    assert_eq!(partner.only().target, "//evil.test/x");
    assert_eq!(partner.only().fields.all("host"), [partner.address().to_string()]);
}

#[test]
fn login_and_refresh_calls_of_an_application_are_refused_in_every_spelling() {
    let partner = Partner::new();
    let gateway = Gateway::before(&partner);
    let mut targets: Vec<String> = [LOGIN, REFRESH]
        .iter()
        .flat_map(|path| {
            [
                (*path).to_owned(),
                format!("{path}/"),
                format!("{path}//"),
                format!("{path}?x=1"),
                format!("{path};a=b"),
                format!("{path};"),
                format!("/{path}"),
                path.to_uppercase(),
                path.replace("auth", "Auth"),
                path.replace("auth", "%61uth"),
                path.replace("auth", "%2561uth"),
                path.replace("/auth/", "//auth///"),
                path.replace("/auth", ";x=y/auth"),
                path.replace("/auth/", "%2Fauth%2f"),
                path.replace("/auth/", "%252Fauth%252f"),
                format!("{}{path}", partner.base_url()),
            ]
        })
        .collect();
    targets.push("/openapi/v1/auth/%72%65%66%72%65%73%68".to_owned());
    targets.push("/%6fpenapi/v1/auth/%4cOGIN;jsessionid=1/".to_owned());
    for target in &targets {
        for method in ["POST", "GET"] {
            let answer = gateway.send(&Request::new(method, target).body("{\"data\":\"00\"}"));
            assert_eq!(answer.status, 403, "{method} {target}");
            answer.assert_problem(403);
        }
    }
    assert_eq!((partner.refreshes(), partner.logins(), partner.seen().len()), (1, 0, 0));
    for target in ["/openapi/v1/auth/login2", "/openapi/v1/auth", "/x/openapi/v1/auth/refreshed"] {
        assert_eq!(gateway.post(target, "").status, 200, "{target}");
    }
}

#[test]
fn login_and_refresh_below_a_base_path_are_refused_as_well() {
    let partner = Partner::below("/base");
    let gateway = Gateway::before(&partner);
    gateway.post(REFRESH, "").assert_problem(403);
    assert_eq!(partner.refreshes(), 1);
}

#[test]
fn partners_do_not_share_tokens() {
    let (first, second) = (Partner::new(), Partner::new());
    let config = Config::to(&first).and("beta", &second).set("partner.path_prefix", "/beta");
    let gateway = Gateway::start(&config);
    second.revoke_access();
    assert_eq!(gateway.get("/beta/x").status, 200);
    assert_eq!(gateway.get("/x").status, 200);
    assert_eq!((first.refreshes(), second.refreshes()), (1, 2));
    assert_eq!(gateway.admin(&Request::get("/readyz/beta")).status, 200);
    assert_eq!(gateway.admin(&Request::get("/readyz/nobody")).status, 404);
}
