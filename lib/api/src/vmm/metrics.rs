// SPDX-License-Identifier: Apache-2.0
//! What a monitor has counted since its start: on the control socket as JSON, for whoever collects as OpenMetrics text.

use racklet_tell::metrics::Page;
use serde::{Deserialize, Serialize};

use crate::V1;

/// The answer to [`ControlAction::Metrics`](super::ControlAction::Metrics).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VmMetrics {
    /// Always 1.
    pub v: V1,
    /// By number: disks, cards, sockets, entropy, balloon.
    pub devices: Vec<DeviceMetrics>,
    /// Of all vCPUs together.
    pub exits: ExitCounts,
    /// Memory that the guest does without.
    pub balloon: BalloonMetrics,
    /// Connections that the host wanted to the guest, by `vsock.sock`.
    #[serde(default)]
    pub calls: CallCounts,
    /// How soon the guest came how far.
    #[serde(default)]
    pub boot: BootTimes,
}

/// Microseconds from the monitor's first instructions of its own until something happened; nothing where it has not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct BootTimes {
    /// A processor enters the guest (`KVM_RUN`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub entered_us: Option<u64>,
    /// The guest's first byte on its console.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub console_us: Option<u64>,
    /// guest-init's first word.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub guest_init_us: Option<u64>,
}

/// What came of the connections that the host wanted to a guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct CallCounts {
    /// The guest took them.
    pub taken: u64,
    /// It did not, or not in time; or there were too many, or what was said was not understood.
    pub refused: u64,
}

/// Memory that a guest does without, and what it says of the rest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct BalloonMetrics {
    /// What its balloon is to have, in MiB.
    pub target_mib: u32,
    /// What it has, as the guest says, in MiB.
    pub actual_mib: u32,
    /// Bytes that the guest gave back so far, out of its balloon or as free pages; memory that it used again and gave back again
    /// counts as often.
    pub given_back: u64,
    /// What the guest said when it was last asked, which each question for metrics does for the next one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub guest: Option<GuestMemory>,
}

/// A guest's claims of its own memory, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct GuestMemory {
    /// What its kernel has.
    pub total: u64,
    /// Unused.
    pub free: u64,
    /// What its programs could have, an estimate of its kernel.
    pub available: u64,
}

/// What one device has counted. A reset forgets nothing of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceMetrics {
    /// `disk0`, `card0`, … as the guest numbers them; `sockets`, `entropy`, `balloon`.
    pub device: String,
    /// Requests and buffers that were given back to the driver, however they ended.
    pub returned: u64,
    /// …of these, with nothing done for a fault in their form or in what they asked for.
    pub refused: u64,
    /// Good requests whose host's side did not do its part: a read or write that failed, a frame that was lost, a connection that
    /// nobody took.
    pub failed: u64,
    /// Turns that ended with their budget and not with the work.
    pub cut_turns: u64,
    /// How often a request, a part of one, or a frame had to wait for the device's rate.
    pub throttled: u64,
    /// Interrupts that were raised.
    pub interrupts: u64,
    /// Resets by the driver.
    pub resets: u64,
    /// Faults, each of which stopped the device until its reset.
    pub faults: FaultCounts,
}

/// Faults of the guest at a device, by kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct FaultCounts {
    /// It made a request available whose number is none.
    pub no_such_head: u64,
    /// It made more requests available than the queue can hold.
    pub runaway: u64,
    /// It switched on a queue whose size or place cannot be.
    pub setup: u64,
    /// A part of a queue is not guest memory.
    pub outside_memory: u64,
}

/// How often vCPUs left the guest, by why.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ExitCounts {
    /// A read of a device's register.
    pub mmio_read: u64,
    /// A write to a device's register, other than a notification, which the kernel takes.
    pub mmio_write: u64,
    /// A read of a port, where the architecture has ports.
    pub port_read: u64,
    /// A write to a port.
    pub port_write: u64,
    /// Interrupted from outside: a signal.
    pub interrupted: u64,
    /// Anything else.
    pub other: u64,
}

