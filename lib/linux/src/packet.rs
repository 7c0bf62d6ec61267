// SPDX-License-Identifier: Apache-2.0
//! A packet socket for DHCP: IPv4 packets to UDP port 68 on one interface, received and sent without any address on it.
//!
//! Built on `AF_PACKET`/`SOCK_DGRAM` with a filter in the kernel, so that a busy link does not wake the reader. What the
//! packets mean is the caller's business.

use std::io;
use std::mem::{size_of, zeroed};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::net::addr::{SocketAddrArg, SocketAddrLen, SocketAddrOpaque};
use rustix::net::{
    AddressFamily, Protocol, SendFlags, SocketFlags, SocketType, bind, sendto, socket_with,
};

use crate::socket::{length_of, set_option};

const ETH_P_IP: u16 = 0x0800;
const SOL_PACKET: i32 = 263;
const PACKET_AUXDATA: i32 = 8;
const TP_STATUS_CSUMNOTREADY: u32 = 1 << 3;
/// Larger packets are cut, and then refused by their own length field.
const MAX_PACKET: usize = 9216;

/// A classic BPF instruction: code, jump if true, jump if false, operand.
type Instruction = (u16, u8, u8, u32);

/// Accepts whole IPv4 UDP packets to port 68; the data begins at the IP header.
const FILTER: [Instruction; 9] = [
    (0x30, 0, 0, 9),      // A = protocol
    (0x15, 0, 6, 17),     // UDP, or drop
    (0x28, 0, 0, 6),      // A = flags and fragment offset
    (0x45, 4, 0, 0x3fff), // a fragment: drop
    (0xb1, 0, 0, 0),      // X = length of the IP header
    (0x48, 0, 0, 2),      // A = destination port
    (0x15, 0, 1, 68),     // 68, or drop
    (0x06, 0, 0, u32::MAX),
    (0x06, 0, 0, 0),
];

/// A packet as it came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Received {
    /// From the IP header on.
    pub bytes: Vec<u8>,
    /// False when the sender is on this host and left the UDP checksum to hardware that the packet never met.
    pub checksum_done: bool,
}

/// A packet socket on one interface.
#[derive(Debug)]
pub struct DhcpSocket {
    fd: OwnedFd,
    interface: i32,
}

impl AsFd for DhcpSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl DhcpSocket {
    /// Opens the socket on the interface with this index. It does not block.
    pub fn open(interface: u32) -> io::Result<Self> {
        // No protocol yet: nothing is received before the filter is in place.
        let fd = socket_with(
            AddressFamily::PACKET,
            SocketType::DGRAM,
            SocketFlags::CLOEXEC | SocketFlags::NONBLOCK,
            None::<Protocol>,
        )?;
        attach(&fd, &FILTER)?;
        set_option(&fd, SOL_PACKET, PACKET_AUXDATA, 1)?;
        let interface = i32::try_from(interface).map_err(io::Error::other)?;
        bind(&fd, &LinkAddress::of(interface))?;
        Ok(Self { fd, interface })
    }

    /// Sends an IPv4 packet to everybody on the link.
    pub fn broadcast(&self, packet: &[u8]) -> io::Result<()> {
        let mut address = LinkAddress::of(self.interface);
        address.length = 6;
        address.address[..6].fill(0xff);
        sendto(&self.fd, packet, SendFlags::empty(), &address)?;
        Ok(())
    }

    /// The next packet, if one is there.
    pub fn receive(&self) -> io::Result<Option<Received>> {
        let mut bytes = vec![0_u8; MAX_PACKET];
        // Room for one `struct tpacket_auxdata` (20 bytes) with its header, aligned as a cmsghdr must be.
        let mut control = [0_u64; 8];
        let mut part = libc::iovec {
            iov_base: bytes.as_mut_ptr().cast(),
            iov_len: bytes.len(),
        };
        // SAFETY: all fields of `msghdr` are integers and pointers, for which zero is a value.
        let mut message: libc::msghdr = unsafe { zeroed() };
        message.msg_iov = &raw mut part;
        message.msg_iovlen = 1;
        message.msg_control = control.as_mut_ptr().cast();
        message.msg_controllen = size_of_val(&control) as _;
        // SAFETY: `message` points to `part` and `control`, `part` to `bytes`, each with its true length; all live until
        // after the call, and nothing else uses them meanwhile.
        let length = unsafe { libc::recvmsg(self.fd.as_raw_fd(), &raw mut message, 0) };
        let Ok(length) = usize::try_from(length) else {
            let error = io::Error::last_os_error();
            return match error.kind() {
                io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted => Ok(None),
                _ => Err(error),
            };
        };
        bytes.truncate(length);
        Ok(Some(Received {
            bytes,
            checksum_done: status(&control).is_none_or(|s| s & TP_STATUS_CSUMNOTREADY == 0),
        }))
    }
}

