//! A place where the partner waits until the test lets it go on.

use std::sync::{Arc, Condvar, Mutex};

use super::{DEADLINE, eventually};

/// Holds whoever waits at it until it is opened.
#[derive(Clone, Default)]
pub(crate) struct Gate(Arc<(Mutex<State>, Condvar)>);

#[derive(Default)]
struct State {
    arrived: usize,
    open: bool,
}

impl Gate {
    /// A gate that is shut.
    pub(crate) fn shut() -> Self {
        Self::default()
    }

    /// Waits at the gate, on the partner's side.
    pub(crate) fn wait(&self) {
        let (state, opened) = &*self.0;
        let mut state = state.lock().unwrap();
        state.arrived += 1;
        drop(opened.wait_timeout_while(state, DEADLINE, |state| !state.open).unwrap());
    }

    /// Waits until `count` have arrived at the gate since it was made.
    #[track_caller]
    pub(crate) fn await_arrivals(&self, count: usize) {
        eventually(&format!("{count} at the gate"), || self.arrivals() >= count);
    }

    /// How many have arrived at the gate since it was made.
    pub(crate) fn arrivals(&self) -> usize {
        self.0.0.lock().unwrap().arrived
    }

    /// Lets everybody pass, now and later.
    pub(crate) fn open(&self) {
        let (state, opened) = &*self.0;
        state.lock().unwrap().open = true;
        opened.notify_all();
    }
}
