// SPDX-License-Identifier: Apache-2.0
//! Memory that a guest is to do without: how much it is, and how much may be asked of it.

use racklet_rack::capacity::MEMORY_MIB;
use serde::{Deserialize, Serialize};

/// A guest's balloon: memory in it is the host's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct BalloonState {
    /// What it is to have, in MiB.
    pub target_mib: u32,
    /// What it has, as the guest says: whole MiB. It comes to the target in its own time, as far as it can, and takes some back
    /// before it ends a program for want of memory. 0 from a guest without a driver.
    pub actual_mib: u32,
}

/// Most that a guest with so much memory can be asked to do without, in MiB: it keeps what the smallest guest has.
#[must_use]
pub fn most(memory_mib: u32) -> u32 {
    memory_mib.saturating_sub(*MEMORY_MIB.start())
}
