//! Where a body ends (RFC 9112 sections 6 and 7).

use bytes::Bytes;
use http::header::{HeaderMap, HeaderName, HeaderValue};
use http_body::{Frame, SizeHint};

use super::{MAX_FIELDS, MessageError, skip};

/// The longest line in front of a chunk, in bytes.
const MAX_CHUNK_LINE: usize = 4 * 1024;
/// How much there may be in all such lines of a message beside their sizes, in bytes.
const MAX_EXTENSIONS: usize = 16 * 1024;
/// The longest trailer section, in bytes.
const MAX_TRAILERS: usize = 16 * 1024;

/// Finds the body in what has been read.
#[derive(Debug)]
pub struct Decoder {
    state: State,
    /// How much of [`MAX_EXTENSIONS`] has come.
    extensions: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// So many bytes are still to come.
    Length(u64),
    /// Everything up to the connection's end.
    UntilClose,
    /// The line in front of a chunk.
    ChunkLine,
    /// So many bytes of a chunk are still to come.
    Chunk(u64),
    /// The end of the line behind a chunk.
    ChunkEnd,
    /// The trailer section.
    Trailers,
    Ended,
}

/// What [`Decoder::decode`] found.
#[derive(Debug)]
pub enum Decoded {
    /// A part of the body, or its trailers.
    Frame(Frame<Bytes>),
    /// There is no more.
    End,
    /// More must be read, of which this many bytes are sure to come.
    More(u64),
}

impl Decoder {
    /// There is no body.
    pub fn none() -> Self {
        Self::in_state(State::Ended)
    }

    /// A body of so many bytes.
    pub fn length(length: u64) -> Self {
        Self::in_state(if length == 0 { State::Ended } else { State::Length(length) })
    }

    /// A body in the chunked coding.
    pub fn chunked() -> Self {
        Self::in_state(State::ChunkLine)
    }

    /// A body that ends with its connection.
    pub fn until_close() -> Self {
        Self::in_state(State::UntilClose)
    }

    fn in_state(state: State) -> Self {
        Self { state, extensions: 0 }
    }

    /// Whether the message has ended: what is behind it is another's.
    pub fn has_ended(&self) -> bool {
        self.state == State::Ended
    }

    /// Whether only the connection's end is the body's.
    pub fn ends_with_connection(&self) -> bool {
        self.state == State::UntilClose
    }

    /// What is known of how much is still to come.
    pub fn size_hint(&self) -> SizeHint {
        match self.state {
            State::Length(left) => SizeHint::with_exact(left),
            State::Ended => SizeHint::with_exact(0),
            _ => SizeHint::default(),
        }
    }

    /// The connection has ended: so has the body, if nothing else was to tell its end.
    ///
    /// # Errors
    ///
    /// Something else was to tell it.
    pub fn closed(&mut self) -> Result<(), MessageError> {
        if !self.ends_with_connection() {
            return Err(MessageError::Incomplete);
        }
        self.state = State::Ended;
        Ok(())
    }

    /// Takes the next part of the body off `buffer`.
    ///
    /// # Errors
    ///
    /// The bytes are no body.
    pub fn decode(&mut self, buffer: &mut Bytes) -> Result<Decoded, MessageError> {
        loop {
            match self.state {
                State::Ended => return Ok(Decoded::End),
                State::UntilClose if buffer.is_empty() => return Ok(Decoded::More(0)),
                State::UntilClose => return Ok(data(std::mem::take(buffer))),
                State::Length(left) | State::Chunk(left) if buffer.is_empty() => {
                    return Ok(Decoded::More(left));
                }
                State::Length(left) => {
                    let (part, left) = part(buffer, left);
                    self.state = if left == 0 { State::Ended } else { State::Length(left) };
                    return Ok(data(part));
                }
                State::Chunk(left) => {
                    let (part, left) = part(buffer, left);
                    self.state = if left == 0 { State::ChunkEnd } else { State::Chunk(left) };
                    return Ok(data(part));
                }
                State::ChunkEnd => match &buffer[..] {
                    [b'\r', b'\n', ..] => {
                        skip(buffer, 2);
                        self.state = State::ChunkLine;
                    }
                    [] | [b'\r'] => return Ok(Decoded::More(0)),
                    _ => return Err(MessageError::Malformed("a chunk does not end where it said")),
                },
                State::ChunkLine => match self.chunk_line(buffer)? {
                    Some(0) => self.state = State::Trailers,
                    Some(size) => self.state = State::Chunk(size),
                    None => return Ok(Decoded::More(0)),
                },
                State::Trailers => {
                    let Some(trailers) = trailers(buffer)? else { return Ok(Decoded::More(0)) };
                    self.state = State::Ended;
                    if !trailers.is_empty() {
                        return Ok(Decoded::Frame(Frame::trailers(trailers)));
                    }
                }
            }
        }
    }

