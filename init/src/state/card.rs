// SPDX-License-Identifier: Apache-2.0
//! The state partition: which one it is, growing it to the card, mounting it, and whether it takes writes.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;

use racklet_api::V1;
use racklet_fetch::disk;
use racklet_linux::block::{self, Mark, Partition};
use racklet_linux::table::{self, Growth};
use racklet_tell::error::chain;
use rustix::mount::MountFlags;
use serde::{Deserialize, Serialize};

use super::{CARD, ROOT, STATE};
use crate::mounts::{self, MountError};
use racklet_tell::text::size;

/// The partition.
const MARK: Mark = Mark {
    label: "racklet-state",
    number: 4,
};

/// The partition, mounted at [`ROOT`] and taking writes.
pub(super) struct Mounted {
    pub(super) partition: Partition,
    /// For people.
    pub(super) text: String,
}

/// Why the partition is not simply used.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unusable {
    #[error("there is no partition {label}", label = MARK.label)]
    Missing,
    #[error("the disk that this tray was started from has no partition {label}", label = MARK.label)]
    NotOnOurDisk,
    #[error(
        "{0} partitions are {label}; remove all cards but this tray's, and copies of it",
        label = MARK.label
    )]
    Several(usize),
    #[error("list the partitions")]
    List(#[source] io::Error),
    /// It is mounted at [`CARD`] instead, read-only.
    #[error("{why}")]
    NotWritable { partition: Partition, why: String },
    #[error(
        "its file system cannot be used ({why}), not even for reading; writing the image to the card again makes a new one"
    )]
    Mount {
        why: String,
        #[source]
        reading: MountError,
    },
    #[error("read racklet.json")]
    Owner(#[source] io::Error),
    #[error("racklet.json on it is damaged")]
    OwnerDamaged,
    #[error("it belongs to rack {0}, not to this one; it is left untouched")]
    OtherRack(String),
}

/// Mounts the state partition of the disk that has the partition `boot`, or of the only disk that has one.
pub(super) fn mount(rack: &str, boot: Option<&str>, grow: bool) -> Result<Mounted, Unusable> {
    let mut partition = find(boot)?;
    let grown = if grow {
        grow_partition(&mut partition)
    } else {
        None
    };
    let why = match writable(&partition, rack) {
        Ok(()) => {
            if grow {
                grow_file_system(&partition);
            }
            let capacity =
                rustix::fs::statvfs(ROOT).map_or(0, |s| s.f_blocks.saturating_mul(s.f_frsize));
            let device = partition.device.display();
            let text = match grown {
                Some(growth) => format!("{device}, ext4, grown to {growth}"),
                None => format!("{device}, ext4, {}", size(capacity)),
            };
            return Ok(Mounted { partition, text });
        }
        Err(NotNow::Never(error)) => return Err(error),
        Err(NotNow::Writing(why)) => why,
    };
    readable(&partition, rack, &why)?;
    Err(Unusable::NotWritable {
        why: format!("{} takes no writes: {why}", partition.device.display()),
        partition,
    })
}

fn find(boot: Option<&str>) -> Result<Partition, Unusable> {
    let found = MARK.find(boot).map_err(Unusable::List)?;
    let mut found = found.ok_or(Unusable::NotOnOurDisk)?;
    match found.len() {
        0 => Err(Unusable::Missing),
        1 => Ok(found.remove(0)),
        several => Err(Unusable::Several(several)),
    }
}

/// Why a partition is not mounted for writing.
enum NotNow {
    /// It is nothing for us.
    Never(Unusable),
    /// It takes no writes; what it holds may be good.
    Writing(String),
}

/// Mounts it at [`ROOT`] for writing, and sees that it takes a write.
fn writable(partition: &Partition, rack: &str) -> Result<(), NotNow> {
    let options = c"errors=remount-ro";
    mounts::device(
        "ext4",
        &partition.device,
        ROOT,
        MountFlags::empty(),
        options,
    )
    .map_err(|error| NotNow::Writing(chain(&error)))?;
    let done = claim(Path::new(ROOT), rack).and_then(|()| {
        probe(Path::new(ROOT)).map_err(|error| NotNow::Writing(format!("write to it: {error}")))
    });
    if done.is_err() {
        // Another rack's state stays as it is. Whether it comes off matters little: what is used instead goes over it.
        let _ = rustix::mount::unmount(ROOT, rustix::mount::UnmountFlags::empty());
    }
    done
}

