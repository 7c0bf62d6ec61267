// SPDX-License-Identifier: Apache-2.0
//! The kernel of the microVM tests on arm64: Debian's own for machines in clouds, as it is. It is host's and guest's there; a kernel of
//! ours for arm64 does not exist yet.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail};

use crate::{debian, paths, process::output};

/// An empty package, which depends on the newest kernel.
const NEWEST: &str = "linux-image-cloud-arm64";
const VERSION: &str = "6.12.";

/// Modules in the order in which they can be loaded: below `kernel/` of the package, without the ending.
const HOST: &[&str] = &["drivers/net/tun"];
const GUEST: &[&str] = &[
    "drivers/virtio/virtio_mmio",
    "drivers/block/virtio_blk",
    "net/core/failover",
    "drivers/net/net_failover",
    "drivers/net/virtio_net",
    "net/vmw_vsock/vsock",
    "net/vmw_vsock/vmw_vsock_virtio_transport_common",
    "net/vmw_vsock/vmw_vsock_virtio_transport",
    "drivers/char/hw_random/virtio-rng",
    "lib/libcrc32c",
    "fs/erofs/erofs",
    "fs/overlayfs/overlay",
];

/// Where it is put.
pub(crate) fn folder() -> Result<PathBuf> {
    Ok(paths::products()?.join("arm64"))
}

/// Brings it: `Image`, and the folders `host` and `guest` with modules as `<nn>-<name>.ko`.
pub(crate) fn kernel() -> Result<()> {
    let newest = debian::download_for("arm64", NEWEST, VERSION)?;
    let depends = output(
        Command::new("dpkg-deb")
            .arg("-f")
            .arg(&newest.path)
            .arg("Depends"),
    )?;
    let package = kernel_in(&depends).with_context(|| format!("{NEWEST} depends on {depends}"))?;
    let deb = debian::download_for("arm64", package, VERSION)?;
    let from = debian::unpack(&deb)?;
    let release = package.trim_start_matches("linux-image-");
    let folder = paths::made(folder()?)?;
    // A copy has the package's time, which is older than what cargo makes of it: what counts is the content.
    fs::copy(
        from.join(format!("boot/vmlinuz-{release}")),
        folder.join("Image"),
    )
    .context("the kernel of Debian's package")?;
    for (name, modules) in [("host", HOST), ("guest", GUEST)] {
        let to = folder.join(name);
        if to.exists() {
            fs::remove_dir_all(&to)?;
        }
        let to = paths::made(to)?;
        for (number, module) in modules.iter().enumerate() {
            let packed = from.join(format!("usr/lib/modules/{release}/kernel/{module}.ko.xz"));
            let name = Path::new(module).file_name().context("a name")?;
            let name = format!("{number:02}-{}.ko", name.display());
            let plain = Command::new("xz").arg("-dc").arg(&packed).output()?;
            if !plain.status.success() {
                bail!(
                    "unpack {}: {}",
                    packed.display(),
                    String::from_utf8_lossy(&plain.stderr)
                );
            }
            fs::write(to.join(name), plain.stdout)?;
        }
    }
    Ok(())
}

/// The kernel's package among those that another one depends on.
fn kernel_in(depends: &str) -> Option<&str> {
    let names = depends
        .split(',')
        .filter_map(|it| it.split_whitespace().next());
    names
        .into_iter()
        .find(|name| name.starts_with("linux-image-"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_is_found_by_what_the_empty_package_depends_on() {
        let found = kernel_in("linux-image-6.12.118+deb13-cloud-arm64 (= 6.12.118-1)\n");
        assert_eq!(found, Some("linux-image-6.12.118+deb13-cloud-arm64"));
        assert_eq!(kernel_in("kmod, initramfs-tools (>= 0.120) | x\n"), None);
    }
}
