// SPDX-License-Identifier: Apache-2.0
//! `MicroVM`: one virtual machine with one command in it.

use super::{Kind, Parsed, Place, Spec};
use crate::capacity::{CPUS, MEMORY_MIB};
use crate::located::Located;
use crate::report::Report;
use crate::state::Pin;
use crate::values::{ManifestDigest, Memory, Name, RepositoryUrl};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::net::{Ipv4Addr, Ipv6Addr};

/// The most bytes of a command and its environment: what a guest's kernel passes to a program is bounded.
const MAX_TEXT: usize = 64 * 1024;

impl Spec for MicroVmSpec {
    const KIND: Kind = Kind {
        name: "MicroVM",
        noun: "workload",
        place: Place::Folder("workloads"),
        about: "what runs in microVMs",
    };
}

/// One virtual machine with one command in it: `workloads/<name>.yaml`.
#[derive(Debug, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(crate) struct MicroVmSpec {
    /// The tray it runs on.
    #[serde(default)]
    pub(crate) tray: Option<Located<Name>>,
    /// Instead of `tray`: one tray with all of these labels, always the same one while it exists.
    #[serde(default)]
    pub(crate) tray_selector: Option<Located<SelectorSpec>>,
    /// The guest kernel; `guest` is the one that comes with the operating system.
    #[serde(default)]
    pub(crate) kernel: Kernel,
    /// Its read-only root file system.
    pub(crate) rootfs: RootfsSpec,
    /// Virtual processors (1 to 32); 1 when left out.
    #[serde(default)]
    pub(crate) cpus: Option<Located<u32>>,
    /// Memory, for example `256Mi` (32Mi to 64Gi).
    pub(crate) memory: Located<Memory>,
    /// The program and its arguments; a program without a slash is looked up in `PATH`.
    pub(crate) command: Located<Vec<String>>,
    /// Where the program starts, as an absolute path; `/` when left out.
    #[serde(default)]
    pub(crate) working_dir: Option<Located<String>>,
    /// Whom the program runs as; 0 and 0 when left out (root of the virtual machine, not of the tray).
    #[serde(default)]
    pub(crate) user: Option<User>,
    /// How much may be written over the read-only root file system; it is kept in the machine's memory and gone when it
    /// ends. A quarter of `memory` when left out.
    #[serde(default)]
    pub(crate) overlay: Option<Located<Memory>>,
    /// Seconds between the polite and the forced end (0 to 600); 10 when left out.
    #[serde(default)]
    pub(crate) grace_seconds: Option<Located<u64>>,
    /// End the virtual machine when it gives no sign of life for this many seconds (10 to 3600), or for a minute more while it
    /// starts; `restartPolicy` decides what follows. A hung kernel is noticed, a hung program is not. Not waited for when left out.
    #[serde(default)]
    pub(crate) watchdog_seconds: Option<Located<u64>>,
    /// Environment variables of the program.
    #[serde(default)]
    pub(crate) env: Option<Located<BTreeMap<String, String>>>,
    /// The network it is attached to; none when left out.
    #[serde(default)]
    pub(crate) network: Option<AttachmentSpec>,
    /// When to start the command again after it ended.
    #[serde(default)]
    pub(crate) restart_policy: RestartPolicy,
    /// How long to wait between restarts.
    #[serde(default)]
    pub(crate) backoff: Option<Located<BackoffSpec>>,
}

/// A numeric user of the workload.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct User {
    /// User.
    pub uid: u32,
    /// Group.
    pub gid: u32,
}

/// Trays by labels.
#[derive(Debug, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(crate) struct SelectorSpec {
    /// All of these labels.
    pub(crate) match_labels: BTreeMap<String, String>,
}

/// A root file system, pinned by its manifest's digest.
#[derive(Debug, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(crate) struct RootfsSpec {
    /// The artifact's name: it is fetched from the branch `artifact/<name>`.
    pub(crate) artifact: Name,
    /// SHA-256 of its manifest.
    pub(crate) manifest: ManifestDigest,
    /// Where it is fetched from; the rack repository when left out.
    #[serde(default)]
    pub(crate) repository: Option<RepositoryUrl>,
}

/// A workload's place in a network.
#[derive(Debug, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(crate) struct AttachmentSpec {
    /// The network.
    pub(crate) name: Located<Name>,
    /// A fixed IPv4 address; one is chosen when left out.
    #[serde(default)]
    #[cfg_attr(feature = "schema", schemars(with = "Option<String>"))]
    pub(crate) address: Option<Located<Ipv4Addr>>,
    /// A fixed IPv6 address; one is chosen when left out.
    #[serde(default)]
    #[cfg_attr(feature = "schema", schemars(with = "Option<String>"))]
    pub(crate) address6: Option<Located<Ipv6Addr>>,
}

/// How long to wait between restarts: doubling from `initialSeconds` to `maxSeconds`.
#[derive(Debug, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(crate) struct BackoffSpec {
    /// The first wait (1 to 3600); 1 when left out.
    #[serde(default)]
    pub(crate) initial_seconds: Option<u32>,
    /// The longest wait, at least the first (up to 86400); 60 when left out.
    #[serde(default)]
    pub(crate) max_seconds: Option<u32>,
}

