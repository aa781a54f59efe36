//! The command line: what it says, and how it ends.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use serde_json::{Value, json};

use crate::support::config::{Config, Dir};
use crate::support::envelope;
use crate::support::gateway::Gateway;
use crate::support::partner::Partner;
use crate::support::process::{Ended, pipe, run};
use crate::support::secrets::{self, ENVELOPE_KEY, MARKER, marked};

fn check(dir: &Dir) -> Ended {
    run(dir.path(), &["check", "--config", "config.toml"])
}

/// Checks a configuration that is wrong, and returns what was said about it.
#[track_caller]
fn complaint(text: &str) -> String {
    let dir = Dir::new();
    dir.write("config.toml", text);
    let (checked, ran) = (check(&dir), run(dir.path(), &["run", "--config", "config.toml"]));
    assert_eq!((checked.code, ran.code), (Some(64), Some(64)), "{}{}", checked.stderr, ran.stderr);
    assert!(!checked.stderr.contains("panicked"), "{}", checked.stderr);
    assert!(checked.stderr.lines().all(|line| line.starts_with("bearerd: ")), "{}", checked.stderr);
    assert_eq!(checked.stderr, ran.stderr, "run and check say the same");
    checked.stderr
}

#[test]
fn check_shows_what_was_understood_and_masks_every_secret() {
    let partner = Partner::new();
    let dir = Dir::new();
    Config::to(&partner)
        .with_login()
        .set("partner.headers.x-service-code", marked("service"))
        .set("admin.token_file", "token")
        .with_file("token", &marked("admin"))
        .write_to(&dir);
    let ended = check(&dir);
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    for expected in ["acme", &partner.base_url(), "x-service-code", "merchant", "MERCHANT-7"] {
        assert!(ended.stdout.contains(expected), "{expected}\n{}", ended.stdout);
    }
    assert_eq!((partner.refreshes(), partner.logins()), (0, 0), "checking calls nobody");
    assert!(!dir.file("state").exists(), "and writes nothing");
}

#[test]
fn every_error_is_told_at_once_with_its_place() {
    let text = format!(
        "[server]\nlisten = \"nonsense\"\nrequest_timeout = \"soon\"\n\n[[partner]]\nname = \"acme\"\n\
         base_url = \"ftp://partner.test\"\npartner_code = \"M\"\nencryption_key = \"{}\"\n\
         refresh_token = \"{} with spaces\"\n",
        &ENVELOPE_KEY[..62],
        marked("bad"),
    );
    let said = complaint(&text);
    for expected in [
        "bearerd: config.toml:2: ",
        "bearerd: config.toml:3: ",
        "bearerd: config.toml:7: partner \"acme\": base_url: expected ",
        "bearerd: config.toml:9: partner \"acme\": encryption_key: expected 64 hex digits, found 62\n",
        "bearerd: config.toml:10: partner \"acme\": refresh_token: expected ",
    ] {
        assert!(said.contains(expected), "{expected}\n{said}");
    }
    assert_eq!(said.lines().count(), 5, "{said}");
    assert!(!said.contains(&ENVELOPE_KEY[..16]) && !said.contains(MARKER), "{said}");
}

#[test]
fn an_unknown_key_names_the_nearest_known_one() {
    let said = complaint("[server]\nlisten = \"127.0.0.1:0\"\nrequest_timout = \"3s\"\n");
    assert!(said.contains("config.toml:3: "), "{said}");
    assert!(said.contains("request_timout") && said.contains("request_timeout"), "{said}");
}

#[test]
fn a_syntax_error_gives_its_place_and_not_the_line() {
    let said = complaint(&format!("[server]\n[[partner]]\nrefresh_token = \"{}\n", marked("unclosed")));
    assert!(said.contains("config.toml:3"), "{said}");
    secrets::assert_none_in("the complaint", &said);
}

