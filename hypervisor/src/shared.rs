// SPDX-License-Identifier: Apache-2.0
//! What the daemon's threads know of each other: the repository thread says what is accepted, the workload thread what
//! runs, and the API shows both. Only data under one lock; nobody holds it while doing anything slow.

use crate::memory;
use racklet_api::handoff::Head;
use racklet_api::hypervisor::{
    BootstrapState, Rejection, ReleaseState, RepositoryState, State, WorkloadState,
};
use racklet_api::init::StateStatus;
use racklet_trust::TrustRoot;
use std::collections::BTreeMap;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// What is known now.
#[derive(Default)]
pub(crate) struct View {
    pub(crate) head: Option<Head>,
    /// Whose keys may use the API.
    pub(crate) root: Option<Arc<TrustRoot>>,
    pub(crate) rejected: Option<Rejection>,
    pub(crate) repository: RepositoryState,
    pub(crate) release: ReleaseState,
    pub(crate) bootstrap: Option<BootstrapState>,
    pub(crate) workloads: Vec<WorkloadState>,
    /// The generation whose workloads are all as they should be.
    pub(crate) converged: Option<u64>,
    /// Looks at the repository, by how they ended.
    pub(crate) looks: BTreeMap<&'static str, u64>,
    /// Where the tray keeps what it must remember, as `init` last said.
    pub(crate) state: Option<StateStatus>,
    /// Bytes received from repositories.
    pub(crate) received: u64,
}

pub(crate) struct Shared {
    pub(crate) tray: String,
    pub(crate) rack: String,
    view: Mutex<View>,
    sync: Mutex<bool>,
    nudged: Condvar,
}

impl Shared {
    pub(crate) fn new(tray: String, rack: String) -> Self {
        Self {
            tray,
            rack,
            view: Mutex::default(),
            sync: Mutex::default(),
            nudged: Condvar::new(),
        }
    }

    pub(crate) fn view(&self) -> MutexGuard<'_, View> {
        // Whoever panicked left whole values behind: each field is assigned at once.
        self.view.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks for a look at the repository now.
    pub(crate) fn nudge(&self) {
        *self.sync.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.nudged.notify_all();
    }

    /// A look at the repository begins: whoever nudged before gets what it finds.
    pub(crate) fn heed(&self) {
        *self.sync.lock().unwrap_or_else(PoisonError::into_inner) = false;
    }

    /// Whether somebody waits for a look at the repository that has not begun yet.
    pub(crate) fn is_nudged(&self) -> bool {
        *self.sync.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for a nudge, at most this long; true when there was one.
    pub(crate) fn wait(&self, longest: Duration) -> bool {
        let end = Instant::now() + longest;
        let mut sync = self.sync.lock().unwrap_or_else(PoisonError::into_inner);
        while !*sync {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            sync = self
                .nudged
                .wait_timeout(sync, left)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
        std::mem::take(&mut *sync)
    }

    /// Everything for `GET /v1/state`.
    pub(crate) fn state(&self) -> State {
        let view = self.view();
        let generation = view.head.as_ref().map(|head| head.generation);
        State {
            v: 1,
            tray: self.tray.clone(),
            rack: self.rack.clone(),
            time: unix_time(),
            uptime: boot_millis() / 1000,
            memory: memory::of_tray(),
            state: view.state.clone(),
            received: view.received,
            converged: generation.is_some()
                && view.converged == generation
                && view.rejected.is_none()
                && view.release.wanted.is_none()
                && (view.bootstrap.as_ref()).is_none_or(|it| it.wanted.is_none()),
            head: view.head.clone(),
            rejected: view.rejected.clone(),
            repository: view.repository.clone(),
            release: view.release.clone(),
            bootstrap: view.bootstrap.clone(),
            workloads: view.workloads.clone(),
        }
    }
}

/// Unix seconds.
pub(crate) fn unix_time() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |d| d.as_secs())
}

/// Milliseconds since the kernel started, time asleep included: the same for every process, and never stepped.
pub(crate) fn boot_millis() -> u64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    let seconds = u64::try_from(time.tv_sec).unwrap_or_default();
    seconds * 1000 + u64::try_from(time.tv_nsec).unwrap_or_default() / 1_000_000
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_nudge_ends_the_wait_and_is_used_up() {
        let shared = Shared::new("tray-1".into(), "00".into());
        shared.nudge();
        assert!(shared.wait(Duration::from_secs(3600)));
        assert!(!*shared.sync.lock().expect("lock"), "the nudge is used up");
    }

    #[test]
    fn converged_means_this_head_and_nothing_refused() {
        let shared = Shared::new("tray-1".into(), "00".into());
        assert!(!shared.state().converged, "nothing is accepted yet");
        shared.view().head = Some(Head {
            commit: "ab".into(),
            generation: 2,
        });
        shared.view().converged = Some(1);
        assert!(!shared.state().converged, "an older head's workloads");
        shared.view().converged = Some(2);
        assert!(shared.state().converged);
        shared.view().rejected = Some(Rejection {
            commit: None,
            since: 0,
            reason: String::new(),
            problems: vec![],
        });
        assert!(!shared.state().converged, "a newer head is refused");
    }
}
