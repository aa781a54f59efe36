//! Many exchanges at once on one connection, in HTTP/2 (RFC 9113), from the side that asks.
//!
//! The library `h2` keeps the protocol: frames, header compression, flow control, and the rules for
//! messages (a length that is not kept to is a broken stream). What is decided here is which
//! connection a request goes on, when a body is read and a stream given up, and what may be sent
//! again. The exchange is driven by whoever waits for it, as in HTTP/1.1: a request's future sends
//! its body and takes the head of the answer; an upload that outlasts that goes on in a task of its
//! own; dropping the answer before all of it has come gives both up, and the partner is told so
//! (`CANCEL`).
//!
//! Neither side is read faster than the other one takes it: a piece of the request is taken when
//! the partner has room for some of the piece before it, and the partner gets room for as much of
//! its answer as has been passed on.
//!
//! An upgrade to another protocol does not exist here. What asks for one goes over HTTP/1.1 if the
//! partner may be spoken to in that, and otherwise goes on without the asking.
//!
//! # What may be sent again
//!
//! A request that failed before the head of an answer came is [`SendError::Unprocessed`] in these
//! cases and no others:
//!
//! 1. *It has no stream.* `h2` refuses to open one on a connection that has failed, that the
//!    partner has said goodbye on, or that has used up its numbers. This never leaves the pool,
//!    which tries the next connection.
//! 2. *The partner refused the stream* with `REFUSED_STREAM`: it did no processing at all (RFC 9113
//!    section 8.7). The error that the stream ends with is then a reset, from the remote side, with
//!    that code; `h2` makes such an error of a RST_STREAM frame for that very stream and of nothing
//!    else (`State::recv_reset`). What this side resets is marked as its own.
//! 3. *The stream's number is above the last one in a GOAWAY* that came on the connection: the
//!    partner has not acted on it and never will (section 6.8). The error of `h2` is not taken as
//!    evidence for this: it does not hold the number, and that no other stream ends with one like
//!    it is a matter of the library's inner workings. The number is read off the wire ([`wire`]).
//! 4. *Nothing has left since the stream was opened*: no write was so much as tried on the
//!    connection, counted below the library and above TLS ([`wire`]). That is how it ends when the
//!    partner closes a connection between two requests, because the connection's task reads before
//!    it writes. `h2` moves a header into its write buffer in the same call in which it tries to
//!    write it (`Streams::poll_complete`), so no header can be left behind in the buffer; and a
//!    stream that has failed has no frames in its queue (`clear_queue`).
//!
//! Everything else may have been processed: a stream at or below the last one whose connection
//! ends, any other reset, a lost connection, silence. And once the head of an answer is there, an
//! error is the end of that answer, whatever it says.

mod connection;
mod pool;
mod sending;
mod wire;

use std::future::{Future as _, poll_fn};
use std::pin::Pin;
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use bytes::Bytes;
use h2::RecvStream;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::uri::{Authority, PathAndQuery, Scheme, Uri};
use http::{Request, StatusCode};
use http_body::{Body, Frame, SizeHint};
use tokio::runtime::Handle;
use tokio::task::spawn_local;
use tokio::time::timeout;

pub(super) use self::connection::Opened;
use self::connection::Slot;
pub(super) use self::pool::{Pool, SayMade};
use self::sending::Sending;
pub(super) use self::sending::ends_with_header;
use super::upload::Upload;
use super::{Answer, AnswerBody, BodyError, ExchangeError, Framing, Outgoing, SendError};

/// How long the end of an answer is waited for of which all has come that was told.
const END: Duration = Duration::from_secs(1);

/// The head of a request, in HTTP/2. An error if its target or authority is none.
pub(super) fn request(
    head: &Outgoing<'_>,
    authorization: &HeaderValue,
    scheme: Scheme,
) -> Result<Request<()>, http::Error> {
    let mut fields = HeaderMap::with_capacity(head.fields.len() + 3);
    fields.insert(header::AUTHORIZATION, authorization.clone());
    for (name, value) in head.fields {
        fields.append(HeaderName::clone(name), HeaderValue::clone(value));
    }
    if let Framing::Length(length) = head.framing {
        fields.insert(header::CONTENT_LENGTH, length.into());
    }
    if head.trailers {
        fields.insert(header::TE, HeaderValue::from_static("trailers"));
    }
    let uri = Uri::builder()
        .scheme(scheme)
        .authority(Authority::try_from(head.authority.as_bytes())?)
        .path_and_query(PathAndQuery::try_from(head.target)?)
        .build()?;
    let mut request = Request::new(());
    *request.method_mut() = head.method.clone();
    *request.uri_mut() = uri;
    *request.headers_mut() = fields;
    Ok(request)
}

