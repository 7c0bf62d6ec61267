// SPDX-License-Identifier: Apache-2.0
//! A packet socket for DHCP: IPv4 packets to UDP port 68 on one interface, received and sent without any address on it.
//!
//! Built on `AF_PACKET`/`SOCK_DGRAM` with a filter in the kernel, so that a busy link does not wake the reader. What the
//! packets mean is the caller's business.

use std::io;
use std::mem::{size_of, zeroed};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use crate::socket::{length_of, set_option};
use rustix::net::{AddressFamily, Protocol, SocketFlags, SocketType, socket_with};

const ETH_P_IP: u16 = 0x0800;
const SOL_PACKET: i32 = 263;
const PACKET_AUXDATA: i32 = 8;
const TP_STATUS_CSUMNOTREADY: u32 = 1 << 3;
const SOL_SOCKET: i32 = 1;
const SO_ATTACH_FILTER: i32 = 26;
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
        set_option(&fd, SOL_PACKET, PACKET_AUXDATA, &1)?;
        let interface = i32::try_from(interface).map_err(io::Error::other)?;
        let address = link_address(interface);
        // SAFETY: `address` is a `sockaddr_ll` of that size and outlives the call.
        let result = unsafe {
            libc::bind(
                fd.as_raw_fd(),
                (&raw const address).cast(),
                length_of::<libc::sockaddr_ll>(),
            )
        };
        if result != 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(Self { fd, interface })
    }

    /// Sends an IPv4 packet to everybody on the link.
    pub fn broadcast(&self, packet: &[u8]) -> io::Result<()> {
        let mut address = link_address(self.interface);
        address.sll_halen = 6;
        address.sll_addr[..6].fill(0xff);
        // SAFETY: `packet` is readable for its length, `address` is a `sockaddr_ll` of that size; both outlive the call.
        let sent = unsafe {
            libc::sendto(
                self.fd.as_raw_fd(),
                packet.as_ptr().cast(),
                packet.len(),
                0,
                (&raw const address).cast(),
                length_of::<libc::sockaddr_ll>(),
            )
        };
        if sent < 0 {
            return Err(io::Error::last_os_error());
        }
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
        let mut checksum_done = true;
        // SAFETY: `message` was filled by the kernel and `control` is still in place; the macro stays within its length.
        let header = unsafe { libc::CMSG_FIRSTHDR(&raw const message) };
        if !header.is_null() {
            // SAFETY: not null, hence a whole, aligned `cmsghdr` inside `control`.
            let found = unsafe { &*header };
            // `cmsg_len` differs in size between C libraries.
            let data = (size_of::<libc::cmsghdr>() + size_of::<u32>()) as u64;
            if (found.cmsg_level, found.cmsg_type) == (SOL_PACKET, PACKET_AUXDATA)
                && found.cmsg_len as u64 >= data
            {
                // SAFETY: the length check above covers the first field, `tp_status`; read unaligned.
                let status = unsafe { libc::CMSG_DATA(header).cast::<u32>().read_unaligned() };
                checksum_done = status & TP_STATUS_CSUMNOTREADY == 0;
            }
        }
        Ok(Some(Received {
            bytes,
            checksum_done,
        }))
    }
}

fn link_address(interface: i32) -> libc::sockaddr_ll {
    // SAFETY: all fields of `sockaddr_ll` are integers, for which zero is a value.
    let mut address: libc::sockaddr_ll = unsafe { zeroed() };
    address.sll_family = AddressFamily::PACKET.as_raw();
    address.sll_protocol = ETH_P_IP.to_be();
    address.sll_ifindex = interface;
    address
}

/// `struct sock_fprog`.
#[repr(C)]
struct Program {
    length: u16,
    /// The padding before the pointer, spelt out so that every byte is initialised.
    pad: [u8; size_of::<usize>() - 2],
    instructions: *const libc::sock_filter,
}
// SAFETY: the padding is a field, and `attach` keeps what `instructions` points to alive over the call.
unsafe impl crate::socket::OptionValue for Program {}

fn attach(fd: &OwnedFd, instructions: &[Instruction]) -> io::Result<()> {
    let instructions: Vec<libc::sock_filter> = instructions
        .iter()
        .map(|&(code, jt, jf, k)| libc::sock_filter { code, jt, jf, k })
        .collect();
    let program = Program {
        length: u16::try_from(instructions.len()).map_err(io::Error::other)?,
        pad: [0; size_of::<usize>() - 2],
        instructions: instructions.as_ptr(),
    };
    set_option(fd, SOL_SOCKET, SO_ATTACH_FILTER, &program)
}
