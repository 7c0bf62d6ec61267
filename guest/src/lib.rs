// SPDX-License-Identifier: Apache-2.0
//! PID 1 of a microVM: sets up what `/racklet/guest.json` says, runs one command, sends its output and its end to the monitor,
//! reaps, powers off.
//!
//! It serves no logins, starts no services and restarts nothing: whether a command runs again is decided outside the VM.
//! When the monitor cannot be reached the command runs on.
//!
//! A library so that tests and fuzz targets can reach what reads others' bytes; the program is `guest-init`.
#![forbid(unsafe_code)]

pub mod agent;
mod console;
mod event;
mod exec;
pub mod lines;
mod network;
mod restored;
mod root;
mod start;
mod supervise;

pub use start::run;
