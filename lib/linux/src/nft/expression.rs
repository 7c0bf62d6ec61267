// SPDX-License-Identifier: Apache-2.0
//! The expressions of a rule (linux/netfilter/nf_tables.h). A rule is a small program on registers; each expression here
//! loads into register 1 and compares it at once, so that a rule reads as a list of conditions and a verdict.

use crate::netlink::codec::Request;

const EXPR_NAME: u16 = 1;
const EXPR_DATA: u16 = 2;
const LIST_ELEMENT: u16 = 1;
const DATA_VALUE: u16 = 1;
const DATA_VERDICT: u16 = 2;
const VERDICT_CODE: u16 = 1;
const VERDICT_CHAIN: u16 = 2;
const META_REGISTER: u16 = 1;
const META_KEY: u16 = 2;
const PAYLOAD_REGISTER: u16 = 1;
const PAYLOAD_BASE: u16 = 2;
const PAYLOAD_OFFSET: u16 = 3;
const PAYLOAD_LENGTH: u16 = 4;
const CMP_REGISTER: u16 = 1;
const CMP_OPERATION: u16 = 2;
const CMP_DATA: u16 = 3;
const BITWISE_SOURCE: u16 = 1;
const BITWISE_DESTINATION: u16 = 2;
const BITWISE_LENGTH: u16 = 3;
const BITWISE_MASK: u16 = 4;
const BITWISE_XOR: u16 = 5;
const CT_REGISTER: u16 = 1;
const CT_KEY: u16 = 2;
const IMMEDIATE_REGISTER: u16 = 1;
const IMMEDIATE_DATA: u16 = 2;
const REG_VERDICT: u32 = 0;
const REG_1: u32 = 1;
const CMP_EQUAL: u32 = 0;
const CMP_UNEQUAL: u32 = 1;
const META_IIFNAME: u32 = 6;
const META_OIFNAME: u32 = 7;
const META_NFPROTO: u32 = 15;
const META_L4PROTO: u32 = 16;
const CT_STATE: u32 = 0;

/// What a packet's surroundings say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Meta {
    /// It came in by this interface.
    InputName(String),
    /// It came in by an interface whose name begins so.
    InputPrefix(String),
    /// It goes out by this interface.
    OutputName(String),
    /// It goes out by an interface whose name begins so.
    OutputPrefix(String),
    /// IPv4 (2) or IPv6 (10), in tables of family inet.
    Protocol(u8),
    /// The protocol inside IP: 1 ICMP, 6 TCP, 17 UDP, 58 ICMPv6.
    Transport(u8),
}

/// Where offsets into a packet count from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum Base {
    /// The Ethernet header.
    Link = 0,
    /// The IP or ARP header.
    Network = 1,
    /// The TCP, UDP or ICMP header.
    Transport = 2,
}

/// What happens to a packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It goes no further.
    Drop,
    /// It leaves this hook's chain unharmed.
    Accept,
    /// Another chain decides, and may come back.
    Jump(String),
    /// Another chain decides.
    Goto(String),
}

/// One step of a rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Expression {
    /// Go on if this is so.
    Is(Meta),
    /// Go on if this is not so.
    IsNot(Meta),
    /// Go on if the bytes at an offset, masked when there is a mask of the same length, equal (or differ from) these.
    Bytes {
        /// Where offsets count from.
        base: Base,
        /// Offset in bytes.
        offset: u32,
        /// Which bits count; empty for all.
        mask: Vec<u8>,
        /// The bytes.
        value: Vec<u8>,
        /// Whether they must be equal.
        equal: bool,
    },
    /// Go on if the connection is in one of these states (sum of 1 invalid, 2 established, 4 related, 8 new).
    ConnectionState(u32),
    /// Count packets and bytes.
    Counter,
    /// Replace the source address by that of the interface the packet leaves by.
    Masquerade,
    /// The end.
    Verdict(Verdict),
}

impl Expression {
    /// Connections that were let through before, and what belongs to them.
    pub const ESTABLISHED_OR_RELATED: Self = Self::ConnectionState(2 | 4);
    /// Packets that belong to no connection they could belong to.
    pub const INVALID: Self = Self::ConnectionState(1);

