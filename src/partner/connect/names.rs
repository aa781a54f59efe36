//! Names, which the system resolves.
//!
//! A look-up has a thread to itself, and goes on though nobody waits for it any more. While the resolver is
//! silent there are only so many of them: if each request left one behind, whoever asks when the resolver
//! is back would stand behind all of those. There are enough that a few which are stuck keep no other
//! waiting.

use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs as _};
use std::sync::Arc;

use tokio::sync::Semaphore;
use tokio::task::spawn_blocking;

/// How many look-ups for one partner are under way at once.
const AT_ONCE: usize = 64;

/// The names of one partner.
#[derive(Clone)]
pub(super) struct Names(Arc<Semaphore>);

impl Names {
    pub(super) fn new() -> Self {
        Self(Arc::new(Semaphore::new(AT_ONCE)))
    }

    /// The addresses of `host`.
    pub(super) async fn look_up(&self, host: &Arc<str>, port: u16) -> io::Result<Vec<SocketAddr>> {
        if let Ok(address) = host.parse::<IpAddr>() {
            return Ok(vec![SocketAddr::new(address, port)]);
        }
        let host = Arc::clone(host);
        self.run(move || Ok((&*host, port).to_socket_addrs()?.collect())).await
    }

    async fn run<T: Send + 'static>(
        &self,
        look_up: impl FnOnce() -> io::Result<T> + Send + 'static,
    ) -> io::Result<T> {
        let place = Arc::clone(&self.0).acquire_owned().await.map_err(io::Error::other)?;
        let found = spawn_blocking(move || {
            let _place = place;
            look_up()
        });
        found.await?
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::pin::pin;
    use std::sync::mpsc;
    use std::task::Poll;

    use super::*;

    #[tokio::test]
    async fn look_ups_that_nobody_waits_for_any_more_do_not_pile_up() {
        let names = Names::new();
        let (begin, begun) = mpsc::channel();
        let mut silent = Vec::new();
        for number in 0..3 * AT_ONCE {
            let (answer, answered) = mpsc::channel::<()>();
            let begin = begin.clone();
            let mut one = pin!(names.run(move || {
                begin.send(number).unwrap();
                Ok(answered.recv().is_ok())
            }));
            // Asked once, and then given up.
            assert!(poll_fn(|cx| Poll::Ready(one.as_mut().poll(cx).is_pending())).await);
            silent.push(answer);
            if number < AT_ONCE {
                assert_eq!(begun.recv(), Ok(number));
            }
        }
        // When the resolver is back nothing stands before the next.
        drop(silent);
        assert_eq!(names.run(move || Ok(begin.send(usize::MAX))).await.unwrap(), Ok(()));
        assert_eq!(begun.recv(), Ok(usize::MAX));
        assert!(begun.recv().is_err(), "another was begun");
    }

    #[tokio::test]
    async fn an_address_needs_no_look_up() {
        let names = Names::new();
        names.0.close();
        for (host, shown) in [("127.0.0.1", "127.0.0.1:1"), ("::1", "[::1]:1")] {
            let found = names.look_up(&host.into(), 1).await.unwrap();
            assert_eq!(found.iter().map(ToString::to_string).collect::<Vec<_>>(), [shown]);
        }
        assert!(names.look_up(&"localhost".into(), 1).await.is_err());
    }
}
