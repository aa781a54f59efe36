//! The threads that wait for the disk.

use std::io;

use tokio::runtime::{Builder, Runtime};
use tokio::task::JoinHandle;

/// How many saves wait for the disk at once. Of more, each would only wait longer: the file system
/// writes out what several ask for together.
const THREADS: usize = 32;

/// A few threads of the store's own. On those that all share, a pair could wait to be saved behind
/// hundreds of names that nobody resolves.
#[derive(Debug)]
pub(super) struct Threads(Option<Runtime>);

impl Threads {
    pub(super) fn new() -> io::Result<Self> {
        // Runs no task; its pool for what blocks is all that is wanted. Idle threads end.
        let mut builder = Builder::new_current_thread();
        builder.thread_name("store").max_blocking_threads(THREADS).build().map(|runtime| Self(Some(runtime)))
    }

    /// Runs `work` as soon as a thread is free, in the order of the calls, whether or not anybody
    /// waits for the result.
    pub(super) fn run<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> JoinHandle<T> {
        #[expect(clippy::expect_used, reason = "taken only when this is dropped")]
        self.0.as_ref().expect("a runtime").spawn_blocking(work)
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        // Nothing is left to wait for: what is under way keeps this.
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}
