//! What the program asks of the system for its own protection: `.cargo/config.toml` says why it may not be taken for
//! granted.

use std::process::Command;

#[test]
fn no_table_of_addresses_can_be_written_once_the_program_runs() {
    let program = env!("CARGO_BIN_EXE_bearerd");
    let output = Command::new("readelf").args(["-h", "-l", "-d", "-W", program]).output().unwrap();
    assert!(output.status.success());
    let text = String::from_utf8(output.stdout).unwrap();
    let line = |name: &str| text.lines().find(|line| line.trim_start().starts_with(name)).unwrap_or_default();
    // It lies somewhere else at each start.
    assert!(line("Type:").contains("DYN"), "{text}");
    // Addresses are looked up at the start, and what holds them is read-only from then on.
    assert!(text.contains("BIND_NOW") && line("GNU_RELRO").contains(" R "), "{text}");
    // Nothing on a stack is code.
    assert!(line("GNU_STACK").contains(" RW "), "{text}");
}
