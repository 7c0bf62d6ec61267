// SPDX-License-Identifier: Apache-2.0
//! The workload's root: a read-only erofs, something writable over it, kernel file systems, volumes; then it becomes `/`.

use std::ffi::CString;
use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use racklet_api::guest::{GuestConfig, GuestOverlay, GuestVolume};
use racklet_tell::error::chain;
use rustix::fd::OwnedFd;
use rustix::fs::{Mode, OFlags};
use rustix::mount::{MountFlags, UnmountFlags, mount, mount_move, mount_remount, unmount};

use crate::console::say;

const LOWER: &str = "/lower";
const UPPER: &str = "/upper";
const NEW: &str = "/new";

/// A step that failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RootError {
    #[error("mount {what} on {path}", path = path.display())]
    Mount {
        what: String,
        path: PathBuf,
        source: io::Error,
    },
    #[error("make the folder {path}", path = path.display())]
    Folder { path: PathBuf, source: io::Error },
    #[error("make the new root `/`")]
    Switch(#[source] io::Error),
}

/// A mount that differs only in these.
struct Mount<'a> {
    what: &'a str,
    kind: &'a str,
    path: &'a str,
    flags: MountFlags,
    data: &'a str,
}

impl Mount<'_> {
    fn mount(&self, below: &Path) -> Result<(), RootError> {
        let path = below.join(self.path.trim_start_matches('/'));
        let wrong = |source| RootError::Mount {
            what: self.what.to_owned(),
            path: path.clone(),
            source,
        };
        let data = CString::new(self.data).map_err(|e| wrong(io::Error::other(e)))?;
        mount(self.what, &path, self.kind, self.flags, data.as_c_str()).map_err(|e| wrong(e.into()))
    }
}

fn safe() -> MountFlags {
    MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC
}

fn folder(path: &Path) -> Result<(), RootError> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o755)
        .create(path)
        .map_err(|source| RootError::Folder {
            path: path.to_owned(),
            source,
        })
}

/// Device nodes, and the kernel's view of itself: needed to find the disks and by the network's set-up.
pub(crate) fn first_mounts() -> Result<(), RootError> {
    let mounts = [
        Mount {
            what: "devtmpfs",
            kind: "devtmpfs",
            path: "/dev",
            flags: MountFlags::NOSUID,
            data: "mode=0755",
        },
        Mount {
            what: "proc",
            kind: "proc",
            path: "/proc",
            flags: safe(),
            data: "",
        },
        Mount {
            what: "sysfs",
            kind: "sysfs",
            path: "/sys",
            flags: safe(),
            data: "",
        },
    ];
    for m in &mounts {
        folder(Path::new(m.path))?;
        m.mount(Path::new("/"))?;
    }
    Ok(())
}

/// Name of the n-th disk.
fn disk(n: u8) -> String {
    format!("/dev/vd{}", char::from(b'a' + n))
}

/// The file system that keeps what is written to the root, where that is a disk. It lies below the old root, which no path leads to
/// any more; this descriptor still does.
pub(crate) struct Upper(Option<OwnedFd>);

impl Upper {
    /// No disk is written to.
    pub(crate) fn none() -> Upper {
        Upper(None)
    }
}

/// Puts the root together and moves into it.
pub(crate) fn build(config: &GuestConfig) -> Result<Upper, RootError> {
    let here = Path::new("/");
    for path in [LOWER, UPPER, NEW] {
        folder(Path::new(path))?;
    }
    let image = disk(0);
    let read_only = MountFlags::RDONLY | MountFlags::NODEV;
    let target = if config.overlay == GuestOverlay::None {
        NEW
    } else {
        LOWER
    };
    Mount {
        what: &image,
        kind: "erofs",
        path: target,
        flags: read_only,
        data: "",
    }
    .mount(here)?;
    let size;
    let upper = disk(1);
    let writable = match config.overlay {
        GuestOverlay::None => None,
        GuestOverlay::Memory { size_mib } => {
            size = format!("size={size_mib}m,mode=0755");
            Some(Mount {
                what: "tmpfs",
                kind: "tmpfs",
                path: UPPER,
                flags: MountFlags::NODEV,
                data: &size,
            })
        }
        GuestOverlay::Disk => Some(Mount {
            what: &upper,
            kind: "ext4",
            path: UPPER,
            flags: MountFlags::NODEV,
            data: "",
        }),
    };
    if let Some(writable) = writable {
        writable.mount(here)?;
        let (data, work) = (format!("{UPPER}/data"), format!("{UPPER}/work"));
        folder(Path::new(&data))?;
        folder(Path::new(&work))?;
        let data = format!("lowerdir={LOWER},upperdir={data},workdir={work}");
        Mount {
            what: "overlay",
            kind: "overlay",
            path: NEW,
            flags: MountFlags::NODEV,
            data: &data,
        }
        .mount(here)?;
    }
    let mut kept = None;
    if config.overlay == GuestOverlay::Disk {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let opened = rustix::fs::open(UPPER, flags, Mode::empty());
        kept = Some(opened.map_err(|e| RootError::Switch(e.into()))?);
    }
    kernel_mounts()?;
    for volume in &config.volumes {
        mount_volume(volume)?;
    }
    switch()?;
    Ok(Upper(kept))
}

