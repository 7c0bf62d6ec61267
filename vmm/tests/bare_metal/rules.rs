// SPDX-License-Identifier: Apache-2.0
//! Every rule of the filters lets something pass that the monitor does: all guests of this program run once more, and another process
//! looks at each system call of their monitors (ptrace). A rule that none of them needs is named.
//!
//! The program that is looked at is the real one, its filters are in force. What the threads of a monitor do before they are confined
//! does not count.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::{env, io};

use racklet_vmm::confine::seccomp::{Kind, rules};
use rustix::fs::{CWD, FileType, Mode, mknodat};

use super::possible;

/// A folder for what watchers saw; guests are watched where it is set.
const SEEN: &str = "RACKLET_TEST_RULES_SEEN";
/// In a watcher: the monitor's number, and where its gate is.
const WATCHED: &str = "RACKLET_TEST_RULES_WATCHED";
const TEST: &str = "rules::each_rule_of_the_filters_is_needed_by_some_guest";
/// One that looks at a thread of its monitor itself, which only one may, and one whose guest has to be faster than a disk's thread that
/// is watched.
const NOT_WATCHED: [&str; 2] = [
    "a_disk_that_stands_still_holds_up_neither_registers_nor_the_control_socket",
    "a_guest_that_keeps_its_disk_busy_is_still_answered_for_reset_and_ended",
];

// linux/ptrace.h; C libraries do not agree on the type, and musl does not have the last.
const PTRACE_SYSCALL: u32 = 24;
const PTRACE_SEIZE: u32 = 0x4206;
const PTRACE_INTERRUPT: u32 = 0x4207;
const PTRACE_GET_SYSCALL_INFO: u32 = 0x420e;
const ENTRY: u64 = 1;

// linux/auxvec.h
const AT_NULL: u64 = 0;
const AT_IGNORE: u64 = 1;
const AT_SYSINFO_EHDR: u64 = 33;

/// Holds a monitor back until it is watched: a named pipe that nobody has opened for writing yet.
pub(super) struct Gate {
    seen: PathBuf,
    pipe: PathBuf,
}

/// What starts the monitor, and what it waits for where it is to be watched.
pub(super) fn monitor(folder: &Path) -> (Command, Option<Gate>) {
    let program = env!("CARGO_BIN_EXE_vmm");
    let Some(seen) = env::var_os(SEEN) else {
        return (Command::new(program), None);
    };
    let pipe = folder.join("gate");
    mknodat(CWD, &pipe, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).expect("makes a pipe");
    let mut shell = Command::new("sh");
    // The same process, and its input is the monitor's.
    shell.args(["-c", ": <\"$1\"; exec \"$0\" \"$2\"", program]);
    shell.arg(&pipe);
    let seen = PathBuf::from(seen);
    (shell, Some(Gate { seen, pipe }))
}

impl Gate {
    pub(super) fn watch(&self, monitor: &Child) -> Child {
        let program = env::current_exe().expect("a test knows its program");
        Command::new(program)
            .args(["--exact", TEST, "--nocapture"])
            .env(SEEN, &self.seen)
            .env(WATCHED, format!("{} {}", monitor.id(), self.pipe.display()))
            .stdout(io::stderr())
            .spawn()
            .expect("a watcher starts")
    }
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
    if got < 0 || info[0].to_le_bytes()[0] != ENTRY.to_le_bytes()[0] {
        return None;
    }
    Some((info[3], info[4..10].try_into().expect("six of them")))
}

fn kind(process: u32, thread: i32) -> Kind {
    let name = fs::read_to_string(format!("/proc/{process}/task/{thread}/comm"));
    match name.expect("it stands still").trim() {
        name if name.starts_with("vcpu") => Kind::Vcpu,
        name if name.starts_with("disk") => Kind::Disk,
        "saver" => Kind::Saver,
        _ => Kind::EventLoop,
    }
}

