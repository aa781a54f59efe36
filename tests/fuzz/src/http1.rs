//! HTTP/1.1 as RFC 9112 has it, with nothing forgiven: whoever reads messages in this way and only
//! in this way cannot be led to read one where another reader reads two.

use std::fmt;

/// What the bytes at the front of a stream are.
#[derive(Debug)]
pub enum Read<T> {
    /// A whole one, and how many bytes it takes.
    Whole(T, usize),
    /// The beginning of one.
    More,
    /// Nothing that has one reading only.
    Wrong(&'static str),
}

/// Why a body is [`Read::Wrong`] to every reader there is.
pub const BROKEN: &str = "a chunk that is not as long as it says";

/// Field names in lower case, values without the white space around them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Fields(pub Vec<(String, Vec<u8>)>);

/// A request's head.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    pub method: String,
    pub target: Vec<u8>,
    pub fields: Fields,
    pub framing: Framing,
}

/// How the end of a body is found.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Framing {
    Length(usize),
    Chunked,
    /// Of answers only: the body ends with the connection.
    #[default]
    Close,
}

/// A request.
#[derive(Clone, PartialEq, Eq)]
pub struct Request {
    pub head: Head,
    pub body: Vec<u8>,
    pub trailers: Fields,
}

/// An answer. The body of one that ends with its connection is whatever is there.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Response {
    pub status: u16,
    pub fields: Fields,
    pub framing: Framing,
    pub body: Vec<u8>,
}

impl fmt::Debug for Request {
    /// As it would be on the wire, if the wire had lines.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} {} ({:?})", self.head.method, self.head.target.escape_ascii(), self.head.framing)?;
        for (name, value) in self.head.fields.0.iter().chain(&self.trailers.0) {
            writeln!(f, "{name}: {}", value.escape_ascii())?;
        }
        writeln!(f, "{}", self.body.escape_ascii())
    }
}

impl Fields {
    /// Every value of `name`.
    pub fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a [u8]> {
        self.0.iter().filter(move |(known, _)| known == name).map(|(_, value)| value.as_slice())
    }

    /// The value of `name`, if there is exactly one.
    pub fn one<'a>(&'a self, name: &'a str) -> Option<&'a [u8]> {
        let mut all = self.all(name);
        all.next().filter(|_| all.next().is_none())
    }

    /// Whether there is a field `name`.
    pub fn has(&self, name: &str) -> bool {
        self.all(name).next().is_some()
    }
}

/// Reads a request's head.
pub fn head(bytes: &[u8]) -> Read<Head> {
    let (lines, length) = match lines(bytes) {
        Read::Whole(lines, length) => (lines, length),
        Read::More => return Read::More,
        Read::Wrong(why) => return Read::Wrong(why),
    };
    let parts: Vec<&[u8]> = lines[0].split(|&byte| byte == b' ').collect();
    let [method, target, b"HTTP/1.1"] = parts[..] else { return Read::Wrong("no request line") };
    let visible = |byte: &u8| matches!(byte, 0x21..=0x7e | 0x80..) && *byte != b'#';
    if method.is_empty() || !method.iter().all(is_token) || target.is_empty() || !target.iter().all(visible) {
        return Read::Wrong("a request line of odd bytes");
    }
    let fields = match fields(&lines[1..]) {
        Ok(fields) => fields,
        Err(why) => return Read::Wrong(why),
    };
    let framing = match framing(&fields) {
        Ok(framing) => framing.unwrap_or(Framing::Length(0)),
        Err(why) => return Read::Wrong(why),
    };
    Read::Whole(Head { method: text(method), target: target.to_vec(), fields, framing }, length)
}

/// Reads a request.
pub fn request(bytes: &[u8]) -> Read<Request> {
    let (head, start) = match head(bytes) {
        Read::Whole(head, start) => (head, start),
        Read::More => return Read::More,
        Read::Wrong(why) => return Read::Wrong(why),
    };
    match body(&bytes[start..], head.framing) {
        Read::Whole((body, trailers), length) => {
            Read::Whole(Request { head, body, trailers }, start + length)
        }
        Read::More => Read::More,
        Read::Wrong(why) => Read::Wrong(why),
    }
}

/// Reads an answer to a request with this method.
pub fn response(bytes: &[u8], method: &str) -> Read<Response> {
    let (lines, start) = match lines(bytes) {
        Read::Whole(lines, start) => (lines, start),
        Read::More => return Read::More,
        Read::Wrong(why) => return Read::Wrong(why),
    };
    let Some(status) = status(lines[0]) else { return Read::Wrong("no status line") };
    let fields = match fields(&lines[1..]) {
        Ok(fields) => fields,
        Err(why) => return Read::Wrong(why),
    };
    let framing = match framing(&fields) {
        Ok(framing) => framing,
        Err(why) => return Read::Wrong(why),
    };
    let empty = method == "HEAD" || matches!(status, 100..=199 | 204 | 304);
    let framing = if empty { Framing::Length(0) } else { framing.unwrap_or(Framing::Close) };
    match body(&bytes[start..], framing) {
        Read::Whole((body, _), length) => {
            Read::Whole(Response { status, fields, framing, body }, start + length)
        }
        Read::More => Read::More,
        Read::Wrong(why) => Read::Wrong(why),
    }
}

