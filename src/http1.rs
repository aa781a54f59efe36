//! HTTP/1.1 on the wire, as far as it is the same on both sides.
//!
//! What is read is held to the letter: where a message's end could be understood in two ways, there
//! is none.

mod decode;
mod head;
mod outbox;
mod room;
mod spare;

use bytes::{Buf as _, Bytes, BytesMut};
use http::header::{HeaderMap, HeaderName, HeaderValue};

pub use self::decode::{Decoded, Decoder};
pub use self::head::{Head, Parts};
pub use self::outbox::Outbox;
pub use self::room::{OwnRoom, ReadRoom};

/// The longest head that is read, in bytes.
pub const MAX_HEAD: usize = 128 * 1024;
/// How many fields a head may have, and a trailer section.
pub const MAX_FIELDS: usize = 100;

/// What is wrong with the end of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum MessageError {
    /// The connection was closed before it.
    #[error("the connection was closed in the middle of a message")]
    Incomplete,
    /// It cannot be told. The text is one of this crate's.
    #[error("the message is malformed: {0}")]
    Malformed(&'static str),
}

/// Frees what has not been needed on this thread for a while; to be called now and then.
pub fn sweep() {
    head::sweep();
    outbox::sweep();
}

/// Takes `length` bytes off the front of what has been read. If nothing is left, the room is let go that it
/// was read into.
pub fn skip(buffer: &mut Bytes, length: usize) {
    if length == buffer.len() {
        *buffer = Bytes::new();
    } else {
        buffer.advance(length);
    }
}

/// Reads a `Content-Length`: digits and nothing else, where `u64::from_str` would take a plus sign.
pub fn parse_length(value: &[u8]) -> Option<u64> {
    if !value.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(value).ok()?.parse().ok()
}

/// The members of a comma-separated field value.
pub fn members(value: &HeaderValue) -> impl Iterator<Item = &[u8]> {
    value.as_bytes().split(|&byte| byte == b',').map(<[u8]>::trim_ascii)
}

/// Appends to `names` what a `Trailer` field announces.
pub fn announced(value: &HeaderValue, names: &mut Vec<HeaderName>) {
    names.extend(members(value).filter_map(|name| HeaderName::from_bytes(name).ok()));
}

/// Writes a field's line.
pub fn write_field(to: &mut Outbox, name: &[u8], value: &[u8]) {
    to.put(name);
    to.put(b": ");
    to.put(value);
    to.put(b"\r\n");
}

/// Writes the field that tells a body's length.
pub fn write_length(to: &mut Outbox, length: u64) {
    to.put(b"content-length: ");
    to.put(Number::new::<10>(length).text());
    to.put(b"\r\n");
}

/// Writes `data` as a chunk; nothing if it is empty, because that would be the last one.
pub fn write_chunk(to: &mut Outbox, data: Bytes) {
    if !data.is_empty() {
        to.put(Number::new::<16>(data.len() as u64).text());
        to.put(b"\r\n");
        to.push(data);
        to.put(b"\r\n");
    }
}

/// Writes the last chunk, and of the trailers those that the head announced: no others go on (RFC
/// 9110 section 6.5.1).
pub fn write_last_chunk(to: &mut Outbox, trailers: Option<&HeaderMap>, announced: &[HeaderName]) {
    to.put(b"0\r\n");
    let trailers = trailers.into_iter().flatten();
    for (name, value) in trailers.filter(|(name, _)| announced.contains(name)) {
        write_field(to, name.as_str().as_bytes(), value.as_bytes());
    }
    to.put(b"\r\n");
}

/// Appends `more` to `buffer`, which is nearly always empty.
pub fn join(buffer: &mut Bytes, more: Bytes) {
    if buffer.is_empty() {
        *buffer = more;
    } else if !more.is_empty() {
        // What was joined before is nobody else's, and grows without being copied every time.
        let begun = std::mem::take(buffer).try_into_mut();
        let mut whole = begun.unwrap_or_else(|shared| BytesMut::from(&shared[..]));
        whole.extend_from_slice(&more);
        *buffer = whole.freeze();
    }
}

/// A number in digits, without an allocation.
struct Number {
    digits: [u8; 20],
    begin: usize,
}

impl Number {
    fn new<const BASE: u64>(mut number: u64) -> Self {
        let (mut digits, mut begin) = ([b'0'; 20], 20);
        for digit in digits.iter_mut().rev() {
            let value = (number % BASE) as u8;
            *digit = if value < 10 { b'0' + value } else { b'a' + value - 10 };
            number /= BASE;
            begin -= 1;
            if number == 0 {
                break;
            }
        }
        Self { digits, begin }
    }

    fn text(&self) -> &[u8] {
        self.digits.get(self.begin..).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_as_the_standard_library_writes_them() {
        for number in [0, 1, 9, 10, 15, 16, 255, 256, 65_535, 1_000_000, u64::MAX - 1, u64::MAX] {
            assert_eq!(Number::new::<10>(number).text(), number.to_string().as_bytes());
            assert_eq!(Number::new::<16>(number).text(), format!("{number:x}").as_bytes());
        }
    }

    #[test]
    fn an_empty_chunk_is_not_written_because_it_would_be_the_last() {
        let mut outbox = Outbox::default();
        write_chunk(&mut outbox, Bytes::new());
        assert!(outbox.is_empty());
        write_chunk(&mut outbox, Bytes::from_static(b"0123456789abcdef!"));
        write_last_chunk(&mut outbox, None, &[]);
        assert_eq!(outbox.into_bytes(), b"11\r\n0123456789abcdef!\r\n0\r\n\r\n");
    }

    #[test]
    fn what_is_joined_is_one_after_the_other() {
        let (mut buffer, mut expected) = (Bytes::new(), Vec::new());
        for part in [&b"a"[..], b"", b"bc", b"def", &[b'x'; 1000], b"g"] {
            join(&mut buffer, Bytes::copy_from_slice(part));
            expected.extend_from_slice(part);
            assert_eq!(buffer, expected);
        }
    }

    #[test]
    fn what_is_left_of_all_that_was_read_holds_no_room() {
        let room = Bytes::from(vec![b'x'; 10]);
        let mut buffer = room.clone();
        skip(&mut buffer, 9);
        assert!(buffer.len() == 1 && !room.is_unique());
        skip(&mut buffer, 1);
        assert!(buffer.is_empty() && room.is_unique());
    }
}
