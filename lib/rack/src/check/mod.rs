// SPDX-License-Identifier: Apache-2.0
//! What only a look at several objects can find: names, references, placements, addresses.

mod address;
mod overlap;
mod selection;
mod workload;

use super::kind::network::{self, Network, NetworkSpec};
use super::kind::rack::{self, Rack, RackSpec};
use super::kind::release::{self, Release, ReleaseSpec};
use super::kind::tray::{self, Tray, TraySpec};
use super::kind::{Objects, Parsed, Place, Spec};
use super::located::Located;
use super::problem::Problem;
use super::report::Report;
use super::state::RackState;
use super::values::{Name, Prefix};
use overlap::Taken;
use std::collections::{BTreeMap, BTreeSet};
use workload::mix;

const MAX_LABELS: usize = 64;

/// Gives a state unless it added at least one problem.
pub(super) fn check(objects: &Objects, problems: &mut Vec<Problem>) -> Option<RackState> {
    let before = problems.len();
    let mut report = Report {
        problems,
        warnings: Vec::new(),
    };
    names(objects, &mut report);
    labels(objects, &mut report);
    let rack = the_rack(&objects.rack, &mut report);
    let mut trays = trays(&objects.trays, &mut report);
    let releases = releases(&objects.releases, &mut trays, &mut report);
    let allowed = rack.as_ref().map_or(&[][..], |rack| &rack.prefixes);
    let networks = networks(&objects.networks, allowed, &mut report);
    let workloads = workload::check(&objects.workloads, &trays, &networks, &mut report);
    let warnings = report.warnings;
    if problems.len() > before {
        return None;
    }
    let rack = rack?;
    Some(RackState {
        name: rack.name,
        id: rack.id,
        poll: rack.poll,
        reboot_wait: rack.reboot_wait,
        trays,
        releases,
        networks,
        workloads,
        warnings,
    })
}

/// `trays/a.yaml` holds the object `a`: then no two files can claim one name, and a name leads to its file.
fn names(objects: &Objects, report: &mut Report<'_>) {
    for (kind, file, metadata) in objects.each() {
        let Located { at, value: name } = &metadata.name;
        if matches!(kind.place, Place::Folder(_)) && kind.file(name.as_str()) != file {
            let message =
                format!("the object is named {name}, so its file must be named {name}.yaml");
            report.fault(file, *at, message);
        }
    }
}

fn labels(objects: &Objects, report: &mut Report<'_>) {
    let is_name = |name: &str| {
        (1..=63).contains(&name.len())
            && name
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.' | b'/'))
    };
    for (_, file, metadata) in objects.each() {
        let Some(Located { at, value: labels }) = &metadata.labels else {
            continue;
        };
        if labels.len() > MAX_LABELS {
            report.fault(file, *at, format!("more than {MAX_LABELS} labels"));
        }
        for (name, value) in labels {
            if !is_name(name) || value.len() > 63 || value.chars().any(char::is_control) {
                let message = format!(
                    "label `{name}`: names have 1 to 63 of A-Z, a-z, 0-9, -, _, . and /; values at most 63 bytes"
                );
                report.fault(file, *at, message);
            }
        }
    }
}

fn the_rack(found: &[Parsed<RackSpec>], report: &mut Report<'_>) -> Option<Rack> {
    let Some(parsed) = found.first() else {
        let file = RackSpec::KIND.file("");
        if !report.problems.iter().any(|problem| problem.file == file) {
            let message = "this file is missing: a rack repository begins with it (`racklet rack init` writes one)";
            report.problems.push(Problem::new(&file, None, message));
        }
        return None;
    };
    Some(rack::check(parsed, report))
}

fn trays(found: &[Parsed<TraySpec>], report: &mut Report<'_>) -> BTreeMap<Name, Tray> {
    let mut trays = BTreeMap::new();
    let mut identities: BTreeMap<String, Name> = BTreeMap::new();
    for parsed in found {
        let name = &parsed.name().value;
        let tray = tray::check(parsed, report);
        let said = parsed.object.spec.identity.as_ref();
        if let (Some(key), Some(said)) = (&tray.identity, said)
            && let Some(other) = identities.insert(key.clone(), name.clone())
        {
            let message = format!("tray {other} has the same identity: every tray needs its own");
            report.fault(&parsed.file, said.at, message);
        }
        trays.insert(name.clone(), tray);
    }
    trays
}

fn releases(
    found: &[Parsed<ReleaseSpec>],
    trays: &mut BTreeMap<Name, Tray>,
    report: &mut Report<'_>,
) -> BTreeMap<Name, Release> {
    let mut releases = BTreeMap::new();
    for parsed in found {
        let Located { at, value: name } = parsed.name();
        let chosen = rollout(parsed, trays, report);
        for tray in &chosen {
            let Some(covered) = trays.get_mut(tray) else {
                continue;
            };
            if let Some(other) = &covered.release {
                let message = format!(
                    "tray {tray} is covered by release {other} as well: narrow `spec.rollout` of one of them"
                );
                report.fault(&parsed.file, *at, message);
            } else {
                covered.release = Some(name.clone());
            }
        }
        let release = release::check(parsed, chosen.into_iter().collect());
        releases.insert(name.clone(), release);
    }
    for (name, _) in trays.iter().filter(|(_, tray)| tray.release.is_none()) {
        let message = "no release covers this tray: it keeps booting what it has in its cache";
        report.warn(&TraySpec::KIND.file(name.as_str()), None, message);
    }
    releases
}

/// The trays that a release is for.
fn rollout(
    parsed: &Parsed<ReleaseSpec>,
    trays: &BTreeMap<Name, Tray>,
    report: &mut Report<'_>,
) -> BTreeSet<Name> {
    let Some(Located { at, value: rollout }) = &parsed.object.spec.rollout else {
        return trays.keys().cloned().collect();
    };
    let mut chosen = BTreeSet::new();
    for tray in &rollout.trays {
        if trays.contains_key(&tray.value) {
            chosen.insert(tray.value.clone());
        } else {
            report.unknown(&parsed.file, tray, &TraySpec::KIND, trays.keys());
        }
    }
    if !rollout.match_labels.is_empty() {
        chosen.extend(selection::matching(trays, &rollout.match_labels).cloned());
    }
    if rollout.trays.is_empty() && chosen.is_empty() {
        report.warn(&parsed.file, Some(*at), "this rollout chooses no tray");
    }
    chosen
}

fn networks(
    found: &[Parsed<NetworkSpec>],
    allowed: &[Prefix],
    report: &mut Report<'_>,
) -> BTreeMap<Name, Network> {
    let mut networks: BTreeMap<Name, Network> = BTreeMap::new();
    let mut taken = Taken::default();
    for parsed in found {
        let network = network::check(parsed, report);
        for (field, Located { at, value }) in parsed.object.spec.prefixes() {
            if !allowed.is_empty() && !allowed.iter().any(|prefix| prefix.covers(value)) {
                let message =
                    format!("spec.{field}: {value} is outside `spec.networkPrefixes` of rack.yaml");
                report.fault(&parsed.file, *at, message);
            }
            if let Some(other) = taken.clash(value) {
                let message = format!("spec.{field}: {value} overlaps with network {other}");
                report.fault(&parsed.file, *at, message);
            }
        }
        for prefix in network.ipv4.iter().chain(&network.ipv6) {
            taken.add(*prefix, &parsed.name().value);
        }
        networks.insert(parsed.name().value.clone(), network);
    }
    networks
}

#[cfg(test)]
mod tests;