/// `tp_status` of the one control message that was asked for, if the kernel sent it. `struct cmsghdr` as the kernel writes
/// it on 64 bits (linux/socket.h): its length in 8 bytes, level and type in 4 each, then the data.
fn status(control: &[u64; 8]) -> Option<u32> {
    const { assert!(size_of::<usize>() == 8, "the kernel's layout on 64 bits") };
    let bytes: Vec<u8> = control.iter().flat_map(|word| word.to_ne_bytes()).collect();
    let number = |at: usize| Some(i32::from_ne_bytes(*bytes.get(at..)?.first_chunk()?));
    // Zero when the kernel sent nothing: the buffer was.
    let whole = control[0] >= 20;
    let ours = (number(8)?, number(12)?) == (SOL_PACKET, PACKET_AUXDATA);
    (whole && ours)
        .then(|| number(16))
        .flatten()
        .map(i32::cast_unsigned)
}

/// `struct sockaddr_ll` (linux/if_packet.h), which rustix has no type for.
#[repr(C)]
struct LinkAddress {
    family: u16,
    /// In network byte order.
    protocol: u16,
    interface: i32,
    hardware: u16,
    kind: u8,
    length: u8,
    address: [u8; 8],
}

impl LinkAddress {
    fn of(interface: i32) -> Self {
        Self {
            family: AddressFamily::PACKET.as_raw(),
            protocol: ETH_P_IP.to_be(),
            interface,
            hardware: 0,
            kind: 0,
            length: 0,
            address: [0; 8],
        }
    }
}
// SAFETY: the pointer is to `self`, which outlives the call of `f`; the length is that of the whole `repr(C)` structure,
// whose fields leave no padding (2 + 2 + 4 + 2 + 1 + 1 + 8 bytes).
unsafe impl SocketAddrArg for LinkAddress {
    unsafe fn with_sockaddr<R>(
        &self,
        f: impl FnOnce(*const SocketAddrOpaque, SocketAddrLen) -> R,
    ) -> R {
        f((&raw const *self).cast(), length_of::<Self>())
    }
}

fn attach(fd: &OwnedFd, instructions: &[Instruction]) -> io::Result<()> {
    let mut instructions: Vec<libc::sock_filter> = instructions
        .iter()
        .map(|&(code, jt, jf, k)| libc::sock_filter { code, jt, jf, k })
        .collect();
    let program = libc::sock_fprog {
        len: u16::try_from(instructions.len()).map_err(io::Error::other)?,
        filter: instructions.as_mut_ptr(),
    };
    // SAFETY: `program` is a `struct sock_fprog` of that size whose `filter` points to `len` instructions; both live until
    // after the call, and the kernel reads them only.
    let result = unsafe {
        libc::setsockopt(
            fd.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_ATTACH_FILTER,
            (&raw const program).cast(),
            length_of::<libc::sock_fprog>(),
        )
    };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksums_status_is_read_from_this_control_message_only() {
        let words = |length: u64, level: i32, kind: i32, status: u32| {
            let pair = |low: u32, high: u32| {
                let [low, high] = [low.to_ne_bytes(), high.to_ne_bytes()];
                u64::from_ne_bytes([low, high].concat().try_into().expect("two fours"))
            };
            let header = pair(level.cast_unsigned(), kind.cast_unsigned());
            [length, header, pair(status, 7), 0, 0, 0, 0, 0]
        };
        let (level, kind) = (SOL_PACKET, PACKET_AUXDATA);
        assert_eq!(status(&words(36, level, kind, 9)), Some(9));
        assert_eq!(status(&words(19, level, kind, 9)), None, "cut off");
        assert_eq!(status(&words(36, 1, kind, 9)), None);
        assert_eq!(status(&words(36, level, 1, 9)), None);
        assert_eq!(status(&[0; 8]), None);
    }
}
