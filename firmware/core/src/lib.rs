// SPDX-License-Identifier: Apache-2.0
//! What the rack's controllers decide: bytes and time in, bytes and actions out, one module per concern.
//!
//! No hardware, no clock, no executor: what is here runs in tests on any machine as it runs on a controller. Drivers and wiring are
//! in `firmware/bmc`.
#![no_std]
#![forbid(unsafe_code)]

pub mod bus;
pub mod console;
pub mod energy;
pub mod events;
pub mod fan;
pub mod flash;
pub mod floors;
pub mod kept;
pub mod link;
pub mod nor;
pub mod parts;
pub mod power;
pub mod vault;
