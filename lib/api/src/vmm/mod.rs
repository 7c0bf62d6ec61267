// SPDX-License-Identifier: Apache-2.0
//! What the hypervisor and a microVM's monitor (`vmm`) say to each other: the configuration file, the status file and the
//! control socket's messages.
//!
//! Everything here is one JSON object per line or file, with `"v":1`. This module does not say how a VM is chosen or
//! scheduled, and does no I/O.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use racklet_trust::Digest;
use serde::{Deserialize, Serialize};

use crate::V1;
use crate::guest::{CommandEnd, exec as guest_exec};

pub mod balloon;
mod checks;
pub mod console;
pub mod disk;
pub mod metrics;
pub mod rate;
mod wire;

pub use checks::InvalidVm;
pub(crate) use checks::{absolute, ensure, label, watchdog};

/// Largest `config.json` and `guest.json`, in bytes.
pub const MAX_CONFIG: usize = 256 * 1024;

/// Seconds beyond a stop's grace in which a monitor waits for the guest's report of its end; then it ends the guest.
pub const REPORT_S: u32 = 10;
/// Seconds a guest has to power off after its report; then its monitor ends it, and it has exited as it reported.
pub const POWER_OFF_S: u32 = 10;

/// Exit statuses of the `vmm` process; `status.json` has the details.
pub mod exit {
    /// The command ended and guest-init reported how; see [`super::VmState::Exited`].
    pub const EXITED: i32 = 0;
    /// The guest ended without a report: kernel panic, triple fault, reset. See [`super::VmState::Crashed`].
    pub const CRASHED: i32 = 10;
    /// Ended by `kill`, or by `stop` when the guest did not obey in time. See [`super::VmState::Killed`].
    pub const KILLED: i32 = 11;
    /// Nothing was started: bad configuration, no KVM, a missing file. See [`super::VmState::Refused`].
    pub const REFUSED: i32 = 12;
    /// The monitor itself failed after the start. See [`super::VmState::Failed`].
    pub const FAILED: i32 = 13;
    /// The guest switched itself off. See [`super::VmState::PoweredOff`].
    pub const POWERED_OFF: i32 = 14;
    /// The guest restarted itself. See [`super::VmState::Rebooted`].
    pub const REBOOTED: i32 = 15;
}

/// `config.json`: everything a monitor needs to know; read once, at its start.
///
/// Checked when it is parsed: a value of this type made by `serde` obeys every bound named below.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "wire::VmConfig")]
pub struct VmConfig {
    /// Always 1.
    pub v: V1,
    /// Name of the microVM: 1 to 63 of `a-z`, `0-9`, `-`; also its folder's name.
    pub name: String,
    /// Virtual CPUs, 1 to 32.
    pub cpus: u8,
    /// Guest memory in MiB, 32 to 1,048,576.
    pub memory_mib: u32,
    /// MiB of it that the guest is to do without from its start on (its balloon); [`ControlAction::Balloon`] changes it. At most
    /// [`balloon::most`].
    #[serde(skip_serializing_if = "is_zero")]
    pub balloon_mib: u32,
    /// Kernel: ELF `vmlinux`, the same compressed with zstd, or a bzImage. Absolute path. Absent where the guest is restored.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kernel: Option<PathBuf>,
    /// A snapshot's folder, from which the guest goes on: it has its kernel, initramfs and arguments already, and processors, memory,
    /// disks and cards are to be as they were. Absolute path.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub restore: Option<PathBuf>,
    /// Archives given to the kernel one behind the other as its initramfs: guest-init's, then `guest.cpio`. Absolute paths, at most 8; a guest without
    /// any begins at its disk.
    pub initramfs: Vec<PathBuf>,
    /// Added to the kernel command line. Printable ASCII, at most 1,024 bytes.
    pub arguments: String,
    /// `/dev/vda`, `/dev/vdb`, … in this order; at most 8.
    pub disks: Vec<VmDisk>,
    /// Places behind them for disks that come later ([`ControlAction::Attach`]); with `disks` at most 8. A guest sees each from its start
    /// on, as a disk without a sector.
    #[serde(skip_serializing_if = "is_none")]
    pub spare_disks: u8,
    /// Most bytes of a file that is written to in a spare place; where absent, what the monitor writes to already decides (the largest of
    /// its disks, of what they may grow to, and of the guest's memory). A block device has no such bound.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub spare_disk_bytes: Option<u64>,
    /// `eth0`, … in this order; at most 4.
    pub networks: Vec<VmNetwork>,
    /// The guest's vsock address; 3 or more, distinct among the VMs of a host by convention only (no kernel vhost is used).
    pub vsock_cid: u32,
    /// Whom the monitor becomes once everything is open.
    pub confinement: VmConfinement,
    /// A guest that gives no sign of life for this many seconds has hung and is over, 10 to 3,600; none is waited for where absent. Its
    /// `guest.json` says the same, so that guest-init gives one in time; from the kernel to guest-init's first word is one such time, too.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub watchdog_s: Option<u32>,
    /// Bound of `console.log` and of `workload.log`, each kept twice (`.1` is the older part), in bytes; 4 KiB to 1 GiB.
    pub log_bytes: u64,
}

