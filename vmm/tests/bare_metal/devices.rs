// SPDX-License-Identifier: Apache-2.0
//! Guests that treat their devices badly.

use std::arch::global_asm;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};

use racklet_api::vmm::metrics::VmMetrics;
use racklet_api::vmm::{ControlReply, VmState, exit};
use racklet_linux::{netns, tap};
use serde_json::json;
use tempfile::TempDir;

use super::{Monitor, code, crashed, possible, start_as, state, until};

// Entered as those of the file above are, with the first device's registers at 0x3fe00000.
global_asm!(
    ".pushsection .rodata",
    ".global racklet_sockets, racklet_hog, racklet_flush, racklet_frames, racklet_devices_end",
    driver!(),
    // A connection to port 5000, and the reset that a kernel's reboot begins with while it is open. The sockets are device 0.
    "racklet_sockets: mov rbx, 0x3fe00000",
    "racklet_features",
    "racklet_queue 0, 8, 0x200000",
    "racklet_queue 1, 8, 0x210000",
    "mov dword ptr [rbx + 0x70], 15",
    "mov qword ptr [0x200000], 0x203000", // a buffer for the answer
    "mov dword ptr [0x200008], 4096",
    "mov word ptr [0x20000c], 2",
    "mov word ptr [0x201002], 1",
    "racklet_request",
    "6: pause",
    "cmp word ptr [0x202002], 1",
    "jne 6b",
    "cmp word ptr [0x20301e], 2", // the response
    "jne 7f",
    "racklet_say 'o'",
    "mov dword ptr [rbx + 0x70], 0",
    "cmp dword ptr [rbx + 0x70], 0",
    "jne 7f",
    "racklet_say 'r'",
    "7: mov al, 0xfe",
    "out 0x64, al",
    "4: hlt",
    "jmp 4b",
    // A disk's queue that is never empty, for a while, then across a reset and for ever. The disk is device 0.
    "racklet_hog: mov rbx, 0x3fe00000",
    "racklet_features",
    "racklet_queue 0, 128, 0x200000",
    "mov dword ptr [rbx + 0x70], 15",
    "mov qword ptr [0x200000], 0x203000", // all zeros: read the first sector
    "mov dword ptr [0x200008], 16",
    "mov dword ptr [0x20000c], 0x10001", // the next is 1
    "mov qword ptr [0x200010], 0x204000",
    "mov dword ptr [0x200018], 513",
    "mov word ptr [0x20001c], 2",
    "mov word ptr [0x201002], 120",
    "mov dword ptr [rbx + 0x50], 0",
    "racklet_say 'h'",
    "mov ecx, 20000",
    "8: mov ax, [0x202002]",
    "add ax, 120",
    "mov [0x201002], ax",
    "mov dword ptr [rbx + 0x50], 0",
    "dec ecx",
    "jnz 8b",
    "mov dword ptr [rbx + 0x70], 0",
    "racklet_say 'r'",
    "9: mov ax, [0x202002]",
    "add ax, 120",
    "mov [0x201002], ax",
    "mov dword ptr [rbx + 0x50], 0",
    "jmp 9b",
    // One flush after the other, and a line for each thousand looks at the interrupt status. The disk is device 0.
    "racklet_flush: mov rbx, 0x3fe00000",
    "racklet_features",
    "racklet_queue 0, 8, 0x200000",
    "mov dword ptr [rbx + 0x70], 15",
    "mov qword ptr [0x200000], 0x203000",
    "mov dword ptr [0x200008], 16",
    "mov dword ptr [0x20000c], 0x10001", // the next is 1
    "mov qword ptr [0x200010], 0x204000",
    "mov dword ptr [0x200018], 1",
    "mov word ptr [0x20001c], 2",
    "mov dword ptr [0x203000], 4", // flush
    "2: mov ax, [0x202002]",
    "cmp ax, [0x201002]",
    "jne 3f", // the last one is under way
    "inc word ptr [0x201002]",
    "mov dword ptr [rbx + 0x50], 0",
    "3: mov ecx, 1000",
    "4: mov eax, [rbx + 0x60]",
    "dec ecx",
    "jnz 4b",
    "racklet_say '.'",
    "jmp 2b",
    // One frame of 60 bytes after the other, and a line for each that was taken. The card is device 0.
    "racklet_frames: mov rbx, 0x3fe00000",
    "racklet_features",
    "racklet_queue 0, 8, 0x200000",
    "racklet_queue 1, 8, 0x210000",
    "mov dword ptr [rbx + 0x70], 15",
    "mov qword ptr [0x210000], 0x213000",
    "mov dword ptr [0x210008], 72",
    "2: inc word ptr [0x211002]",
    "mov dword ptr [rbx + 0x50], 1",
    "3: pause",
    "mov ax, [0x212002]",
    "cmp ax, [0x211002]",
    "jne 3b",
    "racklet_say '.'",
    "jmp 2b",
    "racklet_devices_end:",
    driver_end!(),
    ".popsection",
);

