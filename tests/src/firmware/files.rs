// SPDX-License-Identifier: Apache-2.0
//! What config.txt has the firmware load from the partition that was chosen.

use std::{
    io::Write as _,
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, ensure};

use super::{
    Choice, Machine, Refused, Volumes,
    settings::{Reader, Settings},
};

/// A file as it lay there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct File {
    /// Its path on the partition.
    pub name: String,
    /// What is in it.
    pub contents: Vec<u8>,
}

/// What is in memory when the firmware starts the kernel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Loaded {
    /// From where.
    pub choice: Choice,
    /// The firmware itself.
    pub firmware: String,
    /// The kernel, out of its gzip where it was in one.
    pub kernel: File,
    /// The initramfs files, which follow each other in memory without a gap; empty where one of them is missing.
    pub initramfs: Vec<File>,
    /// The device tree, as it lay there.
    pub tree: File,
    /// The command line.
    pub arguments: String,
    /// Whether the firmware also reads the EEPROM of a HAT and applies the overlay in it, which nobody signed.
    pub reads_hat: bool,
    /// Files that config.txt names and that are not there, without which the firmware goes on.
    pub missing: Vec<String>,
}

impl Loaded {
    /// The initramfs as the kernel finds it.
    #[must_use]
    pub fn archive(&self) -> Vec<u8> {
        let files = self.initramfs.iter().map(|file| &*file.contents);
        files.collect::<Vec<_>>().concat()
    }
}

/// Loads them.
///
/// # Errors
/// When the card cannot be read.
pub fn load(
    volumes: &impl Volumes,
    machine: &Machine,
    choice: Choice,
) -> Result<Result<Loaded, Refused>> {
    let read = |name: &str| volumes.file(choice.partition, name);
    let config = match choice.tryboot && !choice.by_partition {
        true => "tryboot.txt",
        false => "config.txt",
    };
    let reader = Reader {
        machine: Some(machine),
        tryboot: Some(choice.tryboot),
    };
    let settings = Settings::read(&read(config)?.unwrap_or_default(), reader);
    for name in [
        "dtoverlay",
        "dtparam",
        "include",
        "kernel_address",
        "ramfsaddr",
        "armstub",
    ] {
        if settings.get(name).is_some() {
            return Ok(Err(Refused::NotPlayed(name.to_owned())));
        }
    }
    // The plain firmware has to be there though another is used: with start4cd.elf and fixup4cd.dat alone a CM4 does not start
    // (firmware, issue 1809).
    let firmware = firmware(machine, &settings);
    for name in machine.model.firmware("").iter().chain(&firmware) {
        if read(name)?.is_none() {
            return Ok(Err(Refused::Missing(name.clone())));
        }
    }

    let sixty_four = settings.number("arm_64bit").unwrap_or(0) != 0;
    let kernel = settings
        .get("kernel")
        .unwrap_or(machine.model.kernel(sixty_four));
    let upstream = settings.number("upstream_kernel") == Some(1);
    let trees = match (settings.get("device_tree"), upstream) {
        (Some(name), _) => vec![name],
        (None, true) => machine.model.trees().to_vec(),
        (None, false) => machine.model.trees()[1..].to_vec(),
    };
    let wanted = settings
        .get("os_prefix")
        .unwrap_or(if upstream { "upstream/" } else { "" });
    let first = |prefix: &str| -> Result<Option<File>> {
        for name in &trees {
            let name = prefixed(prefix, name);
            if let Some(contents) = read(&name)? {
                return Ok(Some(File { name, contents }));
            }
        }
        Ok(None)
    };
    // A prefix without a kernel and a tree behind it is left out.
    let lies_there = read(&prefixed(wanted, kernel))?.is_some() && first(wanted)?.is_some();
    let prefix = if lies_there { wanted } else { "" };

    let kernel = prefixed(prefix, kernel);
    let Some(contents) = read(&kernel)? else {
        return Ok(Err(Refused::Missing(kernel)));
    };
    let contents = match contents.starts_with(&[0x1f, 0x8b]) {
        true => inflated(&contents)?,
        false => contents,
    };
    if contents.get(56..60) != Some(b"ARM\x64") {
        return Ok(Err(Refused::Kernel(
            "it is no arm64 Image, nor one in gzip",
        )));
    }
    if !sixty_four {
        return Ok(Err(Refused::Kernel(
            "it is 64-bit, and arm_64bit is not set",
        )));
    }
    let Some(tree) = first(prefix)? else {
        let name = trees.first().copied().unwrap_or_default();
        return Ok(Err(Refused::Missing(prefixed(prefix, name))));
    };
    let (mut initramfs, mut missing) = (Vec::new(), Vec::new());
    for name in archives(&settings) {
        let name = prefixed(prefix, name);
        match read(&name)? {
            Some(contents) => initramfs.push(File { name, contents }),
            None => missing.push(name),
        }
    }
    if !missing.is_empty() {
        initramfs.clear();
    }
    let arguments = prefixed(prefix, settings.get("cmdline").unwrap_or("cmdline.txt"));
    let arguments = read(&arguments)?.unwrap_or_default();
    let arguments = String::from_utf8_lossy(&arguments);
    Ok(Ok(Loaded {
        choice,
        firmware: firmware[0].clone(),
        kernel: File {
            name: kernel,
            contents,
        },
        initramfs,
        tree,
        // One line.
        arguments: arguments
            .lines()
            .next()
            .unwrap_or_default()
            .trim()
            .to_owned(),
        reads_hat: settings.number("force_eeprom_read") != Some(0),
        missing,
    }))
}

/// The firmware and its fixup.
fn firmware(machine: &Machine, settings: &Settings) -> [String; 2] {
    let is = |name: &str| settings.number(name).is_some_and(|value| value != 0);
    // Of all boards with at least 1 GiB the second one counts.
    let gpu = settings
        .number("gpu_mem_1024")
        .or(settings.number("gpu_mem"));
    let variant = match () {
        () if is("start_debug") => "db",
        () if is("start_x") => "x",
        () if gpu.is_some_and(|mebibytes| mebibytes <= 16) => "cd",
        () => "",
    };
    let [start, fixup] = machine.model.firmware(variant);
    let own = |name: &str, other: String| settings.get(name).map_or(other, str::to_owned);
    [own("start_file", start), own("fixup_file", fixup)]
}

/// `initramfs one,two followkernel`; also `ramfsfile=one,two`.
fn archives(settings: &Settings) -> Vec<&str> {
    let names = match settings.get("initramfs") {
        // Any address will do: where it lies is the loader's matter.
        Some(text) => text.split_whitespace().next(),
        None => settings.get("ramfsfile"),
    };
    names
        .unwrap_or_default()
        .split(',')
        .filter(|name| !name.is_empty())
        .collect()
}

/// A path that begins with `/` has no prefix.
fn prefixed(prefix: &str, name: &str) -> String {
    match name.strip_prefix('/') {
        Some(absolute) => absolute.to_owned(),
        None => format!("{prefix}{name}"),
    }
}

/// Unpacks it with `gzip`.
fn inflated(bytes: &[u8]) -> Result<Vec<u8>> {
    let mut gzip = Command::new("gzip")
        .arg("-dc")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .context("start gzip")?;
    let mut input = gzip.stdin.take().context("a pipe was asked for")?;
    let done = std::thread::scope(|scope| {
        // One that ends early says why by its status.
        scope.spawn(move || input.write_all(bytes).ok());
        gzip.wait_with_output()
    })?;
    ensure!(done.status.success(), "gzip: {}", done.status);
    Ok(done.stdout)
}
