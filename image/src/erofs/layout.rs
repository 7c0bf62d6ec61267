// SPDX-License-Identifier: Apache-2.0
//! Places a [`Tree`](super::Tree) in blocks and writes it.
//!
//! First every address is decided from sizes alone, then the image is written front to back, so that the output may
//! be a pipe and contents are read exactly once.

use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use super::tree::{Body, Content, Inode, Kind, Tree};

const BLOCK: u64 = 4096;
const BLOCK_BITS: u8 = 12;
const SUPERBLOCK_OFFSET: usize = 1024;
const MAGIC: u32 = 0xE0F5_E1E2;
const COMPAT_SB_CHECKSUM: u32 = 1;
const COMPAT_MTIME: u32 = 2;
/// Inodes are numbered by their place in units of 32 bytes.
const SLOT: u64 = 32;
/// Inodes begin behind the superblock (1024 + 128, rounded up to where a reader looks for nothing else).
const META_OFFSET: u64 = 2048;
/// Inline data above this would leave too much of a block unused.
const MAX_INLINE: u64 = 2048;
/// "No block": what mkfs.erofs writes for inodes whose data is all inline.
const NO_BLOCK: u32 = u32::MAX;
const XATTR_HEADER: usize = 12;
const XATTR_INDEX_SECURITY: u8 = 6;

const TYPE_FILE: (u8, u16) = (1, 0o100_000);
const TYPE_DIRECTORY: (u8, u16) = (2, 0o040_000);
const TYPE_CHARACTER: (u8, u16) = (3, 0o020_000);
const TYPE_BLOCK: (u8, u16) = (4, 0o060_000);
const TYPE_FIFO: (u8, u16) = (5, 0o010_000);
const TYPE_SYMLINK: (u8, u16) = (7, 0o120_000);

