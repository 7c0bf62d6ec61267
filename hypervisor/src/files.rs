// SPDX-License-Identifier: Apache-2.0
//! Files that are either old or new, and reads that end.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::Path;

/// Replaces `path` by `bytes`: after a power cut it holds the old or the new content, never a part.
pub(crate) fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("/"));
    let temporary = path.with_extension("new");
    let mut file = File::create(&temporary)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&temporary, path)?;
    File::open(folder)?.sync_all()
}

/// Reads a file that must not be longer than `limit` bytes.
pub(crate) fn read_bounded(path: &Path, limit: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let file = File::open(path)?;
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
    fn a_file_is_replaced_as_a_whole() {
        let dir = tempfile::tempdir().expect("scratch");
        let path = dir.path().join("a.json");
        replace(&path, b"one").expect("written");
        replace(&path, b"two").expect("written");
        assert_eq!(read_bounded(&path, 3).expect("read"), b"two");
        assert!(read_bounded(&path, 2).is_err());
        assert_eq!(
            fs::read_dir(dir.path()).expect("list").count(),
            1,
            "no temporary stays"
        );
    }
}
