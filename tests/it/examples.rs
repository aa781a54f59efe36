//! What the repository offers to start from works as it is.

use std::fs;
use std::path::Path;

use crate::support::client::{Address, Request};
use crate::support::config::Dir;
use crate::support::gateway::Gateway;
use crate::support::process;

/// A file of the repository.
fn shipped(name: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(name)).unwrap()
}

#[test]
fn the_readme_s_curl_lines_work_on_the_configuration_at_the_root() {
    let mut text = shipped("config.toml");
    // Several tests run at once, and the harness reads the log as JSON.
    for (from, to) in [
        ("127.0.0.1:8080", "127.0.0.1:0"),
        ("127.0.0.1:9901", "127.0.0.1:0"),
        ("127.0.0.1:9400", "127.0.0.1:0"),
        ("format = \"text\"", "format = \"json\""),
        ("access_lifetime = \"40s\"", "access_lifetime = \"4s\""),
    ] {
        assert!(text.contains(from), "{from}");
        text = text.replace(from, to);
    }
    let dir = Dir::new();
    dir.write("config.toml", text);
    let mut gateway = Gateway::spawn_in(dir);
    gateway.await_ready();
    let sandbox = gateway.log_lines().into_iter().find(|line| line["side"] == "sandbox").unwrap();
    let sandbox = Address::parse(sandbox["address"].as_str().unwrap());

    let made = gateway.post("/openapi/v1/va", "{\"name\": \"demo\"}");
    assert_eq!(made.status, 200, "{}", made.text());

    let before = gateway.generation();
    gateway.await_generation(before + 1);

    assert_eq!(Request::post("/sandbox/revoke", "").send(&sandbox).status, 204);
    assert_eq!(gateway.post("/openapi/v1/va", "{}").status, 200);
    let stats = Request::get("/sandbox/stats").send(&sandbox).value();
    assert_eq!(stats["refusals"], 0, "{stats}");
    gateway.stop();
}

#[test]
fn the_configurations_under_deploy_are_understood() {
    let from_manifest = |text: &str| -> String {
        let block = text.split_once("config.toml: |\n").unwrap().1;
        let block = block.lines().take_while(|line| line.is_empty() || line.starts_with("    "));
        block.map(|line| format!("{}\n", line.strip_prefix("    ").unwrap_or(line))).collect()
    };
    let examples = [
        (shipped("deploy/config.example.toml"), "/run/credentials/bearerd.service"),
        (from_manifest(&shipped("deploy/kubernetes.yaml")), "/run/secrets/bearerd"),
        (from_manifest(&shipped("deploy/kubernetes-postgres.yaml")), "/run/secrets/bearerd"),
    ];
    for (text, secrets) in examples {
        let dir = Dir::new();
        for (name, content) in [
            ("admin-token", "MARKEDSECRETadmin"),
            ("store-key", crate::support::secrets::STORE_KEY),
            ("database-url", "postgres://bearerd:MARKEDSECRETpassword@db.example/bearerd"),
            ("partner-encryption-key", crate::support::secrets::ENVELOPE_KEY),
            ("partner-refresh-token", "MARKEDSECRETseed"),
        ] {
            dir.write(name, content);
        }
        assert!(text.contains(secrets), "{text}");
        dir.write("config.toml", text.replace(secrets, dir.path().to_str().unwrap()));
        let checked = process::run(dir.path(), &["check", "--config", "config.toml"]);
        assert_eq!(checked.code, Some(0), "{}{}", checked.stdout, checked.stderr);
    }
}
