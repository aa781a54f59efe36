//! A peer that answers whatever comes with the bytes it was given, however wrong they are.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use super::DEADLINE;

/// A peer that reads one head on each connection, sends its bytes, and closes.
pub(crate) struct RawPeer {
    address: SocketAddr,
    connections: Arc<AtomicUsize>,
}

impl RawPeer {
    pub(crate) fn answering(bytes: impl Into<Vec<u8>>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let connections = Arc::new(AtomicUsize::new(0));
        let (bytes, count) = (bytes.into(), Arc::clone(&connections));
        // The thread ends with the test's process; a listener has nothing that would need an
        // orderly end.
        thread::spawn(move || {
            for stream in listener.incoming() {
                let Ok(mut stream) = stream else { return };
                count.fetch_add(1, Ordering::SeqCst);
                let _bounded = stream.set_read_timeout(Some(DEADLINE));
                let (mut head, mut byte) = (Vec::new(), [0]);
                while !head.ends_with(b"\r\n\r\n") && stream.read_exact(&mut byte).is_ok() {
                    head.push(byte[0]);
                }
                let _gone = stream.write_all(&bytes);
                let _gone = stream.shutdown(Shutdown::Write);
            }
        });
        Self { address, connections }
    }

    /// A peer that does this with each connection, and then closes it.
    pub(crate) fn doing(act: impl Fn(&mut TcpStream) + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let connections = Arc::new(AtomicUsize::new(0));
        let (act, count) = (Arc::new(act), Arc::clone(&connections));
        thread::spawn(move || {
            for stream in listener.incoming() {
                let Ok(mut stream) = stream else { return };
                count.fetch_add(1, Ordering::SeqCst);
                let _bounded = stream.set_read_timeout(Some(DEADLINE));
                let act = Arc::clone(&act);
                thread::spawn(move || act(&mut stream));
            }
        });
        Self { address, connections }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(crate) fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }
}
