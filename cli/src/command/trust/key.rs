// SPDX-License-Identifier: Apache-2.0
//! `racklet key`: the user's SSH keys, and giving and taking roles.

use std::path::PathBuf;

use anyhow::{Context, bail};
use clap::{Args, Subcommand};
use racklet_trust::Role;
use racklet_wire::access::{Holder, LONGEST_NAME};

use super::role::ROLES;
use super::role::role_named;
use super::rotate::{Changes, Signing, change};
use crate::answer::{Certified, Enrolled, KeyListed, KeyMade, KeyShown};
use crate::authority::{self, Authority};
use crate::output::Output;
use crate::rack::RackArgument;
use crate::ssh;

/// Your signing keys.
///
/// They are ordinary SSH keys of type Ed25519, in a file, in the agent or on a FIDO token. Signing is always done by
/// ssh-keygen; Racklet never reads a private key of yours.
#[derive(Subcommand)]
pub(crate) enum Key {
    /// List the keys you have that Racklet can use, and their roles in this rack
    List {
        #[command(flatten)]
        rack: RackArgument,
    },
    /// Make a new key with ssh-keygen
    Generate(Generate),
    /// Show the fingerprint of a key
    Fingerprint {
        /// Key file, or the public key itself
        key: String,
    },
    /// Give roles to a key: prepares, signs and commits the next trust root
    Add(Change),
    /// Take roles from a key: prepares, signs and commits the next trust root
    Remove(Removal),
    /// Let somebody in to the controllers, with a certificate of this rack's own authority
    Issue(Issue),
    /// Make what a tray's BMC is given once: its key, its certificate, whom it lets in
    Enrol(Enrol),
}

#[derive(Args)]
pub(crate) struct Generate {
    /// Where to put it; ~/.ssh/id_ed25519 (or id_ed25519_sk) when left out
    #[arg(value_name = "FILE")]
    path: Option<PathBuf>,
    /// A remark in the public key, such as your address
    #[arg(long, default_value = "racklet")]
    comment: String,
    /// Keep the key on a FIDO token, which has to be touched for every signature
    #[arg(long)]
    token: bool,
    /// Do not protect the file with a passphrase; for machines only
    #[arg(long)]
    no_passphrase: bool,
}

#[derive(Args)]
pub(crate) struct Change {
    /// Key file, fingerprint, or the public key itself
    #[arg(value_name = "KEY")]
    name: String,
    /// Which role; repeat for more
    #[arg(long, required = true, value_parser = role_named)]
    role: Vec<Role>,
    #[command(flatten)]
    signing: Signing,
    #[command(flatten)]
    rack: RackArgument,
}

#[derive(Args)]
pub(crate) struct Removal {
    #[command(flatten)]
    change: Change,
    /// Do not ask, even if none of your keys may change what runs afterwards
    #[arg(long)]
    yes: bool,
}

/// The authority is made with the first certificate. It, certificates and their keys are kept with you, and nobody else can
/// read them; the rack repository has none of it.
#[derive(Args)]
pub(crate) struct Issue {
    /// Whose it is: letters, digits, `.`, `_`, `-` and `@`; others see the name when they share a console
    name: String,
    /// What it is good for: viewer (looks), operator (types, switches power) or owner
    #[arg(long, value_parser = authority::role_named)]
    role: racklet_wire::access::Role,
    /// For how long, in days
    #[arg(long, default_value_t = 365)]
    days: u16,
    #[command(flatten)]
    rack: RackArgument,
}

#[derive(Args)]
pub(crate) struct Enrol {
    /// The tray whose BMC it is
    tray: String,
    /// Where the vault goes: a file of 8 KiB for the BMC's flash, which nobody else may read
    #[arg(long, short, value_name = "FILE")]
    output: PathBuf,
    #[command(flatten)]
    rack: RackArgument,
}

impl Change {
    /// Each role, with the key.
    fn asked(&self) -> Vec<(Role, String)> {
        let role = |role: &Role| (*role, self.name.clone());
        self.role.iter().map(role).collect()
    }
}

impl Key {
    pub(crate) fn run(self, output: Output) -> anyhow::Result<()> {
        match self {
            Key::List { rack } => list(&rack, output),
            Key::Generate(generate) => generate.run(output),
            Key::Fingerprint { key } => {
                let key = ssh::find(&key)?;
                let fingerprint = key.public.fingerprint();
                output.answer(&fingerprint, &KeyShown::of(&key.public));
                Ok(())
            }
            Key::Add(this) => {
                let changes = Changes {
                    add: this.asked(),
                    ..Changes::default()
                };
                change(&this.rack.open()?, &changes, &this.signing, output)
            }
            Key::Remove(Removal { change: this, yes }) => {
                let changes = Changes {
                    remove: this.asked(),
                    yes,
                    ..Changes::default()
                };
                change(&this.rack.open()?, &changes, &this.signing, output)
            }
            Key::Issue(issue) => issue.run(output),
            Key::Enrol(enrol) => enrol.run(output),
        }
    }
}

