// SPDX-License-Identifier: Apache-2.0
//! What guests seldom do, and must find done: half a connection's end, discards under a limit, a disk that grows meanwhile.

use std::arch::global_asm;
use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::MetadataExt;
use std::process::Stdio;

use racklet_api::vmm::AfterSnapshot;
use serde_json::json;

use super::control::Control;
use super::devices::{end, metrics, says, start};
use super::snapshot::{restore, save};
use super::{code, kill, possible, runs, start_as};

// Entered as those of the main file are; the first device's registers are at 0x3fe00000.
global_asm!(
    ".pushsection .rodata",
    ".global racklet_half, racklet_discard, racklet_many, racklet_seldom_end",
    driver!(),
    // A connection to port 5000; its own half ends, and then a byte comes. The sockets are device 0.
    "racklet_half: mov rbx, 0x3fe00000",
    "racklet_features",
    "racklet_queue 0, 8, 0x200000",
    "racklet_queue 1, 8, 0x210000",
    "mov dword ptr [rbx + 0x70], 15",
    "mov qword ptr [0x200000], 0x203000", // two buffers: the response, and the byte
    "mov dword ptr [0x200008], 4096",
    "mov word ptr [0x20000c], 2",
    "mov qword ptr [0x200010], 0x204000",
    "mov dword ptr [0x200018], 4096",
    "mov word ptr [0x20001c], 2",
    "mov word ptr [0x201006], 1",
    "mov word ptr [0x201002], 2",
    "racklet_request",
    "2: pause",
    "cmp word ptr [0x202002], 1",
    "jne 2b",
    "mov word ptr [0x21301e], 4",  // shutdown
    "mov dword ptr [0x213020], 2", // this side sends no more
    "mov word ptr [0x211002], 2",
    "mov dword ptr [rbx + 0x50], 1",
    "3: pause",
    "cmp word ptr [0x202002], 2",
    "jne 3b",
    "cmp word ptr [0x20401e], 5", // data
    "jne 4f",
    "racklet_say [0x20402c]",
    "4: hlt",
    "jmp 4b",
    // The second half of the first MiB is discarded again and again, and a line for each time. The disk is device 0.
    "racklet_discard: mov rbx, 0x3fe00000",
    "racklet_features",
    "mov dword ptr [rbx + 0x70], 0", // once more, with a feature
    "mov dword ptr [rbx + 0x70], 1",
    "mov dword ptr [rbx + 0x70], 3",
    "mov dword ptr [rbx + 0x24], 1",
    "mov dword ptr [rbx + 0x20], 1",
    "mov dword ptr [rbx + 0x24], 0",      // of the features 0 to 31
    "mov dword ptr [rbx + 0x20], 0x2000", // DISCARD
    "mov dword ptr [rbx + 0x70], 11",
    "racklet_queue 0, 8, 0x200000",
    "mov dword ptr [rbx + 0x70], 15",
    "mov qword ptr [0x200000], 0x203000", // the header
    "mov dword ptr [0x200008], 16",
    "mov dword ptr [0x20000c], 0x10001",
    "mov dword ptr [0x203000], 11",
    "mov qword ptr [0x200010], 0x204000", // sector and number of sectors
    "mov dword ptr [0x200018], 16",
    "mov dword ptr [0x20001c], 0x20001",
    "mov qword ptr [0x204000], 1024",
    "mov dword ptr [0x204008], 1024",
    "mov qword ptr [0x200020], 0x205000", // its status
    "mov dword ptr [0x200028], 1",
    "mov word ptr [0x20002c], 2",
    "5: mov byte ptr [0x205000], 7",
    "inc word ptr [0x201002]",
    "mov dword ptr [rbx + 0x50], 0",
    "6: pause",
    "mov ax, [0x202002]",
    "cmp ax, [0x201002]",
    "jne 6b",
    "cmp byte ptr [0x205000], 0",
    "jne 7f",
    "racklet_say '.'",
    "jmp 5b",
    "7: racklet_say '!'",
    "8: hlt",
    "jmp 8b",
    // Connections to port 5000 from as many ports, and no room for what comes. The sockets are device 0.
    "racklet_many: mov rbx, 0x3fe00000",
    "racklet_features",
    "racklet_queue 0, 8, 0x200000",
    "racklet_queue 1, 8, 0x210000",
    "mov dword ptr [rbx + 0x70], 15",
    "racklet_request", // from port 7
    "mov r12d, 999",
    "jmp 10f",
    "9: mov [0x213010], r12d",
    "inc word ptr [0x211002]",
    "mov dword ptr [rbx + 0x50], 1",
    "10: pause",
    "mov ax, [0x212002]",
    "cmp ax, [0x211002]",
    "jne 10b",
    "inc r12d",
    "cmp r12d, 1600",
    "jne 9b",
    "racklet_say 'm'",
    "11: hlt",
    "jmp 11b",
    "racklet_seldom_end:",
    driver_end!(),
    ".popsection",
);

