// SPDX-License-Identifier: Apache-2.0
//! Resource limits of the monitor.

use std::io;

use rustix::process::{Resource, Rlimit, setrlimit};

/// File descriptors: devices, vsock connections (at most 128) and control connections, with room.
const FILES: u64 = 512;

/// Sets them: `file_bytes` of the largest file it may write.
///
/// Not the number of threads: the filters allow no new ones, and KVM itself makes one in our name at the first run; without
/// room for it every run fails with EAGAIN.
pub(crate) fn limit(file_bytes: u64) -> io::Result<()> {
    for (resource, most) in [
        (Resource::Core, 0), // guest memory never lands in a file
        (Resource::Nofile, FILES),
        (Resource::Fsize, file_bytes),
    ] {
        let limit = Rlimit {
            current: Some(most),
            maximum: Some(most),
        };
        setrlimit(resource, limit)?;
    }
    Ok(())
}
