// SPDX-License-Identifier: Apache-2.0
//! Adds data sections to a PE32+ image: this is how an image's trust root gets inside its bootloader.
//!
//! Source: Microsoft PE/COFF specification. It deliberately does not touch what is there: no section moves, so nothing needs
//! relocating; and it refuses images that are signed already, since their signature would be void.

use racklet_trust::Architecture;

/// Why sections cannot be added.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PeError {
    /// Not a PE32+ image, or cut off.
    #[error("the bootloader is not a UEFI application (PE32+) for this board's architecture")]
    NotPe,
    /// The headers have no room for more sections.
    #[error(
        "the bootloader's headers have no room for {0} more sections; link it with a larger header"
    )]
    NoRoom(usize),
    /// It carries a signature for Secure Boot.
    #[error(
        "the bootloader is signed already; sign the image's bootloader after `racklet image build`, not before"
    )]
    Signed,
    /// It has a section of that name.
    #[error("the bootloader already has a section {0}; use the one that `cargo xtask build` made")]
    Taken(String),
    /// More than the bootloader reads.
    #[error("the contents of section {0} are too large")]
    TooLarge(String),
}

/// Initialised data, readable: IMAGE_SCN_CNT_INITIALIZED_DATA | IMAGE_SCN_MEM_READ.
const READABLE_DATA: u32 = 0x4000_0040;
const SECTION_HEADER: usize = 40;
/// Offsets within the optional header.
const SIZE_OF_INITIALIZED_DATA: usize = 8;
const SECTION_ALIGNMENT: usize = 32;
const FILE_ALIGNMENT: usize = 36;
const SIZE_OF_IMAGE: usize = 56;
const SIZE_OF_HEADERS: usize = 60;
const CHECKSUM: usize = 64;
const CERTIFICATE_TABLE: usize = 112 + 4 * 8;

/// The image with these sections behind its own.
///
/// # Errors
/// [`PeError`].
pub(super) fn add_sections(
    image: &[u8],
    architecture: Architecture,
    sections: &[(&str, &[u8])],
) -> Result<Vec<u8>, PeError> {
    let layout = Layout::parse(image, architecture)?;
    let mut pe = image.to_vec();
    let table_end = layout.table + (layout.count + sections.len()) * SECTION_HEADER;
    if table_end > layout.headers_size {
        return Err(PeError::NoRoom(sections.len()));
    }
    let mut address = layout.image_size;
    for (number, (name, contents)) in sections.iter().enumerate() {
        let existing = image[layout.table..][..layout.count * SECTION_HEADER]
            .chunks_exact(SECTION_HEADER)
            .any(|header| header[..8].iter().copied().eq(padded(name)));
        if existing {
            return Err(PeError::Taken((*name).into()));
        }
        if contents.len() >= most(name) {
            return Err(PeError::TooLarge((*name).into()));
        }
        let offset = pe.len().next_multiple_of(layout.file_alignment);
        pe.resize(offset, 0);
        pe.extend_from_slice(contents);
        pe.resize(pe.len().next_multiple_of(layout.file_alignment), 0);
        let header = layout.table + (layout.count + number) * SECTION_HEADER;
        pe[header..header + SECTION_HEADER].fill(0);
        for (place, byte) in pe[header..header + 8].iter_mut().zip(padded(name)) {
            *place = byte;
        }
        let raw_size = pe.len() - offset;
        for (at, value) in [
            (8, contents.len()),
            (12, address),
            (16, raw_size),
            (20, offset),
            (36, READABLE_DATA as usize),
        ] {
            put(&mut pe, header + at, value)?;
        }
        address = (address + contents.len().max(1)).next_multiple_of(layout.section_alignment);
    }
    let count = u16::try_from(layout.count + sections.len())
        .map_err(|_| PeError::NoRoom(sections.len()))?;
    pe[layout.coff + 2..layout.coff + 4].copy_from_slice(&count.to_le_bytes());
    put(&mut pe, layout.optional + SIZE_OF_IMAGE, address)?;
    let added = pe.len() - image.len();
    let data = u32_at(image, layout.optional + SIZE_OF_INITIALIZED_DATA)? as usize + added;
    put(&mut pe, layout.optional + SIZE_OF_INITIALIZED_DATA, data)?;
    let checksum = checksum(&pe, layout.optional + CHECKSUM);
    pe[layout.optional + CHECKSUM..][..4].copy_from_slice(&checksum.to_le_bytes());
    Ok(pe)
}

