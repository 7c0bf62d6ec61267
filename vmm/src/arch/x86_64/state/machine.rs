// SPDX-License-Identifier: Apache-2.0
//! A whole PC, out of KVM and back.

use std::time::{SystemTime, UNIX_EPOCH};

use kvm_bindings::{
    KVM_IRQCHIP_IOAPIC, KVM_IRQCHIP_PIC_MASTER, KVM_IRQCHIP_PIC_SLAVE, kvm_clock_data,
    kvm_cpuid_entry2, kvm_irqchip, kvm_pit_state2,
};
use kvm_ioctls::{VcpuFd, VmFd};
use racklet_api::vmm::console::Bytes;

use super::super::cpu::Cpus;
use super::super::parts::Parts;
use super::wire::{CHIP, Leaf, State};
use super::{RestoreError, SaveError, Saver, cpu, put, saved};

const CHIPS: [u32; 3] = [
    KVM_IRQCHIP_PIC_MASTER,
    KVM_IRQCHIP_PIC_SLAVE,
    KVM_IRQCHIP_IOAPIC,
];
/// How far two counters may be apart that count as the same: what KVM itself tolerates, 250 of a million.
const TOLERATED_PPM: u64 = 250;

fn wall() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.map_or(0, |d| u64::try_from(d.as_nanos()).unwrap_or(u64::MAX))
}

/// A machine whose vCPUs stand still, and with them everything that they reach.
pub(crate) fn save(
    saver: &Saver,
    vm: &VmFd,
    vcpus: &[&VcpuFd],
    parts: &Parts,
    shown: &Cpus,
) -> Result<State, SaveError> {
    let cpus = vcpus.iter().map(|vcpu| saver.save(vcpu));
    let cpus = cpus.collect::<Result<Vec<_>, _>>()?;
    let first = vcpus.first().expect("a machine has a vCPU");
    let tsc_khz = saved("the counters' speed", first.get_tsc_khz())?;
    // Together, and as close to the counters as may be: both are what the time since is counted from.
    let clock = saved("the clock", vm.get_clock())?.clock;
    let wall = wall();
    let pit = saved("the timer", vm.get_pit2())?;
    let mut chips = [const { Bytes(Vec::new()) }; 3];
    for (to, id) in chips.iter_mut().zip(CHIPS) {
        let mut chip = kvm_irqchip {
            chip_id: id,
            ..Default::default()
        };
        saved("an interrupt controller", vm.get_irqchip(&mut chip))?;
        // SAFETY: any bytes are valid for this member, which is the whole union; all of it was initialised, to zeroes, and then
        // written by KVM.
        let bytes = unsafe { chip.chip.dummy };
        *to = Bytes(bytes.iter().map(|b| b.cast_unsigned()).collect());
    }
    Ok(State {
        cpuid: leaves(shown.entries()),
        tsc_khz,
        cpus,
        chips,
        pit: pit.channels.each_ref().map(Into::into),
        pit_flags: pit.flags,
        clock,
        wall,
        parts: parts.save(),
    })
}

fn leaves(shown: &[kvm_cpuid_entry2]) -> Vec<Leaf> {
    let leaf = |e: &kvm_cpuid_entry2| Leaf {
        function: e.function,
        index: e.index,
        shows: [e.eax, e.ebx, e.ecx, e.edx],
    };
    shown.iter().map(leaf).collect()
}

/// Looks at everything that can be judged without KVM, and at what the processors show.
pub(super) fn check(
    state: &State,
    vcpus: usize,
    shown: &[kvm_cpuid_entry2],
) -> Result<(), RestoreError> {
    if state.cpus.len() != vcpus {
        return Err(RestoreError::Wrong("another number of vCPUs"));
    }
    if state.chips.iter().any(|chip| chip.0.len() != CHIP) {
        return Err(RestoreError::Wrong(
            "an interrupt controller of another length",
        ));
    }
    state.cpus.iter().try_for_each(cpu::check)?;
    let here = leaves(shown);
    let mut both = here.iter().zip(&state.cpuid);
    let differs = both.find(|(here, saved)| here != saved);
    match differs {
        Some((here, _)) => Err(RestoreError::Processor {
            leaf: here.function,
        }),
        None if here.len() != state.cpuid.len() => Err(RestoreError::Processor { leaf: 0 }),
        None => Ok(()),
    }
}

/// Makes a new machine the saved one, but for its own [`Parts`] and for what its devices raise: lines that were connected before would
/// be overwritten here.
pub(crate) fn restore(
    state: &State,
    vm: &VmFd,
    vcpus: &[VcpuFd],
    shown: &Cpus,
    _: &Saver,
) -> Result<(), RestoreError> {
    check(state, vcpus.len(), shown.entries())?;
    for (number, vcpu) in (0..).zip(vcpus) {
        put("CPUID", shown.show(vcpu, number))?;
        speed(state.tsc_khz, vcpu)?;
    }
    let pit = kvm_pit_state2 {
        channels: state.pit.each_ref().map(Into::into),
        flags: state.pit_flags,
        ..Default::default()
    };
    put("timer", vm.set_pit2(&pit))?;
    for (id, bytes) in CHIPS.iter().zip(&state.chips) {
        let mut chip = kvm_irqchip {
            chip_id: *id,
            ..Default::default()
        };
        let mut dummy = [0; CHIP];
        for (to, from) in dummy.iter_mut().zip(&bytes.0) {
            *to = from.cast_signed();
        }
        chip.chip.dummy = dummy;
        put("interrupt controllers", vm.set_irqchip(&chip))?;
    }
    // A clock of this host that is behind the other's stands still rather than to go back.
    let gone = wall().saturating_sub(state.wall);
    let ticks = u128::from(gone) * u128::from(state.tsc_khz) / 1_000_000;
    let ticks = u64::try_from(ticks).unwrap_or(0);
    for (number, (vcpu, saved)) in vcpus.iter().zip(&state.cpus).enumerate() {
        cpu::restore(number, vcpu, saved, ticks)?;
    }
    let clock = kvm_clock_data {
        clock: state.clock.saturating_add(gone),
        ..Default::default()
    };
    put("clock", vm.set_clock(&clock))
}

/// The counters are to run as they did.
fn speed(saved: u32, vcpu: &VcpuFd) -> Result<(), RestoreError> {
    // 0 is "as this processor", see `Cpus::show`.
    let here = put("counters' speed", vcpu.get_tsc_khz())?;
    let apart = u64::from(here.abs_diff(saved)) * 1_000_000;
    if apart <= u64::from(here) * TOLERATED_PPM {
        return Ok(());
    }
    vcpu.set_tsc_khz(saved)
        .map_err(|_| RestoreError::Speed { saved, here })
}
