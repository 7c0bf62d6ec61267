// SPDX-License-Identifier: Apache-2.0
use kvm_bindings::{kvm_cpuid_entry2, kvm_debugregs, kvm_regs, kvm_sregs, kvm_vcpu_events};
use kvm_ioctls::Kvm;
use racklet_api::vmm::console::Bytes;

use super::super::{Cpus, set_up};
use super::machine::check;
use super::wire::{CHIP, Cpu, I8042, LAPIC, Leaf, MOST_MSRS, Parts, XSAVE};
use super::*;
use crate::devices::serial::Console;

const ENTRY: kvm_cpuid_entry2 = kvm_cpuid_entry2 {
    function: 1,
    index: 0,
    flags: 0,
    eax: 2,
    ebx: 3,
    ecx: 4,
    edx: 5,
    padding: [0; 3],
};

/// A machine in which nothing has happened, with so many vCPUs.
pub(crate) fn example(cpus: usize) -> State {
    let cpu = Cpu {
        mp_state: 0,
        regs: (&kvm_regs::default()).into(),
        sregs: (&kvm_sregs::default()).into(),
        xsave: Bytes(vec![0; XSAVE]),
        xcrs: vec![(0, 7)],
        debug: (&kvm_debugregs::default()).into(),
        lapic: Bytes(vec![0; LAPIC]),
        msrs: vec![(0x10, u64::MAX)],
        events: (&kvm_vcpu_events::default()).into(),
    };
    let channel = || (&kvm_bindings::kvm_pit_channel_state::default()).into();
    State {
        cpuid: vec![Leaf {
            function: 1,
            index: 0,
            shows: [2, 3, 4, 5],
        }],
        tsc_khz: 1,
        cpus: vec![cpu; cpus],
        chips: [const { Bytes(Vec::new()) }; 3].map(|_| Bytes(vec![0; CHIP])),
        pit: [channel(), channel(), channel()],
        pit_flags: 0,
        clock: 0,
        wall: 0,
        parts: Parts {
            com1: Default::default(),
            i8042: I8042 {
                output: None,
                configuration: 0,
                pending: None,
            },
            cmos: CmosState { index: 0 },
        },
    }
}

#[test]
fn a_machine_that_cannot_be_or_is_another_is_refused_before_kvm_is_asked() {
    assert!(check(&example(2), 2, &[ENTRY]).is_ok());
    type Spoil = fn(&mut State);
    let cases: [(&str, Spoil); 9] = [
        ("number of vCPUs", |s| s.cpus.truncate(1)),
        ("interrupt controller", |s| s.chips[2].0.truncate(511)),
        ("vector registers", |s| s.cpus[1].xsave.0.push(0)),
        ("control registers", |s| s.cpus[0].xcrs = vec![(0, 0); 17]),
        ("local APIC", |s| s.cpus[1].lapic.0.clear()),
        ("model-specific", |s| {
            s.cpus[1].msrs = vec![(0, 0); MOST_MSRS + 1]
        }),
        ("CPUID 0x1)", |s| s.cpuid[0].shows[2] ^= 1 << 31),
        ("CPUID 0x1)", |s| s.cpuid[0].function = 7),
        ("CPUID", |s| s.cpuid.clear()),
    ];
    for (why, spoil) in cases {
        let mut state = example(2);
        spoil(&mut state);
        let error = check(&state, 2, &[ENTRY]).unwrap_err().to_string();
        assert!(error.contains(why), "{why}: {error}");
    }
}

/// What two machines differ in when one was made from the other: time goes on.
fn timeless(mut state: State) -> State {
    const OF_TIME: [u32; 2] = [0x10, 0x3b]; // the counter and its adjustment
    for cpu in &mut state.cpus {
        cpu.msrs.retain(|(index, _)| !OF_TIME.contains(index));
    }
    for channel in &mut state.pit {
        channel.count_load_time = 0;
    }
    (state.clock, state.wall) = (0, 0);
    state
}

#[test]
fn what_kvm_gives_of_a_machine_it_takes_for_another_one() {
    let Ok(kvm) = Kvm::new() else {
        eprintln!("not tried: this needs /dev/kvm");
        return;
    };
    let event = || vmm_sys_util::eventfd::EventFd::new(libc::EFD_NONBLOCK).unwrap();
    let parts = super::super::Parts::new(Console::new(event()), event());
    let shown = Cpus::new(&kvm, 2).unwrap();
    let saver = Saver::new(&kvm, super::super::Controller).unwrap();
    let machine = || {
        let vm = kvm.create_vm().unwrap();
        let (vcpus, _, _) = set_up(&vm, 2).unwrap();
        (vm, vcpus)
    };
    let (vm, vcpus) = machine();
    for (number, vcpu) in (0..).zip(&vcpus) {
        shown.set_up(vcpu, number, 0x1234).unwrap();
    }
    // What a guest would have left behind.
    let mut regs = vcpus[0].get_regs().unwrap();
    (regs.rbx, regs.r15) = (7, u64::MAX);
    vcpus[0].set_regs(&regs).unwrap();
    let all: Vec<&kvm_ioctls::VcpuFd> = vcpus.iter().collect();
    let saved = save(&saver, &vm, &all, &parts, &shown).unwrap();
    let text = serde_json::to_string(&saved).unwrap();
    let read: State = serde_json::from_str(&text).unwrap();
    assert_eq!(read, saved);
    assert_eq!(read.cpus[0].regs.rip, 0x1234);
    assert!(read.cpus[0].msrs.len() > 20, "{}", read.cpus[0].msrs.len());
    let (vm, vcpus) = machine();
    restore(&read, &vm, &vcpus, &shown, &saver).unwrap();
    let all: Vec<&kvm_ioctls::VcpuFd> = vcpus.iter().collect();
    let again = save(&saver, &vm, &all, &parts, &shown).unwrap();
    assert!(again.clock >= saved.clock, "it does not go back");
    assert_eq!(timeless(again), timeless(saved));
    let (vm, vcpus) = machine();
    let mut wrong = read;
    wrong.cpus[1].msrs.push((0xdead_beef, 1));
    let error = restore(&wrong, &vm, &vcpus, &shown, &saver).unwrap_err();
    assert!(matches!(
        error,
        RestoreError::Register {
            cpu: 1,
            index: 0xdead_beef
        }
    ));
}
