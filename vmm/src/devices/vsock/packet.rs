// SPDX-License-Identifier: Apache-2.0
//! The header of a vsock packet (virtio 1.2, 5.10.6).

/// Bytes of a header.
pub const HEADER: u32 = 44;
/// The only socket type here.
pub(super) const STREAM: u16 = 1;

pub(super) const REQUEST: u16 = 1;
pub(super) const RESPONSE: u16 = 2;
pub(super) const RESET: u16 = 3;
pub(super) const SHUTDOWN: u16 = 4;
pub(super) const DATA: u16 = 5;
pub(super) const CREDIT_UPDATE: u16 = 6;
pub(super) const CREDIT_REQUEST: u16 = 7;

/// Flag of [`SHUTDOWN`]: the sender will receive no more.
pub(super) const NO_RECEIVE: u32 = 1;
/// Flag of [`SHUTDOWN`]: the sender will send no more.
pub(super) const NO_SEND: u32 = 2;

/// A header, whoever wrote it: every number in it is a claim.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Header {
    /// The sender's address.
    pub source_cid: u64,
    /// The receiver's address; 2 is the host.
    pub target_cid: u64,
    /// The sender's port.
    pub source_port: u32,
    /// The receiver's port.
    pub target_port: u32,
    /// Bytes of data behind the header.
    pub len: u32,
    /// Type of the socket; 1 is a stream.
    pub kind: u16,
    /// What the packet says: request, response, reset, shutdown, data, credit.
    pub operation: u16,
    /// Of a shutdown: 1 for no more receiving, 2 for no more sending.
    pub flags: u32,
    /// Bytes that the sender has room for in all.
    pub buffer: u32,
    /// Bytes that the sender has taken out of its buffer since the connection began, modulo 2^32.
    pub forwarded: u32,
}

impl Header {
    /// Reads a header; any bytes are one.
    // untrusted: vsock_packets
    #[must_use]
    pub fn parse(raw: &[u8; HEADER as usize]) -> Header {
        let word = |at: usize| u32::from_le_bytes([raw[at], raw[at + 1], raw[at + 2], raw[at + 3]]);
        let long = |at: usize| u64::from(word(at)) | u64::from(word(at + 4)) << 32;
        let half = |at: usize| u16::from_le_bytes([raw[at], raw[at + 1]]);
        Header {
            source_cid: long(0),
            target_cid: long(8),
            source_port: word(16),
            target_port: word(20),
            len: word(24),
            kind: half(28),
            operation: half(30),
            flags: word(32),
            buffer: word(36),
            forwarded: word(40),
        }
    }

    /// The header as it lies in memory.
    #[must_use]
    pub fn bytes(&self) -> [u8; HEADER as usize] {
        let mut raw = [0; HEADER as usize];
        raw[0..8].copy_from_slice(&self.source_cid.to_le_bytes());
        raw[8..16].copy_from_slice(&self.target_cid.to_le_bytes());
        raw[16..20].copy_from_slice(&self.source_port.to_le_bytes());
        raw[20..24].copy_from_slice(&self.target_port.to_le_bytes());
        raw[24..28].copy_from_slice(&self.len.to_le_bytes());
        raw[28..30].copy_from_slice(&self.kind.to_le_bytes());
        raw[30..32].copy_from_slice(&self.operation.to_le_bytes());
        raw[32..36].copy_from_slice(&self.flags.to_le_bytes());
        raw[36..40].copy_from_slice(&self.buffer.to_le_bytes());
        raw[40..44].copy_from_slice(&self.forwarded.to_le_bytes());
        raw
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_field_has_its_place() {
        let raw: [u8; 44] = std::array::from_fn(|n| u8::try_from(n).unwrap());
        let header = Header::parse(&raw);
        assert_eq!(header.bytes(), raw);
        // virtio 1.2, 5.10.6: little endian, in this order, without gaps.
        assert_eq!(header.source_cid, 0x0706_0504_0302_0100);
        assert_eq!(
            (header.source_port, header.target_port),
            (0x1312_1110, 0x1716_1514)
        );
        assert_eq!(
            (header.len, header.kind, header.operation),
            (0x1b1a_1918, 0x1d1c, 0x1f1e)
        );
        assert_eq!(
            (header.flags, header.buffer, header.forwarded),
            (0x2322_2120, 0x2726_2524, 0x2b2a_2928)
        );
    }
}
