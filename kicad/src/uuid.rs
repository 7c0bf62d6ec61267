// SPDX-License-Identifier: Apache-2.0
//! UUIDs that follow from names, so that the same input gives the same files.

use sha2::{Digest as _, Sha256};

/// The UUID of what `path` names, from the outside in: board, sheet, part. Version 8 (RFC 9562, 5.8): SHA-256 of the names.
#[must_use]
pub fn uuid(path: &[&str]) -> String {
    let mut digest = Sha256::new();
    for name in path {
        digest.update((name.len() as u64).to_be_bytes());
        digest.update(name.as_bytes());
    }
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&digest.finalize()[..16]);
    bytes[6] = bytes[6] & 0x0f | 0x80;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    [
        &hex[..8],
        &hex[8..12],
        &hex[12..16],
        &hex[16..20],
        &hex[20..],
    ]
    .join("-")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_give_a_uuid_and_other_names_another() {
        let one = uuid(&["bmc", "power", "U1"]);
        assert_eq!(one.len(), 36);
        assert_eq!((&one[14..15], one.matches('-').count()), ("8", 4));
        assert_eq!(one, uuid(&["bmc", "power", "U1"]));
        assert_ne!(one, uuid(&["bmc", "powe", "rU1"]));
    }
}
