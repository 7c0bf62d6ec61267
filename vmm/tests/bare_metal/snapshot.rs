// SPDX-License-Identifier: Apache-2.0
//! Guests that are saved in the midst of something, and go on in another monitor as if nothing had happened.

use std::arch::global_asm;
use std::fs::{self, File};
use std::io::{BufReader, IoSlice};
use std::mem::MaybeUninit;
use std::os::fd::AsFd;
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use racklet_api::vmm::{AfterSnapshot, ControlReply, SnapshotBytes, VmState, exit};
use racklet_vmm::snapshot::{BASE, open_full};
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::{Monitor, code, kill, possible, runs, start_as, state, until};

// Entered as those of the main file are; the macros are those of the main file.
global_asm!(
    ".pushsection .rodata",
    ".global racklet_count, racklet_write, racklet_late, racklet_snapshot_end",
    driver!(),
    // The letters from a to z, again and again, whose number is in a register alone. Some thousandths of a second between two.
    "racklet_count: xor rbx, rbx",
    "2: mov dx, 0x3f8",
    "lea eax, [rbx + 'a']",
    "out dx, al",
    "inc rbx",
    "cmp rbx, 26",
    "jne 3f",
    "xor rbx, rbx",
    "3: rdtsc",
    "mov ecx, eax",
    "4: rdtsc",
    "sub eax, ecx",
    "cmp eax, 3000000",
    "jb 4b",
    "jmp 2b",
    // The same, each letter when a sector was written to the disk, which is device 0. Its sector has the letter's number.
    "racklet_write: mov rbx, 0x3fe00000",
    "racklet_features",
    "racklet_queue 0, 8, 0x200000",
    "mov dword ptr [rbx + 0x70], 15",
    "mov qword ptr [0x200000], 0x203000", // the header: write the first sector
    "mov dword ptr [0x200008], 16",
    "mov dword ptr [0x20000c], 0x10001",
    "mov dword ptr [0x203000], 1",
    "mov qword ptr [0x200010], 0x204000", // its data
    "mov dword ptr [0x200018], 512",
    "mov dword ptr [0x20001c], 0x20001",
    "mov qword ptr [0x200020], 0x205000", // its status
    "mov dword ptr [0x200028], 1",
    "mov word ptr [0x20002c], 2",
    "xor rdi, rdi",
    "5: mov [0x204000], rdi",
    "mov byte ptr [0x205000], 7",
    "inc word ptr [0x201002]",
    "mov dword ptr [rbx + 0x50], 0",
    "6: pause",
    "mov ax, [0x202002]",
    "cmp ax, [0x201002]",
    "jne 6b",
    "cmp byte ptr [0x205000], 0",
    "jne 8f",
    "mov dx, 0x3f8",
    "lea eax, [rdi + 'a']",
    "out dx, al",
    "inc rdi",
    "cmp rdi, 26",
    "jne 5b",
    "xor rdi, rdi",
    "jmp 5b",
    "8: mov al, '!'",
    "mov dx, 0x3f8",
    "out dx, al",
    "9: hlt",
    "jmp 9b",
    // Entropy, device 1 with line 6 of the first 8259, is ready while interrupts are off; they are on when a byte was typed.
    "racklet_late: mov rbx, 0x3fe01000",
    "racklet_features",
    "racklet_queue 0, 8, 0x200000",
    "mov dword ptr [rbx + 0x70], 15",
    // Both 8259: lines from vector 0x20 on, the second at line 2 of the first, only line 6 open (Intel 8259A).
    "mov al, 0x11",
    "out 0x20, al",
    "out 0xa0, al",
    "mov al, 0x20",
    "out 0x21, al",
    "mov al, 0x28",
    "out 0xa1, al",
    "mov al, 4",
    "out 0x21, al",
    "mov al, 2",
    "out 0xa1, al",
    "mov al, 1",
    "out 0x21, al",
    "out 0xa1, al",
    "mov al, 0xbf",
    "out 0x21, al",
    "mov al, 0xff",
    "out 0xa1, al",
    // A gate for vector 0x26 at 0x210260: selector 8, present, an interrupt's (Intel SDM 3A, 6.14.1). The code is below 2 MiB.
    "lea rax, [rip + 14f]",
    "mov [0x210260], ax",
    "shr rax, 16",
    "mov [0x210266], ax",
    "mov dword ptr [0x210262], 0x8e000008",
    "mov dword ptr [0x210268], 0",
    "mov [0x210266], ax",
    "mov word ptr [0x210000], 0xfff",
    "mov qword ptr [0x210002], 0x210000",
    "lidt [0x210000]",
    "mov qword ptr [0x200000], 0x203000",
    "mov dword ptr [0x200008], 64",
    "mov word ptr [0x20000c], 2",
    "mov word ptr [0x201002], 1",
    "mov dword ptr [rbx + 0x50], 0",
    "10: pause",
    "cmp word ptr [0x202002], 1",
    "jne 10b",
    "racklet_say 'w'",
    "mov dx, 0x3fd",
    "11: pause",
    "in al, dx",
    "test al, 1",
    "jz 11b",
    "sti",
    "12: hlt",
    "jmp 12b",
    "14: mov eax, [rbx + 0x60]", // what the device says of it
    "add al, '0'",
    "mov dx, 0x3f8",
    "out dx, al",
    "mov al, 10",
    "out dx, al",
    "mov dword ptr [rbx + 0x64], 1",
    "mov al, 0x20",
    "out 0x20, al",
    "iretq",
    "racklet_snapshot_end:",
    driver_end!(),
    ".popsection",
);