/// Which kernel a workload boots.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub enum Kernel {
    /// The one that comes with the hypervisor OS.
    #[default]
    Guest,
}

/// When a workload's command is started again after it ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum RestartPolicy {
    /// Whenever it ends.
    #[default]
    Always,
    /// When it ends with anything but exit code 0.
    OnFailure,
    /// Never.
    Never,
}

/// One virtual machine with one command.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Workload {
    /// The tray it is placed on.
    pub tray: Name,
    /// Which kernel it boots.
    pub kernel: Kernel,
    /// Its root file system.
    pub rootfs: Pin,
    /// Virtual processors.
    pub cpus: u32,
    /// Memory.
    pub memory: Memory,
    /// Program and arguments.
    pub command: Vec<String>,
    /// Environment variables.
    pub env: BTreeMap<String, String>,
    /// Where the program starts.
    pub working_dir: String,
    /// Whom it runs as.
    pub user: User,
    /// Bound of what is written over the root file system.
    pub overlay: Memory,
    /// Seconds between the polite and the forced end.
    pub grace_seconds: u32,
    /// Seconds without a sign of life after which the virtual machine is ended.
    #[serde(default)]
    pub watchdog_seconds: Option<u32>,
    /// Its place in a network.
    pub network: Option<Attachment>,
    /// When the command is started again.
    pub restart_policy: RestartPolicy,
    /// How long to wait between restarts.
    pub backoff: Backoff,
}

/// A workload's place in a network; it has an address of every family the network has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Attachment {
    /// The network.
    pub name: Name,
    /// IPv4 address.
    pub address: Option<Ipv4Addr>,
    /// IPv6 address.
    pub address6: Option<Ipv6Addr>,
}

/// Doubling waits between restarts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Backoff {
    /// The first wait in seconds.
    pub initial_seconds: u32,
    /// The longest wait in seconds.
    pub max_seconds: u32,
}

/// The workload on this tray and with this place in a network, both of which other objects decide; its own mistakes are told
/// also when there is no tray for it.
pub(crate) fn check(
    parsed: &Parsed<MicroVmSpec>,
    tray: Option<Name>,
    network: Option<Attachment>,
    report: &mut Report<'_>,
) -> Option<Workload> {
    let file = &parsed.file;
    let spec = &parsed.object.spec;
    match (&spec.tray, &spec.tray_selector) {
        (Some(_), Some(selector)) => {
            let message = "spec: give `tray` or `traySelector`, not both";
            report.fault(file, selector.at, message);
        }
        (None, None) => {
            let message = "spec: say where it runs, with `tray` or `traySelector`";
            report.fault(file, parsed.name().at, message);
        }
        _ => {}
    }
    let cpus = spec.cpus.as_ref().map_or(1, |cpus| {
        if !CPUS.contains(&cpus.value) {
            let (least, most) = (CPUS.start(), CPUS.end());
            let message = format!("spec.cpus is {}, it must be {least} to {most}", cpus.value);
            report.fault(file, cpus.at, message);
        }
        cpus.value
    });
    let memory = spec.memory.value;
    if !u32::try_from(memory.mib()).is_ok_and(|mib| MEMORY_MIB.contains(&mib)) {
        let (least, most) = (MEMORY_MIB.start(), MEMORY_MIB.end() >> 10);
        let message = format!("spec.memory is {memory}, it must be {least}Mi to {most}Gi");
        report.fault(file, spec.memory.at, message);
    }
    command(file, spec, report);
    let grace = spec.grace_seconds.as_ref();
    let grace = report.within(file, grace, "spec.graceSeconds", (0, 600), 10);
    Some(Workload {
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
        working_dir: working_dir(file, spec.working_dir.as_ref(), report),
        user: spec.user.unwrap_or_default(),
        overlay: overlay(file, memory, spec.overlay.as_ref(), report),
        grace_seconds: u32::try_from(grace).unwrap_or(600),
        watchdog_seconds: watchdog(file, spec.watchdog_seconds.as_ref(), report),
        network,
        restart_policy: spec.restart_policy,
        backoff: backoff(file, spec.backoff.as_ref(), report),
        tray: tray?,
    })
}

fn watchdog(file: &str, seconds: Option<&Located<u64>>, report: &mut Report<'_>) -> Option<u32> {
    let bounds = (10, 3600);
    let within = report.within(file, seconds, "spec.watchdogSeconds", bounds, bounds.0);
    seconds.and(u32::try_from(within).ok())
}

