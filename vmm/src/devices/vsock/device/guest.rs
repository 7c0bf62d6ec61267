// SPDX-License-Identifier: Apache-2.0
//! The guest of these tests: what it says in one packet, and what it hears.

use vm_memory::{Bytes, GuestAddress};

use super::{Ports, STREAM};
use crate::devices::vsock::packet::{HEADER, Header};
use crate::memory::Memory;
use crate::testing::Driver;

/// Where it writes what it says.
const SAID: u64 = 0x9000;
/// Most data of a packet that it hears.
const MOST: u32 = 4096;

/// Makes a packet available, with credit for 8 KiB in the other direction.
pub(super) fn say(
    (memory, tx): (&Memory, &mut Driver),
    ports: Ports,
    operation: u16,
    flags: u32,
    data: &[u8],
) {
    let len = u32::try_from(data.len()).unwrap();
    let header = Header {
        source_cid: 3,
        target_cid: 2,
        source_port: ports.guest,
        target_port: ports.host,
        len,
        kind: STREAM,
        operation,
        flags,
        buffer: 8192,
        forwarded: 0,
    };
    let behind = SAID + u64::from(HEADER);
    for (bytes, at) in [(&header.bytes()[..], SAID), (data, behind)] {
        memory.write_slice(bytes, GuestAddress(at)).unwrap();
    }
    tx.offer(memory, &[(SAID, HEADER + len, false)]);
}

/// A buffer for what it hears; there are 128.
pub(super) fn offer(memory: &Memory, rx: &mut Driver, number: u64) {
    let at = buffer(number % 128);
    rx.offer(memory, &[(at, HEADER + MOST, true)]);
}

/// The next packet, in the order of [`offer`].
pub(super) fn hear(memory: &Memory, rx: &mut Driver) -> Option<(Header, Vec<u8>)> {
    let (head, len) = rx.collect(memory)?;
    let mut raw = vec![0; len as usize];
    let at = GuestAddress(buffer(head.into()));
    memory.read_slice(&mut raw, at).unwrap();
    let data = raw.split_off(HEADER as usize);
    Some((Header::parse(&raw.try_into().unwrap()), data))
}

fn buffer(number: u64) -> u64 {
    0x20000 + 0x1100 * number
}
