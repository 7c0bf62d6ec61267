// SPDX-License-Identifier: Apache-2.0
//! Resource limits of the monitor.

use std::io;

use rustix::process::{Resource, Rlimit, setrlimit};

use crate::devices::vsock::MOST_CONNECTIONS;

/// File descriptors: devices and control connections, with room, and one for each connection of the guest.
const FILES: u64 = 512 + MOST_CONNECTIONS as u64;

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

/// All threads share one heap. glibc gives each thread its own, and then looks into files, which no thread may open after the start:
/// for the number of processors in `/sys` at the ninth heap (`arena_get2`), and for `/proc/sys/vm/overcommit_memory` when any but the
/// first becomes smaller (`shrink_heap`). Threads here hardly allocate, and one heap takes less memory. musl has a single one.
///
/// To be called before there is a second thread.
pub fn one_heap() {
    #[cfg(target_env = "gnu")]
    // SAFETY: takes two numbers and changes a setting that only the allocator reads, under its own lock.
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, 1);
    }
}