#[test]
fn what_cannot_work_is_refused_before_anything_is_bound() {
    let partner = |extra: &str| {
        format!(
            "[[partner]]\nname = \"acme\"\nbase_url = \"http://127.0.0.1:9\"\npartner_code = \"M\"\n\
             encryption_key = \"{ENVELOPE_KEY}\"\n{extra}"
        )
    };
    let seed = "refresh_token = \"abc\"\n";
    for (text, expected) in [
        (String::new(), "partner"),
        (format!("[server]\nlisten = \"0.0.0.0:0\"\n{}", partner(seed)), "allow_anonymous"),
        (partner(seed).replace("127.0.0.1:9", "partner.test"), "allow_plaintext"),
        (partner("refresh_token = \"a\"\nrefresh_token_file = \"b\"\n"), "refresh_token"),
        (partner("refresh_token_file = \"missing\"\n"), "missing"),
        (partner("refresh_token_env = \"BEARERD_TEST_NOT_SET\"\n"), "BEARERD_TEST_NOT_SET"),
        (partner(&format!("{seed}headers = {{ authorization = \"x\" }}\n")), "authorization"),
        (partner(&format!("{seed}path_prefix = \"nope\"\n")), "path_prefix"),
        (format!("{}{}", partner(seed), partner(seed)), "acme"),
        (format!("{}[sandbox]\n", partner(seed)), "sandbox"),
        (partner(seed).replace("acme", "Not A Name"), "name"),
    ] {
        let said = complaint(&text);
        assert!(said.contains(expected), "{expected}\n{said}\n{text}");
    }
}

#[test]
fn a_configuration_with_secrets_that_others_may_read_is_refused() {
    let partner = Partner::new();
    let dir = Dir::new();
    let path = Config::to(&partner).write_to(&dir);
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    let ended = check(&dir);
    assert_eq!(ended.code, Some(64));
    assert!(ended.stderr.contains("config.toml"), "{}", ended.stderr);
}

#[test]
fn bad_arguments_and_missing_files_end_with_64() {
    let dir = Dir::new();
    for args in [
        &["nonsense"][..],
        &["run", "--nonsense"],
        &["run", "--config"],
        &["run", "--config", "missing.toml"],
        &["check", "--config", "missing.toml"],
        &["token"],
        &["envelope", "fold"],
        &[],
    ] {
        let ended = run(dir.path(), args);
        assert_eq!(ended.code, Some(64), "{args:?}: {}", ended.stderr);
        assert!(!ended.stderr.is_empty() && !ended.stderr.contains("panicked"), "{args:?}: {}", ended.stderr);
    }
    for args in [
        &["--help"][..],
        &["--version"],
        &["run", "--help"],
        &["token", "--help"],
        &["envelope", "seal", "--help"],
    ] {
        let ended = run(dir.path(), args);
        assert_eq!(ended.code, Some(0), "{args:?}");
        assert!(!ended.stdout.is_empty(), "{args:?}");
    }
}

#[test]
fn a_port_in_use_is_told_and_ends_with_1() {
    let partner = Partner::new();
    let gateway = Gateway::before(&partner);
    for (key, taken) in [("server.listen", gateway.proxy_addr()), ("admin.listen", gateway.admin_addr())] {
        let address = taken.tcp().to_string();
        let dir = Dir::new();
        Config::to(&partner).set(key, address.as_str()).write_to(&dir);
        let ended = run(dir.path(), &["run", "--config", "config.toml"]);
        assert_eq!(ended.code, Some(1), "{key}: {}", ended.stderr);
        assert!(ended.stderr.contains(&address), "{key}: {}", ended.stderr);
    }
    assert_eq!(partner.refreshes(), 1, "no token is spent before the ports are had");
}

