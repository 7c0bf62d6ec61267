// SPDX-License-Identifier: Apache-2.0
//! `racklet payload pin`, `artifact pin` and `bootstrap pin`: a package's digest into the rack's files.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use clap::Args;
use racklet_trust::manifest::Kind;

use super::judge::open;
use crate::answer::Pinned;
use crate::output::Output;
use crate::rack::{RackArgument, write};
use crate::template;

#[derive(Args)]
pub(crate) struct Pin {
    /// The package's folder
    directory: PathBuf,
    /// For a payload or a bootstrap: the release that is to boot it
    #[arg(long, value_name = "NAME", default_value = "stable")]
    release: String,
    #[command(flatten)]
    rack: RackArgument,
}

impl Pin {
    pub(crate) fn run(self, kind: Kind, output: Output) -> anyhow::Result<()> {
        let package = open(&self.directory, kind)?;
        let rack = self.rack.open()?;
        let (name, digest) = (
            package.manifest().name.clone(),
            package.digest().to_string(),
        );
        let state = rack.state()?;
        let mut changed = Vec::new();
        let mut uses = 0;
        // Files are edited as text, so that people's comments and order stay.
        let mut replace = |path: String, old: &str| -> anyhow::Result<()> {
            uses += 1;
            let full = rack.path(&path);
            let text =
                fs::read_to_string(&full).with_context(|| format!("read {}", full.display()))?;
            let edited = text.replace(old, &digest);
            if edited != text {
                fs::write(&full, edited).with_context(|| format!("write {}", full.display()))?;
                changed.push(path);
            }
            Ok(())
        };
        match kind {
            Kind::Payload => {
                let file = format!("releases/{}.yaml", self.release);
                match state
                    .releases
                    .iter()
                    .find(|(release, _)| release.as_str() == self.release)
                {
                    Some((_, release)) if release.payload.name.as_str() == name => {
                        replace(file, &release.payload.manifest.hex())?;
                    }
                    Some((_, release)) => {
                        bail!(
                            "{file} boots payload {}, not {name}; edit it or name another release with --release",
                            release.payload.name
                        )
                    }
                    None => {
                        racklet_rack::name::check("release", &self.release)?;
                        write(
                            rack.repository.path(),
                            &file,
                            template::release(&self.release, &name, &digest).as_bytes(),
                        )?;
                        // So that `git commit -a` takes the new file too.
                        rack.repository
                            .run(["add", "--intent-to-add", "--", &file])?;
                        uses += 1;
                        changed.push(file);
                    }
                }
            }
            Kind::Bootstrap => {
                let file = format!("releases/{}.yaml", self.release);
                let found = state.releases.iter();
                let mut found = found.filter(|(release, _)| release.as_str() == self.release);
                let (_, release) = found.next().with_context(|| {
                    format!("there is no {file}; pin a payload first: racklet payload pin DIR")
                })?;
                match &release.bootstrap {
                    Some(pin) if pin.name.as_str() == name => replace(file, &pin.manifest.hex())?,
                    Some(pin) => bail!(
                        "{file} has bootstrap {}, not {name}; edit it or name another release with --release",
                        pin.name
                    ),
                    None => {
                        uses += 1;
                        append(&rack.path(&file), &template::bootstrap(&name, &digest))?;
                        changed.push(file);
                    }
                }
            }
            Kind::Artifact => {
                for (workload, found) in state
                    .workloads
                    .iter()
                    .filter(|(_, found)| found.rootfs.name.as_str() == name)
                {
                    replace(
                        format!("workloads/{workload}.yaml"),
                        &found.rootfs.manifest.hex(),
                    )?;
                }
            }
        }
        if uses == 0 {
            bail!(
                "no workload uses artifact {name}; write this into one:\n  rootfs:\n    artifact: {name}\n    manifest: sha256:{digest}"
            );
        }
        let text = if changed.is_empty() {
            format!("sha256:{digest} is pinned already")
        } else {
            format!(
                "pinned sha256:{digest} in {}\n\nnext: racklet plan, then git add -A && git commit && git push",
                changed.join(", ")
            )
        };
        let manifest = digest;
        output.answer(&text, &Pinned { manifest, changed });
        Ok(())
    }
}

/// Adds lines of a release's `spec` to its file, which ends with the `spec` in every file of ours. Where a person wrote it otherwise, the file
/// stays as it was.
fn append(path: &Path, lines: &str) -> anyhow::Result<()> {
    let shown = path.display();
    let text = fs::read_to_string(path).with_context(|| format!("read {shown}"))?;
    let apart = if text.ends_with('\n') { "" } else { "\n" };
    let edited = format!("{text}{apart}{lines}");
    let after_spec = text
        .lines()
        .skip_while(|line| line.trim_end() != "spec:")
        .skip(1);
    let indented = |line: &str| line.is_empty() || line.starts_with("  ") || line.starts_with('#');
    if !text.lines().any(|line| line.trim_end() == "spec:") || !{ after_spec }.all(indented) {
        bail!("write this into the `spec` of {shown}:\n{lines}");
    }
    fs::write(path, edited).with_context(|| format!("write {shown}"))
}
