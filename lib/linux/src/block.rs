// SPDX-License-Identifier: Apache-2.0
//! Block devices as sysfs shows them, and telling the kernel that a partition or an ext4 file system has grown.

use std::fs::{self, File};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use rustix::ioctl::{self, Opcode, opcode};

use crate::{mbr, table};

/// A partition of a disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Partition {
    /// Its device node, `/dev/vda2`.
    pub device: PathBuf,
    /// The disk that it is on, `/dev/vda`.
    pub disk: PathBuf,
    /// Its number in the partition table, from 1.
    pub number: u32,
    /// Where it begins on the disk, in bytes.
    pub start: u64,
    /// Its length in bytes.
    pub size: u64,
    /// The disk's length in bytes.
    pub disk_size: u64,
}

/// What a partition of ours is known by among those of a disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mark {
    /// Its label in a GPT.
    pub label: &'static str,
    /// Its number in an MBR, which has no labels.
    pub number: u32,
}

impl Mark {
    /// Finds such partitions, in the order of their device names: on all disks, or on the one that has the partition `boot`
    /// ([`table::holds`]) where that is known. An MBR says nothing that would tell a disk of ours from any other, so partitions are
    /// found by number there only when `boot` is one of an MBR. `Ok(None)` when there are some, all on other disks.
    pub fn find(&self, boot: Option<&str>) -> io::Result<Option<Vec<Partition>>> {
        let everywhere = self.find_in(Path::new("/sys/class/block"), Path::new("/dev"), boot)?;
        Ok(match boot {
            Some(boot) if !everywhere.is_empty() => {
                Some(on_the_disk_of(boot, everywhere)).filter(|found| !found.is_empty())
            }
            _ => Some(everywhere),
        })
    }

    fn find_in(&self, class: &Path, dev: &Path, boot: Option<&str>) -> io::Result<Vec<Partition>> {
        let by_number = boot.is_some_and(mbr::is_identity);
        let number = self.number.to_string();
        partitions_in(class, dev, |name, partition| match name {
            Some(name) => !by_number && name == self.label,
            None => by_number && partition == number,
        })
    }
}

/// Waits at most `patience` for a disk with the partition `boot`: cards and USB sticks are found long after the kernel started PID 1.
/// Whether it is there.
pub fn wait_for(boot: &str, patience: Duration) -> bool {
    let (class, dev) = (Path::new("/sys/class/block"), Path::new("/dev"));
    let there = || {
        let all = partitions_in(class, dev, |_, _| true).unwrap_or_default();
        !on_the_disk_of(boot, all).is_empty()
    };
    until(patience, there)
}

/// Asks ten times a second.
fn until(patience: Duration, mut ask: impl FnMut() -> bool) -> bool {
    let begun = Instant::now();
    loop {
        if ask() {
            return true;
        }
        if begun.elapsed() >= patience {
            return false;
        }
        thread::sleep(Duration::from_millis(100));
    }
}

/// Partitions for whose label, where they have one, and number `wanted` says so.
fn partitions_in(
    class: &Path,
    dev: &Path,
    wanted: impl Fn(Option<&str>, &str) -> bool,
) -> io::Result<Vec<Partition>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(class)? {
        let folder = entry?.path();
        let Ok(uevent) = fs::read_to_string(folder.join("uevent")) else {
            continue;
        };
        let value = |key: &str| {
            uevent
                .lines()
                .find_map(|line| line.strip_prefix(key)?.strip_prefix('='))
        };
        let Some(number) = value("PARTN").filter(|number| wanted(value("PARTNAME"), number)) else {
            continue;
        };
        let (Some(name), Ok(number)) = (value("DEVNAME"), number.parse()) else {
            continue;
        };
        // /sys/class/block/vda2 -> …/block/vda/vda2: the disk is the folder above.
        let real = fs::canonicalize(&folder)?;
        let Some(parent) = real.parent() else {
            continue;
        };
        let Some(disk) = parent.file_name() else {
            continue;
        };
        let sectors = |path: PathBuf| -> Option<u64> {
            // Both files count in units of 512 bytes, whatever the disk's sectors are.
            fs::read_to_string(path)
                .ok()?
                .trim()
                .parse::<u64>()
                .ok()?
                .checked_mul(512)
        };
        let (Some(start), Some(size), Some(disk_size)) = (
            sectors(real.join("start")),
            sectors(real.join("size")),
            sectors(parent.join("size")),
        ) else {
            continue;
        };
        found.push(Partition {
            device: dev.join(name),
            disk: dev.join(disk),
            number,
            start,
            size,
            disk_size,
        });
    }
    found.sort_by(|a, b| a.device.cmp(&b.device));
    Ok(found)
}

