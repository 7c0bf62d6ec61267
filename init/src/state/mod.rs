// SPDX-License-Identifier: Apache-2.0
//! `/state`: finding the partition, growing it to the card, mounting it, and what is kept on it.
//!
//! Nothing is ever formatted here. A partition that is missing, damaged or another rack's is left as it is; the tray then
//! runs with a `/state` in memory and says so.

pub(crate) mod boots;
pub(crate) mod twin;

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use racklet_fetch::disk;
use racklet_linux::block::{self, Partition};
use racklet_linux::gpt;
use racklet_trust::floors::Floors;
use rustix::mount::{MountFlags, UnmountFlags};
use serde::{Deserialize, Serialize};

use crate::console::{Topic, size};
use crate::mounts::{self, MountError};
use boots::Boots;
use racklet_api::error::Chain;

const STATE: Topic = Topic("state");
/// GPT label of the partition.
const LABEL: &str = "racklet-state";
/// Where it is mounted.
pub(crate) const ROOT: &str = "/state";

/// `/state`, mounted.
#[derive(Debug)]
pub(crate) struct State {
    root: PathBuf,
    /// On a disk, and this rack's. Otherwise it is memory and lost at the next start.
    pub(crate) persistent: bool,
    floors: Kept<Floors>,
    boots: Kept<Boots>,
}

/// A value and the two files that hold it.
#[derive(Debug)]
struct Kept<T> {
    value: T,
    /// Whether the value is on the disk. One that could not be written is written by the next try, though it is no news.
    stored: bool,
    files: twin::Files,
    loaded: twin::Loaded,
}

