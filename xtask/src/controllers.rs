// SPDX-License-Identifier: Apache-2.0
//! `firmware/`, a workspace of its own: how it is built, looked at and tested, and how large it may be.

use std::{fs, path::PathBuf, process::Command};

use anyhow::{Context as _, Result, bail};

use crate::{
    paths,
    progress::{self, say},
    rust,
};

/// Rust's target of what runs on a controller: a Cortex-M33, without its FPU.
pub(crate) const TARGET: &str = "thumbv8m.main-none-eabi";

/// What of the checkout it is made of.
pub(crate) const SOURCES: [&str; 3] = ["firmware/", "lib/wire/", "boards/"];

/// An image: its package's program, and what it may take of the chip's flash and memory, in bytes.
struct Image {
    name: &'static str,
    package: &'static str,
    flash: u64,
    memory: u64,
}

/// All of them. A slot has 512 KiB; of the 520 KiB of memory that an RP2350 has, 120 are left for what is not statics.
const IMAGES: [Image; 1] = [Image {
    name: "bmc",
    package: "racklet-bmc",
    flash: 512 << 10,
    memory: 400 << 10,
}];

/// Memory begins here on every chip of this kind (Armv8-M, address map); what is below is code.
const MEMORY: u32 = 0x2000_0000;

/// Builds the images into `target/racklet/controllers`, and says how large they are.
pub(crate) fn build() -> Result<()> {
    let library = rust::require()?;
    let products = paths::made(paths::products()?.join("controllers"))?;
    for image in &IMAGES {
        let mut command = cargo(&[
            "build",
            "--release",
            "--target",
            TARGET,
            "-p",
            image.package,
        ]);
        library.apply(&mut command, "core,alloc");
        progress::run(
            &format!("firmware: {}", image.name),
            &format!("firmware-{}", image.name),
            60,
            &mut command,
        )?;
        let built = paths::target()
            .join(TARGET)
            .join("release")
            .join(image.name);
        let file = fs::read(&built).with_context(|| format!("read {}", built.display()))?;
        let Size { flash, memory } = Size::of(&file)
            .with_context(|| format!("{} is no image for a controller", built.display()))?;
        say(&format!(
            "  {}: {flash} of {} bytes of flash, {memory} of {} bytes of memory",
            image.name, image.flash, image.memory
        ));
        if flash > image.flash || memory > image.memory {
            bail!("the image {} is larger than its budget", image.name);
        }
        let to = products.join(image.name);
        fs::write(&to, file).with_context(|| format!("write {}", to.display()))?;
    }
    Ok(())
}

/// Bytes that an image takes.
#[derive(Debug, PartialEq, Eq)]
struct Size {
    /// Of code, constants, and what variables begin with.
    flash: u64,
    /// From the beginning of the memory to the end of the variables, the history included: all but the stack.
    memory: u64,
}

impl Size {
    /// From a program's segments (ELF32, little-endian); none when it is not such a program.
    fn of(file: &[u8]) -> Option<Self> {
        let word = |at: usize| Some(u32::from_le_bytes(*file.get(at..)?.first_chunk()?));
        let short = |at: usize| Some(u16::from_le_bytes(*file.get(at..)?.first_chunk()?));
        if !file.starts_with(b"\x7fELF\x01\x01") {
            return None;
        }
        let (table, each, count) = (word(28)?, short(42)?, short(44)?);
        let mut size = Self {
            flash: 0,
            memory: 0,
        };
        for index in 0..usize::from(count) {
            let at = usize::try_from(table).ok()? + index * usize::from(each);
            let [kind, _, address, _, in_file, in_memory] =
                [0, 4, 8, 12, 16, 20].map(|offset| word(at + offset));
            if kind? != 1 {
                continue;
            }
            size.flash += u64::from(in_file?);
            let bank = address? & 0xe000_0000;
            if address? >= MEMORY {
                let end = u64::from(address?) + u64::from(in_memory?);
                // The secure addresses of a bank are another bit, and it is counted from where the bank begins.
                let begin = u64::from(bank) + u64::from(address? & 0x1800_0000);
                size.memory = size.memory.max(end - begin);
            }
        }
        Some(size)
    }
}

pub(crate) fn workspace() -> PathBuf {
    paths::workspace().join("firmware")
}

/// Cargo in there, with the target folder of everything else: what both compile for this machine is compiled once.
pub(crate) fn cargo(arguments: &[&str]) -> Command {
    let mut command = Command::new("cargo");
    command
        .current_dir(workspace())
        .env("CARGO_TARGET_DIR", paths::target())
        .args(arguments);
    command
}

/// Format and lints.
pub(crate) fn lint() -> Result<()> {
    progress::run(
        "format of the firmware",
        "fmt-firmware",
        1,
        &mut cargo(&["fmt", "--all", "--check"]),
    )
    .context("`cargo fmt --all` in firmware/ puts it right")?;
    progress::run(
        "lints of the firmware's core",
        "clippy-firmware",
        20,
        &mut cargo(&[
            "clippy",
            "-p",
            "racklet-firmware-core",
            "-p",
            "racklet-firmware-model",
            "--all-targets",
            "--",
            "-D",
            "warnings",
        ]),
    )?;
    let mut images = cargo(&["clippy", "--target", TARGET]);
    images.args(IMAGES.iter().flat_map(|image| ["-p", image.package]));
    rust::require()?.apply(&mut images, "core,alloc");
    images.args(["--", "-D", "warnings"]);
    progress::run(
        "lints of the firmware's images",
        "clippy-images",
        60,
        &mut images,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A program with these segments: address, bytes in the file, bytes in memory.
    fn program(segments: &[[u32; 3]]) -> Vec<u8> {
        let mut file = b"\x7fELF\x01\x01".to_vec();
        file.resize(52, 0);
        file[28] = 52;
        file[42] = 32;
        file[44] = u8::try_from(segments.len()).unwrap();
        for [address, in_file, in_memory] in segments {
            for word in [1, 0, *address, *address, *in_file, *in_memory, 0, 0] {
                file.extend(u32::to_le_bytes(word));
            }
        }
        file
    }

    #[test]
    fn what_an_image_takes_is_counted_from_its_segments() {
        let code = [0x1000_0000, 300_000, 300_000];
        let variables = [0x3801_1100, 304, 304];
        let zeros = [0x3801_1230, 0, 1000];
        let size = Size::of(&program(&[code, variables, zeros])).unwrap();
        assert_eq!(
            size,
            Size {
                flash: 300_304,
                memory: 0x1_1230 + 1000
            }
        );
        assert_eq!(Size::of(b"\x7fELF\x02\x01"), None);
        assert_eq!(Size::of(&program(&[code])[..60]), None);
    }
}
