// SPDX-License-Identifier: Apache-2.0
//! `Tray`: one computer of the rack.

use super::{Kind, Parsed, Place, Spec};
use crate::capacity::OVERCOMMIT;
use crate::located::Located;
use crate::name::check_board;
use crate::report::Report;
use crate::values::{Memory, Name};
use racklet_trust::PublicKey;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

impl Spec for TraySpec {
    const KIND: Kind = Kind {
        name: "Tray",
        noun: "tray",
        place: Place::Folder("trays"),
        about: "one file for each tray",
    };
}

/// One tray: `trays/<name>.yaml`.
#[derive(Debug, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(crate) struct TraySpec {
    /// The board it is built on, for example `qemu-x86_64`.
    pub(crate) board: String,
    /// Its memory, for example `4Gi`: `racklet check` then refuses workloads that find no room. The tray goes by what it has.
    #[serde(default)]
    pub(crate) memory: Option<Located<Memory>>,
    /// How many percent of the memory that it has for workloads may be promised to them together (100 to 200; 100 where it is left out). What
    /// they do not use others can have; where they all use what they were promised, Linux ends one.
    #[serde(default)]
    pub(crate) overcommit: Option<Located<u32>>,
    /// Its processors (1 to 1024): `racklet check` then refuses workloads with more.
    #[serde(default)]
    pub(crate) cpus: Option<Located<u32>>,
    /// The tray's public key (`ssh-ed25519 AAAA…`), by which its API is recognised.
    #[serde(default)]
    pub(crate) identity: Option<Located<String>>,
}

/// One tray.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Tray {
    /// The board it is built on.
    pub board: String,
    /// How much memory it is said to have.
    #[serde(default)]
    pub memory: Option<Memory>,
    /// How many percent of its memory for workloads may be promised to them.
    #[serde(default)]
    pub overcommit: Option<u32>,
    /// How many processors it is said to have.
    #[serde(default)]
    pub cpus: Option<u32>,
    /// Its public key, `ssh-ed25519 AAAA…`.
    pub identity: Option<String>,
    /// Free labels.
    pub labels: BTreeMap<String, String>,
    /// The release that covers it, if any.
    pub release: Option<Name>,
}

/// The tray, without a release, which other objects give to it.
pub(crate) fn check(parsed: &Parsed<TraySpec>, report: &mut Report<'_>) -> Tray {
    let file = &parsed.file;
    let spec = &parsed.object.spec;
    if check_board(&spec.board).is_err() {
        let message = "spec.board: write a board's name, for example qemu-x86_64";
        report.fault(file, parsed.name().at, message);
    }
    let identity = spec.identity.as_ref().and_then(|text| {
        let identity = identity(&text.value);
        if identity.is_none() {
            let message = "spec.identity: write the tray's public key, `ssh-ed25519 AAAA…`, as `racklet image build` prints it";
            report.fault(file, text.at, message);
        }
        identity
    });
    let cpus = spec.cpus.as_ref();
    if let Some(cpus) = cpus.filter(|cpus| !(1..=1024).contains(&cpus.value)) {
        let message = format!("spec.cpus is {}, it must be 1 to 1024", cpus.value);
        report.fault(file, cpus.at, message);
    }
    let overcommit = spec.overcommit.as_ref();
    if let Some(percent) = overcommit.filter(|percent| !OVERCOMMIT.contains(&percent.value)) {
        let (least, most) = (OVERCOMMIT.start(), OVERCOMMIT.end());
        let message = format!(
            "spec.overcommit is {}, it must be {least} to {most} (percent)",
            percent.value
        );
        report.fault(file, percent.at, message);
    }
    Tray {
        board: spec.board.clone(),
        memory: spec.memory.as_ref().map(|memory| memory.value),
        overcommit: overcommit.map(|percent| percent.value),
        cpus: cpus.map(|cpus| cpus.value),
        identity,
        labels: parsed.object.metadata.labels(),
        release: None,
    }
}

/// The key without its comment. A tray's key is in its image, so it is none on a FIDO token.
fn identity(text: &str) -> Option<String> {
    let key: PublicKey = text.parse().ok()?;
    (key.algorithm() == "ssh-ed25519").then(|| key.to_string())
}

#[cfg(test)]
mod tests {
    use crate::testing::refused;

    #[test]
    fn what_a_tray_cannot_say_is_refused_with_place_and_remedy() {
        refused(
            "trays/tray-1.yaml",
            &[
                (
                    "qemu-x86_64",
                    "-x",
                    "trays/tray-1.yaml:4:9: spec.board: write a board's name",
                ),
                // All zeros: a point of small order, whose signatures prove nothing.
                (
                    "board: qemu-x86_64",
                    "board: qemu-x86_64\n  identity: ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
                    "trays/tray-1.yaml:8:13: spec.identity: write the tray's public key",
                ),
                (
                    "board: qemu-x86_64",
                    "board: qemu-x86_64\n  overcommit: 99",
                    "trays/tray-1.yaml:8:15: spec.overcommit is 99, it must be 100 to 200",
                ),
                (
                    "board: qemu-x86_64",
                    "board: qemu-x86_64\n  identity: ssh-rsa AAAA",
                    "trays/tray-1.yaml:8:13: spec.identity: write the tray's public key",
                ),
            ],
        );
    }
}
