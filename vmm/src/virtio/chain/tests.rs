// SPDX-License-Identifier: Apache-2.0
use proptest::prelude::*;

use super::*;
use crate::testing::{Desc, table, test_memory};

const TABLE: u64 = 0x1000;
const OTHER: u64 = 0x2000;

fn walk(direct: &[Desc], indirect: &[Desc]) -> Result<Chain, Flaw> {
    let memory = test_memory();
    table(&memory, TABLE, direct);
    table(&memory, OTHER, indirect);
    Chain::walk(&memory, TABLE, 4, 0)
}

fn readable(address: u64, len: u32) -> Desc {
    Desc {
        address,
        len,
        flags: 0,
        next: 0,
    }
}

fn writable(address: u64, len: u32) -> Desc {
    Desc {
        flags: WRITE,
        ..readable(address, len)
    }
}

fn then(desc: Desc, next: u16) -> Desc {
    Desc {
        flags: desc.flags | NEXT,
        next,
        ..desc
    }
}

fn pointer(len: u32) -> Desc {
    Desc {
        flags: INDIRECT,
        ..readable(OTHER, len)
    }
}

#[test]
fn a_plain_chain_gives_its_parts_in_order() {
    let chain = walk(
        &[
            then(readable(0x4000, 16), 2),
            readable(0, 0),
            then(writable(0x5000, 512), 3),
            writable(0x6000, 1),
        ],
        &[],
    )
    .unwrap();
    assert_eq!((chain.readable_len(), chain.writable_len()), (16, 513));
    let seg = |address, len| Segment {
        address: GuestAddress(address),
        len,
    };
    let parts = |parts: Parts<'_>| parts.collect::<Vec<_>>();
    assert_eq!(
        parts(chain.writable(510, 10)),
        [seg(0x51fe, 2), seg(0x6000, 1)]
    );
    assert_eq!(parts(chain.writable(513, 1)), []);
    assert_eq!(parts(chain.readable(4, 4)), [seg(0x4004, 4)]);
}

#[test]
fn an_indirect_chain_is_followed_once() {
    let chain = walk(
        &[pointer(32)],
        &[then(readable(0x4000, 16), 1), writable(0x5000, 1)],
    )
    .unwrap();
    assert_eq!((chain.readable_len(), chain.writable_len()), (16, 1));
}

#[test]
fn overlapping_segments_are_allowed_and_read_once_each() {
    let chain = walk(
        &[
            then(readable(0x4000, 16), 1),
            then(readable(0x4008, 16), 2),
            writable(0x4000, 32),
        ],
        &[],
    )
    .unwrap();
    let memory = test_memory();
    memory
        .write_slice(b"0123456789abcdefghijklmn", GuestAddress(0x4000))
        .unwrap();
    let mut bytes = [0; 40];
    assert_eq!(chain.read(&memory, 0, &mut bytes), 32);
    assert_eq!(&bytes[..32], b"0123456789abcdef89abcdefghijklmn");
}

