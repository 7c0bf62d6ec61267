// SPDX-License-Identifier: Apache-2.0
//! A disk in memory that knows what would be left of it if the power went now.
//!
//! It keeps what programs see (`now`) and what is on the platter (`kept`): contents reach it by `sync` of the file, names by `sync_folder`,
//! both by `sync_all`. After each operation, and in the middle of each write, the states that a power cut could leave are recorded.

use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet},
    io::{self, Write},
    path::{Path, PathBuf},
};

use racklet_fetch::{
    disk::{Disk, NewFile},
    verity::{BLOCK, Tree},
};
use racklet_trust::Digest;

type Contents = BTreeMap<u64, File>;
type Names = BTreeMap<PathBuf, u64>;

#[derive(Clone, Default)]
struct File {
    bytes: Vec<u8>,
    /// What it held when it was sealed.
    sealed: Option<Vec<u8>>,
}

impl File {
    /// Its bytes in `range`, unless they are in a block that is not the one that was sealed.
    fn read(&self, range: std::ops::Range<usize>) -> io::Result<&[u8]> {
        let blocks = range.start / BLOCK * BLOCK..range.end.next_multiple_of(BLOCK);
        let within = |bytes: &[u8]| {
            bytes
                .get(blocks.start..blocks.end.min(bytes.len()))
                .map(<[u8]>::to_vec)
        };
        if let Some(sealed) = &self.sealed
            && within(sealed) != within(&self.bytes)
        {
            return Err(io::Error::from_raw_os_error(5));
        }
        (self.bytes.get(range)).ok_or(io::ErrorKind::UnexpectedEof.into())
    }
}

#[derive(Clone, Default)]
struct State {
    next: u64,
    now: (Contents, Names),
    kept: (Contents, Names),
    folders: BTreeSet<PathBuf>,
}

#[derive(Default)]
pub struct MemDisk {
    state: RefCell<State>,
    /// What was being done, and what a power cut then could leave.
    cuts: RefCell<Vec<(String, MemDisk)>>,
    recording: bool,
    /// Whether it is a disk that files can be sealed on.
    pub seals: bool,
    /// Bytes of all files together.
    pub capacity: RefCell<Option<usize>>,
    /// Files that give an error when they are read, until they are written anew.
    pub unreadable: RefCell<BTreeSet<PathBuf>>,
}

impl State {
    /// What is left: all of it; only what was synced; all names, but only synced contents.
    fn left(&self) -> [State; 3] {
        let on = |contents: &Contents, names: &Names| {
            let contents: Contents = names
                .values()
                .map(|id| (*id, contents.get(id).cloned().unwrap_or_default()))
                .collect();
            State {
                next: self.next,
                now: (contents.clone(), names.clone()),
                kept: (contents, names.clone()),
                folders: self.folders.clone(),
            }
        };
        [
            on(&self.now.0, &self.now.1),
            on(&self.kept.0, &self.kept.1),
            on(&self.kept.0, &self.now.1),
        ]
    }
}

impl MemDisk {
    /// One that files can be sealed on.
    pub fn that_seals() -> Self {
        Self {
            seals: true,
            ..Self::default()
        }
    }

    pub fn recording() -> Self {
        Self {
            recording: true,
            ..Self::default()
        }
    }

    /// The same files, without a record.
    pub fn copy(&self) -> Self {
        Self {
            state: self.state.clone(),
            seals: self.seals,
            ..Self::default()
        }
    }

    /// Goes on recording on top of the files of `self`, all of them synced.
    pub fn record_from_here(&self) -> Self {
        let [all, ..] = self.state.borrow().left();
        Self {
            state: RefCell::new(all),
            seals: self.seals,
            ..Self::recording()
        }
    }

    pub fn cuts(&self) -> std::cell::Ref<'_, Vec<(String, MemDisk)>> {
        self.cuts.borrow()
    }

    /// Whether anything of that kind was done since it records.
    pub fn did(&self, what: &str) -> bool {
        self.cuts().iter().any(|(cut, _)| cut.starts_with(what))
    }

    /// The files there are.
    pub fn paths(&self) -> Vec<PathBuf> {
        self.state.borrow().now.1.keys().cloned().collect()
    }

    /// Turns bits of a byte in a file, as a card does that grows old.
    pub fn rot(&self, path: &Path) {
        let id = self.id(path).unwrap();
        let mut state = self.state.borrow_mut();
        let bytes = &mut state.now.0.get_mut(&id).unwrap().bytes;
        let middle = bytes.len() / 2;
        bytes[middle] ^= 0x11;
    }

    pub fn used(&self) -> usize {
        {
            let state = self.state.borrow();
            state
                .now
                .1
                .values()
                .map(|id| state.now.0[id].bytes.len())
                .sum()
        }
    }

    fn done(&self, what: &str, path: &Path) {
        if self.recording {
            for (state, how) in self
                .state
                .borrow()
                .left()
                .into_iter()
                .zip(["all", "synced", "names"])
            {
                let disk = Self {
                    state: RefCell::new(state),
                    seals: self.seals,
                    ..Self::default()
                };
                self.cuts
                    .borrow_mut()
                    .push((format!("{what} {} ({how})", path.display()), disk));
            }
        }
    }

    fn id(&self, path: &Path) -> io::Result<u64> {
        self.state
            .borrow()
            .now
            .1
            .get(path)
            .copied()
            .ok_or(io::ErrorKind::NotFound.into())
    }
}

