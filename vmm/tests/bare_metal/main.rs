// SPDX-License-Identifier: Apache-2.0
//! The real program, confined as on a tray, with guests of a few instructions instead of Linux: what is made in which order, what the
//! filters let through, and how an end is told. Needs root and a `/dev/kvm`, also one that could not run Linux; without them each
//! test says so and looks at nothing. Linux in a guest is tested in `tests/tests/microvm.rs`.
#![cfg(target_arch = "x86_64")]

/// What drivers in assembler have in common, for a block that ends with `driver_end`.
macro_rules! driver {
    () => {
        concat!(
            // What a driver does first (virtio 1.2, 3.1.1), with rbx at the device's registers.
            ".macro racklet_features\n",
            "mov rax, 0xd0000083\n",
            "mov [0xbff8], rax\n",
            "mov rax, cr3\n",
            "mov cr3, rax\n",
            "mov dword ptr [rbx + 0x70], 0\n",
            "mov dword ptr [rbx + 0x70], 1\n",
            "mov dword ptr [rbx + 0x70], 3\n",
            "mov dword ptr [rbx + 0x24], 1\n", // of the features 32 to 63
            "mov dword ptr [rbx + 0x20], 1\n", // VERSION_1
            "mov dword ptr [rbx + 0x70], 11\n",
            ".endm\n",
            // Switches on a queue whose rings are in three pages from an address on.
            ".macro racklet_queue number, size, rings\n",
            "mov dword ptr [rbx + 0x30], \\number\n",
            "mov dword ptr [rbx + 0x38], \\size\n",
            "mov dword ptr [rbx + 0x80], \\rings\n",
            "mov dword ptr [rbx + 0x90], \\rings + 0x1000\n",
            "mov dword ptr [rbx + 0xa0], \\rings + 0x2000\n",
            "mov dword ptr [rbx + 0x44], 1\n",
            ".endm\n",
            // Asks for a connection to port 5000, from port 7, by the queue for sending at 0x210000; the packet is at 0x213000.
            ".macro racklet_request\n",
            "mov qword ptr [0x210000], 0x213000\n",
            "mov dword ptr [0x210008], 44\n",
            "mov qword ptr [0x213000], 3\n", // from this guest
            "mov qword ptr [0x213008], 2\n", // to the host
            "mov dword ptr [0x213010], 7\n",
            "mov dword ptr [0x213014], 5000\n",
            "mov dword ptr [0x21301c], 0x10001\n", // a stream; a request
            "mov dword ptr [0x213024], 65536\n",
            "mov word ptr [0x211002], 1\n",
            "mov dword ptr [rbx + 0x50], 0\n",
            "mov dword ptr [rbx + 0x50], 1\n",
            ".endm\n",
            // A line of one letter on COM1.
            ".macro racklet_say letter\n",
            "mov dx, 0x3f8\n",
            "mov al, \\letter\n",
            "out dx, al\n",
            "mov al, 10\n",
            "out dx, al\n",
            ".endm\n",
        )
    };
}

/// Forgets it: another block may be assembled together with this one.
macro_rules! driver_end {
    () => {
        ".purgem racklet_features\n.purgem racklet_queue\n.purgem racklet_request\n.purgem racklet_say"
    };
}

mod balloon;
mod calls;
mod control;
mod devices;
mod disks;
mod rules;
mod seldom;
mod snapshot;

use std::arch::global_asm;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::ops::{Deref, DerefMut};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use racklet_api::vmm::{VmState, VmStatus, exit};
use serde_json::{Value, json};
use tempfile::TempDir;

