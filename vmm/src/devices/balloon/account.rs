// SPDX-License-Identifier: Apache-2.0
//! What a balloon is to have and has, for the control socket as for the device.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use racklet_api::vmm::balloon::BalloonState;
use racklet_api::vmm::metrics::{BalloonMetrics, GuestMemory};

use super::PER_MIB;
use crate::lock::lock;

/// Shared by the device and whoever asks for something of it.
#[derive(Debug, Clone, Default)]
pub struct Account(Arc<Numbers>);

#[derive(Debug, Default)]
struct Numbers {
    target_mib: AtomicU32,
    /// In pages of 4 KiB, as the guest says.
    actual: AtomicU32,
    given_back: AtomicU64,
    statistics: Mutex<Option<Statistics>>,
}

impl Account {
    /// A balloon that is to have this many MiB.
    #[must_use]
    pub fn of(target_mib: u32) -> Account {
        let account = Account::default();
        account.want(target_mib);
        account
    }

    /// From now on it is to have this many MiB. The device looks at its next [`refresh`](crate::virtio::Engine::refresh).
    pub fn want(&self, mib: u32) {
        self.0.target_mib.store(mib, Ordering::SeqCst);
    }

    pub(super) fn target_mib(&self) -> u32 {
        self.0.target_mib.load(Ordering::SeqCst)
    }

    /// The driver says that there are so many pages in it. Any number: nothing is decided by it.
    pub(super) fn reach(&self, pages: u32) {
        self.0.actual.store(pages, Ordering::SeqCst);
    }

    pub(super) fn add_given(&self, bytes: u64) {
        self.0.given_back.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(super) fn tell(&self, statistics: Statistics) {
        *lock(&self.0.statistics) = Some(statistics);
    }

    /// What the guest has said of itself is forgotten.
    pub(super) fn reset(&self) {
        self.reach(0);
        *lock(&self.0.statistics) = None;
    }

    /// For the control socket.
    #[must_use]
    pub fn state(&self) -> BalloonState {
        BalloonState {
            target_mib: self.target_mib(),
            actual_mib: self.0.actual.load(Ordering::SeqCst) / PER_MIB,
        }
    }

    /// For metrics.
    #[must_use]
    pub fn metrics(&self) -> BalloonMetrics {
        let state = self.state();
        BalloonMetrics {
            target_mib: state.target_mib,
            actual_mib: state.actual_mib,
            given_back: self.0.given_back.load(Ordering::Relaxed),
            guest: lock(&self.0.statistics).map(|said| GuestMemory {
                total: said.total,
                free: said.free,
                available: said.available,
            }),
        }
    }
}

/// What a guest says of its memory (5.5.6.3), in bytes; 0 for what it does not say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Statistics {
    /// Unused.
    pub free: u64,
    /// All that its kernel has.
    pub total: u64,
    /// What programs could have without swapping, an estimate.
    pub available: u64,
}

impl Statistics {
    /// Reads numbers of 8 bytes, each behind a tag of 2; those of other tags are passed over.
    // untrusted: virtio_devices
    pub(super) fn parse(bytes: &[u8]) -> Statistics {
        let mut statistics = Statistics::default();
        for one in bytes.chunks_exact(10) {
            let (tag, value) = one.split_at(2);
            let value = u64::from_le_bytes(value.try_into().expect("8 of 10"));
            match u16::from_le_bytes([tag[0], tag[1]]) {
                4 => statistics.free = value,
                5 => statistics.total = value,
                6 => statistics.available = value,
                _ => {}
            }
        }
        statistics
    }
}
