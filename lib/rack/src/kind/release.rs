// SPDX-License-Identifier: Apache-2.0
//! `Release`: which operating system trays boot, and which bootstrap starts it.

use super::{Kind, Parsed, Place, Spec};
use crate::located::Located;
use crate::state::Pin;
use crate::values::{ManifestDigest, Name, RepositoryUrl};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

impl Spec for ReleaseSpec {
    const KIND: Kind = Kind {
        name: "Release",
        noun: "release",
        place: Place::Folder("releases"),
        about: "which operating system trays boot",
    };
}

/// One operating system release: `releases/<name>.yaml`.
#[derive(Debug, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(crate) struct ReleaseSpec {
    /// The payload that is booted.
    pub(crate) payload: PackageSpec,
    /// The bootstrap that the boot partition starts first; trays keep theirs when left out.
    #[serde(default)]
    pub(crate) bootstrap: Option<PackageSpec>,
    /// Which trays boot it; all when left out.
    #[serde(default)]
    pub(crate) rollout: Option<Located<TraysSpec>>,
}

/// A payload or a bootstrap, pinned by its manifest's digest.
#[derive(Debug, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(crate) struct PackageSpec {
    /// Its name: it is fetched from the branch `payload/<name>` or `bootstrap/<name>`.
    pub(crate) name: Name,
    /// SHA-256 of its manifest.
    pub(crate) manifest: ManifestDigest,
    /// Where it is fetched from; the rack repository when left out.
    #[serde(default)]
    pub(crate) repository: Option<RepositoryUrl>,
}

/// A choice of trays: by name, by labels, or both.
#[derive(Debug, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(crate) struct TraysSpec {
    /// These trays.
    #[serde(default)]
    pub(crate) trays: Vec<Located<Name>>,
    /// And those with all of these labels.
    #[serde(default)]
    pub(crate) match_labels: BTreeMap<String, String>,
}

/// One operating system release.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Release {
    /// What is booted.
    pub payload: Pin,
    /// What starts it; `None`: whatever trays have.
    pub bootstrap: Option<Pin>,
    /// The trays that boot it.
    pub trays: Vec<Name>,
}

/// The release for `trays`, which other objects are.
pub(crate) fn check(parsed: &Parsed<ReleaseSpec>, trays: Vec<Name>) -> Release {
    let spec = &parsed.object.spec;
    let pin = |package: &PackageSpec| Pin {
        name: package.name.clone(),
        manifest: package.manifest,
        repository: package.repository.clone(),
    };
    Release {
        payload: pin(&spec.payload),
        bootstrap: spec.bootstrap.as_ref().map(pin),
        trays,
    }
}

#[cfg(test)]
mod tests {
    use crate::testing::{RELEASE, good, name, refused, state};

    #[test]
    fn a_bootstrap_is_pinned_beside_the_payload_for_the_same_trays() {
        let mut files = good();
        let digest = "b".repeat(64);
        let text = format!("{RELEASE}  bootstrap: {{name: boot, manifest: sha256:{digest}}}\n");
        files.insert("releases/stable.yaml".into(), text);
        let state = state(&files);
        let wanted = crate::resolve(&state, &name("tray-1")).expect("exists");
        assert_eq!(wanted.bootstrap.map(|pin| pin.name), Some(name("boot")));
        let before = crate::resolve(&crate::testing::state(&good()), &name("tray-1"));
        assert_eq!(before.expect("exists").bootstrap, None);
    }

    #[test]
    fn a_bootstrap_that_cannot_be_meant_is_refused_with_place_and_remedy() {
        refused(
            "releases/stable.yaml",
            &[
                (
                    "spec:\n",
                    "spec:\n  bootstrap: {name: boot}\n",
                    "releases/stable.yaml:5:14: spec.bootstrap: `manifest` is missing",
                ),
                (
                    "spec:\n",
                    "spec:\n  bootstrap: {name: boot, version: 3}\n",
                    "releases/stable.yaml:5:",
                ),
            ],
        );
    }

    #[test]
    fn a_rollout_to_an_unknown_tray_is_refused_with_place_and_remedy() {
        refused(
            "releases/stable.yaml",
            &[(
                "spec:\n",
                "spec:\n  rollout: {trays: [tray-9]}\n",
                "releases/stable.yaml:5:21: there is no tray `tray-9`; did you mean `tray-1`?",
            )],
        );
    }
}
