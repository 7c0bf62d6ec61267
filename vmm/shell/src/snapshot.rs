// SPDX-License-Identifier: Apache-2.0
//! `racklet-vmm snapshot`: a running guest into a folder, from which `run --restore` goes on.
//!
//! The monitor cannot open a path: it gets two open files in a folder under another name, and that becomes the snapshot when
//! everything in it is stable. Whatever happens before leaves no snapshot, and never half of one.

use std::fs::{self, File};
use std::os::fd::AsFd;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, bail};
use clap::Args;
use racklet_api::V1;
use racklet_api::vmm::{AfterSnapshot, ControlAction, ControlReply, ControlRequest, SnapshotBytes};
use racklet_vmm::snapshot::{BASE, MEMORY, STATE, open_full};

/// A guest with much memory on a slow disk: 1 TiB at 20 MB a second would take longer, and is said to have failed.
const ANSWER: Duration = Duration::from_secs(3600);

/// Save a running guest into a new folder; what was written is one JSON value
///
/// Its disks are not in it: copy those that it writes while it stands still (`ask pause`, copy, `snapshot`, `ask resume`).
#[derive(Args)]
pub(crate) struct Snapshot {
    /// The microVM's folder, as given to `run --folder`
    folder: PathBuf,
    /// The new folder, which must not exist
    to: PathBuf,
    /// Write of its memory only what is other than in the full snapshot in this folder, without which the new one is of no use
    #[arg(long, value_name = "DIR")]
    since: Option<PathBuf>,
    /// End the guest with it: nothing that it would do afterwards happens
    #[arg(long)]
    end: bool,
}

impl Snapshot {
    pub(crate) fn run(self) -> anyhow::Result<()> {
        let then = if self.end {
            AfterSnapshot::End
        } else {
            AfterSnapshot::GoOn
        };
        let bytes = save(&self.folder, &self.to, then, self.since.as_deref())?;
        crate::print(&format!("{}\n", serde_json::to_string_pretty(&bytes)?))
    }
}

fn save(
    vm: &Path,
    to: &Path,
    then: AfterSnapshot,
    since: Option<&Path>,
) -> anyhow::Result<SnapshotBytes> {
    if fs::symlink_metadata(to).is_ok() {
        bail!(
            "{} exists: a snapshot is made in a folder of its own",
            to.display()
        );
    }
    let to = std::path::absolute(to)?;
    let within = to.parent().context("the new folder needs a name")?;
    let making = tempfile::Builder::new()
        .prefix(".snapshot-")
        .tempdir_in(within)
        .with_context(|| format!("make a folder in {}", within.display()))?;
    let make = |name| {
        let path = making.path().join(name);
        File::create_new(&path).with_context(|| format!("make {}", path.display()))
    };
    let mut files = vec![make(STATE)?, make(MEMORY)?];
    let mut since_digest = None;
    if let Some(since) = since {
        let full = || format!("make a difference to {}", since.display());
        let (digest, memory) = open_full(since).with_context(full)?;
        let place = fs::canonicalize(since).with_context(full)?;
        symlink(place, making.path().join(BASE)).with_context(full)?;
        files.push(memory);
        since_digest = Some(digest);
    }
    let request = ControlRequest {
        v: V1,
        action: ControlAction::Snapshot {
            then,
            since: since_digest,
        },
    };
    let files: Vec<_> = files.iter().map(AsFd::as_fd).collect();
    let socket = vm.join("control.sock");
    let reply = racklet_line::ask_with(&socket, &request, &files, ANSWER)
        .context("is there a monitor in this folder?")?;
    let bytes = match reply {
        ControlReply::Snapshot(bytes) => bytes,
        ControlReply::Error { reason } => bail!("the monitor refuses: {reason}"),
        other => bail!("the monitor answers something else: {other:?}"),
    };
    let sync = |folder: &Path| File::open(folder).and_then(|folder| folder.sync_all());
    // The names of the files, then the name of the folder.
    sync(making.path())
        .and_then(|()| fs::rename(making.path(), &to))
        .and_then(|()| sync(within))
        .with_context(|| format!("put the snapshot to {}", to.display()))?;
    // It is not there under its old name any more.
    let _ = making.keep();
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_that_exists_is_left_alone_and_a_snapshot_that_fails_leaves_nothing() {
        let scratch = tempfile::tempdir().unwrap();
        let save = |to: &Path| save(scratch.path(), to, AfterSnapshot::GoOn, None).unwrap_err();
        let there = scratch.path().join("there");
        fs::create_dir(&there).unwrap();
        assert!(save(&there).to_string().contains("exists"));
        let new = scratch.path().join("new");
        assert!(save(&new).to_string().contains("is there a monitor"));
        assert_eq!(fs::read_dir(scratch.path()).unwrap().count(), 1);
    }
}
