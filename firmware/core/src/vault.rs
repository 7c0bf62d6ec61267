// SPDX-License-Identifier: Apache-2.0
//! What a controller is and whom it believes: its identity key and certificate, the rack's authority, its name, the time floor.
//!
//! ```text
//! 0   name of the format        8 bytes
//! 8   number of this version    u32, little-endian as all of these; the copy with the higher one counts
//! 12  length of the items       u32
//! 16  CRC-32 of the items and of the 16 bytes before this
//! 20  items: kind u8, length u16, bytes
//! ```
//! There are two copies in flash ([`crate::flash::VAULT`]). A new version takes the place of the older, so that whenever power goes,
//! one of them is whole. The CRC is against such accidents; who can write to the flash can write a whole vault, and is kept out by
//! wrapping it with a secret of the chip, which is not here yet (docs/limits.md).

use core::fmt;

use racklet_wire::serial::crc32;

const NAME: [u8; 8] = *b"RKvault\x01";
const HEAD: usize = 20;

/// The most bytes that a copy takes.
pub const LONGEST: usize = crate::flash::VAULT[0].length;

/// The contents.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Vault<'a> {
    /// The seed of the Ed25519 key that this controller is known by (RFC 8032, 5.1.5).
    pub key: &'a [u8; 32],
    /// X.509 over that key, in DER.
    pub certificate: &'a [u8],
    /// X.509 of the rack's authority, in DER.
    pub authority: &'a [u8],
    /// Of the tray or the rack that it controls.
    pub name: &'a str,
    /// Unix seconds: no clock here runs before it.
    pub floor: u64,
}

/// Why there is nothing to be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unreadable {
    /// Erased, or never written.
    Empty,
    /// Not whole: torn, decayed or of another format.
    Damaged,
    /// Whole, and without an item that has to be there.
    Incomplete,
}

impl fmt::Display for Unreadable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Empty => "the vault is empty",
            Self::Damaged => "the vault is damaged",
            Self::Incomplete => "something is missing in the vault",
        })
    }
}

impl core::error::Error for Unreadable {}

mod item {
    pub(super) const KEY: u8 = 1;
    pub(super) const CERTIFICATE: u8 = 2;
    pub(super) const AUTHORITY: u8 = 3;
    pub(super) const NAME: u8 = 4;
    pub(super) const FLOOR: u8 = 5;
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    let bytes = bytes.get(at..)?.first_chunk::<4>()?;
    Some(u32::from_le_bytes(*bytes))
}

fn check(head: &[u8], items: &[u8]) -> u32 {
    crc32(head[..16].iter().chain(items))
}

/// The number and the items of a copy that is whole.
fn open(copy: &[u8]) -> Result<(u32, &[u8]), Unreadable> {
    let head = copy.get(..HEAD).ok_or(Unreadable::Damaged)?;
    if head.iter().all(|byte| *byte == 0xff) || head.iter().all(|byte| *byte == 0) {
        return Err(Unreadable::Empty);
    }
    let whole = || {
        let (number, length, told) = (word(head, 8)?, word(head, 12)?, word(head, 16)?);
        let length = usize::try_from(length).ok().filter(|it| *it <= LONGEST)?;
        let items = copy[HEAD..].get(..length)?;
        (head.starts_with(&NAME) && told == check(head, items)).then_some((number, items))
    };
    whole().ok_or(Unreadable::Damaged)
}

