//! An upload that outlasts the head of its answer.

use tokio::task::AbortHandle;

/// What is left of a request on its way out; given up when dropped.
pub(super) struct Upload(AbortHandle);

impl Upload {
    /// Goes on with `rest` by itself.
    pub(super) fn spawn(rest: impl Future<Output = ()> + 'static) -> Self {
        Self(tokio::task::spawn_local(rest).abort_handle())
    }

    /// Whether nothing is left of it.
    pub(super) fn is_finished(&self) -> bool {
        self.0.is_finished()
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        self.0.abort();
    }
}
