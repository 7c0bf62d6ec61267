// SPDX-License-Identifier: Apache-2.0
//! What a Raspberry Pi's firmware says that it did, in `/chosen/bootloader` of the device tree: numbers, big-endian.

use std::fs;
use std::path::Path;

use racklet_trust::date::Utc;

const FOLDER: &str = "/sys/firmware/devicetree/base/chosen/bootloader";
/// The first software in the EEPROM that chooses among partitions by the one-shot, of 2022-11-25 (raspberrypi/rpi-eeprom, issue 456).
const KNOWS_SLOTS: u64 = 1_669_334_400;

/// Its report; what it does not say is absent.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Report {
    /// The partition that it booted.
    pub(crate) partition: Option<u32>,
    /// When the software in the EEPROM was built, in Unix seconds.
    pub(crate) built: Option<u64>,
}

impl Report {
    pub(crate) fn read() -> Self {
        Self::read_in(Path::new(FOLDER))
    }

    fn read_in(folder: &Path) -> Self {
        let number = |name: &str| {
            let bytes = fs::read(folder.join(name)).ok()?;
            Some(u32::from_be_bytes(bytes.try_into().ok()?))
        };
        Self {
            partition: number("partition"),
            built: number("build-timestamp").map(u64::from),
        }
    }

    /// What does not fit a slot on this partition, for people.
    pub(crate) fn doubts(&self, partition: u32) -> Vec<String> {
        let mut doubts = Vec::new();
        // A Raspberry Pi 5's said 0 until May 2024 (raspberrypi/rpi-eeprom, issue 575).
        if let Some(said) = self.partition.filter(|said| ![0, partition].contains(said)) {
            doubts.push(format!(
                "the firmware says that it booted partition {said}, and what it booted belongs on partition {partition}: a slot was copied by hand"
            ));
        }
        doubts.extend(self.too_old());
        doubts
    }

    /// That the firmware cannot start a slot by the one-shot, for people.
    pub(crate) fn too_old(&self) -> Option<String> {
        let built = self.built.filter(|built| *built < KNOWS_SLOTS)?;
        Some(format!(
            "the EEPROM's software of {} cannot try a slot: update it to 2022-11-25 or later (docs/guide/raspberry-pi.md)",
            Utc(built)
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_firmwares_report_is_read_as_far_as_it_goes() {
        let folder = tempfile::tempdir().expect("temporary folder");
        assert_eq!(Report::read_in(folder.path()), Report::default());
        fs::write(folder.path().join("partition"), 3_u32.to_be_bytes()).expect("writes");
        fs::write(folder.path().join("build-timestamp"), [1, 2]).expect("writes");
        let report = Report::read_in(folder.path());
        assert_eq!((report.partition, report.built), (Some(3), None));
    }

    #[test]
    fn a_slot_on_another_partition_and_an_eeprom_too_old_are_told() {
        let said = |partition, built| Report { partition, built }.doubts(2);
        assert!(said(None, None).is_empty());
        assert!(said(Some(2), Some(KNOWS_SLOTS)).is_empty());
        assert!(
            said(Some(0), None).is_empty(),
            "as early ones on a Pi 5 say"
        );
        let doubts = said(Some(3), Some(KNOWS_SLOTS - 1));
        assert!(doubts[0].contains("booted partition 3"), "{doubts:?}");
        assert!(
            doubts[1].contains("of 2022-11-24 23:59:59 UTC cannot try"),
            "{doubts:?}"
        );
    }
}