/// Mounts it at [`CARD`], without as much as its journal being written: as it is, or by the copy of the superblock that
/// ext4 keeps in block 32768 (`sb` counts in KiB), when the first one is lost.
fn readable(partition: &Partition, rack: &str, why: &str) -> Result<(), Unusable> {
    let mount =
        |options| mounts::device("ext4", &partition.device, CARD, MountFlags::RDONLY, options);
    mount(c"noload")
        .or_else(|first| mount(c"noload,sb=131072").map_err(|_| first))
        .map_err(|reading| Unusable::Mount {
            why: why.to_owned(),
            reading,
        })?;
    let ours = owner(Path::new(CARD)).and_then(|found| match found {
        Some(found) if found != rack => Err(Unusable::OtherRack(found)),
        _ => Ok(()),
    });
    if ours.is_err() {
        let _ = rustix::mount::unmount(CARD, rustix::mount::UnmountFlags::empty());
    }
    ours
}

/// Writes a byte and waits until it is on the disk. A full disk is not one that takes no writes.
pub(super) fn probe(root: &Path) -> io::Result<()> {
    let write = || -> io::Result<()> {
        let mut file = File::options()
            .write(true)
            .create(true)
            .truncate(false)
            .open(root.join("written"))?;
        file.write_all(b"\n")?;
        file.sync_all()
    };
    match write() {
        Err(error) if error.kind() == io::ErrorKind::StorageFull => Ok(()),
        other => other,
    }
}

/// Whose state it is. Fresh state becomes this rack's.
fn claim(root: &Path, rack: &str) -> Result<(), NotNow> {
    match owner(root).map_err(NotNow::Never)? {
        Some(found) if found == rack => Ok(()),
        Some(found) => Err(NotNow::Never(Unusable::OtherRack(found))),
        None => {
            let owner = serde_json::to_vec(&Owner {
                v: V1,
                rack: rack.to_owned(),
            })
            .expect("strings serialise");
            disk::replace(&disk::Files, &root.join(OWNER), &owner)
                .map_err(|error| NotNow::Writing(format!("write {OWNER}: {error}")))
        }
    }
}

const OWNER: &str = "racklet.json";

#[derive(Serialize, Deserialize)]
struct Owner {
    v: V1,
    rack: String,
}

/// The rack it says it belongs to; nothing when it is fresh.
fn owner(root: &Path) -> Result<Option<String>, Unusable> {
    match fs::read(root.join(OWNER)) {
        Ok(bytes) => match serde_json::from_slice::<Owner>(&bytes) {
            Ok(owner) => Ok(Some(owner.rack.chars().take(64).collect())),
            _ => Err(Unusable::OwnerDamaged),
        },
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Unusable::Owner(error)),
    }
}

/// Grows the partition to the end of its disk. What goes wrong is told and changes nothing else.
fn grow_partition(partition: &mut Partition) -> Option<Growth> {
    let attempt = || -> Result<Option<Growth>, String> {
        let disk = File::options()
            .read(true)
            .write(true)
            .open(&partition.disk)
            .map_err(|e| e.to_string())?;
        let sector = block::sector_size(&disk).map_err(|e| e.to_string())?;
        let mut head = vec![0; table::head_bytes(sector)];
        disk.read_exact_at(&mut head, 0)
            .map_err(|e| e.to_string())?;
        let planned = table::grow(&head, sector, partition.disk_size, partition.number);
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

    #[test]
    fn another_racks_state_is_refused_and_left_untouched() {
        let folder = tempfile::tempdir().expect("temporary folder");
        assert!(
            claim(folder.path(), "aa").is_ok(),
            "fresh state becomes ours"
        );
        assert!(claim(folder.path(), "aa").is_ok(), "and stays ours");
        let before = fs::read(folder.path().join("racklet.json")).expect("reads");
        assert!(
            matches!(claim(folder.path(), "bb"), Err(NotNow::Never(Unusable::OtherRack(rack))) if rack == "aa")
        );
        assert_eq!(
            fs::read(folder.path().join("racklet.json")).expect("reads"),
            before
        );
        fs::write(folder.path().join("racklet.json"), "garbage").expect("writes");
        assert!(matches!(
            claim(folder.path(), "aa"),
            Err(NotNow::Never(Unusable::OwnerDamaged))
        ));
    }
}
