//! What the program asks of the system for its own protection: `.cargo/config.toml` says why it may not be taken for
//! granted.

use std::process::Command;

#[test]
fn no_table_of_addresses_can_be_written_once_the_program_runs() {
    let output =
        Command::new("readelf").args(["-h", "-l", "-d", "-W", env!("CARGO_BIN_EXE_bearerd")]).output();
    let output = output.expect("readelf comes with the linker");
    assert!(output.status.success());
    let text = String::from_utf8(output.stdout).unwrap();
    let line = |name: &str| text.lines().find(|line| line.trim_start().starts_with(name)).unwrap_or_default();
    // It lies somewhere else at each start.
    assert!(line("Type:").contains("DYN"), "{text}");
    // Addresses are looked up at the start, and what holds them is read-only from then on.
    assert!(text.contains("BIND_NOW"), "{text}");
    let segments = text.lines().skip_while(|line| !line.trim_start().starts_with("PHDR"));
    let segments = segments.filter(|line| line.contains("0x") && !line.contains("[Requesting"));
    let number = segments
        .take_while(|line| !line.contains("Dynamic section"))
        .position(|line| line.contains("GNU_RELRO"));
    let read_only = line(&format!("{:02} ", number.expect("there is such a segment")));
    let tables: Vec<_> =
        [".got", ".got.plt"].into_iter().filter(|table| text.contains(&format!(" {table} "))).collect();
    assert!(!tables.is_empty(), "{text}");
    for table in tables {
        assert!(read_only.contains(&format!(" {table} ")), "{table} is not in {read_only}");
    }
    // Nothing on a stack is code.
    assert!(line("GNU_STACK").contains(" RW "), "{text}");
}