    /// The size of the next chunk; `None` if its line is not whole yet.
    fn chunk_line(&mut self, buffer: &mut Bytes) -> Result<Option<u64>, MessageError> {
        const MALFORMED: MessageError = MessageError::Malformed("the size of a chunk is malformed");
        // The parser takes no digits for zero, and a line feed for a part of an extension.
        if buffer.first().is_some_and(|byte| !byte.is_ascii_hexdigit()) {
            return Err(MALFORMED);
        }
        match httparse::parse_chunk_size(buffer).map_err(|_| MALFORMED)? {
            httparse::Status::Complete((length, size)) => {
                let line = buffer.split_to(length);
                if line[..length - 1].contains(&b'\n') || length > MAX_CHUNK_LINE {
                    return Err(MALFORMED);
                }
                let digits = line.iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
                self.extensions += length.saturating_sub(digits + b"\r\n".len());
                if self.extensions > MAX_EXTENSIONS {
                    return Err(MessageError::Malformed("there are too many chunk extensions"));
                }
                Ok(Some(size))
            }
            httparse::Status::Partial if buffer.len() > MAX_CHUNK_LINE => Err(MALFORMED),
            httparse::Status::Partial => Ok(None),
        }
    }
}

fn data(part: Bytes) -> Decoded {
    Decoded::Frame(Frame::data(part))
}

/// As much of `left` as is there, and how much is still to come.
fn part(buffer: &mut Bytes, left: u64) -> (Bytes, u64) {
    let here = usize::try_from(left).unwrap_or(usize::MAX).min(buffer.len());
    (buffer.split_to(here), left - here as u64)
}

