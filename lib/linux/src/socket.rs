// SPDX-License-Identifier: Apache-2.0
//! Datagram sockets on one interface, and socket options that rustix does not know.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::os::fd::AsRawFd;

use rustix::net::sockopt::{
    set_ip_add_membership_with_ifindex, set_ip_multicast_ttl, set_ip_ttl, set_ipv6_multicast_hops,
    set_ipv6_unicast_hops, set_ipv6_v6only,
};
use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, socket_with};

const SOL_SOCKET: i32 = 1;
const SO_BINDTOIFINDEX: i32 = 62;

/// A socket that hears and speaks on one interface only, whatever the routes say, without blocking. What it sends has the
/// highest time to live, by which receivers tell that no router passed it on.
pub fn udp_on(interface: u32, address: SocketAddr) -> io::Result<UdpSocket> {
    let family = match address {
        SocketAddr::V4(_) => AddressFamily::INET,
        SocketAddr::V6(_) => AddressFamily::INET6,
    };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let fd = socket_with(family, SocketType::DGRAM, flags, None)?;
    let index = i32::try_from(interface).map_err(io::Error::other)?;
    set_option(&fd, SOL_SOCKET, SO_BINDTOIFINDEX, index)?;
    if address.is_ipv4() {
        set_ip_ttl(&fd, 255)?;
        set_ip_multicast_ttl(&fd, 255)?;
    } else {
        set_ipv6_v6only(&fd, true)?;
        set_ipv6_unicast_hops(&fd, Some(255))?;
        set_ipv6_multicast_hops(&fd, 255)?;
    }
    bind(&fd, &address)?;
    Ok(fd.into())
}

/// Lets a socket hear what is sent to a group on this interface.
pub fn join(socket: &UdpSocket, interface: u32, group: IpAddr) -> io::Result<()> {
    match group {
        IpAddr::V6(group) => socket.join_multicast_v6(&group, interface),
        IpAddr::V4(group) => {
            let any = Ipv4Addr::UNSPECIFIED;
            Ok(set_ip_add_membership_with_ifindex(
                socket, &group, &any, interface,
            )?)
        }
    }
}

/// A type's size as the socket calls take it.
pub(crate) const fn length_of<T>() -> u32 {
    assert!(size_of::<T>() <= 4096, "socket structures are small");
    #[allow(clippy::cast_possible_truncation, reason = "at most 4096, see above")]
    {
        size_of::<T>() as u32
    }
}

/// `setsockopt(2)` for the options that are an integer and that rustix does not know.
pub(crate) fn set_option(fd: &impl AsRawFd, level: i32, name: i32, value: i32) -> io::Result<()> {
    // SAFETY: the pointer is to the four bytes of `value`, which lives until after the call; the kernel reads them.
    let result = unsafe {
        libc::setsockopt(
            fd.as_raw_fd(),
            level,
            name,
            (&raw const value).cast(),
            length_of::<i32>(),
        )
    };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}
