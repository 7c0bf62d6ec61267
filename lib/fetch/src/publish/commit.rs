// SPDX-License-Identifier: Apache-2.0
//! A commit put together here: its objects' names, and a pack with those that a repository lacks, with its index.
//!
//! `git fast-import` takes the same files, but hashes all of them four times (each object, the pack as it is written, and the whole pack
//! twice more once the number of its objects is known), and `git index-pack` a finished pack twice: by SHA-256 in plain C, at 0.6 s for
//! 100 MiB. Here everything is known before, and hashed by the processor's own instructions where it has them.

use std::collections::{BTreeMap, HashSet};
use std::io::{self, Write};

use flate2::{Compression, Crc, write::ZlibEncoder};
use racklet_trust::commit::ObjectId;
use ring::digest::{Algorithm, Context, SHA1_FOR_LEGACY_USE_ONLY, SHA256};

/// How a repository names its objects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ObjectFormat {
    /// `--object-format=sha1`.
    Sha1,
    /// `--object-format=sha256`.
    Sha256,
}

impl ObjectFormat {
    fn algorithm(self) -> &'static Algorithm {
        match self {
            Self::Sha1 => &SHA1_FOR_LEGACY_USE_ONLY,
            Self::Sha256 => &SHA256,
        }
    }

    fn name(self, kind: Kind, bytes: &[u8]) -> ObjectId {
        let mut hash = Context::new(self.algorithm());
        hash.update(format!("{} {}\0", kind.word(), bytes.len()).as_bytes());
        hash.update(bytes);
        let name = ObjectId::from_bytes(hash.finish().as_ref());
        name.expect("both algorithms give the length of a name")
    }
}

/// Kinds of objects, with their numbers in packs (gitformat-pack).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Commit = 1,
    Tree = 2,
    Blob = 3,
}

impl Kind {
    fn word(self) -> &'static str {
        match self {
            Self::Commit => "commit",
            Self::Tree => "tree",
            Self::Blob => "blob",
        }
    }
}

/// What a commit says beside its files. Author and committer are one.
#[derive(Debug, Clone)]
pub struct CommitInfo<'a> {
    /// What it stands on, if anything.
    pub parent: Option<ObjectId>,
    /// Author and committer.
    pub name: &'a str,
    /// Their address.
    pub email: &'a str,
    /// Unix seconds.
    pub time: u64,
    /// The message.
    pub message: &'a str,
}

/// A commit with exactly the files that it was given, and everything in it.
#[derive(Debug)]
pub struct Commit {
    format: ObjectFormat,
    id: ObjectId,
    /// Each file and the object that its contents are.
    files: Vec<(String, ObjectId)>,
    /// Trees and the commit, which are made here; each object once.
    made: BTreeMap<ObjectId, (Kind, Vec<u8>)>,
}

/// A folder on its way to a tree.
#[derive(Default)]
struct Folder {
    files: BTreeMap<String, ObjectId>,
    folders: BTreeMap<String, Folder>,
}

fn invalid(why: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, why.into())
}

