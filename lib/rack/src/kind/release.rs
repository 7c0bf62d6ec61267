// SPDX-License-Identifier: Apache-2.0
//! `Release`: which operating system trays boot.

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
    pub(crate) payload: PayloadSpec,
    /// Which trays boot it; all when left out.
    #[serde(default)]
    pub(crate) rollout: Option<Located<TraysSpec>>,
}

/// A payload, pinned by its manifest's digest.
#[derive(Debug, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(crate) struct PayloadSpec {
    /// The payload's name: it is fetched from the branch `payload/<name>`.
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
    /// The trays that boot it.
    pub trays: Vec<Name>,
}

/// The release for `trays`, which other objects are.
pub(crate) fn check(parsed: &Parsed<ReleaseSpec>, trays: Vec<Name>) -> Release {
    let payload = &parsed.object.spec.payload;
    Release {
        payload: Pin {
            name: payload.name.clone(),
            manifest: payload.manifest,
            repository: payload.repository.clone(),
        },
        trays,
    }
}

#[cfg(test)]
mod tests {
    use crate::testing::refused;

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
