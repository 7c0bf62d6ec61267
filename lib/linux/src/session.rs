// SPDX-License-Identifier: Apache-2.0
//! Programs that begin anew: a session of their own (no controlling terminal, and one number to signal all of it) and no
//! signal blocked, whatever the starter waits for.

use std::os::unix::process::CommandExt;
use std::process::Command;

use crate::signal;

/// Makes the program a session leader when it is started; its process id is then also its group's. Signals reach it: a
/// mask outlives `execve`, and `std::process::Command` hands on the starter's.
pub fn own(command: &mut Command) {
    let begin = || {
        rustix::process::setsid()?;
        signal::unblock_all()
    };
    // SAFETY: between fork and exec only async-signal-safe work is allowed: these are two system calls, their errors
    // are numbers, and nothing is allocated.
    unsafe { command.pre_exec(begin) };
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::signal::Signals;

    #[test]
    fn a_program_hears_the_signals_that_its_starter_waits_for() {
        let _waited = Signals::block().expect("blocks");
        // Not by way of a shell: some empty the mask themselves.
        let mut command = Command::new("grep");
        command.args(["-qx", "SigBlk:\t0*", "/proc/self/status"]);
        own(&mut command);
        assert!(command.status().expect("grep runs").success());
    }

    #[test]
    fn the_program_leads_its_session() {
        let mut command = Command::new("sh");
        command.args(["-c", "set -- $(cat /proc/$$/stat); [ $1 = $6 ]"]);
        own(&mut command);
        assert!(command.status().expect("sh runs").success());
    }
}
