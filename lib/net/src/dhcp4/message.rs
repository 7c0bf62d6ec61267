// SPDX-License-Identifier: Apache-2.0
//! The DHCP message: fixed BOOTP fields and options (RFC 2131 section 2, RFC 2132, RFC 3396).
//!
//! This knows the form of a message only. Whether its contents are sane is [`super::lease`]'s business.

use core::net::Ipv4Addr;
use std::collections::BTreeMap;

const COOKIE: [u8; 4] = [99, 130, 83, 99];
const FIXED: usize = 236;
/// RFC 1542 2.1: some relays drop anything shorter.
const MIN_LENGTH: usize = 300;
const FLAG_BROADCAST: u16 = 0x8000;
const ETHERNET: u8 = 1;
/// Largest message looked at: an Ethernet jumbo frame, more than any option set of ours needs.
pub const MAX_LENGTH: usize = 9000;

/// Option codes that are spoken here.
pub mod option {
    /// Subnet mask.
    pub const MASK: u8 = 1;
    /// Routers, best first.
    pub const ROUTER: u8 = 3;
    /// DNS servers.
    pub const DNS: u8 = 6;
    /// The client's name.
    pub const HOST_NAME: u8 = 12;
    /// Interface MTU.
    pub const MTU: u8 = 26;
    /// NTP servers.
    pub const NTP: u8 = 42;
    /// The address a client would like.
    pub const REQUESTED: u8 = 50;
    /// Lease time in seconds.
    pub const LEASE_TIME: u8 = 51;
    /// The fields `file` or `sname` hold options.
    pub const OVERLOAD: u8 = 52;
    /// Message type.
    pub const MESSAGE_TYPE: u8 = 53;
    /// Which server is meant or speaks.
    pub const SERVER_ID: u8 = 54;
    /// Which options the client wants.
    pub const PARAMETERS: u8 = 55;
    /// A server's words, for people.
    pub const TEXT: u8 = 56;
    /// The largest message the client takes.
    pub const MAX_SIZE: u8 = 57;
    /// Seconds until renewing.
    pub const RENEWAL: u8 = 58;
    /// Seconds until rebinding.
    pub const REBINDING: u8 = 59;
    /// What kind of client this is.
    pub const VENDOR_CLASS: u8 = 60;
    /// The client's identity.
    pub const CLIENT_ID: u8 = 61;
    /// Classless static routes (RFC 3442).
    pub const ROUTES: u8 = 121;
}

/// Option 53.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// Client: is anybody there?
    Discover = 1,
    /// Server: this address would do.
    Offer = 2,
    /// Client: that one, please.
    Request = 3,
    /// Client: somebody else has it.
    Decline = 4,
    /// Server: it is yours.
    Ack = 5,
    /// Server: it is not yours.
    Nak = 6,
    /// Client: have it back.
    Release = 7,
    /// Client: just the options.
    Inform = 8,
}

impl Kind {
    const ALL: [Self; 8] = [
        Self::Discover,
        Self::Offer,
        Self::Request,
        Self::Decline,
        Self::Ack,
        Self::Nak,
        Self::Release,
        Self::Inform,
    ];
}

/// One message. An option that came in pieces is joined (RFC 3396).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// True for a server's reply, false for a client's request.
    pub reply: bool,
    /// Transaction number, chosen by the client.
    pub xid: u32,
    /// Seconds since the client began.
    pub secs: u16,
    /// The client cannot receive unicast yet.
    pub broadcast: bool,
    /// The client's address, when it has one.
    pub ciaddr: Ipv4Addr,
    /// "Your" address, in a reply.
    pub yiaddr: Ipv4Addr,
    /// Next server, for BOOTP; never used.
    pub siaddr: Ipv4Addr,
    /// The relay between.
    pub giaddr: Ipv4Addr,
    /// The client's hardware address.
    pub chaddr: [u8; 6],
    /// Option code to value; pad and end are not kept.
    pub options: BTreeMap<u8, Vec<u8>>,
}

/// Why bytes are not a DHCP message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// Too short for the fixed part.
    #[error("{0} bytes are too few for a DHCP message")]
    Short(usize),
    /// Longer than is looked at.
    #[error("{0} bytes are more than a DHCP message may have here")]
    Long(usize),
    /// Neither request nor reply.
    #[error("operation {0} is neither request nor reply")]
    Operation(u8),
    /// Hardware type or address length is not Ethernet's.
    #[error("hardware type {0} with {1} address bytes is not Ethernet")]
    Hardware(u8, u8),
    /// The option cookie is missing (plain BOOTP).
    #[error("no DHCP cookie: plain BOOTP is not spoken")]
    Cookie,
    /// An option's length reaches past the end of its field.
    #[error("option {0} is longer than the message")]
    Option(u8),
    /// Overload says something other than 1, 2 or 3.
    #[error("option overload has an unknown value")]
    Overload,
}