impl Commit {
    /// Reads each file once, one after the other, so that an image need not fit in memory.
    ///
    /// # Errors
    /// What `read` says; names that cannot stand in a commit.
    pub fn of(
        format: ObjectFormat,
        info: &CommitInfo<'_>,
        paths: impl IntoIterator<Item = String>,
        mut read: impl FnMut(&str) -> io::Result<Vec<u8>>,
    ) -> io::Result<Self> {
        if [info.name, info.email]
            .iter()
            .any(|text| text.contains(['\n', '<', '>', '\0']))
        {
            return Err(invalid(
                "name and address must not hold line breaks or angle brackets",
            ));
        }
        let mut top = Folder::default();
        let mut files = Vec::new();
        for path in paths {
            let id = format.name(Kind::Blob, &read(&path)?);
            let parts: Vec<&str> = path.split('/').collect();
            let wrong = |part: &&str| matches!(*part, "" | "." | ".." | ".git");
            let (Some((name, above)), false) = (
                parts.split_last(),
                parts.iter().any(wrong) || path.contains('\0'),
            ) else {
                return Err(invalid(format!("{path:?} is no path of a file")));
            };
            let folder = above.iter().fold(&mut top, |folder, name| {
                folder.folders.entry((*name).to_owned()).or_default()
            });
            if folder.files.insert((*name).to_owned(), id).is_some() {
                return Err(invalid(format!("{path} is there twice")));
            }
            files.push((path, id));
        }
        let mut made = BTreeMap::new();
        let tree = tree(format, &top, &mut made)?;
        let who = format!("{} <{}> {} +0000", info.name, info.email, info.time);
        let parent = info.parent.map(|id| format!("parent {id}\n"));
        let commit = format!(
            "tree {tree}\n{}author {who}\ncommitter {who}\n\n{}",
            parent.unwrap_or_default(),
            info.message
        );
        let id = format.name(Kind::Commit, commit.as_bytes());
        made.insert(id, (Kind::Commit, commit.into_bytes()));
        Ok(Self {
            format,
            id,
            files,
            made,
        })
    }

    /// The commit's name.
    #[must_use]
    pub fn id(&self) -> ObjectId {
        self.id
    }

    /// Each file and the object that its contents are, in the order in which they came.
    #[must_use]
    pub fn files(&self) -> &[(String, ObjectId)] {
        &self.files
    }

    /// All objects in it, each once: what a repository may lack.
    #[must_use]
    pub fn objects(&self) -> HashSet<ObjectId> {
        let blobs = self.files.iter().map(|(_, id)| *id);
        blobs.chain(self.made.keys().copied()).collect()
    }

    /// Writes a pack with those of its objects that are in `wanted`, uncompressed; what is where in it.
    ///
    /// # Errors
    /// What `read` or `out` says; a file that is not what it was when its name was made.
    pub fn write_pack(
        &self,
        wanted: &HashSet<ObjectId>,
        mut read: impl FnMut(&str) -> io::Result<Vec<u8>>,
        out: &mut dyn Write,
    ) -> io::Result<PackIndex> {
        let mut left: HashSet<ObjectId> = self.objects().intersection(wanted).copied().collect();
        let mut pack = Pack {
            hash: Context::new(self.format.algorithm()),
            crc: Crc::new(),
            written: 0,
            objects: Vec::new(),
            out,
        };
        let count = u32::try_from(left.len()).map_err(|_| invalid("too many objects"))?;
        pack.write_all(b"PACK\0\0\0\x02")?;
        pack.write_all(&count.to_be_bytes())?;
        for (id, (kind, bytes)) in &self.made {
            if left.remove(id) {
                pack.object(*id, *kind, bytes)?;
            }
        }
        for (path, id) in &self.files {
            if !left.remove(id) {
                continue;
            }
            let bytes = read(path)?;
            if self.format.name(Kind::Blob, &bytes) != *id {
                return Err(invalid(format!("{path} was changed meanwhile")));
            }
            pack.object(*id, Kind::Blob, &bytes)?;
        }
        let Pack {
            hash,
            mut objects,
            out,
            ..
        } = pack;
        let checksum = ObjectId::from_bytes(hash.finish().as_ref());
        let checksum = checksum.expect("both algorithms give the length of a name");
        out.write_all(checksum.as_bytes())?;
        out.flush()?;
        objects.sort_unstable_by_key(|object| object.id);
        Ok(PackIndex {
            format: self.format,
            objects,
            checksum,
        })
    }
}

/// What is where in a pack.
#[derive(Debug)]
pub struct PackIndex {
    format: ObjectFormat,
    /// By their names.
    objects: Vec<Placed>,
    checksum: ObjectId,
}

/// An object in a pack.
#[derive(Debug)]
struct Placed {
    id: ObjectId,
    offset: u64,
    /// CRC-32 of its bytes in the pack.
    crc: u32,
}

impl PackIndex {
    /// What Git calls the pack: its checksum, the last bytes of it.
    #[must_use]
    pub fn checksum(&self) -> ObjectId {
        self.checksum
    }

