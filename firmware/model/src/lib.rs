// SPDX-License-Identifier: Apache-2.0
//! The world around a controller, for tests: each part of `pins.toml` as its registers, and the flash with its rules and times. What an
//! emulated controller's pins will be joined to (`racklet_wire::pins`), and what tests of `firmware/core` run against now.
//!
//! Written from the data sheets and not from the drivers: where both are wrong in the same way, no test here shows it.

#![forbid(unsafe_code)]

pub mod flash;
pub mod i2c;
