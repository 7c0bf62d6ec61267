// SPDX-License-Identifier: Apache-2.0
//! Where things are kept: what is expensive and shared between checkouts in the user's cache, the rest in cargo's target folder.

use std::{
    env, fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};

/// The folder of the workspace.
pub(crate) fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("the crate is in a folder of the workspace")
        .into()
}

/// Cargo's target folder.
pub(crate) fn target() -> PathBuf {
    let told = env::var_os("CARGO_TARGET_DIR").map(PathBuf::from);
    workspace().join(told.unwrap_or_else(|| "target".into()))
}

/// A program for this machine that is in the workspace, as `cargo build` leaves it.
pub(crate) fn program(name: &str) -> PathBuf {
    target().join("debug").join(name)
}

/// `~/.cache/racklet`: kernels, the library source of Rust, tools.
pub(crate) fn cache() -> Result<PathBuf> {
    let base = env::var_os("XDG_CACHE_HOME")
        .map(PathBuf::from)
        .filter(|path| path.is_absolute())
        .or_else(|| env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache")))
        .context("neither HOME nor XDG_CACHE_HOME is set: where may the cache be?")?;
    made(base.join("racklet"))
}

/// `target/racklet`: what is built.
pub(crate) fn products() -> Result<PathBuf> {
    made(target().join("racklet"))
}

/// `target/racklet/log`: what the steps said.
pub(crate) fn logs() -> Result<PathBuf> {
    made(target().join("racklet/log"))
}

/// Waits for other runs that are filling the cache; they do as long as the file is kept.
pub(crate) fn lock_cache() -> Result<fs::File> {
    let path = cache()?.join("lock");
    let file = fs::File::create(&path).with_context(|| format!("open {}", path.display()))?;
    if file.try_lock().is_err() {
        crate::progress::say("  waiting for another run to fill the cache");
        file.lock().context("lock the cache")?;
    }
    Ok(file)
}

/// KiB that programs can have without others going to disk.
pub(crate) fn available_memory() -> Result<u64> {
    let text = fs::read_to_string("/proc/meminfo").context("read /proc/meminfo")?;
    Ok(text
        .lines()
        .find_map(|line| line.strip_prefix("MemAvailable:"))
        .and_then(|rest| rest.split_whitespace().next()?.parse().ok())
        .unwrap_or(0))
}

/// The folder, made if it was not there.
pub(crate) fn made(path: PathBuf) -> Result<PathBuf> {
    fs::create_dir_all(&path).with_context(|| format!("make the folder {}", path.display()))?;
    Ok(path)
}

/// `~` for the home folder, so that messages stay short.
pub(crate) fn short(path: &Path) -> String {
    let home = env::var_os("HOME").map(PathBuf::from);
    match home.and_then(|home| path.strip_prefix(home).ok().map(PathBuf::from)) {
        Some(rest) => format!("~/{}", rest.display()),
        None => path.display().to_string(),
    }
}
