// SPDX-License-Identifier: Apache-2.0
//! `racklet payload pin` and `artifact pin`: a package's digest into the rack's files.

use std::fs;
use std::path::PathBuf;

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
    /// For a payload: the release that is to boot it
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
            _ => {
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
