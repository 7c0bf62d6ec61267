// SPDX-License-Identifier: Apache-2.0
//! Signs of life: to the watchdog, which else resets the machine, and to whoever looks at the console.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use racklet_api::tray::{TrayConfig, WATCHDOG_S};
use racklet_fetch::progress::{Phase, Progress};
use racklet_fetch::pulse::Pulse;
use racklet_linux::clock;
use racklet_linux::watchdog::Watchdog;

use super::BOOT;
use crate::pid1;
use racklet_tell::text::size;

/// Feeds the watchdog while there is progress, and tells of long transfers.
pub(super) struct SignsOfLife {
    watchdog: Arc<Fed>,
    told: Duration,
}

/// The watchdog, where the machine has one: also fed between two waits for a server, all of which end.
struct Fed(Mutex<Option<Watchdog>>);

impl std::fmt::Debug for Fed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Fed")
    }
}

impl Fed {
    fn feed(&self) {
        let mut dog = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(dog) = &mut *dog {
            // One that cannot be fed resets the machine: that is its purpose.
            let _ = dog.feed();
        }
    }
}

impl Pulse for Fed {
    fn beat(&self) -> bool {
        self.feed();
        true
    }
}

impl SignsOfLife {
    /// Armed with the longest time: no step is without a sign of life for longer than the time servers take (4 s), waiting for the network
    /// and for a server is cut into stretches of a second.
    pub(super) fn begin(tray: &TrayConfig) -> Self {
        let watchdog = pid1::arm(tray, WATCHDOG_S);
        Self {
            watchdog: Arc::new(Fed(Mutex::new(watchdog))),
            told: clock::since_boot(),
        }
    }

    pub(super) fn give(&mut self) {
        self.watchdog.feed();
    }

    /// For conversations with servers.
    pub(super) fn pulse(&self) -> Arc<dyn Pulse> {
        self.watchdog.clone()
    }
}

impl Progress for SignsOfLife {
    fn report(&mut self, phase: Phase, bytes: u64) {
        let now = clock::since_boot();
        if now.saturating_sub(self.told) < Duration::from_secs(5) {
            return;
        }
        self.told = now;
        self.give();
        let doing = match phase {
            Phase::Receiving => "receiving",
            Phase::Assembling => "putting together",
        };
        BOOT.say(format_args!("{doing}: {}", size(bytes)));
    }
}