fn status(line: &[u8]) -> Option<u16> {
    // A proxy may be told that a client speaks HTTP/1.0, and speak it too.
    let rest = line.strip_prefix(b"HTTP/1.1 ").or_else(|| line.strip_prefix(b"HTTP/1.0 "))?;
    let (digits, [b' ', reason @ ..]) = rest.split_at_checked(3)? else { return None };
    let status = std::str::from_utf8(digits).ok().filter(|digits| !digits.starts_with('+'))?.parse().ok()?;
    (reason.iter().all(is_text) && status >= 100).then_some(status)
}

/// The lines of a head, without the empty one that ends it.
fn lines(bytes: &[u8]) -> Read<Vec<&[u8]>> {
    let mut lines = Vec::new();
    let mut start = 0;
    loop {
        let rest = &bytes[start..];
        let Some(end) = rest.iter().position(|byte| matches!(byte, b'\r' | b'\n')) else {
            return if rest.contains(&0) { Read::Wrong("NUL") } else { Read::More };
        };
        match rest[end..] {
            [b'\r', b'\n', ..] => {}
            [b'\r'] => return Read::More,
            _ => return Read::Wrong("a line that does not end in CR LF"),
        }
        start += end + 2;
        match &rest[..end] {
            [] if lines.is_empty() => return Read::Wrong("an empty line in front"),
            [] => return Read::Whole(lines, start),
            line => lines.push(line),
        }
    }
}

fn fields(lines: &[&[u8]]) -> Result<Fields, &'static str> {
    let mut fields = Vec::new();
    for line in lines {
        let colon = line.iter().position(|&byte| byte == b':').ok_or("a field without a colon")?;
        let (name, value) = (&line[..colon], trim(&line[colon + 1..]));
        if name.is_empty() || !name.iter().all(is_token) {
            return Err("no field name");
        }
        if !value.iter().all(is_text) {
            return Err("a control character in a value");
        }
        fields.push((text(name).to_ascii_lowercase(), value.to_vec()));
    }
    Ok(Fields(fields))
}

fn framing(fields: &Fields) -> Result<Option<Framing>, &'static str> {
    match (fields.has("content-length"), fields.has("transfer-encoding")) {
        (false, false) => Ok(None),
        (true, true) => Err("two framings"),
        (true, false) => {
            let length = fields.one("content-length");
            let digits = length.filter(|digits| digits.iter().all(u8::is_ascii_digit)).ok_or("no length")?;
            // Nobody sends as much as may be announced.
            text(digits).parse().map(|length| Some(Framing::Length(length))).map_err(|_| "no length")
        }
        (false, true) => match fields.one("transfer-encoding") {
            Some(coding) if coding.eq_ignore_ascii_case(b"chunked") => Ok(Some(Framing::Chunked)),
            _ => Err("a coding that is not chunked alone"),
        },
    }
}

fn body(bytes: &[u8], framing: Framing) -> Read<(Vec<u8>, Fields)> {
    match framing {
        Framing::Length(length) if bytes.len() < length => Read::More,
        Framing::Length(length) => Read::Whole((bytes[..length].to_vec(), Fields::default()), length),
        Framing::Close => Read::Whole((bytes.to_vec(), Fields::default()), bytes.len()),
        Framing::Chunked => chunked(bytes),
    }
}

fn chunked(bytes: &[u8]) -> Read<(Vec<u8>, Fields)> {
    let mut body = Vec::new();
    let mut start = 0;
    loop {
        let rest = &bytes[start..];
        let digits = rest.iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
        if digits > 7 {
            return Read::Wrong("a chunk beyond measure");
        }
        let Some(end) = rest.iter().position(|&byte| byte == b'\r') else {
            return if digits < rest.len() { Read::Wrong("more than a chunk size") } else { Read::More };
        };
        match rest[end..] {
            [b'\r'] => return Read::More,
            // Extensions are allowed, but nobody needs them.
            [b'\r', b'\n', ..] if digits > 0 && end == digits => {}
            _ => return Read::Wrong("no chunk size"),
        }
        let size = usize::from_str_radix(&text(&rest[..digits]), 16).unwrap_or_default();
        start += digits + 2;
        if size == 0 {
            break;
        }
        match bytes[start..].split_at_checked(size) {
            Some((data, [b'\r', b'\n', ..])) => body.extend_from_slice(data),
            None | Some((_, [] | [b'\r'])) => return Read::More,
            Some(_) => return Read::Wrong(BROKEN),
        }
        start += size + 2;
    }
    if bytes[start..].starts_with(b"\r\n") {
        return Read::Whole((body, Fields::default()), start + 2);
    }
    match lines(&bytes[start..]) {
        Read::Whole(lines, length) => match fields(&lines) {
            Ok(trailers) => Read::Whole((body, trailers), start + length),
            Err(why) => Read::Wrong(why),
        },
        Read::More => Read::More,
        Read::Wrong(why) => Read::Wrong(why),
    }
}

fn trim(value: &[u8]) -> &[u8] {
    let space = |byte: &u8| matches!(byte, b' ' | b'\t');
    let start = value.iter().position(|byte| !space(byte)).unwrap_or(value.len());
    let end = value.iter().rposition(|byte| !space(byte)).map_or(start, |end| end + 1);
    &value[start..end]
}

fn is_text(byte: &u8) -> bool {
    matches!(byte, b'\t' | 0x20..=0x7e | 0x80..)
}

fn is_token(byte: &u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte)
}

/// Of bytes that have been found to be ASCII.
fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