// Guests are entered at their first byte, at 1 MiB, with the first GiB mapped as itself in pages of 2 MiB by the table at 0xb000.
// The machine has three devices: sockets, then entropy, whose registers are at 0xd0001000, then a balloon.
global_asm!(
    ".pushsection .rodata",
    ".global racklet_parts, racklet_fault, racklet_lost, racklet_halt, racklet_prompt, racklet_wait, racklet_end",
    "racklet_parts:",
    // The last of those pages shows the devices' registers: entropy's at 0x3fe01000.
    "mov rax, 0xd0000083",
    "mov [0xbff8], rax",
    "mov rax, cr3",
    "mov cr3, rax",
    // COM1.
    "mov dx, 0x3f8",
    "mov al, 'c'",
    "out dx, al",
    // The clock chip's register 13: battery good.
    "mov al, 13",
    "out 0x70, al",
    "in al, 0x71",
    "cmp al, 0x80",
    "jne 2f",
    "mov al, 'b'",
    "out dx, al",
    // The entropy device (virtio 1.2, 4.2.3): reset, then each step's bits in the status register.
    "mov rbx, 0x3fe01000",
    "mov dword ptr [rbx + 0x70], 0",
    "mov dword ptr [rbx + 0x70], 1",
    "mov dword ptr [rbx + 0x70], 3",
    "mov dword ptr [rbx + 0x24], 1", // of the features 32 to 63
    "mov dword ptr [rbx + 0x20], 1", // VERSION_1
    "mov dword ptr [rbx + 0x70], 11",
    "mov dword ptr [rbx + 0x38], 8",
    "mov dword ptr [rbx + 0x80], 0x200000",
    "mov dword ptr [rbx + 0x90], 0x201000",
    "mov dword ptr [rbx + 0xa0], 0x202000",
    "mov dword ptr [rbx + 0x44], 1",
    "mov dword ptr [rbx + 0x70], 15",
    // One descriptor: 64 bytes at 0x203000 for the device to write.
    "mov qword ptr [0x200000], 0x203000",
    "mov dword ptr [0x200008], 64",
    "mov word ptr [0x20000c], 2",
    "mov word ptr [0x201002], 1",
    "mov dword ptr [rbx + 0x50], 0",
    "3: pause",
    "cmp word ptr [0x202002], 1",
    "jne 3b",
    "cmp dword ptr [0x202008], 64",
    "jne 2f",
    "cmp qword ptr [0x203038], 0",
    "je 2f",
    "mov al, 'e'",
    "out dx, al",
    "2: mov al, 10",
    "out dx, al",
    // The keyboard controller's reset line.
    "mov al, 0xfe",
    "out 0x64, al",
    "4: hlt",
    "jmp 4b",
    // No table for exceptions: the first one is the third.
    "racklet_fault: ud2",
    // Executes the registers of the devices.
    "racklet_lost: mov rax, 0xd0000083",
    "mov [0xbff8], rax",
    "mov rax, cr3",
    "mov cr3, rax",
    "mov rax, 0x3fe01000",
    "jmp rax",
    // Says what Linux says last when it switches off, and halts for ever.
    "racklet_halt: mov dx, 0x3f8",
    "lea rsi, [rip + 7f]",
    "6: mov al, [rsi]",
    "out dx, al",
    "inc rsi",
    "cmp al, 10",
    "jne 6b",
    "cli",
    "8: hlt",
    "jmp 8b",
    "7: .ascii \"[    0.1] reboot: System halted\\n\"",
    // A line, a pause in which nobody waits for its rest any more, and a prompt: nothing more comes, and no line's end.
    "racklet_prompt: mov dx, 0x3f8",
    "mov al, 10",
    "out dx, al",
    // By the time-stamp counter, some tenths of a second: how fast instructions are differs by the thousand. Again and again, since a
    // machine may be saved before the first or after it.
    "9: rdtsc",
    "mov ebx, eax",
    "12: rdtsc",
    "sub eax, ebx",
    "cmp eax, 600000000",
    "jb 12b",
    "mov dx, 0x3f8",
    "mov al, '>'",
    "out dx, al",
    "jmp 9b",
    "racklet_wait: mov dx, 0x3f8",
    "mov al, 10",
    "out dx, al",
    "5: pause",
    "jmp 5b",
    "racklet_end:",
    ".popsection",
);

unsafe extern "C" {
    static racklet_parts: u8;
    static racklet_fault: u8;
    static racklet_lost: u8;
    static racklet_halt: u8;
    static racklet_prompt: u8;
    static racklet_wait: u8;
    static racklet_end: u8;
}

