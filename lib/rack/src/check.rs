// SPDX-License-Identifier: Apache-2.0
//! What only a look at several objects can find: references, placements, addresses. Also the bounds of single values
//! that their types do not carry.

mod workload;

use super::object::{Located, NetworkSpec, RackSpec, ReleaseSpec, TraySpec};
use super::problem::Problem;
use super::state::{Network, Pin, RackState, Release, Tray};
use super::values::{Name, Prefix};
use super::yaml::Position;
use super::yaml::de::closest;
use super::{Parsed, Repository};
use crate::subnet;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

const MAX_LABELS: usize = 64;

/// Gives a state unless it added at least one problem.
pub(super) fn check(repository: &Repository, problems: &mut Vec<Problem>) -> Option<RackState> {
    let before = problems.len();
    let mut check = Check {
        problems,
        warnings: Vec::new(),
    };
    check.file_names(repository);
    let rack = check.rack(&repository.rack);
    let mut trays = check.trays(&repository.trays);
    let releases = check.releases(&repository.releases, &mut trays);
    let prefixes = rack
        .as_ref()
        .map(|r| r.prefixes.as_slice())
        .unwrap_or_default();
    let networks = check.networks(&repository.networks, prefixes);
    let workloads = check.workloads(&repository.workloads, &trays, &networks);
    let warnings = check.warnings;
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

struct Rack {
    name: Name,
    id: super::RackId,
    poll: Duration,
    reboot_wait: Duration,
    prefixes: Vec<Prefix>,
}

struct Check<'p> {
    problems: &'p mut Vec<Problem>,
    warnings: Vec<Problem>,
}

