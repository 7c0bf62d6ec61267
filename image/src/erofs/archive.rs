// SPDX-License-Identifier: Apache-2.0
//! A [`Tree`] from a tar archive, plain or compressed with gzip or zstd.
//!
//! The archive may come from anywhere and is hostile: it is read, never unpacked. A compressed archive or a pipe is
//! first expanded into an unnamed temporary file, up to a limit, because contents are needed in another order than
//! they come.

use std::cell::Cell;
use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom, Write};
use std::path::PathBuf;
use std::sync::Arc;

use super::compression::{self, Compression, Unread};
use super::judge::NotARoot;
use super::tar::{Reader, TarError};
use super::tree::{Content, Kind, MAX_CONTENT, Metadata, Tree, TreeError};

/// A compressed archive may expand to this much whatever its size ...
const RATIO_FROM: u64 = 64 << 20;
/// ... and beyond that to so many times its size: zeros in gzip reach a thousand, file systems about ten.
const MAX_RATIO: u64 = 1000;

/// How an archive is read.
#[derive(Debug, Clone, Copy, Default)]
pub struct ArchiveOptions {
    /// Allow device nodes.
    pub devices: bool,
}

/// Why an archive cannot become an image.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// It cannot be opened.
    #[error("open {}", path.display())]
    Open {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Compression.
    #[error("expand the archive into a temporary file (TMPDIR names another place)")]
    Expand(#[source] io::Error),
    /// It expands to too much.
    #[error("the archive expands to more than {} GiB", MAX_CONTENT >> 30)]
    Bomb,
    /// It expands out of all proportion.
    #[error(
        "the archive expands to more than {MAX_RATIO} times its size; if that is meant, expand it yourself first"
    )]
    Ratio,
    /// Not an archive that we read.
    #[error(transparent)]
    Unread(#[from] Unread),
    /// The archive itself.
    #[error(transparent)]
    Tar(#[from] TarError),
    /// An archive of something else.
    #[error(transparent)]
    NotARoot(#[from] NotARoot),
    /// A layer of a container image.
    #[error(
        "{0}: whiteout of a container image's layer; pack the whole root file system (podman export, docker export)"
    )]
    Whiteout(String),
    /// Something in it.
    #[error(transparent)]
    Tree(#[from] TreeError),
    /// A kind that no file system has.
    #[error("{path}: entry of unknown type {kind:?}")]
    Kind {
        /// Its name.
        path: String,
        /// The type as the archive says it.
        kind: char,
    },
    /// A number that no file system takes.
    #[error("{0}: owner or group beyond 32 bits")]
    Owner(String),
}

/// Reads the whole archive. Also says when its newest entry was changed.
// untrusted: archive
pub fn from_archive(mut input: File, options: ArchiveOptions) -> Result<(Tree, u64), ArchiveError> {
    let mut head = Vec::new();
    Read::by_ref(&mut input)
        .take(compression::HEAD)
        .read_to_end(&mut head)
        .map_err(ArchiveError::Expand)?;
    let compression = compression::of(&head)?;
    let rewound = input.seek(SeekFrom::Start(0)).is_ok();
    let consumed = Cell::new(0);
    let source = |input| source(head, input, rewound, &consumed);
    let file = match compression {
        Compression::Gzip => expand(flate2::read::MultiGzDecoder::new(source(input)), &consumed)?,
        Compression::Zstd => {
            let decoder = zstd::stream::read::Decoder::new(source(input));
            expand(decoder.map_err(ArchiveError::Expand)?, &consumed)?
        }
        Compression::None if rewound => input,
        Compression::None => expand(source(input), &consumed)?,
    };
    let file = Arc::new(file);
    let length = file.metadata().map_err(ArchiveError::Expand)?.len();
    let mut tree = Tree::new(options.devices);
    let mut newest = 0;
    let mut reader = Reader::new(BufReader::with_capacity(1 << 16, &*file));
    while let Some(entry) = reader.next_entry()? {
        let shown = || String::from_utf8_lossy(&entry.path).into_owned();
        if entry
            .path
            .rsplit(|byte| *byte == b'/')
            .next()
            .is_some_and(|name| name.starts_with(b".wh."))
        {
            return Err(ArchiveError::Whiteout(shown()));
        }
        for what in entry.attributes.left_out() {
            tree.leave_out(what, &entry.path);
        }
        let capability = entry.attributes.capability.clone();
        if entry.kind == b'1' {
            tree.link(&entry.path, &entry.link)?;
            if capability.is_some() {
                tree.set_capability(&entry.path, capability);
            }
            continue;
        }
        let kind = match entry.kind {
            // Before ustar, a directory was a file whose name ends with a slash.
            b'0' | b'\0' if entry.path.ends_with(b"/") => Kind::Directory,
            b'0' | b'\0' | b'7' => {
                if entry
                    .offset
                    .checked_add(entry.size)
                    .is_none_or(|end| end > length)
                {
                    return Err(TarError::Truncated(length).into());
                }
                Kind::File(Content::Slice {
                    file: file.clone(),
                    offset: entry.offset,
                    size: entry.size,
                })
            }
            b'2' => Kind::Symlink(entry.link.clone()),
            b'3' => Kind::CharacterDevice {
                major: entry.major,
                minor: entry.minor,
            },
            b'4' => Kind::BlockDevice {
                major: entry.major,
                minor: entry.minor,
            },
            b'5' => Kind::Directory,
            b'6' => Kind::Fifo,
            other => {
                return Err(ArchiveError::Kind {
                    path: shown(),
                    kind: char::from(other),
                });
            }
        };
        let owner = |number: u64| u32::try_from(number).map_err(|_| ArchiveError::Owner(shown()));
        let metadata = Metadata {
            mode: u16::try_from(entry.mode & 0o7777).expect("twelve bits"),
            uid: owner(entry.uid)?,
            gid: owner(entry.gid)?,
            capability,
        };
        newest = newest.max(entry.mtime);
        tree.add(&entry.path, metadata, kind)?;
    }
    tree.judge()?;
    Ok((tree, newest))
}

/// The whole input, whether or not it could be rewound after its first bytes were looked at. Counts what is taken.
fn source(head: Vec<u8>, input: File, rewound: bool, consumed: &Cell<u64>) -> BufReader<impl Read> {
    let seen = if rewound { Vec::new() } else { head };
    let input = io::Cursor::new(seen).chain(input);
    BufReader::with_capacity(1 << 16, Counted { input, consumed })
}

struct Counted<'a, R> {
    input: R,
    consumed: &'a Cell<u64>,
}

impl<R: Read> Read for Counted<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.input.read(buffer)?;
        self.consumed.set(self.consumed.get() + count as u64);
        Ok(count)
    }
}

/// Expands into an unnamed temporary file, as long as the result stays in proportion to what was `consumed`.
fn expand(mut input: impl Read, consumed: &Cell<u64>) -> Result<File, ArchiveError> {
    let mut file = tempfile::tempfile().map_err(ArchiveError::Expand)?;
    let mut buffer = vec![0; 1 << 16];
    let mut total = 0;
    loop {
        let count = input.read(&mut buffer).map_err(ArchiveError::Expand)?;
        if count == 0 {
            break;
        }
        total += count as u64;
        if total > MAX_CONTENT {
            return Err(ArchiveError::Bomb);
        }
        if total > RATIO_FROM && total / MAX_RATIO > consumed.get() {
            return Err(ArchiveError::Ratio);
        }
        file.write_all(&buffer[..count])
            .map_err(ArchiveError::Expand)?;
    }
    file.seek(SeekFrom::Start(0))
        .map_err(ArchiveError::Expand)?;
    Ok(file)
}
