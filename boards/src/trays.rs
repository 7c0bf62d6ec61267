// SPDX-License-Identifier: Apache-2.0
//! The boards that trays are built on (`trays/<name>/board.toml`): how each boots, where it speaks, what its kernels are told.

use std::collections::BTreeMap;

use racklet_trust::Architecture;
use serde::Deserialize;

const FOUND: &[(&str, &str)] = include!(concat!(env!("OUT_DIR"), "/boards.rs"));

/// One board.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Board {
    /// The folder's name.
    pub name: String,
    /// One line for people.
    pub description: String,
    /// Its processor's.
    pub architecture: Architecture,
    /// What starts the first stage, and how a card is divided.
    pub boot: Boot,
    /// Its serial consoles; the first one is where PID 1 speaks.
    pub consoles: Vec<Console>,
    /// The serial port that leads to the tray's controller, as the processor's data sheet calls it, where there is one.
    #[serde(default)]
    pub control_link: Option<String>,
    /// The longest time that its watchdog counts right, in seconds; 0 where none may be armed.
    pub watchdog: u32,
    /// What kernels on it are told.
    pub arguments: Arguments,
    /// What its own firmware loads of a card, where that starts the first stage.
    #[serde(default)]
    pub firmware: Option<Firmware>,
    /// Why no microVM runs on it, where none does.
    #[serde(default)]
    pub no_microvms: Option<String>,
    /// What is missing until images are built for it, where none are.
    #[serde(default)]
    pub no_images: Option<String>,
    /// Where we have booted it: an emulator, or nowhere.
    pub booted: String,
    /// How tests, demo and figures have it, where an emulator does.
    #[serde(default)]
    pub emulator: Option<Emulator>,
}

/// A board as QEMU has it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Emulator {
    /// Which QEMU.
    pub program: String,
    /// What makes it this board.
    pub machine: Vec<String>,
    /// The processor where it is not the machine's own.
    pub processor: String,
    /// Its firmware, of which the first is taken that is there: distributions differ.
    pub firmware: Vec<Flash>,
}

/// A firmware, as it lies in two memories.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Flash {
    /// What runs; nobody writes there.
    pub code: String,
    /// What its variables are before it has written any.
    pub variables: String,
}

/// What starts the first stage, and how a card is divided.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Boot {
    /// UEFI starts `EFI/BOOT/BOOT*.EFI` from a card with a GPT.
    Uefi,
    /// The Raspberry Pi's own firmware starts a kernel from a card with an MBR: it takes neither a GPT nor a hybrid of both.
    RaspberryPi,
}

/// A serial console.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Console {
    /// Linux's name of the device.
    pub device: String,
    /// Bits per second.
    pub baud: u32,
}

/// What kernels on a board are told, besides where they speak.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Arguments {
    /// Said to every kernel.
    pub every: Vec<String>,
    /// Said to the bootstrap kernel alone.
    #[serde(default)]
    pub bootstrap: Vec<String>,
    /// Said to the hypervisor OS alone.
    #[serde(default)]
    pub payload: Vec<String>,
}

/// What a Raspberry Pi's firmware loads of a card, besides kernel and initramfs.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Firmware {
    /// The device tree that Linux's sources make, below `arch/arm64/boot/dts`. What we change of it is `tree.dtso` in the board's
    /// folder, applied when the tree is built.
    pub tree: String,
    /// What the board's ROM wants to find before it looks for anything else, as Debian's `raspi-firmware` calls it.
    #[serde(default)]
    pub rom: Option<String>,
    /// Lines of `config.txt`.
    pub settings: Vec<String>,
    /// Files of a slot by name, and what Debian's `raspi-firmware` calls them.
    pub files: BTreeMap<String, String>,
}

impl Firmware {
    /// What the device tree is called in a slot.
    #[must_use]
    pub fn tree_name(&self) -> &str {
        self.tree.rsplit('/').next().unwrap_or(&self.tree)
    }
}

/// Which of the kernels that run on a board, one after the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// The one that fetches, verifies and starts the other.
    Bootstrap,
    /// The one of the hypervisor OS.
    Payload,
}

impl Board {
    /// All that the kernel of a stage is told. The last console is the one that Linux takes for `/dev/console`, so the first of the
    /// board stands there.
    #[must_use]
    pub fn arguments(&self, stage: Stage) -> Vec<String> {
        let consoles = self.consoles.iter().rev();
        let consoles = consoles.map(|it| format!("console={},{}", it.device, it.baud));
        let own = match stage {
            Stage::Bootstrap => &self.arguments.bootstrap,
            Stage::Payload => &self.arguments.payload,
        };
        let rest = self.arguments.every.iter().chain(own).cloned();
        consoles.chain(rest).collect()
    }
}

/// No such board.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("there is no board {name:?}; there are: {}", known.join(", "))]
pub struct UnknownBoard {
    name: String,
    known: Vec<String>,
}

/// All boards, by name.
#[must_use]
pub fn all() -> Vec<Board> {
    FOUND
        .iter()
        .map(|(folder, text)| parse(folder, text))
        .collect()
}