impl Message {
    /// The message type, if the option is there and known.
    #[must_use]
    pub fn kind(&self) -> Option<Kind> {
        let [code] = self.options.get(&option::MESSAGE_TYPE)?.as_slice() else {
            return None;
        };
        Kind::ALL.into_iter().find(|kind| *kind as u8 == *code)
    }

    /// An option that holds exactly one address.
    #[must_use]
    pub fn address(&self, code: u8) -> Option<Ipv4Addr> {
        let bytes: [u8; 4] = self.options.get(&code)?.as_slice().try_into().ok()?;
        Some(bytes.into())
    }

    /// An option that holds exactly one 32-bit number.
    #[must_use]
    pub fn number(&self, code: u8) -> Option<u32> {
        self.address(code).map(u32::from)
    }

    /// An option that holds addresses: the first `limit` of them; none when its length is not a multiple of four.
    #[must_use]
    pub fn addresses(&self, code: u8, limit: usize) -> Vec<Ipv4Addr> {
        let bytes = self.options.get(&code).map_or(&[][..], Vec::as_slice);
        let (addresses, rest) = bytes.as_chunks::<4>();
        if !rest.is_empty() {
            return Vec::new();
        }
        addresses
            .iter()
            .take(limit)
            .map(|octets| Ipv4Addr::from(*octets))
            .collect()
    }

    /// The bytes for the wire, the message type first among the options, padded for old relays.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(MIN_LENGTH);
        out.extend_from_slice(&[if self.reply { 2 } else { 1 }, ETHERNET, 6, 0]);
        out.extend_from_slice(&self.xid.to_be_bytes());
        out.extend_from_slice(&self.secs.to_be_bytes());
        let flags = if self.broadcast { FLAG_BROADCAST } else { 0 };
        out.extend_from_slice(&flags.to_be_bytes());
        for address in [self.ciaddr, self.yiaddr, self.siaddr, self.giaddr] {
            out.extend_from_slice(&address.octets());
        }
        out.extend_from_slice(&self.chaddr);
        out.resize(FIXED, 0);
        out.extend_from_slice(&COOKIE);
        let first = self.options.get_key_value(&option::MESSAGE_TYPE);
        let others = self
            .options
            .iter()
            .filter(|(code, _)| **code != option::MESSAGE_TYPE);
        for (code, value) in first.into_iter().chain(others) {
            push_option(&mut out, *code, value);
        }
        out.push(255);
        out.resize(out.len().max(MIN_LENGTH), 0);
        out
    }

    /// Reads a message. The options' contents are not judged.
    // untrusted: dhcp4
    pub fn parse(bytes: &[u8]) -> Result<Self, Malformed> {
        if bytes.len() < FIXED + COOKIE.len() {
            return Err(Malformed::Short(bytes.len()));
        }
        if bytes.len() > MAX_LENGTH {
            return Err(Malformed::Long(bytes.len()));
        }
        let reply = match bytes[0] {
            1 => false,
            2 => true,
            other => return Err(Malformed::Operation(other)),
        };
        if (bytes[1], bytes[2]) != (ETHERNET, 6) {
            return Err(Malformed::Hardware(bytes[1], bytes[2]));
        }
        if bytes[FIXED..FIXED + 4] != COOKIE {
            return Err(Malformed::Cookie);
        }
        let address =
            |at: usize| Ipv4Addr::new(bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]);
        let mut options = BTreeMap::new();
        read_options(&mut options, &bytes[FIXED + 4..])?;
        // RFC 2131 4.1: the option field first, then `file`, then `sname`.
        let (file, sname) = match options.remove(&option::OVERLOAD).as_deref() {
            None => (false, false),
            Some([1]) => (true, false),
            Some([2]) => (false, true),
            Some([3]) => (true, true),
            Some(_) => return Err(Malformed::Overload),
        };
        if file {
            read_options(&mut options, &bytes[108..FIXED])?;
        }
        if sname {
            read_options(&mut options, &bytes[44..108])?;
        }
        options.remove(&option::OVERLOAD);
        let mut chaddr = [0; 6];
        chaddr.copy_from_slice(&bytes[28..34]);
        Ok(Self {
            reply,
            xid: u32::from_be_bytes([bytes[4], bytes[5], bytes[6], bytes[7]]),
            secs: u16::from_be_bytes([bytes[8], bytes[9]]),
            broadcast: u16::from_be_bytes([bytes[10], bytes[11]]) & FLAG_BROADCAST != 0,
            ciaddr: address(12),
            yiaddr: address(16),
            siaddr: address(20),
            giaddr: address(24),
            chaddr,
            options,
        })
    }
}