unsafe extern "C" {
    static racklet_count: u8;
    static racklet_write: u8;
    static racklet_late: u8;
    static racklet_snapshot_end: u8;
}

const PATIENCE: Duration = Duration::from_secs(120);

fn ask(folder: &Path, action: &Value, files: &[&File]) -> ControlReply {
    let files: Vec<_> = files.iter().map(|file| file.as_fd()).collect();
    let request = json!({"v": 1, "do": action});
    let socket = folder.join("vm/control.sock");
    racklet_line::ask_with(&socket, &request, &files, PATIENCE).expect("it answers")
}

/// Saves the guest into a new folder of `within`; gives that and what was said.
pub(super) fn save(
    folder: &Path,
    within: &TempDir,
    name: &str,
    then: AfterSnapshot,
) -> (PathBuf, SnapshotBytes) {
    let to = within.path().join(name);
    fs::create_dir(&to).expect("makes");
    let make = |file| File::create_new(to.join(file)).expect("makes");
    let (state, memory) = (make("state"), make("memory"));
    let reply = ask(
        folder,
        &json!({"snapshot": {"then": then}}),
        &[&state, &memory],
    );
    match reply {
        ControlReply::Snapshot(bytes) => (to, bytes),
        other => panic!("{other:?}"),
    }
}

/// The same as a difference to the full snapshot in `since`.
fn save_since(
    folder: &Path,
    within: &TempDir,
    name: &str,
    since: &Path,
    then: AfterSnapshot,
) -> (PathBuf, SnapshotBytes) {
    let to = within.path().join(name);
    fs::create_dir(&to).expect("makes");
    let make = |file| File::create_new(to.join(file)).expect("makes");
    let (state, memory) = (make("state"), make("memory"));
    let (digest, full) = open_full(since).expect("is a full one");
    symlink(since, to.join(BASE)).expect("links");
    let order = json!({"snapshot": {"then": then, "since": digest}});
    match ask(folder, &order, &[&state, &memory, &full]) {
        ControlReply::Snapshot(bytes) => (to, bytes),
        other => panic!("{other:?}"),
    }
}

/// A monitor whose guest goes on from there.
pub(super) fn restore(snapshot: &Path, change: impl FnOnce(&mut Value)) -> (TempDir, Monitor) {
    start_as(&[0xf4], Stdio::null(), |config| {
        config["restore"] = json!(snapshot);
        let all = config.as_object_mut().expect("an object");
        all.remove("kernel");
        all.remove("initramfs");
        change(config);
    })
}

