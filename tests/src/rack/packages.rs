// SPDX-License-Identifier: Apache-2.0
//! Payloads and artifacts as somebody would have them who wants a tray to take what it must not.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, ensure};

use super::Rack;
use crate::process::output;

impl Rack {
    /// Gives a built payload or artifact the owner's signature, in place of any it has.
    ///
    /// # Errors
    /// When `racklet` fails; with what it said.
    pub fn sign(&self, kind: &str, package: &str) -> Result<()> {
        let signatures = self.folder.join(package).join("signatures");
        if signatures.exists() {
            fs::remove_dir_all(signatures)?;
        }
        let package = format!("../{package}");
        self.racklet(&[kind, "sign", &package]).within().run()?;
        Ok(())
    }

    /// Copies a package to another with a changed manifest, signatures as they were, and gives its folder.
    ///
    /// # Errors
    /// When it cannot be written, or when nothing in the manifest is `from`.
    pub fn variant(
        &self,
        package: &str,
        variant: &str,
        changes: &[(&str, &str)],
    ) -> Result<PathBuf> {
        let [old, new] = [package, variant].map(|name| self.folder.join(name));
        output(Command::new("cp").arg("-r").arg(&old).arg(&new))?;
        let manifest = new.join("manifest.json");
        let mut text = fs::read_to_string(&manifest)?;
        for (from, to) in changes {
            ensure!(text.contains(from), "the manifest has no {from}: {text}");
            text = text.replace(from, to);
        }
        fs::write(&manifest, text)?;
        Ok(new)
    }

    /// Has the release name the manifest of a payload, whatever that is worth, and pushes that.
    ///
    /// # Errors
    /// When a tool fails; with what it said.
    pub fn pin_payload(&self, package: &str) -> Result<String> {
        let digest = sha256(&self.folder.join(package).join("manifest.json"))?;
        let path = self.repository().join("releases/stable.yaml");
        let text = fs::read_to_string(&path)?;
        let (before, rest) = text
            .split_once("manifest: sha256:")
            .context("the release pins nothing")?;
        let after = rest.split_once('\n').map_or("", |(_, after)| after);
        self.write(
            "releases/stable.yaml",
            &format!("{before}manifest: sha256:{digest}\n{after}"),
        )?;
        self.push(&format!("stable: {package}"))
    }

    /// A folder of built things of the rack.
    #[must_use]
    pub fn package(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }
}

/// SHA-256 of a file, hex.
///
/// # Errors
/// When it cannot be read.
pub fn sha256(file: &Path) -> Result<String> {
    let said = output(Command::new("sha256sum").arg(file))?;
    let digest = said.split(' ').next().context("sha256sum says nothing")?;
    Ok(digest.to_owned())
}
