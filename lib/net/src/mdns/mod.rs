// SPDX-License-Identifier: Apache-2.0
//! A responder for one host name under `.local` (RFC 6762): which questions are for it, and the answer. Bytes in, bytes out.
//!
//! Deliberately absent: a cache, services, probing (a tray's name is unique in its rack, and a second holder of it is not
//! argued with), known-answer suppression (the caller's bound on answers stands in for it).

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use core::time::Duration;

/// The port of questions and answers.
pub const PORT: u16 = 5353;
/// Where everybody listens.
pub const GROUP_V4: Ipv4Addr = Ipv4Addr::new(224, 0, 0, 251);
/// The same for IPv6.
pub const GROUP_V6: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 0xfb);
/// Longer packets are not looked at: what a frame of Ethernet holds.
const MAX_PACKET: usize = 1500;
/// Questions looked at in one packet; the limit is ours.
const MAX_QUESTIONS: u16 = 32;
const HEADER: usize = 12;
/// RFC 6762, 10: for records with a host name.
const TTL: u32 = 120;
/// RFC 6762, 6.7: for who does not take part and cannot be told of changes.
const LEGACY_TTL: u32 = 10;
const A: u16 = 1;
const AAAA: u16 = 28;
const ANY: u16 = 255;
const IN: u16 = 1;
/// In a question: answer me alone. In a record: this replaces what you knew.
const TOP_BIT: u16 = 0x8000;
/// A response with authority.
const RESPONSE: u16 = 0x8400;
/// Addresses in one answer.
const MAX_ADDRESSES: usize = 16;

/// What somebody wants to know about the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Asked {
    /// Its IPv4 addresses.
    pub v4: bool,
    /// Its IPv6 addresses.
    pub v6: bool,
    /// The answer is wanted by the asker alone.
    pub unicast: bool,
    /// The packet's number, for an answer to a plain resolver.
    pub id: u16,
}

/// What is asked about `host`.local; nothing when it is about others, is no question, or is malformed before it came to us.
// untrusted: mdns
#[must_use]
pub fn asked(packet: &[u8], host: &str) -> Option<Asked> {
    let word = |at: usize| Some(u16::from_be_bytes([*packet.get(at)?, *packet.get(at + 1)?]));
    // QR and opcode 0: a plain question.
    if packet.len() > MAX_PACKET || word(2)? & 0xf800 != 0 {
        return None;
    }
    let mut found = Asked {
        id: word(0)?,
        ..Asked::default()
    };
    let mut at = HEADER;
    for _ in 0..word(4)?.min(MAX_QUESTIONS) {
        let Some((ours, end)) = name_is(packet, at, host) else {
            break;
        };
        let (Some(kind), Some(class)) = (word(end), word(end + 2)) else {
            break;
        };
        at = end + 4;
        if ours && matches!(class & !TOP_BIT, IN | ANY) {
            found.v4 |= matches!(kind, A | ANY);
            found.v6 |= matches!(kind, AAAA | ANY);
            found.unicast |= class & TOP_BIT != 0;
        }
    }
    (found.v4 || found.v6).then_some(found)
}

/// Whether the name at this place is `host`.local, and where it ends. Pointers lead back only, so that it does end.
fn name_is(packet: &[u8], start: usize, host: &str) -> Option<(bool, usize)> {
    let wanted = [host.as_bytes(), b"local"];
    let (mut at, mut bound, mut end) = (start, start, None);
    let (mut ours, mut labels) = (true, 0);
    loop {
        let length = *packet.get(at)?;
        match length {
            0 => {
                let end = end.unwrap_or(at + 1);
                return Some((ours && labels == wanted.len(), end));
            }
            1..=63 => {
                let label = packet.get(at + 1..at + 1 + usize::from(length))?;
                let expected = wanted.get(labels);
                ours &= expected.is_some_and(|expected| expected.eq_ignore_ascii_case(label));
                labels += 1;
                at += 1 + usize::from(length);
            }
            0xc0.. => {
                let target = usize::from(length & 0x3f) << 8 | usize::from(*packet.get(at + 1)?);
                if target >= bound {
                    return None;
                }
                end = end.or(Some(at + 2));
                (at, bound) = (target, target);
            }
            _ => return None,
        }
    }
}

/// An answer with these addresses, as far as they were asked for; nothing when none is left. With `legacy` it is for a plain
/// resolver (one that does not ask from [`PORT`]), which wants its question back.
#[must_use]
pub fn answer(host: &str, addresses: &[IpAddr], asked: &Asked, legacy: bool) -> Option<Vec<u8>> {
    let wanted = |address: &&IpAddr| {
        if address.is_ipv4() {
            asked.v4
        } else {
            asked.v6
        }
    };
    let records: Vec<&IpAddr> = addresses
        .iter()
        .filter(wanted)
        .take(MAX_ADDRESSES)
        .collect();
    if records.is_empty() || !(1..=63).contains(&host.len()) {
        return None;
    }
    let length = u8::try_from(host.len()).ok()?;
    let name = [&[length][..], host.as_bytes(), b"\x05local\0"].concat();
    let count = u16::try_from(records.len()).ok()?;
    let (id, questions) = if legacy { (asked.id, 1) } else { (0, 0) };
    let mut packet: Vec<u8> = [id, RESPONSE, questions, count, 0, 0]
        .iter()
        .flat_map(|word| word.to_be_bytes())
        .collect();
    if legacy {
        let kind = match (asked.v4, asked.v6) {
            (true, true) => ANY,
            (true, false) => A,
            _ => AAAA,
        };
        packet.extend_from_slice(&name);
        packet.extend([kind, IN].iter().flat_map(|word| word.to_be_bytes()));
    }
    let (class, ttl) = if legacy {
        (IN, LEGACY_TTL)
    } else {
        (IN | TOP_BIT, TTL)
    };
    for address in records {
        let (kind, octets) = match address {
            IpAddr::V4(v4) => (A, v4.octets().to_vec()),
            IpAddr::V6(v6) => (AAAA, v6.octets().to_vec()),
        };
        packet.extend_from_slice(&name);
        packet.extend([kind, class].iter().flat_map(|word| word.to_be_bytes()));
        packet.extend_from_slice(&ttl.to_be_bytes());
        packet.extend_from_slice(&u16::try_from(octets.len()).ok()?.to_be_bytes());
        packet.extend(octets);
    }
    Some(packet)
}

/// How often a host answers on one link: to all once a second (RFC 6762, 6), in all eight times a second, so that a flood of
/// questions gets no flood of answers.
#[derive(Debug, Clone, Default)]
pub struct Pace {
    second: Option<Duration>,
    answers: u8,
    to_all: Option<Duration>,
}

impl Pace {
    const MOST: u8 = 8;

    /// Whether an answer may go out at `now`, a monotonic time; it then counts.
    pub fn allows(&mut self, now: Duration, to_all: bool) -> bool {
        let recent = |at: Option<Duration>| at.is_some_and(|at| now < at + Duration::from_secs(1));
        if !recent(self.second) {
            (self.second, self.answers) = (Some(now), 0);
        }
        if self.answers == Self::MOST || to_all && recent(self.to_all) {
            return false;
        }
        self.answers += 1;
        if to_all {
            self.to_all = Some(now);
        }
        true
    }
}

#[cfg(test)]
mod tests;
