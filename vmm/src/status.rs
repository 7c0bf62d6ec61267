// SPDX-License-Identifier: Apache-2.0
//! `status.json`: written beside and renamed into place, so that a reader sees the old or the new state and nothing else.
//!
//! Not synced: the folder is in memory and goes with the power.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, fchown};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use racklet_api::V1;
use racklet_api::vmm::{VmState, VmStatus};

/// The status file of this process.
pub(crate) struct StatusFile {
    folder: PathBuf,
    pid: u32,
    owner: Option<(u32, u32)>,
    lacks: Vec<String>,
    paused: bool,
}

impl StatusFile {
    /// For the microVM in `folder`.
    pub(crate) fn new(folder: &Path) -> StatusFile {
        StatusFile {
            folder: folder.to_owned(),
            pid: std::process::id(),
            owner: None,
            lacks: Vec::new(),
            paused: false,
        }
    }

    /// From now on each status says that the host lacks this.
    pub(crate) fn lack(&mut self, lacks: Vec<String>) {
        self.lacks = lacks;
    }

    /// From now on each status says that the guest stands still, or does not.
    pub(crate) fn pause(&mut self, paused: bool) {
        self.paused = paused;
    }

    /// From now on files belong to this user: the monitor can replace only its own.
    pub(crate) fn belongs_to(&mut self, uid: u32, gid: u32) {
        self.owner = Some((uid, gid));
    }

    /// The process is in the folder, and is the owner.
    pub(crate) fn moved(&mut self) {
        self.folder = PathBuf::new();
        self.owner = None;
    }

    /// The state as others see it.
    pub(crate) fn status(&self, state: VmState) -> VmStatus {
        let since = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        VmStatus {
            v: V1,
            pid: self.pid,
            since_ms: u64::try_from(since.as_millis()).unwrap_or(u64::MAX),
            lacks: self.lacks.clone(),
            paused: self.paused,
            state,
        }
    }

    /// Makes the state known.
    pub(crate) fn write(&self, status: &VmStatus) -> io::Result<()> {
        let mut bytes = serde_json::to_vec(status).map_err(io::Error::other)?;
        bytes.push(b'\n');
        let new = self.folder.join("status.json.new");
        // Made anew each time: whatever lies there (a link, another user's file) is not written to.
        match fs::remove_file(&new) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
            _ => {}
        }
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o640)
            .open(&new)?;
        if let Some((uid, gid)) = self.owner {
            fchown(&file, Some(uid), Some(gid))?;
        }
        file.write_all(&bytes)?;
        fs::rename(new, self.folder.join("status.json"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_state_replaces_the_one_before() {
        let folder = tempfile::tempdir().unwrap();
        let file = StatusFile::new(folder.path());
        fs::write(folder.path().join("status.json.new"), "left over").unwrap();
        for state in [
            VmState::Starting,
            VmState::Crashed {
                reason: "x".to_owned(),
            },
        ] {
            let status = file.status(state);
            file.write(&status).unwrap();
            let read: VmStatus =
                serde_json::from_slice(&fs::read(folder.path().join("status.json")).unwrap())
                    .unwrap();
            assert_eq!(read, status);
        }
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}
