// SPDX-License-Identifier: Apache-2.0
//! What KVM holds of an arm64 machine, for a snapshot: the registers of its vCPUs, the GIC, the counters; and the parts that are ours.
//!
//! ```text
//! counters --> every register of every vCPU, whether it runs --> the controller, register by register (`controller`) --> parts
//! ```
//!
//! KVM names all of this itself: a list of registers for a vCPU (`KVM_GET_REG_LIST`), group and number for the controller
//! (Documentation/virt/kvm/devices/arm-vgic*.rst). The file has both with each value. It is taken where this host has just the
//! same ones, none more and none fewer, and refused with the number of the first that differs. The values are KVM's to judge, which
//! takes the same from any user of `/dev/kvm`.
//!
//! A guest that is put back finds its clock where the host's is: the counters, by which an arm64 kernel counts all its time, go on as
//! if the guest had only been asleep.

mod controller;
mod wire;

#[cfg(target_arch = "aarch64")]
mod cpu;
#[cfg(target_arch = "aarch64")]
mod machine;

#[cfg(target_arch = "aarch64")]
pub(crate) use machine::{restore, save};
#[cfg(test)]
pub(crate) use tests::example;
pub use wire::State;
#[cfg(fuzzing)]
pub(super) use wire::judged_alone;
pub(super) use wire::{Parts as PartsState, Rtc as RtcState};
#[cfg(target_arch = "aarch64")]
pub use {cpu::Saver, machine::Controller};

/// Why a machine's state cannot be put back.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// What it holds cannot be.
    #[error("the snapshot holds {0}")]
    Wrong(&'static str),
    /// A register that this host's KVM does not show.
    #[error("the snapshot has register {id:#x} of vCPU {cpu}, which processors here do not have")]
    Unknown {
        /// The vCPU.
        cpu: usize,
        /// KVM's name of the register.
        id: u64,
    },
    /// A register that this host's KVM shows is not in it.
    #[error("the snapshot lacks register {id:#x} of vCPU {cpu}, which processors here have")]
    Missing {
        /// The vCPU.
        cpu: usize,
        /// KVM's name of the register.
        id: u64,
    },
    /// Of another interrupt controller.
    #[error(
        "the snapshot's interrupt controller is another than this host gives its guests (it differs at register {attribute:#x} of group {group})"
    )]
    Controller {
        /// KVM's name for a group of registers.
        group: u32,
        /// The register.
        attribute: u64,
    },
    /// Counters run at another speed, which nothing here can change.
    #[error("the snapshot's counter runs at {saved} Hz, and this processor's at {here} Hz only")]
    Speed {
        /// Ticks a second in the snapshot.
        saved: u64,
        /// The same here.
        here: u64,
    },
    /// A register cannot have the saved value here: most of these say what the processor is.
    #[error(
        "register {id:#x} of vCPU {cpu} cannot have its value here: restore the snapshot on a processor of the same kind, under the same kernel"
    )]
    Register {
        /// The vCPU.
        cpu: usize,
        /// KVM's name of the register.
        id: u64,
    },
    /// KVM refuses.
    #[error("KVM refuses the snapshot's {0}")]
    Kvm(&'static str, #[source] kvm_ioctls::Error),
}

/// A step of saving that failed.
#[derive(Debug, thiserror::Error)]
#[error("ask KVM for {0}")]
pub struct SaveError(&'static str, #[source] kvm_ioctls::Error);

#[cfg(target_arch = "aarch64")]
fn saved<T>(what: &'static str, result: Result<T, kvm_ioctls::Error>) -> Result<T, SaveError> {
    result.map_err(|error| SaveError(what, error))
}

#[cfg(target_arch = "aarch64")]
fn put<T>(what: &'static str, result: Result<T, kvm_ioctls::Error>) -> Result<T, RestoreError> {
    result.map_err(|error| RestoreError::Kvm(what, error))
}

#[cfg(test)]
mod tests;