fn is_none(number: &u8) -> bool {
    *number == 0
}

fn is_zero(number: &u32) -> bool {
    *number == 0
}

/// A disk of a microVM.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VmDisk {
    /// File or block device; absolute; its size is a multiple of 512 bytes (a remainder is not visible to the guest).
    pub path: PathBuf,
    /// Opened read-only, and the guest is told so.
    pub read_only: bool,
    /// Serial number the guest sees (`/sys/block/vda/serial`): at most 20 printable ASCII bytes.
    #[serde(default)]
    pub serial: String,
    /// The digest that the file system verifies each block of the file against (fs-verity), as it must say of what the monitor opened:
    /// whoever asks for the disk looked at the file before, and its path may lead to another one since. Only with `read_only`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verity: Option<Digest>,
    /// How fast it may be.
    #[serde(default)]
    pub rate: rate::DiskRate,
    /// Most bytes that its file may have later, for [`ControlAction::Resize`]; what it has at the start where absent. A block device
    /// has no such bound.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grows_to: Option<u64>,
    /// It is in a spare place from the start on: it can be [detached](ControlAction::Detach), and a guest that is restored finds it where
    /// one was attached when it was saved.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub spare: bool,
}

/// A network card of a microVM.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VmNetwork {
    /// Name of an existing persistent tap device (1 to 15 bytes); the monitor attaches to it and makes nothing.
    pub tap: String,
    /// The guest's hardware address: unicast.
    pub mac: Mac,
    /// Bytes of IP packet per frame, 1,280 to 9,000; the guest is told.
    #[serde(default = "default_mtu")]
    pub mtu: u16,
    /// How fast it may be.
    #[serde(default)]
    pub rate: rate::CardRate,
}

fn default_mtu() -> u16 {
    1500
}

/// How a monitor is confined.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VmConfinement {
    /// User the monitor becomes: its own, never 0.
    pub uid: u32,
    /// Group the monitor becomes, never 0.
    pub gid: u32,
    /// An existing cgroup v2 folder to enter, for example `/sys/fs/cgroup/racklet/web`.
    #[serde(default)]
    pub cgroup: Option<PathBuf>,
}

/// A hardware address, written `02:52:4b:00:00:01`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Mac(pub [u8; 6]);

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl From<Mac> for String {
    fn from(mac: Mac) -> String {
        mac.to_string()
    }
}

