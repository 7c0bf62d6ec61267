// SPDX-License-Identifier: Apache-2.0
//! The search for the slot record and a slot's files on a boot partition: it ends, and what it finds lies where clusters are.
#![no_main]

use racklet_fat::{SECTOR, locate};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    // One is found by its short name, the other by a long one.
    for path in ["racklet/slots.0", "racklet/a/manifest.json"] {
        let mut reads = 0;
        let found = locate(
            |offset, sector: &mut [u8; SECTOR]| {
                reads += 1;
                let start = usize::try_from(offset).map_err(|_| ())?;
                let end = start.checked_add(SECTOR).ok_or(())?;
                sector.copy_from_slice(bytes.get(start..end).ok_or(())?);
                Ok::<(), ()>(())
            },
            path,
        );
        assert!(reads <= racklet_fat::MOST_SECTORS);
        if let Ok(place) = found {
            assert!(place.size > 0 && place.offset.is_multiple_of(SECTOR as u64));
        }
    }
});
