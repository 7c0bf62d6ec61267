// SPDX-License-Identifier: Apache-2.0
//! The two initramfs: the bootstrap's and the hypervisor OS's.

use std::{fs, path::Path};

use anyhow::{Context as _, Result};
use racklet_image::initramfs::Initramfs;

use crate::{hash, kernel, paths, progress, tray};

/// Takes seconds once; the size counts on every boot.
const LEVEL: i32 = 19;

/// Packs what has changed.
pub(crate) fn pack() -> Result<()> {
    let folder = paths::made(paths::products()?.join("os"))?;
    let init = tray::program("init");
    write(
        &folder.join("bootstrap.cpio.zst"),
        &[Entry::program("init", &init)],
    )?;

    // The guest's kernel is compressed by itself: the monitor needs it in memory only when it starts a guest.
    let vmlinux = kernel::folder("guest")?.join("vmlinux");
    let kernel = folder.join("vmlinux.zst");
    make(&kernel, &[&vmlinux], || {
        Ok(zstd::encode_all(fs::File::open(&vmlinux)?, LEVEL)?)
    })?;
    let guest = folder.join("guest.cpio");
    let guest_init = tray::program("guest-init");
    make(&guest, &[&guest_init], || {
        Ok(archive(&[Entry::program("init", &guest_init)])?.to_cpio()?)
    })?;
    let programs = ["netd", "hypervisor", "vmm"].map(tray::program);
    write(
        &folder.join("hypervisor.cpio.zst"),
        &[
            Entry::program("init", &init),
            Entry::program("sbin/netd", &programs[0]),
            Entry::program("sbin/hypervisor", &programs[1]),
            Entry::program("sbin/vmm", &programs[2]),
            Entry::data("usr/lib/racklet/guest/vmlinux.zst", &kernel),
            Entry::data("usr/lib/racklet/guest/initramfs.cpio", &guest),
        ],
    )
}

struct Entry<'a> {
    path: &'a str,
    mode: u32,
    source: &'a Path,
}

impl<'a> Entry<'a> {
    fn program(path: &'a str, source: &'a Path) -> Self {
        Self {
            path,
            mode: 0o755,
            source,
        }
    }

    fn data(path: &'a str, source: &'a Path) -> Self {
        Self {
            path,
            mode: 0o644,
            source,
        }
    }
}

fn write(product: &Path, entries: &[Entry]) -> Result<()> {
    let sources: Vec<_> = entries.iter().map(|entry| entry.source).collect();
    make(product, &sources, || Ok(archive(entries)?.to_zstd()?))
}

/// Makes `product` unless it is there and was made from the same sources by the same code.
fn make(product: &Path, sources: &[&Path], work: impl FnOnce() -> Result<Vec<u8>>) -> Result<()> {
    let mut parts = vec![include_str!("os.rs").to_owned()];
    for source in sources {
        parts.push(hash::of_file(source)?);
    }
    let key = hash::of_parts(parts.iter().map(String::as_str));
    if hash::is_fresh(product, &key) {
        return Ok(());
    }
    let name = product.file_name().unwrap_or_default().to_string_lossy();
    progress::step(&format!("pack {name}"), &format!("pack-{name}"), 6, || {
        let bytes = work()?;
        fs::write(product, bytes).with_context(|| format!("write {}", product.display()))
    })?;
    hash::set_fresh(product, &key)
}

fn archive(entries: &[Entry]) -> Result<Initramfs> {
    let mut archive = Initramfs::new();
    // What the kernel opens for PID 1 before anything is mounted, and where things are mounted.
    for folder in ["dev", "proc", "sys", "run", "tmp", "state"] {
        archive.directory(folder, 0o755)?;
    }
    archive.character_device("dev/console", 0o600, 5, 1)?;
    for entry in entries {
        let contents =
            fs::read(entry.source).with_context(|| format!("read {}", entry.source.display()))?;
        archive.file(entry.path, entry.mode, contents)?;
    }
    Ok(archive)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_product_is_packed_again_only_when_a_source_changes() {
        let folder = tempfile::tempdir().unwrap();
        let (source, product) = (folder.path().join("s"), folder.path().join("p"));
        let mut runs = 0;
        for contents in ["1", "1", "2"] {
            fs::write(&source, contents).unwrap();
            make(&product, &[&source], || {
                runs += 1;
                Ok(Vec::new())
            })
            .unwrap();
        }
        assert_eq!(runs, 2);
    }
}
