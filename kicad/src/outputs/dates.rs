// SPDX-License-Identifier: Apache-2.0
//! The dates that tools write into their files: replaced by a fixed one of the same length, so that the same input gives the
//! same bytes. Everything else stays as it is.
//!
//! | file | line |
//! |---|---|
//! | Gerber | `%TF.CreationDate,…`, `G04 Created by KiCad … date …` |
//! | Gerber job | `"CreationDate": …` |
//! | drill | `; DRILL file … date …`, `; #@! TF.CreationDate,…` |
//! | STEP | the second field of `FILE_NAME` |
//! | PDF | `/CreationDate (D:…)` |

use std::{fs, io, path::Path};

/// In place of the moment.
pub const FIXED: &str = "2000-01-01T00:00:00";
/// The same in seconds since 1970.
pub const FIXED_SECONDS: u64 = 946_684_800;

/// `2026-11-25T12:06:00`, with `T` or a space in the middle; nines are digits.
const MOMENT: &[u8] = b"9999-99-99T99:99:99";
/// As PDF has it.
const PDF: &[u8] = b"(D:99999999999999";
const FIXED_PDF: &[u8] = b"(D:20000101000000";

/// Replaces the dates in a file.
pub(super) fn remove(path: &Path) -> io::Result<()> {
    let mut bytes = fs::read(path)?;
    replace(&mut bytes);
    fs::write(path, bytes)
}

/// Replaces the dates in all files of a folder.
pub(super) fn remove_in(folder: &Path) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        remove(&entry?.path())?;
    }
    Ok(())
}

fn replace(bytes: &mut [u8]) {
    for start in 0..bytes.len() {
        let rest = &mut bytes[start..];
        if has_form(rest, MOMENT) {
            let middle = rest[10];
            rest[..MOMENT.len()].copy_from_slice(FIXED.as_bytes());
            rest[10] = middle;
        } else if has_form(rest, PDF) {
            rest[..PDF.len()].copy_from_slice(FIXED_PDF);
        }
    }
}

fn has_form(bytes: &[u8], form: &[u8]) -> bool {
    bytes.len() >= form.len()
        && bytes.iter().zip(form).all(|(byte, form)| match form {
            b'9' => byte.is_ascii_digit(),
            b'T' => matches!(byte, b'T' | b' '),
            form => byte == form,
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_replaced_and_nothing_else() {
        let replaced = |text: &str| {
            let mut bytes = text.as_bytes().to_vec();
            replace(&mut bytes);
            String::from_utf8(bytes).unwrap()
        };
        assert_eq!(
            replaced("%TF.CreationDate,2026-11-25T12:06:00+00:00*%"),
            "%TF.CreationDate,2000-01-01T00:00:00+00:00*%"
        );
        assert_eq!(
            replaced("date 2026-11-25 12:06:00*"),
            "date 2000-01-01 00:00:00*"
        );
        assert_eq!(replaced("(D:20261125121924)"), "(D:20000101000000)");
        let other = "X2026-11-25Y12:06:00 2026-1-25T12:06:00";
        assert_eq!(replaced(other), other);
    }
}