/// Why an image was not written.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// A file of the source could not be read.
    #[error("read {}", path.display())]
    Read {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file of the source is longer or shorter than when the tree was made.
    #[error("{} changed while it was being read; try again when nothing writes to it", .0.display())]
    Changed(PathBuf),
    /// The archive ended early.
    #[error("read contents from the archive")]
    Archive(#[source] io::Error),
    /// The output.
    #[error("write the image")]
    Output(#[source] io::Error),
    /// Addresses have 32 bits.
    #[error("image larger than an EROFS can be")]
    TooLarge,
}

/// One inode with its place.
struct Placed {
    /// Index in the tree.
    inode: usize,
    /// Byte offset of the inode in the image.
    offset: u64,
    /// First block of its data, when it has blocks.
    block: u32,
    inline: bool,
    extended: bool,
    size: u64,
    links: u32,
    /// What 32-bit `stat` shows: the place in path order, so that it does not depend on how the tree was made.
    number: u32,
}

/// A tree with every address decided.
struct Layout<'a> {
    tree: &'a Tree,
    /// In order of `offset`.
    placed: Vec<Placed>,
    /// Tree index to index in `placed`.
    by_inode: Vec<usize>,
    parents: Vec<usize>,
    meta_end: u64,
    blocks: u32,
}

impl Tree {
    /// Writes the image; every time stamp is `time` (Unix seconds). `progress` hears how many bytes were written.
    pub fn write(
        &self,
        time: u64,
        out: &mut dyn Write,
        progress: &mut dyn FnMut(u64),
    ) -> Result<u64, WriteError> {
        let layout = Layout::new(self)?;
        layout.write(time, out, progress)?;
        Ok(u64::from(layout.blocks) * BLOCK)
    }

    /// Bytes the image will have.
    pub fn image_size(&self) -> Result<u64, WriteError> {
        Ok(u64::from(Layout::new(self)?.blocks) * BLOCK)
    }
}

impl<'a> Layout<'a> {
    fn new(tree: &'a Tree) -> Result<Self, WriteError> {
        let (order, parents, subdirectories) = walk(tree);
        let mut placed: Vec<Placed> = Vec::with_capacity(order.len());
        for (number, inode) in (1..).zip(order) {
            let node = &tree.inodes[inode];
            let (size, links) = match &node.body {
                Body::Directory(children) => {
                    (directory_size(children.keys()), subdirectories[inode] + 2)
                }
                Body::Other(Kind::File(content)) => (content.size(), node.links),
                Body::Other(Kind::Symlink(target)) => (target.len() as u64, node.links),
                Body::Other(_) => (0, node.links),
            };
            let extended = node.metadata.uid > u32::from(u16::MAX)
                || node.metadata.gid > u32::from(u16::MAX)
                || links > u32::from(u16::MAX)
                || size > u64::from(u32::MAX);
            placed.push(Placed {
                inode,
                offset: 0,
                block: NO_BLOCK,
                inline: size <= MAX_INLINE,
                extended,
                size,
                links,
                number,
            });
        }
        // The root first (its number has 16 bits), then what has addresses, then what is inline; each in path order.
        placed[1..].sort_by_key(|item| item.inline);

        let mut offset = META_OFFSET;
        for item in &mut placed {
            let head = inode_size(item.extended) + xattr_size(&tree.inodes[item.inode]);
            let body = if item.inline { item.size } else { 0 };
            // Neither an inode nor its inline data crosses a block.
            if offset % BLOCK + head + body > BLOCK {
                offset = offset.next_multiple_of(BLOCK);
            }
            item.offset = offset;
            offset = (offset + head + body).next_multiple_of(SLOT);
        }
        let meta_end = offset.next_multiple_of(BLOCK);

        let mut block = meta_end / BLOCK;
        for directories in [true, false] {
            for item in placed.iter_mut().filter(|item| !item.inline) {
                if matches!(tree.inodes[item.inode].body, Body::Directory(_)) == directories {
                    item.block = u32::try_from(block).map_err(|_| WriteError::TooLarge)?;
                    block += item.size.div_ceil(BLOCK);
                }
            }
        }
        let blocks = u32::try_from(block).map_err(|_| WriteError::TooLarge)?;
        let mut by_inode = vec![usize::MAX; tree.inodes.len()];
        for (index, item) in placed.iter().enumerate() {
            by_inode[item.inode] = index;
        }
        Ok(Self {
            tree,
            placed,
            by_inode,
            parents,
            meta_end,
            blocks,
        })
    }

    fn nid(&self, inode: usize) -> u64 {
        self.placed[self.by_inode[inode]].offset / SLOT
    }

    fn write(
        &self,
        time: u64,
        out: &mut dyn Write,
        progress: &mut dyn FnMut(u64),
    ) -> Result<(), WriteError> {
        let mut out = Output {
            out,
            position: 0,
            progress,
        };
        // Metadata block by block: the first one is complete only when its checksum can be made over the inodes in it.
        let mut pending = Vec::new();
        self.superblock(time, &mut pending);
        for item in &self.placed {
            let ahead = item.offset - out.position;
            if ahead >= BLOCK {
                self.flush(&mut pending, &mut out)?;
            }
            pending.resize(index(item.offset - out.position), 0);
            self.inode(item, time, &mut pending)?;
        }
        pending.resize(index(self.meta_end - out.position), 0);
        self.flush(&mut pending, &mut out)?;

        let mut data: Vec<&Placed> = self.placed.iter().filter(|item| !item.inline).collect();
        data.sort_by_key(|item| item.block);
        for item in data {
            out.pad_to(u64::from(item.block) * BLOCK)?;
            match &self.tree.inodes[item.inode].body {
                Body::Directory(_) => out.put(&self.directory(item.inode))?,
                Body::Other(Kind::File(content)) => copy(content, &mut out)?,
                Body::Other(Kind::Symlink(target)) => out.put(target)?,
                Body::Other(_) => {}
            }
        }
        out.pad_to(u64::from(self.blocks) * BLOCK)
    }

    /// Writes the whole blocks of `pending`; the first one gets its checksum.
    fn flush(&self, pending: &mut Vec<u8>, out: &mut Output<'_>) -> Result<(), WriteError> {
        let whole = index((pending.len() as u64).next_multiple_of(BLOCK));
        pending.resize(whole, 0);
        if out.position == 0 {
            let sum = crc32c(&pending[SUPERBLOCK_OFFSET..index(BLOCK)]);
            pending[SUPERBLOCK_OFFSET + 4..SUPERBLOCK_OFFSET + 8]
                .copy_from_slice(&sum.to_le_bytes());
        }
        out.put(pending)?;
        pending.clear();
        Ok(())
    }

    fn superblock(&self, time: u64, out: &mut Vec<u8>) {
        out.resize(SUPERBLOCK_OFFSET, 0);
        out.extend(MAGIC.to_le_bytes());
        out.extend(0u32.to_le_bytes()); // checksum, see flush
        out.extend((COMPAT_SB_CHECKSUM | COMPAT_MTIME).to_le_bytes());
        out.extend([BLOCK_BITS, 0]);
        let root = u16::try_from(META_OFFSET / SLOT).expect("the root is the first inode");
        out.extend(root.to_le_bytes());
        out.extend((self.placed.len() as u64).to_le_bytes());
        out.extend(time.to_le_bytes());
        out.extend(0u32.to_le_bytes()); // nanoseconds
        out.extend(self.blocks.to_le_bytes());
        out.extend(0u32.to_le_bytes()); // inodes are counted from block 0
        out.extend(0u32.to_le_bytes()); // no shared extended attributes
        out.resize(SUPERBLOCK_OFFSET + 128, 0); // no UUID, no name, no incompatible features
    }

    fn inode(&self, item: &Placed, time: u64, out: &mut Vec<u8>) -> Result<(), WriteError> {
        let node = &self.tree.inodes[item.inode];
        let (_, kind) = file_type(&node.body);
        let xattrs = xattr_size(node);
        // Size of the attributes in units of 4 bytes, their header counted as one.
        let xattr_count = if xattrs == 0 {
            0
        } else {
            u16::try_from((xattrs - XATTR_HEADER as u64) / 4 + 1).expect("bounded by the source")
        };
        let layout: u16 = if item.inline { 2 << 1 } else { 0 };
        let data = match &node.body {
            Body::Other(
                Kind::CharacterDevice { major, minor } | Kind::BlockDevice { major, minor },
            ) => {
                // The kernel's new_encode_dev().
                (minor & 0xff) | (major << 8) | ((minor & !0xff) << 12)
            }
            _ => item.block,
        };
        let meta = &node.metadata;
        if item.extended {
            out.extend((layout | 1).to_le_bytes());
            out.extend(xattr_count.to_le_bytes());
            out.extend((kind | meta.mode).to_le_bytes());
            out.extend(0u16.to_le_bytes());
            out.extend(item.size.to_le_bytes());
            out.extend(data.to_le_bytes());
            out.extend(item.number.to_le_bytes());
            out.extend(meta.uid.to_le_bytes());
            out.extend(meta.gid.to_le_bytes());
            out.extend(time.to_le_bytes());
            out.extend(0u32.to_le_bytes());
            out.extend(item.links.to_le_bytes());
            out.extend([0; 16]);
        } else {
            out.extend(layout.to_le_bytes());
            out.extend(xattr_count.to_le_bytes());
            out.extend((kind | meta.mode).to_le_bytes());
            out.extend(
                u16::try_from(item.links)
                    .expect("else extended")
                    .to_le_bytes(),
            );
            out.extend(
                u32::try_from(item.size)
                    .expect("else extended")
                    .to_le_bytes(),
            );
            out.extend(0u32.to_le_bytes());
            out.extend(data.to_le_bytes());
            out.extend(item.number.to_le_bytes());
            out.extend(
                u16::try_from(meta.uid)
                    .expect("else extended")
                    .to_le_bytes(),
            );
            out.extend(
                u16::try_from(meta.gid)
                    .expect("else extended")
                    .to_le_bytes(),
            );
            out.extend(0u32.to_le_bytes());
        }
        if let Some(value) = &meta.capability {
            out.extend([0; XATTR_HEADER]);
            out.push(u8::try_from(b"capability".len()).expect("ten"));
            out.push(XATTR_INDEX_SECURITY);
            out.extend(
                u16::try_from(value.len())
                    .expect("bounded by the source")
                    .to_le_bytes(),
            );
            out.extend(b"capability");
            out.extend(value);
            out.resize(out.len().next_multiple_of(4), 0);
        }
        if item.inline {
            match &node.body {
                Body::Directory(_) => out.extend(self.directory(item.inode)),
                Body::Other(Kind::File(content)) => {
                    let mut sink = |_: u64| {};
                    copy(
                        content,
                        &mut Output {
                            out,
                            position: 0,
                            progress: &mut sink,
                        },
                    )?;
                }
                Body::Other(Kind::Symlink(target)) => out.extend(target),
                Body::Other(_) => {}
            }
        }
        Ok(())
    }

    /// The contents of a directory: blocks of entries, each block its table first and its names behind.
    fn directory(&self, inode: usize) -> Vec<u8> {
        let Body::Directory(children) = &self.tree.inodes[inode].body else {
            return Vec::new();
        };
        let mut entries: Vec<(&[u8], u64, u8)> = children
            .iter()
            .map(|(name, child)| {
                (
                    name.as_slice(),
                    self.nid(*child),
                    file_type(&self.tree.inodes[*child].body).0,
                )
            })
            .collect();
        entries.push((b".", self.nid(inode), TYPE_DIRECTORY.0));
        entries.push((b"..", self.nid(self.parents[inode]), TYPE_DIRECTORY.0));
        entries.sort_unstable();
        let mut data = Vec::new();
        for (position, range) in directory_blocks(entries.iter().map(|entry| entry.0.len()))
            .into_iter()
            .enumerate()
        {
            data.resize(position * index(BLOCK), 0);
            let block = &entries[range];
            let mut name_offset = u16::try_from(block.len() * 12).expect("within a block");
            for (name, nid, kind) in block {
                data.extend(nid.to_le_bytes());
                data.extend(name_offset.to_le_bytes());
                data.extend([*kind, 0]);
                name_offset += u16::try_from(name.len()).expect("at most 255");
            }
            for (name, _, _) in block {
                data.extend(*name);
            }
        }
        data
    }
}

/// Which entries go in which block, for names of these lengths.
fn directory_blocks(lengths: impl Iterator<Item = usize>) -> Vec<std::ops::Range<usize>> {
    let mut blocks = Vec::new();
    let (mut start, mut used, mut count) = (0, 0, 0);
    for length in lengths {
        if used + 12 + length > index(BLOCK) {
            blocks.push(start..count);
            (start, used) = (count, 0);
        }
        used += 12 + length;
        count += 1;
    }
    blocks.push(start..count);
    blocks
}

fn directory_size<'a>(names: impl Iterator<Item = &'a Vec<u8>>) -> u64 {
    let mut sorted: Vec<&[u8]> = names.map(Vec::as_slice).collect();
    sorted.extend([b".".as_slice(), b"..".as_slice()]);
    sorted.sort_unstable();
    let blocks = directory_blocks(sorted.iter().map(|name| name.len()));
    let last = blocks.last().cloned().unwrap_or_default();
    let tail: usize = sorted[last].iter().map(|name| name.len() + 12).sum();
    (blocks.len() as u64 - 1) * BLOCK + tail as u64
}

