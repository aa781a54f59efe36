//! What a command reads, from a file or standard input.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use zeroize::Zeroizing;

use super::output::Failure;

/// Reads `file`, or standard input if there is none or it is `-`; at most `max` bytes. Wiped on
/// drop.
pub(super) fn read(file: Option<&Path>, max: usize) -> Result<Zeroizing<Vec<u8>>, Failure> {
    match file.filter(|file| file.as_os_str() != "-") {
        None => read_from(io::stdin().lock(), "standard input", max),
        Some(file) => {
            let name = file.display().to_string();
            let opened =
                File::open(file).map_err(|error| Failure::failed(format!("{name}: cannot open: {error}")))?;
            read_from(opened, &name, max)
        }
    }
}

fn read_from(mut from: impl Read, name: &str, max: usize) -> Result<Zeroizing<Vec<u8>>, Failure> {
    let cannot = |error| Failure::failed(format!("{name}: cannot read: {error}"));
    let mut bytes = Zeroizing::new(vec![0; FIRST.min(max + 1)]);
    let mut filled = 0;
    loop {
        match from.read(&mut bytes[filled..]) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(cannot(error)),
        }
        if filled > max {
            return Err(Failure::usage(format!("{name}: expected at most {max} bytes, found more")));
        }
        if filled == bytes.len() {
            // By hand, because a vector that grows leaves its old memory as it is.
            let mut larger = Zeroizing::new(vec![0; (filled * 2).min(max + 1)]);
            larger[..filled].copy_from_slice(&bytes);
            bytes = larger;
        }
    }
    bytes.truncate(filled);
    Ok(bytes)
}

/// The one line in `bytes`; the line break at its end, which editors and `echo` put there, is
/// forgiven.
pub(super) fn one_line(bytes: &[u8]) -> Result<&str, Failure> {
    let text = std::str::from_utf8(bytes)
        .map_err(|_| Failure::usage("expected a line of text, found other bytes"))?;
    let text = text.strip_suffix('\n').map_or(text, |text| text.strip_suffix('\r').unwrap_or(text));
    match text {
        "" => Err(Failure::usage("expected one line, found nothing")),
        text if text.contains(['\n', '\r']) => Err(Failure::usage("expected one line, found more")),
        text => Ok(text),
    }
}

/// What is set aside at first: for tokens and keys it is enough.
const FIRST: usize = 64 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn input_is_read_whole_or_refused() {
        let bytes: Vec<u8> = (0..300_000).map(|i| i as u8).collect();
        for length in [0, 1, FIRST - 1, FIRST, FIRST + 1, 300_000] {
            let read = read_from(&bytes[..length], "x", 300_000).unwrap();
            assert_eq!(*read, bytes[..length]);
        }
        for max in [0, 10, FIRST - 1, FIRST, FIRST + 1, 299_999] {
            assert!(read_from(&bytes[..], "x", max).is_err());
            assert!(read_from(&bytes[..max], "x", max).is_ok());
        }
    }

    #[test]
    fn a_line_is_one_line() {
        for good in ["a", "a\n", "a\r\n"] {
            assert_eq!(one_line(good.as_bytes()).unwrap(), "a");
        }
        for bad in ["", "\n", "a\nb", "a\n\n", "\na", "a\rb", "a\r\r\n"] {
            assert!(one_line(bad.as_bytes()).is_err(), "{bad:?}");
        }
        assert!(one_line(b"\xff").is_err());
    }
}
