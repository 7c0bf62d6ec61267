// SPDX-License-Identifier: Apache-2.0
//! Reads tar archives: ustar, GNU long names, pax records. Bytes in, entries out; nothing is ever unpacked.
//!
//! It does not read sparse files or multi-volume archives; it says so instead of making something up.

use std::io::{self, Read};

use super::attribute::{Attributes, Malformed};

const BLOCK: u64 = 512;
/// Names, link targets and pax records of one entry.
const MAX_EXTENSION: u64 = 1 << 20;

/// What is wrong with an archive, and where.
#[derive(Debug, thiserror::Error)]
pub enum TarError {
    /// It could not be read.
    #[error("read the archive at byte {at}")]
    Read {
        /// Offset in the uncompressed archive.
        at: u64,
        /// Why.
        source: io::Error,
    },
    /// It ends in the middle.
    #[error("the archive ends in the middle of an entry, at byte {0}; it was probably cut short")]
    Truncated(u64),
    /// More than zeros behind its end.
    #[error(
        "more data behind the archive's end, at byte {0}: of several archives in a row only the first would count; \
         join them (tar --concatenate), or cut the rest off"
    )]
    Behind(u64),
    /// A header that is none.
    #[error("byte {at}: {what}; is this a tar archive?")]
    Header {
        /// Offset of the header.
        at: u64,
        /// What is wrong with it.
        what: &'static str,
    },
    /// A kind of entry that we do not read.
    #[error("{path}: {what}")]
    Unsupported {
        /// Its name.
        path: String,
        /// What it is and what to do.
        what: &'static str,
    },
}

/// One entry as the archive claims it.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) path: Vec<u8>,
    pub(super) link: Vec<u8>,
    pub(super) kind: u8,
    pub(super) mode: u32,
    pub(super) uid: u64,
    pub(super) gid: u64,
    pub(super) size: u64,
    pub(super) mtime: u64,
    pub(super) major: u32,
    pub(super) minor: u32,
    pub(super) attributes: Attributes,
    /// Where the contents are.
    pub(super) offset: u64,
}

/// Walks an archive.
pub(super) struct Reader<R> {
    input: R,
    position: u64,
    next: u64,
    global: Pax,
}

#[derive(Debug, Default, Clone)]
struct Pax {
    path: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
    size: Option<u64>,
    uid: Option<u64>,
    gid: Option<u64>,
    mtime: Option<u64>,
    attributes: Attributes,
    sparse: bool,
}

impl<R: Read> Reader<R> {
    pub(super) fn new(input: R) -> Self {
        Self {
            input,
            position: 0,
            next: 0,
            global: Pax::default(),
        }
    }

    /// The next entry, or `None` at the end.
    pub(super) fn next_entry(&mut self) -> Result<Option<Entry>, TarError> {
        let mut pax = self.global.clone();
        let (mut long_path, mut long_link) = (None, None);
        loop {
            self.skip_to(self.next)?;
            let at = self.position;
            let Some(header) = self.header()? else {
                return Ok(None);
            };
            let mut entry = parse(&header, at)?;
            entry.offset = self.position;
            let shown = || String::from_utf8_lossy(&entry.path).into_owned();
            match entry.kind {
                b'x' | b'g' | b'L' | b'K' => {
                    if entry.size > MAX_EXTENSION {
                        return Err(TarError::Header {
                            at,
                            what: "names or attributes of more than 1 MiB",
                        });
                    }
                    let data = self.read(usize::try_from(entry.size).expect("at most 1 MiB"))?;
                    self.next = self.position.next_multiple_of(BLOCK);
                    match entry.kind {
                        b'x' => pax.read(&data, at)?,
                        b'g' => {
                            self.global.read(&data, at)?;
                            pax = self.global.clone();
                        }
                        b'L' => long_path = Some(until_nul(&data).to_vec()),
                        _ => long_link = Some(until_nul(&data).to_vec()),
                    }
                    continue;
                }
                b'S' => {
                    return Err(TarError::Unsupported {
                        path: shown(),
                        what: "sparse file; make the archive without --sparse",
                    });
                }
                b'M' | b'V' | b'D' | b'N' => {
                    return Err(TarError::Unsupported {
                        path: shown(),
                        what: "GNU multi-volume or incremental entry; make a plain archive (tar -cf)",
                    });
                }
                _ => {}
            }
            if pax.sparse {
                return Err(TarError::Unsupported {
                    path: shown(),
                    what: "sparse file; make the archive without --sparse",
                });
            }
            if let Some(path) = pax.path.or(long_path) {
                entry.path = path;
            }
            if let Some(link) = pax.link.or(long_link) {
                entry.link = link;
            }
            entry.size = pax.size.unwrap_or(entry.size);
            entry.uid = pax.uid.unwrap_or(entry.uid);
            entry.gid = pax.gid.unwrap_or(entry.gid);
            entry.mtime = pax.mtime.unwrap_or(entry.mtime);
            entry.attributes = pax.attributes;
            // Links carry a size in some old archives but never contents.
            if !matches!(entry.kind, b'0' | b'\0' | b'7') {
                entry.size = 0;
            }
            self.next = self
                .position
                .checked_add(entry.size)
                .and_then(|end| end.checked_next_multiple_of(BLOCK))
                .ok_or(TarError::Header {
                    at,
                    what: "a size beyond 64 bits",
                })?;
            return Ok(Some(entry));
        }
    }

