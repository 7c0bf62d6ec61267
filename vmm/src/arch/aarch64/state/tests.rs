// SPDX-License-Identifier: Apache-2.0
use racklet_api::vmm::console::Bytes;

use super::super::gic::Gic;
use super::controller::{Name, registers};
use super::wire::{Cpu, Here, SystemError, check, ticks};
use super::*;

/// A register of 64 bits, one of 32 and one of 128 (X0, FPSR, V0).
const REGISTERS: [u64; 3] = [
    0x6020_0000_0010_00d4,
    0x6030_0000_0010_0000,
    0x6040_0000_0010_0054,
];
const COUNTER: u64 = 0x6030_0000_0013_df1a;
const HERTZ: u64 = 62_500_000;

fn controller(cpus: usize) -> Vec<Name> {
    let processors: Vec<u64> = (0..cpus as u64).collect();
    registers(Gic::V2, &processors, 0)
}

/// A machine in which nothing has happened, with so many vCPUs.
pub(crate) fn example(cpus: usize) -> State {
    let cpu = Cpu {
        mp_state: 0,
        registers: REGISTERS
            .iter()
            .zip([4, 8, 16])
            .map(|(id, length)| (*id, Bytes(vec![0; length])))
            .collect(),
        system_error: SystemError {
            pending: false,
            syndrome: None,
        },
    };
    State {
        cpus: vec![cpu; cpus],
        counters: vec![(COUNTER, 1)],
        hertz: HERTZ,
        wall: 0,
        controller: controller(cpus)
            .into_iter()
            .map(|(group, attribute)| (group, attribute, 0))
            .collect(),
        parts: PartsState {
            uart: Default::default(),
            rtc: RtcState {
                load: 0,
                offset: 0,
                alarm: 0,
                mask: 0,
                raised: 0,
            },
        },
    }
}

fn judged(state: &State) -> Result<(), RestoreError> {
    check(
        state,
        &Here {
            cpus: 2,
            registers: &REGISTERS,
            counters: &[COUNTER],
            hertz: HERTZ,
            controller: &controller(2),
        },
    )
}

#[test]
fn what_is_written_of_an_arm64_machine_is_read_again() {
    let state = example(2);
    let text = serde_json::to_string(&state).unwrap();
    let read: State = serde_json::from_str(&text).unwrap();
    assert_eq!(read, state);
    judged(&read).unwrap();
}

#[test]
fn an_arm64_machine_that_cannot_be_or_is_another_is_refused_with_the_first_register_that_differs() {
    type Spoil = fn(&mut State);
    let cases: [(&str, Spoil); 14] = [
        ("number of vCPUs", |s| s.cpus.truncate(1)),
        ("has register 0x60200000001000d8 of vCPU 1", |s| {
            s.cpus[1].registers[1].0 = 0x6020_0000_0010_00d8
        }),
        ("lacks register 0x6030000000100000 of vCPU 0", |s| {
            drop(s.cpus[0].registers.remove(1))
        }),
        ("lacks register 0x6040000000100054 of vCPU 0", |s| {
            s.cpus[0].registers.truncate(2)
        }),
        ("has register 0x60f0000000000000 of vCPU 1", |s| {
            s.cpus[1]
                .registers
                .push((0x60f0_0000_0000_0000, Bytes(vec![0; 8])))
        }),
        // Twice the same.
        ("has register 0x6020000000100", |s| {
            let twice = s.cpus[0].registers[0].clone();
            s.cpus[0].registers.insert(1, twice);
        }),
        ("another length", |s| s.cpus[0].registers[0].1.0.push(0)),
        ("another length", |s| s.cpus[1].registers[2].1.0.truncate(8)),
        ("other counters", |s| s.counters.clear()),
        ("other counters", |s| s.counters[0].0 = REGISTERS[0]),
        ("1 Hz", |s| s.hertz = 1),
        ("register 0x8 of group 5", |s| s.controller[0].0 = 5),
        ("interrupt controller is another", |s| {
            s.controller.pop();
        }),
        ("register 0xfff of group 1", |s| {
            s.controller.push((1, 0xfff, 0))
        }),
    ];
    for (why, spoil) in cases {
        let mut state = example(2);
        spoil(&mut state);
        let error = judged(&state).unwrap_err().to_string();
        assert!(error.contains(why), "{why}: {error}");
    }
}

#[test]
fn the_counters_go_on_by_the_time_that_has_gone() {
    assert_eq!(ticks(3_000_000_000, HERTZ), 3 * HERTZ);
    assert_eq!(ticks(1, HERTZ), 0);
    // Fifty years, and what nobody can have waited.
    assert_eq!(
        ticks(1_577_880_000_000_000_000, HERTZ),
        1_577_880_000 * HERTZ
    );
    assert_eq!(ticks(u64::MAX, u64::MAX), 0);
}
