// SPDX-License-Identifier: Apache-2.0
use vmm_sys_util::eventfd::EFD_NONBLOCK;

use super::*;

fn parts() -> (Arc<Console>, Parts) {
    let event = || EventFd::new(EFD_NONBLOCK).unwrap();
    let console = Console::new(event());
    (console.clone(), Parts::new(console, event()))
}

#[test]
fn each_port_reaches_its_part() {
    let (console, parts) = parts();
    let read = |port| {
        let mut byte = [0];
        assert_eq!(parts.serve(VcpuExit::IoIn(port, &mut byte)), None);
        byte[0]
    };
    let write = |port, value| parts.serve(VcpuExit::IoOut(port, &[value]));
    assert_eq!(write(0x3f8, b'x'), None);
    assert_eq!(console.take(), b"x");
    assert_eq!(read(0x3f8 + 5) & 0x60, 0x60, "COM1 can take more");
    assert_eq!(write(0x70, 0x0d), None);
    assert_eq!(read(0x71), 0x80, "the clock's battery is good");
    assert_eq!(write(0x64, 0xaa), None);
    assert_eq!(read(0x60), 0x55, "the keyboard controller is well");
    assert_eq!(write(0x64, 0xfe), Some(Event::Reset));
    assert_eq!((read(0x2f8), read(0xcf8)), (0xff, 0xff), "no other part");
}

#[test]
fn wide_accesses_reach_nothing_and_strange_exits_end_the_guest() {
    let (console, parts) = parts();
    let mut word = [0; 2];
    assert_eq!(parts.serve(VcpuExit::IoOut(0x3f8, b"xy")), None);
    assert_eq!(parts.serve(VcpuExit::IoOut(0x64, &[0xfe, 0xfe])), None);
    assert_eq!(parts.serve(VcpuExit::IoIn(0x71, &mut word)), None);
    assert_eq!((console.take(), word), (Vec::new(), [0xff; 2]));
    assert!(matches!(
        parts.serve(VcpuExit::Debug(Default::default())),
        Some(Event::VcpuFailed(_))
    ));
}
