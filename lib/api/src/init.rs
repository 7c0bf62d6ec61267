// SPDX-License-Identifier: Apache-2.0
//! What `init` answers on `/run/racklet/init.sock` in its second role.
//!
//! One request and one answer per line (`racklet-line`). `init` is the only writer of the floors, of the slot record and of
//! slots, so others ask it to raise, to mark and to install.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::V1;
use crate::handoff::{Handoff, Head, Slot};

/// Where `init` listens.
pub const SOCKET: &str = "/run/racklet/init.sock";

/// A request with its version.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    /// Always 1.
    pub v: V1,
    /// What is asked.
    #[serde(flatten)]
    pub op: Op,
}

impl Request {
    /// A request of this version.
    pub fn new(op: Op) -> Self {
        Self { v: V1, op }
    }
}

/// What can be asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "op", rename_all = "kebab-case", rename_all_fields = "camelCase")]
pub enum Op {
    /// How things are.
    Status,
    /// A service says how it is. `hypervisor` says so after its first successful reconcile and whenever that changes.
    Health {
        /// `netd` or `hypervisor`.
        service: String,
        /// Whether it does its job.
        healthy: bool,
        /// For people: what it is doing or why it cannot.
        message: String,
    },
    /// The hypervisor verified and accepted a newer head: remember it, never accept an older one again. Refused where it would lower
    /// what is remembered.
    Raise {
        /// The accepted head.
        head: Head,
        /// Version of the trust root in it.
        trust_root: u64,
        /// Newest signed time in it, Unix seconds.
        time: u64,
        /// Until the next start only, since the card did not keep the head: floors on the card that no head there reaches would
        /// leave the next start without any.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        in_memory: bool,
    },
    /// Write the bootstrap with this manifest, which is in the cache, into the slot that does not run, to be tried at the next start; where
    /// it is the one that runs, to be there when that one fails.
    /// The answer comes before that is done; what came of it, [`Status::slots`] says. `init` believes nothing about what is there: it
    /// verifies in its own memory what it writes.
    Install {
        /// SHA-256 of its manifest, hex.
        manifest: String,
    },
    /// What was installed and not tried yet is not wanted any more.
    Withdraw,
    /// Stop everything in order, then start again.
    Reboot,
    /// Stop everything in order, then switch off.
    Poweroff,
}

/// The answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Response {
    /// Always 1.
    pub v: V1,
    /// Whether it was done.
    pub ok: bool,
    /// Why not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// The answer to [`Op::Status`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<Box<Status>>,
}

impl Response {
    /// Done.
    pub fn done() -> Self {
        Self {
            v: V1,
            ok: true,
            error: None,
            status: None,
        }
    }

    /// Refused, with the reason.
    pub fn refused(reason: impl ToString) -> Self {
        Self {
            v: V1,
            ok: false,
            error: Some(reason.to_string()),
            status: None,
        }
    }
}

/// How the tray is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Status {
    /// The tray's name.
    pub tray: String,
    /// The rack's id.
    pub rack: String,
    /// What the bootstrap handed over.
    pub handoff: Handoff,
    /// What this tray never goes below, as far as heads are concerned.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub floors: Option<FloorsReport>,
    /// Whether this boot has been marked good.
    pub marked_good: bool,
    /// Seconds since the kernel started.
    pub uptime: u64,
    /// Where it keeps what it must remember.
    #[serde(default)]
    pub state: StateStatus,
    /// The bootstrap slots; absent where the tray was started from none, and before they were looked at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slots: Option<SlotsStatus>,
    /// The services by name.
    pub services: BTreeMap<String, ServiceStatus>,
}

/// How the bootstrap slots are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SlotsStatus {
    /// The one that this system was started from, which is never written.
    pub running: SlotStatus,
    /// The other one.
    pub other: SlotStatus,
    /// The newest version that was ever reported good: nothing older is installed.
    pub floor: u64,
    /// Whether the other one is tried at the next start.
    pub armed: bool,
    /// Whether this boot was found good. Nothing is installed before: marking the slot that runs puts it first again.
    pub good: bool,
    /// What was last asked to be installed since the start.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub install: Option<InstallStatus>,
    /// Why the slots cannot be looked at or written, where they cannot.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// How one slot is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SlotStatus {
    /// Which one.
    pub slot: Slot,
    /// What the record knows about it.
    pub state: SlotState,
    /// Starts that remain before the other slot is used.
    pub tries_left: u8,
    /// SHA-256 of the manifest that lies there, hex; nothing was verified.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub manifest: Option<String>,
}

/// What is known about a slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SlotState {
    /// Nothing is installed, or something was being installed when the power went.
    Empty,
    /// Installed, and not yet reported good.
    Trial,
    /// Reported good by a system that was started from it.
    Good,
}

/// What came of [`Op::Install`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct InstallStatus {
    /// SHA-256 of the manifest, hex.
    pub manifest: String,
    /// Whether it is over, well or not.
    pub done: bool,
    /// Why it was not installed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// The floors of heads. Those of payloads concern `init` and the bootstrap alone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FloorsReport {
    /// The newest accepted head.
    pub head: Option<Head>,
    /// Version of the newest accepted trust root; 0 before any.
    pub trust_root: u64,
    /// Newest signed time, Unix seconds.
    pub time: u64,
}

/// Where a tray keeps what it must remember, and how that is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct StateStatus {
    /// Whether what is written is there after a reboot.
    pub persistent: bool,
    /// The card takes no writes: what it held is used, and changes are in memory.
    pub read_only: bool,
    /// What is wrong, for people.
    pub reason: Option<String>,
    /// Bytes that can still be written.
    pub free: u64,
    /// Bytes of the whole file system.
    pub total: u64,
    /// Writes that failed since the start, and errors that the file system itself has counted since it was made.
    pub errors: u64,
    /// How much of its life the card says it has used, in percent; 110 when it is past it. Few cards say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub life_used: Option<u8>,
}

/// How one service is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ServiceStatus {
    /// `running`, `waiting` (before a restart) or `stopped`.
    pub state: String,
    /// Its process, when running.
    pub pid: Option<u32>,
    /// How many times it was started again.
    pub restarts: u64,
    /// What it last said about itself.
    pub healthy: Option<bool>,
    /// In its words, or how it ended.
    pub message: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_look_as_documented() {
        for (op, json) in [
            (Op::Status, r#"{"v":1,"op":"status"}"#),
            (Op::Reboot, r#"{"v":1,"op":"reboot"}"#),
            (Op::Withdraw, r#"{"v":1,"op":"withdraw"}"#),
            (
                Op::Install {
                    manifest: "ab".into(),
                },
                r#"{"v":1,"op":"install","manifest":"ab"}"#,
            ),
            (
                Op::Health {
                    service: "netd".into(),
                    healthy: true,
                    message: "2 links up".into(),
                },
                r#"{"v":1,"op":"health","service":"netd","healthy":true,"message":"2 links up"}"#,
            ),
            (
                Op::Raise {
                    head: Head {
                        commit: "ab".into(),
                        generation: 7,
                    },
                    trust_root: 1,
                    time: 5,
                    in_memory: false,
                },
                r#"{"v":1,"op":"raise","head":{"commit":"ab","generation":7},"trustRoot":1,"time":5}"#,
            ),
        ] {
            let request = Request::new(op);
            assert_eq!(serde_json::to_string(&request).expect("serialises"), json);
            assert_eq!(
                serde_json::from_str::<Request>(json).expect("parses"),
                request
            );
        }
    }
}
