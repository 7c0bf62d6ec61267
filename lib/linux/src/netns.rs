// SPDX-License-Identifier: Apache-2.0
//! Network namespaces of the calling thread. A socket belongs to the namespace its thread was in when it was opened.

use std::fs::File;
use std::io;
use std::os::fd::AsFd;

use rustix::thread::{LinkNameSpaceType, UnshareFlags, move_into_link_name_space};

/// The namespace the calling thread is in.
pub fn current() -> io::Result<File> {
    File::open("/proc/thread-self/ns/net")
}

/// Moves the calling thread into a namespace.
pub fn enter(namespace: impl AsFd) -> io::Result<()> {
    Ok(move_into_link_name_space(
        namespace.as_fd(),
        Some(LinkNameSpaceType::Network),
    )?)
}

/// Moves the calling thread into a new, empty namespace, which goes away with its last user.
pub fn unshare() -> io::Result<()> {
    // SAFETY: unsharing the network namespace alone changes which interfaces and sockets can be made; it neither moves
    // file descriptors nor memory (what the function is unsafe for is CLONE_FILES).
    Ok(unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWNET) }?)
}
