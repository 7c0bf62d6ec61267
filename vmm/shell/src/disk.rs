// SPDX-License-Identifier: Apache-2.0
//! `racklet-vmm attach` and `detach`: disks of a guest that runs. The monitor cannot open a path; it gets the open file.

use std::fs::File;
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, bail};
use clap::Args;
use racklet_api::V1;
use racklet_api::vmm::disk::DiskAttach;
use racklet_api::vmm::{ControlAction, ControlReply, ControlRequest};

use crate::ask::answered;
use crate::run::path_of;

/// A disk that is detached is made stable first, and a slow one may have gigabytes to write.
const ANSWER: Duration = Duration::from_secs(600);

/// Give a running guest a disk, in a place that `spare_disks` has kept; written is how Linux calls it, as `vdb`
#[derive(Args)]
pub(crate) struct Attach {
    /// The microVM's folder, as given to `run --folder`
    folder: PathBuf,
    /// A file or block device; `,ro` behind it for one that the guest cannot write
    #[arg(value_name = "PATH[,ro]")]
    disk: String,
    /// Serial number that the guest sees: at most 20 printable ASCII characters
    #[arg(long, value_name = "TEXT", default_value = "")]
    serial: String,
    /// Most bytes that its file may have later
    #[arg(long, value_name = "BYTES")]
    grows_to: Option<u64>,
}

impl Attach {
    pub(crate) fn run(self) -> anyhow::Result<()> {
        let (path, read_only) = path_of(&self.disk);
        let file = File::options()
            .read(true)
            .write(!read_only)
            .open(path)
            .with_context(|| format!("open {path}"))?;
        let request = ControlRequest {
            v: V1,
            action: ControlAction::Attach(DiskAttach {
                read_only,
                serial: self.serial,
                grows_to: self.grows_to,
                ..DiskAttach::default()
            }),
        };
        let socket = self.folder.join("control.sock");
        let reply = racklet_line::ask_with(&socket, &request, &[file.as_fd()], ANSWER);
        match answered(reply)? {
            ControlReply::Attached { disk, .. } => crate::print(&format!("{}\n", name(disk))),
            other => bail!("the monitor answers something else: {other:?}"),
        }
    }
}

/// Take a disk from a running guest, which is to have unmounted it; what was written to it is stable then
#[derive(Args)]
pub(crate) struct Detach {
    /// The microVM's folder, as given to `run --folder`
    folder: PathBuf,
    /// As `attach` has written it (`vdb`), or its number from 0
    #[arg(value_parser = number)]
    disk: u8,
}

impl Detach {
    pub(crate) fn run(self) -> anyhow::Result<()> {
        let request = ControlRequest {
            v: V1,
            action: ControlAction::Detach { disk: self.disk },
        };
        let socket = self.folder.join("control.sock");
        match answered(racklet_line::ask(&socket, &request, ANSWER))? {
            ControlReply::Detached { .. } => Ok(()),
            other => bail!("the monitor answers something else: {other:?}"),
        }
    }
}

/// How Linux calls it: devices are found in their order, and every one of these is a disk, with or without sectors.
fn name(disk: u8) -> String {
    format!("vd{}", char::from(b'a' + disk.min(25)))
}

fn number(text: &str) -> Result<u8, String> {
    let by_name = (0..8).find(|disk| text == name(*disk));
    by_name
        .or_else(|| text.parse().ok())
        .ok_or_else(|| format!("{text} is neither vda, … nor a number"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_is_called_as_linux_calls_it_or_by_its_number() {
        for (text, disk) in [("vda", 0), ("vdh", 7), ("0", 0), ("2", 2)] {
            assert_eq!(number(text), Ok(disk));
        }
        for wrong in ["vdi", "vd", "sda", "-1", ""] {
            assert!(number(wrong).is_err(), "{wrong}");
        }
        assert_eq!([0, 1, 7].map(name), ["vda", "vdb", "vdh"]);
    }
}
