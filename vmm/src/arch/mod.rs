// SPDX-License-Identifier: Apache-2.0
//! What differs between processor architectures: memory layout, how a kernel is entered, what a vCPU shows.
//!
//! Another architecture is another folder with the same names (`Cpus`, `ram`, `boot`, …), chosen here.

#[cfg(target_arch = "x86_64")]
mod x86_64;

#[cfg(target_arch = "x86_64")]
pub use x86_64::*;
