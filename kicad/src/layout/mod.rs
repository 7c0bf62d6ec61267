// SPDX-License-Identifier: Apache-2.0
//! Where things are on each board: placement, areas and the tracks that are drawn by hand because a datasheet has an opinion.
//! All else is laid by [`crate::route`].

pub mod backplane;
pub mod bmc;
