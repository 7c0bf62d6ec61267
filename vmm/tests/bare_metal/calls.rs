// SPDX-License-Identifier: Apache-2.0
//! Connections that the host wants to a guest.

use std::arch::global_asm;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;

use super::devices::{end, metrics, says};
use super::{code, possible, start};

global_asm!(
    driver!(),
    ".pushsection .rodata",
    ".global racklet_answer, racklet_answer_end",
    // The sockets are device 0. Takes the connection that it is asked for, and gives back the first byte of what comes; what it is asked
    // for beyond that it refuses.
    "racklet_answer: mov rbx, 0x3fe00000",
    "racklet_features",
    "racklet_queue 0, 8, 0x200000",
    "racklet_queue 1, 8, 0x210000",
    "mov dword ptr [rbx + 0x70], 15",
    "mov qword ptr [0x200000], 0x203000", // room for one packet
    "mov dword ptr [0x200008], 4096",
    "mov word ptr [0x20000c], 2",
    "mov qword ptr [0x210000], 0x213000", // the packet that it sends
    "mov qword ptr [0x213000], 3",        // from this guest
    "mov qword ptr [0x213008], 2",        // to the host
    "mov dword ptr [0x213024], 65536",
    "racklet_say 's'",
    "call 5f",
    "cmp word ptr [0x20301e], 1", // a request
    "jne 9f",
    "mov dword ptr [0x21301c], 0x20001", // a stream; a response
    "mov dword ptr [0x210008], 44",
    "call 6f",
    "call 5f",
    "cmp word ptr [0x20301e], 5", // data
    "jne 9f",
    "mov al, [0x20302c]",
    "mov [0x21302c], al",
    "mov dword ptr [0x213018], 1",
    "mov dword ptr [0x21301c], 0x50001",
    "mov dword ptr [0x210008], 45",
    "call 6f",
    "2: call 5f",
    "cmp word ptr [0x20301e], 1",
    "jne 2b",
    "mov dword ptr [0x213018], 0",
    "mov dword ptr [0x21301c], 0x30001", // a reset
    "mov dword ptr [0x210008], 44",
    "call 6f",
    "jmp 2b",
    "9: racklet_say '?'",
    "7: hlt",
    "jmp 7b",
    // Waits for a packet.
    "5: inc word ptr [0x201002]",
    "mov dword ptr [rbx + 0x50], 0",
    "8: pause",
    "mov ax, [0x202002]",
    "cmp ax, [0x201002]",
    "jne 8b",
    "ret",
    // Sends one to where the last one came from.
    "6: mov eax, [0x203010]",
    "mov [0x213014], eax",
    "mov eax, [0x203014]",
    "mov [0x213010], eax",
    "inc word ptr [0x211002]",
    "mov dword ptr [rbx + 0x50], 1",
    "4: pause",
    "mov ax, [0x212002]",
    "cmp ax, [0x211002]",
    "jne 4b",
    "ret",
    "racklet_answer_end:",
    driver_end!(),
    ".popsection",
);

unsafe extern "C" {
    static racklet_answer: u8;
    static racklet_answer_end: u8;
}

#[test]
fn the_host_reaches_a_port_of_a_confined_guest_and_hears_at_once_where_nobody_listens() {
    if !possible() {
        return;
    }
    // SAFETY: labels of the block above, which is in this program.
    let code = unsafe { code(&racklet_answer, &racklet_answer_end) };
    let (folder, mut monitor) = start(code);
    let vm = folder.path().join("vm");
    says(&vm, &mut monitor, "s\n");
    let socket = vm.join("vsock.sock");
    let mode = fs::metadata(&socket).expect("it is there").permissions();
    assert_eq!(mode.mode() & 0o777, 0o600);
    let connect = |line: &str| {
        let mut stream = UnixStream::connect(&socket).expect("it listens");
        stream.write_all(line.as_bytes()).expect("it reads");
        BufReader::new(stream)
    };
    // Nobody waits for one that says nothing.
    let silent = connect("CONNECT");
    let mut nonsense = connect("HELLO\n");
    assert_eq!(nonsense.read(&mut [0]).unwrap_or(0), 0);
    let mut taken = connect("CONNECT 77\nx");
    let mut line = String::new();
    taken.read_line(&mut line).expect("it answers");
    assert_eq!(line, "OK 1073741824\n");
    let mut back = [0];
    taken.read_exact(&mut back).expect("the guest answers");
    assert_eq!(&back, b"x");
    let mut refused = connect("CONNECT 78\n");
    assert_eq!(refused.read(&mut [0]).unwrap_or(0), 0);
    let calls = metrics(&vm).calls;
    assert_eq!((calls.taken, calls.refused), (1, 2));
    drop(silent);
    end(&vm, &mut monitor);
}
