// SPDX-License-Identifier: Apache-2.0
//! What chips, and who looks at a console through one, say to each other: bytes to frames and back, the same code in firmware and
//! in the programs of Linux.
//!
//! No sockets, no clocks, no allocation, no dependency. Every length has a bound that is looked at before anything is kept, and a
//! frame that is not understood is an error and never skipped: both ends are built from one repository.
#![no_std]
#![forbid(unsafe_code)]

pub mod access;
pub mod bus;
pub mod bytes;
pub mod console;
pub mod frame;
pub mod link;
pub mod pins;
mod reader;
pub mod serial;
