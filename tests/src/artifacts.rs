// SPDX-License-Identifier: Apache-2.0
//! Where the things that `cargo xtask build` makes are: kernels, programs of a tray, operating system images, the `racklet` tool.

use std::{
    env,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail};
use racklet_trust::Architecture;

use crate::board::board;

/// The folder of the workspace.
#[must_use]
pub fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("the crate is in a folder of the workspace")
        .into()
}

/// Cargo's target folder.
#[must_use]
pub fn target() -> PathBuf {
    env::var_os("CARGO_TARGET_DIR").map_or_else(
        || workspace().join("target"),
        |dir| workspace().join(PathBuf::from(dir)),
    )
}

fn given() -> Option<PathBuf> {
    env::var_os("RACKLET_ARTIFACTS").map(PathBuf::from)
}

fn modules_in(folder: &Path) -> Result<Vec<(String, Vec<u8>)>> {
    let listed = std::fs::read_dir(folder)
        .with_context(|| format!("{}: run `cargo xtask build`", folder.display()))?;
    let mut modules = Vec::new();
    for entry in listed {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        modules.push((name.into_owned(), std::fs::read(&path)?));
    }
    modules.sort();
    Ok(modules)
}

/// What `cargo xtask build` made for an architecture, by name.
#[derive(Debug, Clone)]
pub struct Artifacts {
    folder: PathBuf,
    architecture: Architecture,
}

impl Artifacts {
    /// Those for an architecture, whether or not they are there. `cargo xtask test` sets `RACKLET_ARTIFACTS` to a folder that has only
    /// what a program of tests is said to boot, so that nothing else can have a part in what comes of it.
    #[must_use]
    pub fn of(architecture: Architecture) -> Self {
        Self {
            folder: given().unwrap_or_else(|| target().join("racklet")),
            architecture,
        }
    }

    /// The complete set for the board that this run is about.
    ///
    /// # Errors
    /// When something is missing, with what to run.
    pub fn find() -> Result<Self> {
        let artifacts = Self::of(board().architecture);
        let missing: Vec<_> = [
            artifacts.bootstrap_kernel(),
            artifacts.kernel(),
            artifacts.bootstrap_initramfs(),
            artifacts.host_initramfs(),
            artifacts.guest_kernel(),
            artifacts.bootloader(),
            artifacts.racklet(),
            artifacts.busybox(),
        ]
        .into_iter()
        .filter(|path| !path.exists())
        .collect();
        if let Some(first) = missing.first() {
            bail!(
                "{} is not there: run `cargo xtask test`, which builds it first",
                first.display()
            );
        }
        Ok(artifacts)
    }

    /// What they are for.
    #[must_use]
    pub fn architecture(&self) -> Architecture {
        self.architecture
    }

    /// One by its path in the architecture's folder.
    #[must_use]
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.join(self.architecture.name()).join(name)
    }

    /// Kernel of a tray as UEFI firmware starts it.
    #[must_use]
    pub fn bootstrap_kernel(&self) -> PathBuf {
        self.path("kernel/tray/uefi")
    }

    /// The same kernel as kexec starts it, and QEMU by itself.
    #[must_use]
    pub fn kernel(&self) -> PathBuf {
        self.path("kernel/tray/kexec")
    }

    /// Its modules by file name, in the order in which they can be loaded.
    ///
    /// # Errors
    /// When `cargo xtask build` has not made them.
    pub fn modules(&self) -> Result<Vec<(String, Vec<u8>)>> {
        modules_in(&self.path("kernel/tray/modules"))
    }

    /// Initramfs of the bootstrap, zstd.
    #[must_use]
    pub fn bootstrap_initramfs(&self) -> PathBuf {
        self.path("os/bootstrap.cpio.zst")
    }

    /// Initramfs of the hypervisor OS, zstd.
    #[must_use]
    pub fn host_initramfs(&self) -> PathBuf {
        self.path("os/hypervisor.cpio.zst")
    }

    /// Kernel of a microVM, as the monitor loads it.
    #[must_use]
    pub fn guest_kernel(&self) -> PathBuf {
        self.path("kernel/guest/monitor")
    }

    /// A static program as it runs on a tray (`vmm`, `guest-init`, …), or in the microVM tests (`nested`, `racklet-vmm`).
    #[must_use]
    pub fn tray_program(&self, name: &str) -> PathBuf {
        let target_name = format!("{}-unknown-linux-musl", self.architecture);
        let folder = match given() {
            Some(_) => self.path("programs"),
            None => target().join(target_name).join("tray"),
        };
        folder.join(name)
    }

    /// Stage 1.
    #[must_use]
    pub fn bootloader(&self) -> PathBuf {
        self.path("os/bootloader.efi")
    }

    /// The user's tool.
    #[must_use]
    pub fn racklet(&self) -> PathBuf {
        self.folder.join("bin/racklet")
    }

    /// A static busybox, for workloads.
    #[must_use]
    pub fn busybox(&self) -> PathBuf {
        self.path("busybox")
    }

    /// Where a kernel came from, e.g. `6.12.117-1 sha256:…`.
    ///
    /// # Errors
    /// When `cargo xtask build` has not written it.
    pub fn linux_source(&self) -> Result<String> {
        let path = self.path("kernel/tray/source");
        match std::fs::read_to_string(&path) {
            Ok(text) => Ok(text.trim().into()),
            Err(error) => bail!("{}: {error}: run `cargo xtask build`", path.display()),
        }
    }
}
