// SPDX-License-Identifier: Apache-2.0
//! What PID 1 of a microVM (`guest-init`) is told in its configuration file, and what it and the monitor say to each other
//! on the agent channel (vsock port 1024): one JSON object per line, with `"v":1`.
//!
//! What it reports is the guest's claim, nothing more.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::V1;
use crate::vmm::Mac;
use crate::vmm::console::Bytes;

mod checks;
pub mod exec;
mod wire;

/// Guest port of the agent channel; the connection ends inside the monitor.
pub const AGENT_PORT: u32 = 1024;
/// The agent connects from a port below this one, which a process in the guest can bind with `CAP_NET_BIND_SERVICE` only
/// (Linux, `LAST_RESERVED_PORT` of `net/vmw_vsock/af_vsock.c`): the workload's own user is not taken for guest-init.
pub const AGENT_FROM_BELOW: u32 = 1024;
/// Longest reason for a command that was not started, in characters.
pub const MAX_REASON: usize = 300;
/// Longest line on the agent channel, in bytes, newline included.
pub const MAX_LINE: usize = 32 * 1024;
/// Longest piece of output in one [`AgentReport::Output`], in bytes before JSON escapes.
pub const MAX_OUTPUT: usize = 4 * 1024;

/// An interface's address with its prefix length, written `192.168.7.2/24`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct InterfaceAddress {
    /// The interface's own address.
    pub address: IpAddr,
    /// Bits of the network part.
    pub prefix: u8,
}

impl fmt::Display for InterfaceAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

impl From<InterfaceAddress> for String {
    fn from(address: InterfaceAddress) -> String {
        address.to_string()
    }
}

impl FromStr for InterfaceAddress {
    type Err = String;
    fn from_str(text: &str) -> Result<InterfaceAddress, String> {
        let wrong =
            || format!("{text:?} is not an address with a prefix length such as 192.168.7.2/24");
        let (address, prefix) = text.split_once('/').ok_or_else(wrong)?;
        let address: IpAddr = address.parse().map_err(|_| wrong())?;
        let prefix: u8 = prefix.parse().map_err(|_| wrong())?;
        let most = if address.is_ipv4() { 32 } else { 128 };
        if prefix > most || address.is_unspecified() || address.is_multicast() {
            return Err(wrong());
        }
        Ok(InterfaceAddress { address, prefix })
    }
}

impl TryFrom<String> for InterfaceAddress {
    type Error = String;
    fn try_from(text: String) -> Result<InterfaceAddress, String> {
        text.parse()
    }
}

/// `/racklet/guest.json` in the guest's initramfs: what guest-init sets up and runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "wire::GuestConfig")]
pub struct GuestConfig {
    /// Always 1.
    pub v: V1,
    /// Host name, 1 to 63 bytes.
    pub hostname: String,
    /// The command and its arguments; the first is looked up in `PATH` of `environment` when it holds no slash.
    pub command: Vec<String>,
    /// The command's whole environment; `PATH`, `HOME` and `TERM` get usual values when absent.
    pub environment: BTreeMap<String, String>,
    /// Where the command starts; absolute.
    pub working_directory: PathBuf,
    /// Whom the command runs as.
    pub user: GuestUser,
    /// What lies over the read-only root file system.
    pub overlay: GuestOverlay,
    /// Further disks to mount, below the root.
    pub volumes: Vec<GuestVolume>,
    /// Set up on the cards in order; `networks[0]` is `eth0`.
    pub networks: Vec<GuestNetwork>,
    /// Name servers for `/etc/resolv.conf`; none leaves the image's file alone.
    pub dns: Vec<IpAddr>,
    /// Seconds between SIGTERM and SIGKILL when the stop order names none; 0 to 3,600.
    pub grace_s: u32,
    /// The monitor wants a sign of life at least this often, in seconds; absent where it does not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub watchdog_s: Option<u32>,
}

/// Numeric user of the workload: names are a matter of the image, resolved when it is built.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GuestUser {
    /// User.
    pub uid: u32,
    /// Group.
    pub gid: u32,
}

/// What makes the workload's root writable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum GuestOverlay {
    /// Nothing: the root stays read-only (`/tmp` and `/run` are in memory anyway).
    None,
    /// An overlay in guest memory, gone when the VM ends.
    Memory {
        /// Bound in MiB, at least 1.
        size_mib: u32,
    },
    /// An overlay on an ext4 file system that the host made and keeps: the second disk, `/dev/vdb`.
    Disk,
}

/// A disk mounted below the workload's root.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GuestVolume {
    /// Number of the disk in [`VmConfig::disks`](crate::vmm::VmConfig::disks): 1 is `/dev/vdb`. 0 is the root and refused.
    pub disk: u8,
    /// Where: absolute, without `..`; made when absent and the root is writable.
    pub path: PathBuf,
    /// Mounted read-only.
    #[serde(default)]
    pub read_only: bool,
}

/// One network card as the guest sets it up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GuestNetwork {
    /// Addresses of the card.
    pub addresses: Vec<InterfaceAddress>,
    /// Default routes over this card: at most one per address family.
    #[serde(default)]
    pub gateways: Vec<IpAddr>,
}

/// How the workload's command ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "end", rename_all = "kebab-case")]
pub enum CommandEnd {
    /// By itself.
    Code {
        /// Its exit status.
        code: u8,
    },
    /// By a signal.
    Signal {
        /// Number of the signal.
        signal: u8,
    },
    /// It could not be started (no such file, bad disk, …).
    NotStarted {
        /// One line.
        reason: String,
    },
}

/// A line from guest-init to the monitor. What it says is the guest's claim.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "report", rename_all = "kebab-case")]
pub enum AgentReport {
    /// First line of each connection.
    Hello {
        /// Always 1.
        v: V1,
        /// The command runs (false only before it was started).
        running: bool,
    },
    /// A line of output.
    Output(WorkloadLine),
    /// guest-init runs: sent where [`GuestConfig::watchdog_s`] wants it.
    Alive,
    /// The command ended; sent until released.
    Ended {
        /// How.
        #[serde(flatten)]
        end: CommandEnd,
    },
}

/// A line from the monitor to guest-init.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "order", rename_all = "kebab-case", deny_unknown_fields)]
pub enum AgentOrder {
    /// Terminate the command.
    Stop {
        /// Seconds between SIGTERM and SIGKILL; absent means [`GuestConfig::grace_s`].
        grace_s: Option<u32>,
    },
    /// The end is recorded: power off.
    Release,
    /// Start another process, for somebody on the host who listens.
    Exec(exec::Call),
    /// This guest was saved, and goes on in another monitor: the first order of each connection there.
    Restored {
        /// Fresh random bytes: another guest may go on from the same snapshot, with the same random numbers.
        seed: Bytes,
        /// The tray's clock, Unix milliseconds.
        time_ms: u64,
        /// What the cards are called from now on; `cards[0]` is `eth0`.
        cards: Vec<Mac>,
    },
}

/// A line of `workload.log`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkloadLine {
    /// Guest's clock, Unix milliseconds.
    pub time_ms: u64,
    /// Where the command wrote it.
    pub stream: OutputStream,
    /// The text without its newline; bytes that are not UTF-8 are replaced.
    pub line: String,
    /// The line was longer than [`MAX_OUTPUT`] and continues in the next entry of this stream.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub partial: bool,
}

/// Which output.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OutputStream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
    /// A remark of guest-init itself, for example that lines were lost.
    Init,
}

#[cfg(test)]
mod tests;