/// Looks at all threads of the monitor until it ends; gives the rules that were needed.
fn watch(process: u32, pipe: &Path) -> BTreeSet<String> {
    let options =
        libc::PTRACE_O_TRACESYSGOOD | libc::PTRACE_O_TRACECLONE | libc::PTRACE_O_TRACEEXEC;
    let first = i32::try_from(process).expect("a process");
    let seized = ptrace(PTRACE_SEIZE, first, 0, options as usize);
    assert_eq!(seized, 0, "{}", io::Error::last_os_error());
    assert_eq!(ptrace(PTRACE_INTERRUPT, first, 0, 0), 0);
    let mut confined: BTreeMap<i32, Kind> = BTreeMap::new();
    let mut used = BTreeSet::new();
    // Both ways, which waits for nobody: the pipe has a writer as long as this is open.
    let gate = File::options().read(true).write(true).open(pipe);
    let _gate = gate.expect("the gate is there");
    loop {
        let mut status = 0;
        // SAFETY: `status` is a valid place for the result.
        let thread = unsafe { libc::waitpid(-1, &raw mut status, libc::__WALL) };
        if thread < 0 {
            return used;
        }
        if !libc::WIFSTOPPED(status) {
            continue;
        }
        let signal = libc::WSTOPSIG(status);
        let mut deliver = 0;
        if status >> 8 == libc::SIGTRAP | libc::PTRACE_EVENT_EXEC << 8 {
            take_the_vdso_away(process);
        }
        if signal == libc::SIGTRAP | 0x80 {
            if let Some((number, arguments)) = call(thread) {
                if u64::try_from(libc::SYS_seccomp) == Ok(number) {
                    confined.insert(thread, kind(process, thread));
                } else if let Some(kind) = confined.get(&thread) {
                    let needed = rules(*kind).filter(|r| r.lets(number, &arguments, process));
                    used.extend(needed.map(ToString::to_string));
                }
            }
        } else if status >> 16 == 0 {
            deliver = usize::try_from(signal).expect("a signal");
        }
        // It may have been killed meanwhile, which the next wait says.
        ptrace(PTRACE_SYSCALL, thread, 0, deliver);
    }
}

/// A program that was just started finds no functions of the kernel's in its own memory (`AT_SYSINFO_EHDR` of getauxval(3)): it asks
/// for the time by system calls, as it does on a host whose clock can only be read so.
fn take_the_vdso_away(process: u32) {
    let memory = format!("/proc/{process}/mem");
    let memory = File::options().read(true).write(true).open(memory);
    let memory = memory.expect("it is watched");
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).expect("it is watched");
    // Its 28th field is where the stack begins: the number of arguments, these, the environment, pairs of which the last are 0.
    let fields = stat.rsplit(')').next().expect("its name is in brackets");
    let stack = fields.split_whitespace().nth(25).expect("fields");
    let mut at: u64 = stack.parse().expect("an address");
    let mut next = || {
        let mut word = [0; 8];
        memory.read_exact_at(&mut word, at).expect("its stack");
        at += 8;
        (at - 8, u64::from_le_bytes(word))
    };
    let _arguments = next();
    for _ in ["arguments", "environment"] {
        while next().1 != 0 {}
    }
    loop {
        let (place, kind) = next();
        let _value = next();
        match kind {
            AT_NULL => return,
            AT_SYSINFO_EHDR => {
                let nothing = AT_IGNORE.to_le_bytes();
                memory.write_all_at(&nothing, place).expect("its stack");
            }
            _ => {}
        }
    }
}

#[test]
fn each_rule_of_the_filters_is_needed_by_some_guest() {
    if !possible() {
        return;
    }
    if let Ok(watched) = env::var(WATCHED) {
        let (process, pipe) = watched.split_once(' ').expect("two words");
        let used = watch(process.parse().expect("a number"), Path::new(pipe));
        let to = PathBuf::from(env::var_os(SEEN).expect("set by the same"));
        let lines: String = used.into_iter().map(|rule| rule + "\n").collect();
        fs::write(to.join(process), lines).expect("writes");
        return;
    }
    let seen = tempfile::tempdir().expect("a scratch folder");
    let program = env::current_exe().expect("a test knows its program");
    let output = Command::new(program)
        .args(["--skip", TEST])
        .args(NOT_WATCHED.iter().flat_map(|test| ["--skip", test]))
        .env(SEEN, seen.path())
        .output()
        .expect("the test's program can be started again");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success(),
        "{text}{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let mut used = BTreeSet::new();
    for file in fs::read_dir(seen.path()).expect("lists") {
        let text = fs::read_to_string(file.expect("lists").path()).expect("reads");
        used.extend(text.lines().map(str::to_owned));
    }
    let kinds = [Kind::Vcpu, Kind::Disk, Kind::Saver, Kind::EventLoop];
    let all = kinds.into_iter().flat_map(rules).map(ToString::to_string);
    let never: BTreeSet<_> = all.filter(|rule| !used.contains(rule)).collect();
    assert!(never.is_empty(), "nothing needs {never:#?}");
}
