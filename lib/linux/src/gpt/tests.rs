// SPDX-License-Identifier: Apache-2.0
use super::*;

const MIB: u64 = 1 << 20;
const CARD: usize = 1 << 30;

/// A disk of 64 MiB with an ESP of 32 MiB and a state partition to the end, as `sfdisk` lays it out.
fn disk(entries: &[(u64, u64)]) -> Vec<u8> {
    let sectors = 64 * MIB / 512;
    let mut table = vec![0_u8; 128 * 128];
    for (i, (first, last)) in entries.iter().enumerate() {
        table[i * 128..i * 128 + 16].fill(0xAB);
        table[i * 128 + 32..i * 128 + 40].copy_from_slice(&first.to_le_bytes());
        table[i * 128 + 40..i * 128 + 48].copy_from_slice(&last.to_le_bytes());
    }
    let mut header = vec![0_u8; 512];
    header[..8].copy_from_slice(b"EFI PART");
    header[8..12].copy_from_slice(&0x0001_0000_u32.to_le_bytes());
    header[12..16].copy_from_slice(&92_u32.to_le_bytes());
    for (at, value) in [
        (24, 1),
        (32, sectors - 1),
        (40, 34),
        (48, sectors - 34),
        (72, 2),
    ] {
        header[at..at + 8].copy_from_slice(&value.to_le_bytes());
    }
    header[80..84].copy_from_slice(&128_u32.to_le_bytes());
    header[84..88].copy_from_slice(&128_u32.to_le_bytes());
    header[88..92].copy_from_slice(&crc32fast::hash(&table).to_le_bytes());
    let checksum = header_checksum(&header[..92]);
    header[16..20].copy_from_slice(&checksum.to_le_bytes());
    [vec![0; 512], header, table].concat()
}

/// The beginning of a disk whose second partition has this unique GUID.
pub(crate) fn disk_with(guid: [u8; 16]) -> Vec<u8> {
    let mut head = two();
    head[1024 + 128 + 16..1024 + 128 + 32].copy_from_slice(&guid);
    let sum = crc32fast::hash(&head[1024..1024 + 128 * 128]);
    head[512 + 88..512 + 92].copy_from_slice(&sum.to_le_bytes());
    let sum = header_checksum(&head[512..512 + 92]);
    head[512 + 16..512 + 20].copy_from_slice(&sum.to_le_bytes());
    head
}

proptest::proptest! {
    #[test]
    fn no_bytes_make_it_panic(
        at in 0_usize..2048,
        noise in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..200),
        number in 0_u32..200,
    ) {
        let mut head = two();
        let end = (at + noise.len()).min(head.len());
        head[at..end].copy_from_slice(&noise[..end - at]);
        let _ = grow(&head, 512, 1024 * MIB, number);
        let _ = holds(&head, 512, "x");
    }
}

fn two() -> Vec<u8> {
    disk(&[(2048, 67583), (67584, 129023)])
}

#[test]
fn the_last_partition_grows_to_the_end_of_a_larger_card() {
    let head = two();
    let growth = grow(&head, 512, 1024 * MIB, 2)
        .expect("plans")
        .expect("grows");
    // 1024 MiB less 33 MiB in front and the last, partly used MiB.
    assert_eq!(growth.size, (1024 - 33 - 1) * MIB);
    let mut card = vec![0_u8; CARD];
    card[..head.len()].copy_from_slice(&head);
    for write in &growth.writes {
        let at = usize::try_from(write.offset).expect("within the card");
        card[at..at + write.bytes.len()].copy_from_slice(&write.bytes);
    }
    // The written table is a good one, and there is nothing left to grow.
    assert_eq!(grow(&card, 512, 1024 * MIB, 2), Ok(None));
    let backup = &card[card.len() - 512..];
    assert_eq!(
        header_checksum(&backup[..92]),
        u32::from_le_bytes(backup[16..20].try_into().expect("four"))
    );
    assert_eq!(
        u64::from_le_bytes(backup[24..32].try_into().expect("eight")),
        1024 * MIB / 512 - 1
    );
    let entries = &card[card.len() - 512 - 128 * 128..card.len() - 512];
    assert_eq!(entries, &card[1024..1024 + 128 * 128]);
    assert_eq!(
        growth.writes[1].offset + growth.writes[1].bytes.len() as u64,
        1536,
        "one write in one page"
    );
}

#[test]
fn a_partition_is_known_by_its_unique_guid() {
    let guid: [u8; 16] = std::array::from_fn(|n| u8::try_from(n).expect("small"));
    let head = disk_with(guid);
    let text = "03020100-0504-0706-0809-0a0b0c0d0e0f";
    assert_eq!(holds(&head, 512, text), Ok(true));
    assert_eq!(holds(&head, 512, &text.to_uppercase()), Ok(true));
    assert_eq!(holds(&two(), 512, text), Ok(false));
    // Entries that are not in use have this one.
    let none = "00000000-0000-0000-0000-000000000000";
    assert_eq!(holds(&disk(&[]), 512, none), Ok(false));
}

#[test]
fn a_card_of_the_images_size_is_left_alone() {
    assert_eq!(grow(&two(), 512, 64 * MIB, 2), Ok(None));
}

#[test]
fn only_the_last_partition_grows() {
    assert_eq!(grow(&two(), 512, 1024 * MIB, 1), Err(GptError::NotLast(1)));
    assert_eq!(grow(&two(), 512, 1024 * MIB, 3), Err(GptError::NoEntry(3)));
    assert_eq!(grow(&two(), 512, 1024 * MIB, 0), Err(GptError::NoEntry(0)));
}

#[test]
fn any_flipped_byte_in_header_or_entries_is_noticed() {
    let good = two();
    for at in (512..512 + 92).chain((1024..1024 + 512).step_by(7)) {
        let mut bad = good.clone();
        bad[at] ^= 0x40;
        assert!(grow(&bad, 512, 1024 * MIB, 2).is_err(), "byte {at}");
    }
    assert_eq!(
        grow(&good[..1000], 512, 1024 * MIB, 2),
        Err(GptError::Short)
    );
}
