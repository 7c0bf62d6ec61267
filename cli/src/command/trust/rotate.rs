// SPDX-License-Identifier: Apache-2.0
//! The next version of the trust root: made, signed and committed.
//!
//! ```text
//! rotate ──> trust/<n+1>/root.json ──sign (one or more people)──> enough of n's and of its own root keys ──> commit
//! ```

use std::fs;
use std::io::{self, IsTerminal as _};

use anyhow::{Context, bail};
use clap::Args;
use racklet_tell::text::count;
use racklet_trust::root::{RoleKeys, Roles};
use racklet_trust::sshsig::SshSig;
use racklet_trust::{PublicKey, Role, TrustRoot, Verified, namespace};

use super::role::{role_and_key, threshold};
use crate::answer::RootStep;
use crate::command::rack::signing::set_allowed_signers;
use crate::output::Output;
use crate::rack::{Rack, RackArgument, RootFiles, read_signatures, write};
use crate::ssh::{self, Key};

#[derive(Args)]
pub(crate) struct Rotate {
    /// Give a role to a key, such as `config=~/.ssh/anna.pub`; repeat for more
    #[arg(long, value_name = "ROLE=KEY", value_parser = role_and_key)]
    pub(super) add: Vec<(Role, String)>,
    /// Take a role from a key, such as `config=SHA256:…`; repeat for more
    #[arg(long, value_name = "ROLE=KEY", value_parser = role_and_key)]
    pub(super) remove: Vec<(Role, String)>,
    /// How many keys of a role have to agree from now on, such as `root=2`
    #[arg(long, value_name = "ROLE=N", value_parser = threshold)]
    pub(super) threshold: Vec<(Role, u8)>,
    /// Do not ask, even if none of your keys may change what runs afterwards
    #[arg(long)]
    pub(super) yes: bool,
    #[command(flatten)]
    pub(super) signing: Signing,
    #[command(flatten)]
    pub(super) rack: RackArgument,
}

/// How a new version is signed and committed.
#[derive(Args)]
pub(crate) struct Signing {
    /// Sign with this key; all root keys at hand when left out
    #[arg(long)]
    key: Vec<String>,
    /// Leave the commit to you
    #[arg(long)]
    no_commit: bool,
}

/// What the next version has that the present one has not.
#[derive(Default)]
pub(crate) struct Changes {
    pub(crate) add: Vec<(Role, String)>,
    pub(crate) remove: Vec<(Role, String)>,
    pub(crate) threshold: Vec<(Role, u8)>,
    /// Even if the user can change nothing afterwards.
    pub(crate) yes: bool,
}

/// Makes the next version of the trust root, then signs it.
pub(crate) fn change(
    rack: &Rack,
    changes: &Changes,
    signing: &Signing,
    output: Output,
) -> anyhow::Result<()> {
    let _guard = crate::interrupt::guard();
    let root = rack.head()?.root.clone();
    if let Some((files, _)) = rack.pending(&root)? {
        bail!(
            "version {} is being prepared already; finish it with `racklet trust sign` or remove {}",
            files.version,
            files.folder.display()
        );
    }
    let roles = changed(&root, changes)?;
    if roles == *root.roles() {
        bail!("nothing would change; see `racklet trust rotate --help`");
    }
    if !changes.yes && locks_out(&root.roles().config, &roles.config) {
        confirm()?;
    }
    let version = root.version() + 1;
    let next = TrustRoot::new(root.rack(), version, roles).context("make the next version")?;
    write(
        rack.repository.path(),
        &format!("trust/{version}/root.json"),
        &next.to_canonical(),
    )?;
    let files = rack
        .root_files()?
        .pop()
        .context("the version just written")?;
    sign(rack, &root, files, signing, output)
}

/// Whether one of the keys here is a config key `before`, and none is one `after`.
fn locks_out(before: &RoleKeys, after: &RoleKeys) -> bool {
    let mine = ssh::available();
    let any = |role: &RoleKeys| mine.iter().any(|key| role.keys.contains(&key.public));
    any(before) && !any(after)
}

/// Asks whoever is about to take their own right to change what runs.
fn confirm() -> anyhow::Result<()> {
    let warning = "none of the keys you have here would be a config key any more: trays would refuse every commit of yours, also the one that takes this back";
    if !io::stdin().is_terminal() {
        bail!("{warning}; say --yes if that is meant");
    }
    eprint!("Afterwards {warning}.\nIs that meant (yes or no)? ");
    let mut answer = String::new();
    io::stdin()
        .read_line(&mut answer)
        .context("read the answer")?;
    match answer.trim() {
        "yes" => Ok(()),
        _ => bail!("nothing was changed"),
    }
}

