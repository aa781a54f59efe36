//! Login and refresh over HTTP/1.1.
//!
//! Every call has a connection of its own: calls are rare, and on a connection that nobody used
//! before it is certain whether anything was sent. It is driven inside the call's future, so that
//! dropping the future closes the connection and leaves nothing behind.

mod watched;

use std::convert::Infallible;
use std::fmt;
use std::future::pending;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{
    ACCEPT, ACCEPT_ENCODING, AUTHORIZATION, CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, HOST,
    TRANSFER_ENCODING, USER_AGENT,
};
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response};
use http_body_util::{BodyExt as _, Full};
use hyper::body::{Body as _, Incoming};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use secrecy::ExposeSecret as _;
use serde::Serialize;
use zeroize::Zeroizing;

use self::watched::{Sent, Watched};
use super::answer::{Reader, cause};
use super::envelope::{SealError, seal};
use super::{
    Cause, Config, Connector, ConnectorError, LOGIN_PATH, MAX_ANSWER, Outcome, REFRESH_PATH, TokenEndpoint,
    Versions, reason,
};
use crate::clock::{Clock, Moment};
use crate::store::BoxFuture;
use crate::token::RefreshToken;

const PARTNER_CODE: HeaderName = HeaderName::from_static("partner-code");
const JSON: HeaderValue = HeaderValue::from_static("application/json");
const CLOSE: HeaderValue = HeaderValue::from_static("close");
const PRODUCT: HeaderValue = HeaderValue::from_static(concat!("bearerd/", env!("CARGO_PKG_VERSION")));

/// How much longer than its time-out a call that was sent is waited for: enough to look at what has
/// come, and less than what others wait for besides.
const LATE: Duration = Duration::from_millis(100);

/// A partner's token endpoint.
pub struct HttpEndpoint {
    config: Config,
    connector: Connector,
    clock: Arc<dyn Clock>,
}

impl HttpEndpoint {
    /// The token endpoint of the partner that `config` describes.
    ///
    /// # Errors
    ///
    /// What is to be trusted cannot be read, or is nothing.
    pub fn new(config: Config, clock: Arc<dyn Clock>) -> Result<Self, ConnectorError> {
        let connector = Connector::new(
            &config.base_url,
            config.connect_timeout,
            config.ca_file.as_deref(),
            Versions::Http1,
        )?;
        Ok(Self { config, connector, clock })
    }

    /// One call, within `config.timeout` by two clocks: the runtime's timer ends a wait, and the
    /// clock that goes on during suspend keeps a request from being sent once its time is over.
    async fn call(&self, path: &str, body: Result<String, SealError>, by: Moment) -> Outcome {
        let Ok(data) = body else {
            return Outcome::NotSent(bare(reason::ENTROPY));
        };
        let sent = Sent::default();
        let now = self.clock.now();
        let deadline = by.min(now + self.config.timeout);
        let mut exchange = pin!(self.exchange(path, data, &sent, deadline));
        let mut ended = tokio::time::timeout(deadline.since(now), &mut exchange).await;
        if ended.is_err() && sent.any() {
            // After the process was stopped, the timer can be noticed before the answer that has come
            // meanwhile, and that answer holds the only live pair.
            ended = tokio::time::timeout(LATE, &mut exchange).await;
        }
        match ended {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(cause)) => failed(&sent, cause),
            Err(_) => failed(&sent, bare(reason::TIMEOUT)),
        }
    }

    /// Connects, sends, and reads the answer. A cause, if there was none.
    async fn exchange(
        &self,
        path: &str,
        data: String,
        sent: &Sent,
        deadline: Moment,
    ) -> Result<Outcome, Cause> {
        let transport = self.connector.connect_http1().await.map_err(|error| {
            let chain: &(dyn std::error::Error + 'static) = &error;
            tracing::debug!(partner = self.config.name, error = chain, "no connection for a token call");
            bare(error.reason())
        })?;
        let transport = Watched::new(transport, sent.clone(), self.clock.clone(), deadline);
        let (mut sender, connection) = http1::Builder::new()
            .max_buf_size(MAX_ANSWER)
            .handshake::<_, Full<Bytes>>(TokioIo::new(transport))
            .await
            .map_err(|error| broken(&error, sent))?;
        // What ends the connection also ends the exchange, which knows better what it means.
        let drive = async {
            let _ = connection.await;
            pending::<Infallible>().await
        };
        let answer = async {
            let response = sender.send_request(self.request(path, &data)).await;
            self.read(response.map_err(|error| broken(&error, sent))?, sent).await
        };
        tokio::select! {
            answer = answer => answer,
            never = drive => match never {},
        }
    }

    fn request(&self, path: &str, data: &str) -> Request<Full<Bytes>> {
        // Hexadecimal needs no escapes.
        let body = Bytes::from(format!("{{\"data\":\"{data}\"}}"));
        let mut request = Request::new(Full::new(body.clone()));
        *request.method_mut() = http::Method::POST;
        // Made for each call: kept, they would take more room than all else, and calls are rare.
        *request.headers_mut() = headers(&self.config);
        request.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from(body.len()));
        #[expect(clippy::expect_used, reason = "a base URL's path holds nothing that a URI's may not")]
        let uri = format!("{}{path}", self.config.base_url.path()).parse().expect("a path is a URI");
        *request.uri_mut() = uri;
        request
    }

    /// Reads as much of the answer as it takes to know what it means.
    async fn read(&self, response: Response<Incoming>, sent: &Sent) -> Result<Outcome, Cause> {
        let (head, mut body) = response.into_parts();
        let reader = Reader {
            key: &self.config.key,
            iv: self.config.iv,
            repeat_on_5xx: self.config.repeat_on_5xx,
            wall: self.clock.wall(),
        };
        if let Some(outcome) = reader.classify_head(head.status, &head.headers) {
            return Ok(outcome);
        }
        if body.size_hint().lower() > MAX_ANSWER as u64 {
            return Err(cause(reason::TOO_LARGE, head.status));
        }
        // Never grows, because growing would leave copies of the tokens behind.
        let length = body.size_hint().exact().and_then(|length| usize::try_from(length).ok());
        let mut bytes = Zeroizing::new(Vec::with_capacity(length.unwrap_or(MAX_ANSWER)));
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|error| cause(broken(&error, sent).reason, head.status))?;
            let Ok(data) = frame.into_data() else { continue };
            if bytes.len() + data.len() > MAX_ANSWER {
                return Err(cause(reason::TOO_LARGE, head.status));
            }
            bytes.extend_from_slice(&data);
        }
        Ok(reader.classify(head.status, &head.headers, &bytes))
    }

    /// Seals `plaintext`, which says `texts`.
    fn seal(&self, plaintext: &impl Serialize, texts: &[&str]) -> Result<String, SealError> {
        const AROUND: usize = 256;
        const LONGEST_ESCAPE: usize = r"\u0000".len();
        // Never grows, because growing would leave copies behind.
        let room = AROUND + LONGEST_ESCAPE * texts.iter().map(|text| text.len()).sum::<usize>();
        let mut json = Zeroizing::new(Vec::with_capacity(room));
        // Neither serializing strings nor writing to memory can fail; if it did, nothing would be
        // sent.
        serde_json::to_writer(&mut *json, plaintext).map_err(|_| SealError)?;
        debug_assert!(json.len() <= room);
        seal(&self.config.key, self.config.iv, &json)
    }
}

