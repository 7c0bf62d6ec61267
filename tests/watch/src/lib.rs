// SPDX-License-Identifier: Apache-2.0
//! Which rules of a monitor's filters something needs: another process looks at each system call of its threads (ptrace).
//!
//! The monitor that is looked at is the real program and its filters are in force. What its threads do before they are confined does
//! not count. It has to wait until it is looked at: for the opening of a named pipe, which stands beside it.
//!
//! Rules are those that were compiled into this process: who watches must be built for the same processor and the same C library as
//! the monitor.

mod vdso;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io;
use std::path::Path;

use racklet_vmm::confine::seccomp::{Allow, Kind, rules};

// linux/ptrace.h; C libraries do not agree on the type, and musl does not have the last.
const PTRACE_SYSCALL: u32 = 24;
const PTRACE_SEIZE: u32 = 0x4206;
const PTRACE_INTERRUPT: u32 = 0x4207;
const PTRACE_LISTEN: u32 = 0x4208;
const PTRACE_GET_SYSCALL_INFO: u32 = 0x420e;
const PTRACE_EVENT_EXEC: i32 = 4;
const PTRACE_EVENT_STOP: i32 = 128;
const ENTRY: u8 = 1;

/// Every rule that some guest has to need, by its place and what it lets pass.
pub fn all() -> impl Iterator<Item = String> {
    let kinds = [Kind::Vcpu, Kind::Disk, Kind::Saver, Kind::EventLoop];
    let all = kinds.into_iter().flat_map(rules);
    all.filter(|rule| !is_for_a_full_heap(rule))
        .map(ToString::to_string)
}

/// musl's allocator keeps a page of books about some hundred groups of blocks and asks for the next page when that is full (`alloc_meta`
/// in `src/malloc/mallocng`): by brk, and by mprotect where that fails. A monitor with 601 connections has not filled the first.
fn is_for_a_full_heap(rule: &Allow) -> bool {
    let calls = [libc::SYS_brk, libc::SYS_mprotect];
    let mut calls = calls
        .into_iter()
        .filter_map(|call| u64::try_from(call).ok());
    cfg!(target_env = "musl") && calls.any(|call| rule.lets(call, &[0; 6], 0))
}

/// Looks at a process that waits for somebody to open `gate` for writing, lets it go on, and writes the rules that were needed until
/// its end to a file of its number in the folder `to`, a line each.
///
/// # Errors
/// When the process cannot be traced, or the file not be written.
pub fn watch(process: u32, gate: &Path, to: &Path) -> io::Result<()> {
    let used = needed(process, gate)?;
    let lines: String = used.into_iter().map(|rule| rule + "\n").collect();
    fs::write(to.join(process.to_string()), lines)
}

/// What was needed, by all the files that [`watch`] wrote to a folder.
///
/// # Errors
/// When they cannot be read.
pub fn seen(folder: &Path) -> io::Result<BTreeSet<String>> {
    let mut used = BTreeSet::new();
    for file in fs::read_dir(folder)? {
        let text = fs::read_to_string(file?.path())?;
        used.extend(text.lines().map(str::to_owned));
    }
    Ok(used)
}

/// A request for one thread; its end is noticed by who waits.
fn ptrace(request: u32, thread: i32, address: usize, data: usize) -> libc::c_long {
    // SAFETY: of the requests of this file only PTRACE_GET_SYSCALL_INFO writes to this process, and it is given a place and its size.
    unsafe { libc::ptrace(request as _, thread, address, data) }
}

/// Which system call a thread is about to make, with its arguments; none when it comes out of one.
fn call(thread: i32) -> Option<(u64, [u64; 6])> {
    // struct ptrace_syscall_info: what it is about (a byte), the architecture, two pointers; then the call and its arguments.
    let mut info = [0_u64; 11];
    let got = ptrace(
        PTRACE_GET_SYSCALL_INFO,
        thread,
        size_of_val(&info),
        info.as_mut_ptr().expose_provenance(),
    );
    if got < 0 || info[0].to_ne_bytes()[0] != ENTRY {
        return None;
    }
    Some((info[3], info[4..10].try_into().ok()?))
}

fn kind(process: u32, thread: i32) -> io::Result<Kind> {
    let name = fs::read_to_string(format!("/proc/{process}/task/{thread}/comm"))?;
    Ok(match name.trim() {
        name if name.starts_with("vcpu") => Kind::Vcpu,
        name if name.starts_with("disk") => Kind::Disk,
        "saver" => Kind::Saver,
        _ => Kind::EventLoop,
    })
}

/// Looks at all threads of the monitor until it ends; gives the rules that were needed.
fn needed(process: u32, gate: &Path) -> io::Result<BTreeSet<String>> {
    let options =
        libc::PTRACE_O_TRACESYSGOOD | libc::PTRACE_O_TRACECLONE | libc::PTRACE_O_TRACEEXEC;
    let first = i32::try_from(process).map_err(io::Error::other)?;
    for (request, data) in [(PTRACE_SEIZE, options as usize), (PTRACE_INTERRUPT, 0)] {
        if ptrace(request, first, 0, data) != 0 {
            return Err(io::Error::last_os_error());
        }
    }
    let mut confined: BTreeMap<i32, Kind> = BTreeMap::new();
    let mut used = BTreeSet::new();
    // Both ways, which waits for nobody: the pipe has a writer as long as this is open.
    let _gate = File::options().read(true).write(true).open(gate)?;
    loop {
        let mut status = 0;
        // SAFETY: `status` is a valid place for the result.
        let thread = unsafe { libc::waitpid(-1, &raw mut status, libc::__WALL) };
        if thread < 0 {
            return Ok(used);
        }
        if !libc::WIFSTOPPED(status) {
            continue;
        }
        let signal = libc::WSTOPSIG(status);
        let event = status >> 16;
        let (mut request, mut deliver) = (PTRACE_SYSCALL, 0);
        if event == PTRACE_EVENT_EXEC {
            vdso::take_away(process)?;
        } else if event == PTRACE_EVENT_STOP && signal != libc::SIGTRAP {
            // Somebody stopped the process: it stays so until it is told to go on.
            request = PTRACE_LISTEN;
        } else if signal == libc::SIGTRAP | 0x80 {
            if let Some((number, arguments)) = call(thread) {
                if u64::try_from(libc::SYS_seccomp) == Ok(number) {
                    confined.insert(thread, kind(process, thread)?);
                } else if let Some(kind) = confined.get(&thread) {
                    let needed = rules(*kind).filter(|r| r.lets(number, &arguments, process));
                    used.extend(needed.map(ToString::to_string));
                }
            }
        } else if event == 0 {
            deliver = usize::try_from(signal).map_err(io::Error::other)?;
        }
        // It may have been killed meanwhile, which the next wait says.
        ptrace(request, thread, 0, deliver);
    }
}
