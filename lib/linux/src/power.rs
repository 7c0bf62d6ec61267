// SPDX-License-Identifier: Apache-2.0
//! Restarting and switching off the machine. For PID 1, after everything is unmounted.

use std::io;

use rustix::system::RebootCommand;

/// How to leave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Leave {
    /// Start again from the firmware.
    Reboot,
    /// Switch off.
    Poweroff,
}

/// Leaves. Returns only when the kernel refused.
pub fn leave(how: Leave) -> io::Error {
    rustix::fs::sync();
    let command = match how {
        Leave::Reboot => RebootCommand::Restart,
        Leave::Poweroff => RebootCommand::PowerOff,
    };
    match rustix::system::reboot(command) {
        Ok(()) => io::Error::other("reboot(2) returned"),
        Err(error) => error.into(),
    }
}

/// Whether this process is PID 1.
pub fn is_pid_one() -> bool {
    rustix::process::getpid().is_init()
}