impl<'a> Vault<'a> {
    /// The newer of two copies that is whole, and its number.
    ///
    /// # Errors
    /// [`Unreadable`] when neither is; `Empty` only when both are.
    // untrusted: vault
    pub fn read(copies: [&'a [u8]; 2]) -> Result<(Self, u32), Unreadable> {
        let (number, mut rest) = match copies.map(open) {
            // Numbers are compared around their end, like sequence numbers (RFC 1982).
            [Ok(a), Ok(b)] if a.0.wrapping_sub(b.0) < 1 << 31 => Ok(a),
            [Ok(a), Err(_)] => Ok(a),
            [_, Ok(b)] => Ok(b),
            [Err(Unreadable::Empty), Err(why)] | [Err(why), Err(_)] => Err(why),
        }?;
        let (mut key, mut certificate, mut authority) = (None, None, None);
        let (mut name, mut floor) = (None, None);
        while let Some((&[kind, low, high], after)) = rest.split_first_chunk::<3>() {
            let length = usize::from(u16::from_le_bytes([low, high]));
            let (body, after) = after.split_at_checked(length).ok_or(Unreadable::Damaged)?;
            rest = after;
            match kind {
                item::KEY => key = body.try_into().ok(),
                item::CERTIFICATE => certificate = Some(body),
                item::AUTHORITY => authority = Some(body),
                item::NAME => name = str::from_utf8(body).ok(),
                item::FLOOR => floor = body.try_into().ok().map(u64::from_le_bytes),
                // Of a later version of this format, or of what another module keeps.
                _ => {}
            }
        }
        let vault = || {
            Some(Self {
                key: key?,
                certificate: certificate?,
                authority: authority?,
                name: name?,
                floor: floor?,
            })
        };
        match rest {
            [] => Ok((vault().ok_or(Unreadable::Incomplete)?, number)),
            _ => Err(Unreadable::Damaged),
        }
    }

    /// Writes a copy under that number to the front of `out` and gives how many bytes it takes; none when there is not the room, or
    /// more than [`LONGEST`].
    pub fn write(&self, number: u32, out: &mut [u8]) -> Option<usize> {
        let items: [(u8, &[u8]); 5] = [
            (item::KEY, self.key),
            (item::CERTIFICATE, self.certificate),
            (item::AUTHORITY, self.authority),
            (item::NAME, self.name.as_bytes()),
            (item::FLOOR, &self.floor.to_le_bytes()),
        ];
        let mut end = HEAD;
        for (kind, body) in items {
            let length = u16::try_from(body.len()).ok()?.to_le_bytes();
            let place = out.get_mut(end..end + 3 + body.len())?;
            place[..3].copy_from_slice(&[kind, length[0], length[1]]);
            place[3..].copy_from_slice(body);
            end += place.len();
        }
        let length = u32::try_from(end - HEAD).ok().filter(|_| end <= LONGEST)?;
        let (head, items) = out.split_at_mut(HEAD);
        head[..8].copy_from_slice(&NAME);
        head[8..12].copy_from_slice(&number.to_le_bytes());
        head[12..16].copy_from_slice(&length.to_le_bytes());
        let check = check(head, &items[..end - HEAD]);
        head[16..].copy_from_slice(&check.to_le_bytes());
        Some(end)
    }
}

#[cfg(test)]
mod tests {
    extern crate std;

    use std::vec::Vec;

    use proptest::prelude::*;

    use super::*;

    fn written(name: &str, number: u32) -> Vec<u8> {
        let vault = Vault {
            key: &[7; 32],
            certificate: &[1; 500],
            authority: &[2; 400],
            name,
            floor: 1_790_000_000,
        };
        let mut out = std::vec![0xff; LONGEST];
        vault.write(number, &mut out).unwrap();
        out
    }

    fn name_of(a: &[u8], b: &[u8]) -> Result<std::string::String, Unreadable> {
        Vault::read([a, b]).map(|(vault, _)| vault.name.into())
    }

    #[test]
    fn the_newer_copy_counts_also_when_the_number_has_gone_round() {
        for (old, new) in [(1, 2), (u32::MAX, 0)] {
            let (old, new) = (written("old", old), written("new", new));
            assert_eq!(name_of(&old, &new).unwrap(), "new");
            assert_eq!(name_of(&new, &old).unwrap(), "new");
        }
    }

    #[test]
    fn erased_flash_is_empty_and_not_damaged() {
        let (erased, zero) = ([0xff; LONGEST], [0; LONGEST]);
        assert_eq!(name_of(&erased, &zero), Err(Unreadable::Empty));
        assert_eq!(name_of(&erased, &[1; LONGEST]), Err(Unreadable::Damaged));
        assert_eq!(name_of(&[1; LONGEST], &erased), Err(Unreadable::Damaged));
        assert_eq!(name_of(&written("a", 1), &erased).unwrap(), "a");
    }

    #[test]
    fn a_vault_that_is_too_large_is_not_written() {
        let vault = Vault {
            key: &[0; 32],
            certificate: &[0; LONGEST],
            authority: &[],
            name: "",
            floor: 0,
        };
        assert_eq!(vault.write(1, &mut std::vec![0; 2 * LONGEST]), None);
    }

    proptest! {
        #[test]
        fn power_that_goes_at_any_byte_of_a_write_leaves_the_old_or_the_new(cut in 0..LONGEST, erased: bool) {
            let (old, new, older) = (written("old", 5), written("new", 6), written("older", 4));
            // The place of the older copy is erased, then written from its beginning.
            let mut torn = if erased { std::vec![0xff; LONGEST] } else { older };
            if erased {
                torn[..cut].copy_from_slice(&new[..cut]);
            } else {
                torn[..cut].fill(0xff);
            }
            let name = name_of(&old, &torn).unwrap();
            prop_assert!(name == "old" || (name == "new" && erased), "{}", name);
        }

        #[test]
        fn a_flipped_bit_is_noticed(at in 0..1000usize, bit in 0..8u8) {
            let (good, mut bad) = (written("good", 1), written("bad", 2));
            bad[at % 950] ^= 1 << bit;
            prop_assert_eq!(name_of(&good, &bad).unwrap(), "good");
        }
    }
}
