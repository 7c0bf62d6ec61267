// SPDX-License-Identifier: Apache-2.0
//! Signals as values: blocked for the whole process, then waited for by one thread, or read from a descriptor by a loop that
//! waits for other things, too.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

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

/// Gives the calling thread an empty mask and each signal its usual effect: both outlive `execve`, and a starter may have been told to
/// ignore some (as `nohup` does). Async-signal-safe.
pub(crate) fn begin_anew() -> io::Result<()> {
    for number in 1..32 {
        // SAFETY: takes numbers and runs no handler; those that cannot be changed (SIGKILL, SIGSTOP) are refused, which is as well.
        unsafe { libc::signal(number, libc::SIG_DFL) };
    }
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

/// Blocks these signals in the calling thread and all that it starts; gives them as a set.
fn block(signals: &[libc::c_int]) -> io::Result<libc::sigset_t> {
    let mut set = MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: sigemptyset initialises the set it is given; sigaddset gets an initialised set and refuses what is no signal's
    // number; pthread_sigmask reads the set and is allowed a null pointer for the old mask.
    let (set, failed) = unsafe {
        libc::sigemptyset(set.as_mut_ptr());
        for signal in signals {
            libc::sigaddset(set.as_mut_ptr(), *signal);
        }
        let failed = libc::pthread_sigmask(libc::SIG_BLOCK, set.as_ptr(), std::ptr::null_mut());
        (set.assume_init(), failed)
    };
    match failed {
        0 => Ok(set),
        number => Err(io::Error::from_raw_os_error(number)),
    }
}

impl Signals {
    /// Blocks them; call it before any thread is started, threads inherit it. So do programs, except those started with
    /// [`crate::session::own`].
    pub fn block() -> io::Result<Self> {
        block(&WAITED).map(|set| Self { set })
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

/// Signals as a descriptor that can be read when one has come, and does not block.
#[derive(Debug)]
struct Waiting(OwnedFd);

impl Waiting {
    fn for_any_of(signals: &[libc::c_int]) -> io::Result<Self> {
        let set = block(signals)?;
        // SAFETY: the set is initialised by `block`, and -1 asks for a new descriptor.
        let fd =
            unsafe { libc::signalfd(-1, &raw const set, libc::SFD_NONBLOCK | libc::SFD_CLOEXEC) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: `fd` is open, checked above, and nobody else has it.
        Ok(Self(unsafe { OwnedFd::from_raw_fd(fd) }))
    }

    fn take(&self) -> bool {
        // Longer than one `struct signalfd_siginfo` (128 bytes), of which only whole ones are given.
        let mut record = [0; 256];
        let mut any = false;
        while rustix::io::read(&self.0, &mut record).is_ok_and(|bytes| bytes > 0) {
            any = true;
        }
        any
    }
}

/// SIGTERM and SIGINT as a descriptor that can be read when one has come, and does not block.
#[derive(Debug)]
pub struct StopRequests(Waiting);

impl StopRequests {
    /// Blocks them as [`Signals::block`] does.
    pub fn block() -> io::Result<Self> {
        Waiting::for_any_of(&[libc::SIGTERM, libc::SIGINT]).map(Self)
    }

    /// Takes those that have come; whether there were any.
    pub fn take(&self) -> bool {
        self.0.take()
    }
}

impl AsFd for StopRequests {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.0.as_fd()
    }
}

impl AsRawFd for StopRequests {
    fn as_raw_fd(&self) -> RawFd {
        self.0.0.as_raw_fd()
    }
}

/// SIGWINCH, the terminal has another size, in the same way.
#[derive(Debug)]
pub struct WindowChanges(Waiting);

impl WindowChanges {
    /// Blocks it as [`Signals::block`] does.
    pub fn block() -> io::Result<Self> {
        Waiting::for_any_of(&[libc::SIGWINCH]).map(Self)
    }

    /// Takes those that have come; whether there were any.
    pub fn take(&self) -> bool {
        self.0.take()
    }
}

impl AsFd for WindowChanges {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.0.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_to_stop_wait_in_the_descriptor_until_they_are_taken() {
        let requests = StopRequests::block().expect("blocks");
        assert!(!requests.take(), "nobody has asked yet");
        for number in [libc::SIGTERM, libc::SIGINT] {
            // SAFETY: raise sends a signal that this thread has blocked to this thread alone.
            unsafe { libc::raise(number) };
        }
        assert!(requests.take());
        assert!(!requests.take(), "taken once");
    }

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
