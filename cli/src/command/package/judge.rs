// SPDX-License-Identifier: Apache-2.0
//! A package's folder, opened and judged as far as that needs no tray.

use std::path::Path;

use anyhow::bail;
use racklet_image::package::Package;
use racklet_trust::date::Utc;
use racklet_trust::manifest::Kind;

use crate::answer;

/// Opens a package and makes sure that it is of the kind the user named.
pub(crate) fn open(directory: &Path, kind: Kind) -> anyhow::Result<Package> {
    let package = Package::open(directory)?;
    let found = package.manifest().kind;
    if found != kind {
        bail!(
            "{} is of kind {found}; use `racklet {found} …`",
            directory.display()
        );
    }
    Ok(package)
}

/// What a tray would refuse of a package however well it is signed; what depends on one tray, `racklet check` says.
pub(crate) fn usable(package: &Package) -> anyhow::Result<()> {
    let manifest = package.manifest();
    let what = format!(
        "{} {} version {}",
        manifest.kind, manifest.name, manifest.version
    );
    // Firmware has no clock that could be believed, so a bootloader does not look at it.
    let expires = manifest
        .expires
        .filter(|_| manifest.kind != Kind::Bootstrap);
    let now = crate::time::now();
    if let Some(expires) = expires.filter(|expires| now >= *expires) {
        bail!(
            "{what} expired at {}, and it is {} now; build and sign it again with a later --created or a longer --expires-in",
            Utc(expires),
            Utc(now)
        );
    }
    Ok(())
}

/// A package as programs see it.
pub(crate) fn summary(package: &Package) -> answer::Package {
    let manifest = package.manifest();
    answer::Package {
        directory: package.directory().to_owned(),
        kind: manifest.kind.to_string(),
        name: manifest.name.clone(),
        version: manifest.version,
        architecture: manifest.architecture.to_string(),
        boards: manifest.boards.clone(),
        created: manifest.created,
        expires: manifest.expires,
        source: manifest.source.clone(),
        manifest: package.digest().to_string(),
        size: manifest.files.iter().map(|file| file.size).sum(),
        fetch: package.transfer_size(),
    }
}
