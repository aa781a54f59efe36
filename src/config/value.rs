//! Values as people write them, and what a message may say of them.

use std::ops::RangeInclusive;
use std::path::Path;
use std::time::Duration;

use bytesize::ByteSize;
use toml::de::DeValue;

/// A text of the file in a message: escaped, cut if it is long, and hidden if it looks like a
/// secret that got under the wrong key.
pub(super) fn quoted(text: &str) -> String {
    const MAX: usize = 80;
    clipped(text, MAX)
}

/// A path in a message. Cut much later than other texts, because its end is what tells.
pub(super) fn path_quoted(path: &Path) -> String {
    const MAX: usize = 400;
    clipped(&path.to_string_lossy(), MAX)
}

fn clipped(text: &str, max: usize) -> String {
    let count = text.chars().count();
    if looks_secret(text) {
        return format!("\"...\" ({count} characters)");
    }
    if count > max {
        let head: String = text.chars().take(max).collect();
        return format!("{:?}", head + "...");
    }
    format!("{text:?}")
}

/// Whether this is more likely a key or a token than a name: many hex digits or letters in a row,
/// or the beginning of a JWT.
fn looks_secret(text: &str) -> bool {
    const HEX: usize = 32;
    const ANY: usize = 40;
    let longest = |of: fn(char) -> bool| text.split(|c| !of(c)).map(str::len).max().unwrap_or(0);
    longest(|c| c.is_ascii_hexdigit()) >= HEX
        || longest(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '+')) >= ANY
        || text.contains("eyJ")
}

/// What may be said of a secret: its shape.
pub(super) fn shape(secret: &str) -> String {
    if secret.is_empty() {
        return "an empty value".to_owned();
    }
    if secret.contains(['\n', '\r']) {
        return "a line break".to_owned();
    }
    if secret.trim() != secret {
        return "a space at its beginning or end".to_owned();
    }
    format!("{} characters", secret.chars().count())
}

/// What may be said of a value that is not a secret's.
pub(super) fn shown(value: &DeValue<'_>) -> String {
    match value {
        DeValue::String(text) => quoted(text),
        DeValue::Integer(number) => bare(&number.to_string()),
        DeValue::Float(number) => bare(&number.to_string()),
        DeValue::Boolean(value) => value.to_string(),
        other => kind(other).to_owned(),
    }
}

/// A number is not quoted, but may be as long, or as secret, as a text.
fn bare(number: &str) -> String {
    match quoted(number) {
        hidden if hidden.starts_with("\"...\"") => hidden,
        text => text.trim_matches('"').to_owned(),
    }
}

/// The type of a value, which is all that may be said of it under a secret key.
pub(super) fn kind(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a string",
        DeValue::Integer(_) => "an integer",
        DeValue::Float(_) => "a float",
        DeValue::Boolean(_) => "a boolean",
        DeValue::Datetime(_) => "a date or time",
        DeValue::Array(_) => "an array",
        DeValue::Table(_) => "a table",
    }
}

/// The name among `known` that was probably meant.
pub(super) fn nearest<'k>(key: &str, known: &'k [String]) -> Option<&'k str> {
    let distance = |name: &String| strsim::damerau_levenshtein(key, name);
    // Longer than any key there is; not worth the quadratic comparison.
    if key.len() > 64 {
        return None;
    }
    let name = known.iter().min_by_key(|name| distance(name))?;
    (distance(name) <= (name.len() / 3).clamp(1, 3)).then_some(name)
}

/// An integer that fits.
pub(super) fn count(value: &DeValue<'_>) -> Option<u32> {
    let number = value.as_integer()?;
    u32::from_str_radix(number.as_str(), number.radix()).ok()
}

/// A duration within `range`, such as `30s` or `1m 30s`.
pub(super) fn duration(text: &str, range: &RangeInclusive<Duration>) -> Result<Duration, String> {
    check_unit(text)?;
    humantime::parse_duration(text).ok().filter(|value| range.contains(value)).ok_or_else(|| quoted(text))
}

/// A size of at most `max` bytes, such as `64KiB`.
pub(super) fn size(text: &str, max: usize) -> Result<usize, String> {
    check_unit(text)?;
    let size: ByteSize = text.parse().map_err(|_| quoted(text))?;
    usize::try_from(size.as_u64()).ok().filter(|size| *size <= max).ok_or_else(|| quoted(text))
}

/// A number alone could be meant in any unit, unless it is zero.
fn check_unit(text: &str) -> Result<(), String> {
    match text.parse::<f64>() {
        Ok(number) if number != 0.0 => Err(format!("{} without a unit", quoted(text))),
        _ => Ok(()),
    }
}

/// A size in the largest binary unit that gives a whole number.
pub(super) fn size_shown(size: usize) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let (mut number, mut unit) = (size, 0);
    while number != 0 && number.is_multiple_of(1024) && unit + 1 < UNITS.len() {
        number /= 1024;
        unit += 1;
    }
    format!("{number}{}", UNITS[unit])
}