fn code(from: &'static u8, to: &'static u8) -> &'static [u8] {
    let length = std::ptr::from_ref(to).addr() - std::ptr::from_ref(from).addr();
    // SAFETY: both are labels of the one block above, `from` before `to`, so that the bytes between them are read-only data.
    unsafe { std::slice::from_raw_parts(from, length) }
}

/// A kernel of one segment at 1 MiB that is entered at its first byte.
fn elf(code: &[u8]) -> Vec<u8> {
    let mut elf = vec![0; 120];
    elf[..6].copy_from_slice(b"\x7fELF\x02\x01");
    elf[18] = 62; // x86-64
    elf[32] = 64; // one program header, behind this one
    elf[54] = 56;
    elf[56] = 1;
    elf[64] = 1; // to be loaded
    let size = code.len() as u64;
    for (at, value) in [
        (24, 0x10_0000), // entry
        (72, 120),       // offset
        (88, 0x10_0000), // address
        (96, size),
        (104, size),
    ] {
        elf[at..at + 8].copy_from_slice(&u64::to_le_bytes(value));
    }
    [&elf, code].concat()
}

/// Whether a guest can be run here, told when not.
fn possible() -> bool {
    let root = rustix::process::geteuid().is_root();
    let kvm = fs::File::options().read(true).write(true).open("/dev/kvm");
    if !root || kvm.is_err() {
        eprintln!("not tried: this needs root and /dev/kvm");
    }
    root && kvm.is_ok()
}

/// A monitor that does not outlive its test, however that ends: some of the guests go round and round.
struct Monitor {
    process: Child,
    /// Who looks at its system calls, where somebody does. Ends with it.
    watcher: Option<Child>,
}

impl Deref for Monitor {
    type Target = Child;

    fn deref(&self) -> &Child {
        &self.process
    }
}

impl DerefMut for Monitor {
    fn deref_mut(&mut self) -> &mut Child {
        &mut self.process
    }
}

impl Drop for Monitor {
    fn drop(&mut self) {
        // Most have ended, and been waited for.
        let _ = self.process.kill();
        let _ = self.process.wait();
        if let Some(watcher) = &mut self.watcher {
            // What it saw is written when it has ended.
            let _ = watcher.wait();
        }
    }
}

fn start(code: &[u8]) -> (TempDir, Monitor) {
    start_with(code, Stdio::null())
}

/// With this as its standard input.
fn start_with(code: &[u8], input: Stdio) -> (TempDir, Monitor) {
    start_as(code, input, |_| {})
}

/// With other words in its configuration.
fn start_as(code: &[u8], input: Stdio, change: impl FnOnce(&mut Value)) -> (TempDir, Monitor) {
    let folder = tempfile::tempdir().expect("a scratch folder");
    let path = |name: &str| folder.path().join(name);
    fs::write(path("kernel"), elf(code)).expect("writes");
    fs::write(path("archive"), [0; 512]).expect("writes");
    fs::create_dir(path("vm")).expect("makes");
    let mut config = json!({
        "v": 1, "name": "bare", "cpus": 2, "memory_mib": 32, "arguments": "", "disks": [], "networks": [], "vsock_cid": 3,
        "kernel": path("kernel"), "initramfs": [path("archive")], "log_bytes": 65536,
        "confinement": {"uid": 7001, "gid": 7001},
    });
    change(&mut config);
    fs::write(path("vm/config.json"), config.to_string()).expect("writes");
    let (mut monitor, gate) = rules::monitor(folder.path());
    let process = monitor.arg(path("vm")).stdin(input).spawn();
    let process = process.expect("the monitor starts");
    let watcher = gate.map(|gate| gate.watch(&process));
    (folder, Monitor { process, watcher })
}

fn state(folder: &Path) -> VmState {
    let bytes = fs::read(folder.join("vm/status.json")).expect("there is a status");
    let status: VmStatus = serde_json::from_slice(&bytes).expect("the status is one");
    status.state
}

#[track_caller]
fn crashed(folder: &Path, monitor: &mut Child, why: &str) {
    let ended = monitor.wait().expect("it is ours");
    let VmState::Crashed { reason } = state(folder) else {
        panic!("{:?}, {ended}", state(folder));
    };
    assert!(reason.contains(why), "{reason}");
    assert_eq!(ended.code(), Some(exit::CRASHED));
}

