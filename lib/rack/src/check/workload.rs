// SPDX-License-Identifier: Apache-2.0
//! Where workloads run: on which tray, whether they fit there, and with which address.

use super::address::Addresses;
use super::selection::Selection;
use crate::capacity::without_room;
use crate::kind::network::Network;
use crate::kind::tray::{Tray, TraySpec};
use crate::kind::workload::{self, MicroVmSpec, Workload};
use crate::kind::{Parsed, Spec};
use crate::report::Report;
use crate::values::{Memory, Name};
use std::collections::BTreeMap;

pub(super) fn check(
    found: &[Parsed<MicroVmSpec>],
    trays: &BTreeMap<Name, Tray>,
    networks: &BTreeMap<Name, Network>,
    report: &mut Report<'_>,
) -> BTreeMap<Name, Workload> {
    let mut addresses = Addresses::fixed(found, networks, report);
    let mut workloads = BTreeMap::new();
    // In the order of names, so that what is chosen does not depend on the order of files.
    let mut sorted: Vec<_> = found.iter().collect();
    sorted.sort_by_key(|parsed| &parsed.name().value);
    let mut selection = Selection::of(trays);
    for parsed in sorted {
        let tray = placement(parsed, trays, &mut selection, report);
        let wanted = parsed.object.spec.network.as_ref();
        let network = wanted.and_then(|wanted| addresses.attach(parsed, wanted, report));
        if let Some(workload) = workload::check(parsed, tray, network, report) {
            workloads.insert(parsed.name().value.clone(), workload);
        }
    }
    room(found, trays, &workloads, report);
    workloads
}

/// The tray it runs on. Where it says none or both ways to find one is told by its own check.
fn placement<'p>(
    parsed: &'p Parsed<MicroVmSpec>,
    trays: &'p BTreeMap<Name, Tray>,
    selection: &mut Selection<'p>,
    report: &mut Report<'_>,
) -> Option<Name> {
    let spec = &parsed.object.spec;
    match (&spec.tray, &spec.tray_selector) {
        (Some(tray), None) if trays.contains_key(&tray.value) => Some(tray.value.clone()),
        (Some(tray), None) => {
            report.unknown(&parsed.file, tray, &TraySpec::KIND, trays.keys());
            None
        }
        (None, Some(selector)) => {
            let name = &parsed.name().value;
            let best = selection.choose(name, &selector.value.match_labels);
            if best.is_none() {
                let message = "spec.traySelector: no tray has these labels";
                report.fault(&parsed.file, selector.at, message);
            }
            best.cloned()
        }
        (Some(_), Some(_)) | (None, None) => None,
    }
}

/// Whether what is placed on a tray fits into what the tray is said to have.
fn room(
    found: &[Parsed<MicroVmSpec>],
    trays: &BTreeMap<Name, Tray>,
    workloads: &BTreeMap<Name, Workload>,
    report: &mut Report<'_>,
) {
    let mut placed: BTreeMap<&Name, Vec<(&Name, Memory)>> = BTreeMap::new();
    for (name, workload) in workloads {
        let on_tray = placed.entry(&workload.tray).or_default();
        on_tray.push((name, workload.memory));
    }
    let files: BTreeMap<&Name, &Parsed<MicroVmSpec>> = found
        .iter()
        .map(|parsed| (&parsed.name().value, parsed))
        .collect();
    for (tray, stated) in trays {
        let on_tray = placed.remove(tray).unwrap_or_default();
        let Some(memory) = stated.memory else {
            if !on_tray.is_empty() {
                let message = "without `memory` (such as `memory: 4Gi`) nobody knows before the tray does whether its workloads fit";
                report.warn(&TraySpec::KIND.file(tray.as_str()), None, message);
            }
            continue;
        };
        for (name, why) in without_room(memory.bytes(), stated.overcommit, on_tray) {
            if let Some(parsed) = files.get(&name) {
                let message = format!("spec.memory: on tray {tray} it {why}");
                report.fault(&parsed.file, parsed.object.spec.memory.at, message);
            }
        }
    }
    for parsed in found {
        let placed = workloads.get(&parsed.name().value);
        let has = placed.and_then(|placed| trays.get(&placed.tray)?.cpus);
        if let (Some(cpus), Some(has)) = (&parsed.object.spec.cpus, has)
            && cpus.value > has
        {
            let message = format!("spec.cpus is {}, the tray has {has}", cpus.value);
            report.fault(&parsed.file, cpus.at, message);
        }
    }
}

/// FNV-1a with a final mix: a choice that is the same on every tray and in every version. Not for secrets.
pub(super) fn mix(parts: &[&str]) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for part in parts {
        for byte in part.bytes().chain([0]) {
            hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
    hash ^= hash >> 33;
    hash = hash.wrapping_mul(0xff51_afd7_ed55_8ccd);
    hash ^ (hash >> 33)
}