impl FaultCounts {
    /// With the names that metrics have for them.
    #[must_use]
    pub fn by_name(&self) -> [(&'static str, u64); 4] {
        [
            ("no-such-head", self.no_such_head),
            ("runaway", self.runaway),
            ("setup", self.setup),
            ("outside-memory", self.outside_memory),
        ]
    }
}

impl ExitCounts {
    /// With the names that metrics have for them.
    #[must_use]
    pub fn by_name(&self) -> [(&'static str, u64); 6] {
        [
            ("mmio-read", self.mmio_read),
            ("mmio-write", self.mmio_write),
            ("port-read", self.port_read),
            ("port-write", self.port_write),
            ("interrupted", self.interrupted),
            ("other", self.other),
        ]
    }
}

/// A family of one value per device.
type Family = (&'static str, &'static str, fn(&DeviceMetrics) -> u64);

const FAMILIES: [Family; 7] = [
    (
        "racklet_vm_device_returned",
        "Requests and buffers that a device gave back to its driver.",
        |device| device.returned,
    ),
    (
        "racklet_vm_device_refused",
        "Requests that came back undone for a fault in their form or in what they asked for.",
        |device| device.refused,
    ),
    (
        "racklet_vm_device_failed",
        "Good requests whose host's side failed: errors of a disk, lost frames, connections that nobody took.",
        |device| device.failed,
    ),
    (
        "racklet_vm_device_cut_turns",
        "Turns of a device that ended with their budget and not with the work.",
        |device| device.cut_turns,
    ),
    (
        "racklet_vm_device_throttled",
        "How often a request, a part of one, or a frame had to wait for a device's rate.",
        |device| device.throttled,
    ),
    (
        "racklet_vm_device_interrupts",
        "Interrupts that a device raised.",
        |device| device.interrupts,
    ),
    (
        "racklet_vm_device_resets",
        "Resets of a device by its driver.",
        |device| device.resets,
    ),
];

/// Writes the counters of these microVMs; `label` is what their names are called, as `workload` on a tray.
pub fn write(page: &mut Page, label: &str, vms: &[(&str, &VmMetrics)]) {
    for (family, help, value) in FAMILIES {
        page.family(family, "counter", help);
        for (name, metrics) in vms {
            for device in &metrics.devices {
                let labels = [(label, *name), ("device", &*device.device)];
                page.sample(&format!("{family}_total"), &labels, value(device));
            }
        }
    }
    page.family(
        "racklet_vm_device_faults",
        "counter",
        "Faults of a guest, each of which stopped the device until its reset, by kind.",
    );
    for (name, metrics) in vms {
        for device in &metrics.devices {
            for (fault, count) in device.faults.by_name() {
                let labels = [
                    (label, *name),
                    ("device", &*device.device),
                    ("fault", fault),
                ];
                page.sample("racklet_vm_device_faults_total", &labels, count);
            }
        }
    }
    page.family(
        "racklet_vm_exits",
        "counter",
        "How often vCPUs left the guest for the monitor, by why.",
    );
    for (name, metrics) in vms {
        for (exit, count) in metrics.exits.by_name() {
            let labels = [(label, *name), ("exit", exit)];
            page.sample("racklet_vm_exits_total", &labels, count);
        }
    }
    page.family(
        "racklet_vm_calls",
        "counter",
        "Connections that the host wanted to a guest by vsock, by what came of them.",
    );
    for (name, metrics) in vms {
        let CallCounts { taken, refused } = metrics.calls;
        for (end, count) in [("taken", taken), ("refused", refused)] {
            let labels = [(label, *name), ("end", end)];
            page.sample("racklet_vm_calls_total", &labels, count);
        }
    }
    let family = "racklet_vm_boot_seconds";
    let help = "Time from the monitor's start until the guest was entered, said its first byte, and had guest-init call.";
    page.family(family, "gauge", help);
    for (name, metrics) in vms {
        let BootTimes {
            entered_us,
            console_us,
            guest_init_us,
        } = metrics.boot;
        let stages = [
            ("entered", entered_us),
            ("console", console_us),
            ("guest-init", guest_init_us),
        ];
        for (stage, us) in stages {
            let Some(us) = us else { continue };
            let seconds = format_args!("{}.{:06}", us / 1_000_000, us % 1_000_000);
            page.sample(family, &[(label, *name), ("stage", stage)], seconds);
        }
    }
    write_memory(page, label, vms);
}

fn write_memory(page: &mut Page, label: &str, vms: &[(&str, &VmMetrics)]) {
    let mib = |mib: u32| u64::from(mib) << 20;
    let each = |page: &mut Page, name: &str, value: &dyn Fn(&BalloonMetrics) -> Option<u64>| {
        for (vm, metrics) in vms {
            if let Some(value) = value(&metrics.balloon) {
                page.sample(name, &[(label, *vm)], value);
            }
        }
    };
    let family = "racklet_vm_memory_given_back_bytes";
    let help = "Memory that a guest gave back to the host, as often as it did.";
    page.family(family, "counter", help);
    each(page, &format!("{family}_total"), &|b| Some(b.given_back));
    let family = "racklet_vm_balloon_target_bytes";
    page.family(family, "gauge", "Memory that a guest is to do without.");
    each(page, family, &|b| Some(mib(b.target_mib)));
    let family = "racklet_vm_balloon_bytes";
    let help = "Memory that a guest does without, as it says.";
    page.family(family, "gauge", help);
    each(page, family, &|b| Some(mib(b.actual_mib)));
    let family = "racklet_vm_guest_memory_available_bytes";
    let help =
        "What a guest's programs could have, as its kernel said when metrics were last asked for.";
    page.family(family, "gauge", help);
    each(page, family, &|b| b.guest.map(|guest| guest.available));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn device(device: &str, refused: u64) -> DeviceMetrics {
        DeviceMetrics {
            device: device.to_owned(),
            returned: 9,
            refused,
            failed: 0,
            cut_turns: 0,
            throttled: 0,
            interrupts: 7,
            resets: 1,
            faults: FaultCounts {
                runaway: 2,
                ..FaultCounts::default()
            },
        }
    }

    fn metrics() -> VmMetrics {
        VmMetrics {
            v: V1,
            devices: vec![device("disk0", 3), device("sockets", 0)],
            exits: ExitCounts {
                mmio_read: 5,
                ..ExitCounts::default()
            },
            balloon: BalloonMetrics {
                target_mib: 64,
                actual_mib: 63,
                given_back: u64::MAX,
                guest: Some(GuestMemory {
                    total: u64::MAX,
                    free: u64::MAX,
                    available: u64::MAX,
                }),
            },
            calls: CallCounts {
                taken: 4,
                refused: u64::MAX,
            },
            boot: BootTimes {
                entered_us: Some(7_000_042),
                console_us: Some(u64::MAX),
                guest_init_us: None,
            },
        }
    }

    #[test]
    fn the_samples_of_all_microvms_stand_together_behind_their_familys_name() {
        let mut page = Page::default();
        let metrics = metrics();
        write(&mut page, "workload", &[("a", &metrics), ("b", &metrics)]);
        let text = page.finish();
        let mut families = std::collections::BTreeSet::new();
        let mut family = String::new();
        for line in text
            .lines()
            .filter(|line| !line.starts_with("# HELP") && *line != "# EOF")
        {
            match line.strip_prefix("# TYPE ") {
                Some(declared) => {
                    let (name, kind) = declared.split_once(' ').expect("a name and a type");
                    assert!(families.insert(name.to_owned()), "{name} is declared twice");
                    family = match kind {
                        "counter" => format!("{name}_total"),
                        other => {
                            assert_eq!(other, "gauge");
                            name.to_owned()
                        }
                    };
                }
                None => assert!(line.starts_with(&format!("{family}{{")), "{line}"),
            }
        }
        for line in [
            r#"racklet_vm_device_refused_total{workload="b",device="disk0"} 3"#,
            r#"racklet_vm_device_faults_total{workload="a",device="sockets",fault="runaway"} 2"#,
            r#"racklet_vm_exits_total{workload="a",exit="mmio-read"} 5"#,
            r#"racklet_vm_boot_seconds{workload="b",stage="entered"} 7.000042"#,
            r#"racklet_vm_calls_total{workload="a",end="taken"} 4"#,
            r#"racklet_vm_balloon_bytes{workload="a"} 66060288"#,
        ] {
            assert!(text.lines().any(|had| had == line), "{line}\n{text}");
        }
    }

    #[test]
    fn all_devices_of_the_largest_machine_fit_into_one_line() {
        let names = (0..8).map(|n| format!("disk{n}"));
        let names = names.chain((0..4).map(|n| format!("card{n}")));
        let most = |name: String| DeviceMetrics {
            device: name,
            returned: u64::MAX,
            refused: u64::MAX,
            failed: u64::MAX,
            cut_turns: u64::MAX,
            throttled: u64::MAX,
            interrupts: u64::MAX,
            resets: u64::MAX,
            faults: FaultCounts {
                no_such_head: u64::MAX,
                runaway: u64::MAX,
                setup: u64::MAX,
                outside_memory: u64::MAX,
            },
        };
        let devices = names
            .chain(["sockets".into(), "entropy".into(), "balloon".into()])
            .map(most);
        let metrics = VmMetrics {
            devices: devices.collect(),
            ..metrics()
        };
        let line = serde_json::to_string(&metrics).unwrap();
        // `racklet_line::MAX_LINE`, and what the answer around it takes.
        assert!(line.len() < 64 * 1024 - 100, "{}", line.len());
        assert_eq!(serde_json::from_str::<VmMetrics>(&line).unwrap(), metrics);
    }
}
