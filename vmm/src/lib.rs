// SPDX-License-Identifier: Apache-2.0
//! The monitor of one microVM: a Linux guest under KVM with virtio-mmio devices, in one confined process.
//!
//! Reads its folder's `config.json`, opens everything, gives up every privilege, runs the guest and leaves `status.json`. It
//! keeps no connection to the hypervisor: either can end without the other. It does not fetch, verify or choose anything,
//! makes no tap devices and no cgroups, and has no migration, hotplug or PCI.
//!
//! ```text
//! vCPU threads ── registers ──┬─> event loop ── cards, sockets, entropy, balloon, console, control, timer
//!                             └─> a thread per disk
//! saver: writes a snapshot while all of these stand still
//! ```
//!
//! A library so that tests and fuzz targets can reach the parts; the program is `vmm`.

pub mod agent;
pub mod arch;
mod bus;
mod calls;
pub mod confine;
mod control;
pub mod devices;
mod dial;
mod disk;
mod event_loop;
mod exits;
mod gate;
mod kick;
pub mod lifecycle;
mod lock;
pub mod log;
mod machine;
mod mark;
pub mod memory;
mod places;
mod poll;
pub mod rate;
pub mod snapshot;
mod start;
mod status;
mod tap;
#[cfg(test)]
mod testing;
mod vcpu;
pub mod virtio;

pub use start::{Starter, run};
