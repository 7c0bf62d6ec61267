// SPDX-License-Identifier: Apache-2.0
//! A log file with a bound: when it is full it becomes `<name>.1` (the one before is dropped) and a new one begins.
//!
//! Not synced: these files live in memory (`/run`), and a log is no promise.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, fchown};
use std::path::{Path, PathBuf};

/// A log of two files, the present and the older one. Each holds at most the bound, or one append that is longer than it.
pub struct Log {
    path: PathBuf,
    file: File,
    len: u64,
    bound: u64,
}

fn open(path: &Path) -> io::Result<File> {
    // Never through a link: the folder belongs to a process that may be hostile.
    OpenOptions::new()
        .append(true)
        .create(true)
        .mode(0o640)
        .custom_flags(libc::O_NOFOLLOW | libc::O_CLOEXEC)
        .open(path)
}

impl Log {
    /// Opens or continues the log.
    pub fn open(path: &Path, bound: u64) -> io::Result<Log> {
        let file = open(path)?;
        let len = file.metadata()?.len();
        Ok(Log {
            path: path.to_owned(),
            file,
            len,
            bound,
        })
    }

    /// Gives the file to another user.
    pub fn give(&self, uid: u32, gid: u32) -> io::Result<()> {
        fchown(&self.file, Some(uid), Some(gid))
    }

    /// From now on the file is found under this path (the process has gone elsewhere).
    pub fn moved(&mut self, path: PathBuf) {
        self.path = path;
    }

    /// Appends bytes. Those that belong together are given in one call: a rotation never cuts them.
    pub fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        let count = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        if self.len > 0 && self.len.saturating_add(count) > self.bound {
            self.rotate()?;
        }
        let mut rest = bytes;
        while !rest.is_empty() {
            match self.file.write(rest) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => {
                    // Counted as it goes: what a full disk took before it failed is in the file.
                    self.len += u64::try_from(written).unwrap_or(u64::MAX);
                    rest = &rest[written..];
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }

    /// Sets the full file aside and begins another. When one of both fails, the next append tries again: nothing is written beyond the
    /// bound meanwhile.
    fn rotate(&mut self) -> io::Result<()> {
        let mut older = self.path.clone().into_os_string();
        older.push(".1");
        match fs::rename(&self.path, older) {
            // It was set aside by a try that then had no descriptor for the new one.
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            other => other?,
        }
        self.file = open(&self.path)?;
        self.len = 0;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_log_is_set_aside_and_two_bounds_are_never_passed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.log");
        let mut log = Log::open(&path, 100).unwrap();
        for i in 0..50 {
            log.append(format!("line {i:04}\n").as_bytes()).unwrap();
        }
        let new = fs::read_to_string(&path).unwrap();
        let old = fs::read_to_string(folder.path().join("x.log.1")).unwrap();
        assert!(new.len() <= 100 && old.len() <= 100);
        assert!(format!("{old}{new}").ends_with("line 0048\nline 0049\n"));
        assert!(old.starts_with("line "), "a line is never cut");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2);
    }

    #[test]
    fn a_log_whose_rotation_failed_once_writes_again_when_it_can() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.log");
        let mut log = Log::open(&path, 10).unwrap();
        log.append(b"12345678\n").unwrap();
        // As when there is no descriptor free: set aside, and then no new one can be made.
        fs::rename(&path, folder.path().join("x.log.1")).unwrap();
        fs::create_dir(&path).unwrap();
        log.append(b"lost\n").unwrap_err();
        log.append(b"lost\n").unwrap_err();
        fs::remove_dir(&path).unwrap();
        log.append(b"again\n").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "again\n");
    }

    #[test]
    fn a_log_is_continued_and_never_followed_through_a_link() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.log");
        Log::open(&path, 100).unwrap().append(b"one\n").unwrap();
        Log::open(&path, 100).unwrap().append(b"two\n").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "one\ntwo\n");
        let link = folder.path().join("y.log");
        std::os::unix::fs::symlink(&path, &link).unwrap();
        assert!(Log::open(&link, 100).is_err());
    }
}