/// Of `partitions`, those on a disk that has the partition `unique`, by its primary partition table. A disk that cannot be read is
/// not the one.
fn on_the_disk_of(unique: &str, mut partitions: Vec<Partition>) -> Vec<Partition> {
    partitions.retain(|partition| holds(&partition.disk, unique).unwrap_or(false));
    partitions
}

fn holds(disk: &Path, unique: &str) -> io::Result<bool> {
    let disk = File::open(disk)?;
    // What is no block device has no sectors: an image in a test.
    let sector = sector_size(&disk).unwrap_or(512);
    let mut head = vec![0; table::head_bytes(sector)];
    disk.read_exact_at(&mut head, 0)?;
    table::holds(&head, sector, unique).map_err(io::Error::other)
}

/// Errors that ext4 has counted on the mounted partition `name` (`mmcblk0p2`) since the file system was made; it keeps the
/// count on the disk, while it can.
pub fn ext4_errors(name: &str) -> u64 {
    ext4_count(name, "errors_count")
}

/// All that ext4 had to say of the partition since it was mounted, errors or not (Linux 5.10). Data that could not be written is among
/// it, and is no error in its count: "failed to convert unwritten extents".
pub fn ext4_messages(name: &str) -> u64 {
    ["errors_count", "warning_count", "msg_count"]
        .into_iter()
        .map(|what| ext4_count(name, what))
        .sum()
}

fn ext4_count(name: &str, what: &str) -> u64 {
    let text = fs::read_to_string(format!("/sys/fs/ext4/{name}/{what}"));
    text.ok()
        .and_then(|text| text.trim().parse().ok())
        .unwrap_or(0)
}

/// How much of its life the disk `name` (`mmcblk0`) says it has used, in percent. Only eMMC does.
pub fn life_used(name: &str) -> Option<u8> {
    parse_life(&fs::read_to_string(format!("/sys/block/{name}/device/life_time")).ok()?)
}

/// `0x02 0x01`: tenths begun of the life of two kinds of memory, 0x0b for past it, 0 for unknown. The worse one counts.
/// Source: JEDEC JESD84-B51, `DEVICE_LIFE_TIME_EST_TYP_A`; Linux, Documentation/mmc/mmc-dev-attrs.rst.
fn parse_life(text: &str) -> Option<u8> {
    let tenths = text
        .split_ascii_whitespace()
        .filter_map(|word| u8::from_str_radix(word.strip_prefix("0x")?, 16).ok());
    tenths
        .filter(|n| (1..=0x0b).contains(n))
        .max()
        .map(|n| n * 10)
}

/// Length of a disk's sectors in bytes.
pub fn sector_size(disk: &File) -> io::Result<u32> {
    // linux/fs.h: BLKSSZGET is _IO(0x12, 104) and writes one int.
    const GET: Opcode = opcode::none(0x12, 104);
    // SAFETY: BLKSSZGET writes one int through its argument, which `Getter` provides.
    let size: i32 = unsafe { ioctl::ioctl(disk, ioctl::Getter::<GET, i32>::new()) }?;
    u32::try_from(size).map_err(|_| io::ErrorKind::InvalidData.into())
}

/// The request behind [`discard`]: the only one that a confined monitor makes of a disk.
pub const BLKDISCARD: Opcode = opcode::none(0x12, 119);