/// All inodes that are reachable, in path order, with the parent of each directory and its number of subdirectories.
fn walk(tree: &Tree) -> (Vec<usize>, Vec<usize>, Vec<u32>) {
    let mut order = Vec::new();
    let mut seen = vec![false; tree.inodes.len()];
    let mut parents = vec![0; tree.inodes.len()];
    let mut subdirectories = vec![0u32; tree.inodes.len()];
    let mut stack = vec![0usize];
    while let Some(inode) = stack.pop() {
        if std::mem::replace(&mut seen[inode], true) {
            continue; // another name of a file that has its place already
        }
        order.push(inode);
        if let Body::Directory(children) = &tree.inodes[inode].body {
            for child in children.values().rev() {
                if matches!(tree.inodes[*child].body, Body::Directory(_)) {
                    parents[*child] = inode;
                    subdirectories[inode] += 1;
                }
                stack.push(*child);
            }
        }
    }
    (order, parents, subdirectories)
}

fn file_type(body: &Body) -> (u8, u16) {
    match body {
        Body::Directory(_) | Body::Other(Kind::Directory) => TYPE_DIRECTORY,
        Body::Other(Kind::File(_)) => TYPE_FILE,
        Body::Other(Kind::Symlink(_)) => TYPE_SYMLINK,
        Body::Other(Kind::Fifo) => TYPE_FIFO,
        Body::Other(Kind::CharacterDevice { .. }) => TYPE_CHARACTER,
        Body::Other(Kind::BlockDevice { .. }) => TYPE_BLOCK,
    }
}