fn said(folder: &Path) -> String {
    fs::read_to_string(folder.join("vm/console.log")).unwrap_or_default()
}

/// Waits until the console has so many bytes more than now.
fn goes_on(folder: &Path, monitor: &mut Monitor, more: usize) {
    reaches(folder, monitor, said(folder).len() + more);
}

/// Waits until the console has so many bytes.
fn reaches(folder: &Path, monitor: &mut Monitor, length: usize) {
    until("more on its console", monitor, || {
        said(folder).len() >= length
    });
}

/// The letters in order, from `first` on.
#[track_caller]
fn in_order(text: &str, first: u8) {
    let mut expected = first;
    for (n, letter) in text.bytes().enumerate() {
        assert_eq!(letter, expected, "at {n} of {text}");
        expected = after(letter);
    }
}

fn after(letter: u8) -> u8 {
    if letter == b'z' { b'a' } else { letter + 1 }
}

/// The letter behind this text's last.
fn next(text: &str) -> u8 {
    after(text.bytes().last().expect("it said something"))
}

#[test]
fn a_guest_that_counts_is_saved_goes_on_and_counts_on_in_two_others_at_once() {
    if !possible() {
        return;
    }
    // SAFETY: labels of the block above, which is in this program.
    let code = unsafe { code(&racklet_count, &racklet_write) };
    let snapshots = tempfile::tempdir().expect("a scratch folder");
    let (folder, mut monitor) = start_as(code, Stdio::null(), |_| {});
    runs(folder.path(), &mut monitor);
    let (first, bytes) = save(folder.path(), &snapshots, "first", AfterSnapshot::GoOn);
    let whole = (32 << 20) + 4096;
    assert_eq!(fs::metadata(first.join("memory")).unwrap().len(), whole);
    assert!(bytes.memory < 1 << 20, "mostly holes: {bytes:?}");
    assert_eq!(
        fs::metadata(first.join("state")).unwrap().len(),
        bytes.state
    );
    goes_on(folder.path(), &mut monitor, 30);
    let (second, _) = save(folder.path(), &snapshots, "second", AfterSnapshot::End);
    assert_eq!(monitor.wait().unwrap().code(), Some(exit::KILLED));
    let text = said(folder.path());
    in_order(&text, b'a');
    // Both at once, from the same files, with sockets of their own.
    let mut machines =
        [4, 5].map(|cid| restore(&second, |config| config["vsock_cid"] = json!(cid)));
    for (folder, monitor) in &mut machines {
        goes_on(folder.path(), monitor, 60);
        in_order(&said(folder.path()), next(&text));
    }
    for (folder, monitor) in &mut machines {
        kill(folder.path(), monitor);
    }
    // The earlier one is as it was, whatever came later; and what was restored is saved again.
    let (folder, mut monitor) = restore(&first, |_| {});
    goes_on(folder.path(), &mut monitor, 30);
    let (third, _) = save(folder.path(), &snapshots, "third", AfterSnapshot::End);
    monitor.wait().unwrap();
    let again = said(folder.path());
    in_order(&again, again.as_bytes()[0]);
    let (folder, mut monitor) = restore(&third, |_| {});
    goes_on(folder.path(), &mut monitor, 30);
    in_order(&said(folder.path()), next(&again));
    kill(folder.path(), &mut monitor);
}

/// A disk of a MiB of zeros.
fn a_disk(folder: &Path) -> PathBuf {
    let disk = folder.join("disk");
    fs::write(&disk, vec![0; 1 << 20]).expect("writes");
    disk
}

/// A machine that has this disk.
fn on_disk(disk: &Path) -> impl Fn(&mut Value) {
    move |config| config["disks"] = json!([{"path": disk, "read_only": false, "serial": "d"}])
}