impl FromStr for Mac {
    type Err = String;
    fn from_str(text: &str) -> Result<Mac, String> {
        let wrong = || format!("{text:?} is not a hardware address such as 02:52:4b:00:00:01");
        let mut bytes = [0; 6];
        let mut parts = text.split(':');
        for byte in &mut bytes {
            let part = parts.next().ok_or_else(wrong)?;
            if part.len() != 2 || !part.bytes().all(|b| b.is_ascii_hexdigit()) {
                return Err(wrong());
            }
            *byte = u8::from_str_radix(part, 16).map_err(|_| wrong())?;
        }
        if parts.next().is_some() {
            return Err(wrong());
        }
        if bytes[0] & 1 != 0 || bytes == [0; 6] {
            return Err(format!("{text} is not a unicast hardware address"));
        }
        Ok(Mac(bytes))
    }
}

impl TryFrom<String> for Mac {
    type Error = String;
    fn try_from(text: String) -> Result<Mac, String> {
        text.parse()
    }
}

/// `status.json`: replaced as a whole (write, rename) at each change, so a reader never sees half of one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VmStatus {
    /// Always 1.
    pub v: V1,
    /// Process id of the monitor, as its starter sees it.
    pub pid: u32,
    /// When this state began, Unix milliseconds.
    pub since_ms: u64,
    /// What the host lacks of a monitor's usual confinement, a line each; nothing where all of it is there.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub lacks: Vec<String>,
    /// The guest's processors stand still.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub paused: bool,
    /// What is the case.
    #[serde(flatten)]
    pub state: VmState,
}

/// State of a microVM. All but the first three are final: the process ends right after writing one of them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "kebab-case")]
pub enum VmState {
    /// The monitor is setting up; no guest instruction ran.
    Starting,
    /// The guest runs; guest-init has not called yet.
    Running,
    /// guest-init has connected and started the command.
    Up,
    /// The command ended and guest-init said how.
    Exited {
        /// How.
        #[serde(flatten)]
        end: CommandEnd,
        /// It ended after a stop order.
        stopped: bool,
    },
    /// The guest ended without a report.
    Crashed {
        /// One line, with the kernel's own panic line when there was one.
        reason: String,
    },
    /// The guest switched itself off (`poweroff`, `halt`) without a report.
    PoweredOff,
    /// The guest restarted itself (`reboot`) without a report. The monitor starts nothing again: that is its starter's decision.
    Rebooted,
    /// Ended by force from outside.
    Killed {
        /// By whom or why, one line.
        reason: String,
    },
    /// Never started; a retry without a change will fail alike.
    Refused {
        /// One line: what is wrong and what to do.
        reason: String,
    },
    /// The monitor failed.
    Failed {
        /// One line.
        reason: String,
    },
}

impl VmState {
    /// The process that wrote this has ended, or is about to.
    #[must_use]
    pub fn is_final(&self) -> bool {
        !matches!(self, VmState::Starting | VmState::Running | VmState::Up)
    }
}

/// A request on `control.sock`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ControlRequest {
    /// Always 1.
    pub v: V1,
    /// What to do.
    #[serde(rename = "do")]
    pub action: ControlAction,
}

