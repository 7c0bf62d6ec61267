// SPDX-License-Identifier: Apache-2.0
//! The bootstrap slots on the boot partition, which only `init` writes: marked good, replaced, looked at. The ESP is never mounted.
//!
//! What the hypervisor fetched and verified is verified here once more, in the memory that is then written: under the trust root that
//! this tray accepted, and under the one that the bootloader carries, which is the image's for ever.

use std::fs::File;
use std::io;

use racklet_api::handoff as boot;
use racklet_api::init::{InstallStatus, SlotState, SlotStatus, SlotsStatus};
use racklet_fetch::cache::{AssembleError, Cache, EntryError};
use racklet_fetch::disk::Files;
use racklet_fetch::limits::Limits;
use racklet_fetch::progress::Silent;
use racklet_linux::block::Mark;
use racklet_linux::mbr;
use racklet_linux::power::Leave;
use racklet_slots::pi::{self, Part};
use racklet_slots::{
    Bootstrap, BootstrapError, CopyError, Esp, InstallError, Observed, OpenError, PiCard, Storage,
};
use racklet_tell::error::chain;
use racklet_tell::text::short;
use racklet_trust::manifest::Kind;
use racklet_trust::root::RootError;
use racklet_trust::slot::{Slot, State, StoreError};
use racklet_trust::{Digest, TrustRoot, Verified};

use crate::console::Topic;
use crate::firmware;
use crate::pid1::{self, HandedError};

const SLOTS: Topic = Topic("slots");
/// The partition that the slot record is on.
pub(crate) const MARK: Mark = Mark {
    label: "racklet-esp",
    number: 1,
};
/// Those of slots a and b where they are partitions of their own: on disks with an MBR alone, which has no labels.
pub(crate) const SLOT_MARKS: [Mark; 2] = [
    Mark {
        label: "",
        number: pi::partition(Slot::A) as u32,
    },
    Mark {
        label: "",
        number: pi::partition(Slot::B) as u32,
    },
];
/// Where the hypervisor keeps what it fetched.
const CACHE: &str = "/state/cache";