#[test]
fn what_is_sealed_can_be_opened() {
    let partner = Partner::new();
    let dir = Dir::new();
    Config::to(&partner).write_to(&dir);
    let plain = b"{\"order_id\":\"42\"}";
    let sealed = pipe(dir.path(), &["envelope", "seal", "--json", "--config", "config.toml"], plain);
    assert_eq!(sealed.code, Some(0), "{}", sealed.stderr);
    assert_eq!(
        envelope::open(sealed.stdout.as_bytes()),
        Some(json!({"order_id": "42"})),
        "{}",
        sealed.stdout
    );
    let ours = json!({"data": envelope::seal(plain, [7; 16])}).to_string();
    for input in [sealed.stdout.as_str(), &ours, &ours.to_uppercase().replace("DATA", "data")] {
        let opened = pipe(dir.path(), &["envelope", "open", "--config", "config.toml"], input.as_bytes());
        assert_eq!(opened.code, Some(0), "{}", opened.stderr);
        assert_eq!(serde_json::from_str::<Value>(&opened.stdout).unwrap(), json!({"order_id": "42"}));
    }
    let mut broken = envelope::seal(plain, [7; 16]);
    broken.truncate(broken.len() - 2);
    let input = json!({"data": broken}).to_string();
    let refused = pipe(dir.path(), &["envelope", "open", "--config", "config.toml"], input.as_bytes());
    assert_eq!((refused.code, refused.stdout.as_str()), (Some(1), ""), "{}", refused.stderr);
}

#[test]
fn token_commands_speak_to_the_bearerd_that_runs() {
    let partner = Partner::new();
    let gateway = Gateway::start(&Config::to(&partner).with_admin_socket());
    let dir = gateway.dir.path();
    let status = run(dir, &["token", "status", "--config", "config.toml"]);
    assert_eq!(status.code, Some(0), "{}", status.stderr);
    assert!(status.stdout.contains("acme") && status.stdout.contains("valid"), "{}", status.stdout);

    let refreshed = run(dir, &["token", "refresh", "--config", "config.toml"]);
    assert_eq!(refreshed.code, Some(0), "{}", refreshed.stderr);
    gateway.await_generation(2);

    partner.revoke_refresh();
    let token = partner.fresh_refresh_token();
    let import = ["token", "import", "--config", "config.toml"];
    for bad in ["", "\n", "two\nlines\n", "not a token"] {
        assert_eq!(pipe(dir, &import, bad.as_bytes()).code, Some(64), "{bad:?}");
    }
    let imported = pipe(dir, &import, format!("{token}\n").as_bytes());
    assert_eq!(imported.code, Some(0), "{}", imported.stderr);
    secrets::assert_none_in("the output", &format!("{}{}", imported.stdout, imported.stderr));
    // What is revoked is the token that the imported one was exchanged for, and not the one before.
    gateway.await_generation(3);
    partner.revoke_access();
    assert_eq!(gateway.get("/x").status, 200);
    partner.assert_no_spent_token_seen();
}

#[test]
fn token_commands_without_a_bearerd_look_at_the_store() {
    let partner = Partner::new();
    let dir = Dir::new();
    Config::to(&partner).with_admin_socket().write_to(&dir);
    let refresh = run(dir.path(), &["token", "refresh", "--config", "config.toml"]);
    assert_eq!(refresh.code, Some(1), "{}", refresh.stderr);
    assert!(refresh.stderr.starts_with("bearerd: "), "{}", refresh.stderr);

    let token = partner.fresh_refresh_token();
    let imported = pipe(dir.path(), &["token", "import", "--config", "config.toml"], token.as_bytes());
    assert_eq!(imported.code, Some(0), "{}", imported.stderr);
    let status = run(dir.path(), &["token", "status", "--config", "config.toml"]);
    assert_eq!(status.code, Some(0), "{}", status.stderr);
    assert!(status.stdout.contains("acme"), "{}", status.stdout);

    // The token in the store goes before the seed in the configuration.
    let mut gateway = Gateway::spawn_in(dir);
    gateway.await_ready();
    assert_eq!(gateway.get("/x").status, 200);
    assert_eq!(partner.refresh_call(0).opened.unwrap()["refresh_token"], token);
    gateway.stop();
}
