// SPDX-License-Identifier: Apache-2.0
//! What a Raspberry Pi's firmware reads of a slot, besides kernel and initramfs: names, and the text of `config.txt`.
//!
//! A slot is complete and says everything itself. Nothing is applied to its device tree at boot: what the tree says was compiled and
//! signed, so no `dtoverlay`, no `dtparam`, and no overlay from a HAT's EEPROM.

use std::io::Write as _;

use flate2::{Compression, GzBuilder};
use racklet_boards::{Board, Firmware, Stage};

use crate::kernel::is_gzip;

pub use racklet_slots::pi::{NAME as SLOT, OWNER};

/// The firmware's settings.
pub const CONFIG: &str = "config.txt";
/// The kernel's arguments.
pub const ARGUMENTS: &str = "cmdline.txt";
/// A settings file's lines: the firmware once read 78 characters of one, and later 98 (what_is_config_txt.adoc).
pub const LONGEST_LINE: usize = 78;

/// The files of a release besides `kernel` and `initramfs`.
pub fn release_files(firmware: &Firmware) -> impl Iterator<Item = String> {
    let made = [CONFIG, ARGUMENTS, firmware.tree_name()].map(str::to_owned);
    made.into_iter().chain(firmware.files.keys().cloned())
}

/// `config.txt` of every release for a board.
#[must_use]
pub fn config(firmware: &Firmware) -> String {
    let mut text =
        "# Part of a signed release: a change here is told, and undone by the next update.\n"
            .to_owned();
    let own = [
        "kernel=kernel".to_owned(),
        // One behind the other in memory. Linux finds the later ones at multiples of four bytes only: see `padded`.
        format!("initramfs initramfs,{OWNER},{SLOT} followkernel"),
        format!("device_tree={}", firmware.tree_name()),
        format!("cmdline={ARGUMENTS}"),
    ];
    for line in firmware.settings.iter().chain(&own) {
        text += line;
        text.push('\n');
    }
    text
}

/// `cmdline.txt` of every release for a board.
#[must_use]
pub fn arguments(board: &Board) -> String {
    board.arguments(Stage::Bootstrap).join(" ") + "\n"
}

/// A kernel as the firmware unpacks it, which knows gzip and nothing better. What is in gzip already stays as it is.
#[must_use]
pub fn compressed(kernel: &[u8]) -> Vec<u8> {
    if is_gzip(kernel) {
        return kernel.to_vec();
    }
    // Without a name and a time, so that the same kernel gives the same bytes.
    let mut encoder = GzBuilder::new().write(Vec::new(), Compression::best());
    encoder
        .write_all(kernel)
        .and_then(|()| encoder.finish())
        .expect("writing to memory cannot fail")
}

/// An initramfs that another one can follow: Linux looks for the next archive at the next multiple of four bytes, over zeros
/// (init/initramfs.c), and the firmware leaves no gap.
#[must_use]
pub fn padded(mut initramfs: Vec<u8>) -> Vec<u8> {
    initramfs.resize(initramfs.len().next_multiple_of(4), 0);
    initramfs
}

#[cfg(test)]
mod tests {
    use super::*;
    use racklet_boards::Boot;

    fn pis() -> impl Iterator<Item = (Board, Firmware)> {
        let all = racklet_boards::all().into_iter();
        all.filter_map(|board| {
            let firmware = board.firmware.clone()?;
            Some((board, firmware))
        })
    }

    #[test]
    fn what_the_firmware_reads_is_short_enough_and_leaves_the_tree_alone() {
        assert!(pis().count() >= 2);
        for (board, firmware) in pis() {
            let text = config(&firmware);
            for line in text.lines() {
                assert!(
                    line.len() <= LONGEST_LINE || line.starts_with('#'),
                    "{line}"
                );
                for other in ["dtoverlay", "dtparam", "include", "["] {
                    assert!(!line.starts_with(other), "{line}");
                }
            }
            assert!(text.contains("force_eeprom_read=0\n"), "{text}");
            assert_eq!(board.boot, Boot::RaspberryPi);
            assert!(arguments(&board).ends_with('\n') && !arguments(&board).trim().contains('\n'));
        }
    }

    #[test]
    fn a_release_has_each_file_once_and_no_more_than_a_manifest_may_name() {
        for (board, firmware) in pis() {
            let mut names: Vec<String> = release_files(&firmware).collect();
            names.extend(["kernel", "initramfs", OWNER, SLOT].map(str::to_owned));
            let count = names.len();
            names.sort();
            names.dedup();
            assert_eq!(names.len(), count, "{}: {names:?}", board.name);
            assert!(count - 2 <= 16);
        }
    }

    #[test]
    fn an_archive_can_follow_an_initramfs_of_any_length() {
        for length in 0..9 {
            let padded = padded(vec![1; length]);
            assert_eq!(padded.len() % 4, 0);
            assert!(padded[..length].iter().all(|byte| *byte == 1) && padded.len() < length + 4);
        }
    }
}
