// SPDX-License-Identifier: Apache-2.0
//! What only a look at several objects can find: references, placements, addresses. Also the bounds of single values
//! that their types do not carry.

use super::object::{
    BackoffSpec, Located, MicroVmSpec, NetworkSpec, RackSpec, ReleaseSpec, TraySpec,
};
use super::problem::Problem;
use super::state::{Attachment, Backoff, Network, Pin, RackState, Release, Tray, Workload};
use super::values::{Name, Prefix};
use super::yaml::Position;
use super::yaml::de::closest;
use super::{Parsed, Repository};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

const MAX_TEXT: usize = 64 * 1024;
const MAX_LABELS: usize = 64;
/// A kernel, our PID 1 and a small program need this much.
const MIN_MEMORY_MIB: u64 = 32;
const MAX_MEMORY_MIB: u64 = 64 * 1024;

/// Gives a state unless it added at least one problem.
pub(super) fn check(repository: Repository, problems: &mut Vec<Problem>) -> Option<RackState> {
    let before = problems.len();
    let mut check = Check {
        problems,
        warnings: Vec::new(),
    };
    check.file_names(&repository);
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
            trays.insert(
                name.value.clone(),
                Tray {
                    board: object.spec.board.clone(),
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
                let (shortest, longest) = if v4 { (8, 30) } else { (32, 126) };
                if !(shortest..=longest).contains(&value.length()) {
                    self.fault(
                        file,
                        prefix.at,
                        format!("spec.{field}: the prefix must be /{shortest} to /{longest}"),
                    );
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

    fn workloads(
        &mut self,
        found: &[Parsed<MicroVmSpec>],
        trays: &BTreeMap<Name, Tray>,
        networks: &BTreeMap<Name, Network>,
    ) -> BTreeMap<Name, Workload> {
        let mut taken = Addresses::default();
        for Parsed { file, object } in found {
            let Some(network) = &object.spec.network else {
                continue;
            };
            let fixed4 = network
                .address
                .as_ref()
                .map(|a| (a.at, IpAddr::V4(a.value)));
            let fixed6 = network
                .address6
                .as_ref()
                .map(|a| (a.at, IpAddr::V6(a.value)));
            for (at, address) in fixed4.into_iter().chain(fixed6) {
                if let Err(message) = claim(
                    &mut taken,
                    networks,
                    &network.name.value,
                    address,
                    &object.metadata.name.value,
                ) {
                    self.fault(file, at, format!("spec.network: {message}"));
                }
            }
        }
        let mut workloads = BTreeMap::new();
        // In the order of names, so that what is chosen does not depend on the order of files.
        let mut sorted: Vec<_> = found.iter().collect();
        sorted.sort_by(|a, b| {
            a.object
                .metadata
                .name
                .value
                .cmp(&b.object.metadata.name.value)
        });
        for parsed in sorted {
            if let Some(workload) = self.workload(parsed, trays, networks, &mut taken) {
                workloads.insert(parsed.object.metadata.name.value.clone(), workload);
            }
        }
        workloads
    }

    fn workload(
        &mut self,
        Parsed { file, object }: &Parsed<MicroVmSpec>,
        trays: &BTreeMap<Name, Tray>,
        networks: &BTreeMap<Name, Network>,
        taken: &mut Addresses,
    ) -> Option<Workload> {
        let name = &object.metadata.name;
        let spec = &object.spec;
        let _ = self.labels(file, object.metadata.labels.as_ref());
        let tray = self.placement(file, name, spec, trays);
        let cpus = spec.cpus.as_ref().map_or(1, |cpus| {
            if !(1..=32).contains(&cpus.value) {
                self.fault(
                    file,
                    cpus.at,
                    format!("spec.cpus is {}, it must be 1 to 32", cpus.value),
                );
            }
            cpus.value
        });
        let memory = spec.memory.value;
        if !(MIN_MEMORY_MIB..=MAX_MEMORY_MIB).contains(&memory.mib()) {
            self.fault(
                file,
                spec.memory.at,
                format!(
                    "spec.memory is {memory}, it must be {MIN_MEMORY_MIB}Mi to {}Gi",
                    MAX_MEMORY_MIB >> 10
                ),
            );
        }
        self.command(file, spec);
        let backoff = self.backoff(file, spec.backoff.as_ref());
        let network = spec.network.as_ref().and_then(|attachment| {
            let Some(network) = networks.get(&attachment.name.value) else {
                self.unknown(file, &attachment.name, "network", networks.keys());
                return None;
            };
            let mut pick = |fixed: Option<IpAddr>, prefix: Option<Prefix>| match (fixed, prefix) {
                (Some(fixed), _) => Some(fixed),
                (None, None) => None,
                (None, Some(prefix)) => {
                    let chosen = choose(taken, &attachment.name.value, &prefix, &name.value);
                    if chosen.is_none() {
                        let message = format!(
                            "spec.network: network {} has no free address",
                            attachment.name.value
                        );
                        self.fault(file, attachment.name.at, message);
                    }
                    chosen
                }
            };
            let v4 = pick(
                attachment.address.as_ref().map(|a| IpAddr::V4(a.value)),
                network.ipv4,
            );
            let v6 = pick(
                attachment.address6.as_ref().map(|a| IpAddr::V6(a.value)),
                network.ipv6,
            );
            Some(Attachment {
                name: attachment.name.value.clone(),
                address: v4.and_then(|a| if let IpAddr::V4(a) = a { Some(a) } else { None }),
                address6: v6.and_then(|a| if let IpAddr::V6(a) = a { Some(a) } else { None }),
            })
        });
        Some(Workload {
            tray: tray?,
            kernel: spec.kernel,
            rootfs: Pin {
                name: spec.rootfs.artifact.clone(),
                manifest: spec.rootfs.manifest,
                repository: spec.rootfs.repository.clone(),
            },
            cpus,
            memory,
            command: spec.command.value.clone(),
            env: spec
                .env
                .as_ref()
                .map(|env| env.value.clone())
                .unwrap_or_default(),
            network,
            restart_policy: spec.restart_policy,
            backoff,
        })
    }

    fn placement(
        &mut self,
        file: &str,
        name: &Located<Name>,
        spec: &MicroVmSpec,
        trays: &BTreeMap<Name, Tray>,
    ) -> Option<Name> {
        match (&spec.tray, &spec.tray_selector) {
            (Some(_), Some(selector)) => {
                self.fault(
                    file,
                    selector.at,
                    "spec: give `tray` or `traySelector`, not both",
                );
                None
            }
            (None, None) => {
                self.fault(
                    file,
                    name.at,
                    "spec: say where it runs, with `tray` or `traySelector`",
                );
                None
            }
            (Some(tray), None) => {
                if !trays.contains_key(&tray.value) {
                    self.unknown(file, tray, "tray", trays.keys());
                    return None;
                }
                Some(tray.value.clone())
            }
            (None, Some(selector)) => {
                let best = matching(trays, &selector.value.match_labels)
                    .max_by_key(|tray| (mix(&[name.value.as_str(), tray.as_str()]), tray.clone()));
                if best.is_none() {
                    self.fault(
                        file,
                        selector.at,
                        "spec.traySelector: no tray has these labels",
                    );
                }
                best
            }
        }
    }

    fn command(&mut self, file: &str, spec: &MicroVmSpec) {
        let command = &spec.command;
        if !command
            .value
            .first()
            .is_some_and(|program| program.starts_with('/'))
        {
            self.fault(
                file,
                command.at,
                "spec.command: the first entry must be the absolute path of a program in the root file system",
            );
        }
        let mut size: usize = command.value.iter().map(|part| part.len() + 1).sum();
        if command.value.iter().any(|part| part.contains('\0')) {
            self.fault(
                file,
                command.at,
                "spec.command: a NUL character cannot be passed to a program",
            );
        }
        if let Some(env) = &spec.env {
            size += env
                .value
                .iter()
                .map(|(k, v)| k.len() + v.len() + 2)
                .sum::<usize>();
            for (key, value) in &env.value {
                let good = !key.is_empty()
                    && !key.starts_with(|c: char| c.is_ascii_digit())
                    && key.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
                if !good {
                    self.fault(
                        file,
                        env.at,
                        format!("spec.env: `{key}` is not a variable's name: use A-Z, a-z, 0-9 and _, not beginning with a digit"),
                    );
                }
                if value.contains('\0') {
                    self.fault(
                        file,
                        env.at,
                        format!("spec.env.{key}: a NUL character cannot be passed to a program"),
                    );
                }
            }
        }
        if size > MAX_TEXT {
            self.fault(
                file,
                command.at,
                format!("spec: command and env together are {size} bytes, {MAX_TEXT} are allowed"),
            );
        }
    }

    fn backoff(&mut self, file: &str, spec: Option<&Located<BackoffSpec>>) -> Backoff {
        let initial = spec.and_then(|b| b.value.initial_seconds).unwrap_or(1);
        let max = spec
            .and_then(|b| b.value.max_seconds)
            .unwrap_or(initial.max(60));
        if let Some(spec) = spec
            && !((1..=3600).contains(&initial) && (initial..=86_400).contains(&max))
        {
            self.fault(
                file,
                spec.at,
                "spec.backoff: initialSeconds must be 1 to 3600, and maxSeconds from there to 86400",
            );
        }
        Backoff {
            initial_seconds: initial,
            max_seconds: max,
        }
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

/// Board names are folder names in `boards/`: labels that may have `_`, for `x86_64`.
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

type Addresses = BTreeMap<(Name, IpAddr), Name>;

fn claim(
    taken: &mut Addresses,
    networks: &BTreeMap<Name, Network>,
    network: &Name,
    address: IpAddr,
    workload: &Name,
) -> Result<(), String> {
    // A missing network is reported where the workload is read.
    let Some(found) = networks.get(network) else {
        return Ok(());
    };
    let prefix = if address.is_ipv4() {
        found.ipv4
    } else {
        found.ipv6
    };
    let Some(prefix) = prefix else {
        return Err(format!("network {network} has no addresses of this family"));
    };
    if !prefix.is_host(address) {
        return Err(format!(
            "{address} is not a usable address of network {network} ({prefix})"
        ));
    }
    if prefix.nth(1) == Some(address) {
        return Err(format!(
            "{address} is the gateway of network {network}: choose another"
        ));
    }
    match taken.insert((network.clone(), address), workload.clone()) {
        Some(other) => Err(format!(
            "workload {other} has the address {address} as well"
        )),
        None => Ok(()),
    }
}

/// A free address: the same for the same names, and moved by another workload only when both want the same one.
fn choose(
    taken: &mut Addresses,
    network: &Name,
    prefix: &Prefix,
    workload: &Name,
) -> Option<IpAddr> {
    // The first host is the gateway's.
    let free = u64::from(prefix.hosts().checked_sub(1)?);
    let start = mix(&[network.as_str(), workload.as_str()]) % free.max(1);
    (0..free.min(1 << 16))
        .filter_map(|step| prefix.nth(2 + (start + step) % free))
        .find(|address| !taken.contains_key(&(network.clone(), *address)))
        .inspect(|address| {
            taken.insert((network.clone(), *address), workload.clone());
        })
}

/// FNV-1a with a final mix: a choice that is the same on every tray and in every version. Not for secrets.
fn mix(parts: &[&str]) -> u64 {
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
