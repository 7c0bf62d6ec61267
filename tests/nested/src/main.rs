// SPDX-License-Identifier: Apache-2.0
//! Runs inside the machine of the microVM tests, twice: as PID 1 of the host it starts real monitors and prints what came of
//! it, one `RESULT name {json}` line per case; as a workload in a microVM it does what its arguments say.
//!
//! It judges nothing: the expectations are in `tests/tests/microvm.rs`.
#![forbid(unsafe_code)]

mod bench;
mod cases;
mod host;
mod probe;

fn main() {
    let name = std::env::args().next().unwrap_or_default();
    if name.ends_with("spin") {
        probe::spin();
    }
    if name.ends_with("silent") {
        probe::silent();
    }
    if racklet_linux::power::is_pid_one() {
        cases::all();
        racklet_linux::power::leave(racklet_linux::power::Leave::Poweroff);
    }
    std::process::exit(probe::run(&std::env::args().skip(1).collect::<Vec<_>>()));
}
