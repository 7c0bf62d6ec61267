// SPDX-License-Identifier: Apache-2.0
//! `racklet payload`, `artifact` and `bootstrap`: build, sign, verify, publish and pin.

mod build;
mod firmware;
mod hosts;
pub(super) mod judge;
mod pin;
mod prune;
mod publish;
mod sign;

use clap::Subcommand;
use racklet_trust::manifest::Kind;

use crate::output::Output;
use build::{ArtifactBuild, KernelBuild};
use pin::Pin;
use prune::Prune;
use publish::Publish;
use sign::{Show, Sign, Verify};

/// Operating system releases: a kernel and an initramfs that trays start after verifying them.
#[derive(Subcommand)]
pub(crate) enum Payload {
    /// Build a payload from a kernel and an initramfs
    Build(KernelBuild),
    /// Add your signature
    Sign(Sign),
    /// Show what it is and who signed it
    Show(Show),
    /// Say whether a tray of this rack would take it
    Verify(Verify),
    /// Commit it to branch payload/<name> and push
    Publish(Publish),
    /// Write its digest into releases/<release>.yaml of the rack
    Pin(Pin),
}

/// Workload images: read-only root file systems for microVMs.
#[derive(Subcommand)]
pub(crate) enum Artifact {
    /// Build an image from a directory or a tar archive
    ///
    /// An archive may be compressed with gzip or zstd, and `-` reads it from standard input, so that a container becomes
    /// a workload with: podman export NAME | racklet artifact build --from - --name web -o web
    ///
    /// File capabilities are kept. What an image does not keep (ACLs, SELinux labels, other extended attributes) is
    /// counted in the answer.
    Build(ArtifactBuild),
    /// Add your signature
    Sign(Sign),
    /// Show what it is and who signed it
    Show(Show),
    /// Say whether a tray of this rack would take it
    Verify(Verify),
    /// Commit it to branch artifact/<name> and push
    Publish(Publish),
    /// Write its digest into the workloads that use it
    Pin(Pin),
    /// Remove images from the server that no commit of the last days pins
    ///
    /// Versions stay on the server, and in the clone they were published from, until this command removes them. Kept are all
    /// that are named by commits of the rack's branches in the last --days days, by the commit in force before these, or by the
    /// work tree, and the newest version on each branch. Start with --dry-run.
    Prune(Prune),
}

/// What the boot partition starts first: a small kernel and initramfs that fetch and verify the payload.
#[derive(Subcommand)]
pub(crate) enum Bootstrap {
    /// Build a bootstrap from a kernel and an initramfs
    Build(KernelBuild),
    /// Add your signature
    Sign(Sign),
    /// Show what it is and who signed it
    Show(Show),
    /// Say whether a bootloader of this rack would take it
    Verify(Verify),
    /// Commit it to branch bootstrap/<name> and push
    Publish(Publish),
    /// Write its digest into releases/<release>.yaml of the rack, beside the payload
    Pin(Pin),
}

impl Payload {
    pub(crate) fn run(self, output: Output) -> anyhow::Result<()> {
        match self {
            Payload::Build(build) => build.run(Kind::Payload, output),
            Payload::Sign(sign) => sign.run(Kind::Payload, output),
            Payload::Show(show) => show.run(output),
            Payload::Verify(verify) => verify.run(Kind::Payload, output),
            Payload::Publish(publish) => publish.run(Kind::Payload, output),
            Payload::Pin(pin) => pin.run(Kind::Payload, output),
        }
    }
}

impl Artifact {
    pub(crate) fn run(self, output: Output) -> anyhow::Result<()> {
        match self {
            Artifact::Build(build) => build.run(output),
            Artifact::Sign(sign) => sign.run(Kind::Artifact, output),
            Artifact::Show(show) => show.run(output),
            Artifact::Verify(verify) => verify.run(Kind::Artifact, output),
            Artifact::Publish(publish) => publish.run(Kind::Artifact, output),
            Artifact::Pin(pin) => pin.run(Kind::Artifact, output),
            Artifact::Prune(prune) => prune.run(output),
        }
    }
}

impl Bootstrap {
    pub(crate) fn run(self, output: Output) -> anyhow::Result<()> {
        match self {
            Bootstrap::Build(build) => build.run(Kind::Bootstrap, output),
            Bootstrap::Sign(sign) => sign.run(Kind::Bootstrap, output),
            Bootstrap::Show(show) => show.run(output),
            Bootstrap::Verify(verify) => verify.run(Kind::Bootstrap, output),
            Bootstrap::Publish(publish) => publish.run(Kind::Bootstrap, output),
            Bootstrap::Pin(pin) => pin.run(Kind::Bootstrap, output),
        }
    }
}
