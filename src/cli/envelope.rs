//! `bearerd envelope`: seals and opens by hand.

use std::borrow::Cow;
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use serde::Deserialize;

use super::input;
use super::output::{Failure, print, print_bytes};
use crate::partner::envelope::{EnvelopeKey, Iv, open, seal};

/// `bearerd envelope ...`
#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Seal standard input
    ///
    /// Prints hexadecimal, or with --json a request body. Every byte of the input is sealed, a line
    /// break at its end too.
    #[command(
        verbatim_doc_comment,
        after_help = "\
Example: printf '{\"limit\":10}' | bearerd envelope seal --partner acme --json

Exit codes: 0 if it is sealed; 64 for wrong usage or configuration; 1 for anything else."
    )]
    Seal(Seal),

    /// Open an envelope from standard input
    ///
    /// Takes hexadecimal or {"data": "<hexadecimal>"} and prints what was sealed, byte for byte.
    /// Why an envelope does not open is never said: what could be learnt from that breaks CBC.
    #[command(
        verbatim_doc_comment,
        after_help = "\
Example: bearerd envelope open --key-file key.hex --file request.json

Exit codes: 0 if it is opened; 64 for wrong usage or configuration; 1 if it does not open."
    )]
    Open(Open),
}

#[derive(Debug, Args)]
pub(super) struct Seal {
    #[command(flatten)]
    with: With,

    /// As a request body: {"data": "<hexadecimal>"}
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
pub(super) struct Open {
    #[command(flatten)]
    with: With,
}

#[derive(Debug, Args)]
struct With {
    /// Whose key and iv of the configuration to use; needed if there are several partners
    #[arg(long, value_name = "NAME", conflicts_with = "key_file")]
    partner: Option<String>,

    /// A file with the key as 64 hex digits, instead of the configuration
    #[arg(long, value_name = "FILE")]
    key_file: Option<PathBuf>,

    /// Beside --key-file: prefix, or the fixed vector as 32 hex digits [default: prefix]
    #[arg(long, value_name = "IV", requires = "key_file", value_parser = parse_iv)]
    iv: Option<Iv>,

    /// What to read instead of standard input
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
}

/// Carries out `command`. `config` is the configuration file that was named.
pub(super) fn run(config: Option<&Path>, command: Command) -> Result<(), Failure> {
    match command {
        Command::Seal(Seal { with, json }) => {
            let (key, iv) = with.key(config)?;
            let plaintext = input::read(with.file.as_deref(), MAX_INPUT)?;
            let data = seal(&key, iv, &plaintext).map_err(|error| Failure::failed(error.to_string()))?;
            match json {
                true => print(&format!("{{\"data\":\"{data}\"}}\n")),
                false => print(&format!("{data}\n")),
            }
        }
        Command::Open(Open { with }) => {
            let (key, iv) = with.key(config)?;
            let given = input::read(with.file.as_deref(), MAX_INPUT)?;
            let opened = data(&given).and_then(|data| open(&key, iv, &data).ok());
            print_bytes(
                &opened.ok_or_else(|| Failure::failed(crate::partner::envelope::OpenError.to_string()))?,
            )
        }
    }
}

impl With {
    fn key(&self, config: Option<&Path>) -> Result<(EnvelopeKey, Iv), Failure> {
        let Some(file) = &self.key_file else {
            let config = super::load(config)?;
            let partner = super::partner(&config, self.partner.as_deref())?;
            return Ok((partner.endpoint.key.clone(), partner.endpoint.iv));
        };
        let text = input::read(Some(file), MAX_KEY)?;
        let key = input::one_line(&text).ok().and_then(EnvelopeKey::from_hex);
        let key = key.ok_or_else(|| Failure::usage(format!("{}: expected 64 hex digits", file.display())))?;
        Ok((key, self.iv.unwrap_or(Iv::Prefix)))
    }
}

/// The hexadecimal in an envelope of either form.
fn data(given: &[u8]) -> Option<Cow<'_, str>> {
    #[derive(Deserialize)]
    struct Envelope<'a> {
        #[serde(borrow)]
        data: Cow<'a, str>,
    }
    let given = given.trim_ascii();
    if given.starts_with(b"{") {
        return serde_json::from_slice(given).ok().map(|Envelope { data }| data);
    }
    std::str::from_utf8(given).ok().map(Cow::Borrowed)
}

fn parse_iv(text: &str) -> Result<Iv, &'static str> {
    const EXPECTED: &str = "expected \"prefix\" or 32 hex digits";
    if text == "prefix" {
        return Ok(Iv::Prefix);
    }
    let mut iv = [0; 16];
    // The decoder would also take `0x` in front.
    if text.len() != 32 || text.starts_with("0x") || const_hex::decode_to_slice(text, &mut iv).is_err() {
        return Err(EXPECTED);
    }
    Ok(Iv::Fixed(iv))
}

/// More than any request body that goes through an envelope.
const MAX_INPUT: usize = 64 * 1024 * 1024;
/// A key with a line break.
const MAX_KEY: usize = 66;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn envelopes_come_in_two_forms() {
        for given in ["ab01", " ab01\n", "{\"data\":\"ab01\"}", "{\n \"data\" : \"ab01\", \"more\": 1}\n"] {
            assert_eq!(data(given.as_bytes()).as_deref(), Some("ab01"), "{given}");
        }
        for given in ["{\"data\":1}", "{\"date\":\"ab01\"}", "{"] {
            assert_eq!(data(given.as_bytes()), None, "{given}");
        }
    }

    #[test]
    fn an_iv_is_a_word_or_digits() {
        assert_eq!(parse_iv("prefix"), Ok(Iv::Prefix));
        assert_eq!(parse_iv(&"aB".repeat(16)), Ok(Iv::Fixed([0xab; 16])));
        for bad in ["", "PREFIX", "ab", &"ab".repeat(15), &"ab".repeat(17), &format!("0x{}", "ab".repeat(15))]
        {
            assert!(parse_iv(bad).is_err(), "{bad}");
        }
    }
}
