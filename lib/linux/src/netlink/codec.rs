// SPDX-License-Identifier: Apache-2.0
//! Netlink messages as bytes (linux/netlink.h): a header, a fixed part that depends on the type, and attributes.
//!
//! Numbers are in host byte order unless a `be` is in the name. Reading is bounded by the lengths and never panics.

use std::io;

use super::NetlinkError;

const HEADER: usize = 16;
const ATTRIBUTE_HEADER: usize = 4;
const TYPE_ERROR: u16 = 2;
const TYPE_DONE: u16 = 3;
const FLAG_REQUEST: u16 = 0x01;
const FLAG_ACK: u16 = 0x04;
const FLAG_DUMP_INTERRUPTED: u16 = 0x10;
const FLAG_ACK_TLVS: u16 = 0x200;
const FLAG_DUMP: u16 = 0x300;
const NESTED: u16 = 0x8000;
/// Attribute types without the nested and byte order flags.
const TYPE_MASK: u16 = 0x3fff;
const EXT_ACK_TEXT: u16 = 1;

/// Replace what is there.
pub(crate) const REPLACE: u16 = 0x100;
/// Fail when it is there.
pub(crate) const EXCLUSIVE: u16 = 0x200;
/// Make it when it is not there.
pub(crate) const CREATE: u16 = 0x400;
/// Add at the end of the list.
pub(crate) const APPEND: u16 = 0x800;

/// A message to the kernel, being written.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    bytes: Vec<u8>,
    too_large: bool,
}

impl Request {
    /// A message of `kind` with its fixed part.
    pub(crate) fn new(kind: u16, flags: u16, fixed: &[u8]) -> Self {
        let mut bytes = vec![0; HEADER];
        bytes[4..6].copy_from_slice(&kind.to_ne_bytes());
        bytes[6..8].copy_from_slice(&(flags | FLAG_REQUEST).to_ne_bytes());
        bytes.extend_from_slice(fixed);
        let mut request = Self {
            bytes,
            too_large: false,
        };
        request.pad();
        request
    }

    pub(crate) fn acknowledged(self) -> Self {
        self.with_flags(FLAG_ACK)
    }

    pub(crate) fn dumping(self) -> Self {
        self.with_flags(FLAG_DUMP)
    }

    fn with_flags(mut self, more: u16) -> Self {
        let flags = u16::from_ne_bytes([self.bytes[6], self.bytes[7]]) | more;
        self.bytes[6..8].copy_from_slice(&flags.to_ne_bytes());
        self
    }

    pub(crate) fn bytes(&mut self, kind: u16, value: &[u8]) {
        self.open(kind, |request| request.bytes.extend_from_slice(value));
    }

    pub(crate) fn u8(&mut self, kind: u16, value: u8) {
        self.bytes(kind, &[value]);
    }

    pub(crate) fn u32(&mut self, kind: u16, value: u32) {
        self.bytes(kind, &value.to_ne_bytes());
    }

    pub(crate) fn be32(&mut self, kind: u16, value: u32) {
        self.bytes(kind, &value.to_be_bytes());
    }

    /// A text with its terminating NUL.
    pub(crate) fn text(&mut self, kind: u16, value: &str) {
        self.open(kind, |request| {
            request.bytes.extend_from_slice(value.as_bytes());
            request.bytes.push(0);
        });
    }

    /// An attribute made of attributes.
    pub(crate) fn nest(&mut self, kind: u16, inside: impl FnOnce(&mut Self)) {
        self.open(kind | NESTED, inside);
    }

    fn open(&mut self, kind: u16, inside: impl FnOnce(&mut Self)) {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(&[0; 2]);
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        inside(self);
        match u16::try_from(self.bytes.len() - start) {
            Ok(length) => self.bytes[start..start + 2].copy_from_slice(&length.to_ne_bytes()),
            Err(_) => self.too_large = true,
        }
        self.pad();
    }

    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }

    /// What follows the header: for attributes that hold a message.
    pub(crate) fn body(&self) -> &[u8] {
        &self.bytes[HEADER..]
    }

    /// The finished bytes.
    pub(crate) fn finish(mut self, sequence: u32) -> Result<Vec<u8>, NetlinkError> {
        let length = u32::try_from(self.bytes.len()).map_err(|_| NetlinkError::TooLarge)?;
        if self.too_large {
            return Err(NetlinkError::TooLarge);
        }
        self.bytes[..4].copy_from_slice(&length.to_ne_bytes());
        self.bytes[8..12].copy_from_slice(&sequence.to_ne_bytes());
        Ok(self.bytes)
    }
}

