// SPDX-License-Identifier: Apache-2.0
//! Pseudo-terminals: one end for who types and reads, the other for a program that believes it has a terminal.

use std::fs::File;
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use rustix::fs::{Gid, Uid, fchown};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};

use crate::signal;

/// The end of who types and reads. What is read is an error (EIO) once no program has the other end open.
#[derive(Debug)]
pub struct Pty {
    controller: File,
    user: File,
}

impl Pty {
    /// A new one of this size in characters, whose other end belongs to this user.
    ///
    /// # Errors
    /// Where `/dev/ptmx` or `/dev/pts` is missing, or there are too many.
    pub fn open(rows: u16, columns: u16, uid: u32, gid: u32) -> io::Result<Pty> {
        let controller = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)?;
        grantpt(&controller)?;
        unlockpt(&controller)?;
        let name = ptsname(&controller, Vec::new())?;
        let name = PathBuf::from(name.to_string_lossy().into_owned());
        // Programs open their terminal again by its name, which the kernel has given to root.
        let no_control = libc::O_NOCTTY;
        let user = File::options()
            .read(true)
            .write(true)
            .custom_flags(no_control)
            .open(name)?;
        fchown(&user, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)))?;
        let controller = File::from(controller);
        resize(&controller, rows, columns)?;
        Ok(Pty { controller, user })
    }

    /// Gives the other end to a program as its standard streams and controlling terminal, in a session of its own with no signal
    /// blocked; keeps this one.
    ///
    /// # Errors
    /// When there are no descriptors left.
    pub fn give(self, command: &mut Command) -> io::Result<File> {
        command
            .stdin(Stdio::from(self.user.try_clone()?))
            .stdout(Stdio::from(self.user.try_clone()?))
            .stderr(Stdio::from(self.user));
        let begin = || {
            rustix::process::setsid()?;
            rustix::process::ioctl_tiocsctty(rustix::stdio::stdin())?;
            signal::begin_anew()
        };
        // SAFETY: between fork and exec only async-signal-safe work is allowed: these are some system calls, their errors are
        // numbers, and nothing is allocated.
        unsafe { command.pre_exec(begin) };
        Ok(self.controller)
    }
}

/// Changes a terminal's size; what runs there is told (SIGWINCH).
///
/// # Errors
/// When it is no terminal.
pub fn resize(controller: &File, rows: u16, columns: u16) -> io::Result<()> {
    let size = Winsize {
        ws_row: rows,
        ws_col: columns,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    Ok(tcsetwinsize(controller, size)?)
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};

    use super::*;

    fn own() -> (u32, u32) {
        let ids = (rustix::process::geteuid(), rustix::process::getegid());
        (ids.0.as_raw(), ids.1.as_raw())
    }

    /// What is said there, up to the end of it.
    fn rest(controller: &mut File) -> String {
        let mut said = Vec::new();
        let mut bytes = [0; 256];
        // The end is an error.
        while let Ok(count @ 1..) = controller.read(&mut bytes) {
            said.extend(&bytes[..count]);
        }
        String::from_utf8(said).expect("text")
    }

    #[test]
    fn a_program_has_a_terminal_that_it_controls_by_its_name_too() {
        let (uid, gid) = own();
        let pty = Pty::open(40, 120, uid, gid).expect("opens");
        let mut command = Command::new("sh");
        command.args(["-c", "stty size; test -t 0 && test -t 2 && read line </dev/tty; echo got $line; stat -c %u $(tty)"]);
        let mut controller = pty.give(&mut command).expect("gives");
        let mut child = command.spawn().expect("sh starts");
        drop(command); // it has the other end, too
        controller.write_all(b"a word\n").expect("writes");
        let said = rest(&mut controller);
        assert!(child.wait().expect("it ends").success());
        let lines: Vec<&str> = said.lines().filter(|line| *line != "a word").collect();
        assert_eq!(lines, ["40 120", "got a word", &uid.to_string()], "{said}");
    }

    #[test]
    fn another_size_is_seen_and_ctrl_c_is_a_signal() {
        let (uid, gid) = own();
        let pty = Pty::open(24, 80, uid, gid).expect("opens");
        let mut command = Command::new("sh");
        command.args([
            "-c",
            "trap 'stty size; echo out; exit 0' INT; echo ready; while :; do sleep 1; done",
        ]);
        let mut controller = pty.give(&mut command).expect("gives");
        let mut child = command.spawn().expect("sh starts");
        drop(command);
        let mut said = [0; 7];
        controller.read_exact(&mut said).expect("it says so");
        assert_eq!(&said, b"ready\r\n");
        resize(&controller, 50, 132).expect("resizes");
        controller.write_all(b"\x03").expect("writes");
        let mut said = String::new();
        while !said.contains("out") {
            let mut bytes = [0; 64];
            let count = controller.read(&mut bytes).expect("it goes on");
            said.push_str(&String::from_utf8_lossy(&bytes[..count]));
        }
        assert!(said.contains("50 132"), "{said}");
        assert!(child.wait().expect("it ends").success());
    }
}
