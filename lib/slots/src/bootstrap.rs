// SPDX-License-Identifier: Apache-2.0
//! A bootstrap in memory, verified as the bootloader will verify it: who would refuse it there refuses it here, before a byte is written.

use racklet_trust::manifest::{FileError, Kind, Machine, ManifestError, NotForUs};
use racklet_trust::root::{MAX_KEYS, Role};
use racklet_trust::sshsig::SshSig;
use racklet_trust::{Architecture, Manifest, TrustRoot, Verified, namespace};

use crate::MANIFEST;

/// Why a bootstrap would not be started.
#[derive(Debug, thiserror::Error)]
pub enum BootstrapError {
    /// Its signatures, or its manifest.
    #[error("the trust root that the bootloader carries does not vouch for it")]
    Manifest(#[from] ManifestError),
    /// It is for something else.
    #[error(transparent)]
    NotForUs(#[from] NotForUs),
    /// A file is not here.
    #[error("{0} is missing")]
    Missing(String),
    /// A file is another one.
    #[error(transparent)]
    File(#[from] FileError),
}

/// See the module.
#[derive(Debug)]
pub struct Bootstrap {
    manifest: Verified<Manifest>,
    bytes: Vec<u8>,
    signatures: Vec<Vec<u8>>,
    contents: Vec<(String, Verified<Vec<u8>>)>,
}

impl Bootstrap {
    /// Verifies everything anew, in the memory that it is written from. Of the signatures those are kept that count under `root`, the
    /// bootloader's: no slot has room for more.
    ///
    /// # Errors
    /// [`BootstrapError`].
    pub fn verify(
        root: &Verified<TrustRoot>,
        board: &str,
        manifest: &Manifest,
        signatures: &[Vec<u8>],
        mut files: impl FnMut(&str) -> Option<Vec<u8>>,
    ) -> Result<Self, BootstrapError> {
        let bytes = manifest.to_canonical();
        let mut counted = Vec::new();
        let mut signatures = signatures.to_vec();
        signatures.retain(|armored| {
            let signature = SshSig::parse(armored);
            let signer = signature.and_then(|it| it.verify(namespace::MANIFEST, &bytes).cloned());
            signer.is_ok_and(|key| {
                let counts = root.role(Role::Firmware).keys.contains(&key);
                let new = counts && !counted.contains(&key);
                counted.push(key);
                new
            })
        });
        signatures.truncate(MAX_KEYS);
        let manifest = Manifest::verify(root, Kind::Bootstrap, &bytes, &signatures)?;
        manifest.accept(&Machine {
            architecture: Architecture::HERE,
            board,
            // As in the bootloader, which has no clock that could be believed.
            now: None,
            floor: 0,
        })?;
        // Kernel and initramfs, which a manifest of this kind has, and whatever else the board's firmware loads.
        let contents = manifest.files.iter().map(|file| {
            let name = &file.name;
            let contents = files(name).ok_or_else(|| BootstrapError::Missing(name.clone()))?;
            Ok((name.clone(), manifest.verify_file(name, contents)?))
        });
        Ok(Self {
            contents: contents.collect::<Result<_, BootstrapError>>()?,
            manifest,
            bytes,
            signatures,
        })
    }

    /// Its manifest.
    #[must_use]
    pub fn manifest(&self) -> &Verified<Manifest> {
        &self.manifest
    }

    /// The files of a slot that holds it, by name.
    pub(crate) fn files(&self) -> Vec<(String, &[u8])> {
        let contents = self.contents.iter();
        let mut files: Vec<(String, &[u8])> = contents
            .map(|(name, contents)| (format!("files/{name}"), contents.as_slice()))
            .collect();
        files.push((MANIFEST.to_owned(), &self.bytes));
        let signatures = self.signatures.iter().enumerate();
        files.extend(signatures.map(|(n, armored)| (signature_name(n), armored.as_slice())));
        files
    }
}

/// The name of signature `number` within a slot.
pub(crate) fn signature_name(number: usize) -> String {
    format!("signatures/{number}.sig")
}