/// The trailer section; `None` if it is not whole yet.
fn trailers(buffer: &mut Bytes) -> Result<Option<HeaderMap>, MessageError> {
    const MALFORMED: MessageError = MessageError::Malformed("the trailers are malformed");
    if buffer.starts_with(b"\r\n") {
        skip(buffer, 2);
        return Ok(Some(HeaderMap::new()));
    }
    let mut fields = [httparse::EMPTY_HEADER; MAX_FIELDS];
    match httparse::parse_headers(buffer, &mut fields).map_err(|_| MALFORMED)? {
        httparse::Status::Complete((length, fields)) if length <= MAX_TRAILERS => {
            let mut trailers = HeaderMap::with_capacity(fields.len());
            for field in fields {
                let name = HeaderName::from_bytes(field.name.as_bytes()).map_err(|_| MALFORMED)?;
                let value = HeaderValue::from_bytes(field.value).map_err(|_| MALFORMED)?;
                trailers.append(name, value);
            }
            skip(buffer, length);
            Ok(Some(trailers))
        }
        httparse::Status::Partial if buffer.len() <= MAX_TRAILERS => Ok(None),
        _ => Err(MALFORMED),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What is found if the bytes come in parts of `step`: the body, its trailers, and what is left
    /// behind it; `None` if it does not end.
    fn decoded(
        mut decoder: Decoder,
        bytes: &[u8],
        step: usize,
    ) -> Result<Option<(Vec<u8>, HeaderMap, Bytes)>, MessageError> {
        let (mut body, mut trailers, mut buffer) = (Vec::new(), HeaderMap::new(), Bytes::new());
        let mut parts = bytes.chunks(step.max(1));
        loop {
            match decoder.decode(&mut buffer)? {
                Decoded::Frame(frame) => match frame.into_data() {
                    Ok(data) => body.extend_from_slice(&data),
                    Err(frame) => trailers = frame.into_trailers().unwrap(),
                },
                Decoded::End => return Ok(Some((body, trailers, buffer))),
                Decoded::More(_) => match parts.next() {
                    Some(part) => super::super::join(&mut buffer, Bytes::copy_from_slice(part)),
                    None => return Ok(None),
                },
            }
        }
    }

    #[test]
    fn chunks_are_joined_however_they_are_cut() {
        let text = b"5;a=b\r\nhello\r\n0A \r\n, worldly!\r\n000\r\nx-sum: 1\r\nx-more: 2\r\n\r\nGET";
        for step in 1..=text.len() {
            let (body, trailers, left) = decoded(Decoder::chunked(), text, step).unwrap().unwrap();
            assert_eq!(body, b"hello, worldly!", "{step}");
            assert_eq!(trailers.len(), 2);
            // What has not been read yet is not there; what has been is behind the body.
            assert!(b"GET".starts_with(&left[..]), "{left:?}");
        }
    }

    #[test]
    fn the_room_that_chunks_were_read_into_is_let_go_with_the_last_of_them() {
        for text in ["5\r\nhello\r\n0\r\n\r\n", "5\r\nhello\r\n0\r\nx-sum: 1\r\n\r\n"] {
            for cut in 1..text.len() {
                let mut decoder = Decoder::chunked();
                let room = Bytes::copy_from_slice(&text.as_bytes()[..cut]);
                let mut buffer = room.clone();
                while !matches!(decoder.decode(&mut buffer).unwrap(), Decoded::More(_) | Decoded::End) {}
                assert_eq!(room.is_unique(), buffer.is_empty(), "{:?}", &text[..cut]);
                let rest = Bytes::copy_from_slice(&text.as_bytes()[cut..]);
                super::super::join(&mut buffer, rest.clone());
                while !matches!(decoder.decode(&mut buffer).unwrap(), Decoded::End) {}
                assert!(room.is_unique() && rest.is_unique(), "{text:?} in two at {cut}");
            }
        }
    }

    #[test]
    fn chunks_that_could_be_read_in_two_ways_are_refused() {
        for bad in [
            &b"\r\nhello"[..],
            b";a\r\nhello",
            b" 5\r\nhello",
            b"+5\r\nhello",
            b"-5\r\nhello",
            b"0x5\r\nhello",
            b"5\nhello",
            b"5\rhello",
            b"5;a\nb\r\nhello",
            b"5_\r\nhello",
            b"5 5\r\nhello",
            b"11111111111111111\r\nhello",
            b"5\r\nhello!\r\n",
            b"5\r\nhello\n\r\n",
            b"5\r\nhello0\r\n\r\n",
            b"0\r\nno colon\r\n\r\n",
            b"0\r\n folded: 1\r\n\r\n",
            b"0\r\nname : 1\r\n\r\n",
        ] {
            for step in [1, bad.len()] {
                let got = decoded(Decoder::chunked(), bad, step);
                let text = String::from_utf8_lossy(bad);
                assert!(matches!(got, Err(MessageError::Malformed(_))), "{text:?}, {step}: {got:?}");
            }
        }
    }

    #[test]
    fn lines_and_trailers_have_bounds() {
        let line = [b"5;".to_vec(), vec![b'a'; MAX_CHUNK_LINE]].concat();
        let trailers = [b"0\r\na: ".to_vec(), vec![b'a'; MAX_TRAILERS]].concat();
        let fields = format!("0\r\n{}\r\n", "a: b\r\n".repeat(MAX_FIELDS + 1)).into_bytes();
        let extended = b"1;aaa\r\nx\r\n".repeat(MAX_EXTENSIONS / 4 + 1);
        for bytes in [line, trailers, fields, extended] {
            assert!(decoded(Decoder::chunked(), &bytes, 1000).is_err());
        }
    }

    #[test]
    fn a_length_is_kept_to_the_byte() {
        let (body, _, left) = decoded(Decoder::length(5), b"hello, world", 100).unwrap().unwrap();
        assert_eq!((&body[..], &left[..]), (&b"hello"[..], &b", world"[..]));
        assert!(decoded(Decoder::length(5), b"hell", 100).unwrap().is_none());
        assert!(Decoder::length(0).has_ended() && Decoder::none().has_ended());
        assert_eq!(Decoder::length(5).size_hint().exact(), Some(5));
    }

    #[test]
    fn only_a_body_that_nothing_else_ends_ends_with_the_connection() {
        let mut decoder = Decoder::until_close();
        let mut buffer = Bytes::from_static(b"all of it");
        assert!(matches!(decoder.decode(&mut buffer), Ok(Decoded::Frame(_))));
        decoder.closed().unwrap();
        assert!(decoder.has_ended());
        for mut decoder in [Decoder::length(1), Decoder::chunked()] {
            assert!(matches!(decoder.closed(), Err(MessageError::Incomplete)));
        }
    }

    proptest! {
        #[test]
        fn nothing_makes_it_panic_and_cuts_change_nothing(
            bytes in proptest::collection::vec(
                prop_oneof![Just(b'\r'), Just(b'\n'), Just(b'0'), Just(b'5'), Just(b';'), any::<u8>()], 0..80),
            step in 1_usize..9,
        ) {
            let whole = decoded(Decoder::chunked(), &bytes, bytes.len());
            let cut = decoded(Decoder::chunked(), &bytes, step);
            match (whole, cut) {
                (Ok(whole), Ok(cut)) => {
                    prop_assert_eq!(whole.map(|(body, ..)| body), cut.map(|(body, ..)| body));
                }
                (whole, cut) => prop_assert_eq!(whole.is_err(), cut.is_err()),
            }
        }
    }
}
