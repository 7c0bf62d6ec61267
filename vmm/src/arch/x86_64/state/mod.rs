// SPDX-License-Identifier: Apache-2.0
//! What KVM holds of a PC, for a snapshot: vCPUs, interrupt controllers, timer, clock; and the registers of the parts that are ours.
//!
//! The types here are those of the file (`wire`), version 1 of it, and none of KVM's or of the parts' own. What comes out of a file is
//! the claim of whoever wrote it: counts and lengths are looked at when it is read, everything else is KVM's to judge, which takes the
//! same from any user of `/dev/kvm`. It can make this guest any guest, and nothing beyond it.
//!
//! A guest that is put back finds its clock where the tray's is: the time since the snapshot was taken is added to `kvm-clock` and to
//! every time-stamp counter alike, whichever of both its kernel counts by.

mod cpu;
mod machine;
mod wire;

pub use cpu::Saver;
pub(crate) use machine::{restore, save};
pub use wire::State;
pub(crate) use wire::{Cmos as CmosState, I8042 as I8042State, Parts as PartsState};

/// Why a machine's state cannot be put back.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// What it holds cannot be.
    #[error("the snapshot holds {0}")]
    Wrong(&'static str),
    /// It was taken of vCPUs that showed something else.
    #[error(
        "the snapshot was taken where processors show something else (CPUID {leaf:#x}): restore it on such a machine, under the same kernel"
    )]
    Processor {
        /// The first leaf in which they differ.
        leaf: u32,
    },
    /// The time-stamp counters run at another speed, and this processor cannot scale them.
    #[error(
        "the snapshot's time-stamp counter runs at {saved} kHz, and this processor's at {here} kHz only"
    )]
    Speed {
        /// Thousands of ticks a second in the snapshot.
        saved: u32,
        /// The same here.
        here: u32,
    },
    /// A model-specific register cannot have the saved value here.
    #[error("the model-specific register {index:#x} of vCPU {cpu} cannot be put back here")]
    Register {
        /// The vCPU.
        cpu: usize,
        /// The register's number.
        index: u32,
    },
    /// KVM refuses.
    #[error("KVM refuses the snapshot's {0}")]
    Kvm(&'static str, #[source] kvm_ioctls::Error),
}

/// A step of saving that failed.
#[derive(Debug, thiserror::Error)]
#[error("ask KVM for {0}")]
pub struct SaveError(&'static str, #[source] kvm_ioctls::Error);

fn saved<T>(what: &'static str, result: Result<T, kvm_ioctls::Error>) -> Result<T, SaveError> {
    result.map_err(|error| SaveError(what, error))
}

fn put<T>(what: &'static str, result: Result<T, kvm_ioctls::Error>) -> Result<T, RestoreError> {
    result.map_err(|error| RestoreError::Kvm(what, error))
}

#[cfg(test)]
pub(crate) use tests::example;

#[cfg(test)]
mod tests;
