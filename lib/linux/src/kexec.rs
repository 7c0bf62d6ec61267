// SPDX-License-Identifier: Apache-2.0
//! Starting another kernel from this one: `kexec_file_load(2)` and the jump.
//!
//! Takes sealed memory only; that its bytes were verified is for the caller's types to say.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, AsRawFd};

use rustix::system::RebootCommand;

use crate::sealed::Sealed;

/// `kexec_file_load` has another number on each processor; `libc` lacks that of arm64 with musl (asm-generic/unistd.h).
#[cfg(target_arch = "aarch64")]
const KEXEC_FILE_LOAD: libc::c_long = 294;
#[cfg(not(target_arch = "aarch64"))]
const KEXEC_FILE_LOAD: libc::c_long = libc::SYS_kexec_file_load;

/// Why a kernel was not loaded.
#[derive(Debug, thiserror::Error)]
pub enum KexecError {
    /// A NUL in the command line.
    #[error("the kernel command line holds a NUL")]
    CommandLine,
    /// The kernel refused, with its reason in plain words where we know one.
    #[error("kexec_file_load{0}")]
    Load(&'static str, #[source] io::Error),
    /// The jump returned.
    #[error("start the loaded kernel")]
    Jump(#[source] io::Error),
}

/// Loads a kernel with its initramfs and command line; [`jump`] starts it.
pub fn load(kernel: &Sealed, initramfs: &Sealed, command_line: &str) -> Result<(), KexecError> {
    let line = CString::new(command_line).map_err(|_| KexecError::CommandLine)?;
    let bytes = line.as_bytes_with_nul();
    // SAFETY: both descriptors are borrowed for the length of the call; `bytes` is NUL-terminated and its length,
    // NUL included, is what the system call documents as `cmdline_len`. The kernel writes to none of them.
    let done = unsafe {
        libc::syscall(
            KEXEC_FILE_LOAD,
            kernel.as_fd().as_raw_fd(),
            initramfs.as_fd().as_raw_fd(),
            bytes.len(),
            bytes.as_ptr(),
            0_usize,
        )
    };
    if done == 0 {
        return Ok(());
    }
    let error = io::Error::last_os_error();
    let hint = match error.raw_os_error() {
        Some(libc::ENOEXEC | libc::ENOTSUP) => ": not a kernel that this one can start",
        Some(libc::ENOSYS) => ": this kernel was built without CONFIG_KEXEC_FILE",
        Some(libc::EPERM) => ": forbidden (lockdown, or kernel.kexec_load_disabled)",
        Some(libc::EBUSY) => ": a kernel is being loaded already, or its CPUs cannot be stopped",
        Some(libc::ENOMEM | libc::EADDRNOTAVAIL) => ": not enough memory",
        _ => "",
    };
    Err(KexecError::Load(hint, error))
}

/// Jumps into the loaded kernel. Returns only when that failed.
pub fn jump() -> KexecError {
    match rustix::system::reboot(RebootCommand::Kexec) {
        Ok(()) => KexecError::Jump(io::Error::other("the system call returned")),
        Err(error) => KexecError::Jump(error.into()),
    }
}
