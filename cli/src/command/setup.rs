// SPDX-License-Identifier: Apache-2.0
//! `racklet rack setup` and `add-tray`: a clone that signs, and one more tray.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, bail};
use clap::Args;
use racklet_fetch::rack::APPROVALS;
use racklet_trust::{Role, TrustRoot};

use super::init::write;
use crate::git::Repository;
use crate::output::Output;
use crate::rack::{CA_FILE, RackArgument};
use crate::ssh::Key;
use crate::{identity, template};

#[derive(Args)]
pub(crate) struct AddTray {
    /// The tray's name
    name: String,
    /// The board it is built on
    #[arg(long)]
    board: String,
    #[command(flatten)]
    rack: RackArgument,
}

#[derive(Args)]
pub(crate) struct Setup {
    /// Your key; the only one you have that may change the rack when left out
    #[arg(long)]
    key: Option<String>,
    #[command(flatten)]
    rack: RackArgument,
}

impl AddTray {
    pub(super) fn run(self, output: Output) -> anyhow::Result<()> {
        let rack = self.rack.open()?;
        let board = racklet_boards::find(&self.board)?;
        racklet_api::name::check("tray", &self.name)?;
        let file = format!("trays/{}.yaml", self.name);
        if rack.path(&file).exists() {
            bail!("{} exists already", rack.path(&file).display());
        }
        let (root, _) = rack.trust()?;
        let (public, path) = identity::make(&root.rack().to_string(), &self.name)?;
        write(
            rack.repository.path(),
            &file,
            template::tray(&self.name, &board.name, &public).as_bytes(),
        )?;
        let text = format!(
            "wrote {file}\n  key  {}\n\nnext:\n  git add {file} && git commit -m 'trays: {}' && git push",
            path.display(),
            self.name
        );
        output.answer(
            &text,
            &serde_json::json!({ "file": file, "identity": path }),
        );
        Ok(())
    }
}

impl Setup {
    pub(super) fn run(self, output: Output) -> anyhow::Result<()> {
        let rack = self.rack.open()?;
        let (root, _) = rack.trust()?;
        let key = rack.key(self.key.as_deref(), &root, Role::Config)?;
        set_up_signing(&rack.repository, &key)?;
        fetch_approvals(&rack.repository)?;
        set_allowed_signers(&rack.repository, &root)?;
        let ca = rack.path(CA_FILE);
        if ca.exists()
            && let Ok(url) = rack.repository.text(["remote", "get-url", "origin"])
        {
            rack.repository
                .set_config(&format!("http.{url}.sslCAInfo"), &ca.display().to_string())?;
        }
        let text = format!("commits are signed with {}", key.shown());
        output.answer(
            &text,
            &serde_json::json!({ "key": key.public.fingerprint() }),
        );
        Ok(())
    }
}

pub(super) fn set_up_signing(repository: &Repository, key: &Key) -> anyhow::Result<()> {
    repository.set_config("gpg.format", "ssh")?;
    repository.set_config("user.signingkey", &key.git_signing_key())?;
    repository.set_config("commit.gpgsign", "true")?;
    if repository.config("user.name").is_none() {
        repository.set_config(
            "user.name",
            &std::env::var("USER").unwrap_or_else(|_| "racklet".into()),
        )?;
    }
    if repository.config("user.email").is_none() {
        repository.set_config("user.email", "racklet@localhost")?;
    }
    Ok(())
}

/// So that `racklet check` sees what others approved after an ordinary `git fetch`.
pub(super) fn fetch_approvals(repository: &Repository) -> anyhow::Result<()> {
    if repository.config("remote.origin.url").is_none() {
        return Ok(());
    }
    let wanted = format!("+{APPROVALS}*:{APPROVALS}*");
    let present = repository
        .text(["config", "--get-all", "remote.origin.fetch"])
        .unwrap_or_default();
    if !present.lines().any(|line| line == wanted) {
        repository.run(["config", "--local", "--add", "remote.origin.fetch", &wanted])?;
    }
    Ok(())
}

/// So that `git log --show-signature` and `git verify-commit` know the config keys.
pub(super) fn set_allowed_signers(repository: &Repository, root: &TrustRoot) -> anyhow::Result<()> {
    let folder = PathBuf::from(repository.text(["rev-parse", "--absolute-git-dir"])?);
    let path = folder.join("allowed_signers");
    let line = |key: &racklet_trust::PublicKey| format!("config-key namespaces=\"git\" {key}\n");
    let lines: String = root.roles().config.keys.iter().map(line).collect();
    fs::write(&path, lines).with_context(|| format!("write {}", path.display()))?;
    repository.set_config("gpg.ssh.allowedSignersFile", &path.display().to_string())?;
    Ok(())
}
