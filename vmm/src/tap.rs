// SPDX-License-Identifier: Apache-2.0
//! Attaches to a tap device that exists already.

use std::ffi::c_ulong;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use vmm_sys_util::eventfd::EventFd;

use crate::devices::net::{Offloads, Tap};

// include/uapi/linux/if_tun.h
const TUNSETIFF: c_ulong = 0x4004_54ca;
/// The one of these that is used after the start, by the event loop's thread.
pub(crate) const TUNSETOFFLOAD: c_ulong = 0x4004_54d0;
const TUNSETVNETHDRSZ: c_ulong = 0x4004_54d8;
const IFF_TAP: i16 = 0x0002;
const IFF_NO_PI: i16 = 0x1000;
const IFF_VNET_HDR: i16 = 0x4000;
const TUN_F_CSUM: u32 = 1;
const TUN_F_TSO4: u32 = 2;
const TUN_F_TSO6: u32 = 4;

/// An attached tap.
pub(crate) struct HostTap {
    file: File,
    again: EventFd,
}

/// `struct ifreq` with the member that is used here.
#[repr(C)]
struct Request {
    name: [u8; 16],
    flags: i16,
    rest: [u8; 22],
}

/// `ioctl` with an argument that the kernel takes by value or only reads or writes within `T`.
fn check(result: libc::c_int) -> io::Result<()> {
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}

impl HostTap {
    /// Attaches to the tap `name`; `again` is written when the device has more to do than one batch.
    pub(crate) fn attach(name: &str, again: EventFd) -> io::Result<HostTap> {
        // The ioctl below would make a device that does not exist.
        if !Path::new("/sys/class/net")
            .join(name)
            .join("tun_flags")
            .exists()
        {
            return Err(io::Error::new(
                io::ErrorKind::NotFound,
                format!("there is no tap device {name}"),
            ));
        }
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .custom_flags(libc::O_NONBLOCK | libc::O_CLOEXEC)
            .open("/dev/net/tun")?;
        let mut request = Request {
            name: [0; 16],
            flags: IFF_TAP | IFF_NO_PI | IFF_VNET_HDR,
            rest: [0; 22],
        };
        if name.len() >= request.name.len() {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        request.name[..name.len()].copy_from_slice(name.as_bytes());
        let header: libc::c_int = 12;
        // SAFETY: `Request` is laid out as `struct ifreq` (40 bytes), which is what TUNSETIFF reads and writes.
        check(unsafe { libc::ioctl(file.as_raw_fd(), TUNSETIFF as _, &raw mut request) })?;
        // SAFETY: TUNSETVNETHDRSZ reads an int, which `header` is.
        check(unsafe { libc::ioctl(file.as_raw_fd(), TUNSETVNETHDRSZ as _, &raw const header) })?;
        Ok(HostTap { file, again })
    }

    pub(crate) fn fd(&self) -> libc::c_int {
        self.file.as_raw_fd()
    }
}

impl Tap for HostTap {
    fn read(&mut self, frame: &mut [u8]) -> io::Result<usize> {
        self.file.read(frame)
    }

    fn write(&mut self, frame: &[u8]) -> io::Result<usize> {
        self.file.write(frame)
    }

    fn set_offloads(&mut self, offloads: Offloads) -> io::Result<()> {
        let mut flags = 0;
        // The kernel allows segmentation only together with checksums.
        if offloads.checksum {
            flags |= TUN_F_CSUM;
            flags |= if offloads.tso4 { TUN_F_TSO4 } else { 0 };
            flags |= if offloads.tso6 { TUN_F_TSO6 } else { 0 };
        }
        // SAFETY: TUNSETOFFLOAD takes its argument by value.
        check(unsafe {
            libc::ioctl(
                self.file.as_raw_fd(),
                TUNSETOFFLOAD as _,
                libc::c_ulong::from(flags),
            )
        })
    }

    fn again(&mut self) {
        // Fails only when 2^64 - 2 wake-ups wait.
        let _ = self.again.write(1);
    }
}
