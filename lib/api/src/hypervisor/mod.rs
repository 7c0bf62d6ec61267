// SPDX-License-Identifier: Apache-2.0
//! The tray's API over HTTPS (port 7443) and over `/run/racklet/hypervisor.sock`: what is signed, and what is answered.
//!
//! | request | answer |
//! | --- | --- |
//! | `GET /v1/state` | [`State`] |
//! | `GET /v1/workloads/<name>` | [`WorkloadState`] |
//! | `GET /v1/workloads/<name>/logs?log=workload&from=<cursor or start>&follow=<seconds>` | [`LogPage`] |
//! | `GET /v1/rejected` | [`Rejection`], or 404 when nothing is refused |
//! | `POST /v1/sync` | [`SyncAnswer`]: the repository is looked at now |
//! | `GET /metrics` | OpenMetrics text |
//!
//! Anything but 200 carries a [`Fault`]. Who may ask over HTTPS is in [`access`]. The Unix socket asks for no signature: only root
//! can open it. A connection carries one request. Names and bytes only; no sockets here.

use crate::handoff::Head;
use crate::init::StateStatus;
use racklet_rack::Problem;
use serde::{Deserialize, Serialize};

pub mod access;

/// The TCP port.
pub const PORT: u16 = 7443;
/// The Unix socket.
pub const SOCKET: &str = "/run/racklet/hypervisor.sock";
/// The largest request body.
pub const MAX_BODY: usize = 64 * 1024;
/// The `from` that means the oldest line there is; without `from`, a page begins near the end.
pub const START: &str = "start";
/// The longest `follow`, in seconds.
pub const MAX_FOLLOW: u64 = 20;

/// What is wrong with a request, or inside the tray.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fault {
    /// One line for people.
    pub error: String,
}

/// The answer to `POST /v1/sync`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SyncAnswer {
    /// Always 1.
    pub v: u32,
    /// The head in force when the question came; the new one shows in [`State`].
    pub head: Option<Head>,
}

/// How a tray is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct State {
    /// Always 1.
    pub v: u32,
    /// The tray's name.
    pub tray: String,
    /// The rack's id.
    pub rack: String,
    /// The tray's clock, Unix seconds.
    pub time: u64,
    /// Seconds since its kernel started.
    pub uptime: u64,
    /// Memory of the whole tray, when the kernel tells it.
    #[serde(default)]
    pub memory: Option<MemoryState>,
    /// Where it keeps what it must remember, once `init` has said so.
    #[serde(default)]
    pub state: Option<StateStatus>,
    /// Bytes received from Git servers since its hypervisor started, TLS included.
    #[serde(default)]
    pub received: u64,
    /// The commit in force.
    pub head: Option<Head>,
    /// Whether everything the commit in force asks for is the case.
    pub converged: bool,
    /// The newest commit, when it is refused and an older one stays in force.
    pub rejected: Option<Rejection>,
    /// The repository.
    pub repository: RepositoryState,
    /// The operating system.
    pub release: ReleaseState,
    /// What the boot partition starts first; absent before `init` has said so, and where there are no slots.
    #[serde(default)]
    pub bootstrap: Option<BootstrapState>,
    /// Workloads placed on this tray, and former ones that are still stopping.
    pub workloads: Vec<WorkloadState>,
}

/// Memory of a tray, in bytes, as its kernel counts it. What is neither used by somebody nor kept for a reason is available:
/// `total` less `available` is what is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct MemoryState {
    /// All that the kernel manages: its own code, and what firmware keeps, is not in it.
    pub total: u64,
    /// What programs could have without anything being swapped out.
    pub available: u64,
}

/// Why the newest commit is not in force.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct Rejection {
    /// The commit, when there is one.
    pub commit: Option<String>,
    /// When it was refused first, Unix seconds.
    pub since: u64,
    /// Why, in one line; names file and line when a file is at fault.
    pub reason: String,
    /// Every problem, when files are at fault.
    pub problems: Vec<Problem>,
}

/// How the repository is reached.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct RepositoryState {
    /// Where it is.
    pub url: String,
    /// Its branch.
    pub branch: String,
    /// When it last answered, Unix seconds.
    pub reached: Option<u64>,
    /// Why it does not answer, when it does not.
    pub error: Option<String>,
}

/// The operating system: what is wanted and what runs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct ReleaseState {
    /// The running payload's name and version, for people.
    pub running: String,
    /// SHA-256 of the running payload's manifest, hex.
    pub manifest: String,
    /// The pinned payload's manifest, hex, when it is another.
    pub wanted: Option<String>,
    /// What is being done about the difference, or why nothing can be.
    pub message: Option<String>,
}

/// What the boot partition starts first: what is wanted, and what the two slots have.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct BootstrapState {
    /// The slot that this system was started from, `a` or `b`.
    pub slot: String,
    /// The version that was started.
    pub version: u64,
    /// SHA-256 of its manifest, hex, where that can be read.
    pub manifest: Option<String>,
    /// Versions below this one are not installed.
    pub floor: u64,
    /// The pinned bootstrap's manifest, hex, when it is another.
    pub wanted: Option<String>,
    /// What is being done about the difference, or why nothing can be.
    pub message: Option<String>,
    /// What the other slot has, for people.
    pub other: String,
}

/// What a workload is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum Phase {
    /// Something is missing that is being worked on; the message says what.
    Pending,
    /// The guest boots.
    Starting,
    /// The command runs.
    Running,
    /// It was asked to end.
    Stopping,
    /// It ended and will be started again at a known time.
    BackOff,
    /// It ended and stays so, as the restart policy says.
    Ended,
}

/// How one workload is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct WorkloadState {
    /// Its name.
    pub name: String,
    /// What it is doing.
    pub phase: Phase,
    /// Whether what runs is what the commit in force asks for.
    pub current: bool,
    /// One line: how it ended, what it waits for.
    pub message: Option<String>,
    /// When it was started last, seconds ago.
    pub age: Option<u64>,
    /// How often it was started again after it ended by itself.
    pub restarts: u64,
    /// Exit code of the last run that ended by itself.
    pub exit_code: Option<i32>,
    /// Its monitor's process.
    pub pid: Option<u32>,
    /// Its addresses.
    pub addresses: Vec<String>,
    /// SHA-256 of its root file system's manifest, hex.
    pub rootfs: String,
}

/// A piece of a workload's log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LogPage {
    /// Always 1.
    pub v: u32,
    /// The lines, oldest first.
    pub lines: Vec<LogLine>,
    /// Where to read on: the next request's `from`. Means nothing but to the tray.
    pub next: String,
    /// Lines between `from` and the first one here are gone: the log is bounded.
    pub lost: bool,
}

/// A line of a log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct LogLine {
    /// The guest's clock, Unix milliseconds; absent on the console.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time_ms: Option<u64>,
    /// `stdout`, `stderr`, `init` or `console`.
    pub stream: String,
    /// The text.
    pub line: String,
}
