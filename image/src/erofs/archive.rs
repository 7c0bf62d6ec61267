// SPDX-License-Identifier: Apache-2.0
//! A [`Tree`] from a tar archive, plain or compressed with gzip or zstd.
//!
//! The archive may come from anywhere and is hostile: it is read, never unpacked. A compressed archive or a pipe is
//! first expanded into an unnamed temporary file, up to a limit, because contents are needed in another order than
//! they come.

use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom, Write};
use std::path::PathBuf;
use std::sync::Arc;

use super::tar::{Reader, TarError};
use super::tree::{Content, Kind, MAX_CONTENT, Metadata, Tree, TreeError};

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
    /// The archive itself.
    #[error(transparent)]
    Tar(#[from] TarError),
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
pub fn from_archive(mut input: File, options: ArchiveOptions) -> Result<(Tree, u64), ArchiveError> {
    let mut magic = Vec::new();
    Read::by_ref(&mut input)
        .take(4)
        .read_to_end(&mut magic)
        .map_err(ArchiveError::Expand)?;
    let rewound = input.seek(SeekFrom::Start(0)).is_ok();
    let file = match (magic.as_slice(), rewound) {
        ([0x1f, 0x8b, ..], _) => expand(flate2::read::MultiGzDecoder::new(source(
            magic, input, rewound,
        )))?,
        ([0x28, 0xb5, 0x2f, 0xfd], _) => expand(
            zstd::stream::read::Decoder::new(source(magic, input, rewound))
                .map_err(ArchiveError::Expand)?,
        )?,
        (_, true) => input,
        (_, false) => expand(source(magic, input, rewound))?,
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
        if entry.kind == b'1' {
            tree.link(&entry.path, &entry.link)?;
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
            capability: if matches!(kind, Kind::File(_)) {
                entry.capability.clone()
            } else {
                None
            },
        };
        newest = newest.max(entry.mtime);
        tree.add(&entry.path, metadata, kind)?;
    }
    Ok((tree, newest))
}

/// The whole input, whether or not it could be rewound after its first bytes were looked at.
fn source(magic: Vec<u8>, input: File, rewound: bool) -> BufReader<impl Read> {
    let seen = if rewound { Vec::new() } else { magic };
    BufReader::with_capacity(1 << 16, io::Cursor::new(seen).chain(input))
}

fn expand(input: impl Read) -> Result<File, ArchiveError> {
    let mut file = tempfile::tempfile().map_err(ArchiveError::Expand)?;
    let copied =
        io::copy(&mut input.take(MAX_CONTENT + 1), &mut file).map_err(ArchiveError::Expand)?;
    if copied > MAX_CONTENT {
        return Err(ArchiveError::Bomb);
    }
    file.flush().map_err(ArchiveError::Expand)?;
    file.seek(SeekFrom::Start(0))
        .map_err(ArchiveError::Expand)?;
    Ok(file)
}
