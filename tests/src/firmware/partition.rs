// SPDX-License-Identifier: Apache-2.0
//! Which partition is booted.

use anyhow::Result;

use super::{
    KNOWS_A_B, Machine, Model, Refused, Reset, Volumes, WALKS,
    settings::{Reader, Settings},
};

/// The most partitions that are looked at.
const PARTITIONS: u32 = 8;
/// In PM_RSTS: nothing is to be started.
const HALT: u32 = 63;
/// Above it a number is no partition's (eeprom-bootloader.adoc, `PARTITION`).
const HIGHEST: u32 = 31;
/// autoboot.txt's limit.
const SECTOR: usize = 512;

/// A partition to boot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Choice {
    /// Its number, from 1.
    pub partition: u32,
    /// Whether the one-shot was set.
    pub tryboot: bool,
    /// Whether that chose among partitions; otherwise it chooses `tryboot.txt` instead of `config.txt`.
    pub by_partition: bool,
}

/// The partition number that PM_RSTS holds: its bits are every second one from bit 0 on.
#[must_use]
pub fn number_in(rsts: u32) -> u32 {
    (0..6).map(|bit| (rsts >> (2 * bit) & 1) << bit).sum()
}

/// Chooses it: the number that the reset left, else autoboot.txt's, else the first that can be booted. One that cannot be booted is
/// the start of a walk past all others, which reads no autoboot.txt.
///
/// # Errors
/// When the card cannot be read.
pub fn choose(
    volumes: &impl Volumes,
    machine: &Machine,
    reset: Reset,
) -> Result<Result<Choice, Refused>> {
    if machine.model == Model::ThreeBPlus && volumes.file(1, "bootcode.bin")?.is_none() {
        // In its ROM: on the first FAT partition, and nowhere else.
        return Ok(Err(Refused::NoBootcode));
    }
    let asked = match number_in(reset.rsts) {
        HALT => return Ok(Err(Refused::Halted)),
        number if number > HIGHEST => 0,
        number => number,
    };
    let knows = machine.eeprom >= KNOWS_A_B;
    let autoboot = volumes.file(1, "autoboot.txt")?.unwrap_or_default();
    if autoboot.len() > SECTOR {
        return Ok(Err(Refused::LongAutoboot(autoboot.len())));
    }
    let reader = Reader {
        machine: None,
        tryboot: knows.then_some(reset.tryboot),
    };
    let settings = Settings::read(&autoboot, reader);
    let wanted = match asked {
        0 => settings.number("boot_partition").unwrap_or(0),
        number => number,
    };
    let choice = |partition| Choice {
        partition,
        tryboot: reset.tryboot,
        by_partition: knows && settings.number("tryboot_a_b") == Some(1),
    };
    let bootable = |number| -> Result<bool> {
        let [start, _] = machine.model.firmware("");
        Ok(volumes.file(number, &start)?.is_some())
    };
    // 0 is the first that can be booted, with or without a walk.
    if wanted != 0 {
        if bootable(wanted)? {
            return Ok(Ok(choice(wanted)));
        }
        if machine.eeprom < WALKS {
            return Ok(Err(Refused::NotBootable(wanted)));
        }
    }
    for number in (wanted + 1..=PARTITIONS).chain(1..=wanted.min(PARTITIONS)) {
        if bootable(number)? {
            return Ok(Ok(choice(number)));
        }
    }
    Ok(Err(Refused::NothingBootable))
}
