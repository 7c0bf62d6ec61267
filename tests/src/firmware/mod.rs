// SPDX-License-Identifier: Apache-2.0
//! The part of a Raspberry Pi's firmware, played by its documented rules: from what lies on a card, and from what the last reset left
//! behind, which files are loaded, or why nothing starts.
//!
//! ```text
//!   reset ──PM_RSTS, tryboot flag──> partition ──config.txt──> firmware, kernel, initramfs, device tree, command line
//!              (partition.rs)           (settings.rs, files.rs)
//! ```
//!
//! QEMU's `raspi4b` starts a kernel that it is given. What it is given has to be what a board would have taken from the card, so
//! that a test of an image tests the image. Sources: raspberrypi/documentation (autoboot.adoc, conditional.adoc, boot.adoc,
//! eeprom-bootloader.adoc, memory.adoc, what_is_config_txt.adoc), and what users saw where these are silent, by the number of the
//! issue. Where boards differ or nobody knows, this is the stricter one: a card that starts here has less to hope for.
//!
//! Nothing of the code that writes our images is used: [`card`] reads them with `sfdisk` and mtools.

pub mod card;
pub mod files;
pub mod partition;
pub mod settings;

#[cfg(test)]
mod image_tests;
#[cfg(test)]
mod replace_tests;
#[cfg(test)]
mod tests;

use anyhow::Result;

pub use self::{
    files::{Loaded, load},
    partition::{Choice, choose},
};

/// What a card holds.
pub trait Volumes {
    /// The file at `path` on partition `number`, case ignored as FAT does; `None` where there is no such file, or no FAT.
    ///
    /// # Errors
    /// When the card cannot be read.
    fn file(&self, number: u32, path: &str) -> Result<Option<Vec<u8>>>;
}

/// A board as its firmware sees itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Machine {
    /// Which.
    pub model: Model,
    /// When its EEPROM's software was built, in Unix seconds. Boards without one have what the card brings.
    pub eeprom: u64,
    /// Its serial number.
    pub serial: u32,
}

/// The first EEPROM that knows `tryboot_a_b`, of 2022-11-25 (rpi-eeprom, issue 456).
pub const KNOWS_A_B: u64 = 1_669_334_400;
/// The first EEPROM that walks the partitions, of 2025-02-11 (rpi-eeprom, pull request 663).
pub const WALKS: u64 = 1_739_232_000;

/// Boards whose firmware is played here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Model {
    /// Raspberry Pi 4 Model B.
    FourB,
    /// Raspberry Pi 3 Model B+.
    ThreeBPlus,
}

impl Model {
    /// The model filters that it passes.
    fn filters(self) -> &'static [&'static str] {
        match self {
            Self::FourB => &["pi4"],
            Self::ThreeBPlus => &["pi3", "pi3+"],
        }
    }

    /// `[board-type=…]`, from its revision code.
    fn board_type(self) -> u32 {
        match self {
            Self::FourB => 0x11,
            Self::ThreeBPlus => 0x0d,
        }
    }

    /// The firmware's name and its fixup's, with what stands for a variant (`cd`, `x`, `db`) or nothing.
    fn firmware(self, variant: &str) -> [String; 2] {
        match (self, variant) {
            (Self::FourB, _) => [
                format!("start4{variant}.elf"),
                format!("fixup4{variant}.dat"),
            ],
            (Self::ThreeBPlus, "") => ["start.elf".into(), "fixup.dat".into()],
            (Self::ThreeBPlus, _) => [
                format!("start_{variant}.elf"),
                format!("fixup_{variant}.dat"),
            ],
        }
    }

    /// Names of its device tree: mainline's, then the vendor's.
    fn trees(self) -> [&'static str; 2] {
        match self {
            Self::FourB => ["bcm2711-rpi-4-b.dtb"; 2],
            Self::ThreeBPlus => ["bcm2837-rpi-3-b-plus.dtb", "bcm2710-rpi-3-b-plus.dtb"],
        }
    }

    /// The kernel that is loaded where config.txt names none.
    fn kernel(self, sixty_four: bool) -> &'static str {
        match (self, sixty_four) {
            (_, true) => "kernel8.img",
            (Self::FourB, false) => "kernel7l.img",
            (Self::ThreeBPlus, false) => "kernel7.img",
        }
    }
}

/// What the last reset left behind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Reset {
    /// PM_RSTS; 0 after power was off.
    pub rsts: u32,
    /// The one-shot: it is cleared before anything is started, so it counts for one boot.
    pub tryboot: bool,
}

/// Why nothing starts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refused {
    /// The partition number in PM_RSTS is 63.
    Halted,
    /// The boot ROM finds no second stage.
    NoBootcode,
    /// autoboot.txt is longer than a sector.
    LongAutoboot(usize),
    /// The partition cannot be booted, and no other is looked for.
    NotBootable(u32),
    /// Nor can any other.
    NothingBootable,
    /// A file that is needed is not there.
    Missing(String),
    /// The kernel is neither an Image nor one in gzip.
    Kernel(&'static str),
    /// config.txt asks for what is not played here.
    NotPlayed(String),
}

/// All of it: the partition, then its files.
///
/// # Errors
/// When the card cannot be read; why nothing starts is the inner error.
pub fn boot(
    volumes: &impl Volumes,
    machine: &Machine,
    reset: Reset,
) -> Result<Result<Loaded, Refused>> {
    match choose(volumes, machine, reset)? {
        Ok(choice) => load(volumes, machine, choice),
        Err(refused) => Ok(Err(refused)),
    }
}