    /// As `git index-pack` writes it (gitformat-pack, "Version 2 pack-*.idx files").
    ///
    /// # Errors
    /// What `out` says.
    pub fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        let mut all = b"\xfftOc\0\0\0\x02".to_vec();
        let mut up_to = [0u32; 256];
        for object in &self.objects {
            up_to[usize::from(object.id.as_bytes()[0])] += 1;
        }
        let mut sum = 0;
        for count in up_to {
            sum += count;
            all.extend(sum.to_be_bytes());
        }
        for object in &self.objects {
            all.extend(object.id.as_bytes());
        }
        for object in &self.objects {
            all.extend(object.crc.to_be_bytes());
        }
        // Offsets from 2 GiB on stand in a table of their own, and here their number in it.
        let mut far = Vec::new();
        for object in &self.objects {
            let near = u32::try_from(object.offset).ok().filter(|it| it >> 31 == 0);
            let place = near.unwrap_or_else(|| {
                far.push(object.offset);
                (1 << 31) | u32::try_from(far.len() - 1).expect("there are fewer objects")
            });
            all.extend(place.to_be_bytes());
        }
        all.extend(far.iter().flat_map(|offset| offset.to_be_bytes()));
        all.extend(self.checksum.as_bytes());
        let end = ring::digest::digest(self.format.algorithm(), &all);
        all.extend(end.as_ref());
        out.write_all(&all)
    }
}

/// Makes the trees of a folder and of all below it.
fn tree(
    format: ObjectFormat,
    folder: &Folder,
    made: &mut BTreeMap<ObjectId, (Kind, Vec<u8>)>,
) -> io::Result<ObjectId> {
    // Git orders folders as if their names ended in a slash.
    let mut entries = BTreeMap::new();
    for (name, id) in &folder.files {
        if folder.folders.contains_key(name) {
            return Err(invalid(format!("{name} is a file and a folder")));
        }
        entries.insert(name.clone(), ("100644", name, *id));
    }
    for (name, inside) in &folder.folders {
        entries.insert(
            format!("{name}/"),
            ("40000", name, tree(format, inside, made)?),
        );
    }
    let mut bytes = Vec::new();
    for (mode, name, id) in entries.values() {
        bytes.extend(format!("{mode} {name}\0").as_bytes());
        bytes.extend(id.as_bytes());
    }
    let id = format.name(Kind::Tree, &bytes);
    made.insert(id, (Kind::Tree, bytes));
    Ok(id)
}

/// A pack (gitformat-pack, "pack-*.pack files have the following format"), hashed as it is written.
struct Pack<'a> {
    hash: Context,
    /// Of the object that is being written.
    crc: Crc,
    written: u64,
    objects: Vec<Placed>,
    out: &'a mut dyn Write,
}

impl Write for Pack<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.out.write(bytes)?;
        self.hash.update(&bytes[..count]);
        self.crc.update(&bytes[..count]);
        self.written += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

impl Pack<'_> {
    fn object(&mut self, id: ObjectId, kind: Kind, bytes: &[u8]) -> io::Result<()> {
        let offset = self.written;
        self.crc.reset();
        // Kind and length: four bits of it in the first byte, seven in each that follows.
        let low = |size: usize, mask: u8| size.to_le_bytes()[0] & mask;
        let mut size = bytes.len();
        let mut byte = (kind as u8) << 4 | low(size, 15);
        size >>= 4;
        while size > 0 {
            self.write_all(&[byte | 0x80])?;
            byte = low(size, 127);
            size >>= 7;
        }
        self.write_all(&[byte])?;
        // Chunks are compressed already.
        let mut zlib = ZlibEncoder::new(&mut *self, Compression::none());
        zlib.write_all(bytes)?;
        zlib.finish()?;
        let crc = self.crc.sum();
        self.objects.push(Placed { id, offset, crc });
        Ok(())
    }
}

#[cfg(test)]
mod tests;
