//! HTTP/1.1 messages as bytes, so that what was sent and what arrived can be compared exactly.

use std::io::{self, Read, Write};

/// Header or trailer fields in the order in which they arrived, duplicates included.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Fields(pub(crate) Vec<(String, String)>);

impl Fields {
    /// Every value of `name`, whatever its case.
    pub(crate) fn all(&self, name: &str) -> Vec<&str> {
        self.0.iter().filter(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, v)| v.as_str()).collect()
    }

    /// The first value of `name`.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.all(name).first().copied()
    }

    /// Whether `name` occurs.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.get(name).is_some()
    }

    /// The names in lower case.
    pub(crate) fn names(&self) -> Vec<String> {
        self.0.iter().map(|(name, _)| name.to_ascii_lowercase()).collect()
    }

    pub(crate) fn push(&mut self, name: &str, value: &str) {
        self.0.push((name.to_owned(), value.to_owned()));
    }
}

/// A start line and the fields below it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Head {
    pub(crate) start: String,
    pub(crate) fields: Fields,
}

impl Head {
    /// The word of the start line at `index`.
    pub(crate) fn word(&self, index: usize) -> &str {
        self.start.split(' ').nth(index).unwrap_or_default()
    }
}

/// An answer, received or to be sent.
#[derive(Clone, Debug, Default)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) fields: Fields,
    pub(crate) body: Vec<u8>,
    pub(crate) trailers: Fields,
    /// The 1xx answers that came before.
    pub(crate) informational: Vec<u16>,
}

impl Answer {
    pub(crate) fn new(status: u16, body: impl Into<Vec<u8>>) -> Self {
        Self { status, body: body.into(), ..Self::default() }
    }

    pub(crate) fn json(status: u16, body: &serde_json::Value) -> Self {
        Self::new(status, body.to_string()).with("Content-Type", "application/json")
    }

    #[must_use]
    pub(crate) fn with(mut self, name: &str, value: &str) -> Self {
        self.fields.push(name, value);
        self
    }

    /// The answer on the wire, its length given.
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        let mut fields = self.fields.clone();
        fields.push("Content-Length", &self.body.len().to_string());
        let mut bytes = head_bytes(&format!("HTTP/1.1 {} Scripted", self.status), &fields);
        bytes.extend_from_slice(&self.body);
        bytes
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    #[track_caller]
    pub(crate) fn value(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|e| panic!("not JSON ({e}): {}", self.text()))
    }

    /// Asserts that bearerd itself gave this answer, and not the partner.
    #[track_caller]
    pub(crate) fn assert_problem(&self, status: u16) {
        assert_eq!(self.status, status, "{self:?}");
        assert_eq!(self.fields.get("content-type"), Some("application/problem+json"), "{self:?}");
        let source = self.fields.get("proxy-status").unwrap_or_default();
        assert!(source.starts_with("bearerd; error="), "Proxy-Status: {source:?}");
        assert_eq!(self.value()["status"], status, "{}", self.text());
    }
}

/// A start line and fields on the wire.
pub(crate) fn head_bytes(start: &str, fields: &Fields) -> Vec<u8> {
    let mut text = format!("{start}\r\n");
    for (name, value) in &fields.0 {
        text.push_str(&format!("{name}: {value}\r\n"));
    }
    text.push_str("\r\n");
    // Fields are read as Latin-1, so they are written as Latin-1.
    text.chars().map(|c| u8::try_from(u32::from(c)).unwrap()).collect()
}

/// One chunk of the chunked coding on the wire.
pub(crate) fn chunk(data: &[u8]) -> Vec<u8> {
    let mut bytes = format!("{:x}\r\n", data.len()).into_bytes();
    bytes.extend_from_slice(data);
    bytes.extend_from_slice(b"\r\n");
    bytes
}

/// How the end of a body is found, and how much of it is left.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Framing {
    Length(u64),
    Chunked { left: u64 },
    UntilClose,
    Done,
}

impl Framing {
    pub(crate) fn of_request(head: &Head) -> Self {
        Self::declared(head).unwrap_or(Self::Done)
    }

    pub(crate) fn of_answer(head: &Head, method: &str) -> Self {
        match head.word(1) {
            "204" | "304" => Self::Done,
            _ if method == "HEAD" => Self::Done,
            _ => Self::declared(head).unwrap_or(Self::UntilClose),
        }
    }

    fn declared(head: &Head) -> Option<Self> {
        if head.fields.has("transfer-encoding") {
            return Some(Self::Chunked { left: 0 });
        }
        head.fields.get("content-length").map(|length| Self::Length(length.parse().unwrap()))
    }
}

