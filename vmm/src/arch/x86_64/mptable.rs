// SPDX-License-Identifier: Apache-2.0
//! The Intel MultiProcessor table (specification 1.4): how a kernel without ACPI finds processors and interrupt lines.

use super::layout::{IO_APIC, LOCAL_APIC, MP_TABLE};

const LINES: u8 = 24;

fn checksum(bytes: &[u8]) -> u8 {
    bytes
        .iter()
        .fold(0u8, |sum, b| sum.wrapping_add(*b))
        .wrapping_neg()
}

/// The table for this many processors, to be placed at [`MP_TABLE`]: at most 1 KiB.
pub(super) fn table(cpus: u8) -> Vec<u8> {
    let mut entries = Vec::new();
    let mut count = 0u16;
    let mut entry = |bytes: &[u8]| {
        entries.extend_from_slice(bytes);
        count += 1;
    };
    for cpu in 0..cpus {
        // APIC id, version, enabled (the first one boots), then signature and features, which nobody reads.
        let mut processor = [0; 20];
        processor[..4].copy_from_slice(&[0, cpu, 0x14, if cpu == 0 { 3 } else { 1 }]);
        processor[4..8].copy_from_slice(&0x600u32.to_le_bytes());
        processor[8..12].copy_from_slice(&0x201u32.to_le_bytes()); // FPU and APIC
        entry(&processor);
    }
    entry(b"\x01\x00ISA   ");
    let io_apic = cpus; // its id follows the processors'
    let mut controller = [2, io_apic, 0x11, 1, 0, 0, 0, 0];
    controller[4..].copy_from_slice(&IO_APIC.to_le_bytes());
    entry(&controller);
    for line in 0..LINES {
        // Vectored interrupt, polarity and trigger of the bus (edge), ISA line n to I/O APIC pin n.
        entry(&[3, 0, 0, 0, 0, line, io_apic, line]);
    }
    entry(&[4, 3, 0, 0, 0, 0, 0, 0]); // 8259 to LINT0 of the first processor
    entry(&[4, 1, 0, 0, 0, 0, 0xff, 1]); // NMI to LINT1 of all

    let mut header = Vec::with_capacity(44 + entries.len());
    header.extend(b"PCMP");
    header.extend(
        u16::try_from(44 + entries.len())
            .expect("at most 1 KiB")
            .to_le_bytes(),
    );
    header.extend([4, 0]); // revision 1.4, checksum below
    header.extend(b"RACKLET MICROVM     "); // 8 bytes of maker, 12 of product
    header.extend([0; 6]); // no OEM table
    header.extend(count.to_le_bytes());
    header.extend(LOCAL_APIC.to_le_bytes());
    header.extend([0; 4]);
    header.extend(entries);
    header[7] = checksum(&header);

    let mut pointer = b"_MP_".to_vec();
    pointer.extend(
        u32::try_from(MP_TABLE + 16)
            .expect("below 1 MiB")
            .to_le_bytes(),
    );
    pointer.extend([1, 4, 0, 0, 0, 0, 0, 0]); // 16 bytes long, revision 1.4, checksum below, a table is present
    pointer[10] = checksum(&pointer);
    pointer.extend(header);
    pointer
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_sums_to_zero_and_fits_for_any_number_of_processors() {
        for cpus in 1..=32 {
            let table = table(cpus);
            assert!(table.len() <= 1024, "{cpus}: {}", table.len());
            let sum = |bytes: &[u8]| bytes.iter().fold(0u8, |s, b| s.wrapping_add(*b));
            assert_eq!((sum(&table[..16]), sum(&table[16..])), (0, 0));
            assert_eq!(
                usize::from(u16::from_le_bytes([table[20], table[21]])),
                table.len() - 16
            );
        }
    }
}