/// Why the boot partition cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum EspError {
    #[error("list the partitions")]
    List(#[source] io::Error),
    #[error("{0} partitions could be number {1}, not one")]
    Partitions(usize, u32),
    #[error("open partition {0}")]
    Device(u32, #[source] io::Error),
    #[error(transparent)]
    Open(#[from] OpenError),
    #[error("read the slots")]
    Read(#[source] io::Error),
    #[error("write the slot record")]
    Store(#[source] StoreError<io::Error>),
}

/// Why a bootstrap was not written into a slot.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NotInstalled {
    #[error("this tray was started from no slot")]
    NoSlots,
    #[error("{0}, and what cannot be tried is not written")]
    Eeprom(String),
    #[error("the trust root")]
    Handed(#[from] HandedError),
    #[error("there is no trust root")]
    NoRoot,
    #[error("the trust root")]
    Root(#[from] RootError),
    #[error("the cached bootstrap")]
    Entry(#[from] EntryError),
    #[error("it is not in the cache")]
    NotHere,
    #[error("a cached file of it")]
    File(#[from] AssembleError),
    #[error(transparent)]
    Refused(#[from] BootstrapError),
    #[error(transparent)]
    Esp(#[from] EspError),
    #[error(transparent)]
    Install(#[from] InstallError),
    #[error(transparent)]
    Copy(#[from] CopyError),
}

/// The slots, as the thread that writes to the card knows them.
pub(super) struct Slots {
    booted: Option<boot::BootInfo>,
    boot_partition: Option<String>,
    board: String,
    asked: Option<InstallStatus>,
    /// Whether the console was told what a power cut had left.
    looked: bool,
}

impl Slots {
    pub(super) fn new(
        booted: Option<boot::BootInfo>,
        boot_partition: Option<String>,
        board: &str,
    ) -> Self {
        Self {
            booted,
            boot_partition,
            board: board.to_owned(),
            asked: None,
            looked: false,
        }
    }

    /// Where the slots are, on the disk that has the partition which the bootloader came from where that is known.
    fn open(&self) -> Result<Box<dyn Storage>, EspError> {
        let boot = self.boot_partition.as_deref();
        let control = part(MARK, boot)?;
        if !boot.is_some_and(mbr::is_identity) {
            return Ok(Box::new(Esp::open(control.device)?));
        }
        let [a, b] = SLOT_MARKS.map(|mark| part(mark, boot));
        Ok(Box::new(PiCard::open(control.device, [a?, b?])?))
    }

    /// How they are now. Nothing where there are none.
    pub(super) fn look(&mut self) -> Option<SlotsStatus> {
        let running = slot_of(self.booted.as_ref()?.slot);
        let seen = self.open().and_then(|mut storage| {
            let seen = racklet_slots::observe(&mut *storage);
            seen.map_err(EspError::Read)
        });
        let status = status(running, seen, self.asked.clone());
        if !self.looked {
            self.looked = true;
            if status.other.state == SlotState::Empty && status.other.manifest.is_some() {
                SLOTS.say(format_args!(
                    "slot {} was being written when the power went: it counts as empty until that is done again",
                    status.other.slot
                ));
            }
        }
        Some(status)
    }

    /// Marks the slot that this boot came from; says what there was to do.
    pub(super) fn mark_good(&self) -> Result<String, EspError> {
        match &self.booted {
            None => Ok("there is no slot to mark: this tray was started from none".to_owned()),
            Some(booted) => mark(&mut *self.open()?, booted),
        }
    }

    /// Writes a cached bootstrap, or the one that runs, into the slot that does not run.
    pub(super) fn install(&mut self, manifest: Digest) {
        let error = self.try_install(manifest).err().map(|error| chain(&error));
        if let Some(error) = &error {
            let what = format_args!("write bootstrap {} into a slot: {error}", short(manifest));
            SLOTS.failed(what, "go on with the slot that runs");
        }
        self.asked = Some(InstallStatus {
            manifest: manifest.to_string(),
            done: true,
            error,
        });
    }

    fn try_install(&self, digest: Digest) -> Result<(), NotInstalled> {
        let booted = self.booted.as_ref().ok_or(NotInstalled::NoSlots)?;
        if let Some(doubt) = firmware::Report::read().too_old() {
            return Err(NotInstalled::Eeprom(doubt));
        }
        let root = |path| -> Result<Option<Verified<TrustRoot>>, NotInstalled> {
            let bytes = pid1::handed(path)?;
            Ok(bytes
                .map(|it| Verified::<TrustRoot>::baked(&it))
                .transpose()?)
        };
        let accepted = root("/racklet/trust-root.json")?.ok_or(NotInstalled::NoRoot)?;
        // A bootstrap that does not hand it over leaves only the other.
        let baked = root("/racklet/baked-root.json")?;
        let baked = baked.as_ref().unwrap_or(&accepted);
        let running = slot_of(booted.slot);
        let mut storage = self.open()?;
        let storage = &mut *storage;
        let seen = racklet_slots::observe(storage).map_err(EspError::Read)?;
        if seen.manifests[running as usize] == Some(digest) {
            racklet_slots::copy(storage, running, baked, &self.board)?;
            let to = running.other();
            SLOTS.say(format_args!("slot {to} has what runs, to fall back to"));
            return Ok(());
        }
        let bootstrap = cached(CACHE, digest, [&accepted, baked], &self.board)?;
        let what = format!(
            "bootstrap {} version {}",
            bootstrap.manifest().name,
            bootstrap.manifest().version
        );
        SLOTS.say(format_args!("writing {what} into slot {}", running.other()));
        racklet_slots::install(storage, running, &bootstrap)?;
        SLOTS.say(format_args!(
            "{what} is in slot {}, which is tried at the next start",
            running.other()
        ));
        Ok(())
    }

    /// What was installed and not tried yet is not tried.
    pub(super) fn withdraw(&self) -> Result<(), EspError> {
        let Some(booted) = &self.booted else {
            return Ok(());
        };
        let running = slot_of(booted.slot);
        let withdrawn = racklet_slots::withdraw(&mut *self.open()?, running);
        if withdrawn.map_err(EspError::Store)? {
            SLOTS.say(format_args!(
                "what is in slot {} is not wanted any more: it is not tried",
                running.other()
            ));
        }
        Ok(())
    }

    /// How to restart, so that what is on trial is started next; a bootloader of ours sees to that by itself.
    pub(super) fn restart(&self) -> Leave {
        let Some(booted) = &self.booted else {
            return Leave::Reboot;
        };
        let running = slot_of(booted.slot);
        let counted = self.open().and_then(|mut storage| {
            racklet_slots::count_trial(&mut *storage, running).map_err(EspError::Store)
        });
        match counted {
            Ok(false) => Leave::Reboot,
            Ok(true) => {
                let other = running.other();
                SLOTS.say(format_args!(
                    "slot {other} is tried once: the firmware is asked for it"
                ));
                Leave::Trial
            }
            Err(error) => {
                let what =
                    format_args!("count a try of slot {}: {}", running.other(), chain(&error));
                SLOTS.failed(what, "start the slot that runs again");
                Leave::Reboot
            }
        }
    }
}

/// The one partition that this marks, opened.
fn part(mark: Mark, boot: Option<&str>) -> Result<Part<File>, EspError> {
    let found = mark.find(boot).map_err(EspError::List)?.unwrap_or_default();
    let [partition] = &*found else {
        return Err(EspError::Partitions(found.len(), mark.number));
    };
    let mut options = File::options();
    let device = options.read(true).write(true).open(&partition.device);
    Ok(Part {
        device: device.map_err(|error| EspError::Device(mark.number, error))?,
        start: partition.start,
    })
}

pub(crate) fn slot_of(slot: boot::Slot) -> Slot {
    match slot {
        boot::Slot::A => Slot::A,
        boot::Slot::B => Slot::B,
    }
}

/// A bootstrap from the cache that the hypervisor keeps, for a slot. The first trust root is the one in force when this system started,
/// the second the one in force at the next start.
fn cached(
    folder: &str,
    digest: Digest,
    [accepted, baked]: [&Verified<TrustRoot>; 2],
    board: &str,
) -> Result<Bootstrap, NotInstalled> {
    let cache = Cache::of_another(Files, folder);
    let manifest = cache.manifest(Kind::Bootstrap, digest, accepted)?;
    let manifest = manifest.ok_or(NotInstalled::NotHere)?;
    let signatures = cache.signatures(Kind::Bootstrap, digest)?;
    // The bound that it was fetched within.
    let files = cache.files(&manifest, Limits::PAYLOAD.inflated, &mut Silent)?;
    let mut files: Vec<(String, Vec<u8>)> = files
        .into_iter()
        .map(|(name, contents)| (name, contents.into_inner()))
        .collect();
    let take = |name: &str| {
        let at = files.iter().position(|(of, _)| of == name)?;
        Some(files.swap_remove(at).1)
    };
    let bootstrap = Bootstrap::verify(baked, board, &manifest, &signatures, take);
    Ok(bootstrap?)
}

/// What others are told of the slots.
fn status(
    running: Slot,
    seen: Result<Observed, EspError>,
    install: Option<InstallStatus>,
) -> SlotsStatus {
    let (seen, error) = match seen {
        Ok(seen) => {
            let lost = "both copies of the slot record are damaged: nothing is installed until this boot is good";
            (Some(seen), seen.lost.then(|| lost.to_owned()))
        }
        Err(error) => (None, Some(chain(&error))),
    };
    let of = |slot: Slot| {
        let known = seen.map(|seen| seen.record.slot(slot));
        SlotStatus {
            slot: match slot {
                Slot::A => boot::Slot::A,
                Slot::B => boot::Slot::B,
            },
            state: match known.map(|known| known.state) {
                Some(State::Good) => SlotState::Good,
                Some(State::Trial) => SlotState::Trial,
                Some(State::Empty) | None => SlotState::Empty,
            },
            tries_left: known.map_or(0, |known| known.tries_left),
            manifest: seen
                .and_then(|seen| seen.manifests[slot as usize])
                .map(|digest| digest.to_string()),
        }
    };
    let other = of(running.other());
    SlotsStatus {
        armed: seen.is_some_and(|seen| seen.record.preferred() == running.other())
            && other.tries_left > 0,
        running: of(running),
        other,
        good: false,
        floor: seen.map_or(0, |seen| seen.record.floor()),
        install,
        error,
    }
}

fn mark(storage: &mut dyn Storage, booted: &boot::BootInfo) -> Result<String, EspError> {
    let slot = slot_of(booted.slot);
    let marked = racklet_slots::mark_good(storage, slot, booted.version);
    let Some(before) = marked.map_err(EspError::Store)? else {
        return Ok(format!("slot {} was good already", booted.slot));
    };
    let before = if before.slot(slot).state == State::Good {
        "its tries start again"
    } else {
        "it was on trial"
    };
    Ok(format!(
        "slot {}, version {}, marked good ({before})",
        booted.slot, booted.version
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use racklet_trust::slot::{self, SlotRecord};
    use std::path::Path;
    use std::process::Command;

    fn run(program: &str, arguments: &[&str]) {
        let done = Command::new(program)
            .args(arguments)
            .env("MTOOLS_SKIP_CHECK", "1")
            .status();
        assert!(
            done.is_ok_and(|status| status.success()),
            "{program} is needed (`cargo xtask doctor`)"
        );
    }

    /// An ESP with this record in both copies.
    fn esp(folder: &Path, record: SlotRecord) -> File {
        let image = folder.join("esp");
        File::create(&image)
            .and_then(|file| file.set_len(70_000 * 512))
            .expect("makes the volume");
        let image = image.to_str().expect("utf-8");
        run("mkfs.vfat", &["-F", "32", "-s", "1", "--mbr=n", image]);
        run("mmd", &["-i", image, "::racklet"]);
        for copy in 0..2 {
            let path = format!("racklet/slots.{copy}");
            let file = folder.join("copy");
            std::fs::write(&file, record.encode(copy as u64)).expect("writes");
            run(
                "mcopy",
                &[
                    "-i",
                    image,
                    file.to_str().expect("utf-8"),
                    &format!("::{path}"),
                ],
            );
        }
        File::options()
            .read(true)
            .write(true)
            .open(image)
            .expect("opens")
    }

    fn opened(device: File) -> Esp<File> {
        Esp::open(device).expect("has a record")
    }

    fn read_back(folder: &Path) -> SlotRecord {
        let device = File::open(folder.join("esp")).expect("opens");
        slot::load(&mut Esp::open(device).expect("has a record")).record
    }

    #[test]
    fn the_slot_that_was_booted_is_marked_good_and_nothing_else_changes() {
        let folder = tempfile::tempdir().expect("temporary folder");
        let record = SlotRecord::new(Some(7), Some(8));
        let booted = boot::BootInfo {
            slot: boot::Slot::B,
            tries: 1,
            version: 8,
        };
        let text = mark(&mut opened(esp(folder.path(), record)), &booted).expect("marks");
        assert!(text.contains("slot b, version 8, marked good"), "{text}");
        let after = read_back(folder.path());
        assert_eq!(
            (after.slot(Slot::B).state, after.slot(Slot::B).version),
            (State::Good, 8)
        );
        assert_eq!(after.slot(Slot::A), record.slot(Slot::A));
        assert_eq!(after.preferred(), Slot::B);
        let device = File::options()
            .read(true)
            .write(true)
            .open(folder.path().join("esp"))
            .expect("opens");
        assert!(
            mark(&mut opened(device), &booted)
                .expect("marks")
                .contains("good already")
        );
    }

    #[test]
    fn an_esp_without_a_slot_record_is_told_as_such() {
        let folder = tempfile::tempdir().expect("temporary folder");
        drop(esp(folder.path(), SlotRecord::default()));
        let image = folder.path().join("esp");
        run(
            "mdel",
            &["-i", image.to_str().expect("utf-8"), "::racklet/slots.1"],
        );
        let device = File::options()
            .read(true)
            .write(true)
            .open(&image)
            .expect("opens");
        let error = Esp::open(device).expect_err("is refused");
        assert_eq!(
            error.to_string(),
            "find racklet/slots.1 on the boot partition"
        );
    }

    #[test]
    fn others_are_told_which_slot_runs_what_the_other_has_and_whether_it_is_next() {
        let record = SlotRecord::new(Some(7), Some(7)).mark_good(Slot::A, 7);
        let seen = |record: SlotRecord| Observed {
            record,
            lost: false,
            manifests: [Some(Digest::of(b"a")), None],
        };
        let quiet = status(Slot::A, Ok(seen(record)), None);
        assert!(!quiet.armed);
        assert_eq!(quiet.running.slot, boot::Slot::A);
        assert_eq!(quiet.running.state, SlotState::Good);
        assert_eq!(quiet.running.manifest, Some(Digest::of(b"a").to_string()));
        assert_eq!((quiet.other.state, quiet.floor), (SlotState::Trial, 7));
        let prepared = record.prepare(Slot::B, 8).expect("may be");
        let prepared = status(Slot::A, Ok(seen(prepared)), None);
        assert_eq!(prepared.other.state, SlotState::Empty);
        assert!(!prepared.armed);
        let installed = record.install(Slot::B, 8).expect("may be");
        assert!(status(Slot::A, Ok(seen(installed)), None).armed);
        let lost = status(Slot::A, Err(EspError::Partitions(2, 1)), None);
        let said = "2 partitions could be number 1, not one";
        assert_eq!(lost.error.as_deref(), Some(said));
        assert!(!lost.armed);
    }
}
