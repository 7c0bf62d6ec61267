// SPDX-License-Identifier: Apache-2.0
//! `/state`: where it lies, and the records that are kept on it.
//!
//! ```text
//!   on the card ──writes fail, also later──> read-only: what the card holds, and changes over it in memory
//!        │ no card, another rack's, unreadable
//!        └──────────────────────────────────> in memory, empty
//! ```
//!
//! Nothing is ever formatted here. A partition that is missing, damaged or another rack's is left as it is. Finding and
//! mounting it is in [`card`], what is read-only in [`shadow`].

pub(crate) mod boots;
mod card;
pub(crate) mod last_time;
mod shadow;
pub(crate) mod twin;

use std::io;
use std::path::{Path, PathBuf};

use racklet_api::handoff::Card;
use racklet_api::init::StateStatus;
use racklet_tell::error::{Chain, chain};
use racklet_trust::floors::Floors;
use rustix::fs::StatVfsMountFlags;
use rustix::mount::{MountFlags, UnmountFlags};

use crate::console::Topic;
use crate::mounts::{self, MountError};
use boots::Boots;
use card::{Mounted, Unusable};
use last_time::LastTime;

const STATE: Topic = Topic("state");
/// Where it is mounted.
pub(crate) const ROOT: &str = "/state";
/// How far the time that is kept may be behind, in seconds: 24 small writes a day.
pub(crate) const HOUR: u64 = 3_600;
/// Where the card is mounted when `/state` itself is memory over it.
const CARD: &str = "/run/racklet/card";
const FROM_MEMORY: &str = "run from memory; nothing is remembered over a reboot";
const LOST: &str =
    "no copy of the floors could be read: what was accepted before is not remembered";
const READ_ONLY: &str = "use what it holds, and keep changes in memory; replace the card";

/// Where `/state` lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Medium {
    /// On a partition of this tray's disk.
    Disk,
    /// The same, which takes no writes: changes are in memory over it, and lost at the next start.
    ReadOnly,
    /// In memory, empty at the start.
    Memory,
}

/// `/state`, mounted.
#[derive(Debug)]
pub(crate) struct State {
    root: PathBuf,
    medium: Medium,
    /// Why it is not simply on the disk, for people.
    reason: Option<String>,
    /// Name of the disk, for what the kernel counts of it: `mmcblk0`.
    disk: Option<String>,
    /// Name of the partition: `mmcblk0p2`.
    partition: Option<String>,
    /// Writes of records that failed since the start.
    failed_writes: u64,
    /// What the kernel had said of the file system when it was last looked at, counted.
    heard: u64,
    floors: Kept<Floors>,
    boots: Kept<Boots>,
    time: Kept<LastTime>,
}

/// A value and the two files that hold it.
#[derive(Debug)]
struct Kept<T> {
    value: T,
    /// Whether the value is on the disk. One that could not be written is written by the next try, though it is no news.
    stored: bool,
    /// Whether something was kept at the start that could not be read.
    lost: bool,
    files: twin::Files,
    loaded: twin::Loaded,
}

