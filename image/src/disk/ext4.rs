// SPDX-License-Identifier: Apache-2.0
//! An empty ext4 file system inside an image, made by `mke2fs`: the same size and identifiers give the same bytes.
//!
//! Its features are listed here and not taken from the builder's `/etc/mke2fs.conf`. It can grow to 2 TiB while mounted.

use std::{
    ffi::OsString,
    io,
    path::{Path, PathBuf},
    process::Command,
};

use super::gpt::Guid;

/// Blocks of 4 KiB up to which the file system can grow: 2 TiB.
const GROWS_TO_BLOCKS: u64 = 1 << 29;
/// Also the block of fs-verity, and the page of the kernels that read it.
const BLOCK: u64 = 4096;
const FEATURES: &str = "none,has_journal,ext_attr,resize_inode,dir_index,filetype,extent,64bit,flex_bg,\
                        sparse_super,large_file,huge_file,dir_nlink,extra_isize,metadata_csum,verity";

/// Why there is no file system.
#[derive(Debug, thiserror::Error)]
pub enum Ext4Error {
    /// No `mke2fs`, or it cannot be run.
    #[error("run mke2fs; install the package e2fsprogs")]
    Run(#[source] io::Error),
    /// It failed; the text is its own.
    #[error("mke2fs failed: {0}")]
    Failed(String),
    /// No place for its configuration.
    #[error("write mke2fs's configuration")]
    Configuration(#[source] io::Error),
}

/// Makes the file system in `image`, `length` bytes from `start`.
pub(super) fn make(image: &Path, start: u64, length: u64, id: Guid) -> Result<(), Ext4Error> {
    let folder = tempfile::tempdir().map_err(Ext4Error::Configuration)?;
    let configuration = folder.path().join("mke2fs.conf");
    std::fs::write(&configuration, "[defaults]\n").map_err(Ext4Error::Configuration)?;
    let uuid = id.text();
    let done = Command::new("mke2fs")
        .env("PATH", path_with_sbin())
        .env("MKE2FS_CONFIG", &configuration)
        // The time of creation; 0 would mean "now".
        .env("E2FSPROGS_FAKE_TIME", "1")
        .env("LC_ALL", "C")
        .args([
            "-q", "-F", "-t", "ext4", "-b", "4096", "-I", "256", "-i", "16384", "-m", "1",
        ])
        .args([
            "-L",
            "racklet-state",
            "-U",
            &uuid,
            "-O",
            FEATURES,
            "-J",
            "size=16",
        ])
        .arg("-E")
        .arg(format!(
            "offset={start},hash_seed={uuid},root_owner=0:0,resize={GROWS_TO_BLOCKS},\
             lazy_itable_init=0,lazy_journal_init=1,nodiscard"
        ))
        .arg(image)
        .arg(format!("{}k", length / BLOCK * BLOCK / 1024))
        .output()
        .map_err(Ext4Error::Run)?;
    if done.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&done.stderr);
    Err(Ext4Error::Failed(said.trim().replace('\n', "; ")))
}

/// Users' search paths often leave out where system tools are.
fn path_with_sbin() -> OsString {
    let own = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&own).chain(["/usr/sbin", "/sbin"].map(PathBuf::from));
    std::env::join_paths(folders).unwrap_or(own)
}
