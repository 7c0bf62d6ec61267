// SPDX-License-Identifier: Apache-2.0
//! Rust's standard library for the targets of a tray, by the first way that works here: rustup's prebuilt targets; rustup's
//! library source; the library source of Debian's package of exactly this compiler's version. It says which it took.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail};

use crate::{
    architecture, controllers, debian, packages, paths,
    process::output,
    progress::{self, say},
};

/// For programs of trays, for their bootloaders, and for firmware of controllers.
pub(crate) fn targets() -> impl Iterator<Item = &'static str> {
    architecture::ALL
        .iter()
        .flat_map(|it| [it.linux, it.firmware])
        .chain([controllers::TARGET])
}

/// Seconds that rustup gets: where its server is out of reach it would try for very long.
const PATIENCE: &str = "90";

/// How code for the other targets is compiled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Library {
    /// The targets' libraries are there.
    Prebuilt,
    /// They are built from source (`-Zbuild-std`), with the compiler in this folder if it is not the usual one.
    Source { compiler: Option<PathBuf> },
}

impl Library {
    /// Arguments and environment for a build that needs these parts of the library.
    pub(crate) fn apply(&self, command: &mut Command, parts: &str) {
        if let Self::Source { compiler } = self {
            command
                // -Zbuild-std is used with a stable compiler on purpose: the source is of exactly its version.
                .env("RUSTC_BOOTSTRAP", "1")
                .arg(format!("-Zbuild-std={parts}"));
            if let Some(sysroot) = compiler {
                command.env("RUSTC", sysroot.join("bin/rustc"));
            }
        }
    }
}

/// What is there already, without changing anything.
pub(crate) fn present() -> Result<Option<Library>> {
    let sysroot = sysroot()?;
    let target = |name: &str| sysroot.join("lib/rustlib").join(name).join("lib").is_dir();
    if targets().all(target) {
        return Ok(Some(Library::Prebuilt));
    }
    if has_source(&sysroot) {
        return Ok(Some(Library::Source { compiler: None }));
    }
    let copy = copied_sysroot()?;
    Ok(has_source(&copy).then_some(Library::Source {
        compiler: Some(copy),
    }))
}

/// Makes it possible to compile for a tray.
pub(crate) fn require() -> Result<Library> {
    if let Some(library) = present()? {
        return Ok(library);
    }
    say("Rust's standard library for a tray's targets:");
    if packages::find("rustup").is_some() {
        let rustup = |title: &str, arguments: &[&str]| {
            let mut command = Command::new("timeout");
            command
                .env("RUSTUP_MAX_RETRIES", "1")
                .args([PATIENCE, "rustup"])
                .args(arguments);
            progress::run(title, "rustup", 20, &mut command)
        };
        let add: Vec<_> = ["target", "add"].into_iter().chain(targets()).collect();
        if rustup("rustup: prebuilt targets", &add).is_ok() {
            say("  taken: rustup's prebuilt targets");
            return present()?.context("rustup said it added the targets, but they are not there");
        }
        if rustup("rustup: library source", &["component", "add", "rust-src"]).is_ok() {
            say("  taken: the library source from rustup");
            return present()?.context("rustup said it added rust-src, but it is not there");
        }
        say("  rustup cannot download here; trying Debian");
    }
    from_debian()
}

fn from_debian() -> Result<Library> {
    let version = version()?;
    let deb = debian::download("rust-src", &format!("{version}+")).with_context(|| {
        format!(
            "no library source of rustc {version}: with a network that reaches rustup's server run \
             `rustup component add rust-src`, or use a Rust version that Debian 13 or its backports have"
        )
    })?;
    let source = debian::unpack(&deb)?.join(format!("usr/src/rustc-{version}/library"));
    let sysroot = sysroot()?;
    let library = match place(&source, &sysroot) {
        Ok(()) => Library::Source { compiler: None },
        Err(_) => {
            // Another user's installation: work with a copy of it.
            let copy = copied_sysroot()?;
            output(Command::new("cp").arg("-a").arg(&sysroot).arg(&copy))?;
            place(&source, &copy)?;
            Library::Source {
                compiler: Some(copy),
            }
        }
    };
    say(&format!(
        "  taken: the library source of Debian's rust-src {}",
        deb.version
    ));
    Ok(library)
}

fn place(source: &Path, sysroot: &Path) -> Result<()> {
    let rust = paths::made(sysroot.join("lib/rustlib/src/rust"))?;
    let partial = rust.join("library.partial");
    if partial.exists() {
        fs::remove_dir_all(&partial)?;
    }
    output(Command::new("cp").arg("-a").arg(source).arg(&partial))?;
    fs::rename(&partial, rust.join("library")).context("put the library source in its place")
}

fn has_source(sysroot: &Path) -> bool {
    sysroot
        .join("lib/rustlib/src/rust/library/Cargo.lock")
        .is_file()
}

fn copied_sysroot() -> Result<PathBuf> {
    Ok(paths::cache()?.join(format!("sysroot-{}", version()?)))
}

fn sysroot() -> Result<PathBuf> {
    Ok(output(Command::new("rustc").args(["--print", "sysroot"]))?
        .trim()
        .into())
}

/// The compiler's version, e.g. `1.95.0`.
pub(crate) fn version() -> Result<String> {
    let text = output(Command::new("rustc").arg("--version"))?;
    match text.split(' ').nth(1) {
        Some(version) => Ok(version.to_owned()),
        None => bail!("rustc does not say its version: {text}"),
    }
}
