// SPDX-License-Identifier: Apache-2.0
//! What Racklet's daemons say to each other, in modules named after who answers: [`init`], [`netd`], [`hypervisor`] and
//! [`vmm`]; what is handed over at a boot ([`tray`], [`handoff`]); and the framing of messages ([`line`]).
//! Data and its checks only: no files, no sockets, no clocks.
#![forbid(unsafe_code)]

pub mod handoff;
pub mod hypervisor;
pub mod init;
pub mod line;
pub mod netd;
pub mod tray;
pub mod vmm;
