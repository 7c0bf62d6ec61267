// SPDX-License-Identifier: Apache-2.0
//! The few file operations that the store and the cache are made of.
//!
//! They go through a trait so that a test can cut the power at each of them. The rules that make this safe: a file that replaces
//! another is written beside it, synced, renamed, and its folder synced ([`replace`]); everything else is named by its digest and
//! verified whenever it is read.

use std::{
    fs, io,
    io::{Read, Write},
    os::unix::fs::FileExt,
    path::Path,
};

use racklet_linux::verity;
use racklet_trust::{Digest, digest::Hex};

/// A place for files.
pub trait Disk {
    /// Reads a whole file of at most `limit` bytes.
    ///
    /// # Errors
    /// The file system's, or `FileTooLarge`.
    fn read(&self, path: &Path, limit: u64) -> io::Result<Vec<u8>>;

    /// Reads a whole file, piece by piece.
    ///
    /// # Errors
    /// The file system's.
    fn read_through(&self, path: &Path, visit: &mut dyn FnMut(&[u8])) -> io::Result<()>;

    /// Fills `out` from a file, from byte `offset` on.
    ///
    /// # Errors
    /// The file system's; `UnexpectedEof` where the file ends before.
    fn read_at(&self, path: &Path, offset: u64, out: &mut [u8]) -> io::Result<()>;

    /// Has the file system verify a whole file, block by block, whenever it is read (fs-verity), and lets nobody write to it again. That
    /// lasts from the next [`Self::sync_all`] on.
    ///
    /// # Errors
    /// The file system's; `Unsupported` where it does not do that.
    fn seal(&self, path: &Path) -> io::Result<()>;

    /// The digest that a sealed file is verified against, as [`crate::verity`] computes it; `None` for any other file.
    ///
    /// # Errors
    /// The file system's.
    fn sealed(&self, path: &Path) -> io::Result<Option<Digest>>;

    /// A file's size in bytes.
    ///
    /// # Errors
    /// The file system's.
    fn size(&self, path: &Path) -> io::Result<u64>;

    /// Creates a file to be written from its start, in place of whatever has its name: a link there is removed, not followed.
    /// Dropping it does not sync it.
    ///
    /// # Errors
    /// The file system's.
    fn create(&self, path: &Path) -> io::Result<Box<dyn NewFile + '_>>;

    /// Renames a file or folder over whatever file is there.
    ///
    /// # Errors
    /// The file system's.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Removes a file.
    ///
    /// # Errors
    /// The file system's.
    fn remove(&self, path: &Path) -> io::Result<()>;

    /// Removes a folder with everything in it.
    ///
    /// # Errors
    /// The file system's.
    fn remove_all(&self, path: &Path) -> io::Result<()>;

    /// Creates a folder and those above it.
    ///
    /// # Errors
    /// The file system's.
    fn create_folder(&self, path: &Path) -> io::Result<()>;

    /// The names in a folder, in no order.
    ///
    /// # Errors
    /// The file system's.
    fn list(&self, path: &Path) -> io::Result<Vec<String>>;

    /// Makes what was created, renamed and removed in a folder last.
    ///
    /// # Errors
    /// The file system's.
    fn sync_folder(&self, path: &Path) -> io::Result<()>;

    /// Makes everything on the file system that `path` is on last.
    ///
    /// # Errors
    /// The file system's.
    fn sync_all(&self, path: &Path) -> io::Result<()>;
}

/// A disk may be lent.
impl<D: Disk + ?Sized> Disk for &D {
    fn read(&self, path: &Path, limit: u64) -> io::Result<Vec<u8>> {
        (**self).read(path, limit)
    }

    fn read_through(&self, path: &Path, visit: &mut dyn FnMut(&[u8])) -> io::Result<()> {
        (**self).read_through(path, visit)
    }

    fn read_at(&self, path: &Path, offset: u64, out: &mut [u8]) -> io::Result<()> {
        (**self).read_at(path, offset, out)
    }

    fn seal(&self, path: &Path) -> io::Result<()> {
        (**self).seal(path)
    }

    fn sealed(&self, path: &Path) -> io::Result<Option<Digest>> {
        (**self).sealed(path)
    }

    fn size(&self, path: &Path) -> io::Result<u64> {
        (**self).size(path)
    }

    fn create(&self, path: &Path) -> io::Result<Box<dyn NewFile + '_>> {
        (**self).create(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        (**self).rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        (**self).remove(path)
    }

    fn remove_all(&self, path: &Path) -> io::Result<()> {
        (**self).remove_all(path)
    }

    fn create_folder(&self, path: &Path) -> io::Result<()> {
        (**self).create_folder(path)
    }

    fn list(&self, path: &Path) -> io::Result<Vec<String>> {
        (**self).list(path)
    }

