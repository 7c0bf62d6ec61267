// SPDX-License-Identifier: Apache-2.0
//! Disks that a running guest is given and that are taken from it.

use std::arch::global_asm;
use std::fs::{self, File};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use racklet_api::vmm::ControlReply;
use serde_json::{Value, json};

use super::devices::{end, metrics, says};
use super::{code, possible, start_as};

global_asm!(
    driver!(),
    ".pushsection .rodata",
    ".global racklet_place, racklet_place_end",
    // The place is device 0. Waits until it has a sector, reads the first one and says its first byte and the status; waits until there
    // is none any more, and reads again.
    "racklet_place: mov rbx, 0x3fe00000",
    "racklet_features",
    "racklet_queue 0, 8, 0x200000",
    "mov dword ptr [rbx + 0x70], 15",
    "mov qword ptr [0x200000], 0x203000", // all zeros: read the first sector
    "mov dword ptr [0x200008], 16",
    "mov dword ptr [0x20000c], 0x10001", // the next is 1
    "mov qword ptr [0x200010], 0x204000",
    "mov dword ptr [0x200018], 512",
    "mov dword ptr [0x20001c], 0x20003", // written, the next is 2
    "mov qword ptr [0x200020], 0x205000",
    "mov dword ptr [0x200028], 1",
    "mov word ptr [0x20002c], 2",
    "racklet_say 's'",
    "2: pause",
    "cmp dword ptr [rbx + 0x100], 0",
    "je 2b",
    "racklet_say 'c'",
    "call 5f",
    "3: pause",
    "cmp dword ptr [rbx + 0x100], 0",
    "jne 3b",
    "racklet_say 'g'",
    "call 5f",
    "jmp 2b",
    "5: mov byte ptr [0x204000], '-'",
    "inc word ptr [0x201002]",
    "mov dword ptr [rbx + 0x50], 0",
    "6: pause",
    "mov ax, [0x202002]",
    "cmp ax, [0x201002]",
    "jne 6b",
    "mov dx, 0x3f8",
    "mov al, [0x204000]",
    "out dx, al",
    "mov al, [0x205000]",
    "add al, '0'",
    "out dx, al",
    "mov al, 10",
    "out dx, al",
    "ret",
    "racklet_place_end:",
    driver_end!(),
    ".popsection",
);

unsafe extern "C" {
    static racklet_place: u8;
    static racklet_place_end: u8;
}

fn ask(vm: &Path, action: &Value, files: &[BorrowedFd<'_>]) -> ControlReply {
    let request = json!({"v": 1, "do": action});
    let socket = vm.join("control.sock");
    racklet_line::ask_with(&socket, &request, files, Duration::from_secs(60)).expect("it answers")
}

#[track_caller]
fn refused(reply: ControlReply, why: &str) {
    match reply {
        ControlReply::Error { reason } => assert!(reason.contains(why), "{reason}"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_guest_is_given_disks_while_it_runs_and_what_is_taken_from_it_is_nobodys() {
    if !possible() {
        return;
    }
    // SAFETY: labels of the block above, which is in this program.
    let code = unsafe { code(&racklet_place, &racklet_place_end) };
    let (folder, mut monitor) = start_as(code, Stdio::null(), |config| {
        config["spare_disks"] = json!(1);
        config["spare_disk_bytes"] = json!(64 << 20);
    });
    let vm = folder.path().join("vm");
    says(&vm, &mut monitor, "s\n");
    let file = |name: &str, byte: u8, size: usize| {
        let path = folder.path().join(name);
        fs::write(&path, vec![byte; size]).expect("writes");
        path
    };
    let write = |path: &Path| {
        let opened = File::options().read(true).write(true).open(path);
        opened.expect("it was made")
    };
    let (first, second) = (file("first", b'A', 4096), file("second", b'B', 8192));
    let sparse = write(&file("sparse", b'C', 0));
    sparse.set_len((64 << 20) + 512).expect("grows");
    let too_large = ask(&vm, &json!({"attach": {}}), &[sparse.as_fd()]);
    refused(too_large, "spare_disk_bytes");
    refused(ask(&vm, &json!({"attach": {}}), &[]), "one file");
    let reader = File::open(&first).expect("it was made");
    let wrong = ask(&vm, &json!({"attach": {}}), &[reader.as_fd()]);
    refused(wrong, "both reading and writing");

    let attached = ask(&vm, &json!({"attach": {}}), &[write(&first).as_fd()]);
    let bytes = 4096;
    assert_eq!(attached, ControlReply::Attached { disk: 0, bytes });
    says(&vm, &mut monitor, "c\nA0\n");
    let other = write(&first);
    assert!(other.try_lock().is_err(), "it is the guest's");
    let full = ask(&vm, &json!({"attach": {}}), &[write(&second).as_fd()]);
    refused(full, "no place is free");
    let detached = ask(&vm, &json!({"detach": {"disk": 0}}), &[]);
    assert_eq!(detached, ControlReply::Detached { disk: 0 });
    other.try_lock().expect("it is nobody's");
    says(&vm, &mut monitor, "g\n-1\n");
    let disk = metrics(&vm).devices.remove(0);
    assert_eq!((&*disk.device, disk.refused, disk.failed), ("disk0", 1, 0));
    // The monitor has given the descriptor back, too: its paths are others', so that inodes are compared.
    let inode = |path: &Path| fs::metadata(path).map(|file| (file.dev(), file.ino()));
    let first_file = inode(&first).expect("it is there");
    let open = fs::read_dir(format!("/proc/{}/fd", monitor.id())).expect("it runs");
    let open = open.filter_map(|entry| inode(&entry.ok()?.path()).ok());
    assert!(open.into_iter().all(|file| file != first_file));

    let reader = File::open(&second).expect("it was made");
    let attached = ask(
        &vm,
        &json!({"attach": {"read_only": true}}),
        &[reader.as_fd()],
    );
    let bytes = 8192;
    assert_eq!(attached, ControlReply::Attached { disk: 0, bytes });
    says(&vm, &mut monitor, "c\nB0\n");
    end(&vm, &mut monitor);
}
