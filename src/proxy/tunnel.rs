//! Another protocol on the same connection, once the partner has agreed to it with a 101.

use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::{Instant, timeout_at};

use super::exchange::InFlight;
use crate::upstream::Upgraded;

/// A connection on which the partner has agreed to another protocol, and which waits for the
/// client's. Nothing of the client's has gone to the partner before this.
pub struct Tunnel {
    pub(super) partner: Upgraded,
    pub(super) idle_timeout: Duration,
    /// A tunnel costs what an exchange does.
    pub(super) _in_flight: Option<InFlight>,
}

impl Tunnel {
    /// Carries bytes both ways until one side closes or both stand still for too long. `client` has
    /// got the 101.
    pub async fn carry(self, client: impl AsyncRead + AsyncWrite) {
        let Self { partner, idle_timeout, _in_flight } = self;
        carry(client, partner, idle_timeout).await;
    }
}

impl std::fmt::Debug for Tunnel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tunnel").finish_non_exhaustive()
    }
}

async fn carry(client: impl AsyncRead + AsyncWrite, partner: Upgraded, idle_timeout: Duration) {
    let Upgraded { io, read, .. } = &mut { partner };
    let (mut from_client, mut to_client) = tokio::io::split(client);
    let (from_partner, mut to_partner) = tokio::io::split(io);
    let mut from_partner = AsyncReadExt::chain(&read[..], from_partner);
    let last = std::cell::Cell::new(Instant::now());
    // An error on either side ends both: half a tunnel is of use to nobody.
    let _ = tokio::try_join!(
        copy(&mut from_client, &mut to_partner, &last, idle_timeout),
        copy(&mut from_partner, &mut to_client, &last, idle_timeout),
    );
}

/// Copies until the end of `from`; an error if neither direction moved for `idle_timeout`.
async fn copy(
    from: &mut (impl AsyncRead + Unpin),
    to: &mut (impl AsyncWrite + Unpin),
    last: &std::cell::Cell<Instant>,
    idle_timeout: Duration,
) -> std::io::Result<()> {
    let mut buffer = vec![0; 16 * 1024];
    loop {
        let Ok(read) = timeout_at(last.get() + idle_timeout, from.read(&mut buffer)).await else {
            if last.get().elapsed() < idle_timeout {
                continue; // The other direction has moved since.
            }
            return Err(std::io::ErrorKind::TimedOut.into());
        };
        let read = read?;
        if read == 0 {
            return to.shutdown().await;
        }
        let write = async {
            to.write_all(&buffer[..read]).await?;
            // TLS keeps what the connection does not take at once until it is asked again.
            to.flush().await
        };
        timeout_at(Instant::now() + idle_timeout, write).await??;
        last.set(Instant::now());
    }
}