/// The authority of this rack.
fn authority_of(rack: &RackArgument) -> anyhow::Result<Authority> {
    let (root, _) = rack.open()?.trust()?;
    Authority::open(&root.rack().to_string())
}

impl Issue {
    fn run(self, output: Output) -> anyhow::Result<()> {
        let holder = Holder::new(self.role, &self.name).with_context(|| {
            format!(
                "{:?} cannot be in a certificate: 1 to {LONGEST_NAME} letters, digits, `.`, `_`, `-` and `@`",
                self.name
            )
        })?;
        let issued = authority_of(&self.rack)?.issue(&holder, self.days)?;
        let text = format!(
            "{} is let in as {} until {}\n  certificate {}\n  key         {}",
            self.name,
            self.role,
            issued.until,
            issued.certificate.display(),
            issued.key.display()
        );
        let value = Certified {
            name: self.name,
            role: self.role.to_string(),
            until: issued.until.to_string(),
            certificate: issued.certificate,
            key: issued.key,
        };
        output.answer(&text, &value);
        Ok(())
    }
}

impl Enrol {
    fn run(self, output: Output) -> anyhow::Result<()> {
        let rack = self.rack.open()?;
        let (state, _) = rack.valid_part()?;
        if !state.trays.keys().any(|tray| tray.as_str() == self.tray) {
            let known: Vec<&str> = state.trays.keys().map(|name| name.as_str()).collect();
            bail!(
                "the rack has no tray {}; it has: {}",
                self.tray,
                known.join(", ")
            );
        }
        let authority = authority_of(&self.rack)?;
        let now = u64::try_from(jiff::Timestamp::now().as_second())
            .context("this machine's clock is before 1970")?;
        let vault = authority.vault(&self.tray, now)?;
        authority::write_new(&self.output, &vault)?;
        let text = format!(
            "made {} for the BMC of {}: there is its private key in it, so remove it when the BMC has it",
            self.output.display(),
            self.tray
        );
        let value = Enrolled {
            tray: self.tray,
            vault: self.output,
            authority: authority.certificate(),
        };
        output.answer(&text, &value);
        Ok(())
    }
}

fn list(rack: &RackArgument, output: Output) -> anyhow::Result<()> {
    let root = rack
        .find()?
        .and_then(|rack| rack.trust().ok())
        .map(|(root, _)| root);
    let keys = ssh::available();
    let mut text = String::new();
    let mut values = Vec::new();
    for key in &keys {
        let roles: Vec<String> = ROLES
            .iter()
            .filter(|(role, _)| {
                root.as_ref()
                    .is_some_and(|root| root.role(*role).keys.contains(&key.public))
            })
            .map(|(role, _)| role.to_string())
            .collect();
        let place = match (&key.path, key.in_agent) {
            (Some(path), true) => format!("{} and agent", path.display()),
            (Some(path), false) => path.display().to_string(),
            (None, _) => "agent".to_owned(),
        };
        text.push_str(&format!(
            "{}  {}\n  {place}",
            key.public.fingerprint(),
            key.comment
        ));
        if !roles.is_empty() {
            text.push_str(&format!("\n  roles in this rack: {}", roles.join(", ")));
        }
        text.push('\n');
        values.push(KeyListed {
            key: KeyShown::of(&key.public),
            comment: key.comment.clone(),
            path: key.path.clone(),
            agent: key.in_agent,
            roles,
        });
    }
    if keys.is_empty() {
        text = "no Ed25519 key in ~/.ssh or in the agent; make one with `racklet key generate`"
            .to_owned();
    }
    output.answer(&text, &values);
    Ok(())
}

impl Generate {
    fn run(self, output: Output) -> anyhow::Result<()> {
        let path = match self.path {
            Some(path) => path,
            None => {
                let home = PathBuf::from(
                    std::env::var_os("HOME").context("HOME is not set; name a file")?,
                );
                home.join(".ssh").join(if self.token {
                    "id_ed25519_sk"
                } else {
                    "id_ed25519"
                })
            }
        };
        if path.exists() {
            bail!("{} exists already; name another file", path.display());
        }
        let key = ssh::generate(&path, &self.comment, self.token, self.no_passphrase)?;
        let text = format!(
            "made {}\n  public key  {}.pub\n  fingerprint {}",
            path.display(),
            path.display(),
            key.public.fingerprint()
        );
        output.answer(
            &text,
            &KeyMade {
                key: KeyShown::of(&key.public),
                path,
            },
        );
        Ok(())
    }
}