fn inode_size(extended: bool) -> u64 {
    if extended { 64 } else { 32 }
}

fn xattr_size(node: &Inode) -> u64 {
    match &node.metadata.capability {
        None => 0,
        Some(value) => XATTR_HEADER as u64 + (4 + 10 + value.len() as u64).next_multiple_of(4),
    }
}

struct Output<'a> {
    out: &'a mut dyn Write,
    position: u64,
    progress: &'a mut dyn FnMut(u64),
}

impl Output<'_> {
    fn put(&mut self, bytes: &[u8]) -> Result<(), WriteError> {
        self.out.write_all(bytes).map_err(WriteError::Output)?;
        self.position += bytes.len() as u64;
        (self.progress)(bytes.len() as u64);
        Ok(())
    }

    fn pad_to(&mut self, position: u64) -> Result<(), WriteError> {
        static ZEROS: [u8; 64 << 10] = [0; 64 << 10];
        while self.position < position {
            let count = (position - self.position).min(ZEROS.len() as u64);
            self.put(&ZEROS[..index(count)])?;
        }
        Ok(())
    }
}

fn copy(content: &Content, out: &mut Output<'_>) -> Result<(), WriteError> {
    const PIECE: usize = 256 << 10;
    match content {
        Content::Bytes(bytes) => out.put(bytes),
        Content::Path { path, size } => {
            let read = |source| WriteError::Read {
                path: path.clone(),
                source,
            };
            let changed = || WriteError::Changed(path.clone());
            let file = File::open(path).map_err(read)?;
            let mut buffer = vec![0; PIECE.min(index(*size))];
            let mut done = 0;
            while done < *size {
                let hole = hole(&file, done).unwrap_or(size - done).min(size - done);
                out.pad_to(out.position + hole)?;
                done += hole;
                let count = buffer.len().min(index(size - done));
                match file.read_exact_at(&mut buffer[..count], done) {
                    Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                        return Err(changed());
                    }
                    other => other.map_err(read)?,
                }
                out.put(&buffer[..count])?;
                done += count as u64;
            }
            // Longer, or cut where it was taken for a hole.
            match file.metadata().map_err(read)?.len() == *size {
                true => Ok(()),
                false => Err(changed()),
            }
        }
        Content::Slice { file, offset, size } => {
            let mut buffer = vec![0; PIECE.min(index(*size))];
            let mut done = 0;
            while done < *size {
                let count = buffer.len().min(index(size - done));
                file.read_exact_at(&mut buffer[..count], offset + done)
                    .map_err(WriteError::Archive)?;
                out.put(&buffer[..count])?;
                done += count as u64;
            }
            Ok(())
        }
    }
}

/// How many bytes from `offset` on are a hole in the file, which reads as zeros; `None` when all the rest is one. 0 where the file
/// system knows of no holes.
fn hole(file: &File, offset: u64) -> Option<u64> {
    match rustix::fs::seek(file, rustix::fs::SeekFrom::Data(offset)) {
        Ok(data) => Some(data.saturating_sub(offset)),
        Err(rustix::io::Errno::NXIO) => None,
        Err(_) => Some(0),
    }
}

/// Sizes of things held in memory; images are made on 64-bit machines.
fn index(value: u64) -> usize {
    usize::try_from(value).expect("a 64-bit machine")
}

/// CRC-32C without the final inversion, as the kernel's `crc32c(~0, …)`.
fn crc32c(bytes: &[u8]) -> u32 {
    bytes.iter().fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| {
            (crc >> 1) ^ (0x82F6_3B78 & (crc & 1).wrapping_neg())
        })
    })
}