/// Kernel file systems where the image has folders for them, or lets us make them.
fn kernel_mounts() -> Result<(), RootError> {
    let new = Path::new(NEW);
    for path in ["dev", "proc", "sys"] {
        let target = new.join(path);
        if folder(&target).is_err() {
            say(&format!(
                "the read-only root has no folder /{path}: going on without"
            ));
            continue;
        }
        let from = Path::new("/").join(path);
        mount_move(&from, &target).map_err(|e| RootError::Mount {
            what: from.display().to_string(),
            path: target.clone(),
            source: e.into(),
        })?;
    }
    let mounts = [
        Mount {
            what: "devpts",
            kind: "devpts",
            path: "/dev/pts",
            flags: MountFlags::NOSUID | MountFlags::NOEXEC,
            data: "mode=0620,ptmxmode=0666",
        },
        Mount {
            what: "tmpfs",
            kind: "tmpfs",
            path: "/dev/shm",
            flags: safe(),
            data: "mode=1777",
        },
        Mount {
            what: "tmpfs",
            kind: "tmpfs",
            path: "/tmp",
            flags: MountFlags::NOSUID | MountFlags::NODEV,
            data: "mode=1777",
        },
        Mount {
            what: "tmpfs",
            kind: "tmpfs",
            path: "/run",
            flags: MountFlags::NOSUID | MountFlags::NODEV,
            data: "mode=0755",
        },
        Mount {
            what: "cgroup2",
            kind: "cgroup2",
            path: "/sys/fs/cgroup",
            flags: safe(),
            data: "nsdelegate",
        },
    ];
    for m in &mounts {
        let path = new.join(m.path.trim_start_matches('/'));
        if folder(&path).is_ok() {
            if let Err(e) = m.mount(new) {
                // A kernel without one of them still runs most programs.
                say(&chain(&e));
            }
        } else {
            say(&format!(
                "the read-only root has no folder {}: going on without",
                m.path
            ));
        }
    }
    Ok(())
}

fn mount_volume(volume: &GuestVolume) -> Result<(), RootError> {
    let device = disk(volume.disk);
    let path = Path::new(NEW).join(volume.path.strip_prefix("/").unwrap_or(&volume.path));
    folder(&path)?;
    let mut flags = MountFlags::NODEV | MountFlags::NOSUID;
    if volume.read_only {
        flags |= MountFlags::RDONLY;
    }
    // The device moved with /dev.
    let device = if Path::new(&device).exists() {
        device
    } else {
        format!("{NEW}{device}")
    };
    let wrong = |source: io::Error| RootError::Mount {
        what: device.clone(),
        path: path.clone(),
        source,
    };
    mount(device.as_str(), &path, "ext4", flags, None)
        .or_else(|e| {
            // A volume may also be a read-only image.
            if volume.read_only {
                mount(device.as_str(), &path, "erofs", flags, None).map_err(|_| e)
            } else {
                Err(e)
            }
        })
        .map_err(|e| wrong(e.into()))
}

/// Makes the new root `/` and frees the memory of the old one.
fn switch() -> Result<(), RootError> {
    let done = || -> io::Result<()> {
        for path in ["/racklet/guest.json", "/init"] {
            // Their memory comes back; a missing one is no harm.
            let _ = fs::remove_file(path);
        }
        std::env::set_current_dir(NEW)?;
        mount_move(".", "/")?;
        rustix::process::chroot(".")?;
        std::env::set_current_dir("/")
    };
    done().map_err(RootError::Switch)
}

/// Before the machine goes: volumes and the overlay's disk are closed, so that they are clean when they are mounted again.
pub(crate) fn leave(upper: Upper) {
    rustix::fs::sync();
    if let Some(upper) = upper.0
        && let Err(e) = close(&upper)
    {
        say(&format!(
            "close the overlay's disk: {e}; its journal is replayed next time"
        ));
    }
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    for path in volumes(&mounts) {
        if let Err(e) = unmount(path.as_str(), UnmountFlags::empty()) {
            say(&format!(
                "unmount {path}: {e}; its journal is replayed next time"
            ));
        }
    }
}

/// The overlay is this process's own root and cannot be unmounted, nor can what lies under it. Read-only, both are as clean: ext4 then
/// writes its journal back and marks itself so (`ext4_mark_recovery_complete`).
fn close(upper: &OwnedFd) -> io::Result<()> {
    let read_only = MountFlags::RDONLY;
    mount_remount("/", read_only, c"")?;
    rustix::process::fchdir(upper)?;
    mount_remount(".", read_only, c"")?;
    std::env::set_current_dir("/")
}

/// Where ext4 file systems are mounted, the innermost first.
fn volumes(mounts: &str) -> Vec<String> {
    let mut paths: Vec<String> = mounts
        .lines()
        .filter_map(|line| {
            let mut fields = line.split(' ');
            let (_, path, kind) = (fields.next()?, fields.next()?, fields.next()?);
            (kind == "ext4" && path != "/").then(|| unescape(path))
        })
        .collect();
    paths.reverse();
    paths
}

/// Undoes the octal escapes of `/proc/mounts`.
fn unescape(path: &str) -> String {
    [
        ("\\040", " "),
        ("\\011", "\t"),
        ("\\012", "\n"),
        ("\\134", "\\"),
    ]
    .iter()
    .fold(path.to_owned(), |path, (escape, plain)| {
        path.replace(escape, plain)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn volumes_are_unmounted_from_the_inside_out() {
        let mounts = "overlay / overlay rw 0 0\n/dev/vdb /data ext4 rw 0 0\ntmpfs /tmp tmpfs rw 0 0\n\
                      /dev/vdc /data/in\\040ner ext4 rw 0 0\n";
        assert_eq!(volumes(mounts), ["/data/in ner", "/data"]);
    }

    #[test]
    fn disks_are_named_as_the_kernel_does() {
        assert_eq!(
            [disk(0), disk(1), disk(7)],
            ["/dev/vda", "/dev/vdb", "/dev/vdh"]
        );
    }
}