/// A message from the kernel: read by [`crate::rtnl`] and [`crate::acpi`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// What it is.
    pub(crate) kind: u16,
    flags: u16,
    /// The number of the request that it answers; 0 for news.
    pub(crate) sequence: u32,
    payload: Vec<u8>,
}

impl Message {
    /// Cuts a datagram into its messages.
    // untrusted: netlink_answers
    pub fn split(datagram: &[u8]) -> Result<Vec<Self>, NetlinkError> {
        let mut messages = Vec::new();
        let mut rest = datagram;
        while !rest.is_empty() {
            let header: &[u8; HEADER] = rest.first_chunk().ok_or(NetlinkError::Malformed)?;
            let length = u32::from_ne_bytes([header[0], header[1], header[2], header[3]]);
            let length = usize::try_from(length).map_err(|_| NetlinkError::Malformed)?;
            let payload = rest.get(HEADER..length).ok_or(NetlinkError::Malformed)?;
            messages.push(Self {
                kind: u16::from_ne_bytes([header[4], header[5]]),
                flags: u16::from_ne_bytes([header[6], header[7]]),
                sequence: u32::from_ne_bytes([header[8], header[9], header[10], header[11]]),
                payload: payload.to_vec(),
            });
            rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        }
        Ok(messages)
    }

    pub(crate) fn is_done(&self) -> bool {
        self.kind == TYPE_DONE
    }

    pub(crate) fn is_interrupted(&self) -> bool {
        self.flags & FLAG_DUMP_INTERRUPTED != 0
    }

    /// The verdict, if this is an acknowledgement, a refusal or the end of a dump.
    // untrusted: netlink_answers
    pub fn result(&self) -> Option<Result<(), NetlinkError>> {
        if self.kind != TYPE_ERROR && self.kind != TYPE_DONE {
            return None;
        }
        // The end of a dump may come without a code.
        let code = match self.payload.first_chunk() {
            Some(bytes) => i32::from_ne_bytes(*bytes),
            None if self.kind == TYPE_DONE => 0,
            None => return Some(Err(NetlinkError::Malformed)),
        };
        if code == 0 {
            return Some(Ok(()));
        }
        // After the code comes the header of the request (capped acknowledgements; not at the end of a dump, Linux 6.12,
        // net/netlink/af_netlink.c, `netlink_dump_done`), then the kernel's words.
        let words = if self.kind == TYPE_DONE {
            4
        } else {
            4 + HEADER
        };
        let text = (self.flags & FLAG_ACK_TLVS != 0)
            .then(|| self.payload.get(words..))
            .flatten()
            .and_then(|bytes| Attributes(bytes).text(EXT_ACK_TEXT));
        Some(Err(NetlinkError::Refused {
            text,
            source: io::Error::from_raw_os_error(code.saturating_neg()),
        }))
    }

    /// The fixed part of `N` bytes and the attributes after it.
    pub(crate) fn parts<const N: usize>(&self) -> Option<(&[u8; N], Attributes<'_>)> {
        let fixed = self.payload.first_chunk()?;
        let rest = self
            .payload
            .get(N.next_multiple_of(4)..)
            .unwrap_or_default();
        Some((fixed, Attributes(rest)))
    }
}

/// A run of attributes. Reading stops at the first one that is malformed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Attributes<'a>(pub(crate) &'a [u8]);

impl<'a> Iterator for Attributes<'a> {
    type Item = (u16, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let header: &[u8; ATTRIBUTE_HEADER] = self.0.first_chunk()?;
        let length = usize::from(u16::from_ne_bytes([header[0], header[1]]));
        let kind = u16::from_ne_bytes([header[2], header[3]]) & TYPE_MASK;
        let Some(value) = self.0.get(ATTRIBUTE_HEADER..length) else {
            self.0 = &[];
            return None;
        };
        self.0 = self.0.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, value))
    }
}

