// SPDX-License-Identifier: Apache-2.0
//! The circuits of the boards, as intent: parts, values and which net each pad is on.
//!
//! Values come with the sum that gave them; the sums themselves are checked in [`crate::check`]. What a block shares
//! between the boards (the controller, its always-on supply, the slot's contacts) is written once and keeps the same
//! reference designators on both.

mod always_on;
pub mod backplane;
pub mod bmc;
mod build;
pub mod classes;
mod efuse;
mod rp2350;
mod rs485;
mod sensors;
pub mod slot;
