// SPDX-License-Identifier: Apache-2.0
//! Root file systems of workloads in the store: where a complete one is, and why one is not there.

use crate::options::Options;
use crate::shared::Shared;
use crate::workload::runner::Images;
use racklet_rack::ManifestDigest;
use std::path::PathBuf;
use std::sync::Arc;

/// The store as the workload thread sees it.
pub(crate) struct Shelf {
    folder: PathBuf,
    shared: Arc<Shared>,
}

impl Shelf {
    pub(crate) fn new(options: &Options, shared: Arc<Shared>) -> Self {
        Self {
            folder: options.state.join("cache/artifacts"),
            shared,
        }
    }
}

impl Images for Shelf {
    fn find(&self, manifest: &ManifestDigest) -> Result<PathBuf, String> {
        let view = self.shared.view();
        // Whoever brought it has verified it in this run; that it lies there says nothing.
        if view.ready.contains(&manifest.hex()) {
            return Ok(self.folder.join(manifest.hex()).join("rootfs.erofs"));
        }
        Err(match view.images.get(&manifest.hex()) {
            Some(message) => message.clone(),
            None => "its root file system has not been fetched yet".to_owned(),
        })
    }
}
