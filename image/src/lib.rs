// SPDX-License-Identifier: Apache-2.0
//! Builds what trays boot and run: initramfs archives, EROFS images, payloads, artifacts, bootstraps, disk images.
//!
//! Everything here is a function of its inputs: the same inputs give the same bytes, whatever the machine, the clock or
//! the order in which a directory lists its entries. Nothing here signs; see `racklet` (the command) for that.

#![forbid(unsafe_code)]

pub mod disk;
pub mod erofs;
pub mod initramfs;
pub mod kernel;
pub mod package;
pub mod raspberry_pi;
