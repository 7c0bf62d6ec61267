// SPDX-License-Identifier: Apache-2.0
//! No machine of this architecture is saved yet: a GIC's registers are per distributor, redistributor and CPU interface, of two kinds
//! (v2, v3), and the timers of vCPUs are to go on from where they were. Half of that would be a guest that hangs now and then.

use kvm_ioctls::{Kvm, VcpuFd, VmFd};
use serde::{Deserialize, Serialize};

use super::cpu::Cpus;
use super::parts::Parts;

/// Why this architecture's machines cannot be saved; nothing where they can.
pub const NO_SNAPSHOTS: Option<&str> =
    Some("snapshots are made on x86_64 only: the registers of an arm64 GIC are not saved yet");

/// There is none.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum State {}

/// Saves nothing.
pub struct Saver;

/// Always so.
#[derive(Debug, thiserror::Error)]
#[error("{}", NO_SNAPSHOTS.unwrap_or_default())]
pub struct SaveError;

/// Cannot happen: there is no [`State`].
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {}

impl Saver {
    /// For any machine here.
    pub fn new(_kvm: &Kvm) -> Result<Saver, kvm_ioctls::Error> {
        Ok(Saver)
    }
}

impl State {
    /// How many vCPUs there are.
    #[must_use]
    pub fn cpus(&self) -> usize {
        match *self {}
    }
}

/// Refuses.
pub(crate) fn save(
    _: &Saver,
    _: &VmFd,
    _: &[&VcpuFd],
    _: &Parts,
    _: &Cpus,
) -> Result<State, SaveError> {
    Err(SaveError)
}

/// Cannot be called.
pub(crate) fn restore(state: &State, _: &VmFd, _: &[VcpuFd], _: &Cpus) -> Result<(), RestoreError> {
    match *state {}
}