unsafe extern "C" {
    static racklet_sockets: u8;
    static racklet_hog: u8;
    static racklet_flush: u8;
    static racklet_frames: u8;
    static racklet_devices_end: u8;
}

/// A guest with a disk of a MiB where it wants one, and with a listener at port 5000.
pub(super) fn start(code: &[u8], disk: bool) -> (TempDir, Monitor, UnixListener) {
    let mut listener = None;
    let (folder, monitor) = start_as(code, Stdio::null(), |config| {
        let kernel = config["kernel"].as_str().expect("there is a kernel");
        let folder = Path::new(kernel).parent().expect("it is in a folder");
        let socket = folder.join("vm/vsock.sock_5000");
        listener = Some(UnixListener::bind(&socket).expect("binds"));
        let everybody = fs::Permissions::from_mode(0o777);
        fs::set_permissions(&socket, everybody).expect("changes");
        if disk {
            let file = folder.join("disk");
            fs::write(&file, vec![0; 1 << 20]).expect("writes");
            config["disks"] = json!([{"path": file, "read_only": false, "serial": "d"}]);
        }
    });
    (folder, monitor, listener.expect("made above"))
}

/// Waits until the console says this.
#[track_caller]
pub(super) fn says(vm: &Path, monitor: &mut Child, text: &str) {
    until(text, monitor, || {
        fs::read_to_string(vm.join("console.log")).is_ok_and(|said| said.contains(text))
    });
}

fn ask(vm: &Path, what: &str) -> UnixStream {
    let mut control = UnixStream::connect(vm.join("control.sock")).expect("it listens");
    let line = format!("{{\"v\":1,\"do\":\"{what}\"}}\n");
    control.write_all(line.as_bytes()).expect("it reads");
    control
}

