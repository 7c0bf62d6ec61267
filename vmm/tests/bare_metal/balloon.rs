// SPDX-License-Identifier: Apache-2.0
//! A guest that gives memory back: out of its balloon, as far as it is asked to, and as free pages.

use std::arch::global_asm;
use std::fs;
use std::path::Path;
use std::process::{Child, Stdio};

use racklet_api::vmm::ControlReply;
use racklet_api::vmm::balloon::BalloonState;
use racklet_api::vmm::metrics::VmMetrics;
use serde_json::json;

use super::control::Control;
use super::{code, kill, possible, start_as, until};

// Entered as those of the main file are. The balloon is device 2, its registers are at 0x3fe02000.
global_asm!(
    ".pushsection .rodata",
    ".global racklet_balloon, racklet_balloon_end",
    ".macro racklet_letter letter",
    "mov dx, 0x3f8",
    "mov al, \\letter",
    "out dx, al",
    "mov al, 10",
    "out dx, al",
    ".endm",
    "racklet_balloon: mov rbx, 0x3fe02000",
    "mov rax, 0xd0000083",
    "mov [0xbff8], rax",
    "mov rax, cr3",
    "mov cr3, rax",
    "mov dword ptr [rbx + 0x70], 0",
    "mov dword ptr [rbx + 0x70], 1",
    "mov dword ptr [rbx + 0x70], 3",
    "mov dword ptr [rbx + 0x20], 0x26", // statistics, deflate on OOM, reporting
    "mov dword ptr [rbx + 0x24], 1",
    "mov dword ptr [rbx + 0x20], 1", // VERSION_1
    "mov dword ptr [rbx + 0x70], 11",
    "mov dword ptr [rbx + 0x38], 8",
    "mov dword ptr [rbx + 0x80], 0x200000", // of the pages in the balloon
    "mov dword ptr [rbx + 0x90], 0x201000",
    "mov dword ptr [rbx + 0xa0], 0x202000",
    "mov dword ptr [rbx + 0x44], 1",
    "mov dword ptr [rbx + 0x30], 4",
    "mov dword ptr [rbx + 0x38], 8",
    "mov dword ptr [rbx + 0x80], 0x210000", // of reports
    "mov dword ptr [rbx + 0x90], 0x211000",
    "mov dword ptr [rbx + 0xa0], 0x212000",
    "mov dword ptr [rbx + 0x44], 1",
    "mov dword ptr [rbx + 0x70], 15",
    // 16 MiB from 0x400000 on are used.
    "mov rdi, 0x400000",
    "mov rcx, 0x200000",
    "mov rax, -1",
    "rep stosq",
    "racklet_letter 'f'",
    // A target of some pages: as many from 0x400000 on, at most 1,024.
    "2: pause",
    "mov ecx, [rbx + 0x100]",
    "test ecx, ecx",
    "jz 2b",
    "mov esi, ecx",
    "3: lea eax, [ecx + 0x3ff]",
    "mov [0x203000 + rcx * 4 - 4], eax",
    "dec ecx",
    "jnz 3b",
    "mov qword ptr [0x200000], 0x203000",
    "lea eax, [esi * 4]",
    "mov [0x200008], eax",
    "mov word ptr [0x201002], 1",
    "mov dword ptr [rbx + 0x50], 0",
    "4: pause",
    "cmp word ptr [0x202002], 1",
    "jne 4b",
    "mov [rbx + 0x104], esi",
    "racklet_letter 'i'",
    // None: what was in it is used again.
    "5: pause",
    "cmp dword ptr [rbx + 0x100], 0",
    "jne 5b",
    "mov dword ptr [rbx + 0x104], 0",
    "cmp qword ptr [0x400000], 0",
    "jne 8f",
    "mov qword ptr [0x400000], 1",
    // The other 12 MiB of the 16 are free.
    "mov qword ptr [0x210000], 0x800000",
    "mov dword ptr [0x210008], 0xc00000",
    "mov word ptr [0x21000c], 2",
    "mov word ptr [0x211002], 1",
    "mov dword ptr [rbx + 0x50], 4",
    "6: pause",
    "cmp word ptr [0x212002], 1",
    "jne 6b",
    "cmp qword ptr [0x13ffff8], 0",
    "jne 8f",
    "cmp qword ptr [0x400000], 1",
    "jne 8f",
    "racklet_letter 'r'",
    "7: pause",
    "jmp 7b",
    "8: racklet_letter '!'",
    "jmp 7b",
    "racklet_balloon_end:",
    ".popsection",
);

