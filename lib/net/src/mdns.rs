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
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn question(names: &[&[u8]], kind: u16, class: u16) -> Vec<u8> {
        let mut packet = vec![0x12, 0x34, 0, 0];
        packet.extend(u16::try_from(names.len()).unwrap().to_be_bytes());
        packet.extend([0; 6]);
        for name in names {
            packet.extend_from_slice(name);
            packet.extend(kind.to_be_bytes());
            packet.extend(class.to_be_bytes());
        }
        packet
    }

    const OURS: &[u8] = b"\x06tray-1\x05local\0";

    #[test]
    fn questions_about_the_own_name_are_found_in_any_case_and_behind_pointers() {
        for (names, kind, class, v4, v6, unicast) in [
            (&[OURS][..], A, IN, true, false, false),
            (&[b"\x06TRAY-1\x05Local\0"], AAAA, IN, false, true, false),
            (
                &[b"\x05other\x05local\0", OURS],
                ANY,
                ANY,
                true,
                true,
                false,
            ),
            (&[OURS], A, IN | TOP_BIT, true, false, true),
            // "local" of the first question, which stands at 18.
            (
                &[b"\x05other\x05local\0", b"\x06tray-1\xc0\x12"],
                A,
                IN,
                true,
                false,
                false,
            ),
        ] {
            let found = asked(&question(names, kind, class), "tray-1");
            let expected = Asked {
                v4,
                v6,
                unicast,
                id: 0x1234,
            };
            assert_eq!(found, Some(expected), "{names:?}");
        }
    }

    #[test]
    fn other_names_answers_and_malformed_packets_get_none() {
        let refused: [&[u8]; 8] = [
            b"\x06tray-2\x05local\0",
            b"\x06tray-1\x05local\x03lan\0",
            b"\x06tray-1\0",
            b"\x05local\0",
            b"\0",
            b"\x06tray-1\xc0\x0c",
            b"\x06tray-1\x80local\0",
            b"\x06tray-1\x05loc",
        ];
        for name in refused {
            assert_eq!(asked(&question(&[name], A, IN), "tray-1"), None, "{name:?}");
        }
        assert_eq!(asked(&question(&[OURS], A, 3), "tray-1"), None, "Chaosnet");
        assert_eq!(asked(&question(&[OURS], 12, IN), "tray-1"), None, "PTR");
        let mut response = question(&[OURS], A, IN);
        response[2] = 0x84;
        assert_eq!(asked(&response, "tray-1"), None);
        let mut long = question(&[OURS], A, IN);
        long.resize(MAX_PACKET + 1, 0);
        assert_eq!(asked(&long, "tray-1"), None);
    }

    #[test]
    fn the_answer_has_what_was_asked_for_and_a_plain_resolver_gets_its_question_back() {
        let addresses = [[192, 0, 2, 7].into(), Ipv6Addr::LOCALHOST.into()];
        let asked = Asked {
            v4: true,
            id: 7,
            ..Asked::default()
        };
        let record = |class: &[u8], ttl: u8| {
            [OURS, &[0, 1], class, &[0, 0, 0, ttl, 0, 4, 192, 0, 2, 7]].concat()
        };
        let all = answer("tray-1", &addresses, &asked, false).unwrap();
        assert_eq!(all[..HEADER], [0, 0, 0x84, 0, 0, 0, 0, 1, 0, 0, 0, 0]);
        assert_eq!(all[HEADER..], record(&[0x80, 1], 120));
        let one = answer("tray-1", &addresses, &asked, true).unwrap();
        assert_eq!(one[..HEADER], [0, 7, 0x84, 0, 0, 1, 0, 1, 0, 0, 0, 0]);
        let expected = [OURS, &[0, 1, 0, 1], &record(&[0, 1], 10)].concat();
        assert_eq!(one[HEADER..], expected);
        assert_eq!(answer("tray-1", &addresses[1..], &asked, false), None);
    }

    #[test]
    fn a_flood_of_questions_gets_no_flood_of_answers() {
        let mut pace = Pace::default();
        let at = Duration::from_millis;
        let to_all = (0..1000).filter(|ms| pace.allows(at(*ms), true)).count();
        let to_one = (0..1000).filter(|ms| pace.allows(at(*ms), false)).count();
        assert_eq!((to_all, to_one), (1, 7));
        assert!(pace.allows(at(1000), true));
    }

    proptest! {
        #[test]
        fn arbitrary_packets_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = asked(&bytes, "tray-1");
        }
    }
}
