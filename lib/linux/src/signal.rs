// SPDX-License-Identifier: Apache-2.0
//! Signals as values: blocked for the whole process, then waited for by one thread.

use std::io;
use std::mem::MaybeUninit;

/// The signals that a PID 1 or a daemon of ours acts on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signal {
    /// A child ended.
    Child,
    /// Stop in order (SIGTERM, SIGINT).
    Terminate,
    /// Switch off (SIGUSR2 to a PID 1, by old custom; SIGPWR).
    Power,
}

/// The set of signals, blocked in every thread started after [`Signals::block`].
#[derive(Debug, Clone, Copy)]
pub struct Signals {
    set: libc::sigset_t,
}

const WAITED: [libc::c_int; 5] = [
    libc::SIGCHLD,
    libc::SIGTERM,
    libc::SIGINT,
    libc::SIGUSR2,
    libc::SIGPWR,
];

/// Gives the calling thread an empty mask. Async-signal-safe.
pub(crate) fn unblock_all() -> io::Result<()> {
    let mut set = MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: sigemptyset initialises the set it is given; pthread_sigmask reads it and is allowed a null pointer for the
    // old mask.
    let failed = unsafe {
        libc::sigemptyset(set.as_mut_ptr());
        libc::pthread_sigmask(libc::SIG_SETMASK, set.as_ptr(), std::ptr::null_mut())
    };
    match failed {
        0 => Ok(()),
        number => Err(io::Error::from_raw_os_error(number)),
    }
}

impl Signals {
    /// Blocks them; call it before any thread is started, threads inherit it. So do programs, except those started with
    /// [`crate::session::own`].
    pub fn block() -> io::Result<Self> {
        let mut set = MaybeUninit::<libc::sigset_t>::uninit();
        // SAFETY: sigemptyset initialises the set it is given; sigaddset gets an initialised set and signal numbers
        // from the constant above; pthread_sigmask reads it and is allowed a null pointer for the old mask.
        let (set, failed) = unsafe {
            libc::sigemptyset(set.as_mut_ptr());
            for signal in WAITED {
                libc::sigaddset(set.as_mut_ptr(), signal);
            }
            (
                set.assume_init(),
                libc::pthread_sigmask(libc::SIG_BLOCK, set.as_ptr(), std::ptr::null_mut()),
            )
        };
        if failed == 0 {
            Ok(Self { set })
        } else {
            Err(io::Error::from_raw_os_error(failed))
        }
    }

    /// Waits for the next one.
    pub fn wait(&self) -> Signal {
        loop {
            // SAFETY: the set is initialised by `block`; sigwaitinfo accepts a null info pointer.
            let number = unsafe { libc::sigwaitinfo(&self.set, std::ptr::null_mut()) };
            match number {
                libc::SIGCHLD => return Signal::Child,
                libc::SIGTERM | libc::SIGINT => return Signal::Terminate,
                libc::SIGUSR2 | libc::SIGPWR => return Signal::Power,
                // EINTR: a signal outside the set was handled.
                _ => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocked_signals_wait_until_they_are_asked_for() {
        let signals = Signals::block().expect("blocks");
        for (number, signal) in [
            (libc::SIGCHLD, Signal::Child),
            (libc::SIGTERM, Signal::Terminate),
            (libc::SIGINT, Signal::Terminate),
            (libc::SIGUSR2, Signal::Power),
        ] {
            // SAFETY: raise sends a signal that this thread has blocked to this thread alone.
            unsafe { libc::raise(number) };
            assert_eq!(signals.wait(), signal);
        }
    }
}
