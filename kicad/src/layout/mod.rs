// SPDX-License-Identifier: Apache-2.0
//! Where things are on each board: placement, areas and the tracks that are drawn by hand because a datasheet has an opinion.
//! All else is laid by [`crate::route`].

pub mod backplane;
pub mod bmc;
mod rp2350;

/// Layers by number, from the upper side.
const F: u8 = 0;
const IN1: u8 = 1;
const IN2: u8 = 2;
const B: u8 = 3;
