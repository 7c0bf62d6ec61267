// SPDX-License-Identifier: Apache-2.0
//! Resource limits of the monitor.

use std::io;

/// File descriptors: devices, vsock connections (at most 128) and control connections, with room.
const FILES: u64 = 512;

#[cfg(target_env = "gnu")]
type Resource = libc::__rlimit_resource_t;
#[cfg(not(target_env = "gnu"))]
type Resource = libc::c_int;

fn set(resource: Resource, value: u64) -> io::Result<()> {
    let limit = libc::rlimit {
        rlim_cur: value,
        rlim_max: value,
    };
    // SAFETY: `limit` is a valid `rlimit` for the duration of the call.
    if unsafe { libc::setrlimit(resource, &raw const limit) } < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}

/// Sets them: `file_bytes` of the largest file it may write.
///
/// Not the number of threads: the filters allow no new ones, and KVM itself makes one in our name at the first run; without
/// room for it every run fails with EAGAIN.
pub(crate) fn limit(file_bytes: u64) -> io::Result<()> {
    set(libc::RLIMIT_CORE, 0)?; // guest memory never lands in a file
    set(libc::RLIMIT_NOFILE, FILES)?;
    set(libc::RLIMIT_FSIZE, file_bytes)
}
