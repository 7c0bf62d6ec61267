// SPDX-License-Identifier: Apache-2.0
//! Persistent tap devices: made once by the network daemon, attached to later by an unprivileged monitor.
//!
//! The monitor attaches with `TUNSETIFF` and `IFF_TAP | IFF_NO_PI | IFF_VNET_HDR`; the flags here must be the same, or
//! the kernel refuses it.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;

const TUNSETIFF: libc::c_ulong = 0x4004_54ca;
const TUNSETPERSIST: libc::c_ulong = 0x4004_54cb;
const TUNSETOWNER: libc::c_ulong = 0x4004_54cc;
const IFF_TAP: u16 = 0x0002;
const IFF_NO_PI: u16 = 0x1000;
const IFF_VNET_HDR: u16 = 0x4000;
/// Fail when the name exists.
const IFF_TUN_EXCL: u16 = 0x8000;

/// Why a tap could not be made.
#[derive(Debug, thiserror::Error)]
pub enum TapError {
    /// The name is empty, too long or has a character that interface names may not have.
    #[error("`{0}` is not an interface name of at most 15 bytes")]
    Name(String),
    /// The kernel refused.
    #[error("{doing}")]
    Io {
        /// What was being done.
        doing: &'static str,
        /// The reason.
        source: io::Error,
    },
}

/// `struct ifreq` with flags; the kernel copies 40 bytes.
#[repr(C)]
struct InterfaceRequest {
    name: [u8; 16],
    flags: u16,
    rest: [u8; 22],
}

/// Makes a tap that stays when nobody is attached and that only processes of user `owner` (and root) may attach to.
/// Fails when the name is taken.
pub fn create(name: &str, owner: u32) -> Result<(), TapError> {
    let device = open(name, IFF_TUN_EXCL)?;
    let number = |request: libc::c_ulong, value: u32| {
        // SAFETY: TUNSETOWNER and TUNSETPERSIST take their argument by value and touch no memory of ours.
        check(unsafe { libc::ioctl(device.as_raw_fd(), request as _, libc::c_ulong::from(value)) })
    };
    number(TUNSETOWNER, owner).map_err(failed("set the tap's owner"))?;
    // Last: until here a failure leaves nothing behind, since the tap goes with the file.
    number(TUNSETPERSIST, 1).map_err(failed("make the tap stay"))
}

/// Attaches to a tap, or makes one that goes with the file when there is none of that name. Frames have a
/// `virtio_net_hdr` of 10 bytes in front; reading does not block.
pub fn attach(name: &str) -> Result<File, TapError> {
    open(name, 0)
}

fn open(name: &str, flags: u16) -> Result<File, TapError> {
    let bytes = name.as_bytes();
    if bytes.is_empty()
        || bytes.len() > 15
        || name == "."
        || name == ".."
        || !bytes.iter().all(|b| b.is_ascii_graphic())
        || bytes.iter().any(|b| matches!(b, b'/' | b':' | b'%'))
    {
        return Err(TapError::Name(name.to_owned()));
    }
    let mut request = InterfaceRequest {
        name: [0; 16],
        flags: IFF_TAP | IFF_NO_PI | IFF_VNET_HDR | flags,
        rest: [0; 22],
    };
    request.name[..bytes.len()].copy_from_slice(bytes);
    let device = OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(libc::O_NONBLOCK)
        .open("/dev/net/tun")
        .map_err(failed("open /dev/net/tun"))?;
    // SAFETY: TUNSETIFF reads and writes one `struct ifreq`, 40 bytes, which `request` is and which outlives the call.
    let result = unsafe { libc::ioctl(device.as_raw_fd(), TUNSETIFF as _, &raw mut request) };
    check(result).map_err(failed("attach to the tap"))?;
    Ok(device)
}

fn failed(doing: &'static str) -> impl Fn(io::Error) -> TapError {
    move |source| TapError::Io { doing, source }
}

fn check(result: libc::c_int) -> io::Result<()> {
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}
