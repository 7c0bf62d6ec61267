// SPDX-License-Identifier: Apache-2.0
//! Runs inside the machine of the microVM tests: as PID 1 of the host it starts real monitors and prints what came of
//! it, one `RESULT name {json}` line per case; as a workload in a microVM it does what its arguments say. By other arguments it holds a
//! monitor back until it is watched, and watches one ([`rules`]).
//!
//! It judges nothing: the expectations are in `tests/tests/microvm.rs` and `microvm_arm64.rs`.
#![forbid(unsafe_code)]

mod bench;
mod cases;
mod host;
mod probe;
mod rules;
mod tools;
mod work;

fn main() {
    match std::env::args().next() {
        Some(name) if name.ends_with("spin") => probe::spin(),
        Some(name) if name.ends_with("silent") => probe::silent(),
        Some(name) if name.ends_with("work") => work::as_pid_one(),
        _ => {}
    }
    if racklet_linux::power::is_pid_one() {
        cases::all();
        // The last results are still on their way through the console where the machine is slow.
        let _ = rustix::termios::tcdrain(std::io::stdout());
        racklet_linux::power::leave(racklet_linux::power::Leave::Poweroff);
    }
    std::process::exit(probe::run(&std::env::args().skip(1).collect::<Vec<_>>()));
}