unsafe extern "C" {
    static racklet_balloon: u8;
    static racklet_balloon_end: u8;
}

/// Anonymous memory that the monitor has, its guest's included, in KiB.
fn anonymous(process: u32) -> u64 {
    let rollup = fs::read_to_string(format!("/proc/{process}/smaps_rollup")).expect("it runs");
    let line = rollup.lines().find(|line| line.starts_with("Anonymous:"));
    let kib = line.and_then(|line| line.split_whitespace().nth(1));
    kib.expect("the kernel counts it")
        .parse()
        .expect("a number")
}

/// Waits until the guest has said this letter last.
#[track_caller]
fn says(folder: &Path, monitor: &mut Child, letter: char) {
    let line = format!("{letter}\n");
    until(&line, monitor, || {
        let said = fs::read_to_string(folder.join("vm/console.log")).unwrap_or_default();
        assert!(
            !said.contains('!'),
            "memory that was given back is not zeros"
        );
        said.ends_with(&line)
    });
}

fn balloon(control: &mut Control, mib: u32) -> BalloonState {
    match control.ask(&json!({"balloon": {"mib": mib}})) {
        ControlReply::Balloon(state) => state,
        other => panic!("{other:?}"),
    }
}

fn metrics(control: &mut Control) -> VmMetrics {
    match control.ask(&json!("metrics")) {
        ControlReply::Metrics(metrics) => metrics,
        other => panic!("{other:?}"),
    }
}

#[test]
fn memory_in_the_balloon_and_free_pages_are_the_hosts_again_and_zeros_for_the_guest() {
    if !possible() {
        return;
    }
    // SAFETY: labels of the block above, which is in this program.
    let code = unsafe { code(&racklet_balloon, &racklet_balloon_end) };
    let (folder, mut monitor) = start_as(code, Stdio::null(), |config| {
        config["memory_mib"] = json!(40);
    });
    says(folder.path(), &mut monitor, 'f');
    let used = anonymous(monitor.id());
    assert!(used > 16 << 10, "{used} KiB");
    let mut control = Control::of(folder.path());
    let refused = control.ask(&json!({"balloon": {"mib": 9}}));
    assert!(
        matches!(&refused, ControlReply::Error { reason } if reason.contains("more than 8")),
        "a guest keeps 32 MiB: {refused:?}"
    );
    let state = |target_mib, actual_mib| BalloonState {
        target_mib,
        actual_mib,
    };
    assert_eq!(balloon(&mut control, 4), state(4, 0));
    says(folder.path(), &mut monitor, 'i');
    let less = anonymous(monitor.id());
    // But for what the monitor itself may have taken meanwhile.
    let given = used.saturating_sub(less);
    assert!((3 << 10..5 << 10).contains(&given), "{used}, {less} KiB");
    assert_eq!(balloon(&mut control, 0), state(0, 4));
    says(folder.path(), &mut monitor, 'r');
    let least = anonymous(monitor.id());
    assert!(used - least > 15 << 10, "{used}, {least} KiB");
    let metrics = metrics(&mut control);
    let counted = &metrics.balloon;
    assert_eq!((counted.target_mib, counted.actual_mib), (0, 0));
    assert_eq!(counted.given_back, 16 << 20);
    let device = metrics.devices.last().expect("it is the last");
    assert_eq!(device.device, "balloon");
    assert_eq!((device.returned, device.refused), (2, 0));
    kill(folder.path(), &mut monitor);
}
