// SPDX-License-Identifier: Apache-2.0
//! Signing, showing and verifying packages of any kind.

use std::path::PathBuf;

use anyhow::Context;
use clap::Args;
use racklet_image::package::Package;
use racklet_trust::date::Utc;
use racklet_trust::manifest::Kind;
use racklet_trust::{Role, namespace};

use super::judge::{open, summary, usable};
use crate::answer::{PackageShown, PackageVerified, Signed};
use crate::output::{Output, size};
use crate::rack::RackArgument;
use crate::ssh;

#[derive(Args)]
pub(crate) struct Sign {
    /// The package's folder
    directory: PathBuf,
    /// Your key; the one that may when left out
    #[arg(long)]
    key: Option<String>,
    #[command(flatten)]
    rack: RackArgument,
}

#[derive(Args)]
pub(crate) struct Show {
    /// The package's folder
    directory: PathBuf,
}

#[derive(Args)]
pub(crate) struct Verify {
    /// The package's folder
    directory: PathBuf,
    #[command(flatten)]
    rack: RackArgument,
}

impl Sign {
    pub(crate) fn run(self, kind: Kind, output: Output) -> anyhow::Result<()> {
        let package = open(&self.directory, kind)?;
        let root = self
            .rack
            .find()?
            .map(|rack| rack.trust().map(|(root, _)| (rack, root)))
            .transpose()?;
        let key = match (&root, &self.key) {
            (Some((rack, root)), named) => rack.key(named.as_deref(), root, kind.role())?,
            (None, Some(name)) => ssh::find(name)?,
            (None, None) => ssh::default(|_| true)?,
        };
        let armored = ssh::sign(&key, namespace::MANIFEST, package.manifest_bytes())?;
        let signer = package.add_signature(&armored)?;
        let count = package.signatures()?.len();
        let needed = root
            .as_ref()
            .map(|(_, root)| root.role(kind.role()).threshold);
        let (name, place) = (&package.manifest().name, self.directory.display());
        let next = match needed {
            Some(needed) if count < usize::from(needed) => {
                format!(
                    "{count} of {needed} signatures; have the others run `racklet {kind} sign` on this folder"
                )
            }
            _ if kind == Kind::Bootstrap => {
                format!(
                    "next: racklet bootstrap publish {place}, or racklet image build --bootstrap {place} …"
                )
            }
            _ => format!("next: racklet {kind} publish {place}"),
        };
        let text = format!("signed {kind} {name} with {}\n{next}", key.shown());
        let answer = Signed {
            signer: signer.fingerprint(),
            signatures: count,
            needed,
        };
        output.answer(&text, &answer);
        Ok(())
    }
}

impl Show {
    pub(crate) fn run(self, output: Output) -> anyhow::Result<()> {
        let package = Package::open(&self.directory)?;
        let manifest = package.manifest();
        let mut signers = Vec::new();
        for (path, armored) in package.signatures()? {
            let signer = racklet_trust::sshsig::SshSig::parse(&armored).and_then(|sig| {
                sig.verify(namespace::MANIFEST, package.manifest_bytes())
                    .map(|key| key.fingerprint())
            });
            signers.push(signer.with_context(|| path.display().to_string())?);
        }
        let mut text = format!(
            "{} {} version {}\n  manifest      sha256:{}\n  architecture  {}\n",
            manifest.kind,
            manifest.name,
            manifest.version,
            package.digest(),
            manifest.architecture
        );
        let mut line = |name: &str, value: String| {
            if !value.is_empty() {
                text.push_str(&format!("  {name:<12}  {value}\n"));
            }
        };
        line("boards", manifest.boards.join(", "));
        line("created", Utc(manifest.created).to_string());
        line(
            "expires",
            manifest
                .expires
                .map(|time| Utc(time).to_string())
                .unwrap_or_default(),
        );
        line("arguments", manifest.arguments.clone());
        for (name, value) in &manifest.source {
            line("source", format!("{name} {value}"));
        }
        for file in &manifest.files {
            line(
                "file",
                format!(
                    "{} {} in {} chunks, sha256:{}",
                    file.name,
                    size(file.size),
                    file.chunks.len(),
                    file.sha256
                ),
            );
        }
        line("to fetch", size(package.transfer_size()));
        line(
            "signed by",
            if signers.is_empty() {
                "nobody yet".to_owned()
            } else {
                signers.join(", ")
            },
        );
        let package = summary(&package);
        output.answer(&text, &PackageShown { package, signers });
        Ok(())
    }
}

impl Verify {
    pub(crate) fn run(self, kind: Kind, output: Output) -> anyhow::Result<()> {
        let package = open(&self.directory, kind)?;
        let (root, _) = self.rack.open()?.trust()?;
        let manifest = package.verify(&root).with_context(|| {
            format!(
                "a tray of this rack would refuse {}",
                self.directory.display()
            )
        })?;
        usable(&package)?;
        let role: Role = kind.role();
        let text = format!(
            "{kind} {} version {} is signed by enough {role} keys and complete",
            manifest.name, manifest.version
        );
        let answer = PackageVerified {
            ok: true,
            manifest: package.digest().to_string(),
        };
        output.answer(&text, &answer);
        Ok(())
    }
}