#[test]
fn a_guest_that_writes_to_its_disk_without_a_pause_loses_no_write_and_makes_none_twice() {
    if !possible() {
        return;
    }
    // SAFETY: labels of the block above, which is in this program.
    let code = unsafe { code(&racklet_write, &racklet_late) };
    let snapshots = tempfile::tempdir().expect("a scratch folder");
    let disk = a_disk(snapshots.path());
    let with_disk = on_disk(&disk);
    let (mut folder, mut monitor) = start_as(code, Stdio::null(), &with_disk);
    runs(folder.path(), &mut monitor);
    let mut first = b'a';
    for round in 0..8 {
        goes_on(folder.path(), &mut monitor, 1 + 100 * round);
        let (snapshot, _) = save(
            folder.path(),
            &snapshots,
            &format!("round-{round}"),
            AfterSnapshot::End,
        );
        monitor.wait().unwrap();
        let text = said(folder.path());
        in_order(&text, first);
        first = next(&text);
        // The write whose letter was not said may have been done, and no later one.
        let written = fs::read(&disk).unwrap()[0] + b'a';
        assert!(
            [first, after(first)].contains(&after(written)),
            "{written} {first}"
        );
        let (next_folder, next_monitor) = restore(&snapshot, &with_disk);
        (folder, monitor) = (next_folder, next_monitor);
    }
    goes_on(folder.path(), &mut monitor, 100);
    kill(folder.path(), &mut monitor);
    in_order(&said(folder.path()), first);
}

#[test]
fn a_guest_goes_on_from_a_difference_with_all_that_it_and_its_devices_have_written() {
    if !possible() {
        return;
    }
    // SAFETY: labels of the block above, which is in this program.
    let code = unsafe { code(&racklet_write, &racklet_late) };
    let snapshots = tempfile::tempdir().expect("a scratch folder");
    let disk = a_disk(snapshots.path());
    let with_disk = on_disk(&disk);
    let (mut folder, mut monitor) = start_as(code, Stdio::null(), &with_disk);
    runs(folder.path(), &mut monitor);
    let (full, bytes) = save(folder.path(), &snapshots, "full", AfterSnapshot::GoOn);
    let order = json!({"snapshot": {"then": "end", "since": open_full(&full).unwrap().0}});
    let mut first = b'a';
    // Each to the same full one, also of a guest that has gone on from a difference to it.
    for round in 0..4 {
        goes_on(folder.path(), &mut monitor, 30);
        let name = format!("round-{round}");
        let (snapshot, of) =
            save_since(folder.path(), &snapshots, &name, &full, AfterSnapshot::End);
        // Code, rings, buffers and tables are a few pages; bits and trailer are two.
        assert!(of.memory <= 16 * 4096, "{of:?} {bytes:?}");
        monitor.wait().unwrap();
        let text = said(folder.path());
        in_order(&text, first);
        first = next(&text);
        let (next_folder, next_monitor) = restore(&snapshot, &with_disk);
        (folder, monitor) = (next_folder, next_monitor);
    }
    goes_on(folder.path(), &mut monitor, 30);
    // What is no full one of such a machine is refused, and the guest goes on.
    let scratch = || tempfile::tempfile().expect("a scratch file");
    let (state, memory, empty) = (scratch(), scratch(), scratch());
    let difference = File::open(snapshots.path().join("round-0/memory")).expect("opens");
    let writes_only = File::options()
        .write(true)
        .open(full.join("memory"))
        .expect("opens");
    for (files, why) in [
        (&[&state, &memory][..], "a difference"),
        (&[&state, &memory, &empty], "not the memory of a full"),
        (&[&state, &memory, &difference], "not the memory of a full"),
        (&[&state, &memory, &writes_only], "not the memory of a full"),
    ] {
        let reply = ask(folder.path(), &order, files);
        let ControlReply::Error { reason } = reply else {
            panic!("{reply:?}");
        };
        assert!(reason.contains(why), "{reason}");
    }
    goes_on(folder.path(), &mut monitor, 3);
    kill(folder.path(), &mut monitor);
    in_order(&said(folder.path()), first);
}

