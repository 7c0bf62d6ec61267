// SPDX-License-Identifier: Apache-2.0
//! The one file that a tray without a card starts, which its firmware gets over the network: the bootloader, and inside it all that a
//! card would have, a slot included. What vouches for that file, UEFI's Secure Boot, vouches for the trust root in it; the slot is verified
//! against that root as on a card.

use std::path::Path;

use racklet_boards::{Board, Boot};
use racklet_trust::slot::Slot;
use racklet_trust::{TrustRoot, Verified};

use super::{Built, DiskError, io_error, slot::Release, uefi::carrier, written};
use crate::package::Package;

/// What goes into it; as in [`super::Spec`].
#[derive(Debug)]
pub struct Netboot<'a> {
    /// The board it is for.
    pub board: &'a Board,
    /// The bootloader as it was built for the board's architecture.
    pub bootloader: Option<&'a [u8]>,
    /// The trust root, canonical JSON.
    pub trust_root: &'a [u8],
    /// `tray.json`. Whoever can reach the server can read it.
    pub tray: &'a [u8],
    /// What is started.
    pub bootstrap: &'a Package,
}

/// Writes the file to `output`, whole or not at all.
///
/// # Errors
/// [`DiskError`].
pub fn netboot(spec: &Netboot<'_>, output: &Path) -> Result<Built, DiskError> {
    if spec.board.boot != Boot::Uefi {
        return Err(DiskError::Netboot(spec.board.name.clone()));
    }
    let root = Verified::<TrustRoot>::baked(spec.trust_root).map_err(DiskError::Trust)?;
    let release = Release::of(spec.board, &root, Slot::A, spec.bootstrap)?;
    // Each of them ends in a line that says so.
    let signatures = release.signatures.concat();
    let file = |name: &str| {
        let found = release.files.iter().find(|(other, _)| other == name);
        found.map_or(&[][..], |(_, contents)| contents)
    };
    let sections: [(&str, &[u8]); 4] = [
        (".slot", &release.manifest),
        (".sigs", &signatures),
        (".linux", file("kernel")),
        (".initrd", file("initramfs")),
    ];
    let told = (spec.trust_root, spec.tray);
    let bootloader = spec.bootloader.ok_or(DiskError::NoBootloader)?;
    let contents = carrier(spec.board, bootloader, told, &sections)?;
    written(output, |file| {
        std::io::Write::write_all(&mut file.as_file(), &contents).map_err(io_error("write", output))
    })
}
