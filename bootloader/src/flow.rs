// SPDX-License-Identifier: Apache-2.0
//! The order of steps, over a [`Firmware`] that only does what it is told.

use alloc::{format, vec::Vec};
use core::{fmt, time::Duration};

use racklet_trust::Architecture;
use racklet_trust::slot::{self, Choice, Copies, Loaded, Slot, State};

use crate::{
    baked::Baked,
    carried::Carried,
    place::PartitionId,
    verify::{self, Bootable, Files, Refusal},
};

/// How long the reasons stay on the screen before the machine is reset.
pub const READING_TIME: Duration = Duration::from_secs(60);
/// The pause when every slot has used up its tries: a tray that cannot become healthy restarts, and does not race.
pub const RENEWAL_PAUSE: Duration = Duration::from_secs(10);

/// What the machine can do.
pub trait Firmware: Files + Copies<Error: fmt::Display> {
    /// Says one line.
    fn say(&mut self, text: fmt::Arguments<'_>);

    /// The partition that the bootloader came from, when the firmware says so.
    fn came_from(&self) -> Option<PartitionId>;

    /// Waits.
    fn pause(&mut self, time: Duration);

    /// Starts a kernel with an initramfs. Returns only if that did not work, and says why.
    fn start(&mut self, bootable: Bootable, initramfs_end: &[u8], arguments: &str) -> Refusal;
}

/// Starts a slot. Returns the reason for each slot when none can be started.
pub fn run(
    firmware: &mut impl Firmware,
    baked: &Baked<'_>,
    architecture: Architecture,
) -> Vec<(Slot, Refusal)> {
    let mut loaded = slot::load(firmware);
    say_record(firmware, &loaded);
    let mut refused: Vec<(Slot, Refusal)> = Vec::new();
    loop {
        let out: Vec<Slot> = refused.iter().map(|(slot, _)| *slot).collect();
        let Some(choice) = loaded.record.choose(&out) else {
            break;
        };
        if choice.renewed {
            firmware.say(format_args!(
                "every slot has failed {} times; starting over in {} s",
                slot::TRIES,
                RENEWAL_PAUSE.as_secs()
            ));
            firmware.pause(RENEWAL_PAUSE);
        }
        let (slot, tries) = count(firmware, &mut loaded, choice, &out);
        let reason = try_slot(firmware, baked, architecture, &loaded, (slot, tries));
        firmware.say(format_args!("slot {slot} is refused: {reason}"));
        refused.push((slot, reason));
    }
    refused
}

/// Starts what the bootloader's own image carries. Returns the reason when that cannot be started.
pub fn run_carried(
    firmware: &mut impl Firmware,
    carried: &Carried<'_>,
    baked: &Baked<'_>,
    architecture: Architecture,
) -> Refusal {
    firmware.say(format_args!(
        "this came without a card: verifying what it carries"
    ));
    match verify::carried(carried, baked, architecture) {
        Ok(bootable) => start(firmware, baked, bootable, None),
        Err(refusal) => refusal,
    }
}

/// Says why nothing is started and what happens next, and waits so that it can be read. The caller resets the machine.
pub fn give_up(firmware: &mut impl Firmware, refused: &[(Slot, Refusal)]) {
    firmware.say(format_args!("no slot can be started:"));
    for slot in Slot::ALL {
        match refused.iter().find(|(of, _)| *of == slot) {
            Some((_, reason)) => firmware.say(format_args!("  slot {slot}: {reason}")),
            None => firmware.say(format_args!("  slot {slot}: nothing is installed")),
        }
    }
    firmware.say(format_args!(
        "write a new image made by `racklet image build`; restarting in {} s",
        READING_TIME.as_secs()
    ));
    firmware.pause(READING_TIME);
}

fn say_record(firmware: &mut impl Firmware, loaded: &Loaded) {
    for (copy, damage) in loaded.damage.iter().enumerate() {
        if let Some(damage) = damage {
            firmware.say(format_args!("slot record {copy} is not used: {damage}"));
        }
    }
    if loaded.lost() {
        firmware.say(format_args!(
            "both slot records are lost: trying slot a, then b, {} times each",
            slot::TRIES
        ));
    }
    for slot in Slot::ALL {
        let known = loaded.record.slot(slot);
        let state = match known.state {
            State::Empty => "empty",
            State::Trial => "not yet reported good",
            State::Good => "good",
        };
        let first = match loaded.record.preferred() == slot {
            true => ", first",
            false => "",
        };
        firmware.say(format_args!(
            "slot {slot}: {state}, {} tries left{first}",
            known.tries_left
        ));
    }
}

/// Stores the choice. When that fails, another slot may be the better one.
fn count(
    firmware: &mut impl Firmware,
    loaded: &mut Loaded,
    choice: Choice,
    refused: &[Slot],
) -> (Slot, u8) {
    match slot::store(firmware, loaded, choice.record) {
        Ok(stored) => {
            *loaded = stored;
            (choice.slot, choice.attempt)
        }
        Err(error) => {
            let slot = loaded
                .record
                .choose_uncounted(refused)
                .unwrap_or(choice.slot);
            firmware.say(format_args!(
                "{error}; starting slot {slot} without counting"
            ));
            (slot, 1)
        }
    }
}

fn try_slot(
    firmware: &mut impl Firmware,
    baked: &Baked<'_>,
    architecture: Architecture,
    loaded: &Loaded,
    (slot, tries): (Slot, u8),
) -> Refusal {
    firmware.say(format_args!(
        "slot {slot}: try {tries} of {}, verifying",
        slot::TRIES
    ));
    let bootable = match verify::slot(firmware, baked, architecture, &loaded.record, slot) {
        Ok(bootable) => bootable,
        Err(refusal) => return refusal,
    };
    start(firmware, baked, bootable, Some((slot, tries)))
}

/// Starts what was verified; returns when that did not work.
fn start(
    firmware: &mut impl Firmware,
    baked: &Baked<'_>,
    bootable: Bootable,
    boot: Option<(Slot, u8)>,
) -> Refusal {
    let version = bootable.manifest.version;
    let arguments = bootable.arguments(baked);
    let came_from = boot.and_then(|_| firmware.came_from());
    let archive = match verify::extra_archive(baked, boot, version, came_from) {
        Ok(archive) => archive,
        Err(error) => return Refusal::Start(format!("its configuration is too large: {error}")),
    };
    let name = &bootable.manifest.name;
    match boot {
        Some((slot, _)) => firmware.say(format_args!(
            "slot {slot}: {name} version {version} is verified; starting Linux with: {arguments}"
        )),
        None => firmware.say(format_args!(
            "{name} version {version} is verified; starting Linux with: {arguments}"
        )),
    }
    firmware.start(bootable, &archive, &arguments)
}
