// SPDX-License-Identifier: Apache-2.0
//! The header in front of each frame (`struct virtio_net_hdr_v1`, virtio 1.2, 5.1.6): what one side leaves for the other to do.
//!
//! The host's kernel does what a frame's header asks for, and a driver works on what it gets. So a header passes only with what was
//! agreed on, about bytes that are there; everything else in it is made 0.

use super::{F_CSUM, F_GUEST_CSUM, F_GUEST_TSO4, F_GUEST_TSO6, F_HOST_TSO4, F_HOST_TSO6, HEADER};

/// The checksum is to be put in.
const NEEDS_CHECKSUM: u8 = 1;
/// The checksum was looked at and is good.
const DATA_VALID: u8 = 2;

const WHOLE: u8 = 0;
const TCP4: u8 = 1;
const TCP6: u8 = 4;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Fields {
    flags: u8,
    /// What it is to be cut into, if it is.
    kind: u8,
    /// Bytes of a large frame that each of its parts begins with; a hint.
    head: u16,
    /// Bytes of each part behind that.
    part: u16,
    /// From where on there is to be a checksum, and where behind that it belongs.
    start: u16,
    offset: u16,
}

impl Fields {
    fn of(header: [u8; HEADER]) -> Fields {
        let [flags, kind, h0, h1, p0, p1, s0, s1, o0, o1, _, _] = header;
        Fields {
            flags,
            kind,
            head: u16::from_le_bytes([h0, h1]),
            part: u16::from_le_bytes([p0, p1]),
            start: u16::from_le_bytes([s0, s1]),
            offset: u16::from_le_bytes([o0, o1]),
        }
    }

    /// Without a number of buffers.
    fn bytes(self) -> [u8; HEADER] {
        let [h0, h1] = self.head.to_le_bytes();
        let [p0, p1] = self.part.to_le_bytes();
        let [s0, s1] = self.start.to_le_bytes();
        let [o0, o1] = self.offset.to_le_bytes();
        [self.flags, self.kind, h0, h1, p0, p1, s0, s1, o0, o1, 0, 0]
    }
}

/// Which of these a side has agreed to take.
struct Agreed {
    checksum: bool,
    tcp4: bool,
    tcp6: bool,
}

/// The header with nothing in it but what was agreed on; none where it asks for something else, or about bytes that the frame, of
/// this length without its header, does not have.
fn pass(header: [u8; HEADER], frame: usize, agreed: &Agreed) -> Option<Fields> {
    let given = Fields::of(header);
    let mut passed = Fields::default();
    if given.flags & NEEDS_CHECKSUM != 0 {
        // Two bytes, which checksums of TCP and UDP have.
        let end = usize::from(given.start) + usize::from(given.offset) + 2;
        if !agreed.checksum || end > frame {
            return None;
        }
        passed.flags = NEEDS_CHECKSUM;
        (passed.start, passed.offset) = (given.start, given.offset);
    }
    let agreed = match given.kind {
        WHOLE => return Some(passed),
        TCP4 => agreed.tcp4,
        TCP6 => agreed.tcp6,
        _ => false, // what was not offered: UDP, and the bit for congestion marks
    };
    if !agreed || given.part == 0 || usize::from(given.head) > frame {
        return None;
    }
    (passed.kind, passed.head, passed.part) = (given.kind, given.head, given.part);
    Some(passed)
}

/// Of a frame that the guest sends. A large one needs its checksum (5.1.6.2.1): whoever cuts it makes one for each part.
// untrusted: virtio_devices
pub(super) fn sent(header: [u8; HEADER], frame: usize, features: u64) -> Option<[u8; HEADER]> {
    let agreed = Agreed {
        checksum: features & F_CSUM != 0,
        tcp4: features & F_HOST_TSO4 != 0,
        tcp6: features & F_HOST_TSO6 != 0,
    };
    let passed = pass(header, frame, &agreed)?;
    let good = passed.kind == WHOLE || passed.flags == NEEDS_CHECKSUM;
    good.then(|| passed.bytes())
}