/// The monitor says that the guest runs.
#[track_caller]
fn answers(vm: &Path) {
    let mut answer = String::new();
    BufReader::new(ask(vm, "state"))
        .read_line(&mut answer)
        .expect("it answers");
    assert!(answer.contains(r#""state":"running""#), "{answer}");
}

/// What the monitor has counted.
pub(super) fn metrics(vm: &Path) -> VmMetrics {
    let mut answer = String::new();
    BufReader::new(ask(vm, "metrics"))
        .read_line(&mut answer)
        .expect("it answers");
    match serde_json::from_str(&answer).expect("it is an answer") {
        ControlReply::Metrics(metrics) => metrics,
        other => panic!("{other:?}"),
    }
}

/// The guest is killed by request.
#[track_caller]
pub(super) fn end(vm: &Path, monitor: &mut Child) {
    let _asked = ask(vm, "kill");
    assert_eq!(
        monitor.wait().expect("it is ours").code(),
        Some(exit::KILLED)
    );
    assert!(matches!(
        state(vm.parent().expect("it has a folder")),
        VmState::Killed { .. }
    ));
}

#[test]
fn a_guest_that_resets_its_sockets_with_a_connection_open_goes_on() {
    if !possible() {
        return;
    }
    // SAFETY: labels of the block above, which is in this program.
    let code = unsafe { code(&racklet_sockets, &racklet_hog) };
    let (folder, mut monitor, listener) = start(code, false);
    let (mut connection, _) = listener.accept().unwrap();
    assert_eq!(connection.read(&mut [0]).unwrap(), 0, "closed by the reset");
    crashed(
        folder.path(),
        &mut monitor,
        "reset without reporting an end",
    );
    let console = fs::read_to_string(folder.path().join("vm/console.log")).unwrap();
    assert_eq!(console, "o\nr\n", "open, reset");
}

#[test]
fn a_guest_that_keeps_its_disk_busy_is_still_answered_for_reset_and_ended() {
    if !possible() {
        return;
    }
    // SAFETY: labels of the block above, which is in this program.
    let code = unsafe { code(&racklet_hog, &racklet_flush) };
    let (folder, mut monitor, _listener) = start(code, true);
    let vm = folder.path().join("vm");
    says(&vm, &mut monitor, "h\n");
    answers(&vm);
    says(&vm, &mut monitor, "r\n");
    answers(&vm);
    let metrics = metrics(&vm);
    let of = |name: &str| metrics.devices.iter().find(|d| d.device == name).cloned();
    let disk = of("disk0").expect("it has a disk");
    assert!(disk.returned > 120 && disk.resets == 2, "{disk:?}");
    assert_eq!((disk.refused, disk.failed), (0, 0));
    // It has spoken, and has no guest-init.
    let boot = metrics.boot;
    assert!(boot.entered_us.is_some() && boot.entered_us <= boot.console_us);
    assert_eq!(boot.guest_init_us, None);
    let sockets = of("sockets").expect("it has sockets");
    assert_eq!((sockets.returned, sockets.resets), (0, 0));
    // The console's letters, and registers; a queue's notification never leaves the kernel.
    let exits = metrics.exits;
    assert!(exits.port_write >= 4 && exits.mmio_write > 10, "{exits:?}");
    assert!(exits.mmio_write < 1000, "{exits:?}");
    end(&vm, &mut monitor);
}

#[test]
fn a_disk_that_stands_still_holds_up_neither_registers_nor_the_control_socket() {
    if !possible() {
        return;
    }
    // SAFETY: labels of the block above, which is in this program.
    let code = unsafe { code(&racklet_flush, &racklet_frames) };
    let (folder, mut monitor, _listener) = start(code, true);
    let vm = folder.path().join("vm");
    says(&vm, &mut monitor, ".\n.\n");
    let thread = stop_thread(monitor.id(), "disk0");
    let length = || fs::metadata(vm.join("console.log")).unwrap().len();
    let before = length();
    // Looks at the interrupt status go on, of which the guest says a line for each thousand.
    until("more lines", &mut monitor, || length() >= before + 8);
    answers(&vm);
    let asked = ask(&vm, "kill");
    // A thread that is traced is there until its tracer has seen its end.
    while wait_for(thread) {}
    drop(asked);
    assert_eq!(monitor.wait().unwrap().code(), Some(exit::KILLED));
}

#[test]
fn a_card_with_a_limit_sends_in_time_stands_still_meanwhile_and_hears_of_a_new_one() {
    if !possible() {
        return;
    }
    // SAFETY: labels of the block above, which is in this program.
    let code = unsafe { code(&racklet_frames, &racklet_devices_end) };
    // The tap is in a network of this thread and of what it starts.
    netns::unshare().expect("root may");
    tap::create("slow", 7001).expect("nothing is there yet");
    let rate = json!({"sent": {"packets": {"per_second": 1, "burst": 3}}});
    let card = json!({"tap": "slow", "mac": "02:00:00:00:00:01", "rate": rate});
    let (folder, mut monitor) = start_as(code, Stdio::null(), |config| {
        config["networks"] = json!([card]);
    });
    let vm = folder.path().join("vm");
    // Three at once, and two that waited.
    says(&vm, &mut monitor, ".\n.\n.\n.\n.\n");
    let card = metrics(&vm).devices.remove(0);
    assert_eq!((&*card.device, card.refused), ("card0", 0));
    assert!(card.throttled >= 2, "{card:?}");
    for (order, paused) in [("pause", true), ("resume", false)] {
        let mut answer = String::new();
        let mut control = BufReader::new(ask(&vm, order));
        control.read_line(&mut answer).expect("it answers");
        assert_eq!(answer.contains(r#""paused":true"#), paused, "{answer}");
    }
    let mut control = UnixStream::connect(vm.join("control.sock")).expect("it listens");
    let order = json!({"v": 1, "do": {"rate": {"card": {"number": 0}}}});
    writeln!(control, "{order}").expect("it reads");
    // In time these would take a thousand seconds.
    says(&vm, &mut monitor, &".\n".repeat(1000));
    end(&vm, &mut monitor);
}

/// Stops one thread of a process where it is, as a disk that does not answer does, until the process ends.
fn stop_thread(process: u32, name: &str) -> i32 {
    let threads = fs::read_dir(format!("/proc/{process}/task")).expect("the process runs");
    let named = |path: &PathBuf| {
        fs::read_to_string(path.join("comm")).is_ok_and(|comm| comm.trim() == name)
    };
    let thread = threads
        .filter_map(|entry| Some(entry.ok()?.path()))
        .find(named)
        .and_then(|path| path.file_name()?.to_str()?.parse().ok());
    let thread: i32 = thread.expect("the monitor has a thread of this name");
    for request in [libc::PTRACE_SEIZE, libc::PTRACE_INTERRUPT] {
        // SAFETY: neither request reads or writes memory of this process; both take no address and no data.
        let done = unsafe { libc::ptrace(request, thread, 0_usize, 0_usize) };
        assert_eq!(done, 0);
    }
    assert!(wait_for(thread), "it has stopped");
    thread
}

/// Waits for news of a traced thread; false when it is gone.
fn wait_for(thread: i32) -> bool {
    let mut status = 0;
    // SAFETY: `status` is a valid place for the result.
    let seen = unsafe { libc::waitpid(thread, &raw mut status, libc::__WALL) };
    seen == thread && libc::WIFSTOPPED(status)
}
