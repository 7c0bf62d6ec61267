// SPDX-License-Identifier: Apache-2.0
//! What the hypervisor remembers about one workload, so that it can be killed at any time and go on where it was.
//!
//! One file per workload under `<run>/hypervisor/`, replaced as a whole at each change. It lives in memory like the
//! monitors it describes: after a reboot both are gone.

use super::decide::{End, How, Phase, Rules, Seen};
use crate::files;
use racklet_rack::{Name, Network, Workload};
use racklet_trust::Digest;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

const MAX_RECORD: u64 = 1024 * 1024;

/// A workload as it was started.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Record {
    pub(crate) v: u32,
    /// Distinct among the workloads of a tray: its user, its vsock address.
    pub(crate) index: u32,
    pub(crate) plan: Plan,
    /// See [`super::decide::streak`].
    pub(crate) streak: u32,
    /// How often it was started again after it ended by itself.
    pub(crate) restarts: u64,
    /// Boot clock, milliseconds.
    pub(crate) started: u64,
    pub(crate) state: State,
}

/// All that a start needs, apart from the files.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Plan {
    pub(crate) workload: Workload,
    pub(crate) network: Option<Network>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "is", rename_all = "kebab-case")]
pub(crate) enum State {
    /// Written before the monitor is started: should this daemon end before it knows the process, that is looked for and ended.
    Launching,
    Running {
        process: Process,
    },
    Stopping {
        process: Process,
        force_at: u64,
    },
    Killing {
        process: Process,
    },
    Ended {
        at: u64,
        how: Ending,
        exit_code: Option<i32>,
        message: String,
    },
}

/// A process that cannot be mistaken for a later one with the same number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Process {
    pub(crate) pid: u32,
    /// `starttime` of `/proc/<pid>/stat`, in clock ticks since boot.
    pub(crate) start: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Ending {
    Success,
    Failure,
    Refused,
    Ordered,
}

impl From<Ending> for How {
    fn from(ending: Ending) -> Self {
        match ending {
            Ending::Success => Self::Success,
            Ending::Failure => Self::Failure,
            Ending::Refused => Self::Refused,
            Ending::Ordered => Self::Ordered,
        }
    }
}

impl Plan {
    /// Equal digests: nothing a running workload would notice is different. How it is restarted is no part of it.
    pub(crate) fn spec(&self) -> Digest {
        #[derive(Serialize)]
        struct Noticed<'a> {
            workload: serde_json::Value,
            network: &'a Option<Network>,
        }
        let mut workload =
            serde_json::to_value(&self.workload).expect("rack objects have only text keys");
        if let Some(fields) = workload.as_object_mut() {
            for field in ["restartPolicy", "backoff", "tray"] {
                fields.remove(field);
            }
        }
        let noticed = Noticed {
            workload,
            network: &self.network,
        };
        Digest::of(&serde_json::to_vec(&noticed).expect("rack objects have only text keys"))
    }

    pub(crate) fn rules(&self) -> Rules {
        Rules {
            policy: self.workload.restart_policy,
            backoff: self.workload.backoff,
        }
    }
}

impl Record {
    pub(crate) fn seen(&self) -> Seen<Digest> {
        let phase = match &self.state {
            State::Launching | State::Running { .. } => Phase::Running,
            State::Stopping { force_at, .. } => Phase::Stopping {
                force_at: *force_at,
            },
            State::Killing { .. } => Phase::Killing,
            State::Ended { at, how, .. } => Phase::Ended(End {
                at: *at,
                how: (*how).into(),
                streak: self.streak,
            }),
        };
        Seen {
            spec: self.plan.spec(),
            rules: self.plan.rules(),
            phase,
        }
    }

    pub(crate) fn process(&self) -> Option<Process> {
        match &self.state {
            State::Running { process }
            | State::Stopping { process, .. }
            | State::Killing { process } => Some(*process),
            State::Launching | State::Ended { .. } => None,
        }
    }
}

/// The records of a tray, on disk.
pub(crate) struct Records {
    folder: PathBuf,
}

impl Records {
    pub(crate) fn open(folder: &Path) -> io::Result<Self> {
        std::fs::create_dir_all(folder)?;
        Ok(Self {
            folder: folder.to_owned(),
        })
    }

    fn path(&self, name: &Name) -> PathBuf {
        self.folder.join(format!("{name}.json"))
    }

    /// What a monitor of `name` holds while it lives.
    pub(crate) fn lock(&self, name: &Name) -> PathBuf {
        self.folder.join(format!("{name}.lock"))
    }

