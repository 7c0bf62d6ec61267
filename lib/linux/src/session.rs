// SPDX-License-Identifier: Apache-2.0
//! Programs that begin anew: a session of their own (no controlling terminal, and one number to signal all of it) and no
//! signal blocked or ignored, whatever the starter does about them.

use std::os::unix::process::CommandExt;
use std::process::Command;

use crate::signal;

/// Makes the program a session leader when it is started; its process id is then also its group's. Signals reach it: a
/// mask outlives `execve`, and `std::process::Command` hands on the starter's.
pub fn own(command: &mut Command) {
    let begin = || {
        rustix::process::setsid()?;
        signal::begin_anew()
    };
    // SAFETY: between fork and exec only async-signal-safe work is allowed: these are some system calls, their errors
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
    fn a_program_is_ended_by_signals_that_its_starter_ignores() {
        // The starter: a shell that ignores SIGHUP, as `nohup` does, and starts this very test again.
        if std::env::var_os("RACKLET_IGNORES").is_none() {
            let own = std::env::current_exe().expect("this program");
            let mut shell = Command::new("sh");
            shell
                .args(["-c", "trap '' HUP; exec \"$@\"", "sh"])
                .arg(own);
            shell.args([
                "--exact",
                "session::tests::a_program_is_ended_by_signals_that_its_starter_ignores",
            ]);
            let status = shell.env("RACKLET_IGNORES", "1").status();
            return assert!(status.expect("sh runs").success());
        }
        // The last digit's lowest bit is SIGHUP's.
        let mut command = Command::new("grep");
        command.args(["-qx", "SigIgn:\t[0-9a-f]*[02468ace]", "/proc/self/status"]);
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
