//! One request on the partner's side, answered step by step by a script.

use std::io;
use std::net::Shutdown;
use std::sync::Arc;

use super::http::{Answer, Fields, Framing, Head, Wire, chunk, head_bytes};
use super::partner::Shared;
use super::tls::Socket;

/// A request as the partner saw it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Seen {
    /// Counts the partner's connections.
    pub(crate) connection: usize,
    pub(crate) method: String,
    pub(crate) target: String,
    pub(crate) fields: Fields,
    /// As much of the body as has arrived.
    pub(crate) body: Vec<u8>,
    pub(crate) trailers: Fields,
    /// Whether the body has arrived to its end.
    pub(crate) complete: bool,
    /// Whether the body came in the chunked coding.
    pub(crate) chunked: bool,
}

/// What a script works on. Reading and writing block; there is a thread for each connection.
pub(crate) struct Exchange<'a> {
    pub(crate) wire: &'a mut Wire<Socket>,
    pub(crate) seen: Seen,
    framing: Framing,
    shared: Arc<Shared>,
    index: usize,
    close: bool,
}

impl<'a> Exchange<'a> {
    pub(crate) fn new(
        wire: &'a mut Wire<Socket>,
        head: Head,
        connection: usize,
        shared: Arc<Shared>,
    ) -> Self {
        let framing = Framing::of_request(&head);
        let seen = Seen {
            connection,
            method: head.word(0).to_owned(),
            target: head.word(1).to_owned(),
            complete: framing == Framing::Done,
            chunked: matches!(framing, Framing::Chunked { .. }),
            fields: head.fields,
            ..Seen::default()
        };
        let index = shared.record(seen.clone());
        Self { wire, seen, framing, shared, index, close: false }
    }

    /// The target without its query.
    pub(crate) fn path(&self) -> &str {
        self.seen.target.split('?').next().unwrap_or_default()
    }

    /// The next piece of the body, or `None` at its end.
    pub(crate) fn part(&mut self) -> io::Result<Option<Vec<u8>>> {
        let part = self.wire.part(&mut self.framing, &mut self.seen.trailers)?;
        match &part {
            Some(data) => self.seen.body.extend_from_slice(data),
            None => self.seen.complete = true,
        }
        self.shared.update(self.index, part.as_deref(), &self.seen);
        Ok(part)
    }

    /// The body to its end.
    pub(crate) fn body(&mut self) -> io::Result<()> {
        while self.part()?.is_some() {}
        Ok(())
    }

    /// At least `size` bytes of the body.
    pub(crate) fn body_at_least(&mut self, size: usize) -> io::Result<()> {
        while self.seen.body.len() < size && self.part()?.is_some() {}
        Ok(())
    }

    /// Sends a whole answer, and the body only if the request is not HEAD.
    pub(crate) fn answer(&mut self, answer: &Answer) -> io::Result<()> {
        let mut bytes = answer.to_bytes();
        if self.seen.method == "HEAD" {
            bytes.truncate(bytes.len() - answer.body.len());
        }
        self.wire.send(&bytes)
    }

    /// Refuses the request, its token having had its day.
    pub(crate) fn unauthorized(&mut self) -> io::Result<()> {
        self.answer(
            &Answer::new(401, "{\"error\":\"invalid_token\"}")
                .with("WWW-Authenticate", "Bearer realm=\"partner\""),
        )
    }

    /// Sends the head of an answer in the chunked coding.
    pub(crate) fn begin_chunked(&mut self, status: u16, fields: &[(&str, &str)]) -> io::Result<()> {
        let mut all = Fields::default();
        for (name, value) in fields {
            all.push(name, value);
        }
        all.push("Transfer-Encoding", "chunked");
        self.wire.send(&head_bytes(&format!("HTTP/1.1 {status} Scripted"), &all))
    }

    /// Sends one chunk.
    pub(crate) fn chunk(&mut self, data: &[u8]) -> io::Result<()> {
        self.wire.send(&chunk(data))
    }

    /// Sends exact bytes.
    pub(crate) fn raw(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.wire.send(bytes)
    }

    /// Closes the connection when the script has ended, without reading the rest of the request.
    pub(crate) fn close(&mut self) -> io::Result<()> {
        self.close = true;
        self.wire.io.tcp().shutdown(Shutdown::Both)
    }

    /// Ends the exchange; true if the connection can carry another one.
    pub(crate) fn finish(mut self) -> bool {
        // What the other side still sends is read, because closing on unread data resets the
        // connection and takes the answer with it.
        !self.close && self.body().is_ok()
    }
}
