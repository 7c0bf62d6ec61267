// SPDX-License-Identifier: Apache-2.0
//! Children of a PID 1: reaping all of them, also those that were never ours, and saying how they ended.

use std::fmt;

use rustix::process::{Pid, WaitOptions};

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// It returned this code.
    Code(i32),
    /// This signal killed it.
    Signal(i32),
}

impl fmt::Display for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Code(code) => write!(f, "exit code {code}"),
            Self::Signal(libc::SIGKILL) => f.write_str("killed (SIGKILL)"),
            Self::Signal(libc::SIGSEGV) => f.write_str("crashed (SIGSEGV)"),
            Self::Signal(libc::SIGABRT) => f.write_str("aborted (SIGABRT)"),
            Self::Signal(libc::SIGTERM) => f.write_str("terminated (SIGTERM)"),
            Self::Signal(libc::SIGSYS) => f.write_str("forbidden system call (SIGSYS)"),
            Self::Signal(number) => write!(f, "signal {number}"),
        }
    }
}

/// Collects every child that has ended, without waiting for one.
pub fn reap() -> Vec<(u32, Ended)> {
    let mut ended = Vec::new();
    while let Ok(Some((pid, status))) = rustix::process::wait(WaitOptions::NOHANG) {
        let how = match (status.exit_status(), status.terminating_signal()) {
            (Some(code), _) => Ended::Code(code),
            (None, Some(signal)) => Ended::Signal(signal),
            (None, None) => continue,
        };
        ended.push((pid.as_raw_nonzero().get().unsigned_abs(), how));
    }
    ended
}

/// Whether any child is left, running or not.
pub fn any() -> bool {
    !matches!(
        rustix::process::waitid(
            rustix::process::WaitId::All,
            rustix::process::WaitIdOptions::EXITED
                | rustix::process::WaitIdOptions::NOHANG
                | rustix::process::WaitIdOptions::NOWAIT,
        ),
        Err(rustix::io::Errno::CHILD)
    )
}

/// Which signal to send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kill {
    /// Stop in order.
    Terminate,
    /// Stop at once.
    Kill,
}

/// Sends a signal to a process group; a group that is gone is no error.
pub fn kill_group(leader: u32, how: Kill) {
    let signal = match how {
        Kill::Terminate => rustix::process::Signal::TERM,
        Kill::Kill => rustix::process::Signal::KILL,
    };
    send(leader, signal);
}

/// Sends the signal with this number to a process group, if there is one with it that has a name (1 to 31).
pub fn signal_group(leader: u32, number: u8) {
    if let Some(signal) = rustix::process::Signal::from_named_raw(number.into()) {
        send(leader, signal);
    }
}

fn send(leader: u32, signal: rustix::process::Signal) {
    if let Some(group) = i32::try_from(leader).ok().and_then(Pid::from_raw) {
        // ESRCH is the only thing that can go wrong for a root process: it has ended meanwhile.
        let _ = rustix::process::kill_process_group(group, signal);
    }
}

/// Sends a signal to every process but this one and kernel threads: for PID 1, before it leaves.
pub fn kill_all(how: Kill) {
    let signal = match how {
        Kill::Terminate => libc::SIGTERM,
        Kill::Kill => libc::SIGKILL,
    };
    if rustix::process::getpid().is_init() {
        // SAFETY: kill touches no memory; -1 spares the caller when it is PID 1, which the line above checks. ESRCH means
        // nobody is left. rustix takes no negative process.
        unsafe { libc::kill(-1, signal) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endings_read_as_sentences() {
        for (ended, text) in [
            (Ended::Code(3), "exit code 3"),
            (Ended::Signal(9), "killed (SIGKILL)"),
            (Ended::Signal(42), "signal 42"),
        ] {
            assert_eq!(ended.to_string(), text);
        }
    }
}
