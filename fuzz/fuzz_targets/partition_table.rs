// SPDX-License-Identifier: Apache-2.0
//! The partition table of whatever disk is plugged in: looked into for the boot partition, and grown. What is planned to be
//! written lies on the disk, behind the boot sector.
#![no_main]

use racklet_linux::gpt;

libfuzzer_sys::fuzz_target!(|input: (u32, u64, u32, Vec<u8>)| {
    let (sector, disk_size, number, mut bytes) = input;
    let sector = 512 << (sector % 4);
    bytes.resize(gpt::head_bytes(sector), 0);
    let _ = gpt::holds(&bytes, sector, "00000000-0000-0000-0000-000000000000");
    if let Ok(Some(growth)) = gpt::grow(&bytes, sector, disk_size, number) {
        for write in growth.writes {
            let end = write.offset.checked_add(write.bytes.len() as u64);
            assert!(write.offset >= u64::from(sector) && end.is_some_and(|end| end <= disk_size));
        }
    }
});