/// Tells a disk that what it holds in `length` bytes from `offset` on is not needed any more; from then on they may read as anything.
/// Both are multiples of its sectors.
///
/// # Errors
/// ENOTTY for what is no disk, EOPNOTSUPP for a disk that cannot.
pub fn discard(disk: &File, offset: u64, length: u64) -> io::Result<()> {
    // SAFETY: BLKDISCARD (linux/fs.h, _IO(0x12, 119)) reads two u64 through its argument, which `Setter` provides.
    unsafe {
        ioctl::ioctl(
            disk,
            ioctl::Setter::<BLKDISCARD, [u64; 2]>::new([offset, length]),
        )
    }?;
    Ok(())
}

/// Tells the kernel that a partition in use now has another length.
pub fn resize_partition(disk: &File, partition: &Partition, size: u64) -> io::Result<()> {
    // linux/blkpg.h
    #[repr(C)]
    struct BlkpgPartition {
        start: i64,
        length: i64,
        number: i32,
        device: [u8; 64],
        volume: [u8; 64],
    }
    #[repr(C)]
    struct BlkpgIoctl {
        op: i32,
        flags: i32,
        length: i32,
        data: *mut BlkpgPartition,
    }
    const BLKPG: Opcode = opcode::none(0x12, 105);
    const BLKPG_RESIZE_PARTITION: i32 = 3;

    let invalid = |_| io::Error::from(io::ErrorKind::InvalidInput);
    let mut data = BlkpgPartition {
        start: i64::try_from(partition.start).map_err(invalid)?,
        length: i64::try_from(size).map_err(invalid)?,
        number: i32::try_from(partition.number).map_err(invalid)?,
        device: [0; 64],
        volume: [0; 64],
    };
    let request = BlkpgIoctl {
        op: BLKPG_RESIZE_PARTITION,
        flags: 0,
        length: i32::try_from(size_of::<BlkpgPartition>()).map_err(invalid)?,
        data: &mut data,
    };
    // SAFETY: BLKPG takes a pointer to `struct blkpg_ioctl_arg`, laid out as above, whose `data` points to a
    // `struct blkpg_partition` that lives until the call has returned.
    unsafe { ioctl::ioctl(disk, ioctl::Setter::<BLKPG, BlkpgIoctl>::new(request)) }?;
    Ok(())
}