/// A buffered reader of messages; writes go through untouched.
pub(crate) struct Wire<S> {
    pub(crate) io: S,
    buffer: Vec<u8>,
}

impl<S: Read + Write> Wire<S> {
    pub(crate) fn new(io: S) -> Self {
        Self { io, buffer: Vec::new() }
    }

    pub(crate) fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.io.write_all(bytes)?;
        self.io.flush()
    }

    /// The next head, or `None` if the other side has closed.
    pub(crate) fn head(&mut self) -> io::Result<Option<Head>> {
        if self.buffer.is_empty() && self.fill()? == 0 {
            return Ok(None);
        }
        Ok(Some(Head { start: self.line()?, fields: self.fields()? }))
    }

    /// The next piece of a body, or `None` at its end; trailers are added to `trailers`.
    pub(crate) fn part(
        &mut self,
        framing: &mut Framing,
        trailers: &mut Fields,
    ) -> io::Result<Option<Vec<u8>>> {
        match framing {
            Framing::Done => Ok(None),
            Framing::Length(0) => {
                *framing = Framing::Done;
                Ok(None)
            }
            Framing::Length(left) => self.take(left).map(Some),
            Framing::Chunked { left: 0 } => {
                let line = self.line()?;
                let digits = line.split(';').next().unwrap_or_default().trim();
                let size = u64::from_str_radix(digits, 16)
                    .map_err(|e| io::Error::new(io::ErrorKind::InvalidData, format!("{line:?}: {e}")))?;
                *framing = Framing::Chunked { left: size };
                if size == 0 {
                    trailers.0.extend(self.fields()?.0);
                    *framing = Framing::Done;
                    return Ok(None);
                }
                self.part(framing, trailers)
            }
            Framing::Chunked { left } => {
                let data = self.take(left)?;
                if *left == 0 {
                    self.line()?;
                }
                Ok(Some(data))
            }
            Framing::UntilClose => {
                if self.buffer.is_empty() && self.fill()? == 0 {
                    *framing = Framing::Done;
                    return Ok(None);
                }
                Ok(Some(std::mem::take(&mut self.buffer)))
            }
        }
    }

    /// The next final answer, whole. `method` is that of the request.
    pub(crate) fn answer(&mut self, method: &str) -> io::Result<Answer> {
        let mut answer = Answer::default();
        let head = loop {
            let head = self.head()?.ok_or(io::ErrorKind::UnexpectedEof)?;
            let status: u16 = head.word(1).parse().unwrap();
            if status >= 200 {
                answer.status = status;
                break head;
            }
            answer.informational.push(status);
        };
        let mut framing = Framing::of_answer(&head, method);
        answer.fields = head.fields;
        while let Some(part) = self.part(&mut framing, &mut answer.trailers)? {
            answer.body.extend(part);
        }
        Ok(answer)
    }

    /// Whether something has been read that nobody has asked for yet.
    pub(crate) fn has_more(&self) -> bool {
        !self.buffer.is_empty()
    }

    /// What comes next, whatever it is, until `bytes` is full.
    pub(crate) fn read_exact(&mut self, bytes: &mut [u8]) -> io::Result<()> {
        while self.buffer.len() < bytes.len() {
            if self.fill()? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        bytes.copy_from_slice(&self.buffer[..bytes.len()]);
        self.buffer.drain(..bytes.len());
        Ok(())
    }

    fn take(&mut self, left: &mut u64) -> io::Result<Vec<u8>> {
        if self.buffer.is_empty() && self.fill()? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let size = self.buffer.len().min(usize::try_from(*left).unwrap());
        *left -= size as u64;
        Ok(self.buffer.drain(..size).collect())
    }

    fn fields(&mut self) -> io::Result<Fields> {
        let mut fields = Fields::default();
        loop {
            let line = self.line()?;
            if line.is_empty() {
                return Ok(fields);
            }
            let (name, value) = line.split_once(':').unwrap_or((line.as_str(), ""));
            fields.push(name, value.trim());
        }
    }

    fn line(&mut self) -> io::Result<String> {
        loop {
            if let Some(end) = self.buffer.iter().position(|&b| b == b'\n') {
                let mut line: Vec<u8> = self.buffer.drain(..=end).collect();
                line.pop();
                if line.last() == Some(&b'\r') {
                    line.pop();
                }
                return Ok(line.into_iter().map(char::from).collect());
            }
            if self.fill()? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    }

    fn fill(&mut self) -> io::Result<usize> {
        let mut piece = [0; 16 * 1024];
        let size = self.io.read(&mut piece)?;
        self.buffer.extend_from_slice(&piece[..size]);
        Ok(size)
    }
}
