// SPDX-License-Identifier: Apache-2.0
//! Restarting and switching off the machine. For PID 1, after everything is unmounted.

use std::ffi::CStr;
use std::io;

use rustix::system::RebootCommand;

/// How to leave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Leave {
    /// Start again from the firmware.
    Reboot,
    /// Start again, and have a Raspberry Pi's firmware take for that one boot what `autoboot.txt` names for a trial.
    Trial,
    /// Switch off.
    Poweroff,
}

/// Leaves. Returns only when the kernel refused.
pub fn leave(how: Leave) -> io::Error {
    rustix::fs::sync();
    let command = match how {
        Leave::Reboot => RebootCommand::Restart,
        Leave::Trial => return restart_for(c"tryboot"),
        Leave::Poweroff => RebootCommand::PowerOff,
    };
    match rustix::system::reboot(command) {
        Ok(()) => io::Error::other("reboot(2) returned"),
        Err(error) => error.into(),
    }
}

/// Restarts with a word for the drivers that listen: `raspberrypi-tryboot.patch` in `image/kernel/patches`, and `reboot-mode` of a device
/// tree. Where none does, it is a restart like any other.
fn restart_for(word: &CStr) -> io::Error {
    // SAFETY: with LINUX_REBOOT_CMD_RESTART2, reboot(2) reads at most 255 bytes up to a zero through its last argument (kernel/reboot.c),
    // which `word` outlives.
    unsafe {
        libc::syscall(
            libc::SYS_reboot,
            libc::LINUX_REBOOT_MAGIC1,
            libc::LINUX_REBOOT_MAGIC2,
            libc::LINUX_REBOOT_CMD_RESTART2,
            word.as_ptr(),
        );
    }
    io::Error::last_os_error()
}

/// Whether this process is PID 1.
pub fn is_pid_one() -> bool {
    rustix::process::getpid().is_init()
}