    /// Contents may be skipped by reading only: the archive may be a pipe.
    fn skip_to(&mut self, target: u64) -> Result<(), TarError> {
        let wanted = target - self.position;
        let at = self.position;
        let skipped = io::copy(&mut self.input.by_ref().take(wanted), &mut io::sink())
            .map_err(|source| TarError::Read { at, source })?;
        self.position += skipped;
        if skipped < wanted {
            Err(TarError::Truncated(self.position))
        } else {
            Ok(())
        }
    }

    fn read(&mut self, count: usize) -> Result<Vec<u8>, TarError> {
        let mut data = Vec::new();
        let at = self.position;
        self.input
            .by_ref()
            .take(count as u64)
            .read_to_end(&mut data)
            .map_err(|source| TarError::Read { at, source })?;
        self.position += data.len() as u64;
        if data.len() < count {
            Err(TarError::Truncated(self.position))
        } else {
            Ok(data)
        }
    }

    /// Behind a block of zeros nothing may follow but zeros: what is there would be lost.
    fn end(&mut self) -> Result<(), TarError> {
        let mut block = vec![0; 1 << 16];
        loop {
            let at = self.position;
            let count = self
                .input
                .read(&mut block)
                .map_err(|source| TarError::Read { at, source })?;
            if count == 0 {
                return Ok(());
            }
            if let Some(first) = block[..count].iter().position(|byte| *byte != 0) {
                return Err(TarError::Behind(at + first as u64));
            }
            self.position += count as u64;
        }
    }

    fn header(&mut self) -> Result<Option<Vec<u8>>, TarError> {
        let start = self.position;
        match self.read(512) {
            Ok(block) if is_zero(&block) => self.end().map(|()| None),
            Ok(block) => Ok(Some(block)),
            // Without its end marker, but at the end of an entry: tar itself accepts that.
            Err(TarError::Truncated(at)) if at == start && start > 0 => Ok(None),
            Err(TarError::Truncated(_)) if start == 0 => Err(TarError::Header {
                at: 0,
                what: "shorter than one header",
            }),
            Err(error) => Err(error),
        }
    }
}

/// Whether this is the header of an entry.
pub(super) fn is_header(block: &[u8]) -> bool {
    block.len() == 512 && !is_zero(block) && is_summed(block)
}

fn is_zero(block: &[u8]) -> bool {
    block.iter().all(|byte| *byte == 0)
}

fn is_summed(header: &[u8]) -> bool {
    let sum: u32 = header
        .iter()
        .enumerate()
        .map(|(i, b)| {
            if (148..156).contains(&i) {
                32
            } else {
                u32::from(*b)
            }
        })
        .sum();
    number(&header[148..156]) == Some(u64::from(sum))
}