    /// Appends the kernel's expressions for this step to a rule's list.
    pub(super) fn write(&self, list: &mut Request) {
        match self {
            Self::Is(meta) => meta.compare(list, CMP_EQUAL),
            Self::IsNot(meta) => meta.compare(list, CMP_UNEQUAL),
            Self::Bytes {
                base,
                offset,
                mask,
                value,
                equal,
            } => {
                let length = u32::try_from(value.len()).unwrap_or(u32::MAX);
                push(list, "payload", |data| {
                    data.be32(PAYLOAD_REGISTER, REG_1);
                    data.be32(PAYLOAD_BASE, *base as u32);
                    data.be32(PAYLOAD_OFFSET, *offset);
                    data.be32(PAYLOAD_LENGTH, length);
                });
                if !mask.is_empty() {
                    and(list, mask);
                }
                compare(list, if *equal { CMP_EQUAL } else { CMP_UNEQUAL }, value);
            }
            Self::ConnectionState(states) => {
                push(list, "ct", |data| {
                    data.be32(CT_REGISTER, REG_1);
                    data.be32(CT_KEY, CT_STATE);
                });
                and(list, &states.to_ne_bytes());
                compare(list, CMP_UNEQUAL, &[0; 4]);
            }
            Self::Counter => push(list, "counter", |_| {}),
            Self::Masquerade => push(list, "masq", |_| {}),
            Self::Verdict(verdict) => push(list, "immediate", |data| {
                data.be32(IMMEDIATE_REGISTER, REG_VERDICT);
                data.nest(IMMEDIATE_DATA, |value| {
                    value.nest(DATA_VERDICT, |inner| {
                        let (code, chain) = verdict.code();
                        inner.be32(VERDICT_CODE, code.cast_unsigned());
                        if let Some(chain) = chain {
                            inner.text(VERDICT_CHAIN, chain);
                        }
                    });
                });
            }),
        }
    }
}

impl Verdict {
    /// NF_DROP, NF_ACCEPT, NFT_JUMP, NFT_GOTO.
    fn code(&self) -> (i32, Option<&str>) {
        match self {
            Self::Drop => (0, None),
            Self::Accept => (1, None),
            Self::Jump(chain) => (-3, Some(chain)),
            Self::Goto(chain) => (-4, Some(chain)),
        }
    }
}

impl Meta {
    fn compare(&self, list: &mut Request, operation: u32) {
        let (key, value) = match self {
            Self::InputName(name) => (META_IIFNAME, whole_name(name)),
            Self::OutputName(name) => (META_OIFNAME, whole_name(name)),
            Self::InputPrefix(start) => (META_IIFNAME, start.as_bytes().to_vec()),
            Self::OutputPrefix(start) => (META_OIFNAME, start.as_bytes().to_vec()),
            Self::Protocol(family) => (META_NFPROTO, vec![*family]),
            Self::Transport(protocol) => (META_L4PROTO, vec![*protocol]),
        };
        push(list, "meta", |data| {
            data.be32(META_REGISTER, REG_1);
            data.be32(META_KEY, key);
        });
        compare(list, operation, &value);
    }
}

/// A name as it stands in a register: 16 bytes, so that `tap1` does not match `tap10`. A shorter value is compared as far
/// as it goes.
fn whole_name(name: &str) -> Vec<u8> {
    let mut bytes = name.as_bytes().to_vec();
    bytes.resize(16, 0);
    bytes
}

fn push(list: &mut Request, name: &str, data: impl FnOnce(&mut Request)) {
    list.nest(LIST_ELEMENT, |element| {
        element.text(EXPR_NAME, name);
        element.nest(EXPR_DATA, data);
    });
}

fn compare(list: &mut Request, operation: u32, value: &[u8]) {
    push(list, "cmp", |data| {
        data.be32(CMP_REGISTER, REG_1);
        data.be32(CMP_OPERATION, operation);
        data.nest(CMP_DATA, |inner| inner.bytes(DATA_VALUE, value));
    });
}

fn and(list: &mut Request, mask: &[u8]) {
    push(list, "bitwise", |data| {
        data.be32(BITWISE_SOURCE, REG_1);
        data.be32(BITWISE_DESTINATION, REG_1);
        data.be32(
            BITWISE_LENGTH,
            u32::try_from(mask.len()).unwrap_or(u32::MAX),
        );
        data.nest(BITWISE_MASK, |inner| inner.bytes(DATA_VALUE, mask));
        data.nest(BITWISE_XOR, |inner| {
            inner.bytes(DATA_VALUE, &vec![0; mask.len()]);
        });
    });
}
