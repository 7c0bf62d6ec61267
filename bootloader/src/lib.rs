// SPDX-License-Identifier: Apache-2.0
//! Stage 1 of a tray's boot, apart from the firmware: what is decided, in which order, and what is said about it.
//!
//! ```text
//!   read the slot record --> choose a slot --> count the try --> read and verify the slot --> start it
//!                              ^    |                               | refused                | came back
//!                              |    | none left                     v                        v
//!                              |    +--> list every reason, wait, reset      (next slot, same boot)
//!                              +----------------------------------------------------+
//! ```
//!
//! Of a tray without a card everything is in this image, a slot included: that is verified and started, and there is nothing to choose
//! from ([`carried`]).
//!
//! `main.rs` and `firmware/` are the shell around it: UEFI's disks, files, console and images. There is no menu, no shell, no
//! configuration file and no way to pass arguments: everything that is used is inside this image or signed.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

pub mod baked;
pub mod carried;
pub mod flow;
pub mod line;
pub mod place;
pub mod verify;

#[cfg(test)]
mod tests;
