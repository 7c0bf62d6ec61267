// SPDX-License-Identifier: Apache-2.0
//! The images that workloads may be given: each with the proof that it was read to its last byte in this run. That one lies in the
//! cache says nothing.
//!
//! The source thread brings them, the workload thread takes them; what people are shown of it is why one is missing.

use racklet_fetch::cache::Rootfs;
use racklet_rack::ManifestDigest;
use racklet_trust::{Digest, Verified};
use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

#[derive(Debug, Default)]
pub(crate) struct Images(Mutex<Known>);

#[derive(Debug, Default)]
struct Known {
    here: BTreeMap<Digest, Verified<Rootfs>>,
    /// Why one is not there, for people.
    missing: BTreeMap<Digest, String>,
}

impl Images {
    fn known(&self) -> MutexGuard<'_, Known> {
        // Whoever panicked left whole values behind: each is put in or taken out at once.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The root file system of a workload, or why it is not there.
    pub(crate) fn find(&self, manifest: &ManifestDigest) -> Result<Verified<Rootfs>, String> {
        let (known, digest) = (self.known(), Digest::from(*manifest));
        known.here.get(&digest).cloned().ok_or_else(|| {
            let why = known.missing.get(&digest).cloned();
            why.unwrap_or_else(|| "its root file system has not been fetched yet".to_owned())
        })
    }

    pub(crate) fn has(&self, digest: Digest) -> bool {
        self.known().here.contains_key(&digest)
    }

    pub(crate) fn put(&self, digest: Digest, rootfs: Verified<Rootfs>) {
        let mut known = self.known();
        known.missing.remove(&digest);
        known.here.insert(digest, rootfs);
    }

    /// Says why one is not there; true when that is news.
    pub(crate) fn lacks(&self, digest: Digest, why: &str) -> bool {
        let before = self.known().missing.insert(digest, why.to_owned());
        before.as_deref() != Some(why)
    }

    /// None counts any more until it was verified again.
    pub(crate) fn doubt(&self) {
        self.known().here.clear();
    }

    /// Those that are not in `keep` are about to be removed from the cache.
    pub(crate) fn retain(&self, keep: &[Digest]) {
        let mut known = self.known();
        known.here.retain(|digest, _| keep.contains(digest));
        known.missing.retain(|digest, _| keep.contains(digest));
    }
}
