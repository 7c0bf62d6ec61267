// SPDX-License-Identifier: Apache-2.0
//! The harness of the end-to-end tests and of the demo: real servers, a real QEMU machine, its console.
//!
//! A test reads as a sentence; what makes it run is here. Everything started here ends with the value that stands for it, and
//! what it said stays in a folder for whoever has to find out why. Nothing here decides what a tray should do: it only
//! starts, watches and breaks things.
#![forbid(unsafe_code)]

pub mod artifacts;
pub mod authority;
pub mod bmc;
pub mod board;
pub mod card;
pub mod console;
pub mod firmware;
pub mod front;
pub mod nested;
pub mod netboot;
pub mod ovmf;
pub mod process;
pub mod qemu;
pub mod rack;
pub mod raspi;
pub mod replay;
pub mod scene;
pub mod servers;
pub mod sntp;
pub mod until;