/// The board called `name`.
///
/// # Errors
/// [`UnknownBoard`] with the names there are.
pub fn find(name: &str) -> Result<Board, UnknownBoard> {
    let found = FOUND.iter().find(|(folder, _)| *folder == name);
    found
        .map(|(folder, text)| parse(folder, text))
        .ok_or_else(|| UnknownBoard {
            name: name.to_owned(),
            known: FOUND
                .iter()
                .map(|(folder, _)| (*folder).to_owned())
                .collect(),
        })
}

fn parse(folder: &str, text: &str) -> Board {
    let board: Board = toml::from_str(text).unwrap_or_else(|error| {
        panic!("boards/trays/{folder}/board.toml (part of this program): {error}")
    });
    assert_eq!(board.name, folder, "a board is called like its folder");
    board
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_folder_is_a_board_that_parses() {
        let all = all();
        assert!(all.iter().any(|board| board.name == "qemu-x86_64"));
        for board in all {
            assert_eq!(find(&board.name), Ok(board.clone()));
            let said = [&board.description, &board.booted];
            let reasons = [&board.no_microvms, &board.no_images];
            let mut said = said.into_iter().chain(reasons.into_iter().flatten());
            assert!(said.all(|text| text.len() > 5), "{}", board.name);
            assert!(!board.consoles.is_empty(), "{}", board.name);
            // What is booted in tests is built, and has something to boot from.
            let emulated = board.emulator.as_ref();
            assert!(emulated.is_none_or(|it| board.no_images.is_none() && !it.firmware.is_empty()));
        }
    }

    #[test]
    fn what_kernels_are_told_fits_the_board() {
        for board in all() {
            for stage in [Stage::Bootstrap, Stage::Payload] {
                let arguments = board.arguments(stage);
                let line = arguments.join(" ");
                assert_eq!(racklet_trust::arguments::check(&line), Ok(()), "{line}");
                // Where Linux speaks is the consoles' part, and a machine that stands still after a panic is never tried again.
                let consoles = arguments.iter().filter(|it| it.starts_with("console="));
                assert_eq!(consoles.count(), board.consoles.len(), "{line}");
                assert!(
                    arguments.iter().any(|it| it.starts_with("panic=")),
                    "{line}"
                );
            }
            // A hypervisor OS wants all of its processors.
            let payload = board.arguments(Stage::Payload);
            assert!(!payload.iter().any(|it| it.starts_with("nr_cpus=")));
            // Its driver takes longer times modulo 16 s and resets the machine early, or at once.
            assert!(board.boot != Boot::RaspberryPi || board.watchdog < 16);
        }
    }

    #[test]
    fn the_first_console_is_the_one_of_pid_1() {
        let mut board = find("qemu-x86_64").unwrap();
        board.consoles.push(Console {
            device: "ttyS1".into(),
            baud: 9600,
        });
        let line = board.arguments(Stage::Bootstrap).join(" ");
        let at = |word: &str| line.find(word).unwrap();
        assert!(
            at("console=ttyS1,9600") < at("console=ttyS0,115200"),
            "{line}"
        );
    }

    #[test]
    fn a_board_without_its_secondary_processors_in_reach_boots_its_bootstrap_on_one() {
        // The spin table's processors cannot be handed to a kernel that is started by kexec once Linux has taken them.
        let pi = find("raspberry-pi-4b").unwrap();
        let told = |stage| pi.arguments(stage).contains(&"nr_cpus=1".to_owned());
        assert!(told(Stage::Bootstrap) && !told(Stage::Payload));
    }

    #[test]
    fn a_board_whose_own_firmware_starts_linux_says_all_that_it_loads() {
        for board in all() {
            // One that nothing is built for yet may leave it open.
            let open = board.no_images.is_some() && board.firmware.is_none();
            let own = board.boot == Boot::RaspberryPi;
            assert!(
                own == board.firmware.is_some() || own && open,
                "{}",
                board.name
            );
            let Some(firmware) = board.firmware else {
                continue;
            };
            let plain = |name: &str| {
                let known =
                    |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"._-".contains(&b);
                !name.is_empty() && name.bytes().all(known)
            };
            let names = firmware.files.keys().map(String::as_str);
            assert!(
                names.chain([firmware.tree_name()]).all(plain),
                "{firmware:?}"
            );
            assert!(firmware.tree.ends_with(".dtb"));
            // Its overlay is unsigned, and a damaged one stops the boot (raspberrypi/hats, issue 33).
            assert!(
                firmware
                    .settings
                    .iter()
                    .any(|line| line == "force_eeprom_read=0")
            );
            // What lies on a card of Broadcom's has to have its licence beside it.
            assert!(firmware.files.contains_key("copyright"));
        }
    }

    #[test]
    fn an_unknown_board_is_answered_with_those_there_are() {
        assert!(
            find("toaster")
                .unwrap_err()
                .to_string()
                .contains("qemu-x86_64")
        );
    }
}
