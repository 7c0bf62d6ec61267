// SPDX-License-Identifier: Apache-2.0
//! What goes into a slot: a bootstrap that a tray with this trust root would start, on whatever kind of card.

use std::collections::BTreeSet;

use racklet_boards::Board;
use racklet_fetch::publish;
use racklet_trust::{
    TrustRoot, Verified,
    manifest::{Kind, Machine},
    slot::Slot,
};

use super::DiskError;
use crate::{
    package::{Package, PackageError},
    raspberry_pi,
};

/// The files of a signed bootstrap.
pub(super) struct Release {
    pub(super) version: u64,
    pub(super) manifest: Vec<u8>,
    pub(super) signatures: Vec<Vec<u8>>,
    /// By name, in the manifest's order.
    pub(super) files: Vec<(String, Vec<u8>)>,
}

impl Release {
    /// Those of `package`, when a tray would start them.
    pub(super) fn of(
        board: &Board,
        root: &Verified<TrustRoot>,
        slot: Slot,
        package: &Package,
    ) -> Result<Self, DiskError> {
        let wrong = |source| DiskError::Package { slot, source };
        let manifest = package.verify(root).map_err(wrong)?;
        if manifest.kind != Kind::Bootstrap {
            return Err(wrong(PackageError::Manifest {
                path: package.directory().into(),
                source: racklet_trust::manifest::ManifestError::Kind {
                    found: manifest.kind,
                    expected: Kind::Bootstrap,
                },
            }));
        }
        manifest
            .accept(&Machine {
                architecture: board.architecture,
                board: &board.name,
                now: None,
                floor: 0,
            })
            .map_err(|source| DiskError::NotForBoard { slot, source })?;
        let (expected, found) = (files_of(board), manifest.files.iter());
        let found: BTreeSet<String> = found.map(|file| file.name.clone()).collect();
        if found != expected {
            let list = |names: BTreeSet<String>| Vec::from_iter(names).join(", ");
            return Err(DiskError::Files {
                slot,
                found: list(found),
                expected: list(expected),
            });
        }
        let mut files = Vec::new();
        for file in &manifest.files {
            // Verified in the memory that is written.
            let contents = package.file(&file.name).map_err(wrong)?.unwrap_or_default();
            files.push((file.name.clone(), contents));
        }
        let signatures = package.signatures().map_err(wrong)?;
        Ok(Self {
            version: manifest.version,
            manifest: package.manifest_bytes().to_vec(),
            signatures: signatures.into_iter().map(|(_, bytes)| bytes).collect(),
            files,
        })
    }

    /// Its manifest and signatures, as they lie in a slot.
    pub(super) fn papers(&self) -> Vec<(String, Vec<u8>)> {
        let manifest = ("manifest.json".to_owned(), self.manifest.clone());
        let signatures = self.signatures.iter().enumerate();
        let signatures = signatures.map(|(n, bytes)| (publish::signature_path(n), bytes.clone()));
        [manifest].into_iter().chain(signatures).collect()
    }
}

/// What a bootstrap for this board consists of: what its kind always has, and where firmware starts it without a bootloader of ours,
/// all that the firmware loads.
fn files_of(board: &Board) -> BTreeSet<String> {
    let always = Kind::Bootstrap
        .file_names()
        .iter()
        .map(|name| (*name).to_owned());
    let firmware = board.firmware.iter().flat_map(raspberry_pi::release_files);
    always.chain(firmware).collect()
}
