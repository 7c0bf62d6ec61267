// SPDX-License-Identifier: Apache-2.0
//! Socket options that rustix does not know.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

/// Types that `setsockopt` may read as plain bytes: no pointers the kernel would follow, or ones that stay valid.
///
/// # Safety
/// Every byte of the type is initialised, and any pointer in it is valid for the duration of the call.
pub(crate) unsafe trait OptionValue {}
// SAFETY: an integer has no padding and no pointers.
unsafe impl OptionValue for i32 {}

/// A type's size as the socket calls take it.
pub(crate) const fn length_of<T>() -> libc::socklen_t {
    assert!(size_of::<T>() <= 4096, "socket structures are small");
    #[allow(clippy::cast_possible_truncation, reason = "at most 4096, see above")]
    {
        size_of::<T>() as libc::socklen_t
    }
}

/// `setsockopt(2)`.
pub(crate) fn set_option<T: OptionValue>(
    fd: &OwnedFd,
    level: i32,
    name: i32,
    value: &T,
) -> io::Result<()> {
    let length = length_of::<T>();
    // SAFETY: `value` points to `length` initialised bytes by the contract of `OptionValue`, and the kernel only reads.
    let result = unsafe {
        libc::setsockopt(
            fd.as_raw_fd(),
            level,
            name,
            std::ptr::from_ref(value).cast(),
            length,
        )
    };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}
