// SPDX-License-Identifier: Apache-2.0
//! `Rack`: the rack as a whole.

use super::{Kind, Parsed, Place, Spec};
use crate::located::Located;
use crate::report::Report;
use crate::values::{Name, Prefix, RackId};
use serde::Deserialize;
use std::time::Duration;

impl Spec for RackSpec {
    const KIND: Kind = Kind {
        name: "Rack",
        noun: "rack",
        place: Place::File("rack.yaml"),
        about: "the rack: its id, how often trays look",
    };
}

/// The rack as a whole: `rack.yaml`.
#[derive(Debug, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(crate) struct RackSpec {
    /// The id in the rack's trust root.
    pub(crate) id: RackId,
    /// How often a tray looks for new commits, in seconds (1 to 3600).
    #[serde(default)]
    pub(crate) poll_seconds: Option<Located<u64>>,
    /// When given, every network must lie inside one of these.
    #[serde(default)]
    pub(crate) network_prefixes: Vec<Prefix>,
    /// Rules for the whole rack.
    #[serde(default)]
    pub(crate) policies: Option<PoliciesSpec>,
}

/// Rules for the whole rack.
#[derive(Debug, Default, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(crate) struct PoliciesSpec {
    /// A tray with a new release downloaded waits a random part of this many seconds before it reboots into it, so that
    /// a rack does not restart all at once (0 to 86400).
    #[serde(default)]
    pub(crate) reboot_wait_seconds: Option<Located<u64>>,
}

/// The rack as a whole.
pub(crate) struct Rack {
    pub(crate) name: Name,
    pub(crate) id: RackId,
    pub(crate) poll: Duration,
    pub(crate) reboot_wait: Duration,
    /// Networks lie inside these, if there are any.
    pub(crate) prefixes: Vec<Prefix>,
}

pub(crate) fn check(parsed: &Parsed<RackSpec>, report: &mut Report<'_>) -> Rack {
    let file = &parsed.file;
    let spec = &parsed.object.spec;
    let poll = spec.poll_seconds.as_ref();
    let poll = report.within(file, poll, "pollSeconds", (1, 3600), 15);
    let wait = spec
        .policies
        .as_ref()
        .and_then(|policies| policies.reboot_wait_seconds.as_ref());
    let wait = report.within(file, wait, "rebootWaitSeconds", (0, 86_400), 60);
    Rack {
        name: parsed.name().value.clone(),
        id: spec.id,
        poll: Duration::from_secs(poll),
        reboot_wait: Duration::from_secs(wait),
        prefixes: spec.network_prefixes.clone(),
    }
}

#[cfg(test)]
mod tests {
    use crate::testing::refused;

    #[test]
    fn what_a_rack_cannot_say_is_refused_with_place_and_remedy() {
        refused(
            "rack.yaml",
            &[
                (
                    "{name: home}",
                    "{name: home, labels: {'': x}}",
                    "rack.yaml:3:32: label ``: names have 1 to 63 of",
                ),
                (
                    "pollSeconds: 2",
                    "pollSeconds: 0",
                    "rack.yaml:6:16: pollSeconds is 0, it must be 1 to 3600",
                ),
                (
                    "0123456789abcdef0123456789abcdef",
                    "1",
                    "rack.yaml:5:7: spec.id: `1` is not a rack id",
                ),
            ],
        );
    }
}