    fn sync_folder(&self, path: &Path) -> io::Result<()> {
        (**self).sync_folder(path)
    }

    fn sync_all(&self, path: &Path) -> io::Result<()> {
        (**self).sync_all(path)
    }
}

/// A file being written.
pub trait NewFile: Write {
    /// Makes its contents last.
    ///
    /// # Errors
    /// The file system's.
    fn sync(&mut self) -> io::Result<()>;
}

/// Writes `bytes` to `path` so that after a power cut there is the old file or the new one, whole.
///
/// What is half written bears the same name with the extension `tmp`: files that differ in nothing else get in each other's way.
///
/// # Errors
/// The file system's; the old file is then still there, unless only the last step failed, which makes the new one last.
pub fn replace(disk: &dyn Disk, path: &Path, bytes: &[u8]) -> io::Result<()> {
    let beside = path.with_extension("tmp");
    let mut file = disk.create(&beside)?;
    file.write_all(bytes)?;
    file.sync()?;
    drop(file);
    disk.rename(&beside, path)?;
    disk.sync_folder(folder(path))
}

/// The folder that `path` is in.
pub(crate) fn folder(path: &Path) -> &Path {
    path.parent().unwrap_or(Path::new("/"))
}

/// The operating system's files.
#[derive(Debug, Clone, Copy, Default)]
pub struct Files;

impl Disk for Files {
    fn read(&self, path: &Path, limit: u64) -> io::Result<Vec<u8>> {
        let file = fs::File::open(path)?;
        let size = file.metadata()?.len();
        if size > limit {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        let mut bytes =
            Vec::with_capacity(usize::try_from(size).map_err(|_| io::ErrorKind::FileTooLarge)?);
        file.take(size).read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    fn read_through(&self, path: &Path, visit: &mut dyn FnMut(&[u8])) -> io::Result<()> {
        let mut file = fs::File::open(path)?;
        let mut buffer = vec![0; 256 * 1024];
        loop {
            match file.read(&mut buffer)? {
                0 => return Ok(()),
                count => visit(&buffer[..count]),
            }
        }
    }

    fn read_at(&self, path: &Path, offset: u64, out: &mut [u8]) -> io::Result<()> {
        fs::File::open(path)?.read_exact_at(out, offset)
    }

    fn seal(&self, path: &Path) -> io::Result<()> {
        verity::enable(&fs::File::open(path)?)
    }

    fn sealed(&self, path: &Path) -> io::Result<Option<Digest>> {
        Ok(verity::measure(&fs::File::open(path)?)?.map(Hex))
    }

    fn size(&self, path: &Path) -> io::Result<u64> {
        // Through a link: the cache of a card that takes no writes is links to it. Nothing is believed for its size.
        Ok(fs::metadata(path)?.len())
    }

    fn create(&self, path: &Path) -> io::Result<Box<dyn NewFile + '_>> {
        match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        // Whoever else may write in the folder could be quicker with a link: then this fails, and is not led elsewhere.
        Ok(Box::new(fs::File::create_new(path)?))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn remove_all(&self, path: &Path) -> io::Result<()> {
        fs::remove_dir_all(path)
    }

    fn create_folder(&self, path: &Path) -> io::Result<()> {
        fs::create_dir_all(path)
    }

    fn list(&self, path: &Path) -> io::Result<Vec<String>> {
        fs::read_dir(path)?
            .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
            .collect()
    }

    fn sync_folder(&self, path: &Path) -> io::Result<()> {
        fs::File::open(path)?.sync_all()
    }

    fn sync_all(&self, path: &Path) -> io::Result<()> {
        Ok(rustix::fs::syncfs(fs::File::open(path)?)?)
    }
}

impl NewFile for fs::File {
    fn sync(&mut self) -> io::Result<()> {
        self.sync_all()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_replaced_as_a_whole_and_nothing_stays_beside_it() {
        let folder = tempfile::tempdir().expect("scratch");
        let path = folder.path().join("a.json");
        fs::write(folder.path().join("a.tmp"), "of a write that was cut").expect("written");
        for bytes in [&b"longer than the next"[..], b"two"] {
            replace(&Files, &path, bytes).expect("replaced");
            assert_eq!(fs::read(&path).expect("read"), bytes);
        }
        assert_eq!(Files.list(folder.path()).expect("listed"), ["a.json"]);
    }

    #[test]
    fn a_link_beside_the_file_leads_nowhere() {
        let folder = tempfile::tempdir().expect("scratch");
        let secret = folder.path().join("secret");
        fs::write(&secret, "secret").expect("written");
        std::os::unix::fs::symlink(&secret, folder.path().join("a.tmp")).expect("link");
        replace(&Files, &folder.path().join("a.json"), b"mine").expect("replaced");
        assert_eq!(fs::read(&secret).expect("read"), b"secret");
    }
}
