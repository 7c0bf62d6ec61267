// SPDX-License-Identifier: Apache-2.0
//! Which partition the bootloader came from, so that later stages look at that disk and at no other: labels are on every
//! card of every tray, and on any stick that somebody gives them to.

use core::fmt;

/// Media device path (4), hard drive (1), of 42 bytes. Source: UEFI 2.10, 10.3.5.1.
const HARD_DRIVE: [u8; 4] = [4, 1, 42, 0];
/// The values of the format and signature type fields for a GPT disk.
const GPT: [u8; 2] = [2, 2];

/// The unique GUID of a GPT partition, as it stands on the disk. Displayed as Linux writes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PartitionId(pub [u8; 16]);

impl PartitionId {
    /// The partition that a device path, in its binary form, leads to. Nothing when it leads to something else: a network, a
    /// disc, a disk with an old partition table.
    // untrusted: device_path
    #[must_use]
    pub fn of_device_path(path: &[u8]) -> Option<Self> {
        let mut rest = path;
        while let [kind, subtype, low, high, ..] = *rest {
            let length = usize::from(u16::from_le_bytes([low, high]));
            let node = rest.get(..length).filter(|_| length >= 4)?;
            if [kind, subtype, low, high] == HARD_DRIVE && node[40..42] == GPT {
                return node[24..40].try_into().ok().map(Self);
            }
            rest = &rest[length..];
        }
        None
    }
}

impl fmt::Display for PartitionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The first three fields are little-endian (appendix A).
        let order = [3, 2, 1, 0, 5, 4, 7, 6, 8, 9, 10, 11, 12, 13, 14, 15];
        for (number, at) in order.into_iter().enumerate() {
            if matches!(number, 4 | 6 | 8 | 10) {
                f.write_str("-")?;
            }
            write!(f, "{:02x}", self.0[at])?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use alloc::{string::ToString, vec::Vec};

    fn path(format: u8) -> Vec<u8> {
        let mut path = Vec::new();
        // PCI(0x1f,0x2), then the partition, then the end.
        path.extend([1, 1, 6, 0, 2, 0x1f]);
        path.extend([4, 1, 42, 0, 1, 0, 0, 0]);
        path.extend([0; 16]);
        path.extend(0..16);
        path.extend([format, 2]);
        path.extend([0x7f, 0xff, 4, 0]);
        path
    }

    #[test]
    fn the_boot_partition_is_the_hard_drive_node_of_the_device_path() {
        let id = PartitionId::of_device_path(&path(2)).map(|id| id.to_string());
        assert_eq!(id.as_deref(), Some("03020100-0504-0706-0809-0a0b0c0d0e0f"));
        assert_eq!(PartitionId::of_device_path(&path(1)), None, "an MBR disk");
    }

    #[test]
    fn device_paths_that_end_early_or_lie_about_their_length_lead_nowhere() {
        let whole = path(2);
        for end in 0..whole.len() - 4 {
            assert_eq!(PartitionId::of_device_path(&whole[..end]), None, "{end}");
        }
        for length in [0, 1, 3, 41, 43, 0xffff_u16] {
            let mut bent = whole.clone();
            bent[8..10].copy_from_slice(&length.to_le_bytes());
            assert_eq!(PartitionId::of_device_path(&bent), None, "{length}");
        }
    }
}
