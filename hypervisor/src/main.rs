// SPDX-License-Identifier: Apache-2.0
//! `hypervisor [FLAGS]`: the daemon; see the library.
#![forbid(unsafe_code)]

use std::ffi::OsString;
use std::process::ExitCode;

fn main() -> ExitCode {
    let args: Vec<OsString> = std::env::args_os().skip(1).collect();
    racklet_hypervisor::run(&args)
}