/// Grows a mounted ext4 file system to `blocks` of its own blocks.
pub fn resize_ext4(mounted: impl AsFd, blocks: u64) -> io::Result<()> {
    // ext4.h: EXT4_IOC_RESIZE_FS is _IOW('f', 16, __u64).
    const RESIZE: Opcode = opcode::write::<u64>(b'f', 16);
    // SAFETY: EXT4_IOC_RESIZE_FS reads one u64 through its argument.
    unsafe { ioctl::ioctl(mounted, ioctl::Setter::<RESIZE, u64>::new(blocks)) }?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn a_cards_used_life_is_the_worse_of_what_it_says() {
        for (text, used) in [
            ("0x02 0x01\n", Some(20)),
            ("0x00 0x0b\n", Some(110)),
            ("0x00 0x00\n", None),
            ("0xff nonsense\n", None),
            ("", None),
        ] {
            assert_eq!(parse_life(text), used, "{text}");
        }
    }

    #[test]
    fn a_disk_with_the_same_labels_that_the_tray_was_not_started_from_is_left_out() {
        let folder = tempfile::tempdir().expect("temporary folder");
        let partition = |name: &str, head: &[u8]| {
            let disk = folder.path().join(name);
            fs::write(&disk, head).expect("writes");
            Partition {
                device: disk.with_extension("2"),
                disk,
                number: 2,
                start: 0,
                size: 0,
                disk_size: 0,
            }
        };
        let disk = crate::gpt::tests::disk_with;
        let ours = partition("ours", &disk([0x11; 16]));
        let all = vec![
            partition("stick", &disk([0x22; 16])),
            ours.clone(),
            partition("blank", &[0; 40_000]),
            partition("cut", b""),
        ];
        let boot = "11111111-1111-1111-1111-111111111111";
        assert_eq!(on_the_disk_of(boot, all.clone()), [ours]);
        assert_eq!(on_the_disk_of(&boot.replace('1', "3"), all), []);
        // Two cards of ours in one Raspberry Pi.
        let mbr = |name: &str, signature| {
            let mut head = crate::mbr::tests::disk(signature, &[(0x0c, 1, 40), (0x83, 41, 40)]);
            head.resize(table::head_bytes(512), 0);
            partition(name, &head)
        };
        let cards = [mbr("card", 0x0a1b_2c3d), mbr("spare", 0x0a1b_2c3e)];
        let found = on_the_disk_of("0a1b2c3e-01", cards.to_vec());
        assert_eq!(found, cards[1..]);
    }

    #[test]
    fn a_disk_that_comes_late_is_waited_for_and_one_that_never_comes_is_not_for_ever() {
        let mut asked = 0;
        let late = || {
            asked += 1;
            asked == 3
        };
        assert!(until(Duration::from_secs(60), late));
        assert_eq!(asked, 3);
        assert!(!until(Duration::ZERO, || false));
        assert!(!wait_for("0a1b2c3d-01", Duration::ZERO));
    }

    #[test]
    fn partitions_are_found_by_label_or_in_an_mbr_by_number_with_their_disk() {
        let folder = tempfile::tempdir().expect("temporary folder");
        let (class, devices) = (folder.path().join("class"), folder.path().join("devices"));
        fs::create_dir_all(&class).expect("creates");
        let part = |disk: &str, name: &str, uevent: &str, size: &str| {
            let real = devices.join(disk).join(name);
            fs::create_dir_all(&real).expect("creates");
            for (file, text) in [("uevent", uevent), ("start", "2048\n"), ("size", size)] {
                fs::write(real.join(file), text).expect("writes");
            }
            fs::write(devices.join(disk).join("size"), "1000000\n").expect("writes");
            symlink(&real, class.join(name)).expect("links");
        };
        part(
            "vda",
            "vda1",
            "DEVNAME=vda1\nPARTN=1\nPARTNAME=racklet-esp\n",
            "4096\n",
        );
        part(
            "vda",
            "vda2",
            "DEVNAME=vda2\nPARTN=2\nPARTNAME=racklet-state\n",
            "8192\n",
        );
        part(
            "sda",
            "sda7",
            "DEVNAME=sda7\nPARTN=7\nPARTNAME=racklet-state\n",
            "1\n",
        );
        part(
            "vdb",
            "vdb1",
            "DEVNAME=vdb1\nPARTN=1\nPARTNAME=racklet-state-2\n",
            "1\n",
        );
        for number in 1..=4 {
            let name = format!("mmcblk0p{number}");
            let uevent = format!("DEVNAME={name}\nPARTN={number}\n");
            part("mmcblk0", &name, &uevent, "16\n");
        }
        let mark = Mark {
            label: "racklet-state",
            number: 4,
        };
        let find = |boot| {
            mark.find_in(&class, Path::new("/dev"), boot)
                .expect("reads")
        };
        let names = |found: &[Partition]| -> Vec<_> {
            let devices = found.iter().map(|p| p.device.display().to_string());
            devices.collect()
        };
        assert_eq!(names(&find(Some("0a1b2c3d-02"))), ["/dev/mmcblk0p4"]);
        let found = find(None);
        assert_eq!(names(&found), ["/dev/sda7", "/dev/vda2"]);
        assert_eq!(found, find(Some("03020100-0504-0706-0809-0a0b0c0d0e0f")));
        let state = &found[1];
        assert_eq!((state.disk.to_str(), state.number), (Some("/dev/vda"), 2));
        assert_eq!(
            (state.start, state.size, state.disk_size),
            (2048 * 512, 8192 * 512, 1_000_000 * 512)
        );
    }
}
