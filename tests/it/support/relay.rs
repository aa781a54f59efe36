//! A connection that can go dead: what is between two parties when a network is cut.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;

/// Passes bytes on to one address, except while it is cut: then it takes connections and bytes, and
/// nothing comes of them.
pub(crate) struct Relay {
    address: SocketAddr,
    cut: Arc<(Mutex<Cut>, Condvar)>,
}

#[derive(Clone, Copy, Default)]
struct Cut {
    there: bool,
    back: bool,
}

impl Relay {
    pub(crate) fn to(target: SocketAddr) -> Self {
        Self::through(TcpListener::bind("127.0.0.1:0").unwrap(), target)
    }

    /// What comes to `listener` goes to `target`.
    pub(crate) fn through(listener: TcpListener, target: SocketAddr) -> Self {
        let address = listener.local_addr().unwrap();
        let cut = Arc::new((Mutex::new(Cut::default()), Condvar::new()));
        let shared = Arc::clone(&cut);
        // Ends with the test's process.
        thread::spawn(move || {
            for near in listener.incoming().map_while(Result::ok) {
                // Nobody may be there.
                let Ok(far) = TcpStream::connect(target) else { continue };
                let (near_too, far_too) = (near.try_clone().unwrap(), far.try_clone().unwrap());
                let (one, other) = (Arc::clone(&shared), Arc::clone(&shared));
                thread::spawn(move || pass_on(near, far, &one, |cut| cut.there));
                thread::spawn(move || pass_on(far_too, near_too, &other, |cut| cut.back));
            }
        });
        Self { address, cut }
    }

    pub(crate) fn port(&self) -> u16 {
        self.address.port()
    }

    /// From here on nothing gets through.
    pub(crate) fn cut(&self) {
        *self.cut.0.lock().unwrap() = Cut { there: true, back: true };
    }

    /// From here on what is asked arrives, and nothing is heard of it.
    pub(crate) fn cut_answers(&self) {
        self.cut.0.lock().unwrap().back = true;
    }

    /// What was held up meanwhile gets through, and all that follows.
    pub(crate) fn mend(&self) {
        *self.cut.0.lock().unwrap() = Cut::default();
        self.cut.1.notify_all();
    }
}

fn pass_on(mut from: TcpStream, mut to: TcpStream, cut: &(Mutex<Cut>, Condvar), is_cut: fn(&Cut) -> bool) {
    let mut room = [0; 16 * 1024];
    while let Ok(read) = from.read(&mut room) {
        let held = cut.0.lock().unwrap();
        drop(cut.1.wait_while(held, |cut| is_cut(cut)).unwrap());
        if read == 0 || to.write_all(&room[..read]).is_err() {
            break;
        }
    }
    // Either side may have gone.
    let _ = to.shutdown(Shutdown::Write);
}
