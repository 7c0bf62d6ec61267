// SPDX-License-Identifier: Apache-2.0
//! Programs that lead a session of their own: no controlling terminal, and one number to signal all of it.

use std::io;
use std::os::unix::process::CommandExt;
use std::process::Command;

/// Makes the program a session leader when it is started; its process id is then also its group's.
pub fn own(command: &mut Command) {
    let set_session = || match rustix::process::setsid() {
        Ok(_) => Ok(()),
        Err(e) => Err(io::Error::from(e)),
    };
    // SAFETY: between fork and exec only async-signal-safe work is allowed: this is a single system call, its error
    // is a number, and nothing is allocated.
    unsafe { command.pre_exec(set_session) };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_program_leads_its_session() {
        let mut command = Command::new("sh");
        command.args(["-c", "set -- $(cat /proc/$$/stat); [ $1 = $6 ]"]);
        own(&mut command);
        assert!(command.status().expect("sh runs").success());
    }
}