/// Sends the body of a request whose stream has been opened, and waits for the head of its answer.
pub(super) async fn exchange<B>(
    opened: Opened,
    framing: Framing,
    is_head: bool,
    body: B,
    idle_timeout: Duration,
) -> Result<Answer<AnswerBody>, SendError>
where
    B: Body<Data = Bytes, Error = BodyError> + Unpin + 'static,
{
    let Opened { mut response, stream, slot } = opened;
    let id = response.stream_id().as_u32();
    let mut sending = Sending::new(framing, stream, body);
    let mut sent = false;
    let answered = poll_fn(|cx| {
        if !sent {
            match sending.poll(cx) {
                Poll::Ready(Ok(())) => sent = true,
                Poll::Ready(Err(error)) => return Poll::Ready(Err(SendError::Exchange(error.into()))),
                Poll::Pending => {}
            }
        }
        Pin::new(&mut response).poll(cx).map_err(|error| match slot.was_not_processed(id, &error) {
            true => SendError::Unprocessed(error.into()),
            false => SendError::Exchange(error.into()),
        })
    });
    let (mut head, body) = answered.await?.into_parts();
    // The library has refused what HTTP/2 has no place for; these are for this hop as well.
    for name in [header::PROXY_AUTHENTICATE, header::PROXY_AUTHORIZATION] {
        head.headers.remove(name);
    }
    let upload = (!sent).then(|| {
        // If it fails the partner learns it from the stream's reset, and so does who reads the
        // answer.
        Upload::spawn(async move { _ = poll_fn(|cx| sending.poll(cx)).await })
    });
    // If it was told twice, the library has seen to it that it was the same.
    let length = head.headers.get(header::CONTENT_LENGTH).cloned();
    let length = length.and_then(|length| {
        head.headers.insert(header::CONTENT_LENGTH, length.clone());
        length.to_str().ok()?.parse().ok()
    });
    let bodiless = is_head || matches!(head.status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
    let coming = Coming { body, left: length, bodiless, data_ended: false, slot, upload };
    let mut incoming = Incoming(Some(coming));
    incoming.look_for_end();
    Ok(Answer { head: head.into(), body: AnswerBody::http2(incoming, idle_timeout) })
}

/// The body of an answer. The exchange is over when this has been read to its end, or is dropped.
pub(super) struct Incoming(Option<Coming>);

/// An answer that has not ended.
struct Coming {
    body: RecvStream,
    /// How much of what was told to be its length is still to come, in bytes.
    left: Option<u64>,
    /// Whatever was told, nothing comes.
    bodiless: bool,
    data_ended: bool,
    slot: Slot,
    upload: Option<Upload>,
}

impl Coming {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Frame<Bytes>>, h2::Error>> {
        while !self.data_ended {
            match ready!(self.body.poll_data(cx)).transpose()? {
                Some(data) => {
                    self.body.flow_control().release_capacity(data.len())?;
                    // The library has seen to it that it is no more than was told.
                    self.left = self.left.map(|left| left.saturating_sub(data.len() as u64));
                    if !data.is_empty() {
                        return Poll::Ready(Ok(Some(Frame::data(data))));
                    }
                }
                None => self.data_ended = true,
            }
        }
        self.body.poll_trailers(cx).map_ok(|trailers| trailers.map(Frame::trailers))
    }

    /// Passes over what has come or comes; ready when the answer has ended, and whether it did so
    /// without an error.
    fn poll_end(&mut self, cx: &mut Context<'_>) -> Poll<bool> {
        loop {
            match ready!(self.poll(cx)) {
                Ok(Some(_)) => {}
                Ok(None) => return Poll::Ready(true),
                Err(_) => return Poll::Ready(false),
            }
        }
    }

    /// Whether nothing is left of it but its end, and perhaps trailers.
    fn is_whole(&self) -> bool {
        self.bodiless || self.left == Some(0)
    }

    fn end(self) {
        // What is left of the request is not sent any more, which gives the stream up.
        if self.upload.is_none_or(|upload| upload.is_finished()) {
            self.slot.end();
        }
    }
}

impl Incoming {
    /// Whether all has been passed on that there is, but perhaps for trailers.
    pub(super) fn is_whole(&self) -> bool {
        self.0.as_ref().is_none_or(Coming::is_whole)
    }

    fn look_for_end(&mut self) {
        if let Some(coming) = self.0.take_if(|coming| coming.body.is_end_stream()) {
            coming.end();
        }
    }
}

impl Body for Incoming {
    type Data = Bytes;
    type Error = ExchangeError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, ExchangeError>>> {
        let Some(coming) = &mut self.0 else { return Poll::Ready(None) };
        let frame = ready!(coming.poll(cx));
        match &frame {
            Ok(Some(_)) => self.look_for_end(),
            Ok(None) => {
                if let Some(coming) = self.0.take() {
                    coming.end();
                }
            }
            Err(_) => self.0 = None,
        }
        Poll::Ready(frame.map_err(ExchangeError::from).transpose())
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            None => SizeHint::with_exact(0),
            Some(coming) => coming.left.map_or_else(SizeHint::default, SizeHint::with_exact),
        }
    }
}

impl Drop for Incoming {
    /// An answer that is not read to its end may have come to it all the same, or be about to: many
    /// partners tell the end of one by itself. Whoever knows its length does not wait for that.
    fn drop(&mut self) {
        let Some(mut coming) = self.0.take() else { return };
        match coming.poll_end(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(true) => coming.end(),
            Poll::Pending if coming.is_whole() && Handle::try_current().is_ok() => {
                spawn_local(async move {
                    // Trailers are its end as well, and data would be more than was told.
                    if let Ok(Ok(last)) = timeout(END, poll_fn(|cx| coming.poll(cx))).await
                        && last.is_none_or(|frame| frame.is_trailers())
                    {
                        coming.end();
                    }
                });
            }
            Poll::Ready(false) | Poll::Pending => {}
        }
    }
}

impl From<h2::Error> for ExchangeError {
    /// The partner's own words, which a GOAWAY may have, are not kept.
    fn from(error: h2::Error) -> Self {
        match error.reason() {
            Some(reason) if error.is_reset() => Self::Reset(reason),
            Some(reason) => Self::GoneAway(reason),
            None => error.into_io().map_or(Self::Malformed("it cannot be said in HTTP/2"), Self::Io),
        }
    }
}
