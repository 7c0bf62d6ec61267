// SPDX-License-Identifier: Apache-2.0
//! IPv4 and UDP headers around a payload, for the packets a host sends and receives before it has an address
//! (RFC 791, RFC 768). No fragments, no IP options on the way out.

use core::net::Ipv4Addr;

const IP_HEADER: usize = 20;
const UDP_HEADER: usize = 8;
/// The largest payload that [`datagram`] takes: what fits the 16-bit total length.
pub const MAX_PAYLOAD: usize = 65_535 - IP_HEADER - UDP_HEADER;
const PROTOCOL_UDP: u8 = 17;

/// A UDP datagram as it was found in an IPv4 packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Datagram<'a> {
    /// Where it claims to come from.
    pub source: Ipv4Addr,
    /// Where it goes to.
    pub destination: Ipv4Addr,
    /// The sender's port.
    pub source_port: u16,
    /// The receiver's port.
    pub destination_port: u16,
    /// What it carries.
    pub payload: &'a [u8],
}

/// Why a packet is not a usable UDP datagram.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotUdp {
    /// Shorter than its headers or than the lengths in them say.
    #[error("cut short")]
    Short,
    /// Not IPv4, not UDP, or a fragment.
    #[error("not a whole UDP datagram over IPv4")]
    Kind,
    /// The IP header's checksum is wrong.
    #[error("wrong IP header checksum")]
    IpChecksum,
    /// The UDP checksum is wrong.
    #[error("wrong UDP checksum")]
    UdpChecksum,
}

/// Builds the IPv4 packet that carries `datagram`, or nothing when the payload exceeds [`MAX_PAYLOAD`].
#[must_use]
pub fn packet(datagram: &Datagram<'_>) -> Option<Vec<u8>> {
    let udp_length = u16::try_from(UDP_HEADER + datagram.payload.len()).ok()?;
    let total = u16::try_from(IP_HEADER + UDP_HEADER + datagram.payload.len()).ok()?;
    let mut packet = Vec::with_capacity(usize::from(total));
    packet.extend_from_slice(&[0x45, 0]);
    packet.extend_from_slice(&total.to_be_bytes());
    // Identification 0 with "don't fragment" (RFC 6864), time to live 64, checksum below.
    packet.extend_from_slice(&[0, 0, 0x40, 0, 64, PROTOCOL_UDP, 0, 0]);
    packet.extend_from_slice(&datagram.source.octets());
    packet.extend_from_slice(&datagram.destination.octets());
    let checksum = !sum(0, &packet);
    packet[10..12].copy_from_slice(&checksum.to_be_bytes());

    packet.extend_from_slice(&datagram.source_port.to_be_bytes());
    packet.extend_from_slice(&datagram.destination_port.to_be_bytes());
    packet.extend_from_slice(&udp_length.to_be_bytes());
    packet.extend_from_slice(&[0, 0]);
    packet.extend_from_slice(datagram.payload);
    let checksum = match !udp_sum(
        datagram.source,
        datagram.destination,
        &packet[IP_HEADER..],
        udp_length,
    ) {
        // Zero would mean "no checksum".
        0 => 0xffff,
        other => other,
    };
    packet[26..28].copy_from_slice(&checksum.to_be_bytes());
    Some(packet)
}

/// Finds the datagram in an IPv4 packet. Trailing bytes (Ethernet padding) are ignored.
///
/// `checksum_done` is false when the kernel says that the sender left the UDP checksum to hardware which the packet
/// never met (a bridge or veth on the same host): then it is not looked at.
// untrusted: udp4
pub fn parse(packet: &[u8], checksum_done: bool) -> Result<Datagram<'_>, NotUdp> {
    let first = *packet.first().ok_or(NotUdp::Short)?;
    let header = usize::from(first & 0x0f) * 4;
    if first >> 4 != 4 || header < IP_HEADER {
        return Err(NotUdp::Kind);
    }
    let ip = packet.get(..header).ok_or(NotUdp::Short)?;
    let total = usize::from(be16(ip, 2));
    // More fragments, or an offset.
    if ip[9] != PROTOCOL_UDP || be16(ip, 6) & 0x3fff != 0 {
        return Err(NotUdp::Kind);
    }
    if sum(0, ip) != 0xffff {
        return Err(NotUdp::IpChecksum);
    }
    let udp = packet.get(header..total).ok_or(NotUdp::Short)?;
    if udp.len() < UDP_HEADER {
        return Err(NotUdp::Short);
    }
    let length = be16(udp, 4);
    let udp = udp.get(..usize::from(length)).ok_or(NotUdp::Short)?;
    let payload = udp.get(UDP_HEADER..).ok_or(NotUdp::Short)?;
    let source = address(ip, 12);
    let destination = address(ip, 16);
    if checksum_done && be16(udp, 6) != 0 && udp_sum(source, destination, udp, length) != 0xffff {
        return Err(NotUdp::UdpChecksum);
    }
    Ok(Datagram {
        source,
        destination,
        source_port: be16(udp, 0),
        destination_port: be16(udp, 2),
        payload,
    })
}

fn be16(bytes: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([bytes[at], bytes[at + 1]])
}

fn address(bytes: &[u8], at: usize) -> Ipv4Addr {
    Ipv4Addr::new(bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3])
}

/// The one's complement sum of RFC 1071, folded to 16 bits.
fn sum(start: u32, bytes: &[u8]) -> u16 {
    let mut sum = start;
    for pair in bytes.chunks(2) {
        let low = pair.get(1).copied().unwrap_or(0);
        sum += u32::from(u16::from_be_bytes([pair[0], low]));
        // At most 16 bits and a carry, so that no length of input overflows.
        sum = (sum & 0xffff) + (sum >> 16);
    }
    let sum = (sum & 0xffff) + (sum >> 16);
    u16::try_from(sum & 0xffff).unwrap_or(u16::MAX)
}

/// The sum over the pseudo header and the datagram.
fn udp_sum(source: Ipv4Addr, destination: Ipv4Addr, udp: &[u8], length: u16) -> u16 {
    let start = sum(
        u32::from(PROTOCOL_UDP) + u32::from(length),
        &source.octets(),
    );
    let start = sum(u32::from(start), &destination.octets());
    sum(u32::from(start), udp)
}

#[cfg(test)]
mod tests;