unsafe extern "C" {
    static racklet_half: u8;
    static racklet_discard: u8;
    static racklet_many: u8;
    static racklet_seldom_end: u8;
}

#[test]
fn a_guest_that_ends_its_half_of_a_connection_is_heard_and_still_hears() {
    if !possible() {
        return;
    }
    // SAFETY: labels of the block above, which is in this program.
    let code = unsafe { code(&racklet_half, &racklet_discard) };
    let (folder, mut monitor, listener) = start(code, false);
    let vm = folder.path().join("vm");
    let (mut connection, _) = listener.accept().unwrap();
    assert_eq!(connection.read(&mut [0]).unwrap(), 0, "its half has ended");
    connection.write_all(b"x").unwrap();
    says(&vm, &mut monitor, "x\n");
    end(&vm, &mut monitor);
}

#[test]
fn what_a_guest_discards_in_its_time_is_no_longer_the_files_whose_growth_is_seen() {
    if !possible() {
        return;
    }
    // SAFETY: labels of the block above, which is in this program.
    let code = unsafe { code(&racklet_discard, &racklet_many) };
    let file = tempfile::NamedTempFile::new().expect("a scratch file");
    fs::write(file.path(), vec![7; 1 << 20]).expect("writes");
    // So slow that a guest whose monitor is watched (`rules`) on a busy machine is faster.
    let rate = json!({"operations": {"per_second": 2, "burst": 1}});
    let disk = json!({"path": file.path(), "read_only": false, "grows_to": 2 << 20, "rate": rate});
    let (folder, mut monitor) = start_as(code, Stdio::null(), |config| {
        config["disks"] = json!([disk]);
    });
    let vm = folder.path().join("vm");
    says(&vm, &mut monitor, &".\n".repeat(5));
    let bytes = fs::read(file.path()).expect("reads");
    assert_eq!(
        (bytes[..1 << 19].to_vec(), bytes.len()),
        (vec![7; 1 << 19], 1 << 20)
    );
    let blocks = fs::metadata(file.path()).expect("it is there").blocks();
    assert!(blocks <= 1 << 10, "{blocks} of 512 bytes are still its own");
    let disk = metrics(&vm).devices.remove(0);
    assert!(disk.throttled >= 1, "{disk:?}");
    file.as_file().set_len(2 << 20).expect("grows");
    let mut control = Control::of(folder.path());
    let resized = control.ask(&json!({"resize": {"disk": 0}}));
    let resized = serde_json::to_value(resized).expect("an answer is text");
    assert_eq!(resized["resized"]["bytes"], 2 << 20, "{resized}");
    end(&vm, &mut monitor);
}

#[test]
fn a_guest_with_hundreds_of_connections_at_once_has_each_of_them() {
    if !possible() {
        return;
    }
    // SAFETY: labels of the block above, which is in this program.
    let code = unsafe { code(&racklet_many, &racklet_seldom_end) };
    let (folder, mut monitor, listener) = start(code, false);
    let vm = folder.path().join("vm");
    // All of them may wait to be accepted, where 128 could.
    rustix::net::listen(&listener, 1000).expect("it listens already");
    says(&vm, &mut monitor, "m\n");
    let accepted: Vec<_> = (0..601).map(|_| listener.accept()).collect();
    assert!(accepted.iter().all(Result::is_ok));
    end(&vm, &mut monitor);
}

#[test]
fn a_machine_with_the_most_processors_is_saved_and_goes_on() {
    if !possible() {
        return;
    }
    // SAFETY: labels of the block of the main file, which is in this program.
    let code = unsafe { code(&super::racklet_prompt, &super::racklet_wait) };
    let snapshots = tempfile::tempdir().expect("a scratch folder");
    let (folder, mut monitor) = start_as(code, Stdio::null(), |config| config["cpus"] = json!(32));
    runs(folder.path(), &mut monitor);
    let then = AfterSnapshot::GoOn;
    let (saved, bytes) = save(folder.path(), &snapshots, "most", then);
    assert!(
        bytes.state > 1 << 17,
        "more than an allocator keeps: {bytes:?}"
    );
    kill(folder.path(), &mut monitor);
    let (folder, mut monitor) = restore(&saved, |config| config["cpus"] = json!(32));
    // What it says last comes some tenths of a second after the line that was waited for.
    says(&folder.path().join("vm"), &mut monitor, ">");
    kill(folder.path(), &mut monitor);
}
