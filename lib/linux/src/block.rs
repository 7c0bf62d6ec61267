// SPDX-License-Identifier: Apache-2.0
//! Block devices as sysfs shows them, and telling the kernel that a partition or an ext4 file system has grown.

use std::fs::{self, File};
use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use rustix::ioctl::{self, Opcode, opcode};

/// A partition, found by its GPT label.
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

/// Finds partitions with this GPT label, in the order of their device names.
pub fn by_label(label: &str) -> io::Result<Vec<Partition>> {
    by_label_in(Path::new("/sys/class/block"), Path::new("/dev"), label)
}

fn by_label_in(class: &Path, dev: &Path, label: &str) -> io::Result<Vec<Partition>> {
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
        if value("PARTNAME") != Some(label) {
            continue;
        }
        let (Some(name), Some(number)) = (
            value("DEVNAME"),
            value("PARTN").and_then(|n| n.parse().ok()),
        ) else {
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

/// Length of a disk's sectors in bytes.
pub fn sector_size(disk: &File) -> io::Result<u32> {
    // linux/fs.h: BLKSSZGET is _IO(0x12, 104) and writes one int.
    const GET: Opcode = opcode::none(0x12, 104);
    // SAFETY: BLKSSZGET writes one int through its argument, which `Getter` provides.
    let size: i32 = unsafe { ioctl::ioctl(disk, ioctl::Getter::<GET, i32>::new()) }?;
    u32::try_from(size).map_err(|_| io::ErrorKind::InvalidData.into())
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
    fn partitions_are_found_by_label_with_their_disk() {
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
        let found = by_label_in(&class, Path::new("/dev"), "racklet-state").expect("reads");
        let devices: Vec<_> = found
            .iter()
            .map(|p| p.device.to_str().expect("utf-8"))
            .collect();
        assert_eq!(devices, ["/dev/sda7", "/dev/vda2"]);
        let state = &found[1];
        assert_eq!((state.disk.to_str(), state.number), (Some("/dev/vda"), 2));
        assert_eq!(
            (state.start, state.size, state.disk_size),
            (2048 * 512, 8192 * 512, 1_000_000 * 512)
        );
    }
}