/// Why a record was not kept.
#[derive(Debug, thiserror::Error)]
#[error("keep the {0} on the state partition")]
pub(crate) struct KeepError(&'static str, #[source] io::Error);

impl State {
    /// Mounts `/state` for this rack: from the card, from a card that takes no writes, or in memory. With `grow` the
    /// partition and its file system are made as large as the card.
    pub(crate) fn open(rack: &str, card: &Card, grow: bool) -> Result<Self, MountError> {
        let mounted = card::mount(rack, card.boot_partition.as_deref(), grow);
        let mut state = match mounted {
            Ok(Mounted { partition, text }) => {
                STATE.say(text);
                let mut state = Self::load(Path::new(ROOT), Medium::Disk);
                state.on(&partition);
                state
            }
            Err(Unusable::NotWritable { partition, why }) => {
                STATE.failed(&why, READ_ONLY);
                mount_memory(ROOT)?;
                shadow::fill(Path::new(CARD), Path::new(ROOT));
                let mut state = Self::load(Path::new(ROOT), Medium::ReadOnly);
                state.reason = Some(why);
                state.on(&partition);
                state
            }
            Err(error) => {
                STATE.failed(Chain(&error), FROM_MEMORY);
                mount_memory(ROOT)?;
                let mut state = Self::load(Path::new(ROOT), Medium::Memory);
                state.reason = Some(chain(&error));
                state
            }
        };
        if card.floors_lost || state.floors.lost {
            state.note(LOST);
        }
        Ok(state)
    }

    /// Gives the partition up, which turned out to be of no use, for memory. The floors stay.
    pub(crate) fn into_memory(self, error: &dyn std::error::Error) -> Result<Self, MountError> {
        let reason = format!("use the state partition: {}", Chain(error));
        STATE.failed(&reason, FROM_MEMORY);
        let floors = self.floors.value.clone();
        self.close();
        mount_memory(ROOT)?;
        let mut state = Self::load(Path::new(ROOT), Medium::Memory);
        state.reason = Some(reason);
        // In memory there is nothing that could fail, and nothing lost if it does.
        let _ = state.raise(&floors);
        Ok(state)
    }

    fn load(root: &Path, medium: Medium) -> Self {
        // Floors only rise, so each copy may add to them: an older one that reads again after the newer one was written
        // without it, too.
        let floors = Kept::load(root, "floors", |copies| {
            let mut floors = Floors::default();
            for copy in copies {
                floors.raise(&Floors::decode(copy).unwrap_or_default());
            }
            floors
        });
        let boots = Kept::load(root, "boots", |copies| {
            copies
                .first()
                .map(|copy| Boots::decode(copy))
                .unwrap_or_default()
        });
        let time = Kept::load(root, "time", |copies| {
            copies
                .first()
                .map(|copy| LastTime::decode(copy))
                .unwrap_or_default()
        });
        Self {
            root: root.to_owned(),
            medium,
            reason: None,
            disk: None,
            partition: None,
            failed_writes: 0,
            heard: 0,
            floors,
            boots,
            time,
        }
    }

    fn on(&mut self, partition: &racklet_linux::block::Partition) {
        let name = |path: &Path| Some(path.file_name()?.to_str()?.to_owned());
        self.disk = name(&partition.disk);
        self.partition = name(&partition.device);
    }

    /// Adds to what is wrong.
    pub(crate) fn note(&mut self, what: &str) {
        let before = self.reason.take().map(|reason| format!("{reason}; {what}"));
        self.reason = Some(before.unwrap_or_else(|| what.to_owned()));
    }

    /// Whether what is written here is there after a reboot.
    pub(crate) fn persistent(&self) -> bool {
        self.medium == Medium::Disk
    }

    /// Whether the floors that were kept once could not be read at the start.
    pub(crate) fn floors_lost(&self) -> bool {
        self.floors.lost
    }

    /// For people and machines, as of now.
    pub(crate) fn status(&self) -> StateStatus {
        let space = rustix::fs::statvfs(&self.root).ok();
        let bytes = |blocks: fn(&rustix::fs::StatVfs) -> u64| {
            space
                .as_ref()
                .map_or(0, |space| blocks(space).saturating_mul(space.f_frsize))
        };
        StateStatus {
            persistent: self.persistent(),
            read_only: self.medium == Medium::ReadOnly,
            reason: self.reason.clone(),
            free: bytes(|space| space.f_bavail),
            total: bytes(|space| space.f_blocks),
            errors: self.failed_writes
                + self
                    .partition
                    .as_deref()
                    .map_or(0, racklet_linux::block::ext4_errors),
            life_used: self
                .disk
                .as_deref()
                .and_then(racklet_linux::block::life_used),
        }
    }

    /// A folder of it.
    pub(crate) fn folder(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    /// The floors.
    pub(crate) fn floors(&self) -> &Floors {
        &self.floors.value
    }

    /// Raises the floors; they are on the disk when this returns.
    pub(crate) fn raise(&mut self, by: &Floors) -> Result<(), KeepError> {
        let mut raised = self.floors.value.clone();
        raised.raise(by);
        if self.floors.stored && raised == self.floors.value {
            return Ok(());
        }
        let bytes = raised.encode();
        let kept = self.floors.keep(raised, bytes);
        self.count(kept, "floors")
    }

    /// Raises the floors for this boot only.
    pub(crate) fn hold(&mut self, by: &Floors) {
        self.floors.value.raise(by);
    }

    /// The record of starts.
    pub(crate) fn boots(&self) -> &Boots {
        &self.boots.value
    }

    /// Replaces the record of starts; it is on the disk when this returns.
    pub(crate) fn keep_boots(&mut self, boots: Boots) -> Result<(), KeepError> {
        if self.boots.stored && boots == self.boots.value {
            return Ok(());
        }
        let bytes = boots.encode();
        let kept = self.boots.keep(boots, bytes);
        self.count(kept, "boot record")
    }

    /// The time of day that was kept last, Unix seconds; 0 where none was.
    pub(crate) fn last_time(&self) -> u64 {
        self.time.value.unix()
    }

    /// Keeps the time of day, unless what is kept is less than `grain` seconds behind it.
    pub(crate) fn keep_time(&mut self, unix: u64, grain: u64) -> Result<(), KeepError> {
        if self.time.stored && !self.time.value.is_stale(unix, grain) {
            return Ok(());
        }
        let time = LastTime::at(unix);
        let kept = self.time.keep(time, time.encode());
        self.count(kept, "time")
    }

    fn count(&mut self, kept: io::Result<()>, what: &'static str) -> Result<(), KeepError> {
        self.failed_writes += u64::from(kept.is_err());
        kept.map_err(|error| KeepError(what, error))
    }

    /// Looks whether the card still takes writes. When it does not, memory goes over what it holds, so that whoever writes
    /// below `/state` goes on; files that are open stay as they are. True when that was done.
    pub(crate) fn look(&mut self) -> bool {
        if self.medium != Medium::Disk {
            return false;
        }
        // The kernel's own judgement first: `errors=remount-ro`.
        let flags = rustix::fs::statvfs(&self.root).map(|space| space.f_flag);
        let why = match flags {
            Ok(flags) if flags.contains(StatVfsMountFlags::RDONLY) => {
                "the card failed, and its file system takes no more writes".to_owned()
            }
            // Newer kernels (6.12) refuse writes without saying so there. Something that they say of it, or a write of ours that
            // failed, and one more that fails: not for want of room.
            Ok(_) if self.all_stored() && !self.erred() => return false,
            _ => match card::probe(&self.root) {
                Ok(()) => return false,
                Err(error) => format!("the card takes no writes: {error}"),
            },
        };
        STATE.failed(&why, READ_ONLY);
        if let Err(error) = lay_memory_over() {
            STATE.failed(
                format_args!("put memory over it: {}", Chain(&error)),
                "go on without",
            );
            return false;
        }
        self.medium = Medium::ReadOnly;
        self.reason = Some(why);
        // Neither can fail, now that it is memory: and what is in force is what must be found there.
        self.floors.stored = false;
        self.boots.stored = false;
        self.time.stored = false;
        let _ = self.raise(&Floors::default());
        let _ = self.keep_boots(self.boots.value.clone());
        let _ = self.keep_time(self.last_time(), 0);
        true
    }

    fn all_stored(&self) -> bool {
        self.floors.stored && self.boots.stored && self.time.stored
    }

    /// Whether the kernel has had something to say of the file system since the last time.
    fn erred(&mut self) -> bool {
        let counted = self
            .partition
            .as_deref()
            .map_or(0, racklet_linux::block::ext4_messages);
        std::mem::replace(&mut self.heard, counted) < counted
    }

    /// Unmounts it, or at least makes it read-only, so that what was written is whole.
    pub(crate) fn close(self) {
        if self.medium == Medium::ReadOnly {
            // Nothing was written to the card.
            let _ = rustix::mount::unmount(&self.root, UnmountFlags::DETACH);
            let _ = rustix::mount::unmount(CARD, UnmountFlags::DETACH);
        }
        if self.medium != Medium::Disk {
            return;
        }
        rustix::fs::sync();
        if let Err(error) = rustix::mount::unmount(&self.root, UnmountFlags::empty()) {
            let made = rustix::mount::mount_remount(&self.root, MountFlags::RDONLY, c"");
            STATE.failed(
                format_args!("unmount: {error}"),
                if made.is_ok() {
                    "made read-only instead"
                } else {
                    "go on; the journal repairs it"
                },
            );
        }
    }
}

impl<T: Default> Kept<T> {
    /// Reads both copies; `decode` is given the bodies of the good ones, the newest first.
    fn load(root: &Path, name: &'static str, decode: impl FnOnce(&[Vec<u8>]) -> T) -> Self {
        let mut files = twin::Files::new(root, name);
        let loaded = twin::load(&mut files);
        let next = if loaded.lost() {
            "begin without them"
        } else {
            "use the other copy"
        };
        for (copy, damage) in loaded.damage.iter().enumerate() {
            if let Some(damage) = damage {
                STATE.failed(format_args!("copy {copy} of the {name} {damage}"), next);
            }
        }
        Self {
            value: decode(&loaded.bodies),
            stored: true,
            lost: loaded.lost(),
            files,
            loaded,
        }
    }

    fn keep(&mut self, value: T, bytes: Vec<u8>) -> io::Result<()> {
        // What is in memory rises even when the disk is full: this boot must not go back either.
        self.value = value;
        self.stored = false;
        twin::store(&mut self.files, &mut self.loaded, bytes)?;
        self.stored = true;
        Ok(())
    }
}

fn mount_memory(at: &str) -> Result<(), MountError> {
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    mounts::pseudo("tmpfs", at, flags, c"mode=0700,size=60%")
}

/// Puts memory over the mounted `/state`, filled before it is seen.
fn lay_memory_over() -> Result<(), MountError> {
    const ASIDE: &str = "/run/racklet/state";
    mounts::also_at(ROOT, CARD)?;
    mount_memory(ASIDE)?;
    shadow::fill(Path::new(CARD), Path::new(ASIDE));
    mounts::move_to(ASIDE, ROOT)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    use racklet_trust::Digest;

    #[test]
    fn what_could_not_be_kept_is_kept_by_the_next_try() {
        let folder = tempfile::tempdir().expect("temporary folder");
        let mut state = State::load(&folder.path().join("not there yet"), Medium::Memory);
        let (floors, payload) = (
            Floors {
                time: 50,
                ..Floors::default()
            },
            Digest::of(b"payload"),
        );
        let boots = state.boots().clone().healthy(payload);
        for _ in 0..2 {
            state.raise(&floors).expect_err("there is no such folder");
            state.keep_boots(boots.clone()).expect_err("nor for this");
            state.keep_time(7_000, HOUR).expect_err("nor for this");
        }
        assert_eq!(state.floors().time, 50, "it holds for this boot");
        fs::create_dir(folder.path().join("not there yet")).expect("creates");
        state.raise(&floors).expect("keeps");
        state.keep_boots(boots).expect("keeps");
        state.keep_time(7_000, HOUR).expect("keeps");
        state.keep_time(7_001, HOUR).expect("that is soon enough");
        let state = State::load(&folder.path().join("not there yet"), Medium::Memory);
        assert_eq!(
            (state.floors().time, state.boots().good(), state.last_time()),
            (50, Some(payload), 7_000)
        );
    }

    #[test]
    fn floors_are_never_lowered_by_a_copy_that_could_not_be_read_for_a_while() {
        let folder = tempfile::tempdir().expect("temporary folder");
        let floors = |time, trust_root| Floors {
            time,
            trust_root,
            ..Floors::default()
        };
        let mut state = State::load(folder.path(), Medium::Memory);
        state.raise(&floors(50, 3)).expect("keeps");
        state.raise(&floors(60, 3)).expect("keeps");
        for lost in [&["floors.0"][..], &["floors.1"], &["floors.0", "floors.1"]] {
            // A folder in a file's place opens and does not read, like a file whose sector is bad.
            let at = |name: &str| folder.path().join(name);
            for name in lost {
                fs::rename(at(name), at("aside").with_extension(&name[7..])).expect("renames");
                fs::create_dir(at(name)).expect("creates");
            }
            let state = State::load(folder.path(), Medium::Memory);
            let expected = match lost {
                ["floors.0"] => 60,
                ["floors.1"] => 50,
                _ => 0,
            };
            assert_eq!(
                (state.floors().time, state.floors.lost),
                (expected, expected == 0)
            );
            for name in lost {
                fs::remove_dir(at(name)).expect("removes");
                fs::rename(at("aside").with_extension(&name[7..]), at(name)).expect("renames");
            }
        }
        // Lower ones, written while nothing could be read, lower nothing once it can.
        let held = fs::read(folder.path().join("floors.1")).expect("reads");
        fs::write(folder.path().join("floors.1"), "racklet-twin 1 garbage").expect("writes");
        fs::remove_file(folder.path().join("floors.0")).expect("removes");
        let mut state = State::load(folder.path(), Medium::Memory);
        assert!(state.floors.lost, "and that is said");
        state.raise(&floors(10, 1)).expect("keeps");
        fs::write(folder.path().join("floors.1"), held).expect("writes");
        let state = State::load(folder.path(), Medium::Memory);
        assert_eq!((state.floors().time, state.floors().trust_root), (60, 3));
    }

    #[test]
    fn floors_that_are_only_held_are_not_on_the_card_afterwards() {
        let folder = tempfile::tempdir().expect("temporary folder");
        let floors = |time| Floors {
            time,
            ..Floors::default()
        };
        let mut state = State::load(folder.path(), Medium::Memory);
        state.raise(&floors(5)).expect("keeps");
        state.hold(&floors(9));
        assert_eq!(state.floors().time, 9);
        let after = State::load(folder.path(), Medium::Memory);
        assert_eq!(
            after.floors().time,
            5,
            "the head for it was not kept either"
        );
    }

    #[test]
    fn floors_and_starts_survive_a_restart() {
        let folder = tempfile::tempdir().expect("temporary folder");
        let payload = Digest::of(b"payload");
        let mut state = State::load(folder.path(), Medium::Memory);
        state
            .raise(&Floors {
                time: 50,
                ..Floors::default()
            })
            .expect("keeps");
        state
            .raise(&Floors {
                time: 20,
                trust_root: 2,
                ..Floors::default()
            })
            .expect("keeps");
        state
            .keep_boots(state.boots().clone().started(payload))
            .expect("keeps");
        let state = State::load(folder.path(), Medium::Memory);
        assert_eq!((state.floors().time, state.floors().trust_root), (50, 2));
        assert_eq!(state.boots().tries(payload), 1);
    }
}
