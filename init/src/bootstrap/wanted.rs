// SPDX-License-Identifier: Apache-2.0
//! What the rack wants this tray to boot: said by the head accepted last or, where its files are at fault, by the one last in force.

use racklet_api::tray::TrayConfig;
use racklet_fetch::disk::Files;
use racklet_fetch::rack::RackTree;
use racklet_follow::{AtFault, Follower, desired};
use racklet_rack::Pin;
use racklet_tell::error::Chain;
use racklet_tell::text::short;
use racklet_trust::Digest;
use racklet_trust::floors::Floors;

use super::REPOSITORY;

/// Why an accepted head does not say what to boot.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NoPin {
    #[error(transparent)]
    AtFault(#[from] AtFault),
    #[error("no release covers tray {0}: add it to a file in releases/")]
    NoRelease(String),
    #[error("no head was accepted")]
    NoHead,
}

/// What a head asks of this tray, as far as booting is concerned.
#[derive(Debug)]
pub(crate) struct Wanted {
    /// The payload to boot.
    pub(crate) payload: Pin,
    /// Images of its workloads, which the cache must not give up for the payload.
    pub(crate) images: Vec<Digest>,
}

impl Wanted {
    /// What the followed rack says.
    pub(crate) fn by(
        follower: &Follower<Files>,
        tray: &TrayConfig,
        floors: &Floors,
    ) -> Result<Self, NoPin> {
        let newest = follower.accepted().ok_or(NoPin::NoHead)?;
        let error = match Self::of(newest, tray) {
            Ok(wanted) => return Ok(wanted),
            Err(error) => error,
        };
        let in_force = follower.in_force(floors).unwrap_or_else(|error| {
            let what = format_args!("the head in force: {}", Chain(&error));
            REPOSITORY.failed(what, "go on without it");
            None
        });
        let older = in_force.filter(|tree| tree.head().id != newest.head().id);
        let Some((older, Ok(wanted))) = older.map(|tree| (tree.head().id, Self::of(&tree, tray)))
        else {
            return Err(error);
        };
        REPOSITORY.failed(
            format_args!("head {}: {}", short(newest.head().id), Chain(&error)),
            format_args!("go on with head {}, which was in force", short(older)),
        );
        Ok(wanted)
    }

    fn of(tree: &RackTree, tray: &TrayConfig) -> Result<Self, NoPin> {
        let desired = desired(tree, &tray.tray)?.tray;
        let images = desired.workloads.values();
        Ok(Self {
            images: images.map(|it| it.rootfs.manifest.into()).collect(),
            payload: desired
                .release
                .ok_or_else(|| NoPin::NoRelease(tray.tray.clone()))?,
        })
    }

    /// The digest of the payload's manifest.
    pub(crate) fn digest(&self) -> Digest {
        self.payload.manifest.into()
    }
}
