// SPDX-License-Identifier: Apache-2.0
//! What the bootstrap handed over: who this tray is, whom it believes, what it booted.

use crate::files;
use crate::options::Options;
use racklet_api::handoff::{Handoff, Head};
use racklet_api::tray::{TrayConfig, TrayError};
use racklet_trust::commit::ObjectId;
use racklet_trust::floors::Floors;
use racklet_trust::root::RootError;
use racklet_trust::{Digest, TrustRoot, Verified};
use std::io;
use std::path::PathBuf;

/// Why the daemon cannot know who it is.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HandoffError {
    #[error("read {0}")]
    Read(PathBuf, #[source] io::Error),
    #[error("the tray's configuration")]
    Tray(#[from] TrayError),
    #[error("the trust root")]
    Root(#[from] RootError),
    #[error("{0} does not parse")]
    Parse(PathBuf, #[source] serde_json::Error),
    #[error("the trust root is rack {root}'s and the tray is rack {tray}'s")]
    OtherRack { root: String, tray: String },
}

pub(crate) struct Given {
    pub(crate) tray: TrayConfig,
    /// The newest that the bootstrap accepted.
    pub(crate) root: Verified<TrustRoot>,
    /// The one in the image: kept heads may be older than `root`. A bootstrap that does not hand it over leaves only `root`.
    pub(crate) baked: Verified<TrustRoot>,
    pub(crate) handoff: Handoff,
}

impl Given {
    pub(crate) fn read(options: &Options) -> Result<Self, HandoffError> {
        let read = |name: &str, limit: u64| {
            let path = options.handoff_file(name);
            files::read_bounded(&path, limit).map_err(|error| HandoffError::Read(path, error))
        };
        let tray = TrayConfig::parse(&read("tray.json", 256 * 1024)?)?;
        // It came inside the verified memory that this program came in.
        let root = Verified::<TrustRoot>::baked(&read("trust-root.json", 64 * 1024)?)?;
        let baked = match read("baked-root.json", 64 * 1024) {
            Err(HandoffError::Read(_, error)) if error.kind() == io::ErrorKind::NotFound => {
                root.clone()
            }
            other => Verified::<TrustRoot>::baked(&other?)?,
        };
        let handoff = serde_json::from_slice(&read("handoff.json", 256 * 1024)?)
            .map_err(|error| HandoffError::Parse(options.handoff_file("handoff.json"), error))?;
        if root.rack().to_string() != tray.rack || baked.rack() != root.rack() {
            return Err(HandoffError::OtherRack {
                root: root.rack().to_string(),
                tray: tray.rack,
            });
        }
        Ok(Self {
            tray,
            root,
            baked,
            handoff,
        })
    }

    /// The manifest of the payload that runs.
    pub(crate) fn running(&self) -> Option<Digest> {
        self.handoff.payload.manifest.parse().ok()
    }

    /// What the bootstrap never goes below, as far as heads are concerned.
    pub(crate) fn floors(&self) -> Floors {
        let Handoff {
            head,
            trust_root,
            time_floor,
            ..
        } = &self.handoff;
        floors(head.as_ref(), *trust_root, *time_floor)
    }
}

/// Floors as programs tell them each other.
pub(crate) fn floors(head: Option<&Head>, trust_root: u64, time: u64) -> Floors {
    let head = head.and_then(|head| Some((ObjectId::from_hex(&head.commit)?, head.generation)));
    Floors {
        trust_root,
        head,
        time,
        ..Floors::default()
    }
}