/// The roles after the changes; pure.
fn changed(root: &TrustRoot, changes: &Changes) -> anyhow::Result<Roles> {
    let one = |role: Role| -> anyhow::Result<RoleKeys> {
        let mut keys = root.role(role).clone();
        for (_, name) in changes.remove.iter().filter(|(named, _)| *named == role) {
            let before = keys.keys.len();
            let public = ssh::find(name).ok().map(|key| key.public);
            keys.keys
                .retain(|key| key.fingerprint() != *name && Some(key) != public.as_ref());
            if keys.keys.len() == before {
                bail!("{name} is not a {role} key; see `racklet trust show`");
            }
        }
        for (_, name) in changes.add.iter().filter(|(named, _)| *named == role) {
            let key = ssh::find(name)?;
            if keys.keys.contains(&key.public) {
                bail!("{} is a {role} key already", key.shown());
            }
            keys.keys.push(key.public);
        }
        if let Some((_, count)) = changes
            .threshold
            .iter()
            .rev()
            .find(|(named, _)| *named == role)
        {
            keys.threshold = *count;
        }
        let have = keys.keys.len();
        if usize::from(keys.threshold) > have {
            let needed = count(u64::from(keys.threshold), "key");
            let first = changes.remove.iter().find(|(named, _)| *named == role);
            let cure = match (have, first) {
                // A role without keys could never be given to one again.
                (0, Some((_, gone))) => format!(
                    "give it to another key in the same step: racklet trust rotate --add {role}=NEW.pub --remove {role}={gone}"
                ),
                (0, None) => format!("add a key with --add {role}=NEW.pub"),
                _ => format!("add a key or lower it with --threshold {role}={have}"),
            };
            bail!("role {role} would need {needed} and have {have}; {cure}");
        }
        Ok(keys)
    };
    Ok(Roles {
        root: one(Role::Root)?,
        config: one(Role::Config)?,
        payload: one(Role::Payload)?,
        firmware: one(Role::Firmware)?,
    })
}

pub(super) fn sign(
    rack: &Rack,
    root: &Verified<TrustRoot>,
    files: RootFiles,
    signing: &Signing,
    output: Output,
) -> anyhow::Result<()> {
    let next = TrustRoot::parse(&files.bytes)
        .with_context(|| files.folder.join("root.json").display().to_string())?;
    let may = |key: &PublicKey| {
        [root.role(Role::Root), next.role(Role::Root)]
            .iter()
            .any(|role| role.keys.contains(key))
    };
    let candidates: Vec<Key> = if signing.key.is_empty() {
        ssh::available()
            .into_iter()
            .filter(|key| may(&key.public))
            .collect()
    } else {
        signing
            .key
            .iter()
            .map(|name| ssh::find(name))
            .collect::<Result<_, _>>()?
    };
    let mut signatures: Vec<(PublicKey, Vec<u8>)> = Vec::new();
    for armored in files.signatures {
        let good = SshSig::parse(&armored)
            .and_then(|sig| sig.verify(namespace::TRUST_ROOT, &files.bytes).cloned());
        if let Ok(key) = good {
            signatures.push((key, armored));
        }
    }
    for key in candidates {
        if !may(&key.public) {
            bail!(
                "{} is a root key neither of version {} nor of version {}",
                key.shown(),
                root.version(),
                files.version
            );
        }
        if signatures.iter().any(|(signer, _)| *signer == key.public) {
            continue;
        }
        match ssh::sign(&key, namespace::TRUST_ROOT, &files.bytes) {
            Ok(armored) => signatures.push((key.public, armored)),
            Err(error) if signing.key.is_empty() => output.note(&format!("not signed: {error}")),
            Err(error) => return Err(error.into()),
        }
    }
    signatures.sort();
    let folder = files.folder.join("signatures");
    if folder.exists() {
        fs::remove_dir_all(&folder).with_context(|| format!("replace {}", folder.display()))?;
    }
    for (number, (_, armored)) in signatures.iter().enumerate() {
        write(&files.folder, &format!("signatures/{number}.sig"), armored)?;
    }

    let inside = format!("trust/{}", files.version);
    match root.advance(&files.bytes, &read_signatures(&folder)?) {
        Err(error) => {
            let text = format!(
                "wrote {inside}, signed by {} of the root keys; not enough yet: {}\n\nnext: have the others run `racklet trust sign` in their clone with this folder",
                signatures.len(),
                racklet_tell::error::chain(&error)
            );
            let step = RootStep {
                version: files.version,
                complete: false,
                signatures: signatures.len(),
                commit: None,
            };
            output.answer(&text, &step);
        }
        Ok(new) => {
            let committed = if signing.no_commit {
                None
            } else {
                Some(commit(rack, root, &inside, files.version)?)
            };
            set_allowed_signers(&rack.repository, &new)?;
            let next = match &committed {
                Some(id) => format!("committed as {id}\n\nnext: git push"),
                None => format!(
                    "next: git add {inside} && git commit -m 'trust: version {}' && git push",
                    files.version
                ),
            };
            let text = format!(
                "trust root version {} is complete ({})\n{next}",
                files.version,
                count(signatures.len() as u64, "signature")
            );
            let step = RootStep {
                version: files.version,
                complete: true,
                signatures: signatures.len(),
                commit: committed,
            };
            output.answer(&text, &step);
        }
    }
    Ok(())
}

/// The commit that brings the new version is judged by the old one.
fn commit(rack: &Rack, root: &TrustRoot, inside: &str, version: u64) -> anyhow::Result<String> {
    let key = rack
        .key(None, root, Role::Config)
        .context("sign the commit; use --no-commit and have a holder of a config key commit")?;
    rack.repository.run(["add", "--", inside])?;
    rack.repository.interactive([
        "-c",
        &format!("user.signingkey={}", key.git_signing_key()),
        "-c",
        "gpg.format=ssh",
        "commit",
        "--quiet",
        "-S",
        "-m",
        &format!("trust: version {version}"),
        "--",
        inside,
    ])?;
    Ok(rack.repository.text(["rev-parse", "HEAD"])?)
}
