//! Sockets that listen.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use socket2::{Domain, Protocol, SockAddr, Type};

use super::ListenAddr;

/// How many connections the system keeps until they are accepted.
const BACKLOG: i32 = 1024;

/// A socket that listens, not yet part of any runtime.
#[derive(Debug)]
pub enum Socket {
    /// Over TCP.
    Tcp(TcpListener),
    /// On a path, which only the owner of the process may connect to.
    Unix(UnixListener, PathBuf),
}

impl Socket {
    /// Binds `addr` for one runtime.
    ///
    /// # Errors
    ///
    /// As the system says; `AddrInUse` also if somebody answers on the path of a unix socket.
    pub fn bind(addr: &ListenAddr) -> io::Result<Self> {
        match addr {
            ListenAddr::Tcp(addr) => Ok(Self::Tcp(bind_tcp(*addr, false)?)),
            ListenAddr::Unix(path) => Ok(Self::Unix(bind_unix(path)?, path.clone())),
        }
    }

    /// Binds `addr` for `count` runtimes: a TCP socket each, among which the system spreads
    /// connections, or one unix socket for all.
    ///
    /// # Errors
    ///
    /// As [`bind`](Self::bind); another process on the same port is noticed although sockets that
    /// share a port are used.
    pub fn bind_shared(addr: &ListenAddr, count: usize) -> io::Result<Vec<Self>> {
        match addr {
            ListenAddr::Tcp(addr) => {
                // Without SO_REUSEPORT this fails if anybody else listens there.
                let probe = bind_tcp(*addr, false)?;
                let addr = probe.local_addr()?;
                drop(probe);
                (0..count).map(|_| Ok(Self::Tcp(bind_tcp(addr, true)?))).collect()
            }
            ListenAddr::Unix(path) => {
                let first = bind_unix(path)?;
                let mut sockets = Vec::with_capacity(count);
                for _ in 1..count {
                    sockets.push(Self::Unix(first.try_clone()?, path.clone()));
                }
                sockets.push(Self::Unix(first, path.clone()));
                Ok(sockets)
            }
        }
    }

    /// Where it listens, the port filled in.
    ///
    /// # Errors
    ///
    /// As the system says.
    pub fn local_addr(&self) -> io::Result<ListenAddr> {
        match self {
            Self::Tcp(listener) => Ok(ListenAddr::Tcp(listener.local_addr()?)),
            Self::Unix(_, path) => Ok(ListenAddr::Unix(path.clone())),
        }
    }
}

fn bind_tcp(addr: SocketAddr, shared: bool) -> io::Result<TcpListener> {
    let socket = socket2::Socket::new(Domain::for_address(addr), Type::STREAM, Some(Protocol::TCP))?;
    // Lets a restart bind while old connections are in TIME_WAIT; a listener is still in the way.
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(shared)?;
    socket.set_nonblocking(true)?;
    socket.bind(&SockAddr::from(addr))?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

fn bind_unix(path: &Path) -> io::Result<UnixListener> {
    if UnixStream::connect(path).is_ok() {
        return Err(io::ErrorKind::AddrInUse.into());
    }
    // Bound under another name and renamed once its mode is right, so that nobody else can connect
    // in between. The rename also replaces what an earlier run left behind.
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}", std::process::id()));
    let temporary = path.with_file_name(name);
    let _ = std::fs::remove_file(&temporary);
    let listener = UnixListener::bind(&temporary)?;
    let in_place = std::fs::set_permissions(&temporary, std::fs::Permissions::from_mode(0o600))
        .and_then(|()| Ok(rustix::fs::rename(&temporary, path)?));
    if let Err(error) = in_place {
        let _ = std::fs::remove_file(&temporary);
        return Err(error);
    }
    listener.set_nonblocking(true)?;
    Ok(listener)
}