#[test]
fn malformed_chains_are_refused() {
    let end = 0x10_0000; // the end of the test memory
    let cases: &[(&[Desc], &[Desc], Flaw)] = &[
        (&[then(readable(0x4000, 1), 0)], &[], Flaw::ChainTooLong),
        (
            &[then(readable(0x4000, 1), 1), then(readable(0x4000, 1), 0)],
            &[],
            Flaw::ChainTooLong,
        ),
        (
            &[then(readable(0x4000, 1), 4)],
            &[],
            Flaw::NoSuchDescriptor(4),
        ),
        (&[readable(0x4000, 0)], &[], Flaw::Empty),
        (
            &[readable(end, 1)],
            &[],
            Flaw::OutsideMemory {
                address: end,
                len: 1,
            },
        ),
        (
            &[readable(end - 1, 2)],
            &[],
            Flaw::OutsideMemory {
                address: end - 1,
                len: 2,
            },
        ),
        (
            &[readable(u64::MAX, 2)],
            &[],
            Flaw::OutsideMemory {
                address: u64::MAX,
                len: 2,
            },
        ),
        (
            &[readable(0x4000, u32::MAX)],
            &[],
            Flaw::OutsideMemory {
                address: 0x4000,
                len: u64::from(u32::MAX),
            },
        ),
        (
            &[then(writable(0x4000, 1), 1), readable(0x5000, 1)],
            &[],
            Flaw::Direction,
        ),
        (&[pointer(16)], &[pointer(16)], Flaw::Nested),
        (
            &[then(pointer(16), 1), readable(0x4000, 1)],
            &[readable(0x4000, 1)],
            Flaw::Nested,
        ),
        (
            &[then(readable(0x4000, 1), 1), pointer(16)],
            &[readable(0x4000, 1)],
            Flaw::Nested,
        ),
        (&[pointer(0)], &[], Flaw::TableLength(0)),
        (&[pointer(17)], &[], Flaw::TableLength(17)),
        (&[pointer(16 * 5)], &[], Flaw::ChainTooLong),
        (&[pointer(!15)], &[], Flaw::ChainTooLong),
        (
            &[pointer(16)],
            &[then(readable(0x4000, 1), 1)],
            Flaw::NoSuchDescriptor(1),
        ),
        (
            &[pointer(32)],
            &[then(readable(0x4000, 1), 1), then(readable(0x4000, 1), 0)],
            Flaw::ChainTooLong,
        ),
        (
            &[Desc {
                address: end - 8,
                ..pointer(16)
            }],
            &[],
            Flaw::OutsideMemory {
                address: end - 8,
                len: 16,
            },
        ),
        (
            &[Desc {
                address: u64::MAX - 8,
                ..pointer(16)
            }],
            &[],
            Flaw::OutsideMemory {
                address: u64::MAX - 8,
                len: 16,
            },
        ),
    ];
    for (direct, indirect, fault) in cases {
        assert_eq!(
            walk(direct, indirect),
            Err(*fault),
            "{direct:?} {indirect:?}"
        );
    }
}

proptest! {
    #[test]
    fn no_table_of_bytes_escapes_the_bounds(raw in prop::collection::vec(any::<u8>(), 512), head in any::<u16>(), near in any::<bool>()) {
        let memory = test_memory();
        let mut raw = raw;
        if near {
            // Most random addresses are far outside: fold them so that deep chains happen, too.
            for entry in raw.chunks_mut(16) {
                entry[3..8].fill(0);
                entry[2] &= 0x0f;
                entry[10..12].fill(0);
                entry[13] = 0;
                entry[14] &= 0x0f;
                entry[15] = 0;
            }
        }
        memory.write_slice(&raw, GuestAddress(TABLE)).unwrap();
        let head = if near { head % 16 } else { head };
        if let Ok(chain) = Chain::walk(&memory, TABLE, 16, head) {
            prop_assert!(chain.segments.len() <= 16);
            for segment in &chain.segments {
                prop_assert!(segment.len > 0);
                prop_assert!(memory.get_slice(segment.address, segment.len as usize).is_ok());
            }
        }
    }

    #[test]
    fn a_part_is_the_same_as_the_slice_of_all_bytes(lens in prop::collection::vec(1u32..50, 1..6), offset in 0u64..300, len in 0u64..300) {
        let mut address = 0;
        let segments: Vec<Segment> = lens.iter().map(|l| {
            address += 100;
            Segment { address: GuestAddress(address), len: *l }
        }).collect();
        let chain = Chain { head: 0, readable: segments.len(), segments };
        let bytes = |s: &[Segment]| s.iter().flat_map(|s| (0..u64::from(s.len)).map(|i| s.address.0 + i)).collect::<Vec<_>>();
        let all = bytes(&chain.segments);
        let from = usize::try_from(offset).unwrap().min(all.len());
        let to = (from + usize::try_from(len).unwrap()).min(all.len());
        let part: Vec<Segment> = chain.readable(offset, len).collect();
        prop_assert_eq!(bytes(&part), &all[from..to]);
    }
}
