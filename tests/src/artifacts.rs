// SPDX-License-Identifier: Apache-2.0
//! Where the things that `cargo xtask build` makes are: kernels, programs of a tray, operating system images, the `racklet` tool.

use std::{
    env,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail};

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

/// A program as it was compiled for a target, or in this folder of what was given.
fn program(target_name: &str, folder: &str, name: &str) -> PathBuf {
    let built = || target().join(target_name).join("tray");
    given()
        .map_or_else(built, |given| given.join(folder))
        .join(name)
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

/// What `cargo xtask build` made, by name.
#[derive(Debug, Clone)]
pub struct Artifacts {
    folder: PathBuf,
}

impl Artifacts {
    /// The folder they belong in, whether or not they are there. `cargo xtask test` sets `RACKLET_ARTIFACTS` to one that has only
    /// what a program of tests is said to boot, so that nothing else can have a part in what comes of it.
    #[must_use]
    pub fn folder() -> PathBuf {
        given().unwrap_or_else(|| target().join("racklet"))
    }

    /// A set in another folder, whether or not it is there.
    #[must_use]
    pub fn in_folder(folder: impl Into<PathBuf>) -> Self {
        Self {
            folder: folder.into(),
        }
    }

    /// The complete set.
    ///
    /// # Errors
    /// When something is missing, with what to run.
    pub fn find() -> Result<Self> {
        let artifacts = Self::in_folder(Self::folder());
        let missing: Vec<_> = [
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

    /// Kernel of a tray: of the bootstrap and of the hypervisor OS.
    #[must_use]
    pub fn kernel(&self) -> PathBuf {
        self.folder.join("kernel/tray/bzImage")
    }

    /// Its modules by file name, in the order in which they can be loaded.
    ///
    /// # Errors
    /// When `cargo xtask build` has not made them.
    pub fn modules(&self) -> Result<Vec<(String, Vec<u8>)>> {
        modules_in(&self.folder.join("kernel/tray/modules"))
    }

    /// Debian's kernel for arm64 machines, an Image: host's and guest's in the microVM tests there.
    #[must_use]
    pub fn arm64_kernel(&self) -> PathBuf {
        self.folder.join("arm64/Image")
    }

    /// Those of its modules that a `host` or a `guest` needs, as [`Self::modules`].
    ///
    /// # Errors
    /// When `cargo xtask build` has not made them.
    pub fn arm64_modules(&self, whose: &str) -> Result<Vec<(String, Vec<u8>)>> {
        modules_in(&self.folder.join("arm64").join(whose))
    }

    /// Initramfs of the bootstrap, zstd.
    #[must_use]
    pub fn bootstrap_initramfs(&self) -> PathBuf {
        self.folder.join("os/bootstrap.cpio.zst")
    }

    /// Initramfs of the hypervisor OS, zstd.
    #[must_use]
    pub fn host_initramfs(&self) -> PathBuf {
        self.folder.join("os/hypervisor.cpio.zst")
    }

    /// Kernel of a microVM, ELF.
    #[must_use]
    pub fn guest_kernel(&self) -> PathBuf {
        self.folder.join("kernel/guest/vmlinux")
    }

    /// A static program as it runs on a tray (`vmm`, `guest-init`, …), or in the microVM tests (`nested`, `racklet-vmm`).
    #[must_use]
    pub fn tray_program(&self, name: &str) -> PathBuf {
        program("x86_64-unknown-linux-musl", "programs", name)
    }

    /// The same for arm64: `vmm`, `guest-init`, `nested`.
    #[must_use]
    pub fn arm64_program(&self, name: &str) -> PathBuf {
        program("aarch64-unknown-linux-musl", "arm64/programs", name)
    }

    /// Stage 1.
    #[must_use]
    pub fn bootloader(&self) -> PathBuf {
        self.folder.join("os/bootloader.efi")
    }

    /// The user's tool.
    #[must_use]
    pub fn racklet(&self) -> PathBuf {
        self.folder.join("bin/racklet")
    }

    /// A static busybox, for workloads.
    #[must_use]
    pub fn busybox(&self) -> PathBuf {
        self.folder.join("bin/busybox")
    }

    /// Where a kernel came from, e.g. `6.12.117-1 sha256:…`.
    ///
    /// # Errors
    /// When `cargo xtask build` has not written it.
    pub fn linux_source(&self) -> Result<String> {
        let path = self.folder.join("kernel/tray/source");
        match std::fs::read_to_string(&path) {
            Ok(text) => Ok(text.trim().into()),
            Err(error) => bail!("{}: {error}: run `cargo xtask build`", path.display()),
        }
    }
}