fn parse(header: &[u8], at: u64) -> Result<Entry, TarError> {
    let wrong = |what| TarError::Header { at, what };
    if !is_summed(header) {
        return Err(wrong("wrong header checksum"));
    }
    let posix = &header[257..263] == b"ustar\0";
    let mut path = until_nul(&header[..100]).to_vec();
    let prefix = until_nul(&header[345..500]);
    if posix && !prefix.is_empty() {
        path = [prefix, b"/", &path].concat();
    }
    let field = |range: std::ops::Range<usize>, what| number(&header[range]).ok_or(wrong(what));
    let small = |range: std::ops::Range<usize>, what| {
        field(range, what).and_then(|n| u32::try_from(n).map_err(|_| wrong(what)))
    };
    Ok(Entry {
        path,
        link: until_nul(&header[157..257]).to_vec(),
        kind: header[156],
        mode: small(100..108, "mode is not a number")?,
        uid: field(108..116, "owner is not a number")?,
        gid: field(116..124, "group is not a number")?,
        size: field(124..136, "size is not a number")?,
        // Before 1970 is as good as 1970.
        mtime: number(&header[136..148]).unwrap_or(0),
        major: small(329..337, "device number is not a number")?,
        minor: small(337..345, "device number is not a number")?,
        attributes: Attributes::default(),
        offset: 0,
    })
}

/// Octal with padding, or GNU's base 256.
fn number(field: &[u8]) -> Option<u64> {
    if field[0] & 0x80 != 0 {
        if field[0] & 0x40 != 0 {
            return None; // negative
        }
        let mut value: u64 = u64::from(field[0] & 0x3f);
        for byte in &field[1..] {
            value = value.checked_mul(256)? | u64::from(*byte);
        }
        return Some(value);
    }
    let text = std::str::from_utf8(until_nul(field)).ok()?.trim();
    if text.is_empty() {
        Some(0)
    } else {
        u64::from_str_radix(text, 8).ok()
    }
}

fn until_nul(bytes: &[u8]) -> &[u8] {
    bytes.split(|byte| *byte == 0).next().unwrap_or_default()
}

impl Pax {
    /// Records are `"<length> <key>=<value>\n"`; the length counts all of it, so values may hold anything.
    fn read(&mut self, mut data: &[u8], at: u64) -> Result<(), TarError> {
        let wrong = || TarError::Header {
            at,
            what: "malformed pax record",
        };
        while !data.is_empty() {
            let space = data
                .iter()
                .position(|byte| *byte == b' ')
                .ok_or_else(wrong)?;
            let length: usize = std::str::from_utf8(&data[..space])
                .ok()
                .and_then(|text| text.parse().ok())
                .ok_or_else(wrong)?;
            if length <= space + 1 || length > data.len() || data[length - 1] != b'\n' {
                return Err(wrong());
            }
            let record = &data[space + 1..length - 1];
            data = &data[length..];
            let equals = record
                .iter()
                .position(|byte| *byte == b'=')
                .ok_or_else(wrong)?;
            let (key, value) = (&record[..equals], &record[equals + 1..]);
            let text = || std::str::from_utf8(value).ok();
            let whole = || text().and_then(|text| text.parse::<u64>().ok());
            match key {
                b"path" => self.path = Some(value.to_vec()),
                b"linkpath" => self.link = Some(value.to_vec()),
                b"size" => self.size = Some(whole().ok_or_else(wrong)?),
                b"uid" => self.uid = Some(whole().ok_or_else(wrong)?),
                b"gid" => self.gid = Some(whole().ok_or_else(wrong)?),
                b"mtime" => {
                    // Fractions and times before 1970 do not matter to us.
                    self.mtime = Some(
                        text()
                            .and_then(|text| text.split('.').next()?.parse().ok())
                            .unwrap_or(0),
                    );
                }
                _ if key.starts_with(b"GNU.sparse.") => self.sparse = true,
                _ => self
                    .attributes
                    .pax(key, value)
                    .map_err(|Malformed| wrong())?,
            }
        }
        Ok(())
    }
}
