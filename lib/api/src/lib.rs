// SPDX-License-Identifier: Apache-2.0
//! What Racklet's daemons say to each other, in modules named after who answers: [`init`], [`netd`], [`hypervisor`],
//! [`vmm`] and [`guest`]; and what is handed over at a boot ([`tray`], [`handoff`]). How messages travel is `racklet-line`.
//! Data and its checks only: no files, no sockets, no clocks.
#![forbid(unsafe_code)]

pub mod guest;
pub mod handoff;
pub mod hypervisor;
pub mod init;
pub mod netd;
pub mod tray;
mod version;
pub mod vmm;

pub use version::V1;