/// What a monitor can be asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum ControlAction {
    /// Answer with the status.
    State,
    /// SIGTERM to the command, SIGKILL after the grace, then power off; answered at once, the end is seen in `status.json`.
    Stop {
        /// Seconds of grace; absent means the guest's own default.
        grace_s: Option<u32>,
    },
    /// Press the guest's power button: guest-init is asked to end the command and to power off, within the guest's own grace, and nothing
    /// is forced: a guest that does not end goes on. One whose agent has not called has no such button, and the answer is an error
    /// that says so.
    PowerOff,
    /// End now. Answered before the process ends.
    Kill,
    /// Answer with what was counted.
    Metrics,
    /// Let the guest's processors stand still; answered when they do, with a status that says so (or, where something else came
    /// first, with one that does not). Devices finish what they were given and take what comes, as far as the guest has made room
    /// for it. No time passes for a guest that stands still: neither its watchdog's nor that of a stop.
    Pause,
    /// Look how large a disk's file is now, and let the guest know; answered with [`ControlReply::Resized`] when the disk has done so,
    /// which is after the step of a request that is under way.
    Resize {
        /// From 0, as in `disks`.
        disk: u8,
    },
    /// Put a disk into the first spare place that is free. Its open file or block device comes with the request (`SCM_RIGHTS`): open for
    /// reading alone where it is `read_only`, else for both, and locked by nobody else (flock). Answered with
    /// [`ControlReply::Attached`] when the guest is told.
    Attach(disk::DiskAttach),
    /// Take the disk out of a spare place. The request that is under way is finished and what was written is stable when this is answered,
    /// with [`ControlReply::Detached`]; what the guest asks of the disk from then on fails, and lock and descriptor are given back. The
    /// guest is not asked: it is to have unmounted it.
    Detach {
        /// From 0, as in `disks`, behind which spare places count on.
        disk: u8,
    },
    /// Let a disk or card be only so fast from now on; answered with the status when the device has been told.
    Rate(rate::RateOrder),
    /// Let them go on. A stop does so, too: who stands still cannot end in order.
    Resume,
    /// Save the machine into two files, whose descriptors come with the request (`SCM_RIGHTS`): its state, then its memory, both plain,
    /// empty and open for writing. The guest stands still meanwhile. Answered when both are stable on their disk; a snapshot is what has been
    /// put in its place whole, which is for who asks: files that somebody may read are never written into.
    Snapshot {
        /// What becomes of the guest.
        then: AfterSnapshot,
        /// Only what is other than in a full snapshot is written of its memory. That one's memory comes as a third file, open for
        /// reading, and this is the digest of its state.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        since: Option<Digest>,
    },
    /// Answer with console output from this offset on, in pieces, then with what comes, until the connection ends. Other requests
    /// may be sent meanwhile.
    Console {
        /// Absent: only what comes from now on. What is no longer kept is counted as lost.
        from: Option<u64>,
    },
    /// How much memory the guest is to do without. Answered at once with what it has in its balloon so far.
    Balloon {
        /// MiB, at most [`balloon::most`] of its memory; absent: as before, only the answer is wanted.
        mib: Option<u32>,
    },
    /// Type this on the guest's console.
    Input {
        /// Any bytes.
        data: console::Bytes,
    },
    /// Have guest-init start another process, for the one who listens at this port of the guest's; answered with the state at once.
    /// Refused where guest-init is not there to hear it.
    Exec(guest_exec::Call),
}

/// What becomes of a guest that was saved. One that could not be goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AfterSnapshot {
    /// It does what it did before: a guest that stood still goes on doing so.
    GoOn,
    /// It is ended, as by [`ControlAction::Kill`], with no instruction after the saved ones. Where nobody waits for the answer any more
    /// it goes on: the snapshot may be gone with who asked.
    End,
}

/// How large a snapshot is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnapshotBytes {
    /// Of its state.
    pub state: u64,
    /// Of its memory, as far as it is no hole: pages of zeroes are.
    pub memory: u64,
}

/// The answer on `control.sock`: one line per request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ControlReply {
    /// The present state; for `stop` and `kill`, the state before they take effect.
    Status(VmStatus),
    /// What was counted.
    Metrics(metrics::VmMetrics),
    /// The machine was saved.
    Snapshot(SnapshotBytes),
    /// A piece of the console.
    Console(console::ConsolePiece),
    /// The guest's balloon.
    Balloon(balloon::BalloonState),
    /// How many bytes of an input were taken; the guest has not read more than [`console::MAX_INPUT`] that came before the rest.
    Input {
        /// From its first on.
        taken: usize,
    },
    /// The guest has been told that the disk has so many bytes.
    Resized {
        /// Whole sectors of 512.
        bytes: u64,
    },
    /// The guest has been told of a disk.
    Attached {
        /// Its number: 0 is `/dev/vda` to Linux.
        disk: u8,
        /// Whole sectors of 512.
        bytes: u64,
    },
    /// The guest has been told that the disk has no sector any more.
    Detached {
        /// Its number.
        disk: u8,
    },
    /// The request was not understood, or asks for what cannot be.
    Error {
        /// One line.
        reason: String,
    },
}

#[cfg(test)]
mod tests;
