// SPDX-License-Identifier: Apache-2.0
//! The images that workloads may be given: each with the proof that it was read to its last byte in this run, or that the card verifies
//! each block of it when it is read. That one lies in the cache says nothing.
//!
//! Of the latter kind nobody knows whether all of it can still be read. One that a workload failed on, and all when the card fails, are
//! suspects: they are read through before anybody gets them again, so that what the card refuses is fetched anew.
//!
//! The source thread brings them, the workload thread takes them; what people are shown of it is why one is missing.

use crate::shared::Shared;
use racklet_fetch::cache::Rootfs;
use racklet_rack::ManifestDigest;
use racklet_trust::{Digest, Verified};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

pub(crate) struct Images {
    known: Mutex<Known>,
    /// Who is told that there is a suspect.
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Known {
    here: BTreeMap<Digest, Verified<Rootfs>>,
    /// Why one is not there, for people.
    missing: BTreeMap<Digest, String>,
    /// Those to be read through before they count again.
    suspects: BTreeSet<Digest>,
    /// When a workload failed on one last, so that it was read through.
    failed: BTreeMap<Digest, Instant>,
}

/// How long an image is above suspicion that was read through: workloads fail for other reasons too, and a card gives 20 MB a second.
const TRUSTED_FOR: Duration = Duration::from_secs(600);

impl Images {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self {
            known: Mutex::default(),
            shared,
        }
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        // Whoever panicked left whole values behind: each is put in or taken out at once.
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
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

    /// The card fails: all are read through before they count again.
    pub(crate) fn suspect_all(&self) {
        let mut known = self.known();
        let all = std::mem::take(&mut known.here);
        known.suspects.extend(all.into_keys());
    }

    /// A workload failed on this one. True when it is read through before it is given to anybody again.
    pub(crate) fn suspect(&self, manifest: &ManifestDigest) -> bool {
        let (mut known, digest) = (self.known(), Digest::from(*manifest));
        let failed = known.failed.get(&digest);
        let sealed = (known.here.get(&digest)).is_some_and(|rootfs| rootfs.sealed().is_some());
        if !sealed || failed.is_some_and(|at| at.elapsed() < TRUSTED_FOR) {
            return false;
        }
        known.failed.insert(digest, Instant::now());
        known.here.remove(&digest);
        known.suspects.insert(digest);
        let why = "its root file system is read through, since it failed".to_owned();
        known.missing.insert(digest, why);
        drop(known);
        self.shared.nudge();
        true
    }

    /// Whether it has to be read through now; asked once.
    pub(crate) fn take_suspect(&self, digest: Digest) -> bool {
        self.known().suspects.remove(&digest)
    }

    /// Those that are not in `keep` are about to be removed from the cache.
    pub(crate) fn retain(&self, keep: &[Digest]) {
        let mut known = self.known();
        known.here.retain(|digest, _| keep.contains(digest));
        known.missing.retain(|digest, _| keep.contains(digest));
        known.suspects.retain(|digest| keep.contains(digest));
        known.failed.retain(|digest, _| keep.contains(digest));
    }
}
