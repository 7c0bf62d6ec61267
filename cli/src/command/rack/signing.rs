// SPDX-License-Identifier: Apache-2.0
//! What a clone of a rack needs so that Git signs its commits and knows who may.

use std::fs;
use std::path::PathBuf;

use anyhow::Context;
use racklet_trust::TrustRoot;

use crate::git::Repository;
use crate::ssh::Key;

pub(crate) fn set_up_signing(repository: &Repository, key: &Key) -> anyhow::Result<()> {
    repository.set_config("gpg.format", "ssh")?;
    repository.set_config("user.signingkey", &key.git_signing_key())?;
    repository.set_config("commit.gpgsign", "true")?;
    Ok(())
}

/// What to do where Git does not know who commits.
pub(crate) const NAMELESS: &str = "Git does not know your name: git config --global user.name 'Your Name' && git config --global user.email you@example.org";

/// Whether Git would not commit for want of a name.
pub(crate) fn nameless(repository: &Repository) -> bool {
    ["user.name", "user.email"]
        .iter()
        .any(|name| repository.config(name).is_none())
}

/// So that `git log --show-signature` and `git verify-commit` know the config keys.
pub(crate) fn set_allowed_signers(repository: &Repository, root: &TrustRoot) -> anyhow::Result<()> {
    let folder = PathBuf::from(repository.text(["rev-parse", "--absolute-git-dir"])?);
    let path = folder.join("allowed_signers");
    let line = |key: &racklet_trust::PublicKey| format!("config-key namespaces=\"git\" {key}\n");
    let lines: String = root.roles().config.keys.iter().map(line).collect();
    fs::write(&path, lines).with_context(|| format!("write {}", path.display()))?;
    repository.set_config("gpg.ssh.allowedSignersFile", &path.display().to_string())?;
    Ok(())
}