impl Disk for MemDisk {
    fn read(&self, path: &Path, limit: u64) -> io::Result<Vec<u8>> {
        let id = self.id(path)?;
        if self.unreadable.borrow().contains(path) {
            return Err(io::Error::other("the sector cannot be read"));
        }
        let state = self.state.borrow();
        let file = &state.now.0[&id];
        if file.bytes.len() as u64 > limit {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        file.read(0..file.bytes.len()).map(<[u8]>::to_vec)
    }

    fn read_through(&self, path: &Path, visit: &mut dyn FnMut(&[u8])) -> io::Result<()> {
        self.read(path, u64::MAX)?.chunks(1000).for_each(visit);
        Ok(())
    }

    fn read_at(&self, path: &Path, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let id = self.id(path)?;
        if self.unreadable.borrow().contains(path) {
            return Err(io::Error::other("the sector cannot be read"));
        }
        let state = self.state.borrow();
        let start = usize::try_from(offset).unwrap();
        out.copy_from_slice(state.now.0[&id].read(start..start + out.len())?);
        Ok(())
    }

    fn seal(&self, path: &Path) -> io::Result<()> {
        if !self.seals {
            return Err(io::ErrorKind::Unsupported.into());
        }
        let id = self.id(path)?;
        let mut state = self.state.borrow_mut();
        let file = state.now.0.get_mut(&id).unwrap();
        file.sealed = Some(file.bytes.clone());
        drop(state);
        self.done("seal", path);
        Ok(())
    }

    fn sealed(&self, path: &Path) -> io::Result<Option<Digest>> {
        let id = self.id(path)?;
        let state = self.state.borrow();
        let sealed = state.now.0[&id].sealed.as_ref();
        Ok(sealed.map(|bytes| {
            let mut tree = Tree::default();
            tree.update(bytes);
            tree.finish()
        }))
    }

    fn size(&self, path: &Path) -> io::Result<u64> {
        let id = self.id(path)?;
        Ok(self.state.borrow().now.0[&id].bytes.len() as u64)
    }

    fn create(&self, path: &Path) -> io::Result<Box<dyn NewFile + '_>> {
        let mut state = self.state.borrow_mut();
        if !state.folders.contains(path.parent().unwrap()) {
            return Err(io::ErrorKind::NotFound.into());
        }
        let next = state.next;
        // A new file under the name: whoever has the old one open keeps it.
        state.now.1.insert(path.to_owned(), next);
        let id = next;
        state.next += 1;
        state.now.0.insert(id, File::default());
        drop(state);
        self.unreadable.borrow_mut().remove(path);
        self.done("create", path);
        Ok(Box::new(Handle {
            disk: self,
            id,
            path: path.to_owned(),
        }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let id = self.id(from)?;
        let mut state = self.state.borrow_mut();
        state.now.1.remove(from);
        state.now.1.insert(to.to_owned(), id);
        drop(state);
        self.unreadable.borrow_mut().remove(to);
        self.done("rename", to);
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.id(path)?;
        self.state.borrow_mut().now.1.remove(path);
        self.done("remove", path);
        Ok(())
    }

    fn remove_all(&self, path: &Path) -> io::Result<()> {
        // One file after another, as a file system does.
        let names: Vec<PathBuf> = self
            .state
            .borrow()
            .now
            .1
            .keys()
            .filter(|name| name.starts_with(path))
            .cloned()
            .collect();
        names.iter().try_for_each(|name| self.remove(name))?;
        self.state
            .borrow_mut()
            .folders
            .retain(|folder| !folder.starts_with(path));
        Ok(())
    }

    fn create_folder(&self, path: &Path) -> io::Result<()> {
        self.state
            .borrow_mut()
            .folders
            .extend(path.ancestors().map(Path::to_owned));
        Ok(())
    }

    fn list(&self, path: &Path) -> io::Result<Vec<String>> {
        let state = self.state.borrow();
        if !state.folders.contains(path) {
            return Err(io::ErrorKind::NotFound.into());
        }
        let all = state.now.1.keys().chain(&state.folders);
        let names: BTreeSet<String> = all
            .filter(|name| name.parent() == Some(path))
            .map(|name| name.file_name().unwrap().to_str().unwrap().to_owned())
            .collect();
        Ok(names.into_iter().collect())
    }

    fn sync_folder(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state.borrow_mut();
        let State { now, kept, .. } = &mut *state;
        kept.1.retain(|name, _| name.parent() != Some(path));
        kept.1.extend(
            now.1
                .iter()
                .filter(|(name, _)| name.parent() == Some(path))
                .map(|(name, id)| (name.clone(), *id)),
        );
        drop(state);
        self.done("sync folder", path);
        Ok(())
    }

    fn sync_all(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state.borrow_mut();
        state.kept = state.now.clone();
        drop(state);
        self.done("sync all", path);
        Ok(())
    }
}

struct Handle<'a> {
    disk: &'a MemDisk,
    id: u64,
    path: PathBuf,
}

impl Write for Handle<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self
            .disk
            .capacity
            .borrow()
            .is_some_and(|capacity| self.disk.used() + bytes.len() > capacity)
        {
            return Err(io::ErrorKind::StorageFull.into());
        }
        // In two halves, so that the power can go between them.
        for half in [&bytes[..bytes.len() / 2], &bytes[bytes.len() / 2..]] {
            self.disk
                .state
                .borrow_mut()
                .now
                .0
                .entry(self.id)
                .or_default()
                .bytes
                .extend_from_slice(half);
            self.disk.done("write", &self.path);
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl NewFile for Handle<'_> {
    fn sync(&mut self) -> io::Result<()> {
        let mut state = self.disk.state.borrow_mut();
        let bytes = state.now.0.get(&self.id).cloned().unwrap_or_default();
        state.kept.0.insert(self.id, bytes);
        drop(state);
        self.disk.done("sync", &self.path);
        Ok(())
    }
}