impl Check<'_> {
    fn fault(&mut self, file: &str, at: Position, message: impl Into<String>) {
        self.problems.push(Problem::new(file, Some(at), message));
    }

    fn within(
        &mut self,
        file: &str,
        value: Option<&Located<u64>>,
        what: &str,
        range: (u64, u64),
        default: u64,
    ) -> u64 {
        let Some(value) = value else { return default };
        if !(range.0..=range.1).contains(&value.value) {
            self.fault(
                file,
                value.at,
                format!(
                    "{what} is {}, it must be {} to {}",
                    value.value, range.0, range.1
                ),
            );
        }
        value.value
    }

    fn rack(&mut self, found: &[Parsed<RackSpec>]) -> Option<Rack> {
        let Some(Parsed { file, object }) = found.first() else {
            if !self.problems.iter().any(|p| p.file == "rack.yaml") {
                self.problems.push(Problem::new(
                    "rack.yaml",
                    None,
                    "this file is missing: a rack repository begins with it (`racklet rack init` writes one)",
                ));
            }
            return None;
        };
        let spec = &object.spec;
        let poll = self.within(
            file,
            spec.poll_seconds.as_ref(),
            "pollSeconds",
            (1, 3600),
            15,
        );
        let wait = spec
            .policies
            .as_ref()
            .and_then(|p| p.reboot_wait_seconds.as_ref());
        let wait = self.within(file, wait, "rebootWaitSeconds", (0, 86_400), 60);
        Some(Rack {
            name: object.metadata.name.value.clone(),
            id: spec.id,
            poll: Duration::from_secs(poll),
            reboot_wait: Duration::from_secs(wait),
            prefixes: spec.network_prefixes.clone(),
        })
    }

    /// `trays/a.yaml` holds the object `a`: then no two files can claim one name, and a name leads to its file.
    fn file_names(&mut self, repository: &Repository) {
        let mut names: Vec<(&str, &Located<Name>)> = Vec::new();
        names.extend(
            repository
                .trays
                .iter()
                .map(|p| (p.file.as_str(), &p.object.metadata.name)),
        );
        names.extend(
            repository
                .releases
                .iter()
                .map(|p| (p.file.as_str(), &p.object.metadata.name)),
        );
        names.extend(
            repository
                .networks
                .iter()
                .map(|p| (p.file.as_str(), &p.object.metadata.name)),
        );
        names.extend(
            repository
                .workloads
                .iter()
                .map(|p| (p.file.as_str(), &p.object.metadata.name)),
        );
        for (file, name) in names {
            let stem = file
                .rsplit('/')
                .next()
                .and_then(|f| f.strip_suffix(".yaml"));
            if stem != Some(name.value.as_str()) {
                self.fault(
                    file,
                    name.at,
                    format!(
                        "the object is named {0}, so its file must be named {0}.yaml",
                        name.value
                    ),
                );
            }
        }
    }

    fn labels(
        &mut self,
        file: &str,
        labels: Option<&Located<BTreeMap<String, String>>>,
    ) -> BTreeMap<String, String> {
        let Some(Located { at, value }) = labels else {
            return BTreeMap::new();
        };
        let key = |k: &str| {
            (1..=63).contains(&k.len())
                && k.bytes()
                    .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.' | b'/'))
        };
        if value.len() > MAX_LABELS {
            self.fault(file, *at, format!("more than {MAX_LABELS} labels"));
        }
        for (k, v) in value {
            if !key(k) || v.len() > 63 || v.chars().any(char::is_control) {
                self.fault(
                    file,
                    *at,
                    format!("label `{k}`: names have 1 to 63 of A-Z, a-z, 0-9, -, _, . and /; values at most 63 bytes"),
                );
            }
        }
        value.clone()
    }

    fn trays(&mut self, found: &[Parsed<TraySpec>]) -> BTreeMap<Name, Tray> {
        let mut trays = BTreeMap::new();
        let mut identities: BTreeMap<String, Name> = BTreeMap::new();
        for Parsed { file, object } in found {
            let name = &object.metadata.name;
            if object.spec.board.parse::<Name>().is_err() && !board_name(&object.spec.board) {
                self.fault(
                    file,
                    name.at,
                    "spec.board: write a board's name, for example qemu-x86_64",
                );
            }
            let identity = object.spec.identity.as_ref().and_then(|text| match identity(&text.value) {
                Some(key) => {
                    if let Some(other) = identities.insert(key.clone(), name.value.clone()) {
                        self.fault(file, text.at, format!("tray {other} has the same identity: every tray needs its own"));
                    }
                    Some(key)
                }
                None => {
                    self.fault(file, text.at, "spec.identity: write the tray's public key, `ssh-ed25519 AAAA…`, as `racklet image build` prints it");
                    None
                }
            });
            let labels = self.labels(file, object.metadata.labels.as_ref());
            let cpus = object.spec.cpus.as_ref();
            if let Some(cpus) = cpus.filter(|cpus| !(1..=1024).contains(&cpus.value)) {
                self.fault(
                    file,
                    cpus.at,
                    format!("spec.cpus is {}, it must be 1 to 1024", cpus.value),
                );
            }
            trays.insert(
                name.value.clone(),
                Tray {
                    board: object.spec.board.clone(),
                    memory: object.spec.memory.as_ref().map(|memory| memory.value),
                    cpus: cpus.map(|cpus| cpus.value),
                    identity,
                    labels,
                    release: None,
                },
            );
        }
        trays
    }

    fn releases(
        &mut self,
        found: &[Parsed<ReleaseSpec>],
        trays: &mut BTreeMap<Name, Tray>,
    ) -> BTreeMap<Name, Release> {
        let mut releases = BTreeMap::new();
        for Parsed { file, object } in found {
            let name = &object.metadata.name;
            let _ = self.labels(file, object.metadata.labels.as_ref());
            let chosen = match &object.spec.rollout {
                None => trays.keys().cloned().collect(),
                Some(rollout) => {
                    let mut chosen = BTreeSet::new();
                    for tray in &rollout.value.trays {
                        if trays.contains_key(&tray.value) {
                            chosen.insert(tray.value.clone());
                        } else {
                            self.unknown(file, tray, "tray", trays.keys());
                        }
                    }
                    if !rollout.value.match_labels.is_empty() {
                        chosen.extend(matching(trays, &rollout.value.match_labels));
                    }
                    if rollout.value.trays.is_empty() && chosen.is_empty() {
                        self.warnings.push(Problem::new(
                            file,
                            Some(rollout.at),
                            "this rollout chooses no tray",
                        ));
                    }
                    chosen
                }
            };
            for tray in &chosen {
                let Some(tray_state) = trays.get_mut(tray) else {
                    continue;
                };
                if let Some(other) = &tray_state.release {
                    let message = format!(
                        "tray {tray} is covered by release {other} as well: narrow `spec.rollout` of one of them"
                    );
                    self.fault(file, name.at, message);
                } else {
                    tray_state.release = Some(name.value.clone());
                }
            }
            let payload = &object.spec.payload;
            releases.insert(
                name.value.clone(),
                Release {
                    payload: Pin {
                        name: payload.name.clone(),
                        manifest: payload.manifest,
                        repository: payload.repository.clone(),
                    },
                    trays: chosen.into_iter().collect(),
                },
            );
        }
        for (name, _) in trays.iter().filter(|(_, tray)| tray.release.is_none()) {
            self.warnings.push(Problem::new(
                &format!("trays/{name}.yaml"),
                None,
                "no release covers this tray: it keeps booting what it has in its cache",
            ));
        }
        releases
    }

    fn networks(
        &mut self,
        found: &[Parsed<NetworkSpec>],
        allowed: &[Prefix],
    ) -> BTreeMap<Name, Network> {
        let mut networks: BTreeMap<Name, Network> = BTreeMap::new();
        for Parsed { file, object } in found {
            let name = &object.metadata.name;
            let _ = self.labels(file, object.metadata.labels.as_ref());
            let spec = &object.spec;
            if spec.ipv4.is_none() && spec.ipv6.is_none() {
                self.fault(file, name.at, "spec: give `ipv4`, `ipv6` or both");
            }
            for (field, prefix, v4) in [("ipv4", &spec.ipv4, true), ("ipv6", &spec.ipv6, false)] {
                let Some(prefix) = prefix else { continue };
                let value = prefix.value;
                if value.address().is_ipv4() != v4 {
                    self.fault(
                        file,
                        prefix.at,
                        format!("spec.{field}: {value} is of the other address family"),
                    );
                    continue;
                }
                if let Err(why) = subnet::check(value.address(), value.length()) {
                    self.fault(file, prefix.at, format!("spec.{field}: {value}: {why}"));
                }
                if !allowed.is_empty() && !allowed.iter().any(|a| a.covers(&value)) {
                    self.fault(
                        file,
                        prefix.at,
                        format!(
                            "spec.{field}: {value} is outside `spec.networkPrefixes` of rack.yaml"
                        ),
                    );
                }
                let clash = networks.iter().find(|(_, other)| {
                    [other.ipv4, other.ipv6]
                        .iter()
                        .flatten()
                        .any(|p| p.overlaps(&value))
                });
                if let Some((other, _)) = clash {
                    let message = format!("spec.{field}: {value} overlaps with network {other}");
                    self.fault(file, prefix.at, message);
                }
            }
            networks.insert(
                name.value.clone(),
                Network {
                    ipv4: spec.ipv4.as_ref().map(|p| p.value),
                    ipv6: spec.ipv6.as_ref().map(|p| p.value),
                    nat: spec.nat.unwrap_or(true),
                },
            );
        }
        networks
    }

    fn unknown<'n>(
        &mut self,
        file: &str,
        name: &Located<Name>,
        what: &str,
        known: impl Iterator<Item = &'n Name>,
    ) {
        let known: Vec<&str> = known.map(Name::as_str).collect();
        let mut message = format!("there is no {what} `{}`", name.value);
        if let Some(best) = closest(name.value.as_str(), &known) {
            message.push_str(&format!("; did you mean `{best}`?"));
        } else {
            message.push_str(&format!(
                ": write {what}s/{}.yaml, or correct the name",
                name.value
            ));
        }
        self.fault(file, name.at, message);
    }
}

/// Board names are folder names in `boards/trays/`: labels that may have `_`, for `x86_64`.
fn board_name(text: &str) -> bool {
    (1..=63).contains(&text.len())
        && text
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'_')
}

/// The key without its comment, when `text` is an Ed25519 public key as OpenSSH writes it.
fn identity(text: &str) -> Option<String> {
    let mut words = text.split_ascii_whitespace();
    let (kind, key) = (words.next()?, words.next()?);
    // 51 bytes: length and name of the type, length of the key, 32 bytes of key.
    let good = kind == "ssh-ed25519"
        && key.len() == 68
        && key.starts_with("AAAAC3NzaC1lZDI1NTE5AAAAI")
        && key
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b == b'+' || b == b'/');
    good.then(|| format!("{kind} {key}"))
}

fn matching<'t>(
    trays: &'t BTreeMap<Name, Tray>,
    labels: &'t BTreeMap<String, String>,
) -> impl Iterator<Item = Name> + 't {
    trays
        .iter()
        .filter(|(_, tray)| labels.iter().all(|(k, v)| tray.labels.get(k) == Some(v)))
        .map(|(name, _)| name.clone())
}
