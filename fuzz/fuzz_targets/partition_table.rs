// SPDX-License-Identifier: Apache-2.0
//! The partition table of whatever disk is plugged in: looked into for the boot partition, and grown. What is planned to be
//! written lies on the disk, and behind the boot sector unless that is the table.
#![no_main]

use racklet_linux::{gpt, mbr, table};

libfuzzer_sys::fuzz_target!(|input: (u32, u64, u32, Vec<u8>)| {
    let (sector, disk_size, number, mut bytes) = input;
    let sector = 512 << (sector % 4);
    bytes.resize(table::head_bytes(sector), 0);
    let plan = table::grow(&bytes, sector, disk_size, number);
    let _ = table::holds(&bytes, sector, "0a1b2c3d-01");
    if let (Ok(before), Ok(Some(growth))) = (
        mbr::Table::read(&bytes),
        mbr::grow(&bytes, sector, disk_size, number),
    ) {
        assert!(growth.writes.len() == 1 && growth.writes[0].bytes.len() == mbr::SECTOR);
        let after = mbr::Table::read(&growth.writes[0].bytes).expect("what was planned is a table");
        assert_eq!(before.signature, after.signature);
        assert_eq!(plan, Ok(Some(growth)));
    }
    let _ = gpt::holds(&bytes, sector, "00000000-0000-0000-0000-000000000000");
    if let Ok(Some(growth)) = gpt::grow(&bytes, sector, disk_size, number) {
        for write in growth.writes {
            let end = write.offset.checked_add(write.bytes.len() as u64);
            assert!(write.offset >= u64::from(sector) && end.is_some_and(|end| end <= disk_size));
        }
    }
});
