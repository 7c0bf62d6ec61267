// SPDX-License-Identifier: Apache-2.0
//! Checks of workloads: bounds, placement on a tray, addresses in a network.

use super::{Check, matching};
use crate::Parsed;
use crate::capacity::without_room;
use crate::capacity::{CPUS, MEMORY_MIB};
use crate::object::{BackoffSpec, Located, MicroVmSpec};
use crate::problem::Problem;
use crate::state::{Attachment, Backoff, Network, Pin, Tray, Workload};
use crate::values::{Memory, Name, Prefix};
use std::collections::BTreeMap;
use std::net::IpAddr;

const MAX_TEXT: usize = 64 * 1024;

impl Check<'_> {
    pub(super) fn workloads(
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
        self.room(found, trays, &workloads);
        workloads
    }

    /// Whether what is placed on a tray fits into what the tray is said to have.
    fn room(
        &mut self,
        found: &[Parsed<MicroVmSpec>],
        trays: &BTreeMap<Name, Tray>,
        workloads: &BTreeMap<Name, Workload>,
    ) {
        for (tray, stated) in trays {
            let on_tray = || workloads.iter().filter(|(_, placed)| placed.tray == *tray);
            let Some(memory) = stated.memory else {
                if on_tray().next().is_some() {
                    self.warnings.push(Problem::new(
                        &format!("trays/{tray}.yaml"),
                        None,
                        "without `memory` (such as `memory: 4Gi`) nobody knows before the tray does whether its workloads fit",
                    ));
                }
                continue;
            };
            let refused = without_room(
                memory.bytes(),
                on_tray().map(|(name, placed)| (name, placed.memory)),
            );
            for Parsed { file, object } in found {
                if let Some(why) = refused.get(&object.metadata.name.value) {
                    self.fault(
                        file,
                        object.spec.memory.at,
                        format!("spec.memory: on tray {tray} it {why}"),
                    );
                }
            }
        }
        for Parsed { file, object } in found {
            let placed = workloads.get(&object.metadata.name.value);
            let has = placed.and_then(|placed| trays.get(&placed.tray)?.cpus);
            if let (Some(cpus), Some(has)) = (&object.spec.cpus, has)
                && cpus.value > has
            {
                self.fault(
                    file,
                    cpus.at,
                    format!("spec.cpus is {}, the tray has {has}", cpus.value),
                );
            }
        }
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
            if !CPUS.contains(&cpus.value) {
                self.fault(
                    file,
                    cpus.at,
                    format!(
                        "spec.cpus is {}, it must be {} to {}",
                        cpus.value,
                        CPUS.start(),
                        CPUS.end()
                    ),
                );
            }
            cpus.value
        });
        let memory = spec.memory.value;
        if !u32::try_from(memory.mib()).is_ok_and(|mib| MEMORY_MIB.contains(&mib)) {
            self.fault(
                file,
                spec.memory.at,
                format!(
                    "spec.memory is {memory}, it must be {}Mi to {}Gi",
                    MEMORY_MIB.start(),
                    MEMORY_MIB.end() >> 10
                ),
            );
        }
        self.command(file, spec);
        let working_dir = self.working_dir(file, spec.working_dir.as_ref());
        let overlay = self.overlay(file, memory, spec.overlay.as_ref());
        let grace = self.within(
            file,
            spec.grace_seconds.as_ref(),
            "spec.graceSeconds",
            (0, 600),
            10,
        );
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
            working_dir,
            user: spec.user.unwrap_or_default(),
            overlay,
            grace_seconds: u32::try_from(grace).unwrap_or(600),
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
        if command.value.first().is_none_or(String::is_empty) {
            self.fault(
                file,
                command.at,
                "spec.command: the first entry must name a program",
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
                // As the guest's own program has it: `discovery.type` is one, too.
                if key.is_empty() || key.contains(['=', '\0']) {
                    self.fault(
                        file,
                        env.at,
                        format!("spec.env: `{key}` is not a variable's name: it must not be empty or hold `=` or NUL"),
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

    fn working_dir(&mut self, file: &str, path: Option<&Located<String>>) -> String {
        let Some(path) = path else {
            return "/".to_owned();
        };
        let text = &path.value;
        if !text.starts_with('/')
            || text.len() > 4096
            || text.contains('\0')
            || text.split('/').any(|part| part == "..")
        {
            self.fault(
                file,
                path.at,
                "spec.workingDir: write an absolute path without `..`",
            );
        }
        text.clone()
    }

    fn overlay(&mut self, file: &str, memory: Memory, overlay: Option<&Located<Memory>>) -> Memory {
        let Some(overlay) = overlay else {
            return Memory::from_mib(u32::try_from(memory.mib() / 4).unwrap_or(u32::MAX));
        };
        if overlay.value.bytes() >= memory.bytes() {
            self.fault(
                file,
                overlay.at,
                format!("spec.overlay is {}, it is kept in memory and must be less than spec.memory ({memory})", overlay.value),
            );
        }
        overlay.value
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