    pub(crate) fn save(&self, name: &Name, record: &Record) -> io::Result<()> {
        files::replace(&self.path(name), &serde_json::to_vec(record)?)
    }

    pub(crate) fn forget(&self, name: &Name) -> io::Result<()> {
        files::remove(&self.path(name))?;
        files::remove(&self.lock(name))
    }

    /// All records, and what is wrong with files that are none.
    pub(crate) fn load(&self) -> io::Result<(BTreeMap<Name, Record>, Vec<String>)> {
        let mut records = BTreeMap::new();
        let mut faults = Vec::new();
        for entry in std::fs::read_dir(&self.folder)? {
            let path = entry?.path();
            let Some(stem) = path
                .file_name()
                .and_then(|f| f.to_str())
                .and_then(|f| f.strip_suffix(".json"))
            else {
                continue;
            };
            let read = || -> Result<(Name, Record), String> {
                let name = stem.parse().map_err(|error| format!("{error}"))?;
                let bytes =
                    files::read_bounded(&path, MAX_RECORD).map_err(|error| error.to_string())?;
                let record = serde_json::from_slice(&bytes).map_err(|error| error.to_string())?;
                Ok((name, record))
            };
            match read() {
                Ok((name, record)) => {
                    records.insert(name, record);
                }
                Err(error) => faults.push(format!("{}: {error}", path.display())),
            }
        }
        Ok((records, faults))
    }
}

/// The lowest index that no record has.
pub(crate) fn free_index<'r>(records: impl Iterator<Item = &'r Record>) -> u32 {
    let mut taken: Vec<u32> = records.map(|record| record.index).collect();
    taken.sort_unstable();
    taken.dedup();
    let mut free = 1;
    for index in taken {
        if index == free {
            free += 1;
        }
    }
    free
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn plan() -> Plan {
        let workload = serde_json::from_value(serde_json::json!({
            "tray": "tray-1", "kernel": "guest", "cpus": 1, "memory": "64Mi",
            "rootfs": {"name": "server", "manifest": format!("sha256:{}", "ab".repeat(32)), "repository": null},
            "command": ["/bin/server"], "env": {"A": "b"}, "workingDir": "/", "user": {"uid": 0, "gid": 0},
            "overlay": "16Mi", "graceSeconds": 2, "restartPolicy": "Always",
            "network": {"name": "lan", "address": "10.80.0.10", "address6": null},
            "backoff": {"initialSeconds": 1, "maxSeconds": 60}
        }))
        .expect("a workload");
        let network = serde_json::from_value(
            serde_json::json!({"ipv4": "10.80.0.0/24", "ipv6": null, "nat": true}),
        )
        .expect("a network");
        Plan {
            workload,
            network: Some(network),
        }
    }

    pub(crate) fn record(index: u32) -> Record {
        Record {
            v: 1,
            index,
            plan: plan(),
            streak: 0,
            restarts: 0,
            started: 5,
            state: State::Stopping {
                process: Process { pid: 7, start: 9 },
                force_at: 11,
            },
        }
    }

    #[test]
    fn records_come_back_and_strangers_are_reported() {
        let dir = tempfile::tempdir().expect("scratch");
        let records = Records::open(dir.path()).expect("open");
        let web: Name = "web".parse().expect("name");
        records.save(&web, &record(3)).expect("saved");
        std::fs::write(dir.path().join("api.json"), b"{").expect("written");
        std::fs::write(dir.path().join("web.tmp"), b"half").expect("written");
        let (found, faults) = records.load().expect("loaded");
        assert_eq!(found.get(&web), Some(&record(3)));
        assert_eq!((found.len(), faults.len()), (1, 1));
        records.forget(&web).expect("gone");
        records.forget(&web).expect("gone already");
        assert!(records.load().expect("loaded").0.is_empty());
    }

    #[test]
    fn what_a_running_workload_would_not_notice_does_not_change_its_spec() {
        let base = plan();
        let mut same = plan();
        same.workload.backoff.max_seconds = 7;
        same.workload.restart_policy = racklet_rack::RestartPolicy::Never;
        assert_eq!(base.spec(), same.spec());
        let mut other = plan();
        other.workload.env.insert("A".into(), "c".into());
        assert_ne!(base.spec(), other.spec());
        let mut other = plan();
        other.network.as_mut().expect("network").nat = false;
        assert_ne!(base.spec(), other.spec());
    }

    #[test]
    fn the_lowest_free_index_is_taken() {
        assert_eq!(free_index([].iter()), 1);
        assert_eq!(free_index([record(1), record(2), record(4)].iter()), 3);
        assert_eq!(free_index([record(2)].iter()), 1);
    }
}