/// Writes one option, in pieces of at most 255 bytes.
fn push_option(out: &mut Vec<u8>, code: u8, value: &[u8]) {
    let mut rest = value;
    loop {
        let (piece, next) = rest.split_at(rest.len().min(255));
        out.push(code);
        out.push(u8::try_from(piece.len()).unwrap_or(u8::MAX));
        out.extend_from_slice(piece);
        if next.is_empty() {
            return;
        }
        rest = next;
    }
}

fn read_options(options: &mut BTreeMap<u8, Vec<u8>>, field: &[u8]) -> Result<(), Malformed> {
    let mut rest = field;
    while let [code, tail @ ..] = rest {
        match code {
            0 => rest = tail,
            255 => return Ok(()),
            code => {
                let [length, tail @ ..] = tail else {
                    return Err(Malformed::Option(*code));
                };
                let length = usize::from(*length);
                let value = tail.get(..length).ok_or(Malformed::Option(*code))?;
                options.entry(*code).or_default().extend_from_slice(value);
                rest = &tail[length..];
            }
        }
    }
    // A missing end marker is common enough to be forgiven.
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn empty() -> Message {
        Message {
            reply: true,
            xid: 1,
            secs: 0,
            broadcast: false,
            ciaddr: Ipv4Addr::UNSPECIFIED,
            yiaddr: Ipv4Addr::UNSPECIFIED,
            siaddr: Ipv4Addr::UNSPECIFIED,
            giaddr: Ipv4Addr::UNSPECIFIED,
            chaddr: [2, 0, 0, 0, 0, 1],
            options: BTreeMap::new(),
        }
    }

    #[test]
    fn message_type_comes_first_and_the_rest_is_padded() {
        let mut message = empty();
        message.options.insert(option::MASK, vec![255, 255, 255, 0]);
        message
            .options
            .insert(option::MESSAGE_TYPE, vec![Kind::Ack as u8]);
        let bytes = message.encode();
        assert_eq!(bytes[240..243], [53, 1, 5]);
        assert_eq!(bytes.len(), MIN_LENGTH);
        assert_eq!(message.kind(), Some(Kind::Ack));
    }

    #[test]
    fn options_in_file_and_sname_are_found_and_pieces_joined() {
        let mut bytes = empty().encode();
        bytes[240..].fill(0);
        bytes[240..248].copy_from_slice(&[52, 1, 3, 6, 2, 10, 0, 255]);
        bytes[108..113].copy_from_slice(&[6, 2, 0, 1, 255]);
        bytes[44..49].copy_from_slice(&[53, 1, 6, 255, 9]);
        let message = Message::parse(&bytes).unwrap();
        assert_eq!(
            message.addresses(option::DNS, 4),
            [Ipv4Addr::new(10, 0, 0, 1)]
        );
        assert_eq!(message.kind(), Some(Kind::Nak));
    }

    #[test]
    fn an_option_longer_than_the_message_is_refused() {
        let mut bytes = empty().encode();
        bytes.truncate(240);
        bytes.extend_from_slice(&[3, 200, 1, 2]);
        assert_eq!(Message::parse(&bytes), Err(Malformed::Option(3)));
    }

    #[test]
    fn lists_of_addresses_are_bounded_and_whole() {
        let mut message = empty();
        message.options.insert(option::DNS, vec![1; 400]);
        assert_eq!(message.addresses(option::DNS, 3).len(), 3);
        message.options.insert(option::DNS, vec![1; 5]);
        assert!(message.addresses(option::DNS, 3).is_empty());
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_again(
            reply: bool, xid: u32, secs: u16, broadcast: bool, addresses: [u32; 4], chaddr: [u8; 6],
            mut options in proptest::collection::btree_map(1_u8..255, proptest::collection::vec(any::<u8>(), 0..600), 0..8),
        ) {
            options.remove(&option::OVERLOAD);
            let message = Message {
                reply, xid, secs, broadcast, chaddr, options,
                ciaddr: addresses[0].into(), yiaddr: addresses[1].into(),
                siaddr: addresses[2].into(), giaddr: addresses[3].into(),
            };
            let bytes = message.encode();
            prop_assume!(bytes.len() <= MAX_LENGTH);
            prop_assert_eq!(Message::parse(&bytes), Ok(message));
        }

        #[test]
        fn arbitrary_bytes_never_panic(
            head in proptest::collection::vec(any::<u8>(), 0..300),
            tail in proptest::collection::vec(any::<u8>(), 0..300), valid: bool,
        ) {
            let mut bytes = if valid { empty().encode()[..240].to_vec() } else { head };
            bytes.extend_from_slice(&tail);
            if let Ok(message) = Message::parse(&bytes) {
                let _ = (message.kind(), message.address(54), message.addresses(6, 4));
            }
        }
    }
}