impl TokenEndpoint for HttpEndpoint {
    fn refresh<'a>(&'a self, token: &'a RefreshToken, by: Moment) -> BoxFuture<'a, Outcome> {
        #[derive(Serialize)]
        struct Plaintext<'a> {
            refresh_token: &'a str,
        }

        Box::pin(async move {
            let body = self.seal(&Plaintext { refresh_token: token.expose() }, &[token.expose()]);
            self.call(REFRESH_PATH, body, by).await
        })
    }

    fn login(&self, by: Moment) -> BoxFuture<'_, Outcome> {
        #[derive(Serialize)]
        struct Plaintext<'a> {
            username: &'a str,
            password: &'a str,
            client_id: &'a str,
            client_secret: &'a str,
        }

        Box::pin(async move {
            let Some(login) = &self.config.login else {
                return Outcome::Refused(bare(reason::NO_LOGIN));
            };
            let plaintext = Plaintext {
                username: &login.username,
                password: login.password.expose_secret(),
                client_id: &login.client_id,
                client_secret: login.client_secret.expose_secret(),
            };
            let Plaintext { username, password, client_id, client_secret } = plaintext;
            let body = self.seal(&plaintext, &[username, password, client_id, client_secret]);
            self.call(LOGIN_PATH, body, by).await
        })
    }
}

impl fmt::Debug for HttpEndpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpEndpoint").field("config", &self.config).finish_non_exhaustive()
    }
}

/// The headers of every call. What is configured goes first, so that it cannot take the place of
/// what the call needs, and can add neither credentials nor a coding.
fn headers(config: &Config) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in &config.headers {
        headers.append(name, value.clone());
    }
    for name in [AUTHORIZATION, ACCEPT_ENCODING, TRANSFER_ENCODING] {
        headers.remove(name);
    }
    #[expect(clippy::expect_used, reason = "a base URL's authority holds letters, digits and -._:[] only")]
    let host = HeaderValue::try_from(config.base_url.authority()).expect("an authority is a header value");
    headers.insert(HOST, host);
    headers.insert(USER_AGENT, PRODUCT);
    headers.insert(ACCEPT, JSON);
    headers.insert(CONTENT_TYPE, JSON);
    headers.insert(CONNECTION, CLOSE);
    headers.insert(PARTNER_CODE, config.partner_code.clone());
    headers
}

/// The outcome of a call that got no answer: all that matters is whether anything was sent.
fn failed(sent: &Sent, cause: Cause) -> Outcome {
    if sent.any() { Outcome::Unknown(cause) } else { Outcome::NotSent(cause) }
}

/// Why the connection broke. The library's error is not kept: it may quote what was received.
fn broken(error: &hyper::Error, sent: &Sent) -> Cause {
    bare(match error {
        _ if sent.too_late() => reason::TIMEOUT,
        e if e.is_parse_too_large() => reason::TOO_LARGE,
        e if e.is_parse() => reason::MALFORMED,
        _ => reason::CLOSED,
    })
}

fn bare(reason: &'static str) -> Cause {
    Cause { reason, status: None }
}

#[cfg(test)]
mod tests;