/// What the bootloader bounds a section by (`racklet_bootloader::baked`).
fn most(name: &str) -> usize {
    match name {
        ".linux" | ".initrd" => 256 << 20,
        _ => 1 << 20,
    }
}

/// The PE header's machine type (PE format, "Machine Types").
pub(crate) const fn machine_of(architecture: Architecture) -> u16 {
    match architecture {
        Architecture::Aarch64 => 0xaa64,
        Architecture::X86_64 => 0x8664,
    }
}

struct Layout {
    coff: usize,
    optional: usize,
    table: usize,
    count: usize,
    headers_size: usize,
    image_size: usize,
    section_alignment: usize,
    file_alignment: usize,
}

impl Layout {
    fn parse(image: &[u8], architecture: Architecture) -> Result<Self, PeError> {
        if image.get(..2) != Some(b"MZ") {
            return Err(PeError::NotPe);
        }
        let pe = u32_at(image, 0x3c)? as usize;
        if image.get(pe..pe.saturating_add(4)) != Some(b"PE\0\0") {
            return Err(PeError::NotPe);
        }
        let coff = pe + 4;
        let machine = u16_at(image, coff)?;
        if machine != machine_of(architecture) {
            return Err(PeError::NotPe);
        }
        let optional = coff + 20;
        let table = optional + usize::from(u16_at(image, coff + 16)?);
        // 0x20b: PE32+. Five data directories at least, so that there is an entry for certificates.
        if u16_at(image, optional)? != 0x20b || u32_at(image, optional + 108)? < 5 {
            return Err(PeError::NotPe);
        }
        if u32_at(image, optional + CERTIFICATE_TABLE + 4)? != 0 {
            return Err(PeError::Signed);
        }
        let size = |at| u32_at(image, optional + at).map(|size| size as usize);
        let layout = Self {
            coff,
            optional,
            table,
            count: usize::from(u16_at(image, coff + 2)?),
            headers_size: size(SIZE_OF_HEADERS)?,
            section_alignment: size(SECTION_ALIGNMENT)?,
            file_alignment: size(FILE_ALIGNMENT)?,
            image_size: size(SIZE_OF_IMAGE)?,
        };
        let plausible = layout.file_alignment.is_power_of_two()
            && (512..=65536).contains(&layout.file_alignment)
            && layout.section_alignment.is_power_of_two()
            && layout.section_alignment >= layout.file_alignment
            && layout.image_size.is_multiple_of(layout.section_alignment)
            && layout.headers_size <= image.len()
            && layout.table + layout.count * SECTION_HEADER <= layout.headers_size;
        match plausible {
            true => Ok(layout),
            false => Err(PeError::NotPe),
        }
    }
}

/// The sum of all 16-bit words with end-around carry, the checksum itself taken as zero, plus the length.
fn checksum(pe: &[u8], at: usize) -> u32 {
    let mut sum: u32 = 0;
    for (number, word) in pe.chunks(2).enumerate() {
        if (at..at + 4).contains(&(number * 2)) {
            continue;
        }
        let high = word.get(1).copied().unwrap_or(0);
        sum += u32::from(u16::from_le_bytes([word[0], high]));
        sum = (sum & 0xffff) + (sum >> 16);
    }
    let length = u32::try_from(pe.len()).unwrap_or(u32::MAX);
    sum.wrapping_add(length)
}

fn padded(name: &str) -> impl Iterator<Item = u8> {
    name.bytes().chain(std::iter::repeat(0)).take(8)
}

fn put(pe: &mut [u8], at: usize, value: usize) -> Result<(), PeError> {
    let value = u32::try_from(value).map_err(|_| PeError::NotPe)?;
    pe[at..at + 4].copy_from_slice(&value.to_le_bytes());
    Ok(())
}

fn u16_at(bytes: &[u8], at: usize) -> Result<u16, PeError> {
    let two = bytes.get(at..at.saturating_add(2)).ok_or(PeError::NotPe)?;
    Ok(u16::from_le_bytes([two[0], two[1]]))
}

fn u32_at(bytes: &[u8], at: usize) -> Result<u32, PeError> {
    let four = bytes.get(at..at.saturating_add(4)).ok_or(PeError::NotPe)?;
    Ok(u32::from_le_bytes([four[0], four[1], four[2], four[3]]))
}
