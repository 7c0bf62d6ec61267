// SPDX-License-Identifier: Apache-2.0
use super::*;

const MIB: u64 = 1 << 20;
const UNIT: u32 = 2048;

/// The first sector of a disk with these partitions, in MiB: type, start, length.
pub(crate) fn disk(signature: u32, partitions: &[(u8, u32, u32)]) -> Vec<u8> {
    let mut sector = vec![0; SECTOR];
    sector[SIGNATURE..SIGNATURE + 4].copy_from_slice(&signature.to_le_bytes());
    for (n, (kind, start, length)) in partitions.iter().enumerate() {
        let entry = &mut sector[ENTRIES + n * ENTRY..][..ENTRY];
        entry[4] = *kind;
        entry[8..12].copy_from_slice(&(start * UNIT).to_le_bytes());
        entry[12..16].copy_from_slice(&(length * UNIT).to_le_bytes());
    }
    sector[510..].copy_from_slice(&[0x55, 0xaa]);
    sector
}

/// As our cards are laid out, smaller.
fn card() -> Vec<u8> {
    disk(
        0x0a1b_2c3d,
        &[
            (0x0c, 1, 40),
            (0x0c, 41, 40),
            (0x0c, 81, 40),
            (0x83, 121, 39),
        ],
    )
}

#[test]
fn the_last_partition_grows_to_the_end_of_a_larger_card_in_one_sector() {
    let head = card();
    let growth = grow(&head, 512, 1024 * MIB, 4)
        .expect("plans")
        .expect("grows");
    assert_eq!(growth.size, (1024 - 121) * MIB);
    let [write] = &growth.writes[..] else {
        panic!("{growth:?}")
    };
    assert_eq!((write.offset, write.bytes.len()), (0, SECTOR));
    let (before, after) = (
        Table::read(&head).expect("reads"),
        Table::read(&write.bytes).expect("reads"),
    );
    assert_eq!(before.partitions[..3], after.partitions[..3]);
    assert_eq!(before.signature, after.signature);
    // Nothing else changes, such as code that a PC would start, and there is nothing left to grow.
    assert_eq!(
        head[..ENTRIES + 3 * ENTRY],
        write.bytes[..ENTRIES + 3 * ENTRY]
    );
    assert_eq!(grow(&write.bytes, 512, 1024 * MIB, 4), Ok(None));
}

#[test]
fn a_disk_that_is_larger_than_a_table_can_say_is_used_up_to_there() {
    let growth = grow(&card(), 512, 8 << 40, 4)
        .expect("plans")
        .expect("grows");
    assert_eq!(growth.size, (2 << 40) - MIB - 121 * MIB);
    assert_eq!(
        grow(&card(), 512, 165 * MIB, 4),
        Ok(None),
        "too little to gain"
    );
    assert_eq!(
        grow(&card(), 4096, 8 << 40, 4),
        Err(MbrError::Sectors(4096))
    );
}

#[test]
fn only_the_last_partition_grows() {
    assert_eq!(grow(&card(), 512, 1024 * MIB, 2), Err(MbrError::NotLast(2)));
    for number in [0, 5, u32::MAX] {
        assert_eq!(
            grow(&card(), 512, 1024 * MIB, number),
            Err(MbrError::NoEntry(number))
        );
    }
    // The last on the disk need not be the last in the table.
    let turned = disk(1, &[(0x83, 100, 50), (0x0c, 1, 40)]);
    assert!(grow(&turned, 512, 1024 * MIB, 1).is_ok_and(|growth| growth.is_some()));
}

#[test]
fn a_partition_is_known_by_the_disks_signature_and_its_number() {
    let table = Table::read(&card()).expect("reads");
    assert!(table.holds("0a1b2c3d-01") && table.holds("0A1B2C3D-04"));
    for other in ["0a1b2c3d-05", "0a1b2c3d-00", "1a1b2c3d-01", "0a1b2c3d", ""] {
        assert!(!table.holds(other), "{other}");
    }
    let nameless = Table::read(&disk(0, &[(0x0c, 1, 40)])).expect("reads");
    assert!(
        !nameless.holds("00000000-01"),
        "every new disk has this one"
    );
    assert!(is_identity("0A1b2c3d-04"));
    for other in [
        "03020100-0504-0706-0809-0a0b0c0d0e0f",
        "0a1b2c3d-4",
        "0a1b2c3g-04",
        "x",
        "",
    ] {
        assert!(!is_identity(other), "{other}");
    }
}

#[test]
fn what_is_no_table_of_ours_is_refused_with_the_reason() {
    let refused = |head: &[u8], why: &str| {
        let error = Table::read(head).expect_err(why).to_string();
        assert!(error.contains(why), "{error}");
    };
    refused(&card()[..511], "too short");
    refused(&[0; SECTOR], "no signature");
    refused(&disk(1, &[(0xee, 1, 40)]), "stands for a GPT");
    refused(
        &disk(1, &[(0x0c, 1, 40), (0xee, 50, 40)]),
        "stands for a GPT",
    );
    for kind in EXTENDED {
        refused(&disk(1, &[(kind, 1, 40)]), "extended");
    }
    refused(&disk(1, &[(0x0c, 0, 40)]), "holds the table");
    refused(&disk(1, &[(0x0c, 1, 0)]), "empty");
    refused(&disk(1, &[(0x0c, 1, 40), (0x83, 40, 40)]), "overlap");
    let mut volume = card();
    volume[ENTRIES] = b'F';
    refused(&volume, "neither active nor inactive");
}

proptest::proptest! {
    #[test]
    fn no_bytes_make_it_panic_or_shrink_a_partition(
        at in 440_usize..512,
        noise in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..80),
        size in proptest::prelude::any::<u64>(),
        number in 0_u32..6,
    ) {
        let mut head = card();
        let end = (at + noise.len()).min(510);
        if at < end {
            head[at..end].copy_from_slice(&noise[..end - at]);
        }
        if let Ok(Some(growth)) = grow(&head, 512, size, number) {
            let before = Table::read(&head).expect("was read").entry(number).expect("is there");
            let after = Table::read(&growth.writes[0].bytes).expect("reads").entry(number).expect("is there");
            proptest::prop_assert!(after.sectors > before.sectors && after.start == before.start);
            proptest::prop_assert!(after.end() * 512 <= size);
        }
    }
}