/// Of a frame that the guest gets. The tap has been told what may come, but one that it holds since before was made for another driver.
pub(super) fn received(header: [u8; HEADER], frame: usize, features: u64) -> Option<[u8; HEADER]> {
    let agreed = Agreed {
        checksum: features & F_GUEST_CSUM != 0,
        tcp4: features & F_GUEST_TSO4 != 0,
        tcp6: features & F_GUEST_TSO6 != 0,
    };
    let mut passed = pass(header, frame, &agreed)?;
    if agreed.checksum && passed.flags == 0 {
        passed.flags = header[0] & DATA_VALID;
    }
    Some(passed.bytes())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Flags, kind, head, part, start, offset.
    fn header(flags: u8, kind: u8, [head, part, start, offset]: [u16; 4]) -> [u8; HEADER] {
        let fields = Fields {
            flags,
            kind,
            head,
            part,
            start,
            offset,
        };
        fields.bytes()
    }

    #[test]
    fn a_guest_asks_for_what_was_agreed_on_about_bytes_that_are_there() {
        let all = F_CSUM | F_HOST_TSO4 | F_HOST_TSO6;
        let plain = header(0, 0, [0; 4]);
        let sum = header(1, 0, [0, 0, 34, 16]);
        let large = header(1, 1, [54, 1448, 34, 16]);
        let large6 = header(1, 4, [74, 1428, 54, 16]);
        for (given, features, passed) in [
            (plain, 0, Some(plain)),
            (sum, F_CSUM, Some(sum)),
            (sum, F_HOST_TSO4, None),
            (large, all, Some(large)),
            (large, F_CSUM | F_HOST_TSO6, None),
            (large, F_HOST_TSO4, None),
            (large6, all, Some(large6)),
            (large6, F_CSUM | F_HOST_TSO4, None),
            // Unknown flags and fields that mean nothing are nothing.
            (header(0xfe, 0, [1, 2, 3, 4]), all, Some(plain)),
            // The last two bytes of 100, and one further on; nothing wraps.
            (
                header(1, 0, [0, 0, 98, 0]),
                all,
                Some(header(1, 0, [0, 0, 98, 0])),
            ),
            (header(1, 0, [0, 0, 98, 1]), all, None),
            (header(1, 0, [0, 0, 99, 0]), all, None),
            (header(1, 0, [0, 0, u16::MAX, u16::MAX]), all, None),
            (header(1, 0, [0, 0, 1, u16::MAX]), all, None),
            // Large, without a checksum, parts of nothing, a head beyond its end, of a kind that nobody offered.
            (header(0, 1, [54, 1448, 0, 0]), all, None),
            (header(1, 1, [54, 0, 34, 16]), all, None),
            (header(1, 1, [101, 1448, 34, 16]), all, None),
            (header(1, 3, [54, 1448, 34, 16]), u64::MAX, None),
            (header(1, 5, [54, 1448, 34, 6]), u64::MAX, None),
            (header(1, 0x81, [54, 1448, 34, 16]), u64::MAX, None),
            (header(1, 0x80, [54, 1448, 34, 16]), u64::MAX, None),
            (header(1, 2, [54, 1448, 34, 16]), u64::MAX, None),
        ] {
            assert_eq!(
                sent(given, 100, features),
                passed,
                "{given:?} {features:#x}"
            );
        }
    }

    #[test]
    fn a_guest_gets_what_it_agreed_to() {
        let sum = header(1, 0, [0, 0, 34, 16]);
        let large = header(1, 1, [54, 1448, 34, 16]);
        let (plain, good) = (header(0, 0, [0; 4]), header(2, 0, [0; 4]));
        let tso = F_GUEST_CSUM | F_GUEST_TSO4;
        for (given, features, passed) in [
            (plain, 0, Some(plain)),
            (good, 0, Some(plain)),
            (good, F_GUEST_CSUM, Some(good)),
            (sum, 0, None),
            (sum, F_CSUM, None),
            (sum, F_GUEST_CSUM, Some(sum)),
            (large, F_GUEST_CSUM, None),
            (large, tso, Some(large)),
            (header(1, 4, [54, 1448, 34, 16]), tso, None),
        ] {
            assert_eq!(
                received(given, 100, features),
                passed,
                "{given:?} {features:#x}"
            );
        }
    }

    proptest! {
        #[test]
        fn whatever_passes_asks_for_nothing_beyond_the_frame(
            given in any::<[u8; HEADER]>(),
            kind in prop_oneof![Just(0_u8), Just(1), Just(4), any::<u8>()],
            frame in 1..70_000_usize,
            features in any::<u64>(),
        ) {
            let given = [&[given[0], kind], &given[2..]].concat().try_into().unwrap();
            for passed in [sent(given, frame, features), received(given, frame, features)] {
                let Some(passed) = passed.map(Fields::of) else { continue };
                prop_assert!(passed.flags == 0 || features & (F_CSUM | F_GUEST_CSUM) != 0);
                prop_assert!([WHOLE, TCP4, TCP6].contains(&passed.kind));
                let end = usize::from(passed.start) + usize::from(passed.offset);
                prop_assert!(end == 0 || end + 2 <= frame);
                prop_assert!(usize::from(passed.head) <= frame);
                prop_assert!(passed.kind == WHOLE || passed.part > 0);
            }
        }
    }
}