impl<'a> Attributes<'a> {
    /// The first attribute of a kind.
    pub(crate) fn get(mut self, kind: u16) -> Option<&'a [u8]> {
        self.find(|(found, _)| *found == kind)
            .map(|(_, value)| value)
    }

    pub(crate) fn u32(self, kind: u16) -> Option<u32> {
        let bytes = self.get(kind)?.try_into().ok()?;
        Some(u32::from_ne_bytes(bytes))
    }

    pub(crate) fn array<const N: usize>(self, kind: u16) -> Option<[u8; N]> {
        self.get(kind)?.try_into().ok()
    }

    /// A text up to its NUL.
    pub(crate) fn text(self, kind: u16) -> Option<String> {
        let bytes = self.get(kind)?;
        let end = bytes.iter().position(|byte| *byte == 0);
        Some(String::from_utf8_lossy(&bytes[..end.unwrap_or(bytes.len())]).into_owned())
    }

    pub(crate) fn nest(self, kind: u16) -> Option<Attributes<'a>> {
        self.get(kind).map(Attributes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn nested_attributes_have_the_kernels_layout() {
        let mut request = Request::new(0x10, CREATE, &[1, 2, 3, 4]);
        request.nest(18, |info| info.text(1, "bridge"));
        let bytes = request.finish(7).unwrap();
        let expected: Vec<u8> = [
            &40_u32.to_ne_bytes()[..],
            &0x10_u16.to_ne_bytes(),
            &0x401_u16.to_ne_bytes(),
            &7_u32.to_ne_bytes(),
            &[0; 4],
            &[1, 2, 3, 4],
            // 4 + 4 + 7 + 1 of padding.
            &16_u16.to_ne_bytes(),
            &(18 | NESTED).to_ne_bytes(),
            &11_u16.to_ne_bytes(),
            &1_u16.to_ne_bytes(),
            b"bridge\0\0",
        ]
        .concat();
        // The header's length counts the whole.
        let mut expected = expected;
        let length = u32::try_from(expected.len()).unwrap();
        expected[..4].copy_from_slice(&length.to_ne_bytes());
        assert_eq!(bytes, expected);
    }

    #[test]
    fn refusal_carries_the_kernels_words() {
        for (kind, header) in [(TYPE_ERROR, HEADER), (TYPE_DONE, 0)] {
            let mut request = Request::new(kind, FLAG_ACK_TLVS, &(-22_i32).to_ne_bytes());
            request.bytes.extend(std::iter::repeat_n(0, header));
            request.text(EXT_ACK_TEXT, "no such chain");
            let bytes = request.finish(1).unwrap();
            let message = Message::split(&bytes).unwrap().remove(0);
            let error = message.result().unwrap().unwrap_err();
            assert_eq!(error.to_string(), "the kernel refused: no such chain");
            assert_eq!(error.errno(), Some(22));
        }
    }

    #[test]
    fn an_attribute_past_64_kib_is_refused_before_it_is_sent() {
        let mut request = Request::new(1, 0, &[]);
        request.bytes(1, &vec![0; 70_000]);
        assert!(matches!(request.finish(1), Err(NetlinkError::TooLarge)));
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_again(
            values in proptest::collection::vec((1_u16..0x3fff, proptest::collection::vec(any::<u8>(), 0..50)), 0..10),
        ) {
            let mut request = Request::new(16, 0, &[9; 8]);
            for (kind, value) in &values { request.bytes(*kind, value); }
            let mut bytes = request.clone().finish(3).unwrap();
            bytes.extend(request.finish(4).unwrap());
            let messages = Message::split(&bytes).unwrap();
            prop_assert_eq!(messages.len(), 2);
            for message in &messages {
                let (fixed, attributes) = message.parts::<8>().unwrap();
                prop_assert_eq!(fixed, &[9; 8]);
                let read: Vec<_> = attributes.map(|(kind, value)| (kind, value.to_vec())).collect();
                prop_assert_eq!(&read, &values);
            }
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            for (_, value) in Attributes(&bytes) { let _ = Attributes(value).count(); }
            for message in Message::split(&bytes).unwrap_or_default() {
                let _ = (message.result(), message.parts::<16>().map(|(_, a)| a.text(1)));
            }
        }
    }
}
