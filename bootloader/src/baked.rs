// SPDX-License-Identifier: Apache-2.0
//! What an image carries inside the bootloader: the trust root, the tray's configuration and the board, as PE sections; for a tray
//! without a card a slot as well.
//!
//! They are read from the bootloader's own loaded image, so that whatever vouches for the bootloader (Secure Boot, a
//! write-protected disk) vouches for them too. Source: Microsoft PE/COFF specification, "COFF File Header", "Section Table".

use alloc::{format, string::String};
use core::fmt;

use racklet_trust::{TrustRoot, Verified, arguments};
use serde::Deserialize;

use crate::carried::{self, Carried};

/// Names of the sections; [`SECTIONS`] in this order.
pub const SECTIONS: [&str; 3] = [".trust", ".tray", ".board"];
/// The most bytes that one of these may have.
const MAX_SECTION: usize = 1 << 20;
/// The most bytes that a kernel or an initramfs may have, as a section.
const MAX_CARRIED: usize = 256 << 20;

/// A loaded image, looked at in pieces: parts of it are this program's own variables, which nobody may hold a reference to.
pub trait Image {
    /// `length` bytes from `start`, counted from where the image begins; nothing when it ends before.
    fn bytes(&self, start: usize, length: usize) -> Option<&[u8]>;
}

impl Image for [u8] {
    fn bytes(&self, start: usize, length: usize) -> Option<&[u8]> {
        self.get(start..start.checked_add(length)?)
    }
}

/// The contents of the sections, understood.
#[derive(Debug)]
pub struct Baked<'a> {
    /// What every signature is checked against.
    pub root: Verified<TrustRoot>,
    /// The trust root as it was baked.
    pub root_json: &'a [u8],
    /// The tray's configuration, which only later stages understand.
    pub tray_json: &'a [u8],
    /// The board.
    pub board: Board,
    /// The slot, of a tray without a card.
    pub carried: Option<Carried<'a>>,
}

/// The section `.board`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Board {
    /// Its name: manifests list the boards that they are for.
    pub board: String,
    /// The board's part of the kernel command line.
    pub arguments: String,
}

/// Why an image carries nothing usable.
#[derive(Debug, PartialEq, Eq)]
pub enum BakedError {
    /// The image in memory is not a PE image.
    NotPe,
    /// A section is missing, outside the image or too large.
    Section(&'static str),
    /// The section `.trust` is not a trust root.
    Trust(String),
    /// The section `.board` is not understood.
    Board(String),
}

impl fmt::Display for BakedError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotPe => f.write_str("the bootloader's own image cannot be read"),
            Self::Section(name) => write!(
                f,
                "the bootloader carries no usable section {name}; write an image made by `racklet image build`"
            ),
            Self::Trust(reason) => write!(f, "the section .trust is no trust root: {reason}"),
            Self::Board(reason) => write!(f, "the section .board is not understood: {reason}"),
        }
    }
}

impl core::error::Error for BakedError {}

impl<'a> Baked<'a> {
    /// Reads the sections of an image as the firmware loaded it.
    ///
    /// # Errors
    /// [`BakedError`].
    // untrusted: bootloader_sections
    pub fn from_image(image: &'a (impl Image + ?Sized)) -> Result<Self, BakedError> {
        let [root_json, tray_json, board_json] = needed(image)?;
        let root = Verified::<TrustRoot>::baked(root_json)
            .map_err(|error| BakedError::Trust(format!("{error}")))?;
        let board: Board = serde_json::from_slice(board_json)
            .map_err(|error| BakedError::Board(format!("{error}")))?;
        arguments::check(&board.arguments)
            .map_err(|error| BakedError::Board(format!("{error}")))?;
        Ok(Self {
            root,
            root_json,
            tray_json,
            board,
            carried: carried(image)?,
        })
    }
}

fn needed(image: &(impl Image + ?Sized)) -> Result<[&[u8]; 3], BakedError> {
    let found = sections(image, SECTIONS, [MAX_SECTION; 3])?;
    let take = |index: usize| found[index].ok_or(BakedError::Section(SECTIONS[index]));
    Ok([take(0)?, take(1)?, take(2)?])
}

/// All sections of a slot, or none.
fn carried(image: &(impl Image + ?Sized)) -> Result<Option<Carried<'_>>, BakedError> {
    let names = carried::SECTIONS;
    let most = [MAX_SECTION, MAX_SECTION, MAX_CARRIED, MAX_CARRIED];
    let found = sections(image, names, most)?;
    match found {
        [None, None, None, None] => Ok(None),
        [
            Some(manifest),
            Some(signatures),
            Some(kernel),
            Some(initramfs),
        ] => Ok(Some(Carried::of([manifest, signatures, kernel, initramfs]))),
        _ => {
            let missing = names.iter().zip(found).find(|(_, found)| found.is_none());
            Err(BakedError::Section(
                missing.map_or(names[0], |(name, _)| name),
            ))
        }
    }
}

/// The sections of these names, of at most as many bytes.
fn sections<'a, const N: usize>(
    image: &'a (impl Image + ?Sized),
    names: [&'static str; N],
    most: [usize; N],
) -> Result<[Option<&'a [u8]>; N], BakedError> {
    let table = section_table(image).ok_or(BakedError::NotPe)?;
    let mut found: [Option<&[u8]>; N] = [None; N];
    for header in table.chunks_exact(40) {
        for ((name, most), slot) in names.iter().zip(most).zip(&mut found) {
            if header[..8].iter().copied().eq(padded(name)) {
                // A second section of the same name would leave it open which of them was meant.
                if slot.is_some() {
                    return Err(BakedError::Section(name));
                }
                let (start, length) = (u32_at(header, 12) as usize, u32_at(header, 8) as usize);
                if length <= most {
                    *slot = image.bytes(start, length);
                }
                if slot.is_none() {
                    return Err(BakedError::Section(name));
                }
            }
        }
    }
    Ok(found)
}

fn section_table(image: &(impl Image + ?Sized)) -> Option<&[u8]> {
    let dos = image.bytes(0, 0x40)?;
    if dos[..2] != *b"MZ" {
        return None;
    }
    let pe = u32_at(dos, 0x3c) as usize;
    let header = image.bytes(pe, 24)?;
    if header[..4] != *b"PE\0\0" {
        return None;
    }
    let count = usize::from(u16::from_le_bytes([header[6], header[7]]));
    let optional = usize::from(u16::from_le_bytes([header[20], header[21]]));
    image.bytes(pe + 24 + optional, count * 40)
}

fn padded(name: &str) -> impl Iterator<Item = u8> {
    name.bytes().chain(core::iter::repeat(0)).take(8)
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}
