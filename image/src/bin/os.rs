// SPDX-License-Identifier: Apache-2.0
//! What the operating system consists of: packs the two initramfs, the bootstrap's and the hypervisor OS's, from the programs of
//! a tray and the guest's kernel. `cargo xtask build` starts it.
//!
//! `os TO PROGRAMS VMLINUX MODULES`: the folder that gets them, the folder of the static programs, the guest's kernel, the folder
//! of the tray's kernel's modules. What has been made from the same sources by the same code is left as it is.
#![forbid(unsafe_code)]

use std::{
    env, fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail};
use racklet_image::initramfs::Initramfs;
use ring::digest::{Context, SHA256};

fn main() -> Result<()> {
    let arguments: Vec<PathBuf> = env::args_os().skip(1).map(PathBuf::from).collect();
    match &*arguments {
        [to, programs, vmlinux, modules] => pack(to, programs, vmlinux, modules),
        _ => bail!("os TO PROGRAMS VMLINUX MODULES"),
    }
}

fn pack(to: &Path, programs: &Path, vmlinux: &Path, modules: &Path) -> Result<()> {
    let init = programs.join("init");
    write(
        &to.join("bootstrap.cpio.zst"),
        &[Entry::program("init", &init)],
    )?;

    let guest = to.join("guest.cpio");
    let guest_init = programs.join("guest-init");
    make(&guest, &[&guest_init], || {
        Ok(archive(&[Entry::program("init", &guest_init)])?.to_cpio()?)
    })?;
    let [netd, hypervisor, vmm] = ["netd", "hypervisor", "vmm"].map(|name| programs.join(name));
    let mut entries = vec![
        Entry::program("init", &init),
        Entry::program("sbin/netd", &netd),
        Entry::program("sbin/hypervisor", &hypervisor),
        Entry::program("sbin/vmm", &vmm),
        // Plain: the archive around it is compressed, and the tray's kernel unpacks that once. Compressed by itself, each start of a
        // guest unpacked it again, for 214 M instructions, and saved 13.6 MB of the tray's memory.
        Entry::data("usr/lib/racklet/guest/vmlinux", vmlinux),
        Entry::data("usr/lib/racklet/guest/initramfs.cpio", &guest),
    ];
    let modules = files(modules)?;
    let places: Vec<String> = modules
        .iter()
        .map(|path| {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            format!("usr/lib/racklet/modules/{name}")
        })
        .collect();
    entries.extend(
        places
            .iter()
            .zip(&modules)
            .map(|(place, path)| Entry::data(place, path)),
    );
    write(&to.join("hypervisor.cpio.zst"), &entries)
}

/// The files of a folder, by name.
fn files(folder: &Path) -> Result<Vec<PathBuf>> {
    let listed = fs::read_dir(folder).with_context(|| format!("list {}", folder.display()))?;
    let mut files = listed
        .map(|entry| Ok(entry?.path()))
        .collect::<Result<Vec<_>>>()?;
    files.sort();
    Ok(files)
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

/// Makes `product` unless it is there and the stamp beside it says that it was made from the same sources by the same code.
fn make(product: &Path, sources: &[&Path], work: impl FnOnce() -> Result<Vec<u8>>) -> Result<()> {
    let mut key = Context::new(&SHA256);
    key.update(include_bytes!("os.rs"));
    for source in sources {
        let contents = fs::read(source).with_context(|| format!("read {}", source.display()))?;
        // Lengths first: two sources are never taken for one.
        key.update(&(contents.len() as u64).to_le_bytes());
        key.update(&contents);
    }
    let key = key.finish();
    let mut stamp = product.as_os_str().to_owned();
    stamp.push(".made-from");
    let stamp = PathBuf::from(stamp);
    if product.exists() && fs::read(&stamp).is_ok_and(|made_from| made_from == key.as_ref()) {
        return Ok(());
    }
    println!("pack {}", product.display());
    // An interruption leaves half a product: better none that looks finished.
    if stamp.exists() {
        fs::remove_file(&stamp).context("remove the stamp of an older product")?;
    }
    let bytes = work()?;
    fs::write(product, bytes).with_context(|| format!("write {}", product.display()))?;
    fs::write(&stamp, key).context("write the stamp of a product")
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
        fs::remove_file(&product).unwrap();
        make(&product, &[&source], || Ok(b"again".to_vec())).unwrap();
        assert_eq!(fs::read(&product).unwrap(), b"again");
    }
}
