// SPDX-License-Identifier: Apache-2.0
//! Where vCPUs stand still: the event loop closes the gate and interrupts them, each comes to it out of the guest, and the last one
//! says so.
//!
//! ```text
//! open --close, signal to each vCPU--> closed --the last one has come--> still --open--> open
//! ```
//!
//! The event loop never waits for vCPUs: one of them may wait for the event loop, with an order for a device or a console that is
//! full, and comes to the gate behind that.

use std::sync::{Condvar, Mutex, PoisonError};

use vmm_sys_util::eventfd::EventFd;

use crate::kick::Thread;
use crate::lock::lock;

/// One for all vCPUs of a machine.
pub(crate) struct Gate {
    state: Mutex<State>,
    opened: Condvar,
    /// Written when the last vCPU has come.
    still: EventFd,
}

#[derive(Default)]
struct State {
    closed: bool,
    standing: usize,
    threads: Vec<Thread>,
}

impl Gate {
    /// Open. `still` is written when all stand.
    pub(crate) fn new(still: EventFd) -> Gate {
        Gate {
            state: Mutex::default(),
            opened: Condvar::new(),
            still,
        }
    }

    /// This thread is a vCPU's. All have to say so before the first one runs.
    pub(crate) fn join(&self, thread: Thread) {
        lock(&self.state).threads.push(thread);
    }

    /// On a vCPU's thread, out of the guest: stands here while the gate is closed.
    pub(crate) fn pass(&self) {
        let mut state = lock(&self.state);
        if !state.closed {
            return;
        }
        state.standing += 1;
        if state.standing == state.threads.len() {
            // Fails only when 2^64 - 2 wake-ups wait.
            let _ = self.still.write(1);
        }
        while state.closed {
            state = self
                .opened
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
        }
        state.standing -= 1;
    }

    /// On the event loop: closes the gate and fetches everybody out of the guest.
    pub(crate) fn close(&self) {
        let mut state = lock(&self.state);
        state.closed = true;
        if state.standing == state.threads.len() {
            // They have not gone on since it was opened last: nobody will come and say so.
            let _ = self.still.write(1);
        }
        for thread in &state.threads {
            thread.kick();
        }
    }

    /// Lets everybody go on.
    pub(crate) fn open(&self) {
        lock(&self.state).closed = false;
        self.opened.notify_all();
    }

    /// Whether all stand, and have to.
    pub(crate) fn is_still(&self) -> bool {
        let state = lock(&self.state);
        state.closed && state.standing == state.threads.len()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::thread;

    use super::*;
    use crate::kick;

    #[test]
    fn threads_that_go_round_stand_still_together_and_go_on_together() {
        kick::install().unwrap();
        let still = EventFd::new(0).unwrap();
        let gate = Arc::new(Gate::new(still.try_clone().unwrap()));
        let rounds: Arc<[AtomicU64; 3]> = Arc::default();
        for n in 0..3 {
            let (gate, rounds) = (gate.clone(), rounds.clone());
            thread::spawn(move || {
                gate.join(Thread::this().unwrap());
                loop {
                    gate.pass();
                    rounds[n].fetch_add(1, Ordering::SeqCst);
                    thread::yield_now();
                }
            });
        }
        let counts = || rounds.each_ref().map(|n| n.load(Ordering::SeqCst));
        while counts().contains(&0) {
            thread::yield_now();
        }
        for _ in 0..3 {
            assert!(!gate.is_still());
            gate.close();
            still.read().unwrap();
            assert!(gate.is_still());
            // Closed again before anybody has gone on.
            gate.open();
            gate.close();
            still.read().unwrap();
            while !gate.is_still() {
                thread::yield_now();
            }
            let before = counts();
            for _ in 0..100 {
                thread::yield_now();
            }
            assert_eq!(counts(), before, "they stand");
            gate.open();
            while counts().iter().zip(before).any(|(now, then)| *now == then) {
                thread::yield_now();
            }
        }
    }
}
