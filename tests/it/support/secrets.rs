//! Secrets that can be recognised, so that one look at what a process printed tells whether it
//! printed one.

/// In every secret that the harness makes, and nowhere else. Every byte of it may stand in a token.
pub(crate) const MARKER: &str = "MARKEDSECRET";

/// The key of every envelope.
pub(crate) const ENVELOPE_KEY: &str = "5ec2e7a1b0c94f3d8e6a1f2b3c4d5e6f708192a3b4c5d6e7f8091a2b3c4d5e6f";

/// The key of a sealed store.
pub(crate) const STORE_KEY: &str = "c0ffee00a1b2c3d4e5f60718293a4b5c6d7e8f90112233445566778899aabbcc";

/// A secret that says what it is for.
pub(crate) fn marked(what: &str) -> String {
    format!("{MARKER}.{what}")
}

/// The lines of `text` that hold a secret, with the secret's place but not the secret.
pub(crate) fn leaks(text: &str) -> Vec<String> {
    let hex = const_hex::encode(MARKER);
    let found = |line: &str| {
        let folded = line.to_ascii_lowercase();
        [MARKER.to_ascii_lowercase().as_str(), ENVELOPE_KEY, STORE_KEY, &hex]
            .iter()
            .find_map(|needle| folded.find(needle))
    };
    text.lines()
        .filter_map(|line| {
            found(line).map(|at| format!("at {at}: {}", line.chars().take(2000).collect::<String>()))
        })
        .collect()
}

/// Asserts that `text` holds no secret.
#[track_caller]
pub(crate) fn assert_none_in(what: &str, text: &str) {
    let leaks = leaks(text);
    assert!(leaks.is_empty(), "{what} holds secrets:\n{}", leaks.join("\n"));
}
