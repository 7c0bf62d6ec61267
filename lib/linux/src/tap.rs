// SPDX-License-Identifier: Apache-2.0
//! Persistent tap devices: made once by the network daemon, attached to later by an unprivileged monitor.
//!
//! Both name the device with the same flags: the kernel refuses to attach with others than it was made with.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;

use rustix::io::Errno;
use rustix::ioctl::{self, IntegerSetter, Opcode, Setter, Updater};
use rustix::net::netdevice::name_to_index;
use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};

// include/uapi/linux/if_tun.h
const TUNSETIFF: Opcode = 0x4004_54ca;
const TUNSETPERSIST: Opcode = 0x4004_54cb;
const TUNSETOWNER: Opcode = 0x4004_54cc;
/// The request behind [`set_offloads`]: the only one that a confined monitor makes after its start.
pub const TUNSETOFFLOAD: Opcode = 0x4004_54d0;
const TUNSETVNETHDRSZ: Opcode = 0x4004_54d8;
const TUN_F_CSUM: usize = 1;
const TUN_F_TSO4: usize = 2;
const TUN_F_TSO6: usize = 4;
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
    /// Nobody has made it.
    #[error("there is no tap device {0}")]
    Missing(String),
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

/// What whoever reads a tap can take, and so what may come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Offloads {
    /// Frames without a checksum.
    pub checksum: bool,
    /// Large TCP frames over IPv4.
    pub tso4: bool,
    /// Large TCP frames over IPv6.
    pub tso6: bool,
}

/// Makes a tap that stays when nobody is attached and that only processes of user `owner` (and root) may attach to.
/// Fails when the name is taken.
pub fn create(name: &str, owner: u32) -> Result<(), TapError> {
    let device = open(name, IFF_TUN_EXCL)?;
    // SAFETY: TUNSETOWNER takes its argument by value and touches no memory of ours.
    unsafe {
        ioctl::ioctl(
            &device,
            IntegerSetter::<TUNSETOWNER>::new_usize(owner as usize),
        )
    }
    .map_err(failed("set the tap's owner"))?;
    // Last: until here a failure leaves nothing behind, since the tap goes with the file.
    // SAFETY: TUNSETPERSIST takes its argument by value and touches no memory of ours.
    unsafe { ioctl::ioctl(&device, IntegerSetter::<TUNSETPERSIST>::new_usize(1)) }
        .map_err(failed("make the tap stay"))
}

/// Attaches to a tap that is there. Frames have a `virtio_net_hdr` of 10 bytes in front; reading does not block.
pub fn attach(name: &str) -> Result<File, TapError> {
    let name = checked(name)?;
    let flags = SocketFlags::CLOEXEC;
    let socket = socket_with(AddressFamily::UNIX, SocketType::DGRAM, flags, None)
        .map_err(failed("make a socket"))?;
    // Without this look TUNSETIFF would make the device. That an interface of this name is no tap, TUNSETIFF says itself.
    match name_to_index(socket, name) {
        Ok(_) => open(name, 0),
        Err(Errno::NODEV) => Err(TapError::Missing(name.to_owned())),
        Err(error) => Err(failed("look for the tap")(error)),
    }
}

/// From now on the header in front of each frame is a `virtio_net_hdr_v1`, of 12 bytes.
pub fn use_v1_headers(device: &File) -> Result<(), TapError> {
    // SAFETY: TUNSETVNETHDRSZ reads an int through its argument, which `Setter` provides.
    unsafe { ioctl::ioctl(device, Setter::<TUNSETVNETHDRSZ, i32>::new(12)) }
        .map_err(failed("tell the tap the length of headers"))
}

/// Says what may be given to whoever reads the tap.
pub fn set_offloads(device: &File, offloads: Offloads) -> io::Result<()> {
    let mut flags = 0;
    // The kernel allows segmentation only together with checksums.
    if offloads.checksum {
        flags |= TUN_F_CSUM;
        flags |= if offloads.tso4 { TUN_F_TSO4 } else { 0 };
        flags |= if offloads.tso6 { TUN_F_TSO6 } else { 0 };
    }
    // SAFETY: TUNSETOFFLOAD takes its argument by value and touches no memory of ours.
    Ok(unsafe { ioctl::ioctl(device, IntegerSetter::<TUNSETOFFLOAD>::new_usize(flags)) }?)
}

/// The name, if an interface can have it: nothing in it leads elsewhere in a path.
fn checked(name: &str) -> Result<&str, TapError> {
    let bytes = name.as_bytes();
    let good = !bytes.is_empty()
        && bytes.len() <= 15
        && name != "."
        && name != ".."
        && bytes.iter().all(u8::is_ascii_graphic)
        && !bytes.iter().any(|b| matches!(b, b'/' | b':' | b'%'));
    good.then_some(name)
        .ok_or_else(|| TapError::Name(name.to_owned()))
}

fn open(name: &str, flags: u16) -> Result<File, TapError> {
    let bytes = checked(name)?.as_bytes();
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
        .map_err(|source| TapError::Io {
            doing: "open /dev/net/tun",
            source,
        })?;
    // SAFETY: TUNSETIFF reads and writes one `struct ifreq`, 40 bytes, which `request` is and which outlives the call.
    unsafe { ioctl::ioctl(&device, Updater::<TUNSETIFF, _>::new(&mut request)) }
        .map_err(failed("attach to the tap"))?;
    Ok(device)
}

fn failed(doing: &'static str) -> impl Fn(Errno) -> TapError {
    move |error| TapError::Io {
        doing,
        source: error.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tap_that_nobody_made_is_not_made_by_attaching() {
        assert!(matches!(attach("rkt-nobody"), Err(TapError::Missing(_))));
        assert!(
            matches!(attach("rkt-nobody"), Err(TapError::Missing(_))),
            "nor by the first try"
        );
        for name in ["", ".", "..", "../lo", "a/b", "sixteen-letters!"] {
            assert!(matches!(attach(name), Err(TapError::Name(_))), "{name}");
        }
    }
}