#[test]
fn each_part_of_the_machine_answers_a_confined_guest() {
    if !possible() {
        return;
    }
    // SAFETY: labels of the block above, which is in this program.
    let code = unsafe { code(&racklet_parts, &racklet_fault) };
    let (folder, mut monitor) = start(code);
    crashed(
        folder.path(),
        &mut monitor,
        "reset without reporting an end",
    );
    let console = fs::read_to_string(folder.path().join("vm/console.log")).unwrap();
    assert_eq!(console, "cbe\n", "console, battery, entropy");
}

#[test]
fn a_guest_without_a_handler_for_its_fault_has_crashed() {
    if !possible() {
        return;
    }
    // SAFETY: labels of the block above, which is in this program.
    let code = unsafe { code(&racklet_fault, &racklet_lost) };
    let (folder, mut monitor) = start(code);
    crashed(folder.path(), &mut monitor, "triple fault");
}

#[test]
fn a_guest_that_executes_a_devices_registers_has_crashed_and_the_monitor_has_not_failed() {
    if !possible() {
        return;
    }
    // SAFETY: labels of the block above, which is in this program.
    let code = unsafe { code(&racklet_lost, &racklet_halt) };
    let (folder, mut monitor) = start(code);
    crashed(folder.path(), &mut monitor, "no processor can go on");
}

#[test]
fn a_guest_that_says_that_it_switches_off_and_halts_is_over() {
    if !possible() {
        return;
    }
    // SAFETY: labels of the block above, which is in this program.
    let code = unsafe { code(&racklet_halt, &racklet_prompt) };
    let (folder, mut monitor) = start(code);
    let ended = monitor.wait().expect("it is ours");
    assert_eq!(state(folder.path()), VmState::PoweredOff);
    assert_eq!(ended.code(), Some(exit::POWERED_OFF));
}

#[test]
fn console_text_without_the_end_of_its_line_is_passed_on() {
    if !possible() {
        return;
    }
    // SAFETY: labels of the block above, which is in this program.
    let code = unsafe { code(&racklet_prompt, &racklet_wait) };
    let (folder, mut monitor) = start(code);
    runs(folder.path(), &mut monitor);
    let console = folder.path().join("vm/console.log");
    until("its prompt", &mut monitor, || {
        fs::read(&console).expect("it is there").starts_with(b"\n>")
    });
    kill(folder.path(), &mut monitor);
}

#[test]
fn a_disk_that_is_written_belongs_to_one_microvm() {
    if !possible() {
        return;
    }
    // SAFETY: labels of the block above, which is in this program.
    let code = unsafe { code(&racklet_wait, &racklet_end) };
    let disk = tempfile::NamedTempFile::new().expect("a scratch file");
    disk.as_file().set_len(4096).expect("grows");
    let with = |read_only: bool| {
        let disk = json!({"path": disk.path(), "read_only": read_only});
        move |config: &mut Value| config["disks"] = json!([disk])
    };
    let refused = |read_only: bool, why: &str| {
        let (folder, mut monitor) = start_as(code, Stdio::null(), with(read_only));
        let ended = loop {
            if let Some(ended) = monitor.try_wait().expect("it is ours") {
                break ended;
            }
            let console = fs::read(folder.path().join("vm/console.log")).unwrap_or_default();
            assert!(console.is_empty(), "it was started");
        };
        let VmState::Refused { reason } = state(folder.path()) else {
            panic!("{:?}, {ended}", state(folder.path()));
        };
        assert!(reason.contains(why), "{reason}");
    };
    let (writer, mut monitor) = start_as(code, Stdio::null(), with(false));
    runs(writer.path(), &mut monitor);
    refused(false, "belongs to one");
    refused(true, "writes to it");
    kill(writer.path(), &mut monitor);
    let (reader, mut monitor) = start_as(code, Stdio::null(), with(true));
    runs(reader.path(), &mut monitor);
    let (other, mut also) = start_as(code, Stdio::null(), with(true));
    runs(other.path(), &mut also);
    refused(false, "belongs to one");
    kill(reader.path(), &mut monitor);
    kill(other.path(), &mut also);
}