fn command(file: &str, spec: &MicroVmSpec, report: &mut Report<'_>) {
    let command = &spec.command;
    if command.value.first().is_none_or(String::is_empty) {
        report.fault(
            file,
            command.at,
            "spec.command: the first entry must name a program",
        );
    }
    let mut size: usize = command.value.iter().map(|part| part.len() + 1).sum();
    if command.value.iter().any(|part| part.contains('\0')) {
        report.fault(
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
                report.fault(
                    file,
                    env.at,
                    format!("spec.env: `{key}` is not a variable's name: it must not be empty or hold `=` or NUL"),
                );
            }
            if value.contains('\0') {
                report.fault(
                    file,
                    env.at,
                    format!("spec.env.{key}: a NUL character cannot be passed to a program"),
                );
            }
        }
    }
    if size > MAX_TEXT {
        report.fault(
            file,
            command.at,
            format!("spec: command and env together are {size} bytes, {MAX_TEXT} are allowed"),
        );
    }
}

fn working_dir(file: &str, path: Option<&Located<String>>, report: &mut Report<'_>) -> String {
    let Some(path) = path else {
        return "/".to_owned();
    };
    let text = &path.value;
    if !text.starts_with('/')
        || text.len() > 4096
        || text.contains('\0')
        || text.split('/').any(|part| part == "..")
    {
        report.fault(
            file,
            path.at,
            "spec.workingDir: write an absolute path without `..`",
        );
    }
    text.clone()
}

fn overlay(
    file: &str,
    memory: Memory,
    overlay: Option<&Located<Memory>>,
    report: &mut Report<'_>,
) -> Memory {
    let Some(overlay) = overlay else {
        return Memory::from_mib(u32::try_from(memory.mib() / 4).unwrap_or(u32::MAX));
    };
    if overlay.value.bytes() >= memory.bytes() {
        report.fault(
            file,
            overlay.at,
            format!("spec.overlay is {}, it is kept in memory and must be less than spec.memory ({memory})", overlay.value),
        );
    }
    overlay.value
}

fn backoff(file: &str, spec: Option<&Located<BackoffSpec>>, report: &mut Report<'_>) -> Backoff {
    let initial = spec.and_then(|b| b.value.initial_seconds).unwrap_or(1);
    let max = spec
        .and_then(|b| b.value.max_seconds)
        .unwrap_or(initial.max(60));
    if let Some(spec) = spec
        && !((1..=3600).contains(&initial) && (initial..=86_400).contains(&max))
    {
        report.fault(
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

#[cfg(test)]
mod tests {
    use crate::testing::refused;

    #[test]
    fn what_a_workload_cannot_say_is_refused_with_place_and_remedy() {
        refused(
            "workloads/web.yaml",
            &[
                (
                    "128Mi",
                    "128M",
                    "workloads/web.yaml:9:11: spec.memory: `128M` is not an amount of memory: write for example 256Mi or 1Gi",
                ),
                (
                    "128Mi",
                    "16Mi",
                    "workloads/web.yaml:9:11: spec.memory is 16Mi, it must be 32Mi to 64Gi",
                ),
                (
                    "tray: tray-1",
                    "tray: tray-2",
                    "workloads/web.yaml:5:9: there is no tray `tray-2`; did you mean `tray-1`?",
                ),
                (
                    "name: lan",
                    "name: wan",
                    "workloads/web.yaml:12:19: there is no network `wan`; did you mean `lan`?",
                ),
                (
                    "10.80.0.10",
                    "10.80.0.1",
                    "workloads/web.yaml:12:33: spec.network: 10.80.0.1 is the gateway of network lan: choose another",
                ),
                (
                    "10.80.0.10",
                    "10.80.1.1",
                    "workloads/web.yaml:12:33: spec.network: 10.80.1.1 is not a usable address of network lan (10.80.0.0/24)",
                ),
                (
                    "/bin/server",
                    "''",
                    "workloads/web.yaml:10:12: spec.command: the first entry must name a program",
                ),
                (
                    "  memory: 128Mi\n",
                    "  memory: 128Mi\n  overlay: 1Gi\n",
                    "workloads/web.yaml:10:12: spec.overlay is 1Gi, it is kept in memory and must be less than spec.memory (128Mi)",
                ),
                (
                    "  memory: 128Mi\n",
                    "  memory: 128Mi\n  workingDir: ../x\n",
                    "workloads/web.yaml:10:15: spec.workingDir: write an absolute path without `..`",
                ),
                (
                    "{MODE:",
                    "{MO=DE:",
                    "workloads/web.yaml:11:8: spec.env: `MO=DE` is not a variable's name",
                ),
                (
                    "sha256:b",
                    "sha256:B",
                    "workloads/web.yaml:8:15: spec.rootfs.manifest: `sha256:Bbb",
                ),
                (
                    "  memory: 128Mi\n",
                    "  memory: 128Mi\n  cpus: 0\n",
                    "workloads/web.yaml:10:9: spec.cpus is 0, it must be 1 to 32",
                ),
                (
                    "  memory: 128Mi\n",
                    "  memory: 128Mi\n  watchdogSeconds: 9\n",
                    "workloads/web.yaml:10:20: spec.watchdogSeconds is 9, it must be 10 to 3600",
                ),
                (
                    "  tray: tray-1\n",
                    "",
                    "workloads/web.yaml:3:18: spec: say where it runs, with `tray` or `traySelector`",
                ),
            ],
        );
    }
}
