// SPDX-License-Identifier: Apache-2.0
//! `racklet-vmm ask` and `metrics`: one request to a monitor that runs.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, bail};
use clap::{Args, ValueEnum};
use racklet_api::V1;
use racklet_api::vmm::metrics;
use racklet_api::vmm::{ControlAction, ControlReply, ControlRequest};
use racklet_tell::metrics::Page;

/// A pause waits for the guest's processors, and these for a disk that resets; anything else is answered at once.
const ANSWER: Duration = Duration::from_secs(30);

/// Ask a running monitor for something; the answer is one JSON value
#[derive(Args)]
pub(crate) struct Ask {
    /// The microVM's folder, as given to `run --folder`
    folder: PathBuf,
    /// For what
    what: What,
    /// Seconds between SIGTERM and SIGKILL of the guest's command, for `stop`
    #[arg(long, value_name = "SECONDS")]
    grace: Option<u32>,
    /// MiB that the guest is to do without, for `balloon`; without it, how it stands is answered
    #[arg(long, value_name = "MIB")]
    mib: Option<u32>,
    /// Which one, from 0, for `resize`
    #[arg(long, value_name = "NUMBER", required_if_eq("what", "resize"))]
    disk: Option<u8>,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum What {
    /// Its state
    State,
    /// Let the guest's processors stand still
    Pause,
    /// Let them go on
    Resume,
    /// Stop the guest in order
    Stop,
    /// Press its power button: it ends in order, in its own time
    PowerOff,
    /// End it now
    Kill,
    /// What was counted
    Metrics,
    /// Memory that the guest is to do without, and how much of that it does
    Balloon,
    /// Look how large a disk's file is now, and let the guest know
    Resize,
}

impl Ask {
    pub(crate) fn run(self) -> anyhow::Result<()> {
        let action = match self.what {
            What::State => ControlAction::State,
            What::Pause => ControlAction::Pause,
            What::Resume => ControlAction::Resume,
            What::Stop => ControlAction::Stop {
                grace_s: self.grace,
            },
            What::PowerOff => ControlAction::PowerOff,
            What::Kill => ControlAction::Kill,
            What::Metrics => ControlAction::Metrics,
            What::Balloon => ControlAction::Balloon { mib: self.mib },
            What::Resize => ControlAction::Resize {
                disk: self.disk.unwrap_or_default(),
            },
        };
        let text = match ask(&self.folder, action)? {
            ControlReply::Status(status) => serde_json::to_string_pretty(&status)?,
            ControlReply::Metrics(metrics) => serde_json::to_string_pretty(&metrics)?,
            ControlReply::Balloon(state) => serde_json::to_string_pretty(&state)?,
            resized @ ControlReply::Resized { .. } => serde_json::to_string_pretty(&resized)?,
            other => bail!("the monitor answers something else: {other:?}"),
        };
        crate::print(&format!("{text}\n"))
    }
}

/// Write what a running monitor has counted, as OpenMetrics text
#[derive(Args)]
pub(crate) struct Metrics {
    /// The microVM's folder, as given to `run --folder`; the label `vm` is its name
    folder: PathBuf,
}

impl Metrics {
    pub(crate) fn run(self) -> anyhow::Result<()> {
        let ControlReply::Metrics(counted) = ask(&self.folder, ControlAction::Metrics)? else {
            bail!("the monitor answers something else");
        };
        let name = std::path::absolute(&self.folder)?;
        let name = name.file_name().unwrap_or_default().to_string_lossy();
        let mut page = Page::default();
        metrics::write(&mut page, "vm", &[(&name, &counted)]);
        crate::print(&page.finish())
    }
}

pub(crate) fn ask(folder: &Path, action: ControlAction) -> anyhow::Result<ControlReply> {
    let request = ControlRequest { v: V1, action };
    answered(racklet_line::ask(
        &folder.join("control.sock"),
        &request,
        ANSWER,
    ))
}

/// What the monitor answers, if it does not refuse.
pub(crate) fn answered(
    reply: Result<ControlReply, racklet_line::AskError>,
) -> anyhow::Result<ControlReply> {
    match reply.context("is there a monitor in this folder?")? {
        ControlReply::Error { reason } => bail!("the monitor refuses: {reason}"),
        reply => Ok(reply),
    }
}