#[test]
fn an_interrupt_on_its_way_reaches_its_guest_behind_the_move() {
    if !possible() {
        return;
    }
    // SAFETY: labels of the block above, which is in this program.
    let code = unsafe { code(&racklet_late, &racklet_snapshot_end) };
    let snapshots = tempfile::tempdir().expect("a scratch folder");
    let (folder, mut monitor) = start_as(code, Stdio::null(), |_| {});
    runs(folder.path(), &mut monitor);
    let (snapshot, _) = save(folder.path(), &snapshots, "snapshot", AfterSnapshot::GoOn);
    let typed = json!({"input": {"data": "eA=="}});
    // Here, and in the one that was moved.
    let (moved, mut other) = restore(&snapshot, |_| {});
    for (folder, monitor) in [(folder.path(), &mut monitor), (moved.path(), &mut other)] {
        // A socket's name is there before somebody listens.
        until("it listens", monitor, || {
            UnixStream::connect(folder.join("vm/control.sock")).is_ok()
        });
        let before = said(folder).len();
        ask(folder, &typed, &[]);
        reaches(folder, monitor, before + 2);
        let text = said(folder);
        assert!(
            text.ends_with("1\n") && text.len() == before + 2,
            "{text:?}"
        );
        kill(folder, monitor);
    }
    assert_eq!(said(moved.path()), "1\n");
}

#[test]
fn a_guest_that_could_not_be_saved_goes_on() {
    if !possible() {
        return;
    }
    // SAFETY: labels of the block above, which is in this program.
    let code = unsafe { code(&racklet_count, &racklet_write) };
    let snapshots = tempfile::tempdir().expect("a scratch folder");
    let (folder, mut monitor) = start_as(code, Stdio::null(), |_| {});
    runs(folder.path(), &mut monitor);
    let good = || tempfile::tempfile().expect("a scratch file");
    let path = snapshots.path().join("file");
    fs::write(&path, "").expect("writes");
    let reads_only = File::open(&path).expect("opens");
    let directory = File::open(snapshots.path()).expect("opens");
    let full = File::options()
        .write(true)
        .open("/dev/full")
        .expect("opens");
    let appends = File::options().append(true).open(&path).expect("opens");
    let order = json!({"snapshot": {"then": "end"}});
    let (first, second) = (good(), good());
    for (files, why) in [
        (&[][..], "two files"),
        (&[&first], "two files"),
        (&[&first, &directory], "two plain files that are empty"),
        (&[&full, &second], "two plain files that are empty"),
        (&[&first, &reads_only], "write the memory"),
        (&[&reads_only, &second], "write the state"),
        // The memory is in it now.
        (&[&first, &second], "two plain files that are empty"),
        (&[&first, &first], "not the same"),
        (&[&first, &appends], "not opened to append"),
    ] {
        let reply = ask(folder.path(), &order, files);
        let ControlReply::Error { reason } = reply else {
            panic!("{reply:?}");
        };
        assert!(reason.contains(why), "{reason}");
        goes_on(folder.path(), &mut monitor, 3);
    }
    // What stood still before stands still afterwards.
    ask(folder.path(), &json!("pause"), &[]);
    save(folder.path(), &snapshots, "paused", AfterSnapshot::GoOn);
    let ControlReply::Status(status) = ask(folder.path(), &json!("state"), &[]) else {
        panic!("this is no status");
    };
    assert!(status.paused);
    ask(folder.path(), &json!("resume"), &[]);
    goes_on(folder.path(), &mut monitor, 3);
    in_order(&said(folder.path()), b'a');
    kill(folder.path(), &mut monitor);
}

/// Sends these requests, and the files with them, in one message.
fn send(folder: &Path, requests: &[Value], files: &[&File]) -> UnixStream {
    let stream = UnixStream::connect(folder.join("vm/control.sock")).expect("connects");
    let lines = requests
        .iter()
        .map(|action| format!("{}\n", json!({"v": 1, "do": action})));
    let text: String = lines.collect();
    let files: Vec<_> = files.iter().map(|file| file.as_fd()).collect();
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(2))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    assert!(control.push(SendAncillaryMessage::ScmRights(&files)));
    let parts = [IoSlice::new(text.as_bytes())];
    let sent = sendmsg(&stream, &parts, &mut control, SendFlags::NOSIGNAL).expect("sends");
    assert_eq!(sent, text.len());
    stream
}

