// SPDX-License-Identifier: Apache-2.0
//! Files that are either old or new, and reads that end.
//!
//! A microVM's folder is also its monitor's to write: what lies there may be a link to somewhere else or a pipe that never
//! ends. Nothing here follows or waits for such a thing.

use racklet_fetch::disk;
use rustix::fs::OFlags;
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// Replaces `path` by `bytes`: after a power cut it holds the old or the new content, never a part.
pub(crate) fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    disk::replace(&disk::Files, path, bytes)
}

/// Opens a file for reading; links, pipes and devices are refused.
pub(crate) fn open_regular(path: &Path) -> io::Result<File> {
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let flags = i32::try_from(flags.bits()).expect("flags of open(2) are an int");
    let file = File::options().read(true).custom_flags(flags).open(path)?;
    if file.metadata()?.is_file() {
        Ok(file)
    } else {
        let what = format!("{} is not a plain file", path.display());
        Err(io::Error::new(io::ErrorKind::InvalidInput, what))
    }
}

/// Reads a file that must not be longer than `limit` bytes.
pub(crate) fn read_bounded(path: &Path, limit: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let file = open_regular(path)?;
    let read = file.take(limit + 1).read_to_end(&mut bytes)?;
    if read as u64 > limit {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            format!("{} is longer than {limit} bytes", path.display()),
        ));
    }
    Ok(bytes)
}

/// Removes a file; one that is not there is as good.
pub(crate) fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_is_read_than_allowed() {
        let dir = tempfile::tempdir().expect("scratch");
        let path = dir.path().join("a.json");
        replace(&path, b"two").expect("written");
        assert_eq!(read_bounded(&path, 3).expect("read"), b"two");
        assert!(read_bounded(&path, 2).is_err());
    }

    #[test]
    fn links_and_pipes_are_neither_followed_nor_waited_for() {
        let dir = tempfile::tempdir().expect("scratch");
        let (secret, link, pipe) = (
            dir.path().join("s"),
            dir.path().join("l"),
            dir.path().join("p"),
        );
        fs::write(&secret, b"secret").expect("written");
        std::os::unix::fs::symlink(&secret, &link).expect("link");
        let made = std::process::Command::new("mkfifo")
            .arg(&pipe)
            .status()
            .expect("mkfifo");
        assert!(made.success());
        assert!(read_bounded(&link, 100).is_err());
        assert!(read_bounded(&pipe, 100).is_err());
    }
}
