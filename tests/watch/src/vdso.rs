// SPDX-License-Identifier: Apache-2.0
//! A process that is watched has no functions of the kernel's in its own memory, so that it asks for the time by system calls, as it
//! does on a host whose clock can only be read so.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;

// linux/auxvec.h
const AT_NULL: u64 = 0;
const AT_IGNORE: u64 = 1;
const AT_SYSINFO_EHDR: u64 = 33;

/// Takes their address (`AT_SYSINFO_EHDR` of getauxval(3)) from a program that was just started.
pub(crate) fn take_away(process: u32) -> io::Result<()> {
    let memory = format!("/proc/{process}/mem");
    let memory = File::options().read(true).write(true).open(memory)?;
    let stat = fs::read_to_string(format!("/proc/{process}/stat"))?;
    // Its 28th field is where the stack begins: the number of arguments, these, the environment, pairs of which the last are 0. The
    // second is a name in brackets, which may hold anything.
    let fields = stat.rsplit(')').next().unwrap_or_default();
    let stack = fields.split_whitespace().nth(25).unwrap_or_default();
    let mut at: u64 = stack.parse().map_err(io::Error::other)?;
    let mut next = || -> io::Result<(u64, u64)> {
        let mut word = [0; 8];
        memory.read_exact_at(&mut word, at)?;
        at += 8;
        Ok((at - 8, u64::from_ne_bytes(word)))
    };
    let _arguments = next()?;
    for _ in ["arguments", "environment"] {
        while next()?.1 != 0 {}
    }
    loop {
        let (place, kind) = next()?;
        let _value = next()?;
        match kind {
            AT_NULL => return Ok(()),
            AT_SYSINFO_EHDR => memory.write_all_at(&AT_IGNORE.to_ne_bytes(), place)?,
            _ => {}
        }
    }
}
