//! A partner on loopback that does what it is told, counts what it sees, and lives on threads of
//! its own.

use std::collections::HashMap;
use std::io;
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread;
use std::time::Duration;

use serde_json::json;
use socket2::SockRef;
use tokio_rustls::rustls::ServerConfig;

use super::exchange::{Exchange, Seen};
use super::gate::Gate;
use super::http::{Answer, Fields, Wire};
use super::issuer::{Call, Issuer, Refresh};
use super::secrets::marked;
use super::tls::{self, Socket};
use super::{DEADLINE, envelope};

pub(crate) const LOGIN: &str = "/openapi/v1/auth/login";
pub(crate) const REFRESH: &str = "/openapi/v1/auth/refresh";
pub(crate) const CODE: &str = "MERCHANT-7";

pub(crate) type Script = Arc<dyn Fn(&mut Exchange<'_>) -> io::Result<()> + Send + Sync>;

/// The partner. Dropping it closes the listener and every connection.
pub(crate) struct Partner {
    address: SocketAddr,
    ca: Option<String>,
    shared: Arc<Shared>,
}

/// What the partner's threads share with the test.
pub(crate) struct Shared {
    issuer: Mutex<Issuer>,
    seen: Mutex<Vec<Seen>>,
    /// By path; the flag says whether the token is checked first.
    scripts: Mutex<HashMap<String, (bool, Script)>>,
    base: String,
    tls: Option<Arc<ServerConfig>>,
    /// Those that are open, by the number of the connection.
    streams: Mutex<HashMap<usize, TcpStream>>,
    open: AtomicUsize,
    /// Answers given while a refresh call was under way.
    meanwhile: AtomicUsize,
    rejected: AtomicUsize,
    stopped: AtomicBool,
}

impl Partner {
    /// A partner in clear.
    pub(crate) fn new() -> Self {
        Self::start("", None, None)
    }

    /// A partner whose base URL has a path.
    pub(crate) fn below(base: &str) -> Self {
        Self::start(base, None, None)
    }

    /// A partner over TLS, under an authority of its own.
    pub(crate) fn over_tls() -> Self {
        let (config, ca) = tls::identity();
        Self::start("", Some(config), Some(ca))
    }

    /// A partner over TLS with this identity; the authority that bearerd is given is `ca`.
    pub(crate) fn with_identity(identity: Arc<ServerConfig>, ca: String) -> Self {
        Self::start("", Some(identity), Some(ca))
    }

    fn start(base: &str, tls: Option<Arc<ServerConfig>>, ca: Option<String>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        // Hundreds connect at the same moment, and the library keeps room for 128.
        SockRef::from(&listener).listen(1024).unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            issuer: Mutex::new(Issuer::new()),
            seen: Mutex::default(),
            scripts: Mutex::default(),
            base: base.to_owned(),
            tls,
            streams: Mutex::default(),
            open: AtomicUsize::new(0),
            meanwhile: AtomicUsize::new(0),
            rejected: AtomicUsize::new(0),
            stopped: AtomicBool::new(false),
        });
        let for_thread = Arc::clone(&shared);
        thread::spawn(move || accept(&listener, &for_thread));
        Self { address, ca, shared }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(crate) fn base_url(&self) -> String {
        let scheme = if self.ca.is_some() { "https" } else { "http" };
        format!("{scheme}://{}{}", self.address, self.shared.base)
    }

    /// The authority that vouches for the partner, in PEM.
    pub(crate) fn ca(&self) -> Option<&str> {
        self.ca.as_deref()
    }

    /// Never handed out: a test that held on to it would stop the partner.
    fn issuer(&self) -> MutexGuard<'_, Issuer> {
        self.shared.issuer.lock().unwrap()
    }

    /// The refresh token to begin with.
    pub(crate) fn seed(&self) -> String {
        self.issuer().seed()
    }

    /// A refresh token that lives, for an operator to load.
    pub(crate) fn fresh_refresh_token(&self) -> String {
        self.issuer().fresh_refresh_token()
    }

    /// An answer with a new access token and no refresh token: `token` stays good.
    pub(crate) fn pair_keeping(&self, token: &str) -> Answer {
        self.issuer().pair_keeping(token)
    }

    /// Whether the fields carry an access token that lives, and nothing besides.
    pub(crate) fn authorized(&self, fields: &Fields) -> bool {
        self.issuer().authorized(fields)
    }

    /// Every request but login and refresh, in the order of arrival.
    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.shared.seen.lock().unwrap().iter().filter(|seen| !is_auth(&seen.target)).cloned().collect()
    }

    /// The requests for `path`, whatever their query.
    pub(crate) fn seen_at(&self, path: &str) -> Vec<Seen> {
        self.seen().into_iter().filter(|seen| seen.target.split('?').next() == Some(path)).collect()
    }

    /// The one request that came.
    #[track_caller]
    pub(crate) fn only(&self) -> Seen {
        let mut seen = self.seen();
        assert_eq!(seen.len(), 1, "{seen:#?}");
        seen.remove(0)
    }

    /// How many refresh calls came.
    pub(crate) fn refreshes(&self) -> usize {
        self.issuer().refreshes.len()
    }

    /// The refresh calls in the order of arrival.
    pub(crate) fn refresh_calls(&self) -> Vec<Call> {
        self.issuer().refreshes.clone()
    }

    pub(crate) fn refresh_call(&self, index: usize) -> Call {
        self.issuer().refreshes[index].clone()
    }

    /// How many refresh calls are being answered.
    pub(crate) fn refreshes_in_progress(&self) -> usize {
        self.issuer().in_progress
    }

    pub(crate) fn login_call(&self, index: usize) -> Call {
        self.issuer().logins[index].clone()
    }

    /// How many logins came.
    pub(crate) fn logins(&self) -> usize {
        self.issuer().logins.len()
    }

    /// How many requests came with a token that was not taken.
    pub(crate) fn rejected(&self) -> usize {
        self.shared.rejected.load(Ordering::SeqCst)
    }

    /// How many answers were given while a refresh call was under way.
    pub(crate) fn answered_meanwhile(&self) -> usize {
        self.shared.meanwhile.load(Ordering::SeqCst)
    }

    /// Closes every connection.
    pub(crate) fn close_connections(&self) {
        for (_, stream) in self.shared.streams.lock().unwrap().drain() {
            let _gone = stream.shutdown(Shutdown::Both);
        }
    }

    /// How many connections are open.
    pub(crate) fn open_connections(&self) -> usize {
        self.shared.open.load(Ordering::SeqCst)
    }

    /// How often a spent refresh token was presented and, thanks to the grace, taken.
    pub(crate) fn graced(&self) -> usize {
        self.issuer().graced
    }

    /// How often a spent refresh token was presented in vain.
    pub(crate) fn spent_presented(&self) -> usize {
        self.issuer().spent_presented
    }

    #[track_caller]
    pub(crate) fn assert_no_spent_token_seen(&self) {
        assert_eq!(self.spent_presented(), 0, "a spent refresh token was presented");
    }

    /// From now on refresh calls take `lifetime` as that of the tokens they give.
    pub(crate) fn lifetime(&self, lifetime: Duration) {
        self.issuer().lifetime = lifetime;
    }

    /// From now on a spent refresh token is still taken for this long.
    pub(crate) fn grace(&self, grace: Duration) {
        self.issuer().grace = grace;
    }

    /// From now on refresh calls take this long.
    pub(crate) fn refresh_delay(&self, delay: Duration) {
        self.issuer().delay = delay;
    }

    /// From now on logins are refused.
    pub(crate) fn refuse_logins(&self) {
        self.issuer().accept_logins = false;
    }

    /// From now on a new pair makes every refresh token before it worthless.
    pub(crate) fn keep_newest_only(&self) {
        self.issuer().newest_only = true;
    }

    /// From now on refresh calls are held.
    pub(crate) fn hold_refreshes(&self) -> Gate {
        let gate = Gate::shut();
        self.issuer().gate = Some(gate.clone());
        gate
    }

    /// The next refresh call that has no script yet gets this one.
    pub(crate) fn script_refresh(&self, script: Refresh) {
        self.issuer().scripts.push_back(script);
    }

    /// From now on no refresh token issued so far is taken.
    pub(crate) fn revoke_refresh(&self) {
        self.issuer().revoke_refresh();
    }

    /// From now on no access token issued so far is taken.
    pub(crate) fn revoke_access(&self) {
        self.issuer().revoke_access();
    }

    /// Requests for `path` that carry a good token are answered by `script`.
    pub(crate) fn on(
        &self,
        path: &str,
        script: impl Fn(&mut Exchange<'_>) -> io::Result<()> + Send + Sync + 'static,
    ) {
        self.shared.scripts.lock().unwrap().insert(path.to_owned(), (true, Arc::new(script)));
    }

    /// Requests for `path` are answered by `script`, whatever token they carry.
    pub(crate) fn on_any(
        &self,
        path: &str,
        script: impl Fn(&mut Exchange<'_>) -> io::Result<()> + Send + Sync + 'static,
    ) {
        self.shared.scripts.lock().unwrap().insert(path.to_owned(), (false, Arc::new(script)));
    }
}

impl Drop for Partner {
    fn drop(&mut self) {
        self.shared.stopped.store(true, Ordering::SeqCst);
        drop(TcpStream::connect(self.address));
        self.close_connections();
    }
}

impl Shared {
    /// Notes a request; its body is added as it arrives.
    pub(crate) fn record(&self, seen: Seen) -> usize {
        let mut all = self.seen.lock().unwrap();
        all.push(seen);
        all.len() - 1
    }

    pub(crate) fn update(&self, index: usize, part: Option<&[u8]>, now: &Seen) {
        let mut all = self.seen.lock().unwrap();
        let seen = &mut all[index];
        seen.body.extend_from_slice(part.unwrap_or_default());
        seen.trailers.clone_from(&now.trailers);
        seen.complete = now.complete;
    }

    fn answer(&self, x: &mut Exchange<'_>) -> io::Result<()> {
        match x.path().strip_prefix(&self.base) {
            Some(LOGIN) => return self.login(x),
            Some(REFRESH) => return self.refresh(x),
            _ => {}
        }
        let scripted = self.scripts.lock().unwrap().get(x.path()).cloned();
        let check = scripted.as_ref().is_none_or(|(check, _)| *check);
        let known = x.seen.fields.all("partner-code") == [CODE];
        if check && !(known && self.issuer.lock().unwrap().authorized(&x.seen.fields)) {
            self.rejected.fetch_add(1, Ordering::SeqCst);
            x.body()?;
            return x.unauthorized();
        }
        match scripted {
            Some((_, script)) => script(x)?,
            None => {
                x.body()?;
                x.answer(&Answer::json(200, &json!({"ok": true})))?;
            }
        }
        if self.issuer.lock().unwrap().in_progress > 0 {
            self.meanwhile.fetch_add(1, Ordering::SeqCst);
        }
        Ok(())
    }

    fn call(x: &mut Exchange<'_>) -> io::Result<Call> {
        x.body()?;
        Ok(Call {
            target: x.seen.target.clone(),
            fields: x.seen.fields.clone(),
            body: x.seen.body.clone(),
            opened: envelope::open(&x.seen.body),
        })
    }

    fn login(&self, x: &mut Exchange<'_>) -> io::Result<()> {
        let call = Self::call(x)?;
        let expected = json!({
            "username": "merchant",
            "password": marked("password"),
            "client_id": "client",
            "client_secret": marked("client-secret"),
        });
        let answer = {
            let mut issuer = self.issuer.lock().unwrap();
            let good = issuer.accept_logins && call.opened == Some(expected);
            issuer.logins.push(call);
            match good {
                true => Answer::json(200, &issuer.pair()),
                false => Answer::json(400, &json!({"error": "invalid_client"})),
            }
        };
        x.answer(&answer)
    }

    fn refresh(&self, x: &mut Exchange<'_>) -> io::Result<()> {
        let call = Self::call(x)?;
        let token =
            call.opened.as_ref().and_then(|o| o["refresh_token"].as_str()).unwrap_or_default().to_owned();
        let (gate, delay, script) = {
            let mut issuer = self.issuer.lock().unwrap();
            issuer.refreshes.push(call);
            issuer.in_progress += 1;
            (issuer.gate.clone(), issuer.delay, issuer.scripts.pop_front())
        };
        if let Some(gate) = gate {
            gate.wait();
        }
        thread::sleep(delay);
        if let Some(Refresh::RotatedThen(act)) = script {
            let refused = {
                let mut issuer = self.issuer.lock().unwrap();
                issuer.in_progress -= 1;
                issuer.rotate(&token).err()
            };
            return match refused {
                Some(refusal) => x.answer(&refusal),
                None => act.on(x),
            };
        }
        let answer = {
            let mut issuer = self.issuer.lock().unwrap();
            issuer.in_progress -= 1;
            match script {
                Some(Refresh::Instead(answer)) => Some(answer),
                Some(Refresh::Lost) => issuer.rotate(&token).err(),
                Some(Refresh::RotatedBut(answer)) => Some(issuer.rotate(&token).err().unwrap_or(answer)),
                None | Some(Refresh::RotatedThen(_)) => Some(issuer.renew(&token, &json!({}))),
                Some(Refresh::With(changes)) => Some(issuer.renew(&token, &changes)),
            }
        };
        match answer {
            Some(answer) => x.answer(&answer),
            None => x.close(),
        }
    }
}

fn is_auth(target: &str) -> bool {
    target.ends_with(LOGIN) || target.ends_with(REFRESH)
}

fn accept(listener: &TcpListener, shared: &Arc<Shared>) {
    for connection in 0.. {
        let (stream, _) = listener.accept().unwrap();
        if shared.stopped.load(Ordering::SeqCst) {
            return;
        }
        let shared = Arc::clone(shared);
        // A thousand connections at once are usual here, so their stacks are small.
        thread::Builder::new()
            .stack_size(256 * 1024)
            .spawn(move || serve(stream, connection, &shared))
            .unwrap();
    }
}

fn serve(stream: TcpStream, connection: usize, shared: &Arc<Shared>) {
    let _prompt = stream.set_nodelay(true);
    let _bounded = stream.set_read_timeout(Some(DEADLINE * 2));
    shared.streams.lock().unwrap().insert(connection, stream.try_clone().unwrap());
    shared.open.fetch_add(1, Ordering::SeqCst);
    let mut wire = Wire::new(Socket::new(stream, shared.tls.clone()));
    while let Ok(Some(head)) = wire.head() {
        let mut exchange = Exchange::new(&mut wire, head, connection, Arc::clone(shared));
        let done = shared.answer(&mut exchange);
        if !exchange.finish() || done.is_err() {
            break;
        }
    }
    let _gone = wire.io.tcp().shutdown(Shutdown::Both);
    shared.streams.lock().unwrap().remove(&connection);
    shared.open.fetch_sub(1, Ordering::SeqCst);
}