/// Waits for what a monitor's guest does, `what`, as long as that monitor runs.
///
/// # Panics
/// When the monitor ends first. After ten minutes as well: far more than the slowest machine takes, and a hang is then named.
#[track_caller]
fn until(what: &str, monitor: &mut Child, mut done: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !done() {
        let ended = monitor.try_wait().expect("it is ours");
        assert_eq!(ended, None, "it ended before {what}");
        assert!(
            begun.elapsed() < Duration::from_secs(600),
            "{what}: never seen"
        );
        // Not without a pause: the guest needs a processor, too.
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Waits until the guest has said something: everything before its first instruction is done.
#[track_caller]
fn runs(folder: &Path, monitor: &mut Child) {
    until("its first letter", monitor, || {
        fs::read(folder.join("vm/console.log")).is_ok_and(|text| !text.is_empty())
    });
}

fn kill(folder: &Path, monitor: &mut Child) {
    let control = UnixStream::connect(folder.join("vm/control.sock"));
    let asked = control.and_then(|mut control| control.write_all(b"{\"v\":1,\"do\":\"kill\"}\n"));
    asked.expect("it listens");
    let ended = monitor.wait().expect("it is ours");
    assert_eq!(ended.code(), Some(exit::KILLED));
}

#[test]
fn a_lock_given_as_standard_input_is_held_until_the_monitor_ends() {
    if !possible() {
        return;
    }
    let lock = tempfile::NamedTempFile::new().expect("a scratch file");
    let given = fs::File::open(lock.path()).expect("opens");
    given.try_lock().expect("nobody has it");
    // SAFETY: labels of the block above, which is in this program.
    let code = unsafe { code(&racklet_wait, &racklet_end) };
    // The launcher's own descriptor is gone with this call: only the monitor has it.
    let (folder, mut monitor) = start_with(code, given.into());
    runs(folder.path(), &mut monitor);
    let again = fs::File::open(lock.path()).expect("opens");
    assert!(
        matches!(again.try_lock(), Err(fs::TryLockError::WouldBlock)),
        "a second monitor could be started"
    );
    kill(folder.path(), &mut monitor);
    again.try_lock().expect("the monitor is gone");
}

#[test]
fn a_confined_monitor_has_no_descriptor_that_leads_out_of_its_folder() {
    if !possible() {
        return;
    }
    // SAFETY: labels of the block above, which is in this program.
    let code = unsafe { code(&racklet_wait, &racklet_end) };
    let (folder, mut monitor) = start(code);
    runs(folder.path(), &mut monitor);
    let descriptors = fs::read_dir(format!("/proc/{}/fd", monitor.id())).expect("lists");
    let directories: Vec<_> = descriptors
        .flatten()
        .filter(|fd| fs::metadata(fd.path()).is_ok_and(|what| what.is_dir()))
        .map(|fd| fs::read_link(fd.path()))
        .collect();
    assert!(directories.is_empty(), "{directories:?}");
    kill(folder.path(), &mut monitor);
}

#[test]
fn a_guest_that_does_nothing_is_ended_over_the_control_socket() {
    if !possible() {
        return;
    }
    // SAFETY: labels of the block above, which is in this program.
    let code = unsafe { code(&racklet_wait, &racklet_end) };
    let (folder, mut monitor) = start(code);
    runs(folder.path(), &mut monitor);
    let vm = folder.path().join("vm");
    let mut control = UnixStream::connect(vm.join("control.sock")).unwrap();
    control.write_all(b"{\"v\":1,\"do\":\"state\"}\n").unwrap();
    let mut answer = String::new();
    let mut answers = BufReader::new(control.try_clone().unwrap());
    answers.read_line(&mut answer).unwrap();
    assert!(answer.contains(r#""state":"running""#), "{answer}");
    control.write_all(b"{\"v\":1,\"do\":\"kill\"}\n").unwrap();
    assert_eq!(monitor.wait().unwrap().code(), Some(exit::KILLED));
    assert!(matches!(state(folder.path()), VmState::Killed { .. }));
}
