// SPDX-License-Identifier: Apache-2.0
//! A slot that the bootloader's own image carries: what a tray without a card starts, for which one file came over the network. It is
//! verified as a slot of a card is. What there is no card for is not there either: no record of tries, no floor of versions.
//!
//! Kernel and initramfs are in sections with the names that the UAPI group's specification of unified kernel images has for them.

use alloc::vec::Vec;

use racklet_trust::root::MAX_KEYS;

/// Names of the sections: manifest, its signatures one behind the other, kernel, initramfs.
pub const SECTIONS: [&str; 4] = [".slot", ".sigs", ".linux", ".initrd"];
/// How a signature ends (PROTOCOL.sshsig of OpenSSH).
const END: &[u8] = b"-----END SSH SIGNATURE-----\n";

/// The contents of these sections, of which nothing is verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Carried<'a> {
    /// `manifest.json`.
    pub manifest: &'a [u8],
    /// Armored.
    pub signatures: Vec<&'a [u8]>,
    /// Its files, as the manifest names them.
    pub kernel: &'a [u8],
    /// See [`Carried::kernel`].
    pub initramfs: &'a [u8],
}

impl<'a> Carried<'a> {
    pub(crate) fn of([manifest, signatures, kernel, initramfs]: [&'a [u8]; 4]) -> Self {
        Self {
            manifest,
            signatures: split(signatures),
            kernel,
            initramfs,
        }
    }

    /// The file that a manifest calls so.
    pub(crate) fn file(&self, name: &str) -> Option<&'a [u8]> {
        match name {
            "kernel" => Some(self.kernel),
            "initramfs" => Some(self.initramfs),
            _ => None,
        }
    }
}

/// The signatures in a text, as many as a manifest may have; what stands behind the last one is none.
fn split(text: &[u8]) -> Vec<&[u8]> {
    let mut rest = text;
    let mut signatures = Vec::new();
    while signatures.len() < MAX_KEYS {
        let Some(at) = rest.windows(END.len()).position(|bytes| bytes == END) else {
            break;
        };
        let (signature, behind) = rest.split_at(at + END.len());
        signatures.push(signature);
        rest = behind;
    }
    signatures
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signatures_are_told_apart_by_their_ends() {
        let one = [&b"-----BEGIN SSH SIGNATURE-----\nAAAA\n"[..], END].concat();
        let two = [&b"B\n"[..], END].concat();
        let whole = [&*one, &*two, b"the beginning of a third"].concat();
        assert_eq!(split(&whole), [&*one, &*two]);
        assert!(split(b"").is_empty() && split(b"no end").is_empty());
        assert_eq!(split(&one.repeat(MAX_KEYS + 1)).len(), MAX_KEYS);
    }
}