/// Why the partition is not used.
#[derive(Debug, thiserror::Error)]
enum Unusable {
    #[error("no partition is labelled {LABEL}")]
    Missing,
    #[error("{0} partitions are labelled {LABEL}; remove all cards but this tray's")]
    Several(usize),
    #[error("list the partitions")]
    List(#[source] io::Error),
    #[error("its file system cannot be used; writing the image to the card again makes a new one")]
    Mount(#[from] MountError),
    #[error("read racklet.json")]
    Owner(#[source] io::Error),
    #[error("racklet.json on it is damaged")]
    OwnerDamaged,
    #[error("it belongs to rack {0}, not to this one; it is left untouched")]
    OtherRack(String),
}

/// Why a record was not kept.
#[derive(Debug, thiserror::Error)]
#[error("keep the {0} on the state partition")]
pub(crate) struct KeepError(&'static str, #[source] io::Error);

impl State {
    /// Mounts `/state` for this rack, from the card or, failing that, in memory.
    pub(crate) fn open(rack: &str, grow: bool) -> Result<Self, MountError> {
        let persistent = match mount_partition(rack, grow) {
            Ok(text) => {
                STATE.say(text);
                true
            }
            Err(error) => {
                STATE.failed(Chain(&error), FROM_MEMORY);
                mount_memory()?;
                false
            }
        };
        Ok(Self::load(Path::new(ROOT), persistent))
    }

    /// Gives the partition up, which turned out to be of no use, for memory. The floors stay.
    pub(crate) fn into_memory(self, error: &dyn std::error::Error) -> Result<Self, MountError> {
        STATE.failed(
            format_args!("use the state partition: {}", Chain(error)),
            FROM_MEMORY,
        );
        let floors = self.floors.value.clone();
        self.close();
        mount_memory()?;
        let mut state = Self::load(Path::new(ROOT), false);
        // In memory there is nothing that could fail, and nothing lost if it does.
        let _ = state.raise(&floors);
        Ok(state)
    }

    fn load(root: &Path, persistent: bool) -> Self {
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
        Self {
            root: root.to_owned(),
            persistent,
            floors,
            boots,
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
        self.floors
            .keep(raised, bytes)
            .map_err(|error| KeepError("floors", error))
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
        self.boots
            .keep(boots, bytes)
            .map_err(|error| KeepError("boot record", error))
    }

    /// Unmounts it, or at least makes it read-only, so that what was written is whole.
    pub(crate) fn close(self) {
        if !self.persistent {
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

const FROM_MEMORY: &str = "run from memory; nothing is remembered over a reboot";

fn mount_memory() -> Result<(), MountError> {
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    mounts::pseudo("tmpfs", ROOT, flags, c"mode=0700,size=60%")
}

fn mount_partition(rack: &str, grow: bool) -> Result<String, Unusable> {
    let mut found = block::by_label(LABEL).map_err(Unusable::List)?;
    let mut partition = match found.len() {
        0 => return Err(Unusable::Missing),
        1 => found.remove(0),
        several => return Err(Unusable::Several(several)),
    };
    let grown = if grow {
        grow_partition(&mut partition)
    } else {
        None
    };
    mounts::device("ext4", &partition.device, ROOT, c"errors=remount-ro")?;
    let ours = claim(Path::new(ROOT), rack);
    if let Err(error) = ours {
        // The other rack's state stays as it is; whether it comes off again matters little, tmpfs goes over it.
        let _ = rustix::mount::unmount(ROOT, UnmountFlags::empty());
        return Err(error);
    }
    if grow {
        grow_file_system(&partition);
    }
    let capacity = rustix::fs::statvfs(ROOT).map_or(0, |s| s.f_blocks.saturating_mul(s.f_frsize));
    let device = partition.device.display();
    Ok(match grown {
        Some(growth) => format!("{device}, ext4, grown to {growth}"),
        None => format!("{device}, ext4, {}", size(capacity)),
    })
}

/// Whose state it is. Fresh state becomes this rack's.
fn claim(root: &Path, rack: &str) -> Result<(), Unusable> {
    #[derive(Serialize, Deserialize)]
    struct Owner {
        v: u32,
        rack: String,
    }
    let path = root.join("racklet.json");
    match fs::read(&path) {
        Ok(bytes) => match serde_json::from_slice::<Owner>(&bytes) {
            Ok(owner) if owner.v == 1 && owner.rack == rack => Ok(()),
            Ok(owner) if owner.v == 1 => {
                Err(Unusable::OtherRack(owner.rack.chars().take(64).collect()))
            }
            _ => Err(Unusable::OwnerDamaged),
        },
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let owner = serde_json::to_vec(&Owner {
                v: 1,
                rack: rack.to_owned(),
            })
            .expect("strings serialise");
            disk::replace(&disk::Files, &path, &owner).map_err(Unusable::Owner)
        }
        Err(error) => Err(Unusable::Owner(error)),
    }
}

/// Grows the partition to the end of its disk. What goes wrong is told and changes nothing else.
fn grow_partition(partition: &mut Partition) -> Option<gpt::Growth> {
    let attempt = || -> Result<Option<gpt::Growth>, String> {
        let disk = File::options()
            .read(true)
            .write(true)
            .open(&partition.disk)
            .map_err(|e| e.to_string())?;
        let sector = block::sector_size(&disk).map_err(|e| e.to_string())?;
        let mut head = vec![0; gpt::head_bytes(sector)];
        disk.read_exact_at(&mut head, 0)
            .map_err(|e| e.to_string())?;
        let planned = gpt::grow(&head, sector, partition.disk_size, partition.number);
        let Some(growth) = planned.map_err(|e| e.to_string())? else {
            return Ok(None);
        };
        for write in &growth.writes {
            disk.write_all_at(&write.bytes, write.offset)
                .map_err(|e| e.to_string())?;
            disk.sync_all().map_err(|e| e.to_string())?;
        }
        block::resize_partition(&disk, partition, growth.size).map_err(|e| e.to_string())?;
        Ok(Some(growth))
    };
    match attempt() {
        Ok(growth) => {
            if let Some(growth) = &growth {
                partition.size = growth.size;
            }
            growth
        }
        Err(error) => {
            STATE.failed(
                format_args!("grow the partition: {error}"),
                "use it as large as it is",
            );
            None
        }
    }
}

/// Grows the mounted file system to its partition. Also finishes what a power cut left undone.
fn grow_file_system(partition: &Partition) {
    let attempt = || -> io::Result<()> {
        let root = File::open(ROOT)?;
        let now = rustix::fs::statvfs(ROOT)?;
        let blocks = partition.size / now.f_frsize.max(1);
        // The file system's own tables take less than a tenth; only a real difference is worth the work.
        if blocks.saturating_sub(now.f_blocks) > blocks / 8 {
            block::resize_ext4(root, blocks)
        } else {
            Ok(())
        }
    };
    if let Err(error) = attempt() {
        STATE.failed(
            format_args!("grow the file system: {error}"),
            "use it as large as it is",
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use racklet_trust::Digest;

    #[test]
    fn another_racks_state_is_refused_and_left_untouched() {
        let folder = tempfile::tempdir().expect("temporary folder");
        claim(folder.path(), "aa").expect("fresh state becomes ours");
        claim(folder.path(), "aa").expect("and stays ours");
        let before = fs::read(folder.path().join("racklet.json")).expect("reads");
        assert!(
            matches!(claim(folder.path(), "bb"), Err(Unusable::OtherRack(rack)) if rack == "aa")
        );
        assert_eq!(
            fs::read(folder.path().join("racklet.json")).expect("reads"),
            before
        );
        fs::write(folder.path().join("racklet.json"), "garbage").expect("writes");
        assert!(matches!(
            claim(folder.path(), "aa"),
            Err(Unusable::OwnerDamaged)
        ));
    }

    #[test]
    fn what_could_not_be_kept_is_kept_by_the_next_try() {
        let folder = tempfile::tempdir().expect("temporary folder");
        let mut state = State::load(&folder.path().join("not there yet"), false);
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
        }
        assert_eq!(state.floors().time, 50, "it holds for this boot");
        fs::create_dir(folder.path().join("not there yet")).expect("creates");
        state.raise(&floors).expect("keeps");
        state.keep_boots(boots).expect("keeps");
        let state = State::load(&folder.path().join("not there yet"), false);
        assert_eq!(
            (state.floors().time, state.boots().good()),
            (50, Some(payload))
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
        let mut state = State::load(folder.path(), false);
        state.raise(&floors(50, 3)).expect("keeps");
        state.raise(&floors(60, 3)).expect("keeps");
        for lost in [&["floors.0"][..], &["floors.1"], &["floors.0", "floors.1"]] {
            // A folder in a file's place opens and does not read, like a file whose sector is bad.
            let at = |name: &str| folder.path().join(name);
            for name in lost {
                fs::rename(at(name), at("aside").with_extension(&name[7..])).expect("renames");
                fs::create_dir(at(name)).expect("creates");
            }
            let state = State::load(folder.path(), false);
            let expected = match lost {
                ["floors.0"] => 60,
                ["floors.1"] => 50,
                _ => 0,
            };
            assert_eq!(
                (state.floors().time, state.floors.loaded.lost()),
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
        let mut state = State::load(folder.path(), false);
        assert!(state.floors.loaded.lost(), "and that is said");
        state.raise(&floors(10, 1)).expect("keeps");
        fs::write(folder.path().join("floors.1"), held).expect("writes");
        let state = State::load(folder.path(), false);
        assert_eq!((state.floors().time, state.floors().trust_root), (60, 3));
    }

    #[test]
    fn floors_and_starts_survive_a_restart() {
        let folder = tempfile::tempdir().expect("temporary folder");
        let payload = Digest::of(b"payload");
        let mut state = State::load(folder.path(), false);
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
        let state = State::load(folder.path(), false);
        assert_eq!((state.floors().time, state.floors().trust_root), (50, 2));
        assert_eq!(state.boots().tries(payload), 1);
    }
}