#[test]
fn a_guest_that_is_to_stand_after_all_stands_when_it_is_saved() {
    if !possible() {
        return;
    }
    // SAFETY: labels of the block above, which is in this program.
    let code = unsafe { code(&racklet_count, &racklet_write) };
    let (folder, mut monitor) = start_as(code, Stdio::null(), |_| {});
    runs(folder.path(), &mut monitor);
    let [state, memory] = [(); 2].map(|()| tempfile::tempfile().expect("a scratch file"));
    let order = json!({"snapshot": {"then": "go-on"}});
    let requests = [order, json!("resume"), json!("pause")];
    let stream = send(folder.path(), &requests, &[&state, &memory]);
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    let mut stream = BufReader::new(stream);
    let mut saved = false;
    while !saved {
        let reply = racklet_line::read(&mut stream).expect("reads");
        saved = matches!(reply, Some(ControlReply::Snapshot(_)));
        assert!(reply.is_some(), "it ended");
    }
    let ControlReply::Status(status) = ask(folder.path(), &json!("state"), &[]) else {
        panic!("this is no status");
    };
    assert!(status.paused);
    ask(folder.path(), &json!("resume"), &[]);
    goes_on(folder.path(), &mut monitor, 3);
    kill(folder.path(), &mut monitor);
}

#[test]
fn a_guest_whose_snapshot_nobody_waits_for_any_more_is_not_ended() {
    if !possible() {
        return;
    }
    // SAFETY: labels of the block above, which is in this program.
    let code = unsafe { code(&racklet_count, &racklet_write) };
    let (folder, mut monitor) = start_as(code, Stdio::null(), |_| {});
    runs(folder.path(), &mut monitor);
    let [state, memory] = [(); 2].map(|()| tempfile::tempfile().expect("a scratch file"));
    let order = json!({"snapshot": {"then": "end"}});
    drop(send(folder.path(), &[order], &[&state, &memory]));
    until("its state is written", &mut monitor, || {
        state.metadata().expect("looks").len() > 0
    });
    goes_on(folder.path(), &mut monitor, 30);
    in_order(&said(folder.path()), b'a');
    kill(folder.path(), &mut monitor);
}

#[test]
fn a_snapshot_that_does_not_fit_the_machine_starts_nothing_and_says_why() {
    if !possible() {
        return;
    }
    // SAFETY: labels of the block above, which is in this program.
    let code = unsafe { code(&racklet_count, &racklet_write) };
    let snapshots = tempfile::tempdir().expect("a scratch folder");
    let (folder, mut monitor) = start_as(code, Stdio::null(), |_| {});
    runs(folder.path(), &mut monitor);
    let (snapshot, _) = save(folder.path(), &snapshots, "good", AfterSnapshot::End);
    monitor.wait().expect("it is ours");
    let refused = |why: &str, change: &dyn Fn(&mut Value)| {
        let (folder, mut monitor) = restore(&snapshot, change);
        let ended = monitor.wait().expect("it is ours");
        let VmState::Refused { reason } = state(folder.path()) else {
            panic!("{:?}, {ended}", state(folder.path()));
        };
        assert!(reason.contains(why), "{reason}");
    };
    refused("2 processors", &|config| config["cpus"] = json!(1));
    refused("32 MiB", &|config| config["memory_mib"] = json!(64));
    refused("0 disks and 0 cards", &|config| {
        config["disks"] = json!([{"path": snapshot.join("memory"), "read_only": true}]);
    });
    let state = fs::read(snapshot.join("state")).expect("reads");
    fs::write(snapshot.join("state"), &state[..state.len() / 2]).expect("writes");
    refused("damaged", &|_| {});
}
